//! Kafka brokers in this process: librdkafka's mock cluster.
//!
//! In: a number of brokers, topics, faults. Out: an address that any Kafka client can use. It keeps only the last 5 MB or
//! 100,000 records of each partition, in memory, and knows no TLS, SASL, ACLs, quotas or topic settings. A client that asks
//! for an unknown topic with `allow.auto.create.topics` makes it. Never: for production, or on other than loopback.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

type Brokers = MockCluster<'static, DefaultProducerContext>;
type Command = Box<dyn FnOnce(&Brokers) + Send>;

/// A running mock cluster, owned by a thread of its own because it cannot move between threads. Stops when dropped.
#[derive(Debug)]
pub struct EmbeddedBrokers {
    bootstrap: String,
    /// None once it is being dropped; the thread ends when its sender is gone.
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// Why the embedded brokers do not do what they are asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BrokersError {
    #[error("the embedded brokers cannot be started")]
    Start(#[source] KafkaError),
    #[error("the thread of the embedded brokers cannot be started")]
    Thread(#[source] std::io::Error),
    #[error("the embedded brokers refuse: {0}")]
    Refused(#[source] KafkaError),
    #[error("the thread of the embedded brokers is gone")]
    Gone,
}

/// Commands that wait for the owning thread; each asker waits for its own.
const COMMANDS_MAX: usize = 16;

/// Every broker, where one is asked for by id.
pub const ALL_BROKERS: i32 = -1;

impl EmbeddedBrokers {
    /// Starts this many brokers, with ids from 1, on free ports of loopback.
    pub fn start(brokers: i32) -> Result<Self, BrokersError> {
        let (commands, todo) = sync_channel::<Command>(COMMANDS_MAX);
        let (started, start) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("embedded-brokers".to_owned())
            .spawn(move || own_cluster(brokers, &started, &todo))
            .map_err(BrokersError::Thread)?;
        let bootstrap = start.recv().map_err(|_| BrokersError::Gone)?.map_err(BrokersError::Start)?;
        Ok(EmbeddedBrokers { bootstrap, commands: Some(commands), thread: Some(thread) })
    }

    /// `host:port` of every broker, joined by commas.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Makes a topic; refused when it exists.
    pub fn create_topic(&self, name: &str, partitions: i32, replication: i32) -> Result<(), BrokersError> {
        let name = name.to_owned();
        self.ask(move |brokers| brokers.create_topic(&name, partitions, replication))
    }

    /// Makes a broker the leader of a partition, or leaves it without one.
    pub fn set_leader(&self, topic: &str, partition: i32, broker: Option<i32>) -> Result<(), BrokersError> {
        let topic = topic.to_owned();
        self.ask(move |brokers| brokers.partition_leader(&topic, partition, broker))
    }

    /// The next requests of this kind fail with these errors, one each.
    pub fn fail_requests(&self, request: RDKafkaApiKey, errors: Vec<RDKafkaRespErr>) -> Result<(), BrokersError> {
        self.ask(move |brokers| {
            brokers.request_errors(request, &errors);
            Ok(())
        })
    }

    /// Requests of this kind succeed again.
    pub fn heal_requests(&self, request: RDKafkaApiKey) -> Result<(), BrokersError> {
        self.ask(move |brokers| {
            brokers.clear_request_errors(request);
            Ok(())
        })
    }

    /// Closes a broker's connections and takes no new ones; its partitions keep it as leader.
    pub fn take_down(&self, broker: i32) -> Result<(), BrokersError> {
        self.ask(move |brokers| brokers.broker_down(broker))
    }

    /// Lets a broker take connections again.
    pub fn bring_up(&self, broker: i32) -> Result<(), BrokersError> {
        self.ask(move |brokers| brokers.broker_up(broker))
    }

    /// Delays a broker's answers, as if it were far away or hung.
    pub fn set_round_trip(&self, broker: i32, time: Duration) -> Result<(), BrokersError> {
        self.ask(move |brokers| brokers.broker_round_trip_time(broker, time))
    }

    /// Has the owning thread do it, and waits for the result.
    fn ask(&self, act: impl FnOnce(&Brokers) -> KafkaResult<()> + Send + 'static) -> Result<(), BrokersError> {
        let (answer, answered) = sync_channel(1);
        let command: Command = Box::new(move |brokers| {
            // Whoever asked waits for the answer below.
            let _ = answer.send(act(brokers));
        });
        let commands = self.commands.as_ref().ok_or(BrokersError::Gone)?;
        commands.send(command).map_err(|_| BrokersError::Gone)?;
        answered.recv().map_err(|_| BrokersError::Gone)?.map_err(BrokersError::Refused)
    }
}

impl Drop for EmbeddedBrokers {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // It panicked or it ended: either way the brokers are gone.
            let _ = thread.join();
        }
    }
}

fn own_cluster(brokers: i32, started: &SyncSender<KafkaResult<String>>, todo: &Receiver<Command>) {
    let cluster = match MockCluster::new(brokers) {
        Ok(cluster) => cluster,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(cluster.bootstrap_servers()));
    for command in todo {
        command(&cluster);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_made_once() {
        let brokers = EmbeddedBrokers::start(2).expect("loopback has free ports");
        assert_eq!(brokers.bootstrap().split(',').count(), 2);
        brokers.create_topic("orders", 3, 1).expect("it is new");
        assert!(matches!(brokers.create_topic("orders", 3, 1), Err(BrokersError::Refused(_))));
    }
}
