//! `iguazu tail EVENT`: reads an event's topic back, as JSON lines.
//!
//! In: an event name and where its brokers and registry are. Out: a line of JSON for each record of the event, one with an
//! `error` for a record that cannot be decoded. Never: commits an offset, shows a field that is marked sensitive.

use std::io::{self, Write as _};
use std::time::Duration;

use clap::ValueEnum;

use super::Failure;
use super::interrupt::Interrupt;
use super::target::{Target, TargetArgs};
use crate::dev::decode::{self, Decoder};
use crate::dev::read_back::{self, TopicReader};
use crate::produce::settings;

/// Arguments of `iguazu tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A line has the envelope (event, id, source, time, received, key, headers, properties, sender), the
record's partition and offset, and its payload; fields that the event type calls `sensitive` show
\"***\". A record that cannot be decoded has an `error` instead of what is missing.

Records of a partition come in their order. Partitions come as brokers answer, so the first N of -n
are the oldest of their partitions and not of the whole topic. With fewer records it waits for more.

Examples:
  iguazu tail delivery.v1.StatusChanged                 beside a running `iguazu dev`
  iguazu tail orders.v1.OrderPlaced -n 1 | jq .payload
  iguazu tail orders.v1.OrderPlaced --from end --config /etc/iguazu.toml
  iguazu tail page_viewed --brokers kafka-1:9092 --registry http://registry:8081 --topic web")]
pub struct Args {
    /// Name of the event
    event: String,
    /// Where to begin
    #[arg(long, value_enum, default_value = "beginning")]
    from: From,
    /// Stop after so many records [default: follow new ones until ^C]
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// The oldest record that is still there
    Beginning,
    /// What comes from now on
    End,
}

/// How soon ^C is seen while nothing comes.
const POLL: Duration = Duration::from_millis(100);

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let target = args.target.find(&args.event)?;
    let event_type = &target.event_type;
    let from = match args.from {
        From::Beginning => read_back::Start::Beginning,
        From::End => read_back::Start::End,
    };
    let reader = open(&target, &from)?;
    let decoder = Decoder::new(target.registry.as_ref(), decode::subjects(event_type)).map_err(Failure::because)?;
    let mut out = io::stdout().lock();
    let mut left = args.count;
    while left != Some(0) {
        if interrupt.happened() {
            return Err(Failure::Interrupted);
        }
        let Some(record) = reader.next(POLL).map_err(|error| target.unreached(&error))? else { continue };
        let line = decoder.line(&record, &event_type.sensitive);
        // A topic may hold several event types; records that do not say are shown.
        if line.event.as_ref().is_some_and(|event| *event != event_type.name) {
            continue;
        }
        serde_json::to_writer(&mut out, &line).map_err(io::Error::from)?;
        writeln!(out)?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// Opens the event's topic.
pub fn open(target: &Target, from: &read_back::Start) -> Result<TopicReader, Failure> {
    let connection = settings::connection(&target.cluster);
    let bootstrap = target.cluster.brokers.join(",");
    TopicReader::open(&bootstrap, &connection, &target.event_type.topic, from).map_err(|error| target.unreached(&error))
}
