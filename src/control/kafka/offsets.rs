//! Offsets of partitions, from the brokers that lead them.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};
use tokio::time::Instant;

use super::client::{first_pause, wait_before};
use super::error::{AdminError, Refusal, check};
use super::topics::topic_name;
use super::{Each, KafkaClient};

/// Which offset of which partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OffsetQuery {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Which offset of it.
    pub which: Which,
}

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// Of the oldest record that is there.
    Earliest,
    /// Of the next record to come.
    Latest,
    /// Of the first record with this timestamp or a later one, in milliseconds since 1970.
    At(i64),
}

impl Which {
    const fn number(self) -> i64 {
        match self {
            Which::Earliest => -2,
            Which::Latest => -1,
            Which::At(ms) => ms,
        }
    }
}

impl KafkaClient {
    pub(super) async fn list_offsets(&self, queries: &[OffsetQuery]) -> Result<Each<Option<i64>>, AdminError> {
        let deadline = Instant::now() + self.timeouts.call;
        let mut pause = first_pause();
        let mut results: Each<Option<i64>> = queries.iter().map(|_| Err(AdminError::nonsense("not asked"))).collect();
        let mut open: Vec<usize> = (0..queries.len()).collect();
        while !open.is_empty() {
            self.list_open_offsets(queries, &open, &mut results).await?;
            // A leader that moved is asked for again.
            open.retain(|index| results[*index].as_ref().is_err_and(AdminError::is_transient));
            if !open.is_empty() && !wait_before(deadline, &mut pause).await {
                break;
            }
        }
        Ok(results.into_iter().map(|result| result.map_err(AdminError::of_read)).collect())
    }

    /// Asks for those of the queries that are open, each at the leader of its partition.
    async fn list_open_offsets(
        &self,
        queries: &[OffsetQuery],
        open: &[usize],
        results: &mut Each<Option<i64>>,
    ) -> Result<(), AdminError> {
        let leaders = self.leaders(queries, open).await?;
        // Kafka refuses a partition that is twice in a request, so that each kind of offset has requests of its own.
        let mut by_leader: BTreeMap<(i32, i64), Vec<usize>> = BTreeMap::new();
        for &index in open {
            let query = &queries[index];
            match leaders.get(&(query.topic.as_str(), query.partition)) {
                Some(Ok(leader)) => by_leader.entry((*leader, query.which.number())).or_default().push(index),
                Some(Err(error)) => results[index] = Err(error.clone()),
                None => {
                    let what = format!("topic `{}` has no partition {}", query.topic, query.partition);
                    results[index] =
                        Err(AdminError::NotFound(Refusal::new(ResponseError::UnknownTopicOrPartition, what)));
                }
            }
        }
        for ((leader, _), indexes) in by_leader {
            let answers = self.ask_leader(leader, queries, &indexes).await;
            for index in indexes {
                let query = &queries[index];
                results[index] = match &answers {
                    Ok(answers) => answers
                        .get(&(query.topic.clone(), query.partition))
                        .cloned()
                        .unwrap_or_else(|| Err(AdminError::nonsense("the broker's answer leaves this partition out"))),
                    Err(error) => Err(error.clone()),
                };
            }
        }
        Ok(())
    }

    /// The leader of each partition of the topics that are asked about, or why there is none.
    async fn leaders<'q>(
        &self,
        queries: &'q [OffsetQuery],
        open: &[usize],
    ) -> Result<HashMap<(&'q str, i32), Result<i32, AdminError>>, AdminError> {
        let mut names: Vec<String> = open.iter().map(|index| queries[*index].topic.clone()).collect();
        names.sort();
        names.dedup();
        let topics = self.describe_topics(&names).await?;
        let described: HashMap<&str, _> = names.iter().map(String::as_str).zip(topics).collect();
        let mut leaders = HashMap::new();
        for &index in open {
            let query = &queries[index];
            let leader = match &described[query.topic.as_str()] {
                Err(error) => Some(Err(error.clone())),
                Ok(topic) => {
                    let partition = topic.partitions.iter().find(|known| known.partition == query.partition);
                    partition.map(|partition| partition.leader.ok_or_else(no_leader))
                }
            };
            if let Some(leader) = leader {
                leaders.insert((query.topic.as_str(), query.partition), leader);
            }
        }
        Ok(leaders)
    }

    async fn ask_leader(
        &self,
        leader: i32,
        queries: &[OffsetQuery],
        indexes: &[usize],
    ) -> Result<HashMap<(String, i32), Result<Option<i64>, AdminError>>, AdminError> {
        let mut topics: BTreeMap<&str, BTreeMap<i32, ListOffsetsPartition>> = BTreeMap::new();
        for &index in indexes {
            let OffsetQuery { topic, partition, which } = &queries[index];
            let wanted =
                ListOffsetsPartition::default().with_partition_index(*partition).with_timestamp(which.number());
            topics.entry(topic).or_default().insert(*partition, wanted);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions.into_values().collect())
        });
        let request = ListOffsetsRequest::default()
            // A client, not a replica that follows.
            .with_replica_id(BrokerId(-1))
            .with_topics(topics.collect());
        let to = self.broker(leader).await?;
        self.read(to, &request, |response| {
            let mut offsets = HashMap::new();
            for topic in &response.topics {
                for partition in &topic.partitions {
                    let offset = check(partition.error_code, None)
                        .map(|()| Some(partition.offset).filter(|offset| *offset >= 0));
                    offsets.insert((topic.name.to_string(), partition.partition_index), offset);
                }
            }
            Ok(offsets)
        })
        .await
    }
}

fn no_leader() -> AdminError {
    AdminError::Busy(Refusal::new(ResponseError::LeaderNotAvailable, "the partition has no leader"))
}
