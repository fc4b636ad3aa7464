//! What librdkafka is configured with.
//!
//! In: a cluster's settings and a lane. Out: librdkafka's pairs, in order, later ones win. Never: I/O. The names are those
//! of librdkafka's CONFIGURATION.md; a value that is its default stands here only where we rely on it.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::config::{Cluster, Sasl};
use crate::route::Lane;

/// How often librdkafka says how many requests it has sent.
pub const STATISTICS_INTERVAL: Duration = Duration::from_secs(10);

/// A librdkafka setting and its value.
pub type Pair = (String, String);

/// The settings of a producer of this cluster and lane.
pub fn producer(cluster: &Cluster, lane: Lane) -> Vec<Pair> {
    let mut pairs = connection(cluster);
    let mut set = |name: &str, value: &str| pairs.push((name.to_owned(), value.to_owned()));

    set("linger.ms", &linger(cluster, lane).as_millis().to_string());
    match lane {
        // librdkafka refuses idempotence with any other acks. It keeps five requests a broker on their way, in order.
        Lane::All | Lane::Wal => {
            set("acks", "all");
            set("enable.idempotence", "true");
        }
        // Kept for as long as Kafka keeps it. Without idempotence the client never turns fatal, and nobody minds a letter twice.
        Lane::DeadLetter => {
            set("acks", "all");
            set("enable.idempotence", "false");
        }
        Lane::Standard | Lane::Slow => {
            set("acks", "1");
            set("enable.idempotence", "false");
        }
    }
    // A record that is given up and produced again would come behind those after it: what waits in the wal has no hurry.
    let timeout = if lane == Lane::Wal { Duration::ZERO } else { cluster.message_timeout };
    set("message.timeout.ms", &timeout.as_millis().to_string());
    set("compression.codec", &cluster.compression);
    // Keys land where Java's client puts them. Records without a key stay with one random partition for twice the
    // linger (`sticky.partitioning.linger.ms` follows it by itself).
    set("partitioner", "murmur2_random");
    // Only our own byte budget decides, because it counts headers: no limit on records, the largest one on bytes.
    set("queue.buffering.max.messages", "0");
    set("queue.buffering.max.kbytes", "2147483647");
    // Both below Kafka's default `max.message.bytes` of 1,048,588: librdkafka does not split a batch that is refused.
    set("message.max.bytes", "1000000");
    set("batch.size", "1000000");
    // True by default for producers: a mere look-up would create the topic.
    set("allow.auto.create.topics", "false");
    // New partitions and moved leaders of quiet topics are seen within a minute; the default is five.
    set("topic.metadata.refresh.interval.ms", "60000");
    // Nothing else says how many requests were sent. It is a text of 1 MB with 1,200 partitions (measured).
    set("statistics.interval.ms", &STATISTICS_INTERVAL.as_millis().to_string());

    pairs.extend(cluster.librdkafka.iter().cloned());
    pairs
}

/// How long a record waits for others to share its batch.
pub(super) fn linger(cluster: &Cluster, lane: Lane) -> Duration {
    if lane == Lane::Slow { cluster.slow_linger } else { cluster.linger }
}

/// How to reach and log in to a cluster, for producers and readers alike.
pub fn connection(cluster: &Cluster) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut set = |name: &str, value: &str| pairs.push((name.to_owned(), value.to_owned()));

    set("bootstrap.servers", &cluster.brokers.join(","));
    set("client.id", "iguazu");
    set("socket.keepalive.enable", "true");
    set("socket.connection.setup.timeout.ms", "10000");
    // Back within two seconds of the broker; the default is ten.
    set("reconnect.backoff.max.ms", "2000");

    let protocol = match (&cluster.tls, &cluster.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    set("security.protocol", protocol);
    if let Some(tls) = &cluster.tls {
        let files = [
            ("ssl.ca.location", &tls.ca_file),
            ("ssl.certificate.location", &tls.certificate_file),
            ("ssl.key.location", &tls.key_file),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                set(name, &file.to_string_lossy());
            }
        }
    }
    match &cluster.sasl {
        None => {}
        Some(Sasl::Password { mechanism, username, password }) => {
            set("sasl.mechanism", mechanism);
            set("sasl.username", username);
            set("sasl.password", password.expose());
        }
        // The token itself comes from `token`, when librdkafka asks for one.
        Some(Sasl::OAuth { .. }) => set("sasl.mechanism", "OAUTHBEARER"),
    }
    pairs
}

/// The pairs as rdkafka takes them, with librdkafka's log lines from `info` on; where they go is for the context.
pub(super) fn client_config(pairs: Vec<Pair>) -> ClientConfig {
    let mut config: ClientConfig = pairs.into_iter().collect();
    config.set_log_level(RDKafkaLogLevel::Info);
    config
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::{ClientTls, Secret};

    /// A cluster with the settings of a test: short linger, records given up soon.
    pub(crate) fn cluster(bootstrap: &str) -> Cluster {
        Cluster {
            name: "core".to_owned(),
            brokers: bootstrap.split(',').map(str::to_owned).collect(),
            registry: None,
            linger: Duration::from_millis(5),
            slow_linger: Duration::from_millis(20),
            buffer_bytes_max: 10_000_000,
            message_timeout: Duration::from_secs(30),
            breaker_open_after: Duration::from_secs(10),
            breaker_retry_after: Duration::from_secs(5),
            canary_topic: None,
            compression: "none".to_owned(),
            tls: None,
            sasl: None,
            librdkafka: Vec::new(),
        }
    }

    fn check(cluster: &Cluster, lane: Lane, name: &str, value: Option<&str>) {
        let pairs = producer(cluster, lane);
        let last = pairs.iter().rev().find(|(pair, _)| pair == name).map(|(_, value)| value.as_str());
        assert_eq!(last, value, "{name} of {lane:?}");
        client_config(pairs).create_native_config().expect("librdkafka knows every pair");
    }

    #[test]
    fn a_lane_decides_acks_and_linger() {
        let cluster = cluster("localhost:1");
        check(&cluster, Lane::Standard, "acks", Some("1"));
        check(&cluster, Lane::Standard, "linger.ms", Some("5"));
        check(&cluster, Lane::Slow, "acks", Some("1"));
        check(&cluster, Lane::Slow, "linger.ms", Some("20"));
        check(&cluster, Lane::All, "acks", Some("all"));
        check(&cluster, Lane::All, "enable.idempotence", Some("true"));
        check(&cluster, Lane::All, "linger.ms", Some("5"));
        check(&cluster, Lane::All, "message.timeout.ms", Some("30000"));
        check(&cluster, Lane::Wal, "acks", Some("all"));
        check(&cluster, Lane::Wal, "enable.idempotence", Some("true"));
        check(&cluster, Lane::Wal, "message.timeout.ms", Some("0"));
        check(&cluster, Lane::Standard, "sticky.partitioning.linger.ms", None);
    }

    #[test]
    fn a_pair_of_the_operator_wins() {
        let mut cluster = cluster("localhost:1");
        cluster.librdkafka.push(("batch.size".to_owned(), "5000".to_owned()));
        check(&cluster, Lane::Standard, "batch.size", Some("5000"));
        check(&cluster, Lane::Standard, "allow.auto.create.topics", Some("false"));
    }

    #[test]
    fn tls_and_sasl_decide_the_protocol() {
        let mut cluster = cluster("localhost:1");
        check(&cluster, Lane::Standard, "security.protocol", Some("plaintext"));
        cluster.tls = Some(ClientTls { ca_file: Some("ca.pem".into()), ..ClientTls::default() });
        check(&cluster, Lane::Standard, "security.protocol", Some("ssl"));
        check(&cluster, Lane::Standard, "ssl.ca.location", Some("ca.pem"));
        check(&cluster, Lane::Standard, "ssl.key.location", None);
        let password = Secret::new("hush".to_owned());
        let (mechanism, username) = ("SCRAM-SHA-512".to_owned(), "iguazu".to_owned());
        cluster.sasl = Some(Sasl::Password { mechanism, username, password });
        check(&cluster, Lane::Standard, "security.protocol", Some("sasl_ssl"));
        check(&cluster, Lane::Standard, "sasl.mechanism", Some("SCRAM-SHA-512"));
        check(&cluster, Lane::Standard, "sasl.password", Some("hush"));
        cluster.tls = None;
        check(&cluster, Lane::Standard, "security.protocol", Some("sasl_plaintext"));
    }

    #[test]
    fn the_configuration_does_not_show_the_password() {
        let mut cluster = cluster("localhost:1");
        let password = Secret::new("hush".to_owned());
        let (mechanism, username) = ("PLAIN".to_owned(), "iguazu".to_owned());
        cluster.sasl = Some(Sasl::Password { mechanism, username, password });
        let shown = format!("{:?}", client_config(producer(&cluster, Lane::Standard)));
        assert!(shown.contains("PLAIN") && !shown.contains("hush"), "{shown}");
    }
}
