//! What differs between two configurations, for a proxy that is to change from one to the other while it runs.
//!
//! In: the configuration in force and the next one, both checked. Out: what of it needs other clients, and what cannot change
//! without a restart. Never: I/O, or a change.

use std::fmt::Debug;
use std::path::Path;

use super::{Admin, Cluster, Config, Http, Problem};

/// Settings that differ and that a running proxy cannot change, each with what to do.
pub fn restarts_for(now: &Config, next: &Config) -> Vec<Problem> {
    compare(now, next).found
}

/// The settings that a running proxy cannot change, and the tables of which it cannot change anything.
pub(super) fn fixed_settings() -> Vec<&'static str> {
    let config =
        super::parse("", Path::new("")).expect("every setting has a default or a table that need not be there");
    compare(&config, &config).keys
}

fn compare(now: &Config, next: &Config) -> Fixed {
    // All fields are named, so that a new one is decided about here.
    let Config {
        http,
        admin,
        spool,
        failed,
        state_dir,
        routes,
        revision: _,
        schemas: _,
        clusters: _,
        registries: _,
        events: _,
        waiting: _,
        dead_letters: _,
        telemetry,
        senders: _,
        startup_wait: _,
        schema_refresh: _,
        warnings: _,
        files: _,
    } = now;
    let Http {
        listen,
        tls,
        unauthenticated: _,
        workers,
        body_bytes_max,
        batch_events_max,
        in_flight_bytes_max,
        connections_max,
        read_timeout,
        ack_timeout,
        drain_delay,
        drain,
    } = http;
    let Admin { listen: admin_listen } = admin;
    let mut found = Fixed::default();
    found.compare("http.listen", listen, &next.http.listen);
    // Its files may change.
    if tls.is_some() != next.http.tls.is_some() {
        found.refuse("http.tls", "cannot be added or taken away while the proxy runs".to_owned());
    }
    found.compare("http.workers", workers, &next.http.workers);
    found.compare("http.body_bytes_max", body_bytes_max, &next.http.body_bytes_max);
    found.compare("http.batch_events_max", batch_events_max, &next.http.batch_events_max);
    found.compare("http.in_flight_bytes_max", in_flight_bytes_max, &next.http.in_flight_bytes_max);
    found.compare("http.connections_max", connections_max, &next.http.connections_max);
    found.compare("http.read_timeout_seconds", read_timeout, &next.http.read_timeout);
    found.compare("http.ack_timeout_seconds", ack_timeout, &next.http.ack_timeout);
    found.compare("http.drain_delay_seconds", drain_delay, &next.http.drain_delay);
    found.compare("http.drain_seconds", drain, &next.http.drain);
    found.compare("admin.listen", admin_listen, &next.admin.listen);
    found.hold("spool", *spool != next.spool);
    // A series that was part of `(other)` would begin anew, and `(other)` fall.
    found.compare("telemetry.event_types_max", &telemetry.event_types_max, &next.telemetry.event_types_max);
    found.hold("telemetry.traces", telemetry.traces != next.telemetry.traces);
    found.compare("state_dir", state_dir, &next.state_dir);
    found.hold("routes.source", routes.is_some() != next.routes.is_some());
    // Where nothing is said under `[failed]` it follows from those two.
    found.hold("failed", *failed != next.failed && *spool == next.spool && *state_dir == next.state_dir);
    found
}

#[derive(Default)]
struct Fixed {
    keys: Vec<&'static str>,
    found: Vec<Problem>,
}

impl Fixed {
    fn compare<T: PartialEq + Debug>(&mut self, key: &'static str, now: &T, next: &T) {
        self.keys.push(key);
        if now != next {
            self.refuse(key, format!("cannot change from {now:?} to {next:?} while the proxy runs"));
        }
    }

    fn hold(&mut self, key: &'static str, differs: bool) {
        self.keys.push(key);
        if differs {
            self.refuse(key, "cannot change while the proxy runs".to_owned());
        }
    }

    fn refuse(&mut self, key: &str, what: String) {
        let message = format!("{what}; restart it, or take the change back");
        self.found.push(Problem { line: 0, key: key.to_owned(), message });
    }
}

/// Whether a cluster of both needs other clients: its settings differ, or what is in a file that they name.
pub fn is_changed_cluster(now: &Config, next: &Config, name: &str) -> bool {
    let of = |config: &Config| {
        let cluster = config.clusters.iter().find(|cluster| cluster.name == name).cloned();
        // Which registry its event types' schemas come from is nothing to its clients.
        cluster.map(|cluster| Cluster { registry: None, ..cluster })
    };
    let (Some(before), Some(after)) = (of(now), of(next)) else { return false };
    let files = after.tls.iter().flat_map(|tls| [&tls.ca_file, &tls.certificate_file, &tls.key_file]).flatten();
    before != after || !are_same(now, next, files.map(|file| &**file))
}

/// Whether a registry of both needs another client: its settings differ, or what is in a file that they name.
pub fn is_changed_registry(now: &Config, next: &Config, name: &str) -> bool {
    let of = |config: &Config| config.registries.iter().find(|registry| registry.name == name).cloned();
    let (Some(before), Some(after)) = (of(now), of(next)) else { return false };
    before != after || !are_same(now, next, after.ca_file.iter().map(|file| &**file))
}

fn are_same<'f>(now: &Config, next: &Config, mut files: impl Iterator<Item = &'f Path>) -> bool {
    files.all(|file| now.files.is_same_in(&next.files, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const LEAST: &str = "[clusters.core]\nbrokers = [\"a:1\"]\n\n[clusters.other]\nbrokers = [\"b:1\"]\n\n\
        [registries.main]\nurls = [\"http://r\"]\n\n[events.e]\ncluster = \"core\"\ntopic = \"t\"\nencoding = \"raw_json\"\n";

    fn parsed(text: &str) -> Config {
        config::parse(text, Path::new("")).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[test]
    fn what_a_listener_was_bound_with_needs_a_restart_and_event_types_do_not() {
        let check = |from: &str, to: &str, refused: &[&str]| {
            let text = format!("{from}\n{LEAST}");
            let (now, next) = (parsed(&text), parsed(&text.replacen(from, to, 1)));
            let keys: Vec<_> = restarts_for(&now, &next).into_iter().map(|problem| problem.key).collect();
            assert_eq!(keys, refused, "{from} -> {to}");
        };
        check("", "http.workers = 7", &["http.workers"]);
        check("http.listen = \"127.0.0.1:1\"", "http.listen = \"127.0.0.1:2\"", &["http.listen"]);
        check("", "state_dir = \"s\"\nadmin.listen = \"127.0.0.1:3\"", &["admin.listen", "state_dir"]);
        check("", "spool.folder = \"s\"", &["spool"]);
        check("spool.folder = \"s\"", "spool.folder = \"s\"\nspool.bytes_max = 33554432", &["spool"]);
        check("state_dir = \"s\"", "state_dir = \"s\"\nfailed.bytes_max = 33554432", &["failed"]);
        check("", "startup_wait_seconds = 1\nschema_refresh_seconds = 9", &[]);
        check("", "[events.more]\ncluster = \"other\"\ntopic = \"t\"\nencoding = \"raw_json\"", &[]);
    }

    #[test]
    fn a_cluster_needs_other_clients_when_it_or_a_file_of_it_changed_and_not_for_its_registry() {
        let folder = std::env::temp_dir().join(format!("iguazu-change-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
        std::fs::write(folder.join("ca.pem"), "one").expect("the folder is ours");
        let text = LEAST.replace("brokers = [\"b:1\"]", "brokers = [\"b:1\"]\ntls = { ca_file = \"ca.pem\" }");
        let read = |text: &str| config::parse(text, &folder).unwrap_or_else(|problems| panic!("{problems:?}"));
        let now = read(&text);
        let changed = |next: &Config| ["core", "other", "none"].map(|name| is_changed_cluster(&now, next, name));
        assert_eq!(changed(&read(&text)), [false, false, false]);
        assert_eq!(changed(&read(&text.replace("a:1", "a:2"))), [true, false, false]);
        let registry = text.replace("brokers = [\"a:1\"]", "brokers = [\"a:1\"]\nregistry = \"main\"");
        assert_eq!(changed(&read(&registry)), [false, false, false]);
        assert!(is_changed_registry(&now, &read(&text.replace("http://r", "http://s")), "main"));
        assert!(!is_changed_registry(&now, &read(&registry), "main"));
        std::fs::write(folder.join("ca.pem"), "two").expect("the folder is ours");
        assert_eq!(changed(&read(&text)), [false, true, false]);
        assert_ne!(now.files, now.files.read_again());
        assert_ne!(now.files.fingerprint(), now.files.read_again().fingerprint());
        std::fs::remove_dir_all(&folder).expect("the folder is ours");
    }
}
