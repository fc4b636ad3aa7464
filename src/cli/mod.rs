//! The command line: one file a command, each thin.
//!
//! In: arguments. Out: text on stdout for people and programs, mistakes on stderr, and the process's exit code:
//! 0 done, 1 failed, 2 a difference was looked for and found, 64 wrong usage or configuration, 75 somebody must agree first, 130
//! interrupted. Never: ends the process itself, reads a setting from the environment; only `ctl` is told there where its plane is.

use std::ffi::OsString;
use std::io;

use clap::{Parser, Subcommand};

mod audit;
mod check;
mod control;
mod ctl;
mod dev;
mod find;
mod interrupt;
mod load;
mod moments;
mod probe;
mod proxy;
mod ready_file;
mod redrive;
mod schema;
mod sender;
mod spool;
mod tail;
mod target;
mod transcode;

pub use crate::dev::with_causes;

/// Done.
const DONE: u8 = 0;
/// The command could not do what it was asked to.
const FAILED: u8 = 1;
/// A difference was looked for and found, as `diff` and Terraform say it.
const DIFFERS: u8 = 2;
/// The arguments or the configuration are wrong (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;
/// It is not done yet: somebody must agree first, or it takes longer (`EX_TEMPFAIL`).
const WAITS: u8 = 75;
/// Stopped by ^C (128 + SIGINT, as shells say it).
const INTERRUPTED: u8 = 130;

/// Event ingestion in front of Kafka: POST events, find them in their topics, checked and schematised.
#[derive(Debug, Parser)]
#[command(name = "iguazu", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  iguazu dev                         everything on this machine: events go in and come out
  iguazu tail EVENT -n 10            ten events of a type as Kafka holds them, as JSON lines
  iguazu load --rate 5000/s --duration 10
                                     measure it: latency histogram, counts by outcome
  iguazu check iguazu.toml           all problems of a configuration at once
  iguazu proxy iguazu.toml           serve it
  iguazu ctl list topics             what there is on Kafka, whose it is, and how it is

While `iguazu dev` runs, `tail`, `load` and `schema` in the same folder need no addresses.
Exit codes: 0 done, 1 failed, 2 a difference was looked for and found, 64 wrong usage or
configuration, 75 somebody must agree first, or it takes longer, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: brokers, registry, proxy; post sample events and show them.
    Dev(dev::Args),
    /// Serve a configuration.
    Proxy(proxy::Args),
    /// Serve the API of the management plane: topics, users, access and quotas on request.
    Control(control::Args),
    /// Report all problems of a configuration.
    Check(check::Args),
    /// Read an event's topic back, as JSON lines.
    Tail(tail::Args),
    /// Where an event is, by its id: in Kafka, in the spool, or nowhere.
    Find(find::Args),
    /// Whether what was acknowledged is in Kafka: missing and duplicate ids.
    Audit(audit::Args),
    /// Generate load and measure it.
    Load(load::Args),
    /// Examples, derived Avro schemas, registration.
    Schema(schema::Args),
    /// Payloads from one form into another: Protobuf, JSON, Avro.
    Transcode(transcode::Args),
    /// What waits on disk: look at it, check it, deliver it.
    Spool(spool::Args),
    /// Send what failed or was rejected back, after a fix.
    Redrive(redrive::Args),
    /// Make API keys for senders.
    Sender(sender::Args),
    /// Ask a listener whether it is ready, for health checks of containers.
    Probe(probe::Args),
    /// Ask the management plane: topics, users, access; plan and apply files.
    Ctl(ctl::Args),
}

/// Why a command did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments or the configuration are wrong.
    #[error("{0}")]
    Usage(String),
    /// It could not be done.
    #[error("{0}")]
    Failed(String),
    /// It was not as it should be, and the command has said so already.
    #[error("not as it should be")]
    Told,
    /// What was compared is not the same, and the command has shown it.
    #[error("not the same")]
    Differs,
    /// It is not done yet, and goes on by itself or when somebody agrees.
    #[error("{0}")]
    Waits(String),
    /// ^C before the command was through.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// A [`Failure::Failed`] from anything that says what happened, with its causes.
    pub fn because(error: impl std::error::Error) -> Failure {
        Failure::Failed(with_causes(&error))
    }

    fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => USAGE,
            Failure::Failed(_) | Failure::Told => FAILED,
            Failure::Differs => DIFFERS,
            Failure::Waits(_) => WAITS,
            Failure::Interrupted => INTERRUPTED,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Whoever read our output has enough (`iguazu tail … | head`): that ends the command, as a signal would.
            io::ErrorKind::BrokenPipe => Failure::Told,
            _ => Failure::because(error),
        }
    }
}

/// Parses the arguments (the program's name first), runs the command, and gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(told) => {
            // Help and version are no mistakes. Nothing is left to say when stdout or stderr is gone.
            let _ = told.print();
            return if told.use_stderr() { USAGE } else { DONE };
        }
    };
    let result = match cli.command {
        Command::Dev(args) => dev::run(args),
        Command::Proxy(args) => proxy::run(args),
        Command::Control(args) => control::run(args),
        Command::Check(args) => check::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Find(args) => find::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Load(args) => load::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Transcode(args) => transcode::run(args),
        Command::Sender(args) => sender::run(args),
        Command::Spool(args) => spool::run(args),
        Command::Redrive(args) => redrive::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Ctl(args) => ctl::run(args),
    };
    match result {
        Ok(()) => DONE,
        Err(failure) => {
            if matches!(failure, Failure::Usage(_) | Failure::Failed(_) | Failure::Waits(_)) {
                eprintln!("iguazu: {failure}");
            }
            failure.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn check(line: &str, expected: u8) {
        assert_eq!(run(line.split(' ').map(OsString::from)), expected, "{line}");
    }

    #[test]
    fn wrong_usage_exits_64_and_help_0() {
        check("iguazu", USAGE);
        check("iguazu nonsense", USAGE);
        check("iguazu tail", USAGE);
        check("iguazu proxy", USAGE);
        check("iguazu control", USAGE);
        check("iguazu control no-such-file", USAGE);
        check("iguazu dev --port 70000", USAGE);
        check("iguazu dev --log-level loud", USAGE);
        check("iguazu dev --once --quiet", USAGE);
        check("iguazu check --log-level info f", USAGE);
        check("iguazu check", USAGE);
        check("iguazu check f --settings", USAGE);
        check("iguazu check --explain no.such.setting", USAGE);
        check("iguazu check --explain events.orders.topic", DONE);
        check("iguazu tail e --from middle", USAGE);
        check("iguazu tail e --config f --brokers b", USAGE);
        check("iguazu find e", USAGE);
        check("iguazu find e order-17 --brokers 127.0.0.1:9", USAGE);
        check("iguazu find e order-17 --since yesterday --brokers 127.0.0.1:9", USAGE);
        check("iguazu audit", USAGE);
        check("iguazu audit e --brokers 127.0.0.1:9", USAGE);
        check("iguazu audit e --brokers 127.0.0.1:9 --ledger no-such-file", USAGE);
        check("iguazu audit e --brokers 127.0.0.1:9 --ids no-such-file", USAGE);
        check("iguazu audit e --brokers 127.0.0.1:9 --last 5", USAGE);
        check("iguazu audit e --brokers 127.0.0.1:9 --admin http://127.0.0.1:1", FAILED);
        check("iguazu load http://127.0.0.1:1 --rate 5 --concurrency 5", USAGE);
        check("iguazu load http://127.0.0.1:1 --rate 0", USAGE);
        check("iguazu load http://127.0.0.1:1 --duration 5 --events 5", USAGE);
        check("iguazu load http://127.0.0.1:1 --format xml", USAGE);
        check("iguazu load 127.0.0.1:1 --event e --payload p", USAGE);
        check("iguazu load http://127.0.0.1:1 --ca no-such.pem --event e --payload p", USAGE);
        check("iguazu transcode", USAGE);
        check("iguazu transcode --message a.B --from json --to avro", USAGE);
        check("iguazu transcode --proto nowhere --message a.B --from json --to avro", USAGE);
        check("iguazu transcode --proto p --descriptors f --message a.B --from json --to avro", USAGE);
        check("iguazu transcode --message a.B --print-schema --from json", USAGE);
        check("iguazu transcode --message a.B --print-schema --mapping java-avro --uint64 wrap", USAGE);
        check("iguazu transcode --avro-schema nowhere --from avro --to xml", USAGE);
        check("iguazu transcode --avro-schema nowhere --from avro --to json", USAGE);
        check("iguazu sender new", USAGE);
        check("iguazu sender new s --events a*b", USAGE);
        check("iguazu probe 127.0.0.1:1", USAGE);
        check("iguazu probe http://127.0.0.1:1/ready --timeout 0", USAGE);
        check("iguazu probe http://127.0.0.1:1/ready --ca no-such.pem", USAGE);
        check("iguazu probe http://127.0.0.1:1/ready", FAILED);
        check("iguazu spool", USAGE);
        check("iguazu spool ls", USAGE);
        check("iguazu spool ls no-such-folder", FAILED);
        check("iguazu redrive iguazu.toml", USAGE);
        check("iguazu redrive no-such-file --failed", USAGE);
        check("iguazu redrive f --failed --since yesterday", USAGE);
        check("iguazu redrive f --failed --dead-letters e", USAGE);
        check("iguazu redrive f --failed --to http://127.0.0.1:1", USAGE);
        check("iguazu ctl", USAGE);
        check("iguazu ctl list things --url http://127.0.0.1:1", USAGE);
        check("iguazu ctl get topic orders --url http://127.0.0.1:1", USAGE);
        check("iguazu ctl create service orders group --url http://127.0.0.1:1", USAGE);
        check("iguazu ctl secret topic core/orders --url http://127.0.0.1:1", USAGE);
        check("iguazu ctl plan -f no-such-folder --url http://127.0.0.1:1", USAGE);
        check("iguazu ctl list topics --url 127.0.0.1:1", USAGE);
        check("iguazu ctl list topics --url http://127.0.0.1:1 --token-file no-such-file", USAGE);
        check("iguazu ctl list topics --url http://127.0.0.1:1", FAILED);
        check("iguazu ctl doctor --url http://127.0.0.1:1", FAILED);
        check("iguazu ctl completion tcsh", USAGE);
        check("iguazu help", DONE);
        check("iguazu --version", DONE);
        check("iguazu load --help", DONE);
    }

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_help_is_wider_than_it_may_be() {
        fn check(command: &clap::Command) {
            let wide: Vec<_> = [command.get_after_help(), command.get_after_long_help()]
                .into_iter()
                .flatten()
                .flat_map(|help| help.to_string().lines().map(str::to_owned).collect::<Vec<_>>())
                .filter(|line| line.chars().count() > 100)
                .collect();
            assert_eq!(wide, Vec::<String>::new(), "{}", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn the_help_is_what_the_documentation_shows() {
        let help = Cli::command().term_width(100).render_help().to_string();
        let golden = include_str!("help.txt");
        assert_eq!(help.trim_end(), golden.trim_end(), "if this is as intended, put it into src/cli/help.txt");
    }
}
