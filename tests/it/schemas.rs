//! The way of a schema from a repository of Protobuf files into a registry: the gate, the merge, what is seen afterwards.

use std::path::PathBuf;

use iguazu::dev::registry::{EmbeddedRegistry, Options};
use serde_json::{Value, json};

use super::support::process::{Process, command};
use super::support::tool::{Ended, iguazu};
use super::support::{folder, registry, unique, wait_until};

/// A repository with an imported file and two events, in a package of its own: tests share a registry.
struct Repo {
    place: PathBuf,
    package: String,
}

const MONEY: &str = "message Money {\n  int64 minor_units = 1;\n  string currency = 2;\n}\n";
const ORDER: &str = "message Order {\n  string id = 1;\n  Money total = 2;\n  State state = 3;\n}\n\
                     enum State {\n  STATE_UNSPECIFIED = 0;\n  STATE_PAID = 1;\n}\n";
const VISIT: &str = "message Visit {\n  string page = 1;\n}\n";

impl Repo {
    fn new(registry: &str) -> Repo {
        let place = folder("schemas");
        let package = unique("shop").replace('-', "");
        let repo = Repo { place, package };
        let p = &repo.package;
        repo.write("iguazu-schemas.toml", &format!(
            "proto = [\"proto\"]\n\n[registries.main]\nurls = [{registry:?}]\n\n[messages.\"{p}.v1.Order\"]\n\n[messages.\"{p}.v1.Visit\"]\navro = false\n"
        ));
        repo.money(MONEY);
        repo.order(ORDER);
        repo.proto("visit", "", VISIT);
        repo
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.place.join(file);
        std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder is ours");
        std::fs::write(path, text).expect("the folder is ours");
    }

    fn proto(&self, name: &str, imports: &str, text: &str) {
        let p = &self.package;
        let text = format!("syntax = \"proto3\";\npackage {p}.v1;\n{imports}\n{text}");
        self.write(&format!("proto/{p}/v1/{name}.proto"), &text);
    }

    fn money(&self, text: &str) {
        self.proto("money", "", text);
    }

    fn order(&self, text: &str) {
        self.proto("order", &format!("import \"{}/v1/money.proto\";\n", self.package), text);
    }

    fn schema(&self, arguments: &[&str]) -> Ended {
        iguazu(&self.place, &[&["schema"], arguments].concat())
    }

    /// Runs `register` and gives what it printed, without names of this test's own and without ids.
    fn register(&self) -> String {
        let printed = self.schema(&["register"]).printed();
        let without_id = |line: &str| match (line.find(" (id "), line.rfind("), ")) {
            (Some(from), Some(to)) => format!("{}{}\n", &line[..from], &line[to + 1..]),
            _ => format!("{line}\n"),
        };
        printed.lines().map(without_id).collect::<String>().replace(&self.package, "shop")
    }

    fn check(&self, more: &[&str]) -> (Option<i32>, Value) {
        let ended = self.schema(&[&["check", "--format", "json"], more].concat());
        let report = serde_json::from_str(&ended.stdout.replace(&self.package, "shop"));
        (ended.code, report.unwrap_or_else(|e| panic!("{e}: {}{}", ended.stdout, ended.stderr)))
    }

    /// Rules and paths of the errors and warnings of `check`.
    fn remarks(&self, more: &[&str]) -> (Option<i32>, Vec<String>) {
        let (code, report) = self.check(more);
        let remarks = report["remarks"].as_array().expect("a list").iter();
        let weighty = remarks.filter(|remark| remark["severity"] != "note");
        let told =
            weighty.map(|r| format!("{} {}", r["rule"].as_str().expect("text"), r["path"].as_str().expect("text")));
        (code, told.collect())
    }

    fn lock(&self) -> String {
        std::fs::read_to_string(self.place.join("schemas.lock")).unwrap_or_default()
    }
}

const FIRST: &str = "main: shop/v1/money.proto version 1, registered\n\
                     main: shop.v1.Order version 1, registered\n\
                     main: shop.v1.Order-avro version 1, registered\n\
                     main: shop.v1.Visit version 1, registered\n";

fn real() -> Repo {
    Repo::new(&registry::shared().url())
}

#[test]
fn what_may_not_be_merged_is_told_with_place_rule_and_fix_and_nothing_is_registered() {
    let repo = real();
    assert_eq!(repo.register(), FIRST);
    let lock = repo.lock();
    for (order, expected) in [
        (
            ORDER.replace("string id", "double id"),
            &["field_scalar_kind_changed shop.v1.Order.id", "type_mismatch shop.v1.Order.id"][..],
        ),
        (ORDER.replace("string id", "string uid"), &["field_renamed shop.v1.Order.id"]),
        (ORDER.replace("STATE_PAID", "STATE_SETTLED"), &["enum_value_renamed shop.v1.State.STATE_PAID"]),
        (ORDER.replace("  Money total = 2;\n", "  Money total = 2;\n  Gone gone = 9;\n"), &[]),
    ] {
        repo.order(&order);
        if expected.is_empty() {
            let ended = repo.schema(&["check"]);
            assert_eq!(ended.code, Some(1), "{}", ended.stdout);
            assert!(ended.stderr.contains("order.proto:8:3: name 'Gone' is not defined"), "{}", ended.stderr);
        } else {
            let (code, remarks) = repo.remarks(&[]);
            assert_eq!(code, Some(1));
            for rule in expected {
                assert!(remarks.iter().any(|remark| remark == rule), "{rule} is missing: {remarks:?}");
            }
        }
        let refused = repo.schema(&["register"]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
        assert_eq!(repo.lock(), lock, "the lock is as it was");
    }
    let text = repo.schema(&["diff"]).stdout;
    assert!(text.contains("+   Gone gone = 9;") || text.is_empty(), "{text}");
    repo.order(&ORDER.replace("string id", "double id"));
    let told = repo.schema(&["check"]).stdout.replace(&repo.package, "shop");
    let remark = "error: shop.v1.Order.id: it is double in the new schema, string in version 1\n  \
                  rule field_scalar_kind_changed (protobuf), subject `shop.v1.Order`, registry `main`\n  \
                  fix: keep the field as it was and add one with a new number\n";
    assert!(told.contains(remark), "{told}");
    repo.order(ORDER);
    assert_eq!(repo.register(), FIRST.replace("registered", "unchanged"), "nothing was registered");
}

#[test]
fn a_change_of_an_import_reaches_everything_that_imports_it() {
    let repo = real();
    assert_eq!(repo.register(), FIRST);
    repo.money(&MONEY.replace("int64 minor_units", "string minor_units"));
    let (code, remarks) = repo.remarks(&[]);
    assert_eq!(code, Some(1));
    for told in ["field_scalar_kind_changed shop.v1.Money.minor_units", "type_mismatch shop.v1.Order.total.minor_units"]
    {
        assert!(remarks.iter().any(|remark| remark == told), "{told} is missing: {remarks:?}");
    }
    repo.money(&MONEY.replace("}", "  string note = 3;\n}"));
    let (code, report) = repo.check(&[]);
    let states: Vec<_> =
        report["subjects"].as_array().expect("a list").iter().map(|s| (&s["subject"], &s["status"])).collect();
    let expected = json!([
        ["shop/v1/money.proto", "changed"],
        ["shop.v1.Order", "changed"],
        ["shop.v1.Order-avro", "changed"],
        ["shop.v1.Visit", "unchanged"]
    ]);
    assert_eq!((code, json!(states)), (Some(0), expected), "{report}");
    let second = FIRST
        .replace("version 1, registered", "version 2, registered")
        .replace("Visit version 2, registered", "Visit version 1, unchanged");
    assert_eq!(repo.register(), second);
    let pinned = registry::shared().call("GET", &format!("/subjects/{}.v1.Order/versions/2", repo.package), None);
    let name = format!("{}/v1/money.proto", repo.package);
    assert_eq!(pinned.expect("it is there")["references"], json!([{"name": name, "subject": name, "version": 2}]));
    assert_eq!(repo.register(), second.replace("registered", "unchanged"));
}

#[test]
fn registering_again_changes_nothing_and_the_lock_says_what_is_there() {
    let repo = real();
    let bindings = ["register", "--commit", "c0ffee", "--bindings", "bindings"];
    repo.schema(&bindings).printed();
    let lock = repo.lock();
    repo.schema(&bindings).printed();
    assert_eq!(repo.lock(), lock);
    let locked: toml::Table = lock.parse().expect("the lock is TOML");
    assert_eq!(locked["commit"].as_str(), Some("c0ffee"));
    let subjects = locked["subject"].as_array().expect("a list");
    assert_eq!(subjects.len(), 4);
    for subject in subjects {
        let name = subject["subject"].as_str().expect("text").replace('/', "%2F");
        let path = format!("/subjects/{name}/versions/{}", subject["version"]);
        let there = registry::shared().call("GET", &path, None).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(there["id"].as_u64(), subject["id"].as_integer().map(|id| id as u64), "{path}");
    }
    let file =
        |name: &str| std::fs::read(repo.place.join("bindings").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(String::from_utf8(file("schemas.lock")).expect("text"), lock);
    let avro: Value =
        serde_json::from_slice(&file(&format!("avro/{}.v1.Order-avro.avsc", repo.package))).expect("JSON");
    assert_eq!(avro["name"], "Order");
    assert!(!file("descriptors.binpb").is_empty());
}

#[test]
fn a_merge_that_a_newer_one_has_overtaken_does_nothing() {
    let repo = real();
    let register =
        |sequence: &str| repo.schema(&["register", "--sequence", sequence]).printed().replace(&repo.package, "shop");
    assert!(register("7").contains("shop.v1.Visit version 1 "), "the first of its registry");
    repo.proto("visit", "", &VISIT.replace("}", "  string by = 2;\n}"));
    assert_eq!(register("6"), "main: merge 7 is through already, nothing is left for 6\n");
    assert!(register("7").contains("shop.v1.Visit version 2 "), "the same merge may run again");
    repo.proto("visit", "", &VISIT.replace("string page", "double page"));
    let refused = repo.schema(&["register", "--sequence", "8"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    repo.proto("visit", "", &VISIT.replace("}", "  string by = 2;\n}"));
    assert!(register("9").contains("shop.v1.Visit version "), "what was refused is in nobody's way");
}

#[test]
fn drift_tells_what_was_not_registered_and_what_somebody_else_registered() {
    let repo = real();
    assert_eq!(repo.remarks(&["--drift"]).1.len(), 4, "nothing is registered yet");
    repo.register();
    assert_eq!(repo.remarks(&["--drift"]), (Some(0), vec![]));
    repo.order(&ORDER.replace("}\nenum", "  string note = 4;\n}\nenum"));
    let not_registered =
        vec!["not_registered shop.v1.Order".to_owned(), "not_registered shop.v1.Order-avro".to_owned()];
    assert_eq!(repo.remarks(&["--drift"]), (Some(1), not_registered));
    repo.order(ORDER);
    let by_hand = format!(
        "syntax = \"proto3\";\npackage {}.v1;\nmessage Visit {{ string page = 1; string by = 2; }}",
        repo.package
    );
    registry::shared().register_protobuf(&format!("{}.v1.Visit", repo.package), &by_hand);
    assert_eq!(repo.remarks(&["--drift"]), (Some(1), vec!["registered_elsewhere shop.v1.Visit".to_owned()]));
    let text = repo.schema(&["diff", &format!("{}.v1.Visit", repo.package)]).printed();
    assert!(text.contains("- message Visit { string page = 1; string by = 2; }"), "{text}");
}

#[test]
fn a_change_can_be_judged_against_a_checkout_without_a_registry() {
    let repo = Repo::new("http://127.0.0.1:9");
    let base = repo.place.join("base");
    let copied = super::support::tool::shell(&repo.place, "mkdir base && cp -r proto iguazu-schemas.toml base/");
    copied.printed();
    assert_eq!(repo.remarks(&["--against", "base"]), (Some(0), vec![]));
    repo.order(&ORDER.replace("Money total = 2", "repeated Money total = 2"));
    let (code, remarks) = repo.remarks(&["--against", base.to_str().expect("UTF-8")]);
    assert_eq!((code, remarks), (Some(1), vec!["type_mismatch shop.v1.Order.total".to_owned()]));
}

#[test]
fn the_chapter_of_the_readme_works_as_shown_from_a_fresh_clone() {
    let readme = std::fs::read_to_string("README.md").expect("tests run in the package's folder");
    let chapter = readme.split("\n## Schemas\n").nth(1).expect("the chapter").split("\n## ").next().expect("its text");
    let shown = chapter.split("```sh\n").nth(1).expect("its commands").split("```").next().expect("their end");
    let place = folder("clone");
    let copied =
        format!("mkdir {0}/deploy && cp -r proto {0}/ && cp deploy/iguazu-schemas.toml {0}/deploy/", place.display());
    shell(std::path::Path::new("."), &copied);
    let settings = place.join("deploy/iguazu-schemas.toml");
    let text = std::fs::read_to_string(&settings).expect("it was copied");
    let text = text.replace("http://127.0.0.1:8081", &registry::shared().url());
    std::fs::write(&settings, text).expect("the folder is ours");
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_iguazu")).parent().expect("it is in a folder");
    let mut printed = Vec::new();
    for line in shown.lines() {
        let ended = super::support::tool::shell(&place, &format!("PATH={}:$PATH\n{line}", binary.display()));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{line}\n{}", ended.stdout);
        printed.push(ended.stdout);
    }
    let said = |n: usize, what: &str| assert!(printed[n].contains(what), "{what:?} is missing in {}", printed[n]);
    said(0, "ok: 5 changed, 0 unchanged, 0 errors");
    said(1, "main: delivery.v1.StatusChanged-avro version 1 ");
    said(2, "ok: 0 changed, 5 unchanged");
    assert_eq!(printed[3], "");
    said(4, r#""name":"OrderPlaced""#);
    assert!(place.join("target/bindings/avro/orders.v1.OrderPlaced-avro.avsc").exists());
    assert!(place.join("deploy/schemas.lock").exists());
}

/// Runs a line in a folder that is not the test's own.
fn shell(place: &std::path::Path, line: &str) {
    let done =
        std::process::Command::new("sh").args(["-c", line]).current_dir(place).status().expect("there is a shell");
    assert!(done.success(), "{line}");
}

#[test]
fn the_commands_of_the_example_workflow_are_ones_that_there_are() {
    let workflow = std::fs::read_to_string("deploy/ci/schemas.yml").expect("tests run in the package's folder");
    let commands = workflow.lines().filter_map(|line| line.trim().strip_prefix("iguazu "));
    let commands: Vec<_> = commands.map(|line| line.split(" | ").next().expect("its first part").to_owned()).collect();
    assert_eq!(commands.len(), 4);
    let place = folder("workflow");
    for command in commands {
        // Arguments are read up to `--help`, so that one that is not known is an error.
        let arguments: Vec<_> =
            command.split(' ').map(|argument| if argument.contains('$') { "1" } else { argument }).collect();
        let ended = iguazu(&place, &[&arguments[..], &["--help"]].concat());
        assert_eq!(ended.code, Some(0), "{command}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_merge_that_is_killed_anywhere_is_made_good_by_the_next() {
    let expected = {
        let embedded = EmbeddedRegistry::start(Options::default()).await.expect("a free port");
        let repo = Repo::new(&embedded.url());
        blocking(move || (repo.register(), repo.lock().replace(&repo.package, "shop"))).await
    };
    assert_eq!(expected.0, FIRST);
    // After each of its requests; there are about forty.
    let mut killed = 0;
    for requests in (1..).step_by(3) {
        let embedded = EmbeddedRegistry::start(Options::default()).await.expect("a free port");
        let repo = Repo::new(&embedded.url());
        let mut command = command(env!("CARGO_BIN_EXE_iguazu"));
        command
            .args(["schema", "register", "--sequence", "7"])
            .current_dir(&repo.place)
            .stdout(std::process::Stdio::null());
        let mut running = Process::spawn("register", command);
        let ended = wait_until("the merge is so far", async || {
            match (running.exit_status(), embedded.requests() >= requests) {
                (Some(_), _) => Ok(true),
                (None, true) => Ok(false),
                (None, false) => Err(format!("{} requests", embedded.requests())),
            }
        })
        .await;
        running.kill();
        if ended {
            break;
        }
        killed += 1;
        let lock = blocking(move || {
            repo.schema(&["register", "--sequence", "7"]).printed();
            repo.lock().replace(&repo.package, "shop")
        })
        .await;
        let without_names = |lock: &str| -> Vec<String> {
            lock.lines()
                .filter(|line| !["sha256", "guid", "id ="].iter().any(|of| line.starts_with(of)))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(without_names(&lock), without_names(&expected.1), "killed after {requests} requests");
    }
    assert!(killed > 5, "{killed} were killed");
}

#[tokio::test]
async fn merges_that_race_end_with_what_the_newest_says_wherever_they_meet() {
    for (first, second) in [(1, 2), (2, 1)] {
        for requests in [1, 6, 12, 20, 30, 40] {
            let embedded = EmbeddedRegistry::start(Options::default()).await.expect("a free port");
            let old = Repo::new(&embedded.url());
            let new = Repo { place: folder("schemas"), package: old.package.clone() };
            let copy = format!("cp -r {}/. {}/", old.place.display(), new.place.display());
            shell(std::path::Path::new("."), &copy);
            // The newest has all that the one before has, and more, in both files.
            old.money(&MONEY.replace("}", "  string note = 3;\n}"));
            old.order(&ORDER.replace("}\nenum", "  string note = 4;\n}\nenum"));
            new.money(&MONEY.replace("}", "  string note = 3;\n  string more = 4;\n}"));
            new.order(&ORDER.replace("}\nenum", "  string note = 4;\n  string more = 5;\n}\nenum"));
            let start = |number: u32| {
                let place = if number == 1 { &old.place } else { &new.place };
                let mut command = command(env!("CARGO_BIN_EXE_iguazu"));
                command.args(["schema", "register", "--sequence", &number.to_string()]).current_dir(place);
                command.stdout(std::process::Stdio::null());
                Process::spawn("register", command)
            };
            let mut one = start(first);
            wait_until("the first one is so far", async || {
                let there = embedded.requests() >= requests || one.exit_status().is_some();
                if there { Ok(()) } else { Err(format!("{} requests", embedded.requests())) }
            })
            .await;
            let mut other = start(second);
            for merge in [&mut one, &mut other] {
                let status =
                    wait_until("it ends", async || merge.exit_status().ok_or_else(|| "it runs".to_owned())).await;
                assert!(status.success(), "{first} before {second} at {requests}: {status}");
            }
            let (drift, left) = blocking(move || (new.remarks(&["--drift"]), new)).await;
            let (code, remarks) = drift;
            let told: Vec<_> = remarks.iter().filter(|remark| !remark.starts_with("lock_old")).collect();
            assert_eq!((code, told.len()), (Some(0), 0), "{first} before {second} at {requests}: {remarks:?}");
            drop(left);
        }
    }
}

/// Runs what blocks beside the runtime that the embedded registry runs on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}
