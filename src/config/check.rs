//! A configuration as a whole: its parts in order, then what must hold between them.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;

use super::reader::{Source, Table};
use super::routes::Origin;
use super::{
    Cluster, Config, Files, Http, Problem, Routes, Sender, clusters, dead_letters, events, failed, http, registries,
    routes, schemas, senders, spool, telemetry,
};

/// Reads, parses and checks a file; file names in it are relative to its folder.
pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
    load_with_files(path).0
}

/// [`load`], and which files it was made from or refused for.
pub fn load_with_files(path: &Path) -> (Result<Config, Vec<Problem>>, Files) {
    let (loaded, files) = load_as(path, "the configuration", read);
    (loaded.map(|(config, warnings)| Config { warnings, files: files.clone(), ..config }), files)
}

/// Reads a file as what `read` makes of it, with its warnings. `what` names it in problems.
pub(super) fn load_as<T>(path: &Path, what: &str, read: impl FnOnce(Table<'_>) -> T) -> (Parsed<T>, Files) {
    let mut own = Files::default();
    // Before it is read: if it changes in between, it is another one than what was noted, and is read again.
    own.note(path);
    let unreadable = |message| Err(vec![Problem { line: 0, key: String::new(), message }]);
    let text = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => return (unreadable(format!("{what} `{}` is not UTF-8 text", path.display())), own),
        Err(error) => return (unreadable(format!("{what} `{}` cannot be read: {error}", path.display())), own),
    };
    let (parsed, named) = parse_as(&text, path.parent().unwrap_or(Path::new("")), read);
    (parsed, own.and(&named))
}

/// What was read and its warnings, or all that is wrong with it.
pub(super) type Parsed<T> = Result<(T, Vec<Problem>), Vec<Problem>>;

/// Parses and checks a text; relative file names are relative to `folder`.
pub fn parse(text: &str, folder: &Path) -> Result<Config, Vec<Problem>> {
    let (parsed, files) = parse_as(text, folder, read);
    parsed.map(|(config, warnings)| Config { warnings, files, ..config })
}

/// Parses a text as what `read` makes of it, with its warnings, and the files that it names.
pub(super) fn parse_as<T>(text: &str, folder: &Path, read: impl FnOnce(Table<'_>) -> T) -> (Parsed<T>, Files) {
    let source = Source::new(text, folder);
    let document = match DeTable::parse(text) {
        Ok(document) => document.into_inner(),
        Err(error) => {
            let line = error.span().map_or(0, |span| source.line(span.start));
            let message = format!("not TOML: {}", error.message());
            return (Err(vec![Problem { line, key: String::new(), message }]), Files::default());
        }
    };
    let parsed = read(source.root(&document));
    let files = source.files();
    match source.into_findings() {
        (problems, warnings) if problems.is_empty() => (Ok((parsed, warnings)), files),
        (problems, _) => (Err(problems), files),
    }
}

/// Reads everything. Values that are missing or wrong are placeholders; their problems are in the source.
pub(super) fn read(mut root: Table<'_>) -> Config {
    let state_dir = root.string("state_dir").map(|name| root.source.folder.join(name));
    if let Some(state_dir) = state_dir.as_ref().filter(|path| path.exists() && !path.is_dir()) {
        root.problem("state_dir", format!("`{}` is a file; it must be a folder", state_dir.display()));
    }
    // What is the management plane's is checked by its own command.
    root.leave("control");
    let startup_wait = root.seconds("startup_wait_seconds", 20, 0..=600);
    let schema_refresh = root.seconds("schema_refresh_seconds", 60, 5..=86_400);
    let schemas = root.file("schemas_file").and_then(|path| match schemas::load_schemas(&path) {
        Ok(schemas) => Some(schemas),
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(Problem::to_string).collect();
            root.problem("schemas_file", format!("has problems: {}", problems.join("; ")));
            None
        }
    });

    let (http, http_table) = http::read(&mut root);
    let admin = http::read_admin(&mut root, &http);
    let registries = registries::read(&mut root);
    let (clusters, cluster_tables) = clusters::read(&mut root, &registries);
    let spool = spool::read(&mut root, &http, &http_table, &clusters);
    let origin = routes::read(&mut root, state_dir.as_deref());
    let read_routes = |table: &mut Table<'_>| {
        let events = events::read(table, &http, &clusters, schemas.as_ref(), spool.as_ref());
        let senders = senders::read(table, &http, &events);
        (events, senders, table.has("events"))
    };
    let found = match &origin {
        Origin::Beside(file) => routes::read_beside(&root, file, read_routes),
        Origin::Here | Origin::Control(_) => Some(read_routes(&mut root)),
    };
    let are_known = found.is_some();
    let (events, senders, has_events) = found.unwrap_or_default();
    let routes = if let Origin::Control(routes) = origin { Some(routes) } else { None };
    let dead_letters = dead_letters::read(&mut root);
    let telemetry = telemetry::read(&mut root);
    let failed = failed::read(&mut root, spool.as_ref(), state_dir.as_deref());
    root.finish();

    // Who is let in is not known where the file that says it has problems of its own.
    if are_known {
        check_exposure(&http, &http_table, &senders, routes.as_ref());
    }
    check_times(&http, &http_table, &clusters, &cluster_tables);
    for (cluster, table) in clusters.iter().zip(&cluster_tables) {
        if cluster.buffer_bytes_max < http.body_bytes_max {
            let body = http.body_bytes_max;
            table.problem(
                "buffer_bytes_max",
                format!("must be at least `http.body_bytes_max` ({body}), or the largest event never fits"),
            );
        }
    }
    if are_known && !has_events && routes.is_none() {
        root.warning("events", "there is no event type, so every event is unknown; add `[events.\"name\"]`");
    }
    Config {
        http,
        admin,
        clusters,
        registries,
        events,
        waiting: BTreeMap::new(),
        senders,
        spool,
        failed,
        routes,
        revision: None,
        schemas,
        dead_letters,
        telemetry,
        state_dir,
        startup_wait,
        schema_refresh,
        warnings: vec![],
        files: Files::default(),
    }
}

/// Whoever reaches a listener that is not on loopback must be told apart, or it must be said that nobody is.
fn check_exposure(http: &Http, table: &Table<'_>, senders: &[Sender], routes: Option<&Routes>) {
    if http.listen.ip().is_loopback() {
        return;
    }
    let listen = http.listen;
    let has_senders = routes.is_some() || !senders.is_empty();
    if !has_senders && !http.unauthenticated {
        table.problem(
            "listen",
            format!(
                "{listen} is reachable from other machines and no `[senders]` exist, so that everybody may send \
                 everything; add senders, or say `unauthenticated = true` if that is meant"
            ),
        );
    } else if has_senders && http.tls.is_none() {
        table.warning(
            "listen",
            format!("API keys reach {listen} in clear, unless something in front of it ends TLS; see `http.tls`"),
        );
    }
}

/// Waits that contain other waits are longer than those.
fn check_times(http: &Http, table: &Table<'_>, clusters: &[Cluster], cluster_tables: &[Table<'_>]) {
    if http.drain <= http.read_timeout {
        table.problem(
            "drain_seconds",
            format!(
                "must be more than `http.read_timeout_seconds` ({}), or one body that is still arriving uses up the whole drain",
                http.read_timeout.as_secs()
            ),
        );
    }
    for (cluster, cluster_table) in clusters.iter().zip(cluster_tables) {
        let (name, timeout_ms) = (&cluster.name, cluster.message_timeout.as_millis());
        if http.ack_timeout <= cluster.message_timeout {
            let why = "or a reply says `unknown` while the client is still trying";
            let seconds = http.ack_timeout.as_secs();
            // The problem goes to the setting that was written down; the other one is a default.
            if table.has("ack_timeout_seconds") {
                let message =
                    format!("must be more than `message_timeout_ms` of cluster `{name}` ({timeout_ms}), {why}");
                table.problem("ack_timeout_seconds", message);
            } else {
                let message = format!("{timeout_ms} must be less than `http.ack_timeout_seconds` ({seconds} s), {why}");
                cluster_table.problem("message_timeout_ms", message);
            }
        }
        if http.drain < cluster.message_timeout {
            table.warning(
                "drain_seconds",
                format!(
                    "less than `message_timeout_ms` of cluster `{name}` ({timeout_ms}): a shutdown gives records up that \
                     a slow broker might still take"
                ),
            );
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
