//! `iguazu audit EVENT…`: whether what was acknowledged is in Kafka.
//!
//! In: what was acknowledged, as the ledger of running proxies, two saved ledgers, or a file of ids; the topics. Out: a line an
//! event, `n acknowledged, n found, 0 missing, d duplicates`, and the ids that are missing or duplicate where a file names them.
//! Never: trusts the proxy for what is in Kafka: ids are read back out of the records.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Failure;
use super::find::open_window;
use super::interrupt::Interrupt;
use super::moments::{length, moment, now, shown};
use super::target::{Target, TargetArgs};
use crate::dev::client::{Address, Connection};
use crate::dev::decode;
use crate::telemetry::ledger::{FORMAT, Statement};

mod count;

use count::{Acknowledged, Copies, Verdict};

/// How long a proxy may take to show its ledger.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Ids of each kind that are listed.
const LISTED_MAX: usize = 1_000;

/// Arguments of `iguazu audit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What was acknowledged is taken from --ids, a file of ids that must be there, one a line, such as
`iguazu load --ids-file` writes; or from --ledger, two files of `curl ADMIN/ledger`, saved before
and after; or from running proxies, since their start: --admin, once for each proxy that sends to
the topic [default: the configuration's `admin.listen`].

A ledger counts, so it is exact when nothing is on its way: what was in memory or in the spool at
either end, or failed and may have been written all the same, is told beside. --ids is always exact.
Exit code 1 when something is missing.

Examples:
  iguazu audit orders.placed --config /etc/iguazu.toml
  iguazu audit orders.placed --admin http://proxy-1:9464 --admin http://proxy-2:9464
  iguazu audit orders.placed orders.shipped --ledger before.json --ledger after.json
  iguazu load --rate 5000/s --ids-file ids && iguazu audit orders.placed --ids ids --last 5m")]
pub struct Args {
    /// Names of the events
    #[arg(required = true, value_name = "EVENT")]
    events: Vec<String>,
    /// File of ids that were acknowledged, one a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ledger", "admin"])]
    ids: Option<PathBuf>,
    /// A saved ledger; twice: of the beginning and of the end
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    ledger: Vec<PathBuf>,
    /// Admin listener of a running proxy
    #[arg(long, value_name = "URL")]
    admin: Vec<String>,
    /// Look at events that were received from then on, RFC 3339 [default: as the ledger says, or an hour ago]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<i64>,
    /// … and until then [default: as the ledger says, or now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<i64>,
    /// The same as --since so long ago
    #[arg(long, value_name = "TIME", value_parser = length, conflicts_with = "since")]
    last: Option<Duration>,
    #[command(flatten)]
    target: TargetArgs,
}

/// What was acknowledged, and when that was received.
struct Claim {
    acknowledged: Vec<Acknowledged>,
    since: i64,
    until: i64,
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    if args.events.len() > 1 && args.target.topic.is_some() {
        return Err(Failure::Usage("`--topic` is for one event".to_owned()));
    }
    let targets: Vec<Target> = args.events.iter().map(|event| args.target.find(event)).collect::<Result<_, _>>()?;
    let expected = args.ids.as_deref().map(read_ids).transpose()?;
    let claim = match &expected {
        Some(_) => claim_of_ids(&args),
        None => claim_of_ledgers(&args, &targets)?,
    };
    let mut out = io::stdout().lock();
    writeln!(out, "received from {} to {}", shown(claim.since), shown(claim.until))?;
    let mut holds = true;
    // Ids may be of any of the events, so that their copies are counted together.
    let mut together = Copies::new(expected.unwrap_or_default());
    for (n, target) in targets.iter().enumerate() {
        let mut alone = Copies::default();
        let copies = if args.ids.is_some() { &mut together } else { &mut alone };
        count(target, &claim, copies, &interrupt)?;
        if interrupt.happened() {
            return Err(Failure::Interrupted);
        }
        if let Some(acknowledged) = claim.acknowledged.get(n) {
            let verdict = Verdict::of_counts(*acknowledged, &alone);
            writeln!(out, "{}: {verdict}", args.events[n])?;
            list(&mut out, "duplicate", alone.duplicates())?;
            holds &= verdict.missing == 0;
        }
    }
    if args.ids.is_some() {
        let verdict = Verdict::of_ids(&together);
        writeln!(out, "{}: {verdict}", args.events.join(", "))?;
        list(&mut out, "missing", together.missing())?;
        list(&mut out, "duplicate", together.duplicates())?;
        holds = verdict.missing == 0;
    }
    if holds { Ok(()) } else { Err(Failure::Told) }
}

fn list(out: &mut impl io::Write, what: &str, ids: impl Iterator<Item = String>) -> io::Result<()> {
    let mut more = 0u64;
    for (n, id) in ids.enumerate() {
        match n {
            ..LISTED_MAX => writeln!(out, "  {what} {id}")?,
            _ => more += 1,
        }
    }
    if more > 0 {
        writeln!(out, "  … and {more} more")?;
    }
    Ok(())
}

fn count(target: &Target, claim: &Claim, copies: &mut Copies, interrupt: &Interrupt) -> Result<(), Failure> {
    // What waited on disk stands behind what came later, so that everything to the end is looked at.
    let mut window = open_window(target, claim.since, i64::MAX)?;
    while let Some(record) = window.next(|| interrupt.happened()).map_err(|error| target.unreached(&error))? {
        let Ok(envelope) = decode::envelope(&record) else { continue };
        let received = record.timestamp_ms.unwrap_or(envelope.received_ms);
        if envelope.event == target.event_type.name && (claim.since..=claim.until).contains(&received) {
            copies.add(&envelope.id).map_err(|error| Failure::Failed(error.to_string()))?;
        }
    }
    Ok(())
}

fn read_ids(path: &Path) -> Result<Vec<String>, Failure> {
    let unreadable = |error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn claim_of_ids(args: &Args) -> Claim {
    let until = args.until.unwrap_or_else(now);
    let last = args.last.unwrap_or(Duration::from_secs(3_600)).as_millis() as i64;
    Claim { acknowledged: vec![], since: args.since.unwrap_or(until - last), until }
}

fn claim_of_ledgers(args: &Args, targets: &[Target]) -> Result<Claim, Failure> {
    let (begins, ends) = match &args.ledger[..] {
        [] => (vec![], ask_all(args)?),
        [begin, end] => (vec![read_statement(begin)?], vec![read_statement(end)?]),
        _ => {
            return Err(Failure::Usage(
                "give `--ledger` twice: the ledger of the beginning and that of the end".into(),
            ));
        }
    };
    if let ([begin], [end]) = (&begins[..], &ends[..])
        && (begin.started != end.started || begin.at > end.at)
    {
        return Err(Failure::Usage(format!(
            "these are not two ledgers of one process, first and later: it started {} and {}",
            begin.started, end.started
        )));
    }
    let acknowledged = targets.iter().map(|target| {
        let (event, cluster) = (&target.event_type.name, &target.event_type.cluster);
        Acknowledged::between(&begins, &ends, event, cluster)
    });
    let first =
        begins.iter().map(|begin| &begin.at).chain(ends.iter().map(|end| &end.started).filter(|_| begins.is_empty()));
    let time = |text: &String| moment(text).map_err(|problem| Failure::Failed(format!("a ledger's time: {problem}")));
    let first = first.map(time).collect::<Result<Vec<_>, _>>()?.into_iter().min();
    let last = ends.iter().map(|end| time(&end.at)).collect::<Result<Vec<_>, _>>()?.into_iter().max();
    let until = args.until.or(last).unwrap_or_else(now);
    let since = match args.last {
        Some(last) => until - last.as_millis() as i64,
        None => args.since.or(first).unwrap_or(0),
    };
    Ok(Claim { acknowledged: acknowledged.collect(), since, until })
}

fn read_statement(path: &Path) -> Result<Statement, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, origin: &str) -> Result<Statement, Failure> {
    let statement: Statement = serde_json::from_str(text)
        .map_err(|error| Failure::Failed(format!("{origin} is no ledger as `/ledger` serves it: {error}")))?;
    match statement.format {
        FORMAT => Ok(statement),
        other => Err(Failure::Failed(format!("{origin} is a ledger of format {other}; this program reads {FORMAT}"))),
    }
}

/// The ledgers of the proxies that are named, or of the configuration's.
fn ask_all(args: &Args) -> Result<Vec<Statement>, Failure> {
    let urls = match args.admin.is_empty() {
        false => args.admin.clone(),
        true => {
            let found = args.target.read()?;
            let none = || {
                Failure::Usage("name what was acknowledged: `--admin URL`, `--ledger` twice, or `--ids FILE`".into())
            };
            let (config, _) = found.ok_or_else(none)?;
            vec![format!("http://{}", config.admin.listen)]
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = |url: &String| {
        let address = Address::parse(url, None).map_err(|error| Failure::Usage(error.to_string()))?;
        let answer = runtime.block_on(async {
            let mut connection = Connection::open(&address, TIMEOUT).await?;
            connection.get("/ledger", TIMEOUT).await
        });
        let answer = answer.map_err(Failure::because)?;
        parse(&String::from_utf8_lossy(&answer.body), url)
    };
    urls.iter().map(ask).collect()
}
