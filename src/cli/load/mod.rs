//! `iguazu load URL`: sends events at a pace and says what became of them.
//!
//! In: a URL, an event, a pace and an end. Out: a latency histogram, counts by outcome, and with `--verify` whether Kafka
//! holds exactly what was accepted. Never: several event types in one run, success for a run of which an event was refused.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prost_reflect::MessageDescriptor;

use super::interrupt::Interrupt;
use super::target::{Target, TargetArgs};
use super::{Failure, with_causes};
use crate::dev::client::{Address, Connection};
use crate::dev::example::Example;
use crate::route::{KeySource, Reply};

mod drive;
mod tally;
mod template;
mod verify;

use drive::{Driven, End, Pace, Progress, Run};
use tally::{Fate, RunSummary, grouped};
use template::{Bodies, EventTemplate, Format, PLACEHOLDER, RunId};
use verify::Watch;

/// Connections when neither `--concurrency` nor `--connections` says how many.
const CLOSED_CONNECTIONS: usize = 16;
const OPEN_CONNECTIONS: usize = 64;
/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a run takes when nothing says.
const DURATION: Duration = Duration::from_secs(10);

/// Arguments of `iguazu load`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Open loop (--rate): requests are due at fixed moments, and a latency counts from the moment one
was due, so that waiting for a slow server is measured and not hidden (coordinated omission).
Closed loop (--concurrency): each connection sends its next request after the last reply.

Every event has an id of its own, and its payload is a function of that id. With --verify the
topic is read while the run goes on; the run fails unless Kafka holds just what was accepted.

Exit code 1 when any event was refused, not answered or not sent, or when --verify finds a
difference.

Examples:
  iguazu load                                              beside a running `iguazu dev`
  iguazu load --rate 5000/s --duration 30 --reply acknowledged
  iguazu load http://127.0.0.1:8080 --concurrency 64 --batch 100 --format ndjson
  iguazu load --events 100000 --batch 100 --format protobuf --verify
  iguazu load https://events.acme.dev --event page.viewed --payload page.json --api-key-file key")]
pub struct Args {
    /// Where the proxy listens, `http://host:port` or `https://host:port` [default: the listener in the configuration]
    url: Option<String>,
    /// PEM file with the authority of an `https` proxy's certificate [default: those of this system]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Name of the event [default: the first one of the configuration]
    #[arg(long)]
    event: Option<String>,
    /// Open loop: events a second
    #[arg(long, value_name = "N/s", value_parser = rate, conflicts_with = "concurrency")]
    rate: Option<f64>,
    /// Closed loop: requests at a time [default: 16, if there is no --rate]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Option<u16>,
    /// Connections of an open loop: the most requests at a time [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), requires = "rate")]
    connections: Option<u16>,
    /// Events in a request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// How long, in seconds [default: 10, if there is no --events]
    #[arg(long, value_name = "S", value_parser = seconds, conflicts_with = "events")]
    duration: Option<Duration>,
    /// How many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    events: Option<u64>,
    /// How they are written
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
    /// What the reply waits for [default: what the event type says]
    #[arg(long, value_name = "WAIT", value_parser = reply)]
    reply: Option<Reply>,
    /// Partition key of every event; `{id}` in it is the event's id
    #[arg(long)]
    key: Option<String>,
    /// JSON payload instead of an example; `{id}` in it is the event's id
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// File with the API key of a sender
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Read the topic and compare it with what was accepted
    #[arg(long)]
    verify: bool,
    /// Write the ids of the events that were accepted, one a line, for `iguazu audit --ids`
    #[arg(long, value_name = "FILE")]
    ids_file: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let plan = runtime.block_on(plan(&args))?;
    let watch = match &plan.target {
        Some(target) if args.verify => Some(Watch::start(target, plan.run.id)?),
        _ => None,
    };

    let what = plan.what(&args);
    let (end, pace, id) = (plan.run.end, plan.run.pace, plan.run.id);
    let ids_file = args.ids_file.as_deref().map(create_ids_file).transpose()?;
    let progress = Arc::new(Progress::default());
    eprintln!("{what}");
    let driving = runtime.spawn(drive::drive(plan.run, Arc::clone(&progress)));
    show_progress(&progress, end, &interrupt, || driving.is_finished());
    let Driven { tally, took, unsent } =
        runtime.block_on(driving).map_err(|_| Failure::Failed("the run panicked; this is a bug".to_owned()))?;

    let mut out = io::stdout().lock();
    let interrupted = interrupt.happened();
    let measured_from = match pace {
        Pace::EventsPerSecond(_) => "from the moment it was due to the end of its reply",
        Pace::AsFastAsAnswered => "from sending it to the end of its reply",
    };
    // A run that was interrupted did not mean to send the rest.
    let unsent = if interrupted { 0 } else { unsent };
    let summary = RunSummary { what: format!("{} events", grouped(tally.events)), measured_from, took, unsent };
    tally.print(&mut out, &summary)?;
    if let Some(file) = ids_file {
        write_ids(file, &id, &tally.fates())?;
    }
    let verified = match watch {
        None => true,
        Some(watch) => {
            let verdict = watch.finish(&tally.fates())?;
            verdict.print(&mut out)?;
            verdict.holds()
        }
    };
    out.flush()?;
    match tally.shortfall(unsent) {
        _ if interrupted => Err(if verified { Failure::Interrupted } else { Failure::Told }),
        Some(shortfall) => Err(Failure::Failed(shortfall)),
        None if verified => Ok(()),
        None => Err(Failure::Told),
    }
}

/// Made before the run: a file that cannot be written is told before anything is sent.
fn create_ids_file(path: &std::path::Path) -> Result<std::fs::File, Failure> {
    std::fs::File::create(path).map_err(|error| Failure::Usage(format!("cannot write {}: {error}", path.display())))
}

fn write_ids(file: std::fs::File, run: &RunId, fates: &[Fate]) -> io::Result<()> {
    let mut file = io::BufWriter::new(file);
    for (n, _) in (0..).zip(fates).filter(|(_, fate)| **fate == Fate::Accepted) {
        file.write_all(&run.id(n))?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// A run, and the event type it sends if it is known.
struct Plan {
    run: Run,
    event: String,
    target: Option<Target>,
}

impl Plan {
    /// What is about to happen, in one line.
    fn what(&self, args: &Args) -> String {
        let run = &self.run;
        let pace = match run.pace {
            Pace::EventsPerSecond(rate) => format!("{} events/s", grouped(rate.round() as u64)),
            Pace::AsFastAsAnswered => "as fast as answered".to_owned(),
        };
        let end = match run.end {
            End::After(duration) => format!("for {} s", duration.as_secs_f64()),
            End::Events(events) => format!("{} events", grouped(events)),
        };
        let batch = if run.batch == 1 { "one event".to_owned() } else { format!("{} events", run.batch) };
        let format = format!("{:?}", args.format).to_lowercase();
        let connections =
            if run.connections == 1 { "1 connection".to_owned() } else { format!("{} connections", run.connections) };
        format!("{} {} to {}: {pace}, {batch} a request, {end}, {connections}", format, self.event, run.address)
    }
}

async fn plan(args: &Args) -> Result<Plan, Failure> {
    if let Some(url) = &args.url {
        address(url, args)?;
    }
    let known = known_target(args)?;
    let url = match (&args.url, &known) {
        (Some(url), _) => url.clone(),
        (None, Some((_, listen))) => listen.clone(),
        (None, None) => return Err(Failure::Usage("name the URL of the proxy: `iguazu load http://host:port`".into())),
    };
    let address = address(&url, args)?;
    let target = known.map(|(target, _)| target);
    reach(&address, target.as_ref().filter(|_| args.url.is_none())).await?;
    let event = match (&args.event, &target) {
        (Some(event), _) => event.clone(),
        (None, Some(target)) => target.event_type.name.clone(),
        (None, None) => return Err(Failure::Usage("name the event: `--event NAME`".to_owned())),
    };
    if args.verify && target.is_none() {
        return Err(Failure::Usage("--verify reads Kafka: name its `--brokers` or a `--config`".to_owned()));
    }
    let message = match &target {
        Some(target) if target.registry.is_some() => target.message().await?,
        _ => None,
    };
    let payload = payload(args, &event, message.as_ref(), target.as_ref())?;
    let key = args.key.as_ref().map(|key| key.replace("{id}", PLACEHOLDER));
    let template = EventTemplate { event: &event, payload: &payload, message: message.as_ref(), key: key.as_deref() };
    let bodies = Bodies::new(&template, args.format, args.batch as usize).map_err(Failure::Usage)?;

    let mut headers = vec![("content-type".to_owned(), args.format.content_type().to_owned())];
    if let Some(file) = &args.api_key_file {
        let key = std::fs::read_to_string(file)
            .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))?;
        headers.push(("authorization".to_owned(), format!("Bearer {}", key.trim())));
    }
    let query = args.reply.map(|reply| format!("?reply={}", reply.as_str())).unwrap_or_default();
    let (pace, connections) = match args.rate {
        Some(rate) => (Pace::EventsPerSecond(rate), args.connections.map_or(OPEN_CONNECTIONS, usize::from)),
        None => (Pace::AsFastAsAnswered, args.concurrency.map_or(CLOSED_CONNECTIONS, usize::from)),
    };
    let end = match (args.duration, args.events) {
        (_, Some(events)) => End::Events(events),
        (duration, None) => End::After(duration.unwrap_or(DURATION)),
    };
    let run = Run {
        address,
        path: format!("/v1/events{query}"),
        headers,
        bodies,
        id: RunId::new(),
        batch: args.batch,
        connections,
        pace,
        end,
        keeps_fates: args.verify || args.ids_file.is_some(),
    };
    Ok(Plan { run, event, target })
}

fn address(url: &str, args: &Args) -> Result<Address, Failure> {
    Address::parse(url, args.ca.as_deref()).map_err(|error| Failure::Usage(with_causes(&error)))
}

/// Connects once: a proxy that is not there, or that proves to be another, is told before anything is measured.
async fn reach(address: &Address, target: Option<&Target>) -> Result<(), Failure> {
    let hint = target.map_or("", Target::hint);
    let failed = |error| Failure::Failed(format!("{}{hint}", with_causes(&error)));
    Connection::open(address, CONNECT_TIMEOUT).await.map(drop).map_err(failed)
}

/// The event type and the URL of its proxy, where a configuration or flags say; a URL with a payload needs neither.
fn known_target(args: &Args) -> Result<Option<(Target, String)>, Failure> {
    if args.url.is_some() && args.payload.is_some() && args.event.is_some() && !args.verify {
        return Ok(None);
    }
    if args.url.is_some() && !args.target.is_given() {
        let what = "give `--event NAME --payload FILE`, or a `--config FILE`, or run `iguazu dev` in this folder";
        return Err(Failure::Usage(format!("what to send is not known: {what}")));
    }
    let Some((config, _)) = args.target.read()? else {
        let event = args.event.as_deref().ok_or_else(|| Failure::Usage("name the event: `--event NAME`".to_owned()))?;
        let url = args.url.clone().ok_or_else(|| Failure::Usage("name the URL of the proxy".to_owned()))?;
        return Ok(Some((args.target.find(event)?, url)));
    };
    let first = config.events.first().map(|event_type| event_type.name.clone());
    let event = args.event.clone().or(first);
    let event = event.ok_or_else(|| Failure::Usage("the configuration has no event type".to_owned()))?;
    let scheme = if config.http.tls.is_some() { "https" } else { "http" };
    Ok(Some((args.target.find(&event)?, format!("{scheme}://{}", config.http.listen))))
}

/// The payload with [`PLACEHOLDER`] where the id goes.
fn payload(
    args: &Args,
    event: &str,
    message: Option<&MessageDescriptor>,
    target: Option<&Target>,
) -> Result<String, Failure> {
    if let Some(file) = &args.payload {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))?;
        let text = text.replace("{id}", PLACEHOLDER);
        let json: Result<&serde_json::value::RawValue, _> = serde_json::from_str(&text);
        return match json {
            Ok(json) => Ok(json.get().to_owned()),
            Err(error) => Err(Failure::Usage(format!("{} is not JSON: {error}", file.display()))),
        };
    }
    match (message, target) {
        (Some(message), target) => {
            let key = target.and_then(|target| match &target.event_type.key {
                KeySource::Field(path) => Some(path.as_str()),
                _ => None,
            });
            Ok(template::with_placeholder(&Example::payload(0, message), message, key))
        }
        (None, Some(target)) if target.event_type.subject.is_none() => Ok(format!("{{\"id\":\"{PLACEHOLDER}\"}}")),
        _ => Err(Failure::Usage(format!(
            "the schema of `{event}` is not known, or not Protobuf; give a `--payload FILE` (`iguazu schema example {event} --payload-only` makes one)"
        ))),
    }
}

/// Shows how far the run is, on a terminal; stops it at ^C.
fn show_progress(progress: &Progress, end: End, interrupt: &Interrupt, is_done: impl Fn() -> bool) {
    let terminal = io::stderr().is_terminal();
    let length = match end {
        End::Events(events) => events,
        End::After(duration) => duration.as_millis() as u64,
    };
    let target = if terminal { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    let style = ProgressStyle::with_template("  {bar:30} {msg}").expect("the template is ours and constant");
    bar.set_style(style.progress_chars("━╸─"));
    let start = Instant::now();
    let (mut last, mut last_ended, mut per_second) = (start, 0, 0.0);
    while !is_done() {
        if interrupt.wait(Duration::from_millis(50)) {
            progress.stop.store(true, Relaxed);
            // It does not wait any more; the run ends when its last replies are there.
            std::thread::sleep(Duration::from_millis(20));
        }
        let (begun, ended, accepted) =
            (progress.begun.load(Relaxed), progress.ended.load(Relaxed), progress.accepted.load(Relaxed));
        if last.elapsed() >= Duration::from_millis(500) {
            per_second = (ended - last_ended) as f64 / last.elapsed().as_secs_f64();
            (last, last_ended) = (Instant::now(), ended);
        }
        bar.set_position(match end {
            End::Events(_) => ended,
            End::After(_) => (start.elapsed().as_millis() as u64).min(length),
        });
        let (accepted_text, rate) = (grouped(accepted), grouped(per_second.round() as u64));
        let refused = grouped(ended - accepted.min(ended));
        bar.set_message(format!(
            "{accepted_text} accepted, {refused} not, {} on the way, {rate}/s",
            grouped(begun - ended.min(begun))
        ));
    }
    bar.finish_and_clear();
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).replace('_', "");
    match number.parse::<f64>() {
        Ok(rate) if (0.01..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number of events a second from 0.01 to 10000000, such as `5000/s`".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('s').unwrap_or(text).parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a duration is a number of seconds from 0.1 to 86400".to_owned()),
    }
}

fn reply(text: &str) -> Result<Reply, String> {
    let found = Reply::ALL.into_iter().find(|reply| reply.as_str() == text);
    found.ok_or_else(|| "`enqueued`, `durable` or `acknowledged`".to_owned())
}
