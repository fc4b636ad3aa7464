//! What most tests of promises begin with: the oracle's message registered, topics made, a configuration written.

use super::kafka::{Shared, Topic};
use super::oracle;
use super::proxy::{config, event_type};
use super::registry::{self, Registry};

/// The shared cluster and registry, with the oracle's schemas under subjects of this test's own.
pub struct Fixture {
    /// The cluster; held to the end of the test.
    pub cluster: Shared,
    /// The registry.
    pub registry: &'static Registry,
    /// Protobuf subject of [`oracle::MESSAGE`].
    pub subject: String,
    /// Subject of its derived Avro schema.
    pub avro_subject: String,
}

impl Fixture {
    /// Starts what is not running yet and registers the schemas.
    pub fn new() -> Fixture {
        let (cluster, registry) = (super::kafka::shared(), registry::shared());
        let (subject, avro_subject) = oracle::register(registry);
        Fixture { cluster, registry, subject, avro_subject }
    }

    /// A new topic of the tier `standard`.
    pub fn topic(&self, name: &str) -> String {
        self.cluster.topic(name, Topic::default())
    }

    /// The start of a configuration: listeners, cluster, registry.
    pub fn config(&self) -> String {
        config(&self.cluster, self.registry)
    }

    /// An event type of the oracle's message, stored as Avro, and with further settings.
    pub fn event_type(&self, name: &str, topic: &str, settings: &str) -> String {
        event_type(name, topic, "avro", &self.schema_settings("avro", settings))
    }

    /// The settings that name the oracle's schemas, for an encoding, with further settings behind them.
    pub fn schema_settings(&self, encoding: &str, settings: &str) -> String {
        match encoding {
            "raw_json" => settings.to_owned(),
            "avro" => format!("subject = {:?}\navro_subject = {:?}\n{settings}", self.subject, self.avro_subject),
            _ => format!("subject = {:?}\n{settings}", self.subject),
        }
    }
}
