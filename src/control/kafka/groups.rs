//! Consumer groups: which there are, who is in them, what they have committed, how far they are behind.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::{Buf as _, Bytes};
use kafka_protocol::messages::consumer_group_describe_response as new_protocol;
use kafka_protocol::messages::describe_groups_response as classic;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerProtocolAssignment, DescribeGroupsRequest, FindCoordinatorRequest, GroupId,
    ListGroupsRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::{Decodable as _, Message as _};
use tokio::time::Instant;

use super::client::{To, first_pause, wait_before};
use super::error::{AdminError, Refusal, check};
use super::offsets::{OffsetQuery, Which};
use super::topics::text;
use super::{Answer, Each, KafkaAdmin, KafkaClient};

/// A group that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub group: String,
    /// Which protocol its members speak: `classic`, `consumer`, `share`, …; empty before Kafka 3.8.
    pub kind: String,
    /// Its state in Kafka's words, such as `Stable` or `Empty`; empty before Kafka 2.6.
    pub state: String,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub group: String,
    /// Its state in Kafka's words, such as `Stable` or `Empty`.
    pub state: String,
    /// Who is in it.
    pub members: Vec<GroupMember>,
}

/// A member of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id in the group.
    pub id: String,
    /// The client id that it gives itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// The partitions that it has, by topic and number.
    pub partitions: Vec<(String, i32)>,
}

/// What a group has committed of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record that it will consume.
    pub offset: i64,
}

/// How far a group is behind on a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// What it has committed.
    pub committed: CommittedOffset,
    /// Records from there to the end, or why the end is unknown.
    pub records: Result<i64, AdminError>,
}

/// How far a group is behind on each partition that it has committed an offset of. A partition that it has not consumed from yet
/// is not in it.
pub async fn lag(admin: &dyn KafkaAdmin, group: &str) -> Result<Vec<Lag>, AdminError> {
    let groups = [group.to_owned()];
    let offsets = admin.group_offsets(&groups).await?;
    let committed = offsets.into_iter().next().unwrap_or_else(|| Err(AdminError::nonsense("no answer")))?;
    let query = |offset: &CommittedOffset| OffsetQuery {
        topic: offset.topic.clone(),
        partition: offset.partition,
        which: Which::Latest,
    };
    let queries: Vec<OffsetQuery> = committed.iter().map(query).collect();
    let ends = admin.list_offsets(&queries).await?;
    let lag = committed.into_iter().zip(ends).map(|(committed, end)| {
        let records = end.map(|end| (end.unwrap_or_default() - committed.offset).max(0));
        Lag { committed, records }
    });
    Ok(lag.collect())
}

type ByGroup<T> = HashMap<String, Result<T, AdminError>>;

impl KafkaClient {
    pub(super) async fn list_groups(&self) -> Result<Vec<GroupListing>, AdminError> {
        let brokers = self.describe_cluster().await?.brokers;
        let mut groups = BTreeMap::new();
        let request = ListGroupsRequest::default();
        for broker in brokers {
            let listed = self.read(To::Broker(broker.id), &request, |response| {
                check(response.error_code, None).map(|()| response.groups)
            });
            for group in listed.await? {
                let listing = GroupListing {
                    group: group.group_id.to_string(),
                    kind: group.group_type.to_string(),
                    state: group.group_state.to_string(),
                };
                groups.insert(listing.group.clone(), listing);
            }
        }
        Ok(groups.into_values().collect())
    }

    pub(super) async fn describe_groups(&self, groups: &[String]) -> Result<Each<GroupDescription>, AdminError> {
        self.at_coordinators(groups, |client, to, groups| Box::pin(client.describe_at(to, groups))).await
    }

    pub(super) async fn group_offsets(&self, groups: &[String]) -> Result<Each<Vec<CommittedOffset>>, AdminError> {
        self.at_coordinators(groups, |client, to, groups| Box::pin(client.offsets_at(to, groups))).await
    }

    /// Asks each group's coordinator, and the next one if it moves.
    async fn at_coordinators<T: Clone>(
        &self,
        groups: &[String],
        ask: impl for<'c> Fn(&'c KafkaClient, To, &'c [&'c str]) -> Answer<'c, ByGroup<T>>,
    ) -> Result<Each<T>, AdminError> {
        let deadline = Instant::now() + self.timeouts.call;
        let mut pause = first_pause();
        let mut results: ByGroup<T> = HashMap::new();
        let mut open: HashSet<&str> = groups.iter().map(String::as_str).collect();
        while !open.is_empty() {
            let mut by_coordinator: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
            for (group, coordinator) in self.coordinators(&open).await? {
                match coordinator {
                    Ok(broker) => by_coordinator.entry(broker).or_default().push(group),
                    Err(error) => drop(results.insert(group.to_owned(), Err(error))),
                }
            }
            for (broker, groups) in by_coordinator {
                let answered = match self.broker(broker).await {
                    Ok(to) => ask(self, to, &groups).await,
                    Err(error) => Err(error),
                };
                for group in groups {
                    let left_out = || Err(AdminError::nonsense("the broker's answer leaves this group out"));
                    let result = match &answered {
                        Ok(answered) => answered.get(group).cloned().unwrap_or_else(left_out),
                        Err(error) => Err(error.clone()),
                    };
                    results.insert(group.to_owned(), result);
                }
            }
            open.retain(|group| matches!(results.get(*group), Some(Err(error)) if error.is_transient()));
            if !open.is_empty() && !wait_before(deadline, &mut pause).await {
                break;
            }
        }
        let result = |group: &String| results.get(group).cloned();
        let left_out = || Err(AdminError::nonsense("no broker answered for this group"));
        Ok(groups.iter().map(|group| result(group).unwrap_or_else(left_out).map_err(AdminError::of_read)).collect())
    }

    /// The broker that coordinates each group, or why none does.
    async fn coordinators<'g>(
        &self,
        groups: &HashSet<&'g str>,
    ) -> Result<Vec<(&'g str, Result<i32, AdminError>)>, AdminError> {
        /// `FindCoordinatorRequest.CoordinatorType.GROUP`.
        const GROUP: i8 = 0;
        let keys = groups.iter().map(|group| text(group)).collect();
        let request = FindCoordinatorRequest::default().with_key_type(GROUP).with_coordinator_keys(keys);
        let found: ByGroup<i32> = self
            .read(To::Any, &request, |response| {
                check(response.error_code, response.error_message.as_ref())?;
                let found = response.coordinators.iter().map(|coordinator| {
                    let result = check(coordinator.error_code, coordinator.error_message.as_ref());
                    (coordinator.key.to_string(), result.map(|()| coordinator.node_id.0))
                });
                Ok(found.collect())
            })
            .await?;
        let left_out = || Err(AdminError::nonsense("the broker's answer leaves this group out"));
        let of = |group: &&'g str| (*group, found.get(*group).cloned().unwrap_or_else(left_out));
        Ok(groups.iter().map(of).collect())
    }

    async fn describe_at(&self, to: To, groups: &[&str]) -> Result<ByGroup<GroupDescription>, AdminError> {
        let mut described = self.describe_new(to, groups).await?;
        // A group of the old protocol is not found by the new request, nor the other way round.
        let is_missing = |group: &&str| matches!(described.get(*group), None | Some(Err(AdminError::NotFound(_))));
        let missing: Vec<&str> = groups.iter().copied().filter(is_missing).collect();
        if !missing.is_empty() {
            described.extend(self.describe_classic(to, &missing).await?);
        }
        Ok(described)
    }

    async fn offsets_at(&self, to: To, groups: &[&str]) -> Result<ByGroup<Vec<CommittedOffset>>, AdminError> {
        let group =
            |group: &&str| OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(groups.iter().map(group).collect());
        self.read(to, &request, |response| {
            let offsets = response.groups.iter().map(|group| (group.group_id.to_string(), committed(group)));
            Ok(offsets.collect())
        })
        .await
    }

    /// Groups of the protocol of KIP-848; none of them on a cluster that does not speak it.
    async fn describe_new(&self, to: To, groups: &[&str]) -> Result<ByGroup<GroupDescription>, AdminError> {
        let ids = groups.iter().map(|group| GroupId(text(group))).collect();
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(ids);
        let described = self.read(to, &request, |response| {
            let groups = response.groups.iter().map(|group| {
                let result = check(group.error_code, group.error_message.as_ref()).map(|()| GroupDescription {
                    group: group.group_id.to_string(),
                    state: group.group_state.to_string(),
                    members: group.members.iter().map(new_member).collect(),
                });
                (group.group_id.to_string(), result)
            });
            Ok(groups.collect())
        });
        match described.await {
            Err(AdminError::NotSupported { .. }) => Ok(HashMap::new()),
            described => described,
        }
    }

    async fn describe_classic(&self, to: To, groups: &[&str]) -> Result<ByGroup<GroupDescription>, AdminError> {
        let ids = groups.iter().map(|group| GroupId(text(group))).collect();
        self.read(to, &DescribeGroupsRequest::default().with_groups(ids), |response| {
            let groups = response.groups.iter().map(|group| {
                let result = check(group.error_code, group.error_message.as_ref()).and_then(|()| classic_group(group));
                (group.group_id.to_string(), result)
            });
            Ok(groups.collect())
        })
        .await
    }
}

fn new_member(member: &new_protocol::Member) -> GroupMember {
    let topics = member.assignment.topic_partitions.iter();
    GroupMember {
        id: member.member_id.to_string(),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: topics
            .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_name.to_string(), *partition)))
            .collect(),
    }
}

fn classic_group(group: &classic::DescribedGroup) -> Result<GroupDescription, AdminError> {
    // What brokers before 4.0 say of a group that is not there.
    if group.group_state.as_str() == "Dead" {
        let refusal = Refusal::new(kafka_protocol::ResponseError::GroupIdNotFound, "the group is not there");
        return Err(AdminError::NotFound(refusal));
    }
    let members = group.members.iter().map(|member| GroupMember {
        id: member.member_id.to_string(),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: classic_assignment(member.member_assignment.clone()),
    });
    Ok(GroupDescription {
        group: group.group_id.to_string(),
        state: group.group_state.to_string(),
        members: members.collect(),
    })
}

/// What the leader of a classic group wrote for a member. It is the consumers' own format: one that is not theirs has nothing
/// for us.
fn classic_assignment(mut assignment: Bytes) -> Vec<(String, i32)> {
    let Ok(version) = assignment.try_get_i16() else { return Vec::new() };
    let version = version.clamp(ConsumerProtocolAssignment::VERSIONS.min, ConsumerProtocolAssignment::VERSIONS.max);
    let Ok(assignment) = ConsumerProtocolAssignment::decode(&mut assignment, version) else { return Vec::new() };
    let topics = assignment.assigned_partitions.iter();
    topics.flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic.to_string(), *partition))).collect()
}

fn committed(group: &OffsetFetchResponseGroup) -> Result<Vec<CommittedOffset>, AdminError> {
    check(group.error_code, None)?;
    let mut offsets = Vec::new();
    for topic in &group.topics {
        for partition in &topic.partitions {
            check(partition.error_code, None)?;
            // -1 is a partition that was asked for and has no offset.
            if partition.committed_offset >= 0 {
                let (topic, partition, offset) =
                    (topic.name.to_string(), partition.partition_index, partition.committed_offset);
                offsets.push(CommittedOffset { topic, partition, offset });
            }
        }
    }
    Ok(offsets)
}
