//! `iguazu ctl export|plan|apply`: resources as files of a repository.
//!
//! In: a folder of files, and what is there. Out: what differs, what the rules say of it, and with `apply` one request for it. Never:
//! deletes what no file names unless it is told to, and then only what this repository manages; plans on half of a folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Client;
use super::files::{self, FileSpec, Folder};
use super::follow::{self, AskArgs, ChangeReply, RequestReply};
use super::show::{self, Output, count, say};
use super::{fields, resources};
use crate::cli::Failure;
use crate::control::request::CHANGES_MAX;
use crate::control::resource::{Kind, ManagedBy, ResourceId, Spec};

/// Arguments of `iguazu ctl export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One file a resource, KIND/CLUSTER/NAME.yaml; a resource that has a file in the folder already keeps
it where it is. What has its default is left out, and so is how many passwords a user had.

Example:
  iguazu ctl export -f kafka/ --service orders --repository acme/orders")]
pub(super) struct ExportArgs {
    /// Folder to write to
    #[arg(short, long = "file", value_name = "DIR")]
    folder: PathBuf,
    /// Only of this service
    #[arg(long)]
    service: Option<String>,
    /// Only on this cluster; what is on none is left out too
    #[arg(long)]
    cluster: Option<String>,
    /// Name of the repository, for `plan` and `apply`
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

/// How a plan is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    #[default]
    Text,
    Markdown,
}

/// Arguments of `iguazu ctl plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 files and resources say the same, 2 they differ, 1 the rules refuse the difference, or
it could not be looked at, 64 a file is wrong.

Examples:
  iguazu ctl plan -f kafka/
  iguazu ctl plan -f kafka/ --markdown > comment.md     # in a pull request")]
pub(super) struct PlanArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// As Markdown, for a comment in a pull request
    #[arg(long)]
    markdown: bool,
}

/// Arguments of `iguazu ctl apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shows the plan, sends it as one request, and waits until it is applied. What it changes is managed
by the repository from then on: the API and the console refuse to change it, and name the
repository.

Exit codes: 0 applied, or nothing to do; 1 refused or failed; 75 somebody must agree first.

Examples:
  iguazu ctl apply -f kafka/ --reason \"$GITHUB_SHA\"
  iguazu ctl apply -f kafka/ --prune --yes              # also deletes what has no file any more")]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Do not ask whether deletions are meant
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, clap::Args)]
struct FilesArgs {
    /// Folder with the files
    #[arg(short, long = "file", value_name = "DIR")]
    folder: PathBuf,
    /// Name of the repository [default: that in DIR/iguazu-ctl.yaml]
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Delete what this repository manages and has no file for any more
    #[arg(long)]
    prune: bool,
    /// Take over what the API or another repository manages and has a file here
    #[arg(long)]
    take_over: bool,
}

/// What differs between files and resources.
#[derive(Debug, Default)]
struct Difference {
    entries: Vec<Entry>,
    unchanged: usize,
    /// The same in a file, and managed by somebody else.
    elsewhere: Vec<(ResourceId, String)>,
}

/// One change that would make them the same.
#[derive(Debug)]
struct Entry {
    id: ResourceId,
    file: Option<String>,
    before: Option<Value>,
    after: Option<Value>,
    revision: i64,
    /// Who manages it now, if that is not this repository.
    taken_from: Option<String>,
}

pub(super) async fn export(client: &Client, args: ExportArgs) -> Result<(), Failure> {
    let mut found = BTreeMap::new();
    for kind in Kind::ALL {
        if args.cluster.is_some() && !kind.is_on_cluster() {
            continue;
        }
        let mut url = client.at(["v1", kind.plural()]);
        for (name, value) in [("service", &args.service), ("cluster", &args.cluster)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        client
            .pages(url, None, |item| {
                let there = There::read(item)?;
                // What is on its way out is not for files to bring back.
                if there.state != "deleting" {
                    found.insert(there.id, there.spec);
                }
                Ok(())
            })
            .await?;
    }
    files::write(&args.folder, args.repository.as_deref(), &found)?;
    say(&format!("{} written below {}", count(found.len(), "file"), args.folder.display()))
}

pub(super) async fn plan(client: &Client, args: PlanArgs, output: Output) -> Result<(), Failure> {
    let (difference, repository) = args.files.compare(client).await?;
    let form = if args.markdown { Form::Markdown } else { Form::Text };
    let mut requests = Vec::new();
    for body in bodies(&difference, &repository, args.files.take_over) {
        let mut url = client.at(["v1", "requests"]);
        url.set_query(Some("dry_run=true"));
        requests.push(client.ask(url, &body).await?);
    }
    let typed: Vec<RequestReply> = requests.iter().map(follow::typed).collect::<Result<_, _>>()?;
    match output {
        Output::Json => show::print_json(&json!({
            "repository": repository,
            "unchanged": difference.unchanged,
            "requests": requests,
        }))?,
        Output::Table => show::print(&difference.told(&typed, form))?,
    }
    if typed.iter().any(|request| request.verdict.verdict == "reject") {
        return Err(Failure::Told);
    }
    if difference.entries.is_empty() { Ok(()) } else { Err(Failure::Differs) }
}

pub(super) async fn apply(client: &Client, args: ApplyArgs, output: Output) -> Result<(), Failure> {
    let (difference, repository) = args.files.compare(client).await?;
    if difference.entries.is_empty() {
        show::print(&difference.told(&[], Form::Text))?;
        return Ok(());
    }
    let deleted: Vec<_> = difference.entries.iter().filter(|entry| entry.after.is_none()).collect();
    if !deleted.is_empty() && !args.yes && !args.ask.dry_run {
        let names: Vec<_> = deleted.iter().map(|entry| entry.id.to_string()).collect();
        let what = format!("{} to delete:\n  {}", count(deleted.len(), "resource"), names.join("\n  "));
        resources::confirm(&what, &format!("delete {}", deleted.len()))?;
    }
    for body in bodies(&difference, &repository, args.files.take_over) {
        follow::submit(client, body, &args.ask, output).await?;
    }
    Ok(())
}

impl FilesArgs {
    /// Reads the files, and what is there, and compares them.
    async fn compare(&self, client: &Client) -> Result<(Difference, String), Failure> {
        let folder = files::read(&self.folder)?;
        let Some(repository) = self.repository.clone().or_else(|| folder.repository.clone()) else {
            return Err(Failure::Usage(format!(
                "whose files are these? Say it by `--repository NAME`, or `repository: NAME` in {}",
                self.folder.join(files::SETTINGS).display()
            )));
        };
        if folder.resources.is_empty() && self.prune {
            return Err(Failure::Usage(format!(
                "{} holds no resource, and `--prune` would delete everything of `{repository}`; is it the right folder?",
                self.folder.display()
            )));
        }
        let there = self.look(client, &folder).await?;
        Ok((self.difference(&folder, there, &repository), repository))
    }

    /// What is there: of every kind that there is a file for, or of all kinds when what has no file counts.
    async fn look(&self, client: &Client, folder: &Folder) -> Result<BTreeMap<ResourceId, There>, Failure> {
        let mut found = BTreeMap::new();
        for kind in Kind::ALL {
            if !self.prune && !folder.resources.keys().any(|id| id.kind == kind) {
                continue;
            }
            client
                .pages(client.at(["v1", kind.plural()]), None, |item| {
                    let there = There::read(item)?;
                    found.insert(there.id.clone(), there);
                    Ok(())
                })
                .await?;
        }
        Ok(found)
    }

    fn difference(&self, folder: &Folder, mut there: BTreeMap<ResourceId, There>, repository: &str) -> Difference {
        let ours = ManagedBy::Repository(repository.to_owned());
        let mut found = Difference::default();
        for (id, FileSpec { file, spec, counts }) in &folder.resources {
            let Some(there) = there.remove(id) else {
                let after = Some(files::inner(spec));
                let entry = Entry {
                    id: id.clone(),
                    file: Some(file.clone()),
                    before: None,
                    after,
                    revision: 0,
                    taken_from: None,
                };
                found.entries.push(entry);
                continue;
            };
            let wanted = if *counts { spec.clone() } else { with_count_of(spec, &there.spec) };
            let taken_from = (there.managed_by != ours).then(|| manager(&there.managed_by));
            if wanted == there.spec && (taken_from.is_none() || !self.take_over) {
                found.unchanged += 1;
                found.elsewhere.extend(taken_from.map(|manager| (id.clone(), manager)));
                continue;
            }
            found.entries.push(Entry {
                id: id.clone(),
                file: Some(file.clone()),
                before: Some(files::inner(&there.spec)),
                after: Some(files::inner(&wanted)),
                revision: there.revision,
                taken_from,
            });
        }
        if self.prune {
            let gone = there.into_values().filter(|there| there.managed_by == ours && there.state != "deleting");
            found.entries.extend(gone.map(|there| Entry {
                before: Some(files::inner(&there.spec)),
                id: there.id,
                file: None,
                after: None,
                revision: there.revision,
                taken_from: None,
            }));
        }
        // What goes is told first, and done first, what needs others before these; then what others need comes first.
        found.entries.sort_by(|one, other| {
            let order = |entry: &Entry| {
                (
                    entry.after.is_some(),
                    if entry.after.is_some() { entry.id.kind as i64 } else { -(entry.id.kind as i64) },
                )
            };
            order(one).cmp(&order(other)).then_with(|| one.id.cmp(&other.id))
        });
        found
    }
}

/// A resource as it is.
struct There {
    id: ResourceId,
    spec: Spec,
    revision: i64,
    managed_by: ManagedBy,
    state: String,
}

impl There {
    fn read(item: Value) -> Result<There, Failure> {
        #[derive(Deserialize)]
        struct Item {
            id: ResourceId,
            #[serde(flatten)]
            spec: Spec,
            revision: i64,
            managed_by: ManagedBy,
            state: String,
        }
        let name = show::cell(&item["id"]);
        let Item { id, spec, revision, managed_by, state } = serde_json::from_value(item).map_err(|error| {
            Failure::Failed(format!(
                "{name} has another form than this `iguazu ctl` knows; are client and server of one version? {error}"
            ))
        })?;
        Ok(There { id, spec, revision, managed_by, state })
    }
}

/// A spec that counts passwords as another one does: files do not say how many there were.
fn with_count_of(spec: &Spec, there: &Spec) -> Spec {
    let mut spec = spec.clone();
    match (&mut spec, there) {
        (Spec::User(spec), Spec::User(there)) => spec.generation = there.generation,
        (Spec::Sender(spec), Spec::Sender(there)) => spec.generation = there.generation,
        _ => {}
    }
    spec
}

fn manager(managed_by: &ManagedBy) -> String {
    match managed_by {
        ManagedBy::Api => "the API".to_owned(),
        ManagedBy::Repository(name) => format!("repository `{name}`"),
    }
}

/// The requests that make files and resources the same: one, unless it were larger than a request may be.
fn bodies(difference: &Difference, repository: &str, take_over: bool) -> Vec<Value> {
    let ours = ManagedBy::Repository(repository.to_owned());
    let body = |entries: &[Entry]| {
        let change = |entry: &Entry| json!({ "id": entry.id, "spec": entry.after, "if_match": entry.revision, "file": entry.file });
        let changes: Vec<_> = entries.iter().map(change).collect();
        json!({ "changes": changes, "managed_by": ours, "take_over": take_over })
    };
    difference.entries.chunks(CHANGES_MAX).map(body).collect()
}

impl Entry {
    fn sign(&self) -> char {
        match (&self.before, &self.after) {
            (None, _) => '+',
            (_, None) => '-',
            (before, after) if before == after => '=',
            _ => '~',
        }
    }

    /// What becomes another: `capacity.mb_per_second: 1 -> 2`.
    fn differences(&self) -> Vec<String> {
        let null = Value::Null;
        let differences =
            fields::differences(self.before.as_ref().unwrap_or(&null), self.after.as_ref().unwrap_or(&null));
        let told = |(path, before, after): (String, Value, Value)| match (&self.before, &self.after) {
            (None, _) => format!("{path}: {}", show::cell(&after)),
            _ => format!("{path}: {} -> {}", show::cell(&before), show::cell(&after)),
        };
        match &self.after {
            None => Vec::new(),
            Some(_) => differences.into_iter().filter(|(path, ..)| !path.is_empty()).map(told).collect(),
        }
    }
}

impl Difference {
    fn told(&self, requests: &[RequestReply], form: Form) -> String {
        let number = |sign: char| self.entries.iter().filter(|entry| entry.sign() == sign).count();
        let mut parts: Vec<String> =
            [('-', "to delete"), ('~', "to change"), ('+', "to create"), ('=', "to take over")]
                .iter()
                .filter(|(sign, _)| number(*sign) > 0)
                .map(|(sign, what)| format!("{} {what}", number(*sign)))
                .collect();
        parts.push(format!("{} unchanged", self.unchanged));
        let summary = parts.join(", ");
        let changes: Vec<&ChangeReply> = requests.iter().flat_map(|request| &request.changes).collect();
        let of = |id: &ResourceId| changes.iter().find(|change| change.resource == id.to_string()).copied();
        let mut text = String::new();
        // A String takes everything.
        match form {
            Form::Text => {
                for entry in &self.entries {
                    _ = writeln!(text, "{} {}{}", entry.sign(), entry.id, origin(entry));
                    for line in entry.differences() {
                        _ = writeln!(text, "    {line}");
                    }
                    if let Some(change) = of(&entry.id) {
                        _ = writeln!(text, "    => {}", change.told().replace('\n', "\n    "));
                    }
                }
                _ = writeln!(text, "{summary}");
                let elsewhere = self.elsewhere.len();
                if elsewhere > 0 {
                    _ = writeln!(
                        text,
                        "{} the same and managed elsewhere: `apply --take-over` makes these files their source",
                        count(elsewhere, "file")
                    );
                }
            }
            Form::Markdown => {
                _ = writeln!(text, "### Iguazu: {summary}\n");
                if !self.entries.is_empty() {
                    _ = writeln!(text, "| | resource | what changes | decision |\n|---|---|---|---|");
                }
                for entry in &self.entries {
                    let differences: Vec<_> = entry.differences().iter().map(|line| code(line)).collect();
                    let decision = of(&entry.id).map(|change| markdown(&change.told())).unwrap_or_default();
                    let sign = match entry.sign() {
                        '-' => "**delete**",
                        '+' => "create",
                        '=' => "take over",
                        _ => "change",
                    };
                    _ = writeln!(
                        text,
                        "| {sign} | {} | {} | {decision} |",
                        code(&entry.id.to_string()),
                        differences.join("<br>")
                    );
                }
            }
        }
        text
    }
}

/// From which file, and from whose hands.
fn origin(entry: &Entry) -> String {
    let file = entry.file.as_ref().map(|file| format!("  ({file})")).unwrap_or_default();
    let from = entry.taken_from.as_ref().map(|from| format!("  managed by {from}")).unwrap_or_default();
    format!("{file}{from}")
}

/// Text as code in a cell of a table: nothing in it has a meaning.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('`', "'").replace('|', "\\|").replace(['\n', '\r'], " "))
}

/// Text in a cell of a table.
fn markdown(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        match c {
            '\n' => plain.push_str("<br>"),
            '<' => plain.push_str("&lt;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => plain.extend(['\\', c]),
            c => plain.push(c),
        }
    }
    plain
}
