//! A request from when it is sent until it came to an end.
//!
//! In: changes, or the id of a request. Out: what was decided and why, each step as it is done, and an exit code: 0 it is done, 1 it is
//! refused or failed, 75 it waits for somebody to agree. Never: waits without a limit; a request goes on when nobody waits for it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{Client, told};
use super::show::{self, Output, say};
use super::steps::Told;
use crate::cli::Failure;
use crate::control::resource::Violation;
use crate::control::store::Need;

/// How often it is looked how far a request has come: often at first, since most are through in a second.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a write is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct AskArgs {
    /// Why, for those who must agree and for the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, help_heading = "Request")]
    pub reason: String,
    /// Only say what would become of it
    #[arg(long, help_heading = "Request")]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

impl AskArgs {
    /// What of it the API is told behind the `?`.
    pub(super) fn put_into(&self, url: &mut reqwest::Url) {
        if self.dry_run {
            url.query_pairs_mut().append_pair("dry_run", "true");
        }
        if !self.reason.is_empty() {
            url.query_pairs_mut().append_pair("reason", &self.reason);
        }
    }
}

/// For how long a request is waited for.
#[derive(Debug, clap::Args)]
pub(super) struct WaitArgs {
    /// Do not wait until it is applied
    #[arg(long, help_heading = "Request")]
    pub no_wait: bool,
    /// How long to wait until it is applied, seconds
    #[arg(long, value_name = "S", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Request")]
    pub timeout: u64,
}

/// A request as the API shows it: as much of it as is told here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RequestReply {
    pub id: String,
    pub actor: String,
    #[serde(default)]
    pub reason: String,
    pub state: String,
    #[serde(default)]
    pub message: String,
    pub changes: Vec<ChangeReply>,
    pub verdict: Verdict,
    #[serde(default)]
    pub approvals: Vec<Approval>,
    pub plan_hash: String,
}

/// One change of it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ChangeReply {
    pub resource: String,
    pub operation: String,
    pub decision: Decision,
    #[serde(default)]
    pub violations: Vec<Violation>,
    #[serde(default)]
    pub need: Option<Need>,
}

/// What was decided on a change.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Decision {
    #[serde(flatten)]
    pub verdict: Verdict,
    #[serde(default)]
    pub rule: Option<String>,
    #[serde(default)]
    pub reason: String,
}

/// What becomes of it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Verdict {
    pub verdict: String,
    #[serde(default)]
    pub by: BTreeSet<String>,
}

/// Somebody has agreed.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Approval {
    pub actor: String,
    #[serde(rename = "as", default)]
    pub parts: BTreeSet<String>,
    #[serde(default)]
    pub reason: String,
}

impl Verdict {
    /// For people.
    pub(super) fn told(&self) -> String {
        let by: Vec<_> = self.by.iter().map(|part| part.replace('_', " ")).collect();
        match self.verdict.as_str() {
            "auto" => "approved".to_owned(),
            "review" => format!("review by {}", by.join(" and ")),
            "reject" => "refused".to_owned(),
            other => other.to_owned(),
        }
    }
}

impl RequestReply {
    /// Whether nothing more becomes of it by itself or at all.
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.state.as_str(), "pending" | "approved" | "applying")
    }

    /// What was decided on each change, a line each, with what is wrong.
    pub(super) fn told(&self) -> String {
        let mut text = String::new();
        for change in &self.changes {
            // A String takes everything.
            let _ = writeln!(text, "{}", change.told());
        }
        text
    }
}

impl ChangeReply {
    /// `create topic/core/x: approved (small-topic: …), reserves 12 GB on 6 partitions`, and what is wrong with it.
    pub(super) fn told(&self) -> String {
        let Decision { verdict, rule, reason } = &self.decision;
        let mut text = format!("{} {}: {}", self.operation, self.resource, verdict.told());
        match (self.violations.is_empty(), rule) {
            (true, Some(rule)) => _ = write!(text, " ({rule}: {reason})"),
            (true, None) if !reason.is_empty() => _ = write!(text, " ({reason})"),
            _ => {}
        }
        if let Some(need) = self.need.filter(|need| need.disk_bytes > 0) {
            _ = write!(
                text,
                ", reserves {} on {} partitions with their copies",
                show::bytes(need.disk_bytes),
                need.partitions
            );
        }
        for violation in &self.violations {
            text.push('\n');
            text.push_str(&told(violation));
        }
        text
    }
}

/// Sends changes as one request, says what was decided, and waits for its end.
pub(super) async fn submit(client: &Client, body: Value, args: &AskArgs, output: Output) -> Result<(), Failure> {
    let mut body = body;
    if !args.reason.is_empty() {
        body["reason"] = json!(args.reason);
    }
    let mut url = client.at(["v1", "requests"]);
    if args.dry_run {
        url.set_query(Some("dry_run=true"));
    }
    let reply = client.ask(url, &body).await?;
    conclude(client, reply, args.dry_run, &args.wait, output).await
}

/// Says what became of a request that was just sent, and waits for its end.
pub(super) async fn conclude(
    client: &Client,
    reply: Value,
    is_dry_run: bool,
    wait: &WaitArgs,
    output: Output,
) -> Result<(), Failure> {
    let request = typed(&reply)?;
    if is_dry_run {
        match output {
            Output::Json => show::print_json(&reply)?,
            Output::Table => show::print(&format!("{}nothing was changed: this was a dry run\n", request.told()))?,
        }
        return if request.verdict.verdict == "reject" { Err(Failure::Told) } else { Ok(()) };
    }
    if output == Output::Table {
        say(&format!("request {}", request.id))?;
        say(request.told().trim_end())?;
    }
    let (reply, request) = match request.has_ended() || request.state == "pending" || wait.no_wait {
        true => (reply, request),
        false => wait_for_end(client, &request.id, Duration::from_secs(wait.timeout)).await?,
    };
    if output == Output::Json {
        show::print_json(&reply)?;
    }
    outcome(&request, output)
}

/// Waits until a request came to an end; tells each step as it is done.
pub(super) async fn wait_for_end(client: &Client, id: &str, limit: Duration) -> Result<(Value, RequestReply), Failure> {
    let until = Instant::now() + limit;
    let mut pause = PAUSE_MIN;
    let mut told = Told::default();
    loop {
        // Told as it happens, where that works; the request itself has the last word.
        told.follow(client, id, until).await;
        let reply = client.get(client.at(["v1", "requests", id])).await?;
        if told.tell(&reply) {
            pause = PAUSE_MIN;
        }
        let request = typed(&reply)?;
        if request.has_ended() {
            return Ok((reply, request));
        }
        if Instant::now() >= until {
            return Err(Failure::Waits(format!(
                "request {id} is still {} after {} s; it goes on: `iguazu ctl request watch {id}`",
                request.state,
                limit.as_secs()
            )));
        }
        tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The last word on a request, and the exit code.
pub(super) fn outcome(request: &RequestReply, output: Output) -> Result<(), Failure> {
    let RequestReply { id, state, message, verdict, .. } = request;
    let why = if message.is_empty() { String::new() } else { format!(": {message}") };
    match state.as_str() {
        "ready" => {
            if output == Output::Table {
                say(&format!("done: {}", show::count(request.changes.len(), "change")))?;
            }
            Ok(())
        }
        "pending" => {
            // Whoever asked is none of them, whatever they are.
            let by = verdict.told();
            Err(Failure::Waits(format!(
                "request {id} waits for {by}, by another person: `iguazu ctl request approve {id}`"
            )))
        }
        "quiet" => Err(Failure::Waits(format!(
            "request {id} has closed what it deletes; it goes when the quiet period is over, and until then \
             `iguazu ctl request call-off {id}` keeps it"
        ))),
        "approved" | "applying" => Ok(()),
        "rejected" => Err(Failure::Failed(format!("request {id} is refused by the rules; nothing was changed"))),
        other => Err(Failure::Failed(format!("request {id} is {other}{why}"))),
    }
}

/// The request in a reply.
pub(super) fn typed(reply: &Value) -> Result<RequestReply, Failure> {
    RequestReply::deserialize(reply).map_err(|error| {
        Failure::Failed(format!(
            "the reply has another form than this `iguazu ctl` knows; are client and server of one version? {error}"
        ))
    })
}
