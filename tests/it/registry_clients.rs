//! The embedded registry as other people's clients see it: Confluent's for Python and for JavaScript, on it and on a real
//! registry, with the same answers but for the real one's known departures.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use iguazu::dev::registry::{EmbeddedRegistry, Options};
use serde_json::Value;

use super::support::kafka::{python, script};
use super::support::process::{Process, command};
use super::support::{fetched, long, registry, unique};

/// What a registry answered, by the question.
type Answers = BTreeMap<String, Value>;

#[tokio::test]
async fn the_embedded_registry_answers_as_the_real_one_but_for_its_known_departures() {
    let embedded = EmbeddedRegistry::start(Options::default()).await.expect("a free port");
    let real = tokio::task::spawn_blocking(|| ask_python(&registry::shared().url())).await.expect("it does not panic");
    let ours = ask_python_beside(embedded.url()).await;
    let departures: Answers = parse(include_str!("../python/apicurio_departures.jsonl"));
    let mut wrong = Vec::new();
    for (step, answer) in &ours {
        let theirs = &real[step];
        match departures.get(step) {
            Some(known) if known == theirs && answer != theirs => {}
            None if answer == theirs => {}
            known => wrong.push(format!(
                "{step}\n  ours   {answer}\n  theirs {theirs}\n  known  {}",
                known.unwrap_or(&Value::Null)
            )),
        }
    }
    assert_eq!(ours.len(), real.len(), "both were asked the same");
    assert!(departures.keys().all(|step| ours.contains_key(step)), "a departure is about no question");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_client_for_javascript_gets_the_answers_that_the_one_for_python_gets() {
    // It brings 170 MB of other packages along, so that only the long form fetches it.
    if !long() {
        return;
    }
    let for_python = EmbeddedRegistry::start(Options::default()).await.expect("a free port");
    let for_javascript = EmbeddedRegistry::start(Options::default()).await.expect("a free port");
    let expected = ask_python_beside(for_python.url()).await;
    let url = for_javascript.url();
    let answers = tokio::task::spawn_blocking(move || {
        let mut command = command("node");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/registry_client.js");
        command.env("NODE_PATH", fetched("node/node_modules")).arg(script).args([&url, &unique("it-")]);
        answers(command)
    })
    .await
    .expect("it does not panic");
    assert!(answers.len() > 30, "{} questions", answers.len());
    let differ = answers.iter().filter(|(step, answer)| expected.get(*step) != Some(answer));
    let differ: Vec<_> =
        differ.map(|(step, answer)| format!("{step}: {answer}, Python's {:?}", expected.get(step))).collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

async fn ask_python_beside(url: String) -> Answers {
    tokio::task::spawn_blocking(move || ask_python(&url)).await.expect("it does not panic")
}

fn ask_python(url: &str) -> Answers {
    let mut command = command(python());
    command.arg(script("registry_client.py")).args([url, &unique("it-")]);
    answers(command)
}

/// Runs a client that prints a line of JSON for every question.
fn answers(mut command: Command) -> Answers {
    command.stdout(Stdio::piped());
    let mut client = Process::spawn("registry client", command);
    let mut printed = String::new();
    let stdout = client.child().stdout.as_mut().expect("its output is a pipe");
    stdout.read_to_string(&mut printed).expect("it prints UTF-8");
    assert!(client.wait().success(), "the client failed; what it said is above; it printed\n{printed}");
    parse(&printed)
}

fn parse(lines: &str) -> Answers {
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let step = line["step"].as_str().expect("every answer has its question").to_owned();
        (step, line["answer"].take())
    };
    lines.lines().filter(|line| line.starts_with('{')).map(line).collect()
}
