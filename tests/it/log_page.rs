//! The page of log lines is what the sources say: every sentence at `warn` and above, and every field at `info` and above.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "deploy/docs/logs.md";

/// A line that our code may log.
#[derive(Debug)]
struct Line {
    level: &'static str,
    place: String,
    sentence: String,
    fields: Vec<String>,
}

#[test]
fn the_page_of_log_lines_is_what_the_sources_say() {
    let page = fs::read_to_string(PAGE).expect("the page is there");
    let (errors, rest) = page.split_once("\n## Warnings\n").expect("errors come first");
    let (warnings, fields) = rest.split_once("\n## Fields\n").expect("fields come last");
    let documented = [("error", first_cells(errors)), ("warn", first_cells(warnings))];
    let lines = lines();
    assert!(lines.len() > 50, "{} lines were found: the search is broken", lines.len());

    let mut wrong = Vec::new();
    for (level, documented) in &documented {
        let of_level = || lines.iter().filter(|line| line.level == *level);
        let said: BTreeSet<_> = of_level().map(|line| line.sentence.clone()).collect();
        for line in of_level().filter(|line| !documented.contains(&line.sentence)) {
            wrong.push(format!("{}: `{}` at {level} is not in {PAGE}", line.place, line.sentence));
        }
        wrong.extend(
            documented.difference(&said).map(|sentence| format!("{PAGE}: nothing says `{sentence}` at {level}")),
        );
    }
    let known = first_cells(fields);
    for line in &lines {
        let unknown = line.fields.iter().filter(|field| !known.contains(*field));
        wrong.extend(unknown.map(|field| format!("{}: the field `{field}` is not in {PAGE}", line.place)));
    }
    let used: BTreeSet<_> = lines.iter().flat_map(|line| line.fields.iter().cloned()).collect();
    // What every line has, whoever says it.
    let by_themselves = ["timestamp", "level", "target", "message"].map(str::to_owned);
    let stale = known.iter().filter(|field| !used.contains(*field) && !by_themselves.contains(field));
    wrong.extend(stale.map(|field| format!("{PAGE}: no line has the field `{field}`")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A field of that name would stand beside the sentence under the same key.
#[test]
fn no_line_has_a_field_named_like_its_sentence() {
    let twice: Vec<_> = lines().into_iter().filter(|line| line.fields.iter().any(|field| field == "message")).collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

/// What stands in backticks in the first column of the tables.
fn first_cells(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.map(|(cell, _)| cell.to_owned()).collect()
}

fn lines() -> Vec<Line> {
    let mut found = Vec::new();
    for path in sources(Path::new("src")) {
        let text = fs::read_to_string(&path).expect("it was listed");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for (level, call) in [("error", "error!("), ("warn", "warn!("), ("info", "info!(")] {
            for (at, _) in code.match_indices(call) {
                let is_word =
                    code[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != '_');
                let is_comment = code[..at].lines().next_back().is_some_and(|line| line.trim_start().starts_with("//"));
                if is_word && !is_comment {
                    let place = format!("{}:{}", path.display(), code[..at].lines().count());
                    found.push(read(level, place, &arguments(&code[at + call.len()..])));
                }
            }
        }
    }
    found
}

fn read(level: &'static str, place: String, arguments: &[String]) -> Line {
    let (texts, fields): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| argument.starts_with('"'));
    let sentence = texts.last().unwrap_or_else(|| panic!("{place}: no sentence in {arguments:?}"));
    let name = |field: &&String| {
        let name = field.split('=').next().unwrap_or_default().trim().trim_start_matches(['%', '?']);
        name.rsplit('.').next().unwrap_or_default().to_owned()
    };
    let sentence = sentence.trim_matches('"').to_owned();
    Line { level, place, sentence, fields: fields.iter().map(name).collect() }
}

/// The arguments of a call, cut at the commas that are not within brackets or texts.
fn arguments(code: &str) -> Vec<String> {
    let (mut depth, mut in_text, mut escaped) = (0, false, false);
    let mut found = vec![String::new()];
    for c in code.chars() {
        let last = found.last_mut().expect("there is always one");
        if in_text {
            in_text = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
        } else {
            match c {
                '"' => in_text = true,
                '(' | '[' | '{' => depth += 1,
                ')' if depth == 0 => break,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.push(String::new());
                    continue;
                }
                _ => {}
            }
        }
        last.push(c);
    }
    found.into_iter().map(|argument| argument.trim().to_owned()).filter(|argument| !argument.is_empty()).collect()
}

/// Rust files of ours, those of tests left out.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let of = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false => vec![path],
    };
    let all = entries.flatten().flat_map(|entry| of(entry.path()));
    all.filter(|path| path.extension().is_some_and(|kind| kind == "rs") && !path.to_string_lossy().contains("tests"))
        .collect()
}
