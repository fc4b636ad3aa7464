//! `iguazu schema diff`: what differs between files and a registry, or between two versions.

use std::io::{self, Write};

use super::workspace::{self, WorkspaceArgs};
use crate::cli::Failure;
use crate::schema::repository::{Content, Entry};
use crate::schema::source::{Kind, SubjectVersion};
use crate::schema::structure::Structure;
use crate::schema::{Registry, RegistryError};

/// Arguments of `iguazu schema diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Protobuf texts are compared line by line, Avro schemas by what they mean. Exit code 0, whether they
differ or not; `iguazu schema check` is the gate.

Examples:
  iguazu schema diff                                       files against registries
  iguazu schema diff orders.v1.OrderPlaced                 one subject
  iguazu schema diff orders.v1.OrderPlaced --from 3 --to 5")]
pub struct Args {
    /// The subject [default: all whose schema differs]
    subject: Option<String>,
    /// Version to begin with [default: the newest]
    #[arg(long, value_name = "N", requires = "subject")]
    from: Option<u32>,
    /// Version to compare with [default: the files]
    #[arg(long, value_name = "N", requires = "subject")]
    to: Option<u32>,
    #[command(flatten)]
    workspace: WorkspaceArgs,
}

/// Runs it.
pub async fn run(args: Args) -> Result<(), Failure> {
    let workspace = args.workspace.read()?;
    let mut out = io::stdout().lock();
    for place in &workspace.places {
        let registry = &place.registry;
        if let (Some(subject), Some(to)) = (&args.subject, args.to) {
            let from = fetch(registry, subject, args.from).await?.ok_or_else(|| no_version(subject))?;
            let to = fetch(registry, subject, Some(to)).await?.ok_or_else(|| no_version(subject))?;
            show(&mut out, registry.name(), subject, &Side::of(&from), &Side::of(&to))?;
            continue;
        }
        let repository = workspace.repository(&place.messages)?;
        let entries = workspace::entries(&repository).map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            Failure::Failed(faults.join("\n"))
        })?;
        if let Some(subject) = args.subject.as_ref().filter(|s| entries.iter().all(|entry| entry.subject != **s)) {
            return Err(Failure::Usage(format!("the files have no subject `{subject}`; compare versions with `--to`")));
        }
        for entry in entries.iter().filter(|entry| args.subject.as_ref().is_none_or(|s| entry.subject == *s)) {
            let held = fetch(registry, &entry.subject, args.from).await?;
            let held = held.as_ref().map_or(Side::nothing(), Side::of);
            show(&mut out, registry.name(), &entry.subject, &held, &Side::files(entry))?;
        }
    }
    Ok(())
}

fn no_version(subject: &str) -> Failure {
    Failure::Failed(format!("the registry has no version of subject `{subject}`"))
}

async fn fetch(registry: &Registry, subject: &str, version: Option<u32>) -> Result<Option<SubjectVersion>, Failure> {
    let found = match version {
        Some(version) => registry.version(subject, version).await,
        None => registry.latest(subject).await,
    };
    match found {
        Ok(found) => Ok(Some(found)),
        Err(RegistryError::NotFound { .. }) if version.is_none() => Ok(None),
        Err(error) => Err(Failure::because(error)),
    }
}

/// One of the two that are compared.
struct Side {
    name: String,
    kind: Option<Kind>,
    text: String,
}

impl Side {
    fn of(version: &SubjectVersion) -> Side {
        let schema = &version.registered.schema;
        Side { name: format!("version {}", version.version), kind: Some(schema.kind), text: schema.text.clone() }
    }

    fn files(entry: &Entry) -> Side {
        let text = match &entry.content {
            Content::Protobuf { text, .. } => text.clone(),
            Content::Avro(derived) => derived.text().to_owned(),
        };
        Side { name: "the files".to_owned(), kind: Some(entry.kind()), text }
    }

    fn nothing() -> Side {
        Side { name: "nothing registered".to_owned(), kind: None, text: String::new() }
    }
}

fn show(out: &mut impl Write, registry: &str, subject: &str, from: &Side, to: &Side) -> io::Result<()> {
    let lines = match (from.kind, to.kind) {
        (Some(Kind::Avro), Some(Kind::Avro)) => avro_differences(from, to),
        _ => line_differences(&from.text, &to.text),
    };
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "{registry}: {subject}: from {} to {}", from.name, to.name)?;
    lines.iter().try_for_each(|line| writeln!(out, "  {line}"))
}

fn avro_differences(from: &Side, to: &Side) -> Vec<String> {
    match (Structure::parse(&from.text, []), Structure::parse(&to.text, [])) {
        (Ok(old), Ok(new)) => {
            let found = old.differences(&new);
            found.iter().map(|found| format!("{}: {} -> {}", found.place, found.here, found.there)).collect()
        }
        _ => line_differences(&from.text, &to.text),
    }
}

/// Lines kept around a change.
const CONTEXT: usize = 2;

/// Texts longer than this are not compared line by line: the table would be too large.
const LINES_MAX: usize = 5_000;

/// What differs, as lines that begin with `-`, `+` or a blank; nothing when the texts are the same.
fn line_differences(from: &str, to: &str) -> Vec<String> {
    let (from, to): (Vec<&str>, Vec<&str>) = (from.lines().collect(), to.lines().collect());
    if from == to {
        return Vec::new();
    }
    if from.len().max(to.len()) > LINES_MAX {
        return vec![format!("{} lines became {}", from.len(), to.len())];
    }
    // Lengths of the longest common subsequences of what follows each pair of lines.
    let mut common = vec![vec![0_u32; to.len() + 1]; from.len() + 1];
    for i in (0..from.len()).rev() {
        for j in (0..to.len()).rev() {
            let skip = common[i + 1][j].max(common[i][j + 1]);
            common[i][j] = if from[i] == to[j] { common[i + 1][j + 1] + 1 } else { skip };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < from.len() || j < to.len() {
        if i < from.len() && j < to.len() && from[i] == to[j] {
            lines.push((' ', from[i]));
            (i, j) = (i + 1, j + 1);
        } else if j >= to.len() || i < from.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(('-', from[i]));
            i += 1;
        } else {
            lines.push(('+', to[j]));
            j += 1;
        }
    }
    let near = |at: usize| {
        let around = &lines[at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(lines.len())];
        around.iter().any(|(sign, _)| *sign != ' ')
    };
    let mut shown = Vec::new();
    for (at, (sign, line)) in lines.iter().enumerate() {
        if near(at) {
            shown.push(format!("{sign} {line}"));
        } else if at > 0 && near(at - 1) {
            shown.push("...".to_owned());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_are_shown_with_those_around_them() {
        assert_eq!(line_differences("a\nb", "a\nb\n"), Vec::<String>::new());
        assert_eq!(line_differences("", "a"), ["+ a"]);
        assert_eq!(line_differences("a\nb\nc", "a\nc"), ["  a", "- b", "  c"]);
        assert_eq!(line_differences("1\n2\n3\n4\n5\n6", "1\n2\n3\n4\n5\n7"), ["  4", "  5", "- 6", "+ 7"]);
        assert_eq!(line_differences("x\n1\n2\n3\n4", "y\n1\n2\n3\n4"), ["- x", "+ y", "  1", "  2", "..."]);
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(line_differences(&long, "y"), [format!("{} lines became 1", LINES_MAX + 1)]);
    }
}
