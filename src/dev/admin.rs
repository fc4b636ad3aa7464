//! Administration of the embedded brokers, as far as they can be administered.
//!
//! In: what the management plane asks of any Kafka. Out: topics that are made, and described as they were made. Never: pretends to
//! have users, access rules or quotas: those are refused, and the refusal says where there are some.
//!
//! The brokers keep no settings of topics and give no ids away, so that both are kept here. Settings have no effect.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::brokers::{BrokersError, EmbeddedBrokers};
use crate::control::kafka::acls::{AclBinding, AclFilter};
use crate::control::kafka::cluster::{Broker, ClusterDescription};
use crate::control::kafka::configs::{ConfigChange, ConfigEntry, ConfigResource, ConfigSource};
use crate::control::kafka::groups::{CommittedOffset, GroupDescription, GroupListing};
use crate::control::kafka::log_dirs::LogDir;
use crate::control::kafka::offsets::OffsetQuery;
use crate::control::kafka::quotas::{Quota, QuotaChange, QuotaFilter};
use crate::control::kafka::scram::ScramMechanism;
use crate::control::kafka::topics::{CreatedTopic, NewTopic, PartitionDescription, TopicDescription};
use crate::control::kafka::users::{NewCredential, UserCredentials};
use crate::control::kafka::{AdminError, Answer, Each, KafkaAdmin, Mode, Refusal};

/// What is said of everything that only a real Kafka has; it begins with the code of it.
pub const NOT_SUPPORTED: &str = "not_supported_by_embedded_brokers: they have topics and nothing else; \
                                 `./deploy/dev.sh --kafka` runs the same on a real Kafka";

/// Kafka's numbers of what the embedded brokers refuse (`org.apache.kafka.common.protocol.Errors`).
const UNKNOWN_TOPIC: i16 = 3;
const TOPIC_EXISTS: i16 = 36;
const INVALID_REQUEST: i16 = 42;

/// The administration of the embedded brokers.
#[derive(Debug)]
pub struct EmbeddedAdmin {
    brokers: Arc<EmbeddedBrokers>,
    topics: Mutex<BTreeMap<String, Kept>>,
}

/// What is kept of a topic.
#[derive(Clone, Debug)]
struct Kept {
    id: Uuid,
    partitions: i32,
    configs: BTreeMap<String, String>,
}

impl EmbeddedAdmin {
    /// Over brokers that have no topics yet, or none that are to be managed.
    pub fn new(brokers: Arc<EmbeddedBrokers>) -> EmbeddedAdmin {
        EmbeddedAdmin { brokers, topics: Mutex::default() }
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, new: &NewTopic, mode: Mode) -> Result<CreatedTopic, AdminError> {
        let partitions = new.partitions.unwrap_or(1);
        let kept = Kept { configs: new.configs.iter().cloned().collect(), ..Kept::new(partitions) };
        let mut topics = self.topics();
        if topics.contains_key(&new.name) {
            return Err(AdminError::AlreadyExists(refusal(TOPIC_EXISTS)));
        }
        let id = match mode {
            Mode::Validate => None,
            Mode::Apply => {
                // There is one broker, so there is one copy.
                self.brokers.create_topic(&new.name, partitions, 1).map_err(failed)?;
                Some(kept.id)
            }
        };
        if id.is_some() {
            topics.insert(new.name.clone(), kept);
        }
        Ok(CreatedTopic { id, partitions: Some(partitions), replicas: Some(1) })
    }

    fn describe(&self, name: &str) -> Result<TopicDescription, AdminError> {
        let topics = self.topics();
        let kept = topics.get(name).ok_or_else(|| AdminError::NotFound(refusal(UNKNOWN_TOPIC)))?;
        Ok(kept.description(name))
    }

    fn configs(&self, resource: &ConfigResource) -> Result<Vec<ConfigEntry>, AdminError> {
        let ConfigResource::Topic(name) = resource else { return Err(not_supported()) };
        let topics = self.topics();
        let kept = topics.get(name).ok_or_else(|| AdminError::NotFound(refusal(UNKNOWN_TOPIC)))?;
        let entry = |(name, value): (&String, &String)| ConfigEntry {
            name: name.clone(),
            value: Some(value.clone()),
            source: ConfigSource::Topic,
            is_sensitive: false,
            is_read_only: false,
        };
        Ok(kept.configs.iter().map(entry).collect())
    }

    fn alter(&self, change: &ConfigChange, mode: Mode) -> Result<(), AdminError> {
        let ConfigResource::Topic(name) = &change.resource else { return Err(not_supported()) };
        let mut topics = self.topics();
        let kept = topics.get_mut(name).ok_or_else(|| AdminError::NotFound(refusal(UNKNOWN_TOPIC)))?;
        if mode == Mode::Validate {
            return Ok(());
        }
        for (key, value) in &change.values {
            match value {
                Some(value) => kept.configs.insert(key.clone(), value.clone()),
                None => kept.configs.remove(key),
            };
        }
        Ok(())
    }
}

impl Kept {
    fn new(partitions: i32) -> Kept {
        Kept { id: Uuid::new_v4(), partitions, configs: BTreeMap::new() }
    }

    fn description(&self, name: &str) -> TopicDescription {
        let partition = |partition| PartitionDescription {
            partition,
            leader: Some(1),
            replicas: vec![1],
            in_sync: vec![1],
            offline: vec![],
        };
        TopicDescription {
            name: name.to_owned(),
            id: self.id,
            internal: false,
            partitions: (0..self.partitions).map(partition).collect(),
        }
    }
}

fn refusal(code: i16) -> Refusal {
    Refusal { code, message: String::new() }
}

fn failed(error: BrokersError) -> AdminError {
    match error {
        // Somebody made it beside us: a client that asked for it with `allow.auto.create.topics`.
        BrokersError::Refused(rdkafka::error::KafkaError::MockCluster(
            rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists,
        )) => AdminError::AlreadyExists(refusal(TOPIC_EXISTS)),
        error => AdminError::Failed(Refusal { code: INVALID_REQUEST, message: super::with_causes(&error) }),
    }
}

fn not_supported() -> AdminError {
    AdminError::NotSupported { what: NOT_SUPPORTED.to_owned() }
}

/// A call that the embedded brokers do not know.
fn refuse<'a, T: Send + 'a>() -> Answer<'a, T> {
    Box::pin(async { Err(not_supported()) })
}

/// A call that is answered at once: the brokers are in this process.
fn answer<'a, T: Send + 'a>(result: T) -> Answer<'a, T> {
    Box::pin(async { Ok(result) })
}

impl KafkaAdmin for EmbeddedAdmin {
    fn describe_cluster(&self) -> Answer<'_, ClusterDescription> {
        let broker = |(id, address): (i32, &str)| {
            let (host, port) = address.rsplit_once(':')?;
            Some(Broker { id, host: host.to_owned(), port: port.parse().ok()?, rack: None })
        };
        let brokers = (1..).zip(self.brokers.bootstrap().split(',')).filter_map(broker).collect();
        answer(ClusterDescription { id: "embedded".to_owned(), controller: Some(1), brokers, may: None })
    }

    fn list_topics(&self) -> Answer<'_, Each<TopicDescription>> {
        answer(self.topics().iter().map(|(name, kept)| Ok(kept.description(name))).collect())
    }

    fn describe_topics<'a>(&'a self, names: &'a [String]) -> Answer<'a, Each<TopicDescription>> {
        answer(names.iter().map(|name| self.describe(name)).collect())
    }

    fn create_topics<'a>(&'a self, topics: &'a [NewTopic], mode: Mode) -> Answer<'a, Each<CreatedTopic>> {
        answer(topics.iter().map(|topic| self.create(topic, mode)).collect())
    }

    fn delete_topics<'a>(&'a self, _: &'a [Uuid]) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn create_partitions<'a>(&'a self, _: &'a [(String, i32)], _: Mode) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn list_offsets<'a>(&'a self, _: &'a [OffsetQuery]) -> Answer<'a, Each<Option<i64>>> {
        refuse()
    }

    fn describe_configs<'a>(&'a self, resources: &'a [ConfigResource]) -> Answer<'a, Each<Vec<ConfigEntry>>> {
        answer(resources.iter().map(|resource| self.configs(resource)).collect())
    }

    fn alter_configs<'a>(&'a self, changes: &'a [ConfigChange], mode: Mode) -> Answer<'a, Each<()>> {
        answer(changes.iter().map(|change| self.alter(change, mode)).collect())
    }

    fn create_acls<'a>(&'a self, _: &'a [AclBinding]) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn describe_acls<'a>(&'a self, _: &'a AclFilter) -> Answer<'a, Vec<AclBinding>> {
        refuse()
    }

    fn delete_acls<'a>(&'a self, _: &'a [AclBinding]) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn list_users(&self) -> Answer<'_, Vec<UserCredentials>> {
        refuse()
    }

    fn describe_users<'a>(&'a self, _: &'a [String]) -> Answer<'a, Each<UserCredentials>> {
        refuse()
    }

    fn upsert_credentials<'a>(&'a self, _: &'a [NewCredential]) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn delete_credentials<'a>(&'a self, _: &'a [(String, ScramMechanism)]) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn describe_quotas<'a>(&'a self, _: &'a QuotaFilter) -> Answer<'a, Vec<Quota>> {
        refuse()
    }

    fn alter_quotas<'a>(&'a self, _: &'a [QuotaChange], _: Mode) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn describe_log_dirs<'a>(&'a self, _: &'a [i32]) -> Answer<'a, Each<Vec<LogDir>>> {
        refuse()
    }

    fn list_groups(&self) -> Answer<'_, Vec<GroupListing>> {
        refuse()
    }

    fn describe_groups<'a>(&'a self, _: &'a [String]) -> Answer<'a, Each<GroupDescription>> {
        refuse()
    }

    fn group_offsets<'a>(&'a self, _: &'a [String]) -> Answer<'a, Each<Vec<CommittedOffset>>> {
        refuse()
    }
}
