//! What the documentation says is so: links lead somewhere, commands and their options exist, configurations are accepted,
//! settings, codes, metrics and tests have the names that pages call them by.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use iguazu::config;

use super::support::tool::iguazu;
use super::support::{folder, rules};

mod run;

/// Every page: the README, what is in `deploy` and `.github`, and the numbers.
fn pages() -> Vec<(PathBuf, String)> {
    let mut found = vec![PathBuf::from("README.md"), PathBuf::from("benches/README.md")];
    ["deploy", ".github"].iter().for_each(|place| collect(Path::new(place), &mut found));
    found.sort();
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("a page is text"))).collect()
}

/// The pages of a folder and of those in it.
pub fn collect(place: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(place).expect("tests run in the package's folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "md") {
            found.push(path);
        }
    }
}

/// A page without its fenced blocks, and those blocks with their language.
fn split(text: &str) -> (String, Vec<(String, String)>) {
    let (mut prose, mut blocks, mut open) = (String::new(), Vec::new(), None::<(String, String)>);
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(language), None) => open = Some((language.trim().to_owned(), String::new())),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some((language, block))) => open = Some((language, block + line + "\n")),
            (None, None) => prose = prose + line + "\n",
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    (prose, blocks)
}

/// What stands between backticks.
fn spans(prose: &str) -> Vec<&str> {
    prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Asks a question about every page, and fails with all answers at once.
fn check(wrong: impl Fn(&Path, &str) -> Vec<String>) {
    let told = |(path, text): (PathBuf, String)| {
        let found = wrong(&path, &text);
        found.into_iter().map(move |what| format!("{}: {what}", path.display()))
    };
    let all: Vec<String> = pages().into_iter().flat_map(told).collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn every_link_leads_somewhere() {
    check(broken_links);
}

/// The links of a page behind which nothing is.
pub fn broken_links(path: &Path, text: &str) -> Vec<String> {
    let (prose, _) = split(text);
    let links = prose.match_indices("](").filter_map(|(at, _)| prose[at + 2..].split(')').next());
    let is_broken = |link: &&str| {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if file.is_empty() { path.to_owned() } else { path.parent().expect("a folder").join(file) };
        let Ok(target) = target.canonicalize() else { return true };
        !anchor.is_empty() && !anchors(&fs::read_to_string(target).unwrap_or_default()).contains(anchor)
    };
    links.filter(|link| !link.contains("://")).filter(is_broken).map(|link| format!("nothing is at {link}")).collect()
}

/// The anchors of a page, as forges make them from headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let (prose, _) = split(text);
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |heading: &str| {
        let heading = heading.to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    headings.map(slug).collect()
}

#[test]
fn every_page_is_in_the_index() {
    let index = fs::read_to_string("deploy/docs/README.md").expect("there is an index");
    let names = pages().into_iter().filter(|(path, _)| path.starts_with("deploy/docs"));
    let names = names.map(|(path, _)| path.file_name().expect("a file").to_string_lossy().into_owned());
    let missing: Vec<_> = names.filter(|name| name != "README.md" && !index.contains(name.as_str())).collect();
    assert_eq!(missing, Vec::<String>::new(), "deploy/docs/README.md does not name them");
}

#[test]
fn every_command_and_its_options_exist() {
    let place = folder("docs-commands");
    let mut known = BTreeSet::new();
    let mut count = 0;
    let mut wrong = Vec::new();
    for (path, text) in pages() {
        let (prose, blocks) = split(&text);
        let shells = blocks.iter().filter(|(language, _)| language == "sh").flat_map(|(_, block)| block.lines());
        let lines = shells.flat_map(|line| line.split(" | ").flat_map(|part| part.split(" && ")));
        let commands = lines.chain(spans(&prose)).map(str::trim);
        let commands = commands.filter_map(|line| match line.strip_prefix("ctl ") {
            Some(of_ctl) => Some(format!("ctl {of_ctl}")),
            None => line.strip_prefix("iguazu ").map(str::to_owned),
        });
        for command in commands {
            count += 1;
            let arguments = arguments(&command);
            if arguments.is_empty() || !known.insert(arguments.clone()) {
                continue;
            }
            // Arguments are read up to `--help`, so that one that is not known is an error.
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--help"]).collect();
            let ended = iguazu(&place, &arguments);
            if ended.code != Some(0) {
                wrong.push(format!(
                    "{}: iguazu {command}: {}",
                    path.display(),
                    ended.stderr.lines().next().unwrap_or_default()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 60, "only {count} commands are found");
}

/// The words of a command line as a shell has them, without a comment, a redirection or what a reader is to fill in (`…`).
fn arguments(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (None, '#') if words.last().is_some_and(String::is_empty) => break,
            (None, '>' | '<' | ';') => break,
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, ' ') => words.push(String::new()),
            (_, c) => words.last_mut().expect("there is one at least").push(c),
        }
    }
    words.retain(|word| !word.is_empty() && !word.contains('…') && word != "&");
    words
}

/// What a block that begins with `# part` is a part of.
const WHOLE: &str = "[clusters.core]\nbrokers = [\"127.0.0.1:1\"]\nregistry = \"main\"\n[registries.main]\nurls = [\"http://127.0.0.1:2\"]\n";

#[test]
fn every_configuration_is_accepted() {
    check(|path, text| {
        let blocks = split(text).1.into_iter().filter(|(language, _)| language == "toml");
        // Files of other programs, such as Cargo's, say so in their first line.
        let blocks = blocks.filter(|(_, block)| !block.starts_with("# not ours"));
        let problems = blocks.flat_map(|(_, block)| {
            let text = if block.starts_with("# part") { format!("{WHOLE}{block}") } else { block };
            let folder = path.parent().expect("a page is in a folder");
            config::parse(&text, folder).err().unwrap_or_default()
        });
        problems.map(|problem| problem.to_string()).collect()
    });
}

#[test]
fn every_metric_exists() {
    let table = fs::read_to_string("deploy/docs/metrics.md").expect("a test compares it with what is served");
    let known: BTreeSet<&str> = spans(&table).into_iter().filter(|name| name.starts_with("iguazu_")).collect();
    assert!(known.len() > 50);
    let recorded: BTreeSet<_> = rules::all().into_iter().filter_map(|rule| rule.record).collect();
    check(|_, text| {
        let (prose, _) = split(text);
        let names = spans(&prose).into_iter().map(|span| span.split('{').next().unwrap_or_default());
        let names = names
            .filter(|name| name.starts_with("iguazu_") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        let is_known = |name: &&str| {
            let series = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            known.contains(name) || recorded.contains(*name) || series.is_some_and(|name| known.contains(name))
        };
        names.filter(|name| !is_known(name)).map(|name| format!("there is no metric {name}")).collect()
    });
}

#[test]
fn every_code_after_a_status_exists() {
    let table = fs::read_to_string("deploy/docs/errors.md").expect("a test compares it with the codes");
    let known: BTreeSet<&str> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(known.len() > 30);
    check(|_, text| {
        let (prose, _) = split(text);
        let parts: Vec<&str> = prose.split('`').collect();
        let named = parts.windows(2).step_by(2).filter(|pair| {
            let status = pair[0].trim_end_matches(['(', ' ']).rsplit(' ').next().unwrap_or_default();
            status.len() == 3 && status.starts_with(['4', '5']) && status.bytes().all(|b| b.is_ascii_digit())
        });
        let names = named.map(|pair| pair[1]).filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        names.filter(|name| !known.contains(name)).map(|name| format!("there is no code {name}")).collect()
    });
}

/// Words that are written like settings and are something else: of replies, of resources of the management plane, of the ledger.
const NO_SETTINGS: [&str; 6] =
    ["mb_per_second", "retry_after_ms", "produce_bytes_per_second", "consume_bytes_per_second", "control.db", "lost"];

#[test]
fn every_setting_exists() {
    let tables =
        ["http", "admin", "spool", "failed", "routes", "dead_letters", "control", "clusters", "events", "senders"];
    let units = ["_ms", "_seconds", "_bytes_max", "_events_max", "_per_second", "_file"];
    let reference = config::reference();
    let asked = RefCell::new(BTreeMap::new());
    check(|path, text| {
        let (prose, _) = split(text);
        // The reference itself is made from them; fields of logs and spans, and a chart's values, are compared by tests of their own.
        let of_others = ["settings.md", "metrics.md", "logs.md", "traces.md", "helm/iguazu/README.md"];
        if of_others.iter().any(|page| path.ends_with(page)) {
            return vec![];
        }
        let is_word =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'.'));
        let wrong = |span: &str| {
            if let Some(table) =
                span.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|table| is_word(table))
            {
                let is_there =
                    [format!("`[{table}]`"), format!("`[{table}.")].iter().any(|header| reference.contains(header));
                return (!is_there).then(|| format!("there is no table [{table}]"));
            }
            let key = span.split(" = ").next().unwrap_or_default();
            let is_assigned = span.contains(" = ");
            let is_dotted = key.split_once('.').is_some_and(|(table, _)| tables.contains(&table));
            let has_unit = units.iter().any(|unit| key.ends_with(unit));
            // Kafka's own have dots between all words; ours only behind a table.
            let is_ours =
                !NO_SETTINGS.contains(&key) && !key.starts_with("iguazu_") && (is_dotted || !key.contains('.'));
            let is_setting = is_word(key) && (is_assigned || is_dotted || has_unit) && is_ours;
            let refused = || config::explain(key).err();
            is_setting.then(|| asked.borrow_mut().entry(key.to_owned()).or_insert_with(refused).clone()).flatten()
        };
        spans(&prose).into_iter().filter_map(wrong).collect()
    });
}

#[test]
fn every_test_that_holds_a_promise_exists() {
    let text = fs::read_to_string("deploy/docs/delivery.md").expect("there is the page");
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains("::"));
    let mut count = 0;
    for span in rows.flat_map(|row| spans(row.rsplit(" | ").next().unwrap_or_default())) {
        let Some((module, name)) = span.split_once("::") else { continue };
        count += 1;
        let file = Path::new("tests/it").join(module).with_extension("rs");
        let source = fs::read_to_string(&file).unwrap_or_default();
        let is_unit = || Path::new("src").join(module).join(name).with_extension("rs").exists();
        let is_there = source.contains(&format!("fn {name}")) || (name.is_empty() && file.exists()) || is_unit();
        assert!(is_there, "there is no test {span}");
    }
    assert!(count > 20, "only {count} tests are named");
}
