//! What other clients see of a cluster: librdkafka and kafka-python through `tests/python/admin_referee.py`, and Kafka's own
//! command for quotas, which neither of them knows.

use std::io::Read as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::fetched;
use super::kafka::{Cluster, java, python, script};
use super::process::{Process, command};

/// Asks the clients; one answer per question.
pub fn ask(cluster: &Cluster, questions: &Value) -> Vec<Value> {
    let mut command = command(python());
    command.arg(script("admin_referee.py")).args(["--brokers", &cluster.brokers(), "--ask", &questions.to_string()]);
    let output = output_of("admin_referee.py", command);
    serde_json::from_str(&output).unwrap_or_else(|e| panic!("{e} in {output}"))
}

/// What `kafka-configs.sh` prints, with these arguments.
pub fn kafka_configs(cluster: &Cluster, arguments: &[&str]) -> String {
    kafka_command(cluster, "kafka.admin.ConfigCommand", arguments)
}

/// What `kafka-acls.sh` prints, with these arguments.
pub fn kafka_acls(cluster: &Cluster, arguments: &[&str]) -> String {
    kafka_command(cluster, "org.apache.kafka.tools.AclCommand", arguments)
}

fn kafka_command(cluster: &Cluster, class: &str, arguments: &[&str]) -> String {
    let mut command = command(java());
    command.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp"]).arg(fetched("kafka/lib").join("*"));
    command.args([class, "--bootstrap-server", &cluster.brokers()]).args(arguments);
    output_of(class, command)
}

fn output_of(name: &str, mut command: Command) -> String {
    command.stdout(Stdio::piped());
    let mut process = Process::spawn(name, command);
    let mut output = String::new();
    let mut pipe = process.child().stdout.take().expect("stdout is a pipe");
    pipe.read_to_string(&mut output).expect("it writes UTF-8");
    let status = process.wait();
    assert!(status.success(), "{name}: {status}: {output}");
    output
}
