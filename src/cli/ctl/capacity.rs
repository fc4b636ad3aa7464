//! `iguazu ctl onboard|explain|budget`: from what a team knows of its traffic to what Kafka needs.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::fields;
use super::follow::{self, AskArgs};
use super::show::{self, Output, Table, bytes, cell};
use crate::cli::Failure;

/// Arguments of `iguazu ctl onboard`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Makes the topic of the event's name, the event type that leads to it, and the sender of the
service's name, who may publish it; with --through kafka a user of Kafka in place of the sender and
the event type. What the service has already stays as it is. The service must be there: `ctl create
service`.

Examples:
  iguazu ctl onboard orders.placed --service orders --cluster core --mb-per-second 0.5
  iguazu ctl onboard orders.placed --service orders --cluster core --subject orders.v1.OrderPlaced
  iguazu ctl secret sender orders --out orders.key")]
pub(super) struct OnboardArgs {
    /// Name of the event, and of its topic
    event: String,
    /// The service that owns it
    #[arg(long)]
    service: String,
    /// The cluster of its topic
    #[arg(long)]
    cluster: String,
    /// Average megabytes a second, after compression
    #[arg(long, value_name = "N", default_value_t = 0.1)]
    mb_per_second: f64,
    /// The subject of its schema; none: JSON that nobody checks
    #[arg(long)]
    subject: Option<String>,
    /// How it is sent: by HTTP through the proxy, or by a Kafka client
    #[arg(long, value_enum, default_value = "proxy")]
    through: Through,
    #[command(flatten)]
    ask: AskArgs,
}

/// How events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Through {
    Proxy,
    Kafka,
}

pub(super) async fn onboard(client: &Client, args: OnboardArgs, output: Output) -> Result<(), Failure> {
    let OnboardArgs { event, service, cluster, mb_per_second, subject, through, ask } = args;
    let (through, kind, name) = match through {
        Through::Proxy => ("proxy", "sender", service.clone()),
        Through::Kafka => ("kafka", "user", format!("{cluster}/{service}")),
    };
    let mut body = json!({ "event": event, "service": service, "cluster": cluster, "mb_per_second": mb_per_second, "through": through });
    if let Some(subject) = subject {
        body["subject"] = json!(subject);
    }
    let mut url = client.at(["v1", "onboardings"]);
    ask.put_into(&mut url);
    let reply = client.ask(url, &body).await?;
    let makes_secret = reply["changes"].as_array().into_iter().flatten().any(|change| {
        change["operation"] == "create" && change["resource"].as_str().is_some_and(|id| id.starts_with(kind))
    });
    follow::conclude(client, reply, ask.dry_run, &ask.wait, output).await?;
    if makes_secret && !ask.dry_run && output == Output::Table {
        show::say(&format!("its secret, which is given out once: iguazu ctl secret {kind} {name}"))?;
    }
    Ok(())
}

/// Arguments of `iguazu ctl explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  iguazu ctl explain core capacity.mb_per_second=5 capacity.retention_hours=72 tier=critical")]
pub(super) struct ExplainArgs {
    /// The cluster: what its brokers can do, and what it costs
    cluster: String,
    /// What is said of the topic: FIELD=VALUE, repeat for more
    #[arg(value_name = "FIELD=VALUE", required = true, value_parser = fields::assignment)]
    fields: Vec<fields::Assignment>,
}

pub(super) async fn explain(client: &Client, args: ExplainArgs, output: Output) -> Result<(), Failure> {
    let mut spec = Value::Object(Map::new());
    fields::set(&mut spec, &args.fields)?;
    let body = json!({ "cluster": args.cluster, "spec": spec });
    let reply = client.send(reqwest::Method::POST, client.at(["v1", "explain"]), Some(&body)).await?;
    match output {
        Output::Json => show::print_json(&reply),
        Output::Table => show::print(&explained(&reply)),
    }
}

/// Every step from what was said to what Kafka gets.
fn explained(reply: &Value) -> String {
    let resolved = &reply["resolved"];
    let mut table = Table::new(&["STEP", "FORMULA", "WITH", "IS"]);
    for step in resolved["steps"].as_array().into_iter().flatten() {
        table.row([cell(&step["name"]), cell(&step["formula"]), cell(&step["with"]), cell(&step["value"])]);
    }
    let mut text = table.text();
    let reserve = resolved["reserve_bytes"].as_u64().map_or_else(|| "-".to_owned(), bytes);
    text.push_str(&format!(
        "\n{} partitions in {} copies, {reserve} of disk reserved\n",
        cell(&resolved["partitions"]),
        cell(&resolved["replicas"])
    ));
    if let Some(cost) = reply["monthly_cost"].as_f64() {
        text.push_str(&format!("{cost:.2} a month by the cluster's prices\n"));
    }
    for (name, value) in resolved["configs"].as_object().into_iter().flatten() {
        text.push_str(&format!("  {name}={}\n", cell(value)));
    }
    text
}

/// Arguments of `iguazu ctl budget`.
#[derive(Debug, clap::Args)]
pub(super) struct BudgetArgs {
    /// Only this cluster
    cluster: Option<String>,
}

pub(super) async fn budget(client: &Client, args: BudgetArgs, output: Output) -> Result<(), Failure> {
    let mut reply = client.get(client.at(["v1", "budgets"])).await?;
    let Some(items) = reply["items"].as_array_mut() else { return show::print_json(&reply) };
    if let Some(cluster) = &args.cluster {
        items.retain(|item| item["cluster"] == cluster.as_str());
        if items.is_empty() {
            return Err(Failure::Failed(format!("there is no cluster `{cluster}`")));
        }
    }
    if output == Output::Json {
        return show::print_json(&reply);
    }
    let mut table = Table::new(&["CLUSTER", "WHAT", "SPOKEN FOR", "FREE", "OF", "USED"]);
    for item in reply["items"].as_array().into_iter().flatten() {
        for (name, what, unit) in [
            ("disk_bytes", "disk", bytes as fn(u64) -> String),
            ("partitions", "partitions, copies counted", |count| count.to_string()),
            ("ingress_bytes_per_second", "ingress a second", bytes),
        ] {
            let amount = &item[name];
            let told = |name: &str| amount[name].as_u64().map_or_else(|| "unknown".to_owned(), unit);
            let share = match (amount["reserved"].as_u64(), amount["limit"].as_u64()) {
                (Some(reserved), Some(limit)) if limit > 0 => {
                    format!("{:.0} %", reserved as f64 / limit as f64 * 100.0)
                }
                _ => "-".to_owned(),
            };
            table.row([cell(&item["cluster"]), what.to_owned(), told("reserved"), told("free"), told("limit"), share]);
        }
    }
    table.print("no cluster is registered")?;
    let mut brokers = Table::new(&["CLUSTER", "BROKER", "UP", "DISKS", "USED", "GROWS A DAY", "FULL"]);
    for item in reply["items"].as_array().into_iter().flatten() {
        for broker in item["brokers"].as_array().into_iter().flatten() {
            let size = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), bytes);
            let growth = broker["growth_bytes_per_day"].as_f64().map(|bytes| bytes.max(0.0) as u64);
            brokers.row([
                cell(&item["cluster"]),
                cell(&broker["id"]),
                cell(&broker["is_up"]),
                size(broker["total_bytes"].as_u64()),
                broker["used"].as_f64().map_or_else(|| "unknown".to_owned(), |share| format!("{:.0} %", share * 100.0)),
                size(growth),
                broker["full_ms"].as_i64().map_or_else(|| "-".to_owned(), show::until),
            ]);
        }
    }
    if brokers.is_empty() { Ok(()) } else { show::print(&format!("\n{}", brokers.text())) }
}
