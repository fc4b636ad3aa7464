//! `iguazu schema check`: the gate of a pull request.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::ValueEnum;

use super::workspace::{self, Workspace, WorkspaceArgs};
use crate::cli::{Failure, with_causes};
use crate::schema::repository::lint::lint;
use crate::schema::repository::lock::Lock;
use crate::schema::repository::report::{Remark, Report, Severity, Status};
use crate::schema::repository::{drift, gate};

/// Arguments of `iguazu schema check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Judges the files alone, then every subject whose schema would change, those that only import the
change too: by Confluent's rules for Protobuf, by ours for the derived Avro schemas, and by asking
the registry. Each remark says where, why and what to do. Nothing is registered.

With --against nothing is asked of a registry: the base is another checkout of the repository.
Exit codes: 0 it may be merged, 1 it may not, 64 wrong usage.

Examples:
  iguazu schema check
  iguazu schema check --format json > verdict.json
  git worktree add ../base origin/main && iguazu schema check --against ../base
  iguazu schema check --drift                              registries still hold what was merged")]
pub struct Args {
    #[command(flatten)]
    workspace: WorkspaceArgs,
    /// Compare with another checkout of the repository instead of registries
    #[arg(long, value_name = "DIR", conflicts_with = "drift")]
    against: Option<PathBuf>,
    /// Say whether registries still hold what the files and the lock say
    #[arg(long)]
    drift: bool,
    /// How the verdict is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON document
    Json,
}

/// Runs it.
pub async fn run(args: Args) -> Result<(), Failure> {
    let workspace = args.workspace.read()?;
    let report = match &args.against {
        Some(base) => against(&args, &workspace, base)?,
        None if workspace.places.is_empty() => {
            let help = "no registry is named; add `[registries.NAME]`, or compare with `--against DIR`";
            return Err(Failure::Usage(help.to_owned()));
        }
        None => of_registries(&workspace, args.drift).await?,
    };
    let mut out = io::stdout().lock();
    match args.format {
        Format::Text => print(&mut out, &report)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    if report.ok { Ok(()) } else { Err(Failure::Told) }
}

fn against(args: &Args, workspace: &Workspace, base: &std::path::Path) -> Result<Report, Failure> {
    let mut report = Report::default();
    let repository = workspace.repository(&args.workspace.events()?)?;
    report.add(None, lint(&repository));
    let (folders, messages) = args.workspace.read_base(base, workspace)?;
    let old = workspace::repository(&folders, &messages)?;
    match workspace::entries(&repository) {
        // What the base cannot register is no base to compare with, message by message; what it can is.
        Ok(entries) => {
            gate::against_files(&entries, &old.entries().unwrap_or_default(), workspace.level, &mut report);
        }
        Err(faults) => report.add(None, faults),
    }
    Ok(report)
}

/// Judges by every registry, or says what has drifted in them.
pub async fn of_registries(workspace: &Workspace, drifted: bool) -> Result<Report, Failure> {
    let mut report = Report::default();
    let lock = workspace.lock.as_deref().map(read_lock).transpose()?.flatten();
    for place in &workspace.places {
        let repository = workspace.repository(&place.messages)?;
        if !drifted {
            report.add(None, lint(&repository));
        }
        match workspace::entries(&repository) {
            Ok(entries) if drifted => {
                drift::compare(&place.registry, &entries, workspace.level, lock.as_ref(), &mut report).await
            }
            Ok(entries) => gate::against_registry(&place.registry, &entries, workspace.level, &mut report).await,
            Err(faults) => {
                report.add(None, faults);
                Ok(())
            }
        }
        .map_err(Failure::because)?;
    }
    Ok(report)
}

/// The lock, if there is one.
pub fn read_lock(path: &std::path::Path) -> Result<Option<Lock>, Failure> {
    Lock::read(path).map_err(|error| Failure::Usage(format!("{} {}", path.display(), with_causes(&error))))
}

/// What a person wants to know: what would be done, what is wrong, the verdict.
pub fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let changes = report.subjects.iter().filter(|subject| subject.status != Status::Unchanged);
    let mut changed = 0;
    for subject in changes {
        changed += 1;
        writeln!(out, "{subject}")?;
    }
    let mut remarks: Vec<&Remark> = report.remarks.iter().collect();
    remarks.sort_by_key(|remark| remark.severity);
    for remark in &remarks {
        writeln!(out, "{remark}")?;
    }
    let errors = remarks.iter().filter(|remark| remark.severity == Severity::Error).count();
    let warnings = remarks.iter().filter(|remark| remark.severity == Severity::Warning).count();
    let unchanged = report.subjects.len() - changed;
    let verdict = if report.ok { "ok" } else { "not ok" };
    writeln!(out, "{verdict}: {changed} changed, {unchanged} unchanged, {errors} errors, {warnings} warnings")
}
