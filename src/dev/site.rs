//! The configuration that `iguazu dev` serves, and the file that tells other commands where it is.
//!
//! In: addresses, and event types from Protobuf files or from a configuration of the user's. Out: TOML, the same that
//! `iguazu proxy` takes. Never: an address other than loopback's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use prost_reflect::{Kind, MessageDescriptor};
use toml::{Table, Value};

/// The file in the current folder that `tail`, `load` and `schema` find without flags.
pub const SITE_FILE: &str = ".iguazu-dev.toml";

/// The file in the current folder that `ctl` finds without flags.
pub const CTL_SITE_FILE: &str = ".iguazu-ctl.toml";

/// Name of the cluster and of the registry in a configuration made from Protobuf files.
const NAME: &str = "dev";

/// How long a record of a demonstration waits for others: the least that a cluster may be configured with.
const LINGER_MS: i64 = 5;

/// How often a site file is written until it stays: another dev may end at the same moment and remove it.
const TRIES: usize = 5;

/// Where the parts of a dev are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// `host:port` of the doors.
    pub http: String,
    /// `host:port` of the probes.
    pub admin: String,
    /// `host:port` of the brokers, joined by commas.
    pub brokers: String,
    /// URL of the registry.
    pub registry: String,
    /// The brokers' login, where they want one.
    pub login: Option<Login>,
    /// `host:port` of the management API.
    pub control: String,
}

/// A login of Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The mechanism's name.
    pub mechanism: &'static str,
    /// User name.
    pub username: &'static str,
    /// The password's file.
    pub password_file: String,
}

/// The configuration for these messages: one event type each, named like the message, on a topic named like the event.
pub fn from_messages(messages: &[MessageDescriptor], addresses: &Addresses) -> Table {
    let mut events = Table::new();
    for message in messages {
        let mut event = Table::new();
        event.insert("cluster".to_owned(), NAME.into());
        event.insert("topic".to_owned(), message.full_name().into());
        event.insert("subject".to_owned(), message.full_name().into());
        event.insert("encoding".to_owned(), "avro".into());
        if let Some(key) = key_field(message) {
            event.insert("key".to_owned(), key.into());
        }
        events.insert(message.full_name().to_owned(), event.into());
    }
    let mut config = Table::new();
    config.insert("events".to_owned(), events.into());
    config.insert("clusters".to_owned(), Table::from_iter([(NAME.to_owned(), Table::new().into())]).into());
    config.insert("registries".to_owned(), Table::from_iter([(NAME.to_owned(), Table::new().into())]).into());
    settle(&mut config, addresses);
    config
}

/// A configuration of the user's, moved here: its clusters and registries are the embedded ones, and whatever has to do
/// with being elsewhere (TLS, passwords, senders) is left out. Names what was left out.
pub fn from_config(mut config: Table, addresses: &Addresses) -> (Table, Vec<String>) {
    let mut left_out = Vec::new();
    for whole in ["senders", "state_dir"] {
        if config.remove(whole).is_some() {
            left_out.push(whole.to_owned());
        }
    }
    for (part, keys) in [("clusters", &["tls", "sasl"][..]), ("registries", &["auth", "ca_file", "tls"])] {
        for (name, settings) in config.get_mut(part).and_then(Value::as_table_mut).into_iter().flatten() {
            for key in keys {
                if settings.as_table_mut().and_then(|settings| settings.remove(*key)).is_some() {
                    left_out.push(format!("{part}.{name}.{key}"));
                }
            }
        }
    }
    if let Some(http) = config.get_mut("http").and_then(Value::as_table_mut) {
        for key in ["tls", "unauthenticated"] {
            if http.remove(key).is_some() {
                left_out.push(format!("http.{key}"));
            }
        }
    }
    settle(&mut config, addresses);
    (config, left_out)
}

/// Puts the addresses in. What should be a table and is none stays, for the check to name.
pub fn settle(config: &mut Table, addresses: &Addresses) {
    for (listener, address) in [("http", &addresses.http), ("admin", &addresses.admin)] {
        let entry = config.entry(listener).or_insert_with(|| Table::new().into());
        if let Some(table) = entry.as_table_mut() {
            table.insert("listen".to_owned(), address.as_str().into());
        }
    }
    let names: Vec<String> = config
        .get("registries")
        .and_then(Value::as_table)
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect();
    for (_, cluster) in config.get_mut("clusters").and_then(Value::as_table_mut).into_iter().flatten() {
        let Some(cluster) = cluster.as_table_mut() else { continue };
        let brokers: Vec<Value> = addresses.brokers.split(',').map(Value::from).collect();
        cluster.insert("brokers".to_owned(), brokers.into());
        cluster.insert("linger_ms".to_owned(), LINGER_MS.into());
        if let Some(login) = &addresses.login {
            let sasl = [
                ("mechanism", login.mechanism),
                ("username", login.username),
                ("password_file", login.password_file.as_str()),
            ];
            let sasl = sasl.map(|(key, value)| (key.to_owned(), Value::from(value)));
            cluster.insert("sasl".to_owned(), Table::from_iter(sasl).into());
        }
        if let (None, Some(name)) = (cluster.get("registry"), names.first()) {
            cluster.insert("registry".to_owned(), name.as_str().into());
        }
    }
    for (_, registry) in config.get_mut("registries").and_then(Value::as_table_mut).into_iter().flatten() {
        if let Some(registry) = registry.as_table_mut() {
            registry.insert("urls".to_owned(), vec![Value::from(addresses.registry.as_str())].into());
        }
    }
}

/// Lets a management plane say which events are served, in place of the configuration.
pub fn serve_control(config: &mut Table, routes: Table, folder: &Path) {
    config.remove("events");
    config.insert("routes".to_owned(), routes.into());
    config.insert("state_dir".to_owned(), folder.join("proxy").display().to_string().into());
}

/// The field whose value is the record's key: the first text whose name says that it is an id.
fn key_field(message: &MessageDescriptor) -> Option<String> {
    let is_id = |name: &str| name == "id" || name.ends_with("_id");
    let mut fields = message.fields();
    fields
        .find(|field| field.kind() == Kind::String && !field.is_list() && is_id(field.name()))
        .map(|field| field.name().to_owned())
}

/// The site file of a running dev, removed when this is dropped, if it is still the one that was written.
#[derive(Debug)]
pub struct SiteFile {
    path: PathBuf,
    name: String,
    text: String,
    /// Locked for as long as the dev lives, however it ends: that is how another one knows.
    _locked: File,
}

impl SiteFile {
    /// Writes [`SITE_FILE`] into the folder. While a dev that wrote one lives, that file is its: then this one is named after
    /// the port of the doors, for `--config`.
    pub fn write(folder: &Path, config: &Table, port: u16) -> io::Result<SiteFile> {
        let head = "# Where this folder's `iguazu dev` is; `iguazu tail`, `load` and `schema` find it here.\n\
                    # It is a configuration as `iguazu proxy` takes it. Written at each start, removed at the end.\n";
        SiteFile::write_one(folder, SITE_FILE, &format!(".iguazu-dev.{port}.toml"), &format!("{head}\n{config}"))
    }

    /// Writes [`CTL_SITE_FILE`] into the folder, as [`SiteFile::write`] does.
    pub fn write_ctl(folder: &Path, address: &str, token_file: &Path) -> io::Result<SiteFile> {
        let port = address.rsplit(':').next().unwrap_or_default();
        let settings = Table::from_iter([
            ("url".to_owned(), format!("http://{address}").into()),
            ("token_file".to_owned(), token_file.display().to_string().into()),
        ]);
        let head = "# Where the management API of this folder's `iguazu dev` is; `iguazu ctl` finds it here.\n";
        SiteFile::write_one(folder, CTL_SITE_FILE, &format!(".iguazu-ctl.{port}.toml"), &format!("{head}\n{settings}"))
    }

    /// Under the first name, or under the second while another dev has the first.
    fn write_one(folder: &Path, first: &str, second: &str, text: &str) -> io::Result<SiteFile> {
        match SiteFile::write_as(first.to_owned(), folder, text)? {
            Some(site) => Ok(site),
            None => SiteFile::write_as(second.to_owned(), folder, text)?
                .ok_or_else(|| io::Error::other("another process holds the files of this name")),
        }
    }

    /// None when another process holds the file.
    fn write_as(name: String, folder: &Path, text: &str) -> io::Result<Option<SiteFile>> {
        let (path, text) = (folder.join(&name), text.to_owned());
        for _ in 0..TRIES {
            // What is in it may be another one's, so it is not cut before it is ours.
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
                Ok(()) => {}
            }
            file.set_len(0)?;
            file.write_all(text.as_bytes())?;
            // The dev before may have removed it between our opening and locking it: then it is no longer in the folder.
            if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
                return Ok(Some(SiteFile { path, name, text, _locked: file }));
            }
        }
        Err(io::Error::other("it does not stay as it was written"))
    }

    /// Its name in the folder.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for SiteFile {
    fn drop(&mut self) {
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::dev::samples;

    fn addresses() -> Addresses {
        let text = |text: &str| text.to_owned();
        Addresses {
            http: text("127.0.0.1:1"),
            admin: text("127.0.0.1:2"),
            brokers: text("127.0.0.1:3,127.0.0.1:4"),
            registry: text("http://127.0.0.1:5"),
            login: None,
            control: text("127.0.0.1:6"),
        }
    }

    #[test]
    fn the_samples_make_a_configuration_without_a_problem() {
        let files = samples::files();
        let pool = files.compile().expect("compiles");
        let table = from_messages(&files.events(&pool).expect("events"), &addresses());
        let config = config::parse(&table.to_string(), Path::new("")).expect("no problem");
        assert_eq!(config.clusters[0].brokers, ["127.0.0.1:3", "127.0.0.1:4"]);
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:1");
        let status = config.events.iter().find(|event| event.name == "delivery.v1.StatusChanged").expect("there");
        assert_eq!(status.key, crate::route::KeySource::Field("delivery_id".to_owned()));
    }

    #[test]
    fn a_configuration_is_moved_here_whatever_it_was_made_for() {
        let table: Table = r#"
            state_dir = "/nowhere"
            [http]
            listen = "0.0.0.0:443"
            tls = { certificate_file = "/nowhere", key_file = "/nowhere" }
            [clusters.core]
            brokers = ["kafka:9092"]
            registry = "main"
            sasl = { mechanism = "PLAIN", username = "u", password_file = "/nowhere" }
            [registries.main]
            urls = ["https://registry"]
            auth = { username = "u", password_file = "/nowhere" }
            [senders.s]
            key_hashes = []
            [events.a]
            cluster = "core"
            topic = "a"
            encoding = "raw_json"
        "#
        .parse()
        .expect("TOML");
        let (table, left_out) = from_config(table, &addresses());
        let config = config::parse(&table.to_string(), Path::new("")).expect("no problem");
        assert_eq!(left_out, ["senders", "state_dir", "clusters.core.sasl", "registries.main.auth", "http.tls"]);
        assert_eq!(config.registries[0].urls, ["http://127.0.0.1:5"]);
        assert!(config.senders.is_empty() && config.http.listen.ip().is_loopback());
    }

    #[test]
    fn the_file_of_a_dev_that_lives_stays_and_that_of_a_dead_one_is_taken_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).ok();
        std::fs::write(folder.path().join(SITE_FILE), "of one that was killed, and longer than nothing")
            .expect("written");
        let write = |port: u16| {
            SiteFile::write(folder.path(), &Table::from_iter([("a".to_owned(), i64::from(port).into())]), port)
        };
        let first = write(1).expect("written");
        let before = text(SITE_FILE).expect("there");
        assert!(first.name() == SITE_FILE && before.ends_with("a = 1\n"), "{before}");
        let second = write(2).expect("written");
        assert_eq!((second.name(), text(SITE_FILE).as_ref()), (".iguazu-dev.2.toml", Some(&before)));
        drop(second);
        assert_eq!((text(".iguazu-dev.2.toml"), text(SITE_FILE).as_ref()), (None, Some(&before)));
        drop(first);
        assert_eq!(text(SITE_FILE), None);
        assert_eq!(write(3).expect("written").name(), SITE_FILE);
    }

    #[test]
    fn a_file_that_somebody_else_wrote_there_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let site = SiteFile::write(folder.path(), &Table::new(), 1).expect("written");
        std::fs::write(folder.path().join(SITE_FILE), "mine").expect("written");
        drop(site);
        assert!(folder.path().join(SITE_FILE).exists());
    }
}
