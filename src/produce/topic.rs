//! What a cluster says of a topic; for warm-up.
//!
//! In: a topic's name. Out: its partitions and size limit, or why it cannot be used, an unknown topic told apart from a
//! silent cluster. Never: creates a topic, or runs on the path of an event.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Kafka};
use rdkafka::metadata::{Metadata, MetadataBroker};
use rdkafka::producer::Producer;
use tracing::debug;

use super::wait::wait_for;
use super::{Client, ProduceError, Topic};

/// How long a look-up waits for the topic's size limit; without it, only the client's own limit is checked.
const LIMIT_WAIT: Duration = Duration::from_secs(3);

impl Client {
    /// Looks the topic up, waiting at most `timeout`. Blocking: for warm-up.
    pub fn topic(&self, topic: &str, timeout: Duration) -> Result<Topic, ProduceError> {
        let end = Instant::now() + timeout;
        let metadata = self.metadata(topic, timeout)?;
        let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
        let left = end.saturating_duration_since(Instant::now());
        // The broker that answered, unless it is one of the configured addresses whose id is not known yet.
        let answered = Some(metadata.orig_broker_id()).filter(|id| *id >= 0);
        let broker = answered.or_else(|| metadata.brokers().first().map(MetadataBroker::id));
        let limit = broker.and_then(|broker| self.limits.max_message_bytes(topic, broker, left.min(LIMIT_WAIT)));
        self.note_success();
        let leaders = partitions.iter().map(|partition| partition.leader()).filter(|leader| *leader >= 0).collect();
        let partitions = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
        Ok(Topic { partitions, max_message_bytes: limit, leaders })
    }

    /// The metadata of one topic that exists.
    pub(super) fn metadata(&self, topic: &str, timeout: Duration) -> Result<Metadata, ProduceError> {
        let cluster = || self.cluster().to_owned();
        let unreachable = |reason| ProduceError::Unreachable { cluster: cluster(), reason };
        let metadata = self.producer().client().fetch_metadata(Some(topic), timeout).map_err(|error| {
            // librdkafka says only that it timed out; the error callback knows why.
            unreachable(self.last_error().map_or_else(|| error.to_string(), |last| format!("{error} ({last})")))
        })?;
        let refusal = match metadata.topics().first() {
            None => Some(Kafka::UnknownTopicOrPartition),
            Some(found) => found.error().map(Kafka::from),
        };
        match refusal {
            None => {
                metadata.topics().iter().for_each(|topic| self.learn(topic));
                Ok(metadata)
            }
            Some(Kafka::UnknownTopicOrPartition | Kafka::UnknownTopic | Kafka::InvalidTopic) => {
                Err(ProduceError::UnknownTopic { cluster: cluster(), topic: topic.to_owned() })
            }
            Some(Kafka::TopicAuthorizationFailed | Kafka::ClusterAuthorizationFailed) => {
                Err(ProduceError::Forbidden { cluster: cluster(), topic: topic.to_owned() })
            }
            Some(code) => Err(unreachable(format!("topic `{topic}`: {code}"))),
        }
    }
}

/// Asks for `max.message.bytes` through an admin client, which exists only while look-ups are under way.
pub(super) struct Limits {
    config: ClientConfig,
    /// Cleared for good when the cluster has no DescribeConfigs.
    ask: AtomicBool,
    admin: Mutex<Weak<AdminClient<Quiet>>>,
}

impl Limits {
    pub(super) fn new(config: ClientConfig, ask: bool) -> Self {
        Limits { config, ask: AtomicBool::new(ask), admin: Mutex::new(Weak::new()) }
    }

    /// The topic's limit; none when the cluster does not tell: no right to ask, no such request, no answer in time.
    fn max_message_bytes(&self, topic: &str, broker: i32, timeout: Duration) -> Option<usize> {
        if !self.ask.load(Relaxed) || timeout.is_zero() {
            return None;
        }
        let admin = self.admin()?;
        // Any broker answers. By default the controller is asked, which is one more broker that may be away, and which
        // librdkafka's mock cluster does not have.
        let options = AdminOptions::new().request_timeout(Some(timeout)).broker_id(broker);
        let resource = [ResourceSpecifier::Topic(topic)];
        let answer = wait_for(admin.describe_configs(&resource, &options), timeout)?;
        let described = answer.map_err(|error| self.note_refusal(topic, &error)).ok()?.into_iter().next()?;
        match described {
            Ok(resource) => resource.get("max.message.bytes")?.value.as_ref()?.parse().ok(),
            Err(code) => {
                self.note_refusal(topic, &KafkaError::AdminOp(code));
                None
            }
        }
    }

    fn note_refusal(&self, topic: &str, error: &KafkaError) {
        debug!(topic, %error, "cluster does not tell a topic's size limit");
        if error.rdkafka_error_code() == Some(Kafka::UnsupportedFeature) {
            self.ask.store(false, Relaxed);
        }
    }

    /// The admin client that other look-ups use right now, or a new one.
    fn admin(&self) -> Option<Arc<AdminClient<Quiet>>> {
        let mut shared = self.admin.lock().expect("no code panics while it holds this lock");
        if let Some(admin) = shared.upgrade() {
            return Some(admin);
        }
        let admin = Arc::new(self.config.create_with_context::<_, AdminClient<_>>(Quiet).ok()?);
        *shared = Arc::downgrade(&admin);
        Some(admin)
    }
}

/// The admin client's errors are those of the producer beside it, which reports them.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
    fn stats_raw(&self, _: &[u8]) {}
}
