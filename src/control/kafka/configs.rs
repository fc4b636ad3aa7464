//! Configs of topics and brokers: what is set, where it comes from, and changes to single keys.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use super::client::To;
use super::each::in_order;
use super::error::{AdminError, check};
use super::numbers::numbers;
use super::topics::text;
use super::{Each, KafkaClient, Mode};

/// Resources asked for in one request: 500 topics of 35 configs are about 1 MB of answer.
const RESOURCES_PER_REQUEST: usize = 500;

/// What has configs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// One broker, by id.
    Broker(i32),
    /// All brokers that do not say otherwise.
    BrokerDefault,
    /// A consumer group, by name.
    Group(String),
}

numbers! {
    /// The kind of a [`ConfigResource`] on the wire (`org.apache.kafka.common.config.ConfigResource.Type`).
    ConfigResourceKind {
        /// A topic.
        Topic = 2,
        /// A broker, or with an empty name all of them.
        Broker = 4,
        /// A consumer group.
        Group = 32,
    }
}

numbers! {
    /// Where the value of a config comes from (`DescribeConfigsResponse.ConfigSource`).
    ConfigSource {
        /// Set on the topic.
        Topic = 1,
        /// Set on the broker while it ran.
        Broker = 2,
        /// Set on all brokers while they ran.
        BrokerDefault = 3,
        /// In the broker's file.
        BrokerFile = 4,
        /// Kafka's default.
        Default = 5,
        /// Set on the log level of a broker's logger.
        BrokerLogger = 6,
        /// Set on the subscription of client metrics.
        ClientMetrics = 7,
        /// Set on the consumer group.
        Group = 8,
    }
}

/// A config and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its key.
    pub name: String,
    /// Its value; none when it is not set, or is sensitive.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether Kafka keeps the value to itself.
    pub is_sensitive: bool,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
}

/// Changes to one resource: all are made or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// What is changed.
    pub resource: ConfigResource,
    /// Keys, each once, with the value to set; none goes back to the default.
    pub values: Vec<(String, Option<String>)>,
}

/// `AlterConfigOp.OpType`.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Kind and name of a resource, as the wire has them.
type Key = (i8, String);
/// Results with what they are of.
type Keyed<T> = Vec<(Key, Result<T, AdminError>)>;

impl ConfigResource {
    fn key(&self) -> Key {
        let kind = match self {
            ConfigResource::Topic(_) => ConfigResourceKind::Topic,
            ConfigResource::Broker(_) | ConfigResource::BrokerDefault => ConfigResourceKind::Broker,
            ConfigResource::Group(_) => ConfigResourceKind::Group,
        };
        let name = match self {
            ConfigResource::Topic(name) | ConfigResource::Group(name) => name.clone(),
            ConfigResource::Broker(id) => id.to_string(),
            ConfigResource::BrokerDefault => String::new(),
        };
        (kind.number(), name)
    }

    /// The broker that alone knows it.
    const fn broker(&self) -> Option<i32> {
        match self {
            ConfigResource::Broker(id) => Some(*id),
            _ => None,
        }
    }
}

impl KafkaClient {
    pub(super) async fn describe_configs(
        &self,
        resources: &[ConfigResource],
    ) -> Result<Each<Vec<ConfigEntry>>, AdminError> {
        let mut answered = Vec::with_capacity(resources.len());
        for (broker, resources) in by_broker(resources, |resource| resource) {
            for resources in resources.chunks(RESOURCES_PER_REQUEST) {
                let result = self.describe_configs_at(broker, resources).await;
                answered.extend(spread(resources.iter().map(|resource| resource.key()), result));
            }
        }
        Ok(in_order(resources.iter().map(ConfigResource::key), answered))
    }

    async fn describe_configs_at(
        &self,
        broker: Option<i32>,
        resources: &[&ConfigResource],
    ) -> Result<Keyed<Vec<ConfigEntry>>, AdminError> {
        let resource = |resource: &&ConfigResource| {
            let (kind, name) = resource.key();
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(&name))
                .with_configuration_keys(None)
        };
        let request = DescribeConfigsRequest::default().with_resources(resources.iter().map(resource).collect());
        let to = self.broker_or_any(broker).await?;
        self.read(to, &request, |response| {
            let results = response.results.iter().map(|result| {
                let entries = check(result.error_code, result.error_message.as_ref())
                    .map(|()| result.configs.iter().map(entry).collect());
                ((result.resource_type, result.resource_name.to_string()), entries)
            });
            Ok(results.collect())
        })
        .await
    }

    pub(super) async fn alter_configs(&self, changes: &[ConfigChange], mode: Mode) -> Result<Each<()>, AdminError> {
        let mut answered = Vec::with_capacity(changes.len());
        for (broker, changes) in by_broker(changes, |change| &change.resource) {
            let result = self.alter_configs_at(broker, &changes, mode).await;
            answered.extend(spread(changes.iter().map(|change| change.resource.key()), result));
        }
        Ok(in_order(changes.iter().map(|change| change.resource.key()), answered))
    }

    async fn alter_configs_at(
        &self,
        broker: Option<i32>,
        changes: &[&ConfigChange],
        mode: Mode,
    ) -> Result<Keyed<()>, AdminError> {
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(changes.iter().map(|change| change.to_wire()).collect())
            .with_validate_only(mode == Mode::Validate);
        let to = self.broker_or_any(broker).await?;
        let keys = || changes.iter().map(|change| change.resource.key());
        let results = self
            .write(to, &request, |response| {
                let results = response.responses.iter();
                let answered = results.map(|result| {
                    let key = (result.resource_type, result.resource_name.to_string());
                    (key, check(result.error_code, result.error_message.as_ref()))
                });
                in_order(keys(), answered)
            })
            .await?;
        Ok(keys().zip(results).collect())
    }

    async fn broker_or_any(&self, broker: Option<i32>) -> Result<To, AdminError> {
        match broker {
            Some(id) => self.broker(id).await,
            None => Ok(To::Any),
        }
    }
}

impl ConfigChange {
    fn to_wire(&self) -> AlterConfigsResource {
        let (kind, name) = self.resource.key();
        let configs = self.values.iter().map(|(key, value)| {
            AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(if value.is_some() { SET } else { DELETE })
                .with_value(value.as_deref().map(text))
        });
        AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(&name))
            .with_configs(configs.collect())
    }
}

fn entry(config: &DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: config.name.to_string(),
        value: config.value.as_ref().map(|value| value.to_string()),
        source: ConfigSource::of_number(config.config_source),
        is_sensitive: config.is_sensitive,
        is_read_only: config.read_only,
    }
}

/// The items by the broker that must be asked; none is any.
fn by_broker<T>(items: &[T], resource: impl Fn(&T) -> &ConfigResource) -> BTreeMap<Option<i32>, Vec<&T>> {
    let mut groups: BTreeMap<Option<i32>, Vec<&T>> = BTreeMap::new();
    for item in items {
        groups.entry(resource(item).broker()).or_default().push(item);
    }
    groups
}

/// A broker that could not be asked fails its own items, and not those of other brokers.
fn spread<T>(keys: impl Iterator<Item = Key>, result: Result<Keyed<T>, AdminError>) -> Keyed<T> {
    result.unwrap_or_else(|error| keys.map(|key| (key, Err(error.clone()))).collect())
}
