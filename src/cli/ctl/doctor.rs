//! `iguazu ctl doctor`: is everything reachable, allowed and in time, and what to do where it is not.
//!
//! In: the place, the token, what the API says of itself. Out: a line for each look, with a fix where something is wrong; exit code 1
//! when something is. Never: a change, a stop at the first thing that is wrong.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::show::{self, Output, cell, count};
use crate::cli::{Failure, with_causes};
use crate::control::reconcile::FindingKind;

/// A reply that takes longer is slow: lists are to be answered within 200 ms.
const SLOW: Duration = Duration::from_secs(1);
/// A clock that is off by more makes tokens of others look expired, or not valid yet.
const SKEW_MAX_MS: i64 = 30_000;
/// A request that waits for somebody for longer is told.
const WAITING_MAX_MS: i64 = 24 * 3_600_000;

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    /// Worth a look; not a failure.
    Remark,
    Bad,
}

#[derive(Debug)]
struct Look {
    health: Health,
    what: &'static str,
    found: String,
    fix: String,
}

#[derive(Debug, Default)]
struct Looks(Vec<Look>);

impl Looks {
    fn good(&mut self, what: &'static str, found: impl Into<String>) {
        self.0.push(Look { health: Health::Good, what, found: found.into(), fix: String::new() });
    }

    fn remark(&mut self, what: &'static str, found: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Look { health: Health::Remark, what, found: found.into(), fix: fix.into() });
    }

    fn bad(&mut self, what: &'static str, found: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Look { health: Health::Bad, what, found: found.into(), fix: fix.into() });
    }

    fn is_good(&self) -> bool {
        self.0.iter().all(|look| look.health != Health::Bad)
    }
}

pub(super) async fn run(client: &Client, output: Output) -> Result<(), Failure> {
    let mut looks = Looks::default();
    if reach(client, &mut looks).await {
        ready(client, &mut looks).await;
        if login(client, &mut looks).await {
            clusters(client, &mut looks).await;
            proxies(client, &mut looks).await;
            waiting(client, &mut looks).await;
            findings(client, &mut looks).await;
            audit(client, &mut looks).await;
        }
    }
    match output {
        Output::Json => show::print_json(&looks.document())?,
        Output::Table => show::print(&looks.text())?,
    }
    if looks.is_good() { Ok(()) } else { Err(Failure::Told) }
}

impl Looks {
    fn text(&self) -> String {
        let mut text = String::new();
        for Look { health, what, found, fix } in &self.0 {
            let sign = match health {
                Health::Good => "ok  ",
                Health::Remark => "look",
                Health::Bad => "BAD ",
            };
            text.push_str(&format!("{sign}  {what:<10}  {}\n", found.replace('\n', "\n                  ")));
            if !fix.is_empty() {
                text.push_str(&format!("                  -> {fix}\n"));
            }
        }
        text
    }

    fn document(&self) -> Value {
        let look = |look: &Look| {
            let health = match look.health {
                Health::Good => "good",
                Health::Remark => "remark",
                Health::Bad => "bad",
            };
            json!({ "health": health, "what": look.what, "found": look.found, "fix": look.fix })
        };
        json!({ "ok": self.is_good(), "looks": self.0.iter().map(look).collect::<Vec<_>>() })
    }
}

async fn reach(client: &Client, looks: &mut Looks) -> bool {
    let place = client.place();
    let begun = Instant::now();
    let answer = client.probe(client.at(["health"])).await;
    let took = begun.elapsed();
    let ms = took.as_millis();
    let date_ms = match answer {
        Err(error) => {
            let fix = format!("does `iguazu control` run there? {} says where to look", place.named_by);
            looks.bad("API", with_causes(&error), fix);
            return false;
        }
        Ok((_, _, date_ms)) => {
            let found = format!("{} answers, in {ms} ms", place.url);
            match took > SLOW {
                true => looks.remark("API", found, "look at its load and at its store"),
                false => looks.good("API", found),
            }
            date_ms
        }
    };
    if let Some(date_ms) = date_ms {
        // The header has whole seconds.
        let skew = show::now_ms() - date_ms;
        if skew.abs() > SKEW_MAX_MS {
            let found = format!("this machine's clock and the API's differ by {} s", skew / 1000);
            looks.bad("clock", found, "set the clocks: tokens are good from one moment to another");
        }
    }
    true
}

async fn ready(client: &Client, looks: &mut Looks) {
    match client.probe(client.at(["ready"])).await {
        Ok((200, ..)) => looks.good("ready", "it takes requests and applies them"),
        Ok((status, said, _)) => {
            let said = show::lines(&said);
            looks.bad("ready", format!("it is not ready (status {status})\n{}", said.trim_end()), "its log says more");
        }
        Err(error) => looks.bad("ready", with_causes(&error), "its log says more"),
    }
}

async fn login(client: &Client, looks: &mut Looks) -> bool {
    let place = client.place();
    let fix = match &place.token_file {
        None => "name a token by `--token-file`; `iguazu ctl token create` makes one".to_owned(),
        Some(file) => format!("make a new one with `iguazu ctl token create`, and put it into {}", file.display()),
    };
    let me = match client.get(client.at(["v1", "me"])).await {
        Ok(me) => me,
        Err(error) => {
            looks.bad("token", with_causes(&error), fix);
            return false;
        }
    };
    let of = |name: &str| match cell(&me[name]) {
        empty if empty.is_empty() || empty == "-" => "none".to_owned(),
        some => some,
    };
    let found = format!("{}; groups: {}; roles: {}", cell(&me["name"]), of("groups"), of("roles"));
    match me["expires_ms"].as_i64() {
        Some(at_ms) if at_ms - show::now_ms() < 7 * 86_400_000 => {
            looks.remark("token", format!("{found}; expires {}", show::until(at_ms)), fix);
        }
        _ => looks.good("token", found),
    }
    let is_empty = |name: &str| me[name].as_array().is_none_or(Vec::is_empty);
    if is_empty("groups") && is_empty("roles") {
        looks.remark(
            "rights",
            "whoever is in no group owns no service, and can change nothing",
            "have a token with `--group` made",
        );
    }
    true
}

async fn clusters(client: &Client, looks: &mut Looks) {
    let items = match client.list(client.at(["v1", "clusters"]), None).await {
        Ok(items) => items,
        Err(error) => return looks.bad("clusters", error.to_string(), "ask an admin for the right to read"),
    };
    if items.is_empty() {
        looks.remark(
            "clusters",
            "none is registered, so nothing can be asked for",
            "`iguazu ctl create cluster NAME mode=shared operators='[\"GROUP\"]'`",
        );
    }
    for item in items {
        let (id, state) = (cell(&item["id"]), cell(&item["state"]));
        let mode = cell(&item["spec"]["mode"]);
        match (state.as_str(), mode.as_str()) {
            ("ready", "observe") => looks.remark(
                "cluster",
                format!("{id} is only looked at (mode observe)"),
                format!(
                    "`iguazu ctl set cluster {} mode=shared` lets it be managed",
                    id.trim_start_matches("cluster/")
                ),
            ),
            ("ready", _) => looks.good("cluster", format!("{id}: {mode}")),
            _ => looks.bad(
                "cluster",
                format!("{id} is {state}: {}", cell(&item["message"])),
                "look whether Kafka is up, and at `[clusters]` of the plane's configuration",
            ),
        }
    }
}

/// Whether what is approved is live: each proxy has the newest routes, and has asked of late.
async fn proxies(client: &Client, looks: &mut Looks) {
    let reply = match client.get(client.at(["v1", "proxies"])).await {
        Ok(reply) => reply,
        Err(error) => return looks.remark("proxies", with_causes(&error), "ask an admin for the right to read"),
    };
    let items = reply["items"].as_array().map_or(&[][..], Vec::as_slice);
    let newest = reply["revision"].as_u64().unwrap_or_default();
    let named = |is_one: &dyn Fn(u64) -> bool| -> Vec<String> {
        let of_them = items.iter().filter(|proxy| proxy["revision"].as_u64().is_some_and(is_one));
        of_them.map(|proxy| cell(&proxy["name"])).collect()
    };
    let (behind, ahead) = (named(&|has| has < newest), named(&|has| has > newest));
    if !ahead.is_empty() {
        let found = format!("with newer routes than there are here: {}", ahead.join(", "));
        let fix =
            "the store is an older one, put back: make again what was made since, before anything else is changed";
        looks.bad("proxies", found, fix);
    }
    match (items.is_empty(), behind.is_empty()) {
        (false, true) if !ahead.is_empty() => {}
        (true, _) => {
            looks.remark("proxies", "none asks for routes", "`routes.source = \"control\"` in a proxy's configuration");
        }
        (false, true) => looks.good("proxies", format!("{}, each with the newest routes", count(items.len(), "proxy"))),
        (false, false) => {
            let found = format!("without the newest routes yet: {}", behind.join(", "));
            looks.remark("proxies", found, "if it stays so, its `/ready` says what it does not take, and why");
        }
    }
}

async fn waiting(client: &Client, looks: &mut Looks) {
    let mut waiting = 0;
    let mut oldest: Option<i64> = None;
    let mut url = client.at(["v1", "requests"]);
    url.query_pairs_mut().append_pair("state", "pending");
    let listed = client
        .pages(url, Some(1_000), |item| {
            waiting += 1;
            let id = item["id"].as_str().and_then(|id| uuid::Uuid::try_parse(id).ok());
            let made = id.and_then(|id| id.get_timestamp()).map(|made| made.to_unix().0 as i64 * 1000);
            oldest = oldest.into_iter().chain(made).min();
            Ok(())
        })
        .await;
    match (listed, oldest) {
        (Err(error), _) => looks.bad("requests", error.to_string(), "ask an admin for the right to read"),
        (Ok(()), Some(at_ms)) if show::now_ms() - at_ms > WAITING_MAX_MS => {
            let found = format!("{} for somebody, the oldest since {}", wait(waiting), show::ago(at_ms));
            looks.remark("requests", found, "`iguazu ctl request list --state pending`");
        }
        (Ok(()), _) => looks.good("requests", format!("{} for somebody", wait(waiting))),
    }
}

fn wait(number: usize) -> String {
    if number == 1 { "1 request waits".to_owned() } else { format!("{} wait", count(number, "request")) }
}

/// What the plane's own user on a cluster may not do or see there: these are its operator's to give, unlike other findings.
const RIGHTS: [FindingKind; 2] = [FindingKind::Unsupported, FindingKind::Unobserved];

async fn findings(client: &Client, looks: &mut Looks) {
    let mut found = 0;
    let mut rights = Vec::new();
    let listed = client
        .pages(client.at(["v1", "findings"]), Some(1_000), |item| {
            found += 1;
            if RIGHTS.iter().any(|kind| item["kind"] == kind.as_str()) {
                rights.push(item);
            }
            Ok(())
        })
        .await;
    for item in rights {
        looks.remark("rights", lacking(&item), cell(&item["fix"]));
    }
    match listed {
        Err(error) => looks.remark("findings", error.to_string(), "ask an admin for the right to read"),
        Ok(()) if found > 0 => looks.remark("findings", count(found, "finding"), "`iguazu ctl findings`"),
        Ok(()) => looks.good("findings", "Kafka is as it was asked for, as far as was looked"),
    }
}

/// What a finding says, and why of each kind of resource, or part of the cluster, that it is about.
fn lacking(finding: &Value) -> String {
    let evidence = &finding["evidence"];
    let whys = ["kinds", "parts"].iter().filter_map(|name| evidence[*name].as_object()).flatten();
    let lines = whys.map(|(what, why)| format!("\n{what}: {}", cell(why.get("why").unwrap_or(why))));
    format!("{}{}", cell(&finding["summary"]), lines.collect::<String>())
}

async fn audit(client: &Client, looks: &mut Looks) {
    match client.get(client.at(["v1", "audit", "verify"])).await {
        Ok(reply) if reply["intact"] == true => {
            looks.good("audit log", format!("{} lines, each as it was written", cell(&reply["lines"])));
        }
        Ok(reply) => looks.bad("audit log", cell(&reply["problem"]), "compare it with what was exported before"),
        // Not everybody may read it.
        Err(ClientError::Refused(problem)) if problem.status == 403 => {}
        Err(error) => looks.bad("audit log", with_causes(&error), "its log says more"),
    }
}
