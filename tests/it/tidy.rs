//! Reads our own sources and holds them to the rules of the house that no compiler checks: who may name whom, how long a
//! file may be, what must not be left lying about.
//!
//! Rules about code look at code only: comments, the contents of strings and, where it says so, tests are blanked first.

use std::fs;
use std::path::{Path, PathBuf};

/// A file over about 600 lines is asked what its second subject is; one over this is not let through.
const LINES_MAX: usize = 700;

/// The steps of an event, in order. No step names a later one; `pipeline` alone knows the order. `route` is not among them: its
/// event type is what every step reads its settings from.
const STEPS: [&str; 5] = ["http", "envelope", "schema", "transcode", "produce"];

#[test]
fn the_steps_of_the_path_do_no_io_and_never_name_a_client() {
    let clients = ["reqwest", "hyper", "hyper_util", "rdkafka", "kafka_protocol"];
    let io = ["tokio::net", "tokio::fs", "tokio::io", "tokio::process", "std::net", "std::fs", "std::process"];
    for module in ["route", "envelope", "transcode", "outcome", "pipeline"] {
        refuse_names(module, &[&clients[..], &io].concat(), "it decides, and does no I/O");
    }
}

#[test]
fn a_step_of_the_path_never_names_a_later_one() {
    for (position, module) in STEPS.iter().enumerate().skip(1) {
        // `schema` compiles plans, ahead of time and beside the path.
        let may = |later: &&&str| !(*module == "schema" && **later == "transcode");
        let mut later: Vec<_> =
            STEPS[position + 1..].iter().filter(may).map(|later| format!("crate::{later}")).collect();
        later.extend(["crate::http".to_owned(), "crate::pipeline".to_owned()]);
        refuse_names(module, &later, "only `pipeline` knows the order of the steps");
    }
}

#[test]
fn the_data_path_never_names_the_control_plane_nor_the_other_way_round() {
    for module in STEPS.iter().chain(&["route", "pipeline", "outcome", "auth", "spool", "serve", "telemetry"]) {
        refuse_names(module, &["crate::control", "crate::dev", "crate::cli"], "the data path works without them");
    }
    refuse_names("control", &["crate::http", "crate::produce", "crate::dev"], "it manages, and carries no events");
}

#[test]
fn the_way_back_names_no_client_and_no_part_of_the_proxy() {
    let clients = ["rdkafka", "hyper", "reqwest"];
    let parts =
        ["crate::http", "crate::route::EventType", "crate::produce", "crate::pipeline", "crate::dev", "crate::cli"];
    refuse_names("consume", &[&clients[..], &parts].concat(), "a consumer has a client of its own, and no proxy");
}

#[test]
fn a_client_library_is_named_only_where_its_calls_are_made() {
    for (library, modules) in [("rdkafka", &["produce", "dev", "cli"][..]), ("kafka_protocol", &["control/kafka"])] {
        check(sources("src"), |source| {
            let allowed = modules.iter().any(|module| source.is_in(module)) || !source.names(library);
            (!allowed).then(|| format!("names `{library}`; only {modules:?} may"))
        });
    }
}

#[test]
fn the_environment_is_read_only_by_the_command_line_and_the_configuration() {
    check(sources("src"), |source| {
        let may = ["config", "cli", "main"].iter().any(|module| source.is_in(module));
        (!may && source.code.contains("env::var")).then(|| "reads the environment; settings have one file".to_owned())
    });
}

#[test]
fn a_file_has_one_subject() {
    check(all_sources(), |source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX).then(|| format!("has {lines} lines, more than {LINES_MAX}: what is its second subject?"))
    });
    let vague = ["util", "utils", "common", "helper", "helpers", "types", "core", "misc", "v2"];
    check(all_sources(), |source| {
        let parts = source.path.trim_end_matches(".rs").split('/');
        parts.clone().find(|part| vague.contains(part)).map(|part| format!("`{part}` does not say what is in it"))
    });
}

#[test]
fn every_module_says_what_it_is_for() {
    check(all_sources(), |source| {
        let says = source.text.starts_with("//! ") && source.text.lines().next().is_some_and(|line| line.len() > 12);
        (!says && !source.is_test()).then(|| "does not open with `//!` and what it is for".to_owned())
    });
}

#[test]
fn lib_rs_declares_every_module() {
    let lib = fs::read_to_string("src/lib.rs").expect("cargo runs tests in the package's folder");
    for entry in fs::read_dir("src").expect("cargo runs tests in the package's folder").flatten() {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        let declared = name == "lib" || name == "main" || lib.contains(&format!("\npub mod {name};"));
        assert!(declared, "src/lib.rs does not declare `{name}`");
    }
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() {
    check(all_sources(), |source| {
        let left =
            ["todo!(", "unimplemented!(", "#[ignore", "dbg!("].into_iter().find(|left| source.code.contains(left));
        left.map(|left| format!("has `{left}`"))
    });
}

#[test]
fn code_outside_tests_says_why_it_cannot_fail() {
    check(sources("src"), |source| {
        let unwraps = source.code_without_tests().matches(".unwrap()").count();
        let tell = || format!("has {unwraps} `unwrap()`; `expect` says why it cannot happen");
        (unwraps > 0 && !source.is_test()).then(tell)
    });
}

#[test]
fn a_lint_is_switched_off_with_a_reason() {
    check(all_sources(), |source| {
        let attributes = ["[allow(", "[expect("].into_iter().flat_map(|attribute| source.code.match_indices(attribute));
        let without_reason = |(at, _): &(usize, &str)| {
            let end = source.code[*at..].find(")]").map_or(source.code.len(), |end| at + end);
            !source.code[*at..end].contains("reason = ")
        };
        let lines: Vec<_> =
            attributes.filter(without_reason).map(|(at, _)| source.code[..at].lines().count()).collect();
        (!lines.is_empty()).then(|| format!("switches lints off without a reason, lines {lines:?}"))
    });
}

#[test]
fn no_file_names_a_folder_of_somebodys_machine() {
    let kinds = ["rs", "sh", "toml", "md", "proto", "py", "xml", "yaml", "yml", "json", "java", "properties", ""];
    let folders = ["/home/", "/root/", "/Users/", "/work/", "/tmp/"];
    for path in ["src", "tests", "benches", "proto", "deploy", ".ci", "README.md", "Cargo.toml"].iter().flat_map(files)
    {
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        // This file names them all.
        if kinds.contains(&kind) && !path.ends_with("tidy.rs") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let named = folders.iter().find(|folder| text.contains(**folder));
            assert!(named.is_none(), "{} names {named:?}", path.display());
        }
    }
}

/// Refuses names in a module, tests in it left out. A module that is not there yet breaks no rule.
fn refuse_names(module: &str, names: &[impl AsRef<str>], why: &str) {
    check(sources("src"), |source| {
        let concerned = source.is_in(module) && !source.is_test();
        let named = names.iter().map(AsRef::as_ref).find(|name| concerned && source.names(name));
        named.map(|name| format!("names `{name}`; {why}"))
    });
}

/// Asks a rule of every source, and fails with all answers at once.
fn check(sources: Vec<Source>, breaks_rule: impl Fn(&Source) -> Option<String>) {
    let broken = sources.iter().filter_map(|source| Some(format!("{}: {}", source.path, breaks_rule(source)?)));
    let broken: Vec<_> = broken.collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A source file.
struct Source {
    path: String,
    text: String,
    /// The text with comments and the contents of strings blanked; line breaks stay.
    code: String,
}

impl Source {
    fn read(path: &Path) -> Source {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Source { path: path.to_string_lossy().into_owned(), code: code_only(&text), text }
    }

    /// Whether it is `src/MODULE.rs` or in `src/MODULE/`.
    fn is_in(&self, module: &str) -> bool {
        let rest = self.path.strip_prefix("src/").and_then(|rest| rest.strip_prefix(module));
        rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }

    /// A file of unit tests beside its module, or anything in `tests`.
    fn is_test(&self) -> bool {
        let beside = self.path.ends_with("_tests.rs") || self.path.ends_with("/tests.rs");
        beside || self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    /// The code before the unit tests, which stand at the end of a file.
    fn code_without_tests(&self) -> &str {
        self.code.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
    }

    /// Whether the code before the unit tests has this path, alone or in a group: `crate::a` is also in `crate::{b, a}`.
    fn names(&self, path: &str) -> bool {
        let code = self.code_without_tests();
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let stands_alone =
            |start: usize, length: usize| !code[..start].ends_with(word) && !code[start + length..].starts_with(word);
        if code.match_indices(path).any(|(start, _)| stands_alone(start, path.len())) {
            return true;
        }
        let Some((parent, last)) = path.rsplit_once("::") else { return false };
        code.match_indices(&format!("{parent}::{{")).any(|(start, opening)| {
            let group = group_members(&code[start + opening.len()..]);
            group.iter().any(|member| member.split("::").next().is_some_and(|first| first.trim() == last))
        })
    }
}

/// The members at the top of a group of imports, given what follows its opening brace.
fn group_members(after_brace: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut members) = (0_usize, 0, Vec::new());
    for (at, c) in after_brace.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(&after_brace[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&after_brace[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    members
}

/// Blanks comments and the contents of strings, so that rules about code do not stumble over what is said about it.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|after| after.len() - after.trim_start_matches('#').len());
        let raw = raw.filter(|hashes| rest[1 + hashes..].starts_with('"') && !code.ends_with(char::is_alphanumeric));
        let (skip, keep) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), "")
        } else if rest.starts_with("/*") {
            (rest.find("*/").map_or(rest.len(), |end| end + 2), "")
        } else if let Some(hashes) = raw {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = 2 + hashes;
            (rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len()), "\"\"")
        } else if c == '"' {
            (string_length(rest), "\"\"")
        } else if let Some(length) = char_literal_length(rest) {
            (length, "' '")
        } else {
            (c.len_utf8(), &rest[..c.len_utf8()])
        };
        code.push_str(keep);
        if !rest[..skip].eq(keep) {
            code.extend(rest[..skip].matches('\n'));
        }
        rest = &rest[skip..];
    }
    code
}

/// Bytes of the string literal that the text begins with, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

/// Bytes of the character literal that the text begins with; none when the quote opens a lifetime.
fn char_literal_length(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    if inside.starts_with('\\') {
        return inside[2..].find('\'').map(|at| at + 4);
    }
    let first = inside.chars().next()?.len_utf8();
    inside[first..].starts_with('\'').then_some(first + 2)
}

fn all_sources() -> Vec<Source> {
    ["src", "tests", "benches", "proto"].iter().flat_map(|folder| sources(folder)).collect()
}

fn sources(folder: &str) -> Vec<Source> {
    let rust = files(&folder).into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs"));
    rust.map(|path| Source::read(&path)).collect()
}

/// Every file at or below a path, sorted; none when it is not there.
fn files(path: &impl AsRef<Path>) -> Vec<PathBuf> {
    let path = path.as_ref();
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut found: Vec<_> = fs::read_dir(path).into_iter().flatten().flatten().flat_map(|e| files(&e.path())).collect();
    found.sort();
    found
}

#[test]
fn rules_look_at_code_and_not_at_what_is_said_about_it() {
    let text =
        "// rdkafka\nlet a = \"rdkafka \\\" {\"; /* rdkafka */ let q = '\"'; use x::rdkafka_sys;\nr#\"rdkafka\"#;";
    let source = Source { path: String::new(), text: text.to_owned(), code: code_only(text) };
    assert!(!source.names("rdkafka"), "{}", source.code);
    let names =
        |text: &str, path: &str| Source { path: String::new(), text: String::new(), code: code_only(text) }.names(path);
    assert!(names("use rdkafka::Message;", "rdkafka"));
    assert!(names("use crate::{a, control::Plan};", "crate::control"));
    assert!(!names("use crate::{a, feed::{control, b}};", "crate::control"));
    assert!(!names("use a;\n#[cfg(test)]\nmod tests { use rdkafka::Message; }", "rdkafka"));
    assert_eq!(code_only("a // b\nc /* d\n */ \"e\nf\" 'g").lines().count(), 4);
}
