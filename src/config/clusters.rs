//! `[clusters.NAME]`: the Kafka clusters.

use super::reader::{Item, Table, enumerate};
use super::{ClientTls, Cluster, NO_SECRETS_HERE, Registry, Sasl, librdkafka, names, nearest, registries};

/// Reads every cluster; their tables come back, in the same order, for what must hold between them and other parts.
pub(super) fn read<'s>(root: &mut Table<'s>, registries: &[Registry]) -> (Vec<Cluster>, Vec<Table<'s>>) {
    root.children("clusters").into_iter().map(|(item, table)| read_one(&item, table, registries)).unzip()
}

fn read_one<'s>(item: &Item<'s>, mut table: Table<'s>, registries: &[Registry]) -> (Cluster, Table<'s>) {
    if let Err(message) = names::place(&item.name) {
        item.problem(message);
    }
    let tls = table.take("tls").and_then(read_tls);
    let sasl = table.table("sasl").and_then(read_sasl);
    if sasl.is_some() && tls.is_none() && !table.has("tls") {
        table.warning("sasl", "without `tls` the credentials and the events cross the network in clear");
    }
    let cluster = Cluster {
        name: item.name.clone(),
        brokers: read_brokers(&mut table),
        registry: table
            .take("registry")
            .and_then(|item| reference(item, "registry", registries.iter().map(|r| &*r.name))),
        linger: table.milliseconds("linger_ms", 75, 1..=1_000),
        slow_linger: table.milliseconds("slow_linger_ms", 500, 5..=10_000),
        buffer_bytes_max: table.size("buffer_bytes_max", 268_435_456, 1_048_576..=68_719_476_736),
        message_timeout: table.milliseconds("message_timeout_ms", 30_000, 1_000..=900_000),
        breaker_open_after: table.milliseconds("breaker_open_after_ms", 15_000, 500..=600_000),
        breaker_retry_after: table.milliseconds("breaker_retry_after_ms", 5_000, 100..=600_000),
        canary_topic: table.take("canary_topic").and_then(|item| topic(&item)),
        compression: table
            .choice_or("compression", &["none", "gzip", "snappy", "lz4", "zstd"].map(|name| (name, name)), "lz4")
            .to_owned(),
        tls,
        sasl,
        librdkafka: table.table("librdkafka").map(|table| librdkafka::read(&table)).unwrap_or_default(),
    };
    table.finish();
    check_lingers(&cluster, &table);
    (cluster, table)
}

fn check_lingers(cluster: &Cluster, table: &Table<'_>) {
    let (linger_ms, slow_ms) = (cluster.linger.as_millis(), cluster.slow_linger.as_millis());
    if cluster.slow_linger < cluster.linger {
        let message = format!(
            "{slow_ms} must be at least `linger_ms` ({linger_ms}): it is there so that few records fill a batch"
        );
        table.problem("slow_linger_ms", message);
    }
    let longest_ms = linger_ms.max(slow_ms);
    if cluster.message_timeout.as_millis() <= longest_ms {
        let message = format!(
            "must be more than `linger_ms` and `slow_linger_ms` ({longest_ms}), or records time out while they wait for a batch"
        );
        table.problem("message_timeout_ms", message);
    }
}

/// The name of something that this file declares elsewhere.
pub(super) fn reference<'a>(item: Item<'_>, what: &str, declared: impl Iterator<Item = &'a str>) -> Option<String> {
    let name = item.clone().string()?;
    let declared: Vec<_> = declared.collect();
    if declared.contains(&name.as_str()) {
        return Some(name);
    }
    match nearest(&name, declared.iter().copied()) {
        Some(near) => item.wrong(format!("there is no {what} `{name}`; did you mean `{near}`?")),
        None => item.wrong(format!("there is no {what} `{name}`; there are: {}", enumerate(&declared))),
    }
}

pub(super) fn topic(item: &Item<'_>) -> Option<String> {
    let name = item.clone().string()?;
    match names::topic(&name) {
        Ok(()) => Some(name),
        Err(message) => item.wrong(message),
    }
}

/// `host:port`, each once.
fn read_brokers(table: &mut Table<'_>) -> Vec<String> {
    let mut brokers: Vec<String> = Vec::new();
    for item in table.need_list("brokers", "`host:port` of the brokers to start from") {
        let Some(broker) = item.clone().string() else { continue };
        let port = broker.rsplit_once(':').filter(|(host, _)| is_host(host)).and_then(|(_, port)| port.parse().ok());
        if matches!(port, None | Some(0u16)) {
            item.problem(format!("`{}` is not `host:port`", broker.escape_debug()));
        } else if brokers.contains(&broker) {
            item.problem(format!("`{broker}` stands here twice"));
        } else {
            brokers.push(broker);
        }
    }
    brokers
}

/// A host name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    }
}

/// `tls = true` trusts the system's authorities; a table names files.
fn read_tls(item: Item<'_>) -> Option<ClientTls> {
    item.is_meant_as("`true` or table");
    if item.is_boolean() {
        return item.boolean()?.then(ClientTls::default);
    }
    let mut table = item.table()?;
    let mutual = table.has("certificate_file") || table.has("key_file");
    let tls = ClientTls {
        ca_file: table.file("ca_file"),
        certificate_file: match mutual {
            true => {
                Some(table.need_file("certificate_file", "PEM file of our certificate, which goes with `key_file`"))
            }
            false => table.file("certificate_file"),
        },
        key_file: match mutual {
            true => Some(table.need_private_file(
                "key_file",
                "PEM file of the certificate's key, which goes with `certificate_file`",
            )),
            false => table.file("key_file"),
        },
    };
    table.finish();
    Some(tls)
}

#[derive(Clone, Copy, PartialEq)]
enum Mechanism {
    Password(&'static str),
    OAuth,
}

const MECHANISMS: [(&str, Mechanism); 4] = [
    ("PLAIN", Mechanism::Password("PLAIN")),
    ("SCRAM-SHA-256", Mechanism::Password("SCRAM-SHA-256")),
    ("SCRAM-SHA-512", Mechanism::Password("SCRAM-SHA-512")),
    ("OAUTHBEARER", Mechanism::OAuth),
];

fn read_sasl(mut table: Table<'_>) -> Option<Sasl> {
    table.refuse("password", NO_SECRETS_HERE);
    table.refuse("client_secret", NO_SECRETS_HERE);
    let mechanism = table.need("mechanism", "`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`")?;
    let sasl = match mechanism.choice(&MECHANISMS)? {
        Mechanism::Password(mechanism) => Sasl::Password {
            mechanism: mechanism.to_owned(),
            username: table.need("username", "the user name").and_then(Item::string).unwrap_or_default(),
            password: table.need_secret("password_file", "the file with the password"),
        },
        Mechanism::OAuth => Sasl::OAuth {
            token_url: table.need("token_url", "the token endpoint").and_then(registries::url).unwrap_or_default(),
            client_id: table.need("client_id", "the client id").and_then(Item::string).unwrap_or_default(),
            client_secret: table.need_secret("client_secret_file", "the file with the client secret"),
            scope: table.string("scope"),
        },
    };
    table.finish();
    Some(sasl)
}
