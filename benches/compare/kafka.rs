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
const TIMEOUT: Duration = Duration::from_secs(10);

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
        // Asked for by name: a look at its partitions that comes too early would wait long for what is cached.
        wait_for("every partition has a leader", || {
            let metadata = self.reader.fetch_metadata(Some(&name), TIMEOUT).ok()?;
            let partitions = metadata.topics().first()?.partitions();
            let all_led = partitions.len() == PARTITIONS as usize && partitions.iter().all(|one| one.leader() >= 0);
            all_led.then_some(())
        });
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

    /// Bytes of a topic's records on the broker's disk, which is below this folder.
    pub fn bytes(&self, folder: &Path, topic: &str) -> u64 {
        let prefix = format!("{topic}-");
        let mut below = vec![folder.to_owned()];
        let mut bytes = 0;
        while let Some(folder) = below.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                let (path, is_folder) = (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
                let of_topic = |path: &Path| {
                    let name = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
                    name.is_some_and(|name| name.starts_with(&prefix))
                        && path.extension().is_some_and(|end| end == "log")
                };
                if is_folder {
                    below.push(path);
                } else if of_topic(&path) {
                    bytes += entry.metadata().map_or(0, |file| file.len());
                }
            }
        }
        bytes
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
