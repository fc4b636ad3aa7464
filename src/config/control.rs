//! `[control]`: the management plane, and the clusters that it manages.
//!
//! The clusters are those of `[clusters.NAME]`, in the words of the proxy's configuration; the user that is named there is the
//! one that manages them. What else of a proxy's configuration stands in the file is left to the proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::check::load_as;
use super::reader::{Item, Table};
use super::{Cluster, Files, NO_SECRETS_HERE, Problem, Registry, Secret, Tls, clusters, http, nearest, registries};

/// Sections of the same file that are the proxy's.
const OF_THE_PROXY: [&str; 12] = [
    "http",
    "admin",
    "routes",
    "events",
    "senders",
    "spool",
    "failed",
    "dead_letters",
    "state_dir",
    "startup_wait_seconds",
    "schema_refresh_seconds",
    "schemas_file",
];

/// Characters of a token that an operator says.
const BOOTSTRAP_CHARS: std::ops::RangeInclusive<usize> = 32..=512;

/// What a node of the management plane is made from.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// The node itself.
    pub control: Control,
    /// The clusters that it manages.
    pub clusters: Vec<Cluster>,
    /// Schema registries by name.
    pub registries: Vec<Registry>,
    /// What is allowed but looks like a mistake.
    pub warnings: Vec<Problem>,
    /// The files that it was made from.
    pub files: Files,
}

/// `[control]`.
#[derive(Clone, Debug)]
pub struct Control {
    /// `address:port` of the API; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate chain and key, PEM files.
    pub tls: Option<Tls>,
    /// Where the store is: `sqlite:PATH` or `postgres://…`, with the password in it.
    pub store: Secret,
    /// The key that secrets at rest are sealed with: 32 bytes. None: it is made, and kept in `state_dir`.
    pub seal_key: Option<Secret>,
    /// The file of the key that snapshots for proxies are signed with. None: it is made, and kept in `state_dir`.
    pub snapshot_key_file: Option<PathBuf>,
    /// The token that the first admin comes in with. None: it is made, and put into `state_dir`.
    pub bootstrap_token: Option<Secret>,
    /// The folder of what this node keeps beside the store.
    pub state_dir: PathBuf,
    /// Who says who somebody is.
    pub oidc: Option<Oidc>,
    /// Which groups have which roles.
    pub roles: Roles,
    /// Callers by a name in their certificate.
    pub certificates: Vec<Certificate>,
    /// What is said of clusters when they are registered; those that are not named are only looked at.
    pub clusters: Vec<ManagedCluster>,
    /// Where new passwords can be put.
    pub sinks: Vec<Sink>,
    /// Requests a second that one caller may make.
    pub requests_per_second: u64,
}

/// `[control.sinks.NAME]`: where new passwords can be put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Its name, which users' specs have in `sink`.
    pub name: String,
    /// What it is.
    pub place: SinkPlace,
}

/// A place for passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkPlace {
    /// A folder of this machine.
    File {
        /// The folder; each service has one in it.
        folder: PathBuf,
    },
    /// Vault's key-value store, version 2.
    Vault(VaultSettings),
}

/// How a vault is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultSettings {
    /// Base URL.
    pub url: String,
    /// Where the key-value store is mounted.
    pub mount: String,
    /// The path in it below which each service has its own.
    pub prefix: String,
    /// The token to write with.
    pub token: Secret,
    /// The namespace, where there are some.
    pub namespace: Option<String>,
    /// PEM file of trusted authorities; none: the system's.
    pub ca_file: Option<PathBuf>,
}

/// `[control.oidc]`: who says who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    /// The issuer, as it stands in its tokens.
    pub issuer: String,
    /// Where its keys are. None: it is asked where they are.
    pub jwks_url: Option<String>,
    /// Who the tokens must be for.
    pub audience: String,
    /// The claim with the caller's name.
    pub name_claim: String,
    /// The claim with the caller's groups.
    pub groups_claim: String,
    /// PEM file of trusted authorities; none: the system's.
    pub ca_file: Option<PathBuf>,
}

/// `[control.roles]`: the groups whose members have a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Everything.
    pub admin: Vec<String>,
    /// Reads everything, the audit log too.
    pub auditor: Vec<String>,
    /// May set Kafka's own settings.
    pub expert: Vec<String>,
    /// Proxies: they read snapshots.
    pub proxy: Vec<String>,
}

/// `[control.certificates."NAME"]`: who shows a certificate with this name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// An alternative name of its subject: a URI, such as `spiffe://…`, or a DNS name.
    pub name: String,
    /// The groups that its holder is in.
    pub groups: Vec<String>,
}

/// `[control.clusters.NAME]`: what is said of a cluster when it is registered. Afterwards the API changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ManagedCluster {
    /// Its name: one of `[clusters]`.
    pub name: String,
    /// `observe`, `shared` or `dedicated`.
    pub mode: &'static str,
    /// A label: `prod`, `staging`, ….
    pub environment: String,
    /// Groups whose members operate it.
    pub operators: Vec<String>,
    /// Bytes of disk over all brokers that topics may reserve.
    pub disk_bytes: Option<u64>,
    /// Whether other things are on its disks too, so that how full they are says nothing of Kafka: for development.
    pub shares_disks: bool,
    /// Partitions of all topics, copies counted.
    pub partitions_max: Option<u32>,
    /// Bytes a second of all producers at the peak.
    pub ingress_bytes_per_second: Option<u64>,
    /// Most copies of each partition, for clusters of one broker.
    pub replicas_max: Option<u32>,
}

/// Reads, parses and checks a file; file names in it are relative to its folder.
pub fn load_control(path: &Path) -> Result<ControlConfig, Vec<Problem>> {
    let (loaded, files) = load_as(path, "the configuration", read);
    loaded.map(|(config, warnings)| ControlConfig { warnings, files, ..config })
}

/// Which commands a file is for. One that is for neither, or cannot be read, is the proxy's to refuse.
pub fn is_for(path: &Path) -> IsFor {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    match (table.contains_key("control"), OF_THE_PROXY.iter().any(|section| table.contains_key(*section))) {
        (true, false) => IsFor::Control,
        (true, true) => IsFor::Both,
        (false, _) => IsFor::Proxy,
    }
}

/// See [`is_for`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsFor {
    /// `iguazu proxy`.
    Proxy,
    /// `iguazu control`.
    Control,
    /// Either.
    Both,
}

pub(super) fn read(mut root: Table<'_>) -> ControlConfig {
    for section in OF_THE_PROXY {
        root.leave(section);
    }
    let registries = registries::read(&mut root);
    let (clusters, _) = clusters::read(&mut root, &registries);
    if !root.has("control") {
        root.problem("control", "missing: the table `[control]` with what the management plane is to be");
    }
    let mut table = root.section("control");
    let control = read_control(&mut table, &clusters);
    root.finish();
    ControlConfig { control, clusters, registries, warnings: vec![], files: Files::default() }
}

fn read_control(table: &mut Table<'_>, clusters: &[Cluster]) -> Control {
    let folder = table.source.folder;
    let state_dir = table.need("state_dir", "the folder of what this node keeps beside the store");
    let state_dir = state_dir.and_then(Item::string).map(|name| folder.join(name)).unwrap_or_default();
    if state_dir.exists() && !state_dir.is_dir() {
        table.problem("state_dir", format!("`{}` is a file; it must be a folder", state_dir.display()));
    }
    let tls = table.table("tls").map(|mut tls| {
        let read = Tls {
            certificate_file: tls.need_file("certificate_file", "the PEM file with the certificate chain"),
            key_file: tls.need_private_file("key_file", "the PEM file with the private key"),
            client_ca_file: tls.file("client_ca_file"),
        };
        tls.finish();
        read
    });
    let (store, is_shared) = read_store(table, &state_dir);
    table.refuse("seal_key", NO_SECRETS_HERE);
    let seal_key = table.secret("seal_key_file");
    if is_shared && !table.has("seal_key_file") {
        let why = "several nodes share the store, so that all of them need the key that secrets in it are sealed with";
        table.problem("seal_key_file", format!("missing: {why}; `openssl rand -base64 32` makes one"));
    }
    let control = Control {
        listen: http::listen(table, 8090),
        tls,
        store,
        seal_key,
        snapshot_key_file: table.string("snapshot_key_file").map(|name| folder.join(name)),
        bootstrap_token: read_bootstrap_token(table),
        oidc: table.table("oidc").and_then(read_oidc),
        roles: read_roles(table.section("roles")),
        certificates: read_certificates(table),
        clusters: read_clusters(table, clusters),
        sinks: read_sinks(table),
        requests_per_second: table.number("requests_per_second", 50, 1..=100_000),
        state_dir,
    };
    let is_encrypted_elsewhere = table.flag("tls_elsewhere");
    if !control.listen.ip().is_loopback() && control.tls.is_none() && !is_encrypted_elsewhere {
        let listen = control.listen;
        table.problem(
            "listen",
            format!(
                "{listen} is reachable from other machines and there is no `tls`, so that tokens and passwords would \
                 cross the network in clear; add it, or say `tls_elsewhere = true` if something in front of it ends TLS"
            ),
        );
    }
    let takes_certificates = control.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    if takes_certificates && control.certificates.is_empty() {
        table.warning("certificates", "callers may show certificates (`tls.client_ca_file`), and none is known here");
    }
    if !takes_certificates && !control.certificates.is_empty() {
        table.problem("certificates", "nobody can show a certificate: `control.tls.client_ca_file` is missing");
    }
    table.finish();
    control
}

/// What the first admin comes in with, where the operator says it.
fn read_bootstrap_token(table: &mut Table<'_>) -> Option<Secret> {
    table.refuse("bootstrap_token", NO_SECRETS_HERE);
    let token = table.secret("bootstrap_token_file")?;
    // Without a dot, so that it is never taken for a token of an OIDC issuer.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '/' | '=');
    let (length, is_plain) = (token.expose().chars().count(), token.expose().chars().all(is_plain));
    if !is_plain || !BOOTSTRAP_CHARS.contains(&length) {
        let (least, most) = BOOTSTRAP_CHARS.into_inner();
        table.problem(
            "bootstrap_token_file",
            format!(
                "holds {length} characters; it must be {least} to {most} letters, digits, `-`, `_`, `+`, `/` or `=`, as \
                 `openssl rand -hex 32` makes them"
            ),
        );
    }
    Some(token)
}

/// The store's address, and whether several nodes share it.
fn read_store(table: &mut Table<'_>, state_dir: &Path) -> (Secret, bool) {
    let folder = table.source.folder;
    let password = table.secret("store_password_file");
    table.by_default("store", || "`sqlite:` and `control.db` in `state_dir`".to_owned());
    let Some(item) = table.take("store") else {
        return (Secret::new(format!("sqlite:{}", state_dir.join("control.db").display())), false);
    };
    let Some(address) = item.clone().string() else { return (Secret::new(String::new()), false) };
    if let Some(path) = address.strip_prefix("sqlite:") {
        if path.is_empty() || path.contains(['?', '#']) {
            item.problem("must be `sqlite:` and the path of a file");
        }
        return (Secret::new(format!("sqlite:{}", folder.join(path).display())), false);
    }
    let Some((scheme, rest)) = address.split_once("://").filter(|(scheme, _)| scheme.starts_with("postgres")) else {
        item.problem("must be `sqlite:PATH` or `postgres://USER@HOST:PORT/DATABASE`");
        return (Secret::new(String::new()), false);
    };
    let Some((user, place)) = rest.split_once('@') else {
        item.problem("names no user; it is `postgres://USER@HOST:PORT/DATABASE`");
        return (Secret::new(String::new()), true);
    };
    if user.contains(':') {
        item.problem(format!("{NO_SECRETS_HERE}: `store_password_file`"));
    }
    let password = password.map(|password| format!(":{}", percent_encoded(password.expose()))).unwrap_or_default();
    let place = encrypted_as_said(&item, place, folder);
    (Secret::new(format!("{scheme}://{user}{password}@{place}")), true)
}

/// How a connection to Postgres is encrypted: the words of libpq. `allow` is not among them, which would mean `disable` here.
const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];
const SSL_FILES: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];

/// What follows the host of Postgres' address, with the files in it relative to this folder, as all files of the configuration are.
fn encrypted_as_said(item: &Item<'_>, place: &str, folder: &Path) -> String {
    let Some((place, said)) = place.split_once('?') else { return place.to_owned() };
    let says = |one: &str| match one.split_once('=') {
        Some(("sslmode", mode)) if !SSL_MODES.contains(&mode) => {
            item.problem(format!("says `sslmode={mode}`, which is none of {}", SSL_MODES.join(", ")));
            one.to_owned()
        }
        Some((key, file)) if SSL_FILES.contains(&key) => {
            let path = folder.join(file);
            if let Err(error) = std::fs::File::open(&path) {
                item.problem(format!("says `{key}={file}`, and `{}` cannot be read: {error}", path.display()));
            }
            format!("{key}={}", path.display())
        }
        _ => one.to_owned(),
    };
    let said: Vec<_> = said.split('&').map(says).collect();
    format!("{place}?{}", said.join("&"))
}

/// A password as it stands in a URL.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn read_oidc(mut table: Table<'_>) -> Option<Oidc> {
    let issuer = table.need("issuer", "the issuer, as it stands in its tokens (`iss`)").and_then(registries::url);
    let audience = table.need("audience", "who the tokens must be for (`aud`)").and_then(Item::string);
    let oidc = Oidc {
        issuer: issuer.unwrap_or_default(),
        audience: audience.unwrap_or_default(),
        jwks_url: table.take("jwks_url").and_then(registries::url),
        name_claim: table.string_or("name_claim", "sub"),
        groups_claim: table.string_or("groups_claim", "groups"),
        ca_file: table.file("ca_file"),
    };
    for url in [Some(&oidc.issuer), oidc.jwks_url.as_ref()].into_iter().flatten() {
        if is_in_clear(url) {
            let key = if *url == oidc.issuer { "issuer" } else { "jwks_url" };
            table.problem(key, "must be https: whoever is between could hand out keys of their own");
        }
    }
    table.finish();
    Some(oidc)
}

fn read_roles(mut table: Table<'_>) -> Roles {
    let mut groups = |role| table.list(role).into_iter().filter_map(Item::string).collect();
    let roles =
        Roles { admin: groups("admin"), auditor: groups("auditor"), expert: groups("expert"), proxy: groups("proxy") };
    table.finish();
    roles
}

fn read_certificates(table: &mut Table<'_>) -> Vec<Certificate> {
    let read = |(item, mut table): (Item<'_>, Table<'_>)| {
        let groups = table.need_list("groups", "the groups that its holder is in");
        table.finish();
        Certificate { name: item.name, groups: groups.into_iter().filter_map(Item::string).collect() }
    };
    table.children("certificates").into_iter().map(read).collect()
}

fn read_sinks(table: &mut Table<'_>) -> Vec<Sink> {
    let read = |(item, mut table): (Item<'_>, Table<'_>)| {
        let is_vault = table.need("kind", "`file` or `vault`");
        let is_vault = is_vault.and_then(|kind| kind.choice(&[("file", false), ("vault", true)])).unwrap_or(false);
        let place = if is_vault { SinkPlace::Vault(read_vault(&mut table)) } else { read_folder(&mut table) };
        table.finish();
        Sink { name: item.name, place }
    };
    table.children("sinks").into_iter().map(read).collect()
}

fn read_folder(table: &mut Table<'_>) -> SinkPlace {
    let folder = table.need("folder", "the folder that passwords are put into").and_then(Item::string);
    SinkPlace::File { folder: table.source.folder.join(folder.unwrap_or_default()) }
}

fn read_vault(table: &mut Table<'_>) -> VaultSettings {
    table.refuse("token", NO_SECRETS_HERE);
    let url = table.need("url", "the vault's base URL").and_then(registries::url).unwrap_or_default();
    if is_in_clear(&url) {
        table.problem("url", "must be https: the token and the passwords would cross the network in clear");
    }
    let path = |table: &mut Table<'_>, key, default: &str| {
        let path = table.string_or(key, default);
        let is_plain = |part: &str| {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_allowed)
        };
        if !path.split('/').all(is_plain) {
            table.problem(key, format!("`{path}` must be names with `/` between them"));
        }
        path
    };
    VaultSettings {
        url,
        mount: path(table, "mount", "secret"),
        prefix: path(table, "prefix", "iguazu"),
        token: table.need_secret("token_file", "the file with the token to write with"),
        namespace: table.string("namespace"),
        ca_file: table.file("ca_file"),
    }
}

/// Whether a URL leads to another machine without encryption.
fn is_in_clear(url: &str) -> bool {
    let host = url.strip_prefix("http://").map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
    host.is_some_and(|host| host != "localhost" && !host.starts_with("127."))
}

const MODES: [(&str, &str); 3] = [("observe", "observe"), ("shared", "shared"), ("dedicated", "dedicated")];

/// Whether a password for this cluster crosses a network that others may listen to.
fn logs_in_in_clear(cluster: &Cluster) -> bool {
    let is_here = |broker: &String| {
        let host = broker.rsplit_once(':').map_or(broker.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    };
    cluster.sasl.is_some() && cluster.tls.is_none() && !cluster.brokers.iter().all(is_here)
}

fn read_clusters(table: &mut Table<'_>, clusters: &[Cluster]) -> Vec<ManagedCluster> {
    let known = || clusters.iter().map(|cluster| cluster.name.as_str());
    let read = |(item, mut table): (Item<'_>, Table<'_>)| {
        if !known().any(|name| name == item.name) {
            let near = nearest(&item.name, known()).map(|near| format!("; did you mean `{near}`?"));
            item.problem(format!("there is no `[clusters.{}]`{}", item.name, near.unwrap_or_default()));
        }
        let number = |table: &mut Table<'_>, key| table.optional_number(key, 1..=1 << 60);
        let cluster = ManagedCluster {
            mode: table.choice_or("mode", &MODES, "observe"),
            environment: table.string("environment").unwrap_or_default(),
            operators: table.list("operators").into_iter().filter_map(Item::string).collect(),
            disk_bytes: number(&mut table, "disk_bytes"),
            shares_disks: table.flag("shares_disks"),
            partitions_max: number(&mut table, "partitions_max").map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
            ingress_bytes_per_second: number(&mut table, "ingress_bytes_per_second"),
            replicas_max: table.optional_number("replicas_max", 1..=32).map(|most| most as u32),
            name: item.name,
        };
        let is_encrypted_elsewhere = table.flag("tls_elsewhere");
        if clusters.iter().any(|known| known.name == cluster.name && logs_in_in_clear(known)) && !is_encrypted_elsewhere
        {
            table.problem("tls_elsewhere", in_clear(&cluster.name));
        }
        table.finish();
        cluster
    };
    let managed: Vec<ManagedCluster> = table.children("clusters").into_iter().map(read).collect();
    let is_named = |name: &str| managed.iter().any(|cluster| cluster.name == name);
    for cluster in clusters.iter().filter(|cluster| !is_named(&cluster.name) && logs_in_in_clear(cluster)) {
        table.problem("clusters", in_clear(&cluster.name));
    }
    managed
}

fn in_clear(cluster: &str) -> String {
    format!(
        "`[clusters.{cluster}]` has `sasl` and no `tls`, and brokers on other machines: whoever hears an administrator log in may do \
         what that one may; add `tls` there, or say `tls_elsewhere = true` in `[control.clusters.{cluster}]` if something in between \
         encrypts"
    )
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
