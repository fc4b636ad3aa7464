//! `iguazu ctl get|list|create|set|delete|rotate|secret`: single resources.
//!
//! In: a kind, a name, fields. Out: what is there, or a request that changes it. Never: a change of what somebody else has changed in
//! between, a secret anywhere but where it was asked for.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::client::Client;
use super::follow::{self, AskArgs};
use super::show::{self, Output, Table, cell};
use super::{brakes, fields, files};
use crate::cli::Failure;
use crate::control::resource::{Kind, ManagedBy, ResourceId, Spec, SpecError};

/// What is named: `topic core/orders.placed.v1`, `service orders`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct NameArgs {
    /// What it is
    #[arg(value_name = "KIND", value_parser = kinds())]
    kind: Kind,
    /// Its name; CLUSTER/NAME for topics, users, groups, access and quotas
    #[arg(value_name = "NAME")]
    name: String,
}

impl NameArgs {
    pub(super) fn id(&self) -> Result<ResourceId, Failure> {
        id(self.kind, &self.name)
    }
}

/// The kinds as arguments: in singular and plural, `event-type` too.
pub(super) fn kinds() -> impl TypedValueParser<Value = Kind> {
    let value = |kind: Kind| PossibleValue::new(kind.as_str()).alias(kind.plural()).aliases(more_names(kind));
    PossibleValuesParser::new(Kind::ALL.map(value)).map(|text| {
        let is_named =
            |kind: &Kind| text == kind.as_str() || text == kind.plural() || more_names(*kind).contains(&text.as_str());
        Kind::ALL.into_iter().find(is_named).expect("clap lets only these through")
    })
}

/// What else people call it.
fn more_names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::EventType => &["event-type", "event-types", "event", "events"],
        Kind::Access => &["grant", "grants", "acl", "acls"],
        _ => &[],
    }
}

/// The resource of this kind and name.
pub(super) fn id(kind: Kind, name: &str) -> Result<ResourceId, Failure> {
    // Names of resources as replies have them are names too.
    let name = name.strip_prefix(&format!("{}/", kind.as_str())).unwrap_or(name);
    format!("{}/{name}", kind.as_str()).parse().map_err(|_| {
        let form = if kind.is_on_cluster() { "CLUSTER/NAME" } else { "NAME, without a cluster" };
        Failure::Usage(format!("`{name}` names no {}; it is {form}", kind.as_str()))
    })
}

/// Arguments of `iguazu ctl get`.
#[derive(Debug, clap::Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    name: NameArgs,
}

pub(super) async fn get(client: &Client, args: GetArgs, output: Output) -> Result<(), Failure> {
    let resource = client.get(client.of(&args.name.id()?)).await?;
    if output == Output::Json {
        return show::print_json(&resource);
    }
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<12}{value}\n"));
    line("name", cell(&resource["id"]));
    line("state", state(&resource));
    line("managed by", managed_by(&resource));
    if let Some(brake) = resource.get("brake") {
        line("brake", brakes::told(brake));
    }
    line("revision", cell(&resource["revision"]));
    for (path, value) in fields::flat(&resource["spec"]) {
        if !value.is_null() {
            line("", format!("{path}: {}", cell(value)));
        }
    }
    show::print(&text)
}

/// Arguments of `iguazu ctl list`.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// What is listed
    #[arg(value_name = "KIND", value_parser = kinds())]
    kind: Kind,
    /// Only on this cluster
    #[arg(long)]
    cluster: Option<String>,
    /// Only of this service
    #[arg(long)]
    service: Option<String>,
    /// Only with this text in name, service or description
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only in this state: applying, ready, waiting, failed or deleting
    #[arg(long)]
    state: Option<String>,
    /// Most that are shown [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

pub(super) async fn list(client: &Client, args: ListArgs, output: Output) -> Result<(), Failure> {
    let mut url = client.at(["v1", args.kind.plural()]);
    for (name, value) in
        [("cluster", &args.cluster), ("service", &args.service), ("q", &args.search), ("state", &args.state)]
    {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    let items = client.list(url, args.limit).await?;
    if output == Output::Json {
        return show::print_json(&json!({ "items": items }));
    }
    let mut table = Table::new(&["NAME", "SERVICE", "STATE", "MANAGED BY", "WHAT"]);
    for item in &items {
        let name = cell(&item["id"]);
        let name = name.split_once('/').map_or(name.as_str(), |(_, name)| name);
        table.row([
            name.to_owned(),
            cell(&item["service"]),
            state(item),
            managed_by(item),
            gist(args.kind, &item["spec"]),
        ]);
    }
    table.print(&format!("no {} here", args.kind.plural().replace('_', " ")))
}

/// The state, and why it is not another one.
pub(super) fn state(resource: &Value) -> String {
    match resource["message"].as_str() {
        Some(message) if !message.is_empty() => format!("{}: {message}", cell(&resource["state"])),
        _ => cell(&resource["state"]),
    }
}

fn managed_by(resource: &Value) -> String {
    match ManagedBy::deserialize(&resource["managed_by"]) {
        Ok(ManagedBy::Api) => "api".to_owned(),
        Ok(ManagedBy::Repository(name)) => name,
        Err(_) => cell(&resource["managed_by"]),
    }
}

/// What matters of a spec, in a few words.
pub(super) fn gist(kind: Kind, spec: &Value) -> String {
    let field = |name: &str| cell(&spec[name]);
    match kind {
        Kind::Service => format!("group {}", field("group")),
        Kind::Cluster => format!("{} {}", field("mode"), field("environment")),
        Kind::Topic => format!(
            "{}, {} MB/s, {} h",
            field("tier"),
            cell(&spec["capacity"]["mb_per_second"]),
            cell(&spec["capacity"]["retention_hours"])
        ),
        Kind::User => format!("{}, password {}", field("mechanism"), field("generation")),
        Kind::Sender => format!("key {}", field("generation")),
        Kind::Group => field("description"),
        Kind::EventType => format!("to {}/{}", field("cluster"), field("topic")),
        Kind::Access => {
            let star = if spec["pattern"] == "prefix" { "*" } else { "" };
            format!("{} may {} {}{star}", field("principal"), field("level"), field("target"))
        }
        Kind::Quota => {
            let limits = ["produce_bytes_per_second", "consume_bytes_per_second", "events_per_second"];
            let set = limits.iter().filter(|name| !spec[**name].is_null());
            set.map(|name| format!("{} {}", cell(&spec[*name]), name.replace('_', " "))).collect::<Vec<_>>().join(", ")
        }
    }
}

/// Arguments of `iguazu ctl create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
FIELD is a path of the resource's spec, VALUE is JSON or else text. What is left out has its
default; `iguazu ctl explain` shows what becomes of a topic's capacity. Access and quotas are named
by what they say: for them NAME may be the cluster alone.

Examples:
  iguazu ctl create service orders group=team-orders
  iguazu ctl create topic core/orders.placed.v1 service=orders capacity.mb_per_second=0.5
  iguazu ctl create user core/orders-app service=orders
  iguazu ctl create access core service=orders level=consume target=orders.placed.v1 principal=app")]
pub(super) struct CreateArgs {
    #[command(flatten)]
    name: NameArgs,
    /// What it is to be: FIELD=VALUE, repeat for more
    #[arg(value_name = "FIELD=VALUE", value_parser = fields::assignment)]
    fields: Vec<fields::Assignment>,
    /// Take the spec from this file, as `iguazu ctl export` writes them; fields are set in it
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) async fn create(client: &Client, args: CreateArgs, output: Output) -> Result<(), Failure> {
    let kind = args.name.kind;
    let mut spec = match &args.file {
        Some(file) => files::read_one(file)?.1,
        None => Value::Object(Map::new()),
    };
    fields::set(&mut spec, &args.fields)?;
    let name = match args.name.name.contains('/') {
        false if kind.is_on_cluster() => match made_name(kind, &spec)? {
            Some(name) => format!("{}/{name}", args.name.name),
            None => args.name.name.clone(),
        },
        _ => args.name.name.clone(),
    };
    // Revision 0 is that of what is not there: a resource that is would be changed otherwise.
    let change = json!({ "id": id(kind, &name)?, "spec": spec, "if_match": 0 });
    follow::submit(client, json!({ "changes": [change] }), &args.ask, output).await
}

/// The name of what is named by what it says.
fn made_name(kind: Kind, spec: &Value) -> Result<Option<String>, Failure> {
    if !matches!(kind, Kind::Access | Kind::Quota) {
        return Ok(None);
    }
    match Spec::read(kind, spec.clone()) {
        Ok(Spec::Access(access)) => Ok(Some(access.name())),
        Ok(Spec::Quota(quota)) => Ok(quota.user.or(quota.event_type)),
        Ok(_) => Ok(None),
        Err(SpecError { field, problem }) => {
            let field = if field.is_empty() { String::new() } else { format!("`{field}`: ") };
            Err(Failure::Usage(format!("{field}{problem}")))
        }
    }
}

/// Arguments of `iguazu ctl set`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Fields that are not named stay as they are; `FIELD=` without a value takes one out, so that it has
its default again. Whoever changes the resource at the same moment wins, and this is refused.

Example:
  iguazu ctl set topic core/orders.placed.v1 capacity.mb_per_second=2 --reason 'two more markets'")]
pub(super) struct SetArgs {
    #[command(flatten)]
    name: NameArgs,
    /// What changes: FIELD=VALUE, repeat for more
    #[arg(value_name = "FIELD=VALUE", required = true, value_parser = fields::assignment)]
    fields: Vec<fields::Assignment>,
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) async fn set(client: &Client, args: SetArgs, output: Output) -> Result<(), Failure> {
    let id = args.name.id()?;
    let mut resource = client.get(client.of(&id)).await?;
    fields::set(&mut resource["spec"], &args.fields)?;
    let change = json!({ "id": id, "spec": resource["spec"], "if_match": resource["revision"] });
    follow::submit(client, json!({ "changes": [change] }), &args.ask, output).await
}

/// Arguments of `iguazu ctl delete`.
#[derive(Debug, clap::Args)]
pub(super) struct DeleteArgs {
    /// What they are
    #[arg(value_name = "KIND", value_parser = kinds())]
    kind: Kind,
    /// Their names
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Do not ask whether it is meant
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) async fn delete(client: &Client, args: DeleteArgs, output: Output) -> Result<(), Failure> {
    let mut changes = Vec::new();
    for name in &args.names {
        let id = id(args.kind, name)?;
        let resource = client.get(client.of(&id)).await?;
        changes.push(json!({ "id": id, "spec": null, "if_match": resource["revision"] }));
    }
    if !args.yes && !args.ask.dry_run {
        let what = show::count(changes.len(), args.kind.as_str());
        confirm(&format!("{what} to delete: {}", args.names.join(", ")), &args.names[0])?;
    }
    follow::submit(client, json!({ "changes": changes }), &args.ask, output).await
}

/// Has somebody at the terminal type a word; nobody there is a no.
pub(super) fn confirm(what: &str, word: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{what}; `--yes` says that it is meant")));
    }
    show::say(&format!("{what}\nType `{word}` if it is meant:"))?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if line.trim() == word { Ok(()) } else { Err(Failure::Failed("nothing was changed".to_owned())) }
}

/// Arguments of `iguazu ctl rotate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A sender's key before the new one stays valid for `overlap_hours`. Kafka holds one password of each
user: for a change without a gap make a second user, give it the same access, and move over.

Example:
  iguazu ctl rotate sender checkout && iguazu ctl secret sender checkout --out checkout.key")]
pub(super) struct RotateArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    ask: AskArgs,
}

pub(super) async fn rotate(client: &Client, args: RotateArgs, output: Output) -> Result<(), Failure> {
    let id = of_secret(&args.name)?;
    let mut url = client.of(&id);
    url.path_segments_mut().expect("it has a path").push("rotate");
    args.ask.put_into(&mut url);
    let reply = client.ask(url, &json!({})).await?;
    follow::conclude(client, reply, args.ask.dry_run, &args.ask.wait, output).await
}

/// Arguments of `iguazu ctl secret`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It is given out once, to whoever asked for it, and the audit log says so. Without --out it is
printed, and nothing else is.

Examples:
  iguazu ctl secret user core/orders-app --out orders-app.password
  iguazu ctl secret sender shop | kubectl create secret generic shop --from-file=key=/dev/stdin")]
pub(super) struct SecretArgs {
    #[command(flatten)]
    name: NameArgs,
    /// File to write it to; it must not be there, and only its owner may read it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn secret(client: &Client, args: SecretArgs, output: Output) -> Result<(), Failure> {
    let id = of_secret(&args.name)?;
    // The file is there before the secret is asked for: it is given out once, and must not be lost for a wrong path.
    let file = args.out.as_deref().map(SecretFile::create).transpose()?;
    let mut url = client.of(&id);
    url.path_segments_mut().expect("it has a path").push("secret");
    let mut reply = client.send(reqwest::Method::POST, url, Some(&json!({}))).await?;
    let Value::String(secret) = reply["secret"].take() else {
        return Err(Failure::Failed(format!("the reply for {id} holds no secret")));
    };
    let secret = Zeroizing::new(secret);
    match (file, output) {
        (Some(file), _) => file.write(&secret),
        (None, Output::Json) => show::print_json(&json!({ "secret": &*secret })),
        (None, Output::Table) => show::print(&format!("{}\n", &*secret)),
    }
}

fn of_secret(name: &NameArgs) -> Result<ResourceId, Failure> {
    match name.kind {
        Kind::User | Kind::Sender => name.id(),
        kind => Err(Failure::Usage(format!("a {} has no secret; users and senders have", kind.as_str()))),
    }
}

/// A new file that only its owner may read; it is gone again if nothing comes into it.
pub(super) struct SecretFile {
    path: PathBuf,
    file: Option<std::fs::File>,
}

impl SecretFile {
    pub(super) fn create(path: &Path) -> Result<SecretFile, Failure> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failure::Usage(format!("{} is there already, and a secret never replaces a file", path.display()))
            }
            _ => Failure::Usage(format!("cannot write {}: {error}", path.display())),
        })?;
        Ok(SecretFile { path: path.to_owned(), file: Some(file) })
    }

    pub(super) fn write(mut self, secret: &str) -> Result<(), Failure> {
        let mut file = self.file.take().expect("it is written once");
        let written = writeln!(file, "{secret}").and_then(|()| file.sync_all());
        // It is not given out again, so it is better on the screen than nowhere.
        written.or_else(|error| {
            show::say(&format!("cannot write {}: {error}; so the secret is printed", self.path.display()))?;
            show::print(&format!("{secret}\n"))
        })
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
