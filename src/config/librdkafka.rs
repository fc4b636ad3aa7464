//! `[clusters.NAME.librdkafka]`: what may be passed to librdkafka as it is.
//!
//! An allow-list: settings of sockets, reconnects and metadata. What this proxy decides itself is refused with the
//! setting to use instead. Ranges are those of librdkafka 2.12.1 (`CONFIGURATION.md`), so that a wrong value is
//! found by `iguazu check` and not when the client is made.

use super::nearest;
use super::reader::{Item, Table};

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Number(u64, u64),
    OneOf(&'static [&'static str]),
}

use Kind::{Flag, Number, OneOf, Text};

const INT_MAX: u64 = 2_147_483_647;

const ALLOWED: &[(&str, Kind)] = &[
    ("api.version.request.timeout.ms", Number(1, 300_000)),
    ("batch.num.messages", Number(1, 1_000_000)),
    ("broker.address.family", OneOf(&["any", "v4", "v6"])),
    ("broker.address.ttl", Number(0, 86_400_000)),
    ("client.dns.lookup", OneOf(&["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"])),
    ("client.id", Text),
    ("client.rack", Text),
    ("compression.level", Number(0, 12)),
    ("connections.max.idle.ms", Number(0, INT_MAX)),
    ("enable.metrics.push", Flag),
    ("metadata.max.age.ms", Number(1, 86_400_000)),
    ("metadata.recovery.rebootstrap.trigger.ms", Number(0, INT_MAX)),
    ("metadata.recovery.strategy", OneOf(&["none", "rebootstrap"])),
    ("reconnect.backoff.max.ms", Number(0, 3_600_000)),
    ("reconnect.backoff.ms", Number(0, 3_600_000)),
    ("request.timeout.ms", Number(1, 900_000)),
    ("retry.backoff.max.ms", Number(1, 300_000)),
    ("retry.backoff.ms", Number(1, 300_000)),
    ("socket.connection.setup.timeout.ms", Number(1_000, INT_MAX)),
    ("socket.keepalive.enable", Flag),
    ("socket.max.fails", Number(0, 1_000_000)),
    ("socket.nagle.disable", Flag),
    ("socket.receive.buffer.bytes", Number(0, 100_000_000)),
    ("socket.send.buffer.bytes", Number(0, 100_000_000)),
    ("socket.timeout.ms", Number(10, 300_000)),
    ("ssl.cipher.suites", Text),
    ("ssl.crl.location", Text),
    ("ssl.curves.list", Text),
    ("ssl.sigalgs.list", Text),
    ("topic.metadata.refresh.fast.interval.ms", Number(1, 60_000)),
    // librdkafka takes -1 (never) too, and then a grown topic's new partitions are never seen.
    ("topic.metadata.refresh.interval.ms", Number(1_000, 3_600_000)),
];

/// Settings that are ours, by the beginning of their name, and what to do instead. The first match counts.
const OWNED: &[(&str, &str)] = &[
    ("acks", "set `acks` of the event type"),
    ("request.required.acks", "set `acks` of the event type"),
    ("enable.idempotence", "event types with `acks = \"all\"` are idempotent, others cannot be"),
    ("linger.ms", "set `linger_ms` of the cluster"),
    ("queue.buffering.max.ms", "set `linger_ms` of the cluster"),
    ("sticky.partitioning.linger.ms", "it follows `linger_ms`"),
    ("queue.buffering", "set `buffer_bytes_max` of the cluster, which counts headers too"),
    ("partitioner", "records go where Java's client puts the same keys"),
    ("bootstrap.servers", "set `brokers` of the cluster"),
    ("metadata.broker.list", "set `brokers` of the cluster"),
    ("compression.codec", "set `compression` of the cluster"),
    ("compression.type", "set `compression` of the cluster"),
    ("message.timeout.ms", "set `message_timeout_ms` of the cluster"),
    ("delivery.timeout.ms", "set `message_timeout_ms` of the cluster"),
    ("retries", "retries end with `message_timeout_ms` of the cluster"),
    ("message.send.max.retries", "retries end with `message_timeout_ms` of the cluster"),
    ("batch.size", "it follows from the `max.message.bytes` of the topics"),
    ("message.max.bytes", "it follows from the `max.message.bytes` of the topics"),
    ("allow.auto.create.topics", "the proxy never creates a topic"),
    ("topic.metadata.propagation.max.ms", "unknown topics are refused before they reach the client"),
    ("enable.ssl.certificate.verification", "certificates are always verified; name their authority in `tls.ca_file`"),
    ("ssl.endpoint.identification.algorithm", "host names are always verified"),
    ("security.protocol", "it follows from `tls` and `sasl` of the cluster"),
    ("sasl.", "set `sasl` of the cluster"),
    ("ssl.", "set `tls` of the cluster"),
    ("statistics.interval.ms", "the proxy reads its own metrics from them"),
    ("transactional.id", "a transaction has one owner, the proxy's records have many"),
];

/// Names and values. A name without quotes (`socket.timeout.ms = 1`) is nested tables to TOML; it is meant the same.
pub(super) fn read(table: &Table<'_>) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    flatten(table, "", &mut settings);
    settings
}

fn flatten(table: &Table<'_>, path: &str, settings: &mut Vec<(String, String)>) {
    for item in table.items() {
        let name = format!("{path}{}", item.name);
        if item.is_table() {
            let inner = item.table().expect("is a table");
            flatten(&inner, &format!("{name}."), settings);
        } else {
            settings.extend(read_setting(item, name));
        }
    }
}

fn read_setting(item: Item<'_>, name: String) -> Option<(String, String)> {
    if let Some((_, kind)) = ALLOWED.iter().find(|(allowed, _)| *allowed == name) {
        let value = match *kind {
            Text => item.string()?,
            Flag => item.boolean()?.to_string(),
            Number(least, most) => item.number(least..=most)?.to_string(),
            OneOf(names) => item.choice(&names.iter().map(|name| (*name, *name)).collect::<Vec<_>>())?.to_owned(),
        };
        return Some((name, value));
    }
    let owned =
        OWNED.iter().find(|(owned, _)| if owned.ends_with('.') { name.starts_with(owned) } else { name == *owned });
    let owned = owned.or_else(|| OWNED.iter().find(|(owned, _)| name.starts_with(owned)));
    if let Some((_, instead)) = owned {
        return item.wrong(format!("`{name}` is not for this table: {instead}"));
    }
    match nearest(&name, ALLOWED.iter().map(|(allowed, _)| *allowed)) {
        Some(near) => item.wrong(format!("`{name}` is not on the allow-list; did you mean `{near}`?")),
        None => item.wrong(format!("`{name}` is not on the allow-list; `deploy/iguazu.toml` shows what is")),
    }
}
