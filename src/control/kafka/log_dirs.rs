//! Log directories of brokers: how much room there is, and what each replica takes of it.

use kafka_protocol::messages::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_log_dirs_response::{DescribeLogDirsResponse, DescribeLogDirsResult};

use super::error::{AdminError, check};
use super::{Each, KafkaClient};

/// A log directory of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDir {
    /// Its path on the broker's machine.
    pub path: String,
    /// Why the broker cannot use it, if so.
    pub failed: Option<AdminError>,
    /// Bytes of the file system that it is on, and how many of them are free to Kafka; none before Kafka 3.3.
    pub total_bytes: Option<u64>,
    /// See [`LogDir::total_bytes`]. Directories on one file system each say the whole of it.
    pub usable_bytes: Option<u64>,
    /// The replicas in it.
    pub replicas: Vec<Replica>,
}

/// A replica on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Bytes of its segments.
    pub bytes: u64,
    /// Records that it has to catch up with.
    pub offset_lag: u64,
    /// Whether it is the copy of a move to this directory that is under way.
    pub is_future: bool,
}

impl KafkaClient {
    pub(super) async fn describe_log_dirs(&self, brokers: &[i32]) -> Result<Each<Vec<LogDir>>, AdminError> {
        let mut results = Vec::with_capacity(brokers.len());
        for &broker in brokers {
            results.push(self.describe_log_dirs_of(broker).await);
        }
        Ok(results)
    }

    async fn describe_log_dirs_of(&self, broker: i32) -> Result<Vec<LogDir>, AdminError> {
        let to = self.broker(broker).await?;
        let request = DescribeLogDirsRequest::default().with_topics(None);
        self.read(to, &request, log_dirs).await
    }
}

fn log_dirs(response: DescribeLogDirsResponse) -> Result<Vec<LogDir>, AdminError> {
    check(response.error_code, None)?;
    Ok(response.results.iter().map(log_dir).collect())
}

fn log_dir(dir: &DescribeLogDirsResult) -> LogDir {
    let replicas = dir.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| Replica {
            topic: topic.name.to_string(),
            partition: partition.partition_index,
            bytes: u64::try_from(partition.partition_size).unwrap_or_default(),
            offset_lag: u64::try_from(partition.offset_lag).unwrap_or_default(),
            is_future: partition.is_future_key,
        })
    });
    LogDir {
        path: dir.log_dir.to_string(),
        failed: check(dir.error_code, None).err(),
        total_bytes: u64::try_from(dir.total_bytes).ok(),
        usable_bytes: u64::try_from(dir.usable_bytes).ok(),
        replicas: replicas.collect(),
    }
}
