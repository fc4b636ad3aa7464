//! Topics: list, describe, create, delete by id, add partitions.

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::client::To;
use super::each::in_order;
use super::error::{AdminError, check};
use super::{Each, KafkaClient, Mode};

/// A topic as one broker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id, which a topic of the same name that is made later does not have.
    pub id: Uuid,
    /// Whether Kafka keeps something of its own in it.
    pub internal: bool,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// The broker that leads it, if one does.
    pub leader: Option<i32>,
    /// The brokers that should have a replica, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub in_sync: Vec<i32>,
    /// Those of them that are down.
    pub offline: Vec<i32>,
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; none is the cluster's default.
    pub partitions: Option<i32>,
    /// Number of replicas; none is the cluster's default.
    pub replicas: Option<i16>,
    /// Configs, such as `retention.ms`.
    pub configs: Vec<(String, String)>,
}

/// A topic that was created, or would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id; none when it was only checked.
    pub id: Option<Uuid>,
    /// Number of partitions; none when our user may not see its configs.
    pub partitions: Option<i32>,
    /// Number of replicas; none when our user may not see its configs.
    pub replicas: Option<i16>,
}

impl KafkaClient {
    pub(super) async fn list_topics(&self) -> Result<Each<TopicDescription>, AdminError> {
        let metadata = self.metadata(None).await?;
        Ok(metadata.topics.iter().map(description).collect())
    }

    pub(super) async fn describe_topics(&self, names: &[String]) -> Result<Each<TopicDescription>, AdminError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let metadata = self.metadata(Some(names.iter().map(String::as_str).collect())).await?;
        let answered = metadata.topics.iter().map(|topic| (name_of(topic.name.as_ref()), description(topic)));
        Ok(in_order(names.iter().cloned(), answered))
    }

    pub(super) async fn create_topics(
        &self,
        topics: &[NewTopic],
        mode: Mode,
    ) -> Result<Each<CreatedTopic>, AdminError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let request = CreateTopicsRequest::default()
            .with_topics(topics.iter().map(NewTopic::to_wire).collect())
            .with_timeout_ms(self.broker_timeout_ms())
            .with_validate_only(mode == Mode::Validate);
        self.write(To::Any, &request, |response| {
            let answered = response.topics.iter().map(|topic| {
                let created = CreatedTopic {
                    // A check gets an id too, which no topic has.
                    id: Some(topic.topic_id).filter(|id| mode == Mode::Apply && !id.is_nil()),
                    partitions: Some(topic.num_partitions).filter(|count| *count > 0),
                    replicas: Some(topic.replication_factor).filter(|count| *count > 0),
                };
                (topic.name.to_string(), check(topic.error_code, topic.error_message.as_ref()).map(|()| created))
            });
            in_order(topics.iter().map(|topic| topic.name.clone()), answered)
        })
        .await
    }

    pub(super) async fn delete_topics(&self, ids: &[Uuid]) -> Result<Each<()>, AdminError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let request = DeleteTopicsRequest::default()
            .with_topics(ids.iter().map(|id| DeleteTopicState::default().with_name(None).with_topic_id(*id)).collect())
            .with_timeout_ms(self.broker_timeout_ms());
        self.write(To::Any, &request, |response| {
            let results = response.responses.iter();
            let answered = results.map(|topic| (topic.topic_id, check(topic.error_code, topic.error_message.as_ref())));
            in_order(ids.iter().copied(), answered)
        })
        .await
    }

    pub(super) async fn create_partitions(&self, topics: &[(String, i32)], mode: Mode) -> Result<Each<()>, AdminError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let topic = |(name, count): &(String, i32)| {
            CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(*count).with_assignments(None)
        };
        let request = CreatePartitionsRequest::default()
            .with_topics(topics.iter().map(topic).collect())
            .with_timeout_ms(self.broker_timeout_ms())
            .with_validate_only(mode == Mode::Validate);
        self.write(To::Any, &request, |response| {
            let results = response.results.iter();
            let answered =
                results.map(|topic| (topic.name.to_string(), check(topic.error_code, topic.error_message.as_ref())));
            in_order(topics.iter().map(|(name, _)| name.clone()), answered)
        })
        .await
    }
}

impl NewTopic {
    fn to_wire(&self) -> CreatableTopic {
        let configs = self
            .configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
        CreatableTopic::default()
            .with_name(topic_name(&self.name))
            .with_num_partitions(self.partitions.unwrap_or(-1))
            .with_replication_factor(self.replicas.unwrap_or(-1))
            .with_configs(configs.collect())
    }
}

fn description(topic: &MetadataResponseTopic) -> Result<TopicDescription, AdminError> {
    check(topic.error_code, None)?;
    let mut partitions: Vec<_> = topic.partitions.iter().map(partition).collect();
    partitions.sort_by_key(|partition| partition.partition);
    Ok(TopicDescription {
        name: name_of(topic.name.as_ref()),
        id: topic.topic_id,
        internal: topic.is_internal,
        partitions,
    })
}

/// A partition's own error code says only that it has no leader, or that a replica is down; both are told by the fields.
fn partition(partition: &MetadataResponsePartition) -> PartitionDescription {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    PartitionDescription {
        partition: partition.partition_index,
        leader: Some(partition.leader_id.0).filter(|leader| *leader >= 0),
        replicas: ids(&partition.replica_nodes),
        in_sync: ids(&partition.isr_nodes),
        offline: ids(&partition.offline_replicas),
    }
}

fn name_of(name: Option<&TopicName>) -> String {
    name.map(|name| name.to_string()).unwrap_or_default()
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
