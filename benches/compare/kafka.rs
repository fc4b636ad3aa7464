//! The real Kafka that all programs produce to: one node with a login, whose log tells how many records arrived.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use iguazu::dev::kafka::{Installation, RealKafka};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::drive::block_on;
use crate::process::wait_for;

const PARTITIONS: i32 = 12;
const TIMEOUT: Duration = Duration::from_secs(30);

/// A running Kafka; stopped when dropped.
pub struct Kafka {
    pub bootstrap: String,
    pub username: String,
    pub password_file: PathBuf,
    topics: Cell<usize>,
    admin: AdminClient<DefaultClientContext>,
    reader: BaseConsumer,
    server: RealKafka,
}

impl Kafka {
    /// Starts it from its jars.
    pub fn start(jars: &Path, folder: &Path) -> Kafka {
        let installation = Installation { jars: jars.to_owned(), java: PathBuf::from("java") };
        let server = RealKafka::start(&installation, folder).unwrap_or_else(|error| panic!("{error}"));
        let login = server.login();
        let password_file = PathBuf::from(login.password_file);
        let mut config = client(&server.bootstrap(), login.username, &password_file);
        config.set("group.id", "bench");
        Kafka {
            bootstrap: server.bootstrap(),
            username: login.username.to_owned(),
            password_file,
            topics: Cell::new(0),
            admin: config.create().expect("valid settings"),
            reader: config.create().expect("valid settings"),
            server,
        }
    }

    /// The broker's process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Settings with which a client logs in.
    pub fn client(&self) -> ClientConfig {
        client(&self.bootstrap, &self.username, &self.password_file)
    }

    /// An empty topic.
    pub fn new_topic(&self) -> String {
        self.topics.set(self.topics.get() + 1);
        let name = format!("bench{}", self.topics.get());
        let topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        block_on(async {
            let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
            let made = self.admin.create_topics([&topic], &options).await.expect("Kafka answers");
            made[0].as_ref().expect("a new name");
        });
        wait_for("every partition has a leader", || self.try_records(&name));
        name
    }

    /// Records in a topic, once there are at least so many or their number stays the same.
    pub fn wait_for(&self, topic: &str, least: u64) -> u64 {
        let mut last = 0;
        for _ in 0..60 {
            let found = self.try_records(topic).expect("Kafka answers");
            if found >= least {
                return found;
            }
            if found == last {
                // Nothing came in half a second: it is not on its way.
                std::thread::sleep(Duration::from_millis(500));
                if self.try_records(topic).expect("Kafka answers") == last {
                    return last;
                }
            }
            last = found;
        }
        last
    }

    fn try_records(&self, topic: &str) -> Option<u64> {
        (0..PARTITIONS)
            .map(|partition| {
                let (low, high) = self.reader.fetch_watermarks(topic, partition, TIMEOUT).ok()?;
                Some((high - low) as u64)
            })
            .sum()
    }
}

fn client(bootstrap: &str, username: &str, password_file: &Path) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("security.protocol", "SASL_PLAINTEXT").set("log_level", "0");
    config.set("sasl.mechanism", "PLAIN").set("sasl.username", username);
    config.set("sasl.password", std::fs::read_to_string(password_file).expect("Kafka's start wrote it"));
    config
}
