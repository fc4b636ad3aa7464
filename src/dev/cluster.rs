//! The Kafka of a dev: embedded brokers, or a real one.
//!
//! In: which of the two. Out: its address, its administrator's login, its administration. Never: both.

use std::path::Path;
use std::sync::Arc;

use super::admin::EmbeddedAdmin;
use super::brokers::EmbeddedBrokers;
use super::kafka::{Installation, RealKafka};
use super::site::Login;
use super::{DevError, PARTITIONS};
use crate::config;
use crate::control::kafka::topics::NewTopic;
use crate::control::kafka::{AdminError, KafkaAdmin, KafkaClient, Mode, Settings, Timeouts};

/// The Kafka of a dev; stopped when dropped.
#[derive(Debug)]
pub enum Cluster {
    /// In this process.
    Embedded(Arc<EmbeddedBrokers>),
    /// Beside it.
    Real(Box<RealKafka>),
}

impl Cluster {
    /// Starts the real one that is installed there, its data below a folder; without one, the embedded brokers.
    pub fn start(installation: Option<&Installation>, folder: &Path) -> Result<Cluster, DevError> {
        Ok(match installation {
            Some(installation) => Cluster::Real(Box::new(RealKafka::start(installation, folder)?)),
            None => Cluster::Embedded(Arc::new(EmbeddedBrokers::start(1)?)),
        })
    }

    /// `host:port`.
    pub fn bootstrap(&self) -> String {
        match self {
            Cluster::Embedded(brokers) => brokers.bootstrap().to_owned(),
            Cluster::Real(kafka) => kafka.bootstrap(),
        }
    }

    /// Its administrator's login, where there is one.
    pub fn login(&self) -> Option<Login> {
        match self {
            Cluster::Embedded(_) => None,
            Cluster::Real(kafka) => Some(kafka.login()),
        }
    }

    /// Its administration, for which a cluster of the configuration says how it is reached.
    pub fn admin(&self, cluster: &config::Cluster) -> Result<Arc<dyn KafkaAdmin>, DevError> {
        Ok(match self {
            Cluster::Embedded(brokers) => Arc::new(EmbeddedAdmin::new(Arc::clone(brokers))),
            Cluster::Real(_) => {
                let settings = Settings {
                    brokers: cluster.brokers.clone(),
                    tls: cluster.tls.clone(),
                    sasl: cluster.sasl.clone(),
                    timeouts: Timeouts::default(),
                };
                let refused = |error| DevError::Admin { what: format!("cluster `{}`: {error}", cluster.name) };
                Arc::new(KafkaClient::new(settings).map_err(refused)?)
            }
        })
    }
}

/// Makes topics with the partitions of a dev; those that are there stay as they are.
pub(super) async fn create_topics(admin: &dyn KafkaAdmin, names: &[String]) -> Result<(), DevError> {
    let topic = |name: &String| NewTopic {
        name: name.clone(),
        partitions: Some(PARTITIONS),
        replicas: Some(1),
        configs: Vec::new(),
    };
    let topics: Vec<_> = names.iter().map(topic).collect();
    let refused = |what: &str, error: AdminError| DevError::Admin { what: format!("{what}: {error}") };
    let made = admin.create_topics(&topics, Mode::Apply).await.map_err(|error| refused("topics", error))?;
    for (name, made) in names.iter().zip(made) {
        match made {
            Ok(_) | Err(AdminError::AlreadyExists(_)) => {}
            Err(error) => return Err(refused(&format!("topic `{name}`"), error)),
        }
    }
    Ok(())
}
