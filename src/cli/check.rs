//! `iguazu check CONFIG`: all problems of a configuration at once.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::config::{self, Config};

/// Arguments of `iguazu check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 64 when there is a problem: each is one line, `FILE:LINE: KEY: what is wrong`.
Nothing is connected to; `/ready` of a running proxy says what its clusters and registries lack.")]
pub struct Args {
    /// The file.
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let config = load(&args.config)?;
    let mut out = io::stdout().lock();
    for warning in &config.warnings {
        writeln!(out, "{}: warning: {warning}", args.config.display())?;
    }
    writeln!(out, "{}: {}", args.config.display(), summary(&config))?;
    Ok(())
}

/// Reads a configuration; a [`Failure::Usage`] names all its problems, one a line.
pub fn load(path: &Path) -> Result<Config, Failure> {
    config::load(path).map_err(|problems| {
        let count = problems.len();
        let mut text = format!("{}: {}", path.display(), counted(count, "problem", "problems"));
        for problem in problems {
            text.push_str(&format!("\n  {problem}"));
        }
        Failure::Usage(text)
    })
}

fn summary(config: &Config) -> String {
    let parts = [
        counted(config.events.len(), "event type", "event types"),
        counted(config.clusters.len(), "cluster", "clusters"),
        counted(config.registries.len(), "registry", "registries"),
        counted(config.senders.len(), "sender", "senders"),
    ];
    format!("ok, {}", parts.join(", "))
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_as_english() {
        assert_eq!(counted(0, "registry", "registries"), "0 registries");
        assert_eq!(counted(1, "registry", "registries"), "1 registry");
    }
}
