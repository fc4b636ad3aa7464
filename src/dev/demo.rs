//! The demonstration: posts sample events through real HTTP, shows each reply and what Kafka then holds, and checks both.
//!
//! In: a running [`Dev`]. Out: text, and whether everything was as it should be. Never: shows a tick for what was not read
//! back from Kafka.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde::Deserialize;

use super::client::{Address, Answer, ClientError, Connection};
use super::decode::{Line, Text};
use super::plan::{Expected, Sent, Step, steps};
use super::screen::{Screen, shell_word};
use super::site::SiteFile;
use super::{Dev, SITE_FILE, with_causes};
use crate::outcome::{Balance, Code};
use crate::route::{Encoding, KeySource};

/// How long a reply, and then a record, may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What follows a demonstration.
#[derive(Clone, Copy, Debug)]
pub enum Stay<'s> {
    /// The end.
    No,
    /// Whatever the user tries, with commands that find the dev by this file, if it could be written.
    UntilInterrupted(Option<&'s SiteFile>),
}

/// Shows everything; says whether all of it was as it should be.
pub fn show(dev: &Dev, screen: &mut Screen, took: Duration, stay: Stay<'_>) -> io::Result<bool> {
    greet(dev, screen, took)?;
    let steps = steps(&dev.events, &dev.addresses.http, &dev.folder.path)?;
    let mut right = true;
    for (n, step) in steps.iter().enumerate() {
        right &= show_step(dev, screen, n + 1, step)?;
    }
    let total = steps.iter().flat_map(|step| &step.sent).count();
    screen.heading(if right { "All as it should be" } else { "Not as it should be" }, "")?;
    let expected = format!("{total} events accepted, each read back from Kafka and equal to what was sent");
    screen.verdict(right, if right { &expected } else { "the red lines say what is wrong" })?;
    if let Stay::UntilInterrupted(site) = stay {
        show_commands(dev, screen, &steps, site)?;
    }
    Ok(right)
}

/// Shows where everything is, and how to begin where there are no events yet.
pub fn greet_self_serve(dev: &Dev, screen: &mut Screen, took: Duration) -> io::Result<bool> {
    greet(dev, screen, took)?;
    screen.heading("Try it", "^C ends it")?;
    let binary = std::env::current_exe().unwrap_or_else(|_| Path::new("iguazu").to_owned());
    let binary = shell_word(&binary.to_string_lossy());
    let group = super::control::GROUP;
    let mut say = |what: &str, command: &str| {
        screen.paragraph(what)?;
        screen.command(&format!("{binary} ctl {command}"))?;
        screen.line("")
    };
    say("a service, which owns everything else", &format!("create service checkout group={group}"))?;
    say("all that an event needs", "onboard checkout.paid --service checkout --cluster dev")?;
    say("the key to send it with, which is given out once", "secret sender checkout --out checkout.key")?;
    Ok(true)
}

/// The last lines.
pub fn farewell(screen: &mut Screen, balance: &Balance) -> io::Result<()> {
    let Balance { received, delivered, rejected, failed, lost, in_memory, .. } = balance;
    screen.line("")?;
    let text = format!(
        "ledger: {received} received = {delivered} delivered + {rejected} rejected + {failed} failed + {lost} lost + {in_memory} in memory"
    );
    screen.verdict(balance.holds(), &text)
}

fn greet(dev: &Dev, screen: &mut Screen, took: Duration) -> io::Result<()> {
    let addresses = &dev.addresses;
    screen.heading("iguazu dev", &format!("ready in {:.2} s", took.as_secs_f64()))?;
    screen.main_pair("events", &format!("http://{}/v1/events", addresses.http))?;
    screen.pair("admin", &format!("http://{}  /ready /live /metrics", addresses.admin))?;
    let kind = match &addresses.login {
        None => "embedded".to_owned(),
        Some(login) => format!("real; {}'s password is in {}", login.username, login.password_file),
    };
    screen.pair("Kafka", &format!("{}  {kind}", addresses.brokers))?;
    screen.pair("registry", &format!("{}  embedded, Confluent REST", addresses.registry))?;
    screen.pair("control", &format!("http://{}  the management plane, for `iguazu ctl`", addresses.control))?;
    let control = dev.control();
    screen.pair("tokens", &format!("{}  of an admin", control.token_file.display()))?;
    screen.pair("", &format!("{}  of whoever agrees to what the admin asks for", control.reviewer_file.display()))?;
    screen.paragraph(match &addresses.login {
        None => {
            "The embedded brokers take a free port at each start, live in this process and keep only the last 5 MB of a \
             partition: they are for trying out, not for measuring disks."
        }
        Some(_) => "Kafka is one real node on free ports, with users and access rules; its data is gone at the end.",
    })?;
    if !dev.left_out.is_empty() {
        screen.paragraph(&format!("Left out of your configuration, here: {}.", dev.left_out.join(", ")))?;
    }
    screen.line("")?;
    for (n, event) in dev.events.iter().take(EVENTS_SHOWN).enumerate() {
        let event_type = &event.event_type;
        let key = match &event_type.key {
            KeySource::Field(path) => format!(", key {path}"),
            KeySource::Envelope | KeySource::None => String::new(),
        };
        let topic = if event_type.topic == event_type.name { "of the same name" } else { event_type.topic.as_str() };
        let label = if n == 0 { "event types" } else { "" };
        let encoding = match event_type.encoding {
            Encoding::Avro => "Avro",
            Encoding::Protobuf => "Protobuf",
            Encoding::Json | Encoding::RawJson => "JSON",
        };
        screen.pair(label, &format!("{}  {encoding}, topic {topic}{key}", event_type.name))?;
    }
    match dev.events.len().saturating_sub(EVENTS_SHOWN) {
        0 => Ok(()),
        more => screen.pair("", &format!("and {more} more")),
    }
}

/// Event types that are listed.
const EVENTS_SHOWN: usize = 12;

fn show_step(dev: &Dev, screen: &mut Screen, n: usize, step: &Step) -> io::Result<bool> {
    screen.heading(&format!("{n}  {}", step.title), "")?;
    match &step.command {
        Some(command) => screen.command(command)?,
        None => screen.main_pair("request", &format!("POST {}  {}", step.post.path, step.content_type))?,
    }
    for body in &step.shown {
        screen.json("", body)?;
    }
    let answer = match post(dev, step) {
        Ok(answer) => answer,
        Err(error) => {
            screen.verdict(false, &with_causes(&error))?;
            return Ok(false);
        }
    };
    screen.pair("reply", &answer.status.to_string())?;
    screen.json("", String::from_utf8_lossy(&answer.body).trim())?;
    let mut right = check_reply(screen, step, &answer)?;
    if step.sent.is_empty() {
        return Ok(right);
    }
    let found = match find(dev, &step.sent) {
        Ok(found) => found,
        Err(problem) => {
            screen.verdict(false, &problem)?;
            return Ok(false);
        }
    };
    let reply = Reply::of(&answer);
    for (n, (sent, line)) in step.sent.iter().zip(&found).enumerate() {
        right &= match line {
            Some(line) if !reply.agrees(line) => {
                screen.verdict(false, "the reply names another partition or offset")?;
                false
            }
            None => {
                screen.verdict(false, &format!("event {} is not in topic {}", sent.id, sent.topic))?;
                false
            }
            Some(line) if n == 0 => show_record(dev, screen, sent, line)?,
            Some(line) => show_more(screen, sent, line)?,
        };
    }
    Ok(right)
}

fn post(dev: &Dev, step: &Step) -> Result<Answer, ClientError> {
    let address =
        Address::parse(&format!("http://{}", dev.addresses.http), None).expect("an address made of our own listener's");
    dev.runtime.block_on(async {
        let mut connection = Connection::open(&address, TIMEOUT).await?;
        connection.post(&step.post, TIMEOUT).await
    })
}

/// The parts of a reply that are checked.
#[derive(Debug, Default, Deserialize)]
struct Reply {
    #[serde(default)]
    results: Vec<ReplyResult>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReplyResult {
    id: String,
    code: String,
    message: String,
    partition: Option<i32>,
    offset: Option<i64>,
}

impl Reply {
    fn of(answer: &Answer) -> Reply {
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// Whether what the reply says of an event's record is where it was found; it need not say anything.
    fn agrees(&self, line: &Line) -> bool {
        let result = self.results.iter().find(|result| Some(&result.id) == line.id.as_ref());
        result.is_none_or(|result| {
            result.partition.is_none_or(|partition| partition == line.partition)
                && result.offset.is_none_or(|offset| offset == line.offset)
        })
    }
}

fn check_reply(screen: &mut Screen, step: &Step, answer: &Answer) -> io::Result<bool> {
    let reply = Reply::of(answer);
    let status = answer.status.as_u16();
    let problem = match &step.expected {
        Expected::Accepted { status: wanted } => {
            let went_through = [Code::Enqueued, Code::Acknowledged].map(Code::as_str);
            let all = reply.results.iter().all(|result| went_through.contains(&result.code.as_str()));
            (status != *wanted || !all).then(|| format!("expected {wanted} for every event"))
        }
        Expected::Refused { code, names } => {
            let says = |message: &str| names.iter().all(|name| message.contains(name));
            let told = reply.results.iter().any(|r| r.code == code.as_str() && says(&r.message));
            let wanted = || format!("expected {} `{}` that names `{}`", code.status(), code.as_str(), names.join("."));
            (status != code.status() || !told).then(wanted)
        }
    };
    match (&problem, &step.expected) {
        (Some(problem), _) => screen.verdict(false, problem)?,
        (None, Expected::Refused { .. }) => {
            screen.verdict(true, "refused, with the code that it should have, and the message says where")?;
        }
        (None, Expected::Accepted { .. }) => {}
    }
    Ok(problem.is_none())
}

/// The records of these events, as soon as Kafka has them all.
fn find(dev: &Dev, sent: &[Sent]) -> Result<Vec<Option<Line>>, String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let mut found = Vec::with_capacity(sent.len());
        for sent in sent {
            let lines = dev.pages.lines(&sent.event).map_err(|error| with_causes(&error))?;
            found.push(lines.into_iter().find(|line| line.id.as_deref() == Some(sent.id.as_str())));
        }
        if found.iter().all(Option::is_some) || Instant::now() >= deadline {
            return Ok(found);
        }
        // An enqueued event is in Kafka after the linger; the embedded brokers cannot tell when.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One record in full: where it is, its headers as Kafka has them, its value decoded.
fn show_record(dev: &Dev, screen: &mut Screen, sent: &Sent, line: &Line) -> io::Result<bool> {
    let place = format!("topic {}, partition {}, offset {}", sent.topic, line.partition, line.offset);
    screen.main_pair("Kafka", &place)?;
    let raw = match dev.pages.raw(&sent.event, line.partition, line.offset) {
        Ok(Some(raw)) => raw,
        Ok(None) => return screen.verdict(false, "the record is not kept any more").map(|()| false),
        Err(error) => return screen.verdict(false, &with_causes(&error)).map(|()| false),
    };
    screen.pair("key", &raw.record.key.as_deref().map_or("none".to_owned(), shown))?;
    for (name, value) in &raw.record.headers {
        screen.pair(name, &value.as_deref().map_or("null".to_owned(), shown))?;
    }
    let bytes = raw.record.value.as_ref().map_or(0, Vec::len);
    let how = if raw.schema.is_empty() { String::new() } else { format!(", {} in front", raw.schema) };
    screen.pair("value", &format!("{bytes} bytes{how}; decoded:"))?;
    screen.json("", line.payload.as_ref().map_or("", |payload| payload.get()))?;
    let problem = differs(sent, line);
    screen.verdict(problem.is_none(), problem.as_deref().unwrap_or("equal to what was sent"))?;
    Ok(problem.is_none())
}

/// A record in one line.
fn show_more(screen: &mut Screen, sent: &Sent, line: &Line) -> io::Result<bool> {
    let problem = differs(sent, line);
    let place = format!("partition {} offset {}  {}  {}", line.partition, line.offset, sent.event, sent.id);
    match &problem {
        None => screen.verdict(true, &place)?,
        Some(problem) => screen.verdict(false, &format!("{place}: {problem}"))?,
    }
    Ok(problem.is_none())
}

fn shown(bytes: &[u8]) -> String {
    match Text::from(bytes) {
        Text::Utf8(text) => text,
        Text::Bytes { base64 } => format!("base64 {base64}"),
    }
}

/// What of the record is not as sent.
fn differs(sent: &Sent, line: &Line) -> Option<String> {
    if let Some(error) = &line.error {
        return Some(format!("it cannot be decoded: {error}"));
    }
    if line.event.as_deref() != Some(sent.event.as_str()) {
        return Some(format!("its envelope says event {:?}", line.event));
    }
    let Some(payload) = &line.payload else { return Some("it has no payload".to_owned()) };
    let same = match &sent.message {
        Some(message) => parsed(message, payload.get()).is_some_and(|got| parsed(message, &sent.payload) == Some(got)),
        None => {
            let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
            value(payload.get()).is_some_and(|got| value(&sent.payload) == Some(got))
        }
    };
    (!same).then(|| "the value is not what was sent".to_owned())
}

/// A payload as its message, so that what JSON can say in two ways is the same.
fn parsed(message: &MessageDescriptor, json: &str) -> Option<DynamicMessage> {
    let mut parser = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(message.clone(), &mut parser).ok()
}

fn show_commands(dev: &Dev, screen: &mut Screen, steps: &[Step], site: Option<&SiteFile>) -> io::Result<()> {
    screen.heading("Try it", "^C ends it")?;
    let second = site.filter(|site| site.name() != SITE_FILE);
    let config = second.map_or_else(String::new, |site| format!(" --config {}", site.name()));
    if second.is_some() {
        let text = "Another `iguazu dev` runs in this folder; without `--config` commands find that one.";
        screen.paragraph(text)?;
        screen.line("")?;
    }
    let binary = std::env::current_exe().unwrap_or_else(|_| Path::new("iguazu").to_owned());
    let binary = shell_word(&binary.to_string_lossy());
    let mut say = |what: &str, command: &str| {
        screen.paragraph(what)?;
        screen.command(command)?;
        screen.line("")
    };
    if let Some(event) = dev.events.first() {
        let name = shell_word(&event.event_type.name);
        say("a valid payload, and the curl line that posts it", &format!("{binary} schema example {name}{config}"))?;
        say("what Kafka holds, as JSON lines", &format!("{binary} tail {name}{config}"))?;
        say(
            "five thousand events a second, then compare with Kafka",
            &format!("{binary} load --rate 5000/s --duration 5 --verify{config}"),
        )?;
    }
    if let Some(step) = steps.iter().find(|step| step.command.is_some()) {
        say("a bare Protobuf message", step.command.as_deref().unwrap_or_default())?;
    }
    say("the metrics", &format!("curl -s http://{}/metrics", dev.addresses.admin))
}

/// A request body in a file, for `curl --data-binary @FILE`.
pub fn write_sample(folder: &Path, name: &str, body: &Bytes) -> io::Result<std::path::PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, body)?;
    Ok(path)
}
