//! `iguazu schema register`: the step after a merge.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::check::{self, read_lock};
use super::workspace::{self, Workspace, WorkspaceArgs};
use crate::cli::{Failure, with_causes};
use crate::schema::repository::claim::{Claim, Claimed};
use crate::schema::repository::lock::{Lock, Locked};
use crate::schema::repository::report::Status;
use crate::schema::repository::{Content, Entry, Repository, merge};

/// Arguments of `iguazu schema register`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For CI: the proxy itself never registers. First everything is judged as `iguazu schema check` does,
and nothing is registered if it may not be. Then each file that others import, under the name by
which they do; each event's file, its imports pinned to those versions; and its derived Avro schema.
What is registered already stays as it is: a run that was killed is made good by the next.

`schemas.lock` says what is registered. With --bindings a folder is written from the same files for
whoever generates code: `descriptors.binpb` (a FileDescriptorSet), `avro/SUBJECT.avsc`, the lock.

Where two runs may meet, --sequence keeps them apart: they wait for one another, by a subject
`iguazu-schemas-merge` in the registry, and one that a newer merge has overtaken does nothing.

Examples:
  iguazu schema register --commit \"$(git rev-parse HEAD)\" --bindings target/bindings
  iguazu schema register --config /etc/iguazu.toml --proto proto/")]
pub struct Args {
    #[command(flatten)]
    workspace: WorkspaceArgs,
    /// The commit that is registered, for the lock
    #[arg(long, value_name = "ID")]
    commit: Option<String>,
    /// A number that grows with every merge, such as that of the CI run: merges wait for one another, and one that a
    /// merge of a higher number has overtaken does nothing
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,
    /// Folder for what code is generated from
    #[arg(long, value_name = "DIR")]
    bindings: Option<PathBuf>,
}

/// Runs it.
pub async fn run(args: Args) -> Result<(), Failure> {
    let workspace = args.workspace.read()?;
    let mut claims = Vec::new();
    for place in &workspace.places {
        let Some(sequence) = args.sequence else { break };
        match Claim::take(&place.registry, sequence).await.map_err(Failure::because)? {
            Claimed::Held(claim) => claims.push(claim),
            Claimed::Newer(newer) => {
                let name = place.registry.name();
                writeln!(
                    io::stdout().lock(),
                    "{name}: merge {newer} is through already, nothing is left for {sequence}"
                )?;
                return give_up(&claims).await;
            }
        }
    }
    match judge_and_register(&args, &workspace, &claims).await {
        Ok(()) => {
            for claim in claims {
                claim.release().await.map_err(Failure::because)?;
            }
            Ok(())
        }
        Err(failure) => {
            // What went wrong is told; that the claim stays too is mended by its lease.
            let _ = give_up(&claims).await;
            Err(failure)
        }
    }
}

async fn judge_and_register(args: &Args, workspace: &Workspace, claims: &[Claim<'_>]) -> Result<(), Failure> {
    let report = check::of_registries(workspace, false).await?;
    if !report.ok {
        check::print(&mut io::stderr().lock(), &report)?;
        return Err(Failure::Failed("nothing was registered".to_owned()));
    }
    let mut locked: Vec<Locked> = Vec::new();
    for (position, place) in workspace.places.iter().enumerate() {
        let repository = workspace.repository(&place.messages)?;
        let entries = workspace::entries(&repository).expect("they were judged above");
        let done = merge::merge(&place.registry, &entries, claims.get(position), tell).await;
        locked.extend(done.map_err(Failure::because)?.into_iter().map(|merged| merged.locked));
        if let Some(folder) = &args.bindings {
            write_bindings(folder, &repository, &entries).map_err(|error| cannot_write(folder, &error))?;
        }
    }
    let mut files: Vec<PathBuf> = Vec::new();
    if let Some(path) = &workspace.lock {
        // Registries that this run was not about stay as they are.
        let before = read_lock(path)?.map(|lock| lock.subjects).unwrap_or_default();
        let done: Vec<_> = workspace.places.iter().map(|place| place.registry.name()).collect();
        locked.extend(before.into_iter().filter(|old| !done.contains(&old.registry.as_str())));
        files.push(path.clone());
    }
    files.extend(args.bindings.as_ref().map(|folder| folder.join("schemas.lock")));
    let lock = Lock::new(args.commit.clone(), locked);
    for path in files {
        lock.write(&path).map_err(|error| cannot_write(&path, &error))?;
    }
    Ok(())
}

/// Lets other merges go on as if this one had not been.
async fn give_up(claims: &[Claim<'_>]) -> Result<(), Failure> {
    for claim in claims {
        claim.withdraw().await.map_err(Failure::because)?;
    }
    Ok(())
}

fn tell(merged: &merge::Merged) -> io::Result<()> {
    let Locked { registry, subject, version, id, .. } = &merged.locked;
    let what = if merged.status == Status::Unchanged { "unchanged" } else { "registered" };
    writeln!(io::stdout().lock(), "{registry}: {subject} version {version} (id {id}), {what}")
}

/// What code is generated from, of the very files that were registered.
fn write_bindings(folder: &Path, repository: &Repository, entries: &[Entry]) -> io::Result<()> {
    let avro = folder.join("avro");
    std::fs::create_dir_all(&avro)?;
    std::fs::write(folder.join("descriptors.binpb"), repository.pool().encode_to_vec())?;
    for entry in entries {
        if let Content::Avro(derived) = &entry.content {
            // Subjects may hold what no file name can.
            let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
            let name: String = entry.subject.chars().map(safe).collect();
            std::fs::write(avro.join(format!("{name}.avsc")), format!("{}\n", derived.text()))?;
        }
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{} cannot be written: {}", path.display(), with_causes(error)))
}
