//! What a cluster is made of: its id, its brokers, and who leads which partition.

use std::collections::BTreeSet;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DescribeClusterRequest, MetadataRequest, MetadataResponse};

use super::KafkaClient;
use super::acls::AclOperation;
use super::client::To;
use super::error::{AdminError, check};
use super::topics::topic_name;

/// A cluster as one of its brokers sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The cluster's id.
    pub id: String,
    /// The broker to send changes to. In KRaft any broker is named, since each passes changes on.
    pub controller: Option<i32>,
    /// The brokers that are up.
    pub brokers: Vec<Broker>,
    /// What our user may do to the cluster as a whole; none when the cluster does not tell.
    pub may: Option<BTreeSet<AclOperation>>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Where it listens, as it says of the listener that was asked.
    pub host: String,
    /// See [`Broker::host`].
    pub port: u16,
    /// Its rack, when it has one.
    pub rack: Option<String>,
}

impl KafkaClient {
    pub(super) async fn describe_cluster(&self) -> Result<ClusterDescription, AdminError> {
        // Metadata of no topic: it says where named brokers are, for the calls that go to one.
        self.metadata(Some(Vec::new())).await?;
        let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        self.read(To::Any, &request, |response| {
            check(response.error_code, response.error_message.as_ref())?;
            let brokers = response.brokers.iter().map(|broker| Broker {
                id: broker.broker_id.0,
                host: broker.host.to_string(),
                port: u16::try_from(broker.port).unwrap_or_default(),
                rack: broker.rack.as_ref().map(|rack| rack.to_string()),
            });
            Ok(ClusterDescription {
                id: response.cluster_id.to_string(),
                controller: Some(response.controller_id.0).filter(|id| *id >= 0),
                brokers: brokers.collect(),
                may: operations(response.cluster_authorized_operations),
            })
        })
        .await
    }

    /// Metadata of these topics, or of all, and where the brokers are.
    pub(super) async fn metadata(&self, topics: Option<Vec<&str>>) -> Result<MetadataResponse, AdminError> {
        let topic = |name: &str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let topics = topics.map(|topics| topics.into_iter().map(topic).collect());
        // The default would create what is asked for.
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
        let response =
            self.read(To::Any, &request, |response| check(response.error_code, None).map(|()| response)).await?;
        self.learn(&response);
        Ok(response)
    }

    /// A broker to send to, after asking where it is if that is not known.
    pub(super) async fn broker(&self, id: i32) -> Result<To, AdminError> {
        if !self.knows(id) {
            self.metadata(Some(Vec::new())).await?;
        }
        Ok(To::Broker(id))
    }
}

/// One bit for each operation, by its number; the least number is "not told".
fn operations(bits: i32) -> Option<BTreeSet<AclOperation>> {
    let is_set = |number: &i8| bits & (1 << number) != 0;
    (bits != i32::MIN).then(|| (0..31).filter(is_set).map(AclOperation::of_number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_is_an_operation_and_the_least_number_tells_nothing() {
        assert_eq!(operations(i32::MIN), None);
        assert_eq!(operations(0), Some(BTreeSet::new()));
        let some = [AclOperation::Alter, AclOperation::Describe];
        assert_eq!(operations(1 << 7 | 1 << 8), Some(BTreeSet::from(some)));
    }
}
