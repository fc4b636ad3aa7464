//! `iguazu ctl` as people and CI jobs use it: the real binary against a real management plane over a real Kafka.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::control_requests::{as_user, produce};
use super::support::control::{self, Control};
use super::support::tool::{Dev, Ended, iguazu, shell};
use super::support::{fetched, folder, http, kafka, referee, unique, wait_for};

/// Somebody with a token, in a folder of their own.
struct Person {
    place: PathBuf,
    url: String,
}

impl Person {
    /// Has their token made by an admin.
    fn new(admin: &Person, name: &str, groups: &[&str]) -> Person {
        let place = folder(name);
        let out = place.join("token");
        let mut arguments = vec!["token", "create", name, "--out", out.to_str().expect("UTF-8")];
        groups.iter().for_each(|group| arguments.extend(["--group", group]));
        admin.does(&arguments);
        Person { place, url: admin.url.clone() }
    }

    /// The first admin of a plane, by its bootstrap token.
    fn first(plane: &Control) -> Person {
        let place = folder("admin");
        let bootstrap = plane.folder().join(plane.bootstrap_file());
        let arguments = ["ctl", "token", "create", "root", "--role", "admin", "--out", "token", "--url", &plane.url()];
        let ended = iguazu(&place, &[&arguments[..], &["--token-file", bootstrap.to_str().expect("UTF-8")]].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
        assert!(!bootstrap.exists(), "it is of no use any more");
        Person { place, url: plane.url() }
    }

    fn runs(&self, arguments: &[&str]) -> Ended {
        iguazu(&self.place, &[&["ctl", "--url", &self.url, "--token-file", "token"], arguments].concat())
    }

    /// Runs it, expects it to be done, and gives what it printed.
    fn does(&self, arguments: &[&str]) -> String {
        let ended = self.runs(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// Runs it, expects this exit code and all of these words on stderr.
    fn fails(&self, arguments: &[&str], code: i32, told: &[&str]) -> Ended {
        let ended = self.runs(arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        for told in told {
            assert!(ended.stderr.contains(told), "{told:?} is missing in {}", ended.stderr);
        }
        ended
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.does(&[&["--output", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.place.join(file);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("the folder is ours");
        std::fs::write(path, text).expect("the folder is ours");
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.place.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    /// Files that hold a resource, below a folder.
    fn files(&self, below: &str) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, into: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).expect("it is there").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    walk(&path, root, into);
                } else {
                    into.push(path.strip_prefix(root).expect("it is below").display().to_string());
                }
            }
        }
        let root = self.place.join(below);
        let mut files = Vec::new();
        walk(&root, &root, &mut files);
        files.sort();
        files
    }
}

/// The id of the request that a command told of.
fn request_of(ended: &Ended) -> String {
    let line = ended.stderr.lines().find_map(|line| line.strip_prefix("request "));
    line.unwrap_or_else(|| panic!("no request is told of: {}", ended.stderr)).to_owned()
}

#[test]
fn a_team_gets_an_event_by_commands_and_a_client_can_do_what_was_granted() {
    let cluster = kafka::shared();
    let plane = Control::start(&control::config(&cluster, ""));
    let admin = Person::first(&plane);
    let ann = Person::new(&admin, "ann", &["team-orders"]);
    let (event, service) = (unique("orders.placed"), unique("orders"));

    ann.does(&["create", "service", &service, "group=team-orders"]);
    let onboard = ["onboard", &event, "--service", &service, "--cluster", "core", "--through", "kafka"];
    let tried = ann.does(&[&onboard[..], &["--dry-run"]].concat());
    assert!(tried.contains(&format!("create topic/core/{event}: approved (small-topic")), "{tried}");
    assert!(tried.contains("nothing was changed"), "{tried}");
    let done = ann.runs(&onboard);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    for told in [
        format!("  done  create topic {event} with 3 partitions"),
        "done: 3 changes".into(),
        format!("iguazu ctl secret user core/{service}"),
    ] {
        assert!(done.stderr.contains(&told), "{told:?} is missing in {}", done.stderr);
    }

    ann.does(&["secret", "user", &format!("core/{service}"), "--out", "password"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(ann.place.join("password")).expect("it is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    ann.fails(
        &["secret", "user", &format!("core/{service}"), "--out", "password"],
        64,
        &["a secret never replaces a file"],
    );
    ann.fails(
        &["secret", "user", &format!("core/{service}"), "--out", "second"],
        1,
        &["no secret for you", "rotate it"],
    );
    assert!(!ann.place.join("second").exists(), "nothing came into it");
    let password = ann.read("password");
    let (user, topic) = (as_user(&cluster, &service, password.trim()), event.clone());
    assert_eq!(produce(&user, &topic), Ok(()));

    let listed = ann.does(&["list", "topics", "--service", &service]);
    assert!(
        listed.starts_with("NAME") && listed.contains(&format!("core/{event}")) && listed.contains("ready"),
        "{listed}"
    );
    let name = format!("core/{event}");
    assert!(ann.does(&["get", "topic", &name]).contains("capacity.mb_per_second: 0.1"));
    assert_eq!(ann.json(&["get", "topic", &name])["spec"]["service"], service.as_str());
    ann.does(&["set", "topic", &name, "description=orders that were placed", "capacity.mb_per_second=0.2"]);
    let after = ann.json(&["get", "topic", &name]);
    assert_eq!(
        (&after["spec"]["description"], &after["spec"]["capacity"]["mb_per_second"]),
        (&"orders that were placed".into(), &0.2.into())
    );
    let found = ann.json(&["list", "topics", "--search", "that were placed"]);
    assert!(
        found["items"].as_array().expect("a list").iter().any(|item| item["id"] == format!("topic/{name}").as_str()),
        "{found}"
    );

    let explained =
        ann.does(&["explain", "core", "service=x", "capacity.mb_per_second=5", "capacity.retention_hours=24"]);
    assert!(
        explained.contains("12 partitions in 2 copies") && explained.contains("retention.ms=86400000"),
        "{explained}"
    );
    let rules = ann.does(&["rules", "topic.capacity"]);
    assert!(rules.contains("no-shrinking") && !rules.contains("unknown-sink"), "{rules}");
    let budget = ann.does(&["budget"]);
    assert!(budget.contains("core") && budget.contains("10 TB"), "{budget}");
    let diagnosed = ann.does(&["diagnose", &name]);
    assert!(diagnosed.contains("partitions: 3") && diagnosed.contains("MB/s declared"), "{diagnosed}");
    ann.does(&["findings", "--cluster", "core"]);
    ann.fails(&["findings", "restore", "nothing"], 1, &["nothing"]);
    let requests = ann.does(&["request", "list", "--service", &service]);
    assert!(requests.contains("ready") && requests.contains("and 2 more"), "{requests}");
    let verified = admin.does(&["log", "verify"]);
    assert!(verified.contains("each as it was written"), "{verified}");
    let exported = admin.does(&["log", "export"]);
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert!(lines.iter().any(|line| line["verb"] == "read-secret" && line["actor"] == "ann"), "{exported}");
    assert!(!exported.contains(password.trim()), "a password is in the log");
    let watched = admin.does(&["watch", "--after", "0", "-n", "3"]);
    assert_eq!(watched.lines().count(), 3, "{watched}");
    plane.finish();
}

#[test]
fn what_is_refused_is_told_whole_and_exit_codes_tell_cases_apart() {
    let cluster = kafka::shared();
    let plane = Control::start(&control::config(&cluster, ""));
    let admin = Person::first(&plane);
    let ann = Person::new(&admin, "ann", &["team-orders"]);
    let bob = Person::new(&admin, "bob", &["platform", "team-orders"]);
    let service = unique("orders");
    ann.does(&["create", "service", &service, "group=team-orders"]);
    let of_service = format!("service={service}");
    ann.fails(&["create", "service", &service, "group=team-orders"], 1, &["rule stale"]);
    let bad =
        ["create", "topic", "core/_orders", &of_service, "capacity.mb_per_second=-1", "capacity.retention_hours=0"];
    let fields = ["capacity.mb_per_second", "capacity.retention_hours", "(rule name)", "(rule capacity)", "fix: "];
    ann.fails(&bad, 1, &fields);
    ann.fails(&["create", "topic", "core/orders", &of_service, "segment.bytes=1"], 1, &["segment", "unknown field"]);
    ann.fails(
        &["create", "topic", "core/orders", "service=nobodys", "capacity.mb_per_second=1"],
        1,
        &["rule not-yours"],
    );
    ann.fails(&["get", "topic", "core/nothing"], 1, &["nothing"]);
    let unnamed = ["create", "access", "core", &of_service, "target=orders", "principal=app"];
    ann.fails(&[&unnamed[..], &["level=read"]].concat(), 64, &["`level`", "`consume`"]);
    ann.fails(&unnamed, 64, &["missing field `level`"]);
    ann.fails(&["log", "list"], 1, &["role"]);
    std::fs::write(ann.place.join("wrong"), "iguazu_wrong").expect("the folder is ours");
    let wrong = iguazu(&ann.place, &["ctl", "--url", &ann.url, "--token-file", "wrong", "list", "topics"]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("--token-file"), "{}", wrong.stderr);

    // What somebody must agree to waits, and nobody agrees to their own.
    let topic = format!("core/{}", unique("orders.critical"));
    let create =
        ["create", "topic", &topic, &of_service, "capacity.mb_per_second=0.01", "tier=critical", "--reason", "money"];
    let waits = ann.fails(&create, 75, &["review by operator", "iguazu ctl request approve"]);
    let id = request_of(&waits);
    let pending = bob.does(&["request", "list", "--state", "pending"]);
    assert!(pending.contains(&id) && pending.contains("operator") && pending.contains("money"), "{pending}");
    ann.fails(&["request", "approve", &id], 1, &["nobody approves a request of their own"]);
    bob.fails(&["request", "approve", &id, "--plan", "another"], 1, &["has changed"]);
    let shown = ann.does(&["request", "show", &id]);
    assert!(shown.contains("superseded"), "a plan that is not the one that was looked at is asked for anew: {shown}");
    let id = request_of(&ann.fails(&create, 75, &[]));
    bob.does(&["request", "approve", &id, "--reason", "as talked about"]);
    let shown = ann.does(&["request", "show", &id]);
    assert!(shown.contains("bob as operator: as talked about") && shown.contains("state       ready"), "{shown}");
    ann.does(&["request", "watch", &id]);

    ann.fails(&["delete", "topic", &topic], 64, &["1 topic to delete", "--yes"]);
    let id = request_of(&ann.fails(&["delete", "topic", &topic, "--yes"], 75, &["review by"]));
    bob.does(&["request", "deny", &id, "--reason", "it is read"]);
    ann.fails(&["request", "watch", &id], 1, &["is denied: it is read"]);
    ann.does(&["get", "topic", &topic]);
    ann.fails(&["request", "call-off", &id], 1, &["called off"]);

    // A deletion that its owner and an operator agree to closes the topic, and can be called off while it is quiet.
    let eve = Person::new(&admin, "eve", &["team-orders"]);
    let id = request_of(&ann.fails(&["delete", "topic", &topic, "--yes"], 75, &["review by"]));
    eve.fails(&["request", "approve", &id], 75, &["waits for"]);
    bob.fails(&["request", "approve", &id], 75, &["quiet period", "call-off"]);
    assert!(ann.does(&["get", "topic", &topic]).contains("quiet period"));
    ann.does(&["request", "call-off", &id, "--reason", "it is read after all"]);
    ann.fails(&["request", "watch", &id], 1, &["is withdrawn"]);
    let kept = ann.does(&["get", "topic", &topic]);
    assert!(kept.contains("ready") && !kept.contains("quiet period"), "{kept}");

    let judged = ann.does(&[
        "policy",
        "test",
        &format!("topic/{topic}x"),
        &of_service,
        "capacity.mb_per_second=0.01",
        "tier=critical",
    ]);
    assert!(judged.contains("review by operator (strict-tier"), "{judged}");
    let rules = ann.does(&["policy", "show"]);
    assert!(rules.contains("strict-tier"), "{rules}");
    ann.write("rules.toml", &ann.does(&["policy", "show", "--toml"]).replace("\"strict-tier\"", "\"three-copies\""));
    let judged = ann.does(&[
        "policy",
        "test",
        "--rules",
        "rules.toml",
        &format!("topic/{topic}x"),
        &of_service,
        "capacity.mb_per_second=0.01",
        "tier=critical",
    ]);
    assert!(judged.contains("review by operator (three-copies"), "{judged}");

    let doctor = ann.does(&["doctor"]);
    for what in ["ok    API", "ok    ready", "ann; groups: team-orders", "ok    cluster     cluster/core: shared"] {
        assert!(doctor.contains(what), "{what:?} is missing in {doctor}");
    }
    // What a proxy has to be told, and what the log tells whoever has no token yet.
    let key = ann.does(&["keys"]);
    assert!(key.starts_with("ed25519:") && key.lines().count() == 1, "{key}");
    let log = plane.log();
    let listening = log.iter().find(|line| line.message() == "listening").expect("it listens");
    assert_eq!(listening.fields["public_keys"], key.trim());
    plane.finish();
    let gone = ann.runs(&["doctor"]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.stdout.contains("BAD   API") && gone.stdout.contains("--url"), "{}", gone.stdout);
}

#[test]
fn files_of_a_repository_are_planned_applied_and_kept_apart_from_other_sides() {
    let cluster = kafka::shared();
    let plane = Control::start(&control::config(&cluster, ""));
    let admin = Person::first(&plane);
    let ann = Person::new(&admin, "ann", &["team-orders"]);
    let bob = Person::new(&admin, "bob", &["platform", "team-orders"]);
    let (service, user) = (unique("orders"), unique("orders-app"));
    let topics = [unique("orders.placed"), unique("orders.paid")];
    let of_service = format!("service={service}");
    ann.does(&["create", "service", &service, "group=team-orders"]);
    for topic in &topics {
        ann.does(&["create", "topic", &format!("core/{topic}"), &of_service, "capacity.mb_per_second=0.01"]);
    }
    ann.does(&["create", "user", &format!("core/{user}"), &of_service]);
    let grant = ["level=consume".to_owned(), format!("target={}", topics[0]), format!("principal={user}")];
    ann.does(&["create", "access", "core", &of_service, &grant[0], &grant[1], &grant[2]]);

    // What is there becomes files, and a plan of them is empty.
    ann.does(&["export", "-f", "kafka", "--service", &service, "--repository", "acme/orders"]);
    let (first, second) = (format!("topic/core/{}.yaml", topics[0]), format!("topic/core/{}.yaml", topics[1]));
    let files = ann.files("kafka");
    assert_eq!(files.len(), 6, "{files:?}");
    assert!(files.contains(&first) && files.contains(&"iguazu-ctl.yaml".to_owned()), "{files:?}");
    let text = ann.read(&format!("kafka/{first}"));
    assert_eq!(
        text,
        format!("id: topic/core/{}\nspec:\n  capacity:\n    mb_per_second: 0.01\n  service: {service}\n", topics[0])
    );
    let plan = ann.does(&["plan", "-f", "kafka"]);
    assert!(plan.starts_with("5 unchanged\n") && plan.contains("take-over"), "{plan}");

    // The API's own are not changed by files in silence; taken over, they are the files' alone.
    ann.write(&format!("kafka/{first}"), &text.replace("0.01", "0.02"));
    let differs = ann.runs(&["plan", "-f", "kafka"]);
    assert_eq!(differs.code, Some(1), "{}", differs.stdout);
    assert!(differs.stdout.contains("rule managed-elsewhere"), "{}", differs.stdout);
    let differs = ann.runs(&["plan", "-f", "kafka", "--take-over"]);
    assert_eq!(differs.code, Some(2), "{}{}", differs.stdout, differs.stderr);
    for told in [
        format!("~ topic/core/{}  ({first})  managed by the API", topics[0]),
        "    capacity.mb_per_second: 0.01 -> 0.02".to_owned(),
        "1 to change, 4 to take over, 0 unchanged".to_owned(),
    ] {
        assert!(differs.stdout.contains(&told), "{told:?} is missing in {}", differs.stdout);
    }
    let markdown = ann.runs(&["plan", "-f", "kafka", "--take-over", "--markdown"]).stdout;
    assert!(
        markdown.starts_with("### Iguazu: 1 to change") && markdown.contains("| change | `topic/core/"),
        "{markdown}"
    );
    ann.does(&["apply", "-f", "kafka", "--take-over", "--reason", "files are the source"]);
    assert_eq!(ann.does(&["plan", "-f", "kafka"]), "5 unchanged\n");
    let refused = ["it is managed by file `topic/core/", "of repository `acme/orders`"];
    ann.fails(&["set", "topic", &format!("core/{}", topics[0]), "capacity.mb_per_second=0.03"], 1, &refused);
    ann.fails(&["delete", "topic", &format!("core/{}", topics[0]), "--yes"], 1, &refused);
    ann.fails(
        &["apply", "-f", "kafka", "--repository", "acme/bills", "--prune", "--yes", "--take-over", "--dry-run"],
        0,
        &[],
    );
    ann.write(&format!("kafka/{first}"), &text.replace("0.01", "0.04"));
    ann.fails(&["apply", "-f", "kafka", "--repository", "acme/bills"], 1, &refused);
    ann.write(&format!("kafka/{first}"), &text.replace("0.01", "0.02"));

    // A new password is no matter of files.
    ann.does(&["rotate", "user", &format!("core/{user}")]);
    assert_eq!(ann.json(&["get", "user", &format!("core/{user}")])["managed_by"]["repository"], "acme/orders");
    assert_eq!(ann.does(&["plan", "-f", "kafka"]), "5 unchanged\n");

    // What has no file any more stays, unless it is pruned; and that is reviewed.
    std::fs::remove_file(ann.place.join("kafka").join(&second)).expect("it is there");
    assert_eq!(ann.does(&["plan", "-f", "kafka"]), "4 unchanged\n");
    let pruned = ann.runs(&["plan", "-f", "kafka", "--prune"]);
    assert_eq!(pruned.code, Some(2), "{}", pruned.stderr);
    assert!(pruned.stdout.starts_with(&format!("- topic/core/{}\n", topics[1])), "{}", pruned.stdout);
    ann.fails(&["apply", "-f", "kafka", "--prune"], 64, &["1 resource to delete", "--yes"]);
    let id = request_of(&ann.fails(&["apply", "-f", "kafka", "--prune", "--yes"], 75, &["review by"]));
    bob.does(&["request", "deny", &id]);
    std::fs::create_dir(ann.place.join("empty")).expect("the folder is ours");
    ann.fails(
        &["apply", "-f", "empty", "--repository", "acme/orders", "--prune", "--yes"],
        64,
        &["is it the right folder?"],
    );

    // A folder with a mistake is not applied in part, and every mistake is told.
    ann.write("kafka/bad.yaml", "id: topic/core/bad\nspec: { service: orders, partitions: 7 }\n");
    ann.write("kafka/worse.yaml", "id: nothing\nspec: {}\n");
    ann.fails(&["apply", "-f", "kafka"], 64, &["bad.yaml: spec", "worse.yaml: id: `nothing`"]);
    plane.finish();
}

#[test]
fn twenty_topics_are_made_by_one_apply() {
    let cluster = kafka::shared();
    let plane = Control::start(&control::config(&cluster, ""));
    let admin = Person::first(&plane);
    let ann = Person::new(&admin, "ann", &["team-orders"]);
    let service = unique("orders");
    ann.write("kafka/iguazu-ctl.yaml", "repository: acme/orders\n");
    let quoted = format!("{{ \"id\": \"service/{service}\", \"spec\": {{ \"group\": \"team-orders\" }} }}");
    ann.write("kafka/service.json", &quoted);
    let names: Vec<String> = (0..20).map(|_| unique("orders.many")).collect();
    for name in &names {
        let text =
            format!("id: topic/core/{name}\nspec:\n  service: {service}\n  capacity: {{ mb_per_second: 0.01 }}\n");
        ann.write(&format!("kafka/{name}.yaml"), &text);
    }
    let begun = std::time::Instant::now();
    let applied = ann.runs(&["apply", "-f", "kafka"]);
    let took = begun.elapsed();
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    assert_eq!(applied.stderr.matches("  done  create topic ").count(), 20, "{}", applied.stderr);
    println!("20 topics by one apply: {took:?}");
    assert_eq!(ann.does(&["plan", "-f", "kafka"]), "21 unchanged\n");
    plane.finish();
}

#[test]
fn rules_tokens_and_whole_services_are_changed_by_commands_and_what_drifted_is_settled() {
    let cluster = kafka::shared();
    let config = control::config(&cluster, "");
    let plane = Control::start(&config);
    let mut admin = Person::first(&plane);
    let mut ann = Person::new(&admin, "ann", &["team-orders"]);
    let mut bob = Person::new(&admin, "bob", &["platform", "team-bills"]);
    let (service, bills) = (unique("orders"), unique("bills"));
    let [topic, drifted, accepted] = ["orders.whole", "orders.drifted", "orders.accepted"].map(unique);
    let of_service = format!("service={service}");
    ann.does(&["create", "service", &service, "group=team-orders", "on_call=orders-at-night"]);
    bob.does(&["create", "service", &bills, "group=team-bills"]);
    for topic in [&topic, &drifted, &accepted] {
        ann.does(&["create", "topic", &format!("core/{topic}"), &of_service, "capacity.mb_per_second=0.001"]);
    }
    // Somebody changes two of them by hand, with another client.
    let by_hand = |topic: &str, value: &str| serde_json::json!({ "client": "confluent", "do": "alter_config", "kind": "TOPIC", "name": topic, "key": "segment.ms", "value": value });
    referee::ask(&cluster, &serde_json::json!([by_hand(&drifted, "7654321"), by_hand(&accepted, "7654321")]));

    // A service as a whole.
    ann.does(&["create", "sender", &service, &of_service]);
    let longer = ["service", "set", &service, "topic", "capacity.retention_hours=25", "--name", &topic];
    let tried = ann.does(&[&longer[..], &["--dry-run"]].concat());
    assert!(tried.contains(&format!("update topic/core/{topic}: approved")), "{tried}");
    ann.does(&longer);
    assert_eq!(ann.json(&["get", "topic", &format!("core/{topic}")])["spec"]["capacity"]["retention_hours"], 25.0);
    assert!(ann.runs(&longer).stderr.contains("is so already"), "whoever asks again has what they wish");
    ann.does(&longer);
    ann.fails(&["service", "set", &service, "topic", "partitions=7"], 1, &["unknown field", &topic]);
    ann.fails(&["service", "show", "nobodys"], 1, &["nobodys"]);
    ann.does(&["service", "freeze", &service]);
    assert_eq!(ann.json(&["get", "sender", &service])["spec"]["disabled"], true);
    ann.does(&["service", "thaw", &service]);
    assert_eq!(ann.json(&["get", "sender", &service])["spec"]["disabled"], false);
    ann.does(&["service", "rotate", &service]);
    assert_eq!(ann.json(&["get", "sender", &service])["spec"]["generation"], 2);
    let waits =
        ann.fails(&["service", "hand-over", &service, &bills, "--kind", "sender"], 75, &["review by new owner"]);
    let shown = ann.does(&["service", "show", &service]);
    for told in ["group team-orders, on call orders-at-night", &format!("topic/core/{topic}"), &request_of(&waits)] {
        assert!(shown.contains(told), "{told:?} is missing in {shown}");
    }
    bob.does(&["request", "approve", &request_of(&waits)]);
    assert_eq!(bob.json(&["get", "sender", &service])["spec"]["service"], bills.as_str());
    ann.fails(&["service", "decommission", &service], 64, &["3 resources to delete, 3 topics among them", "--yes"]);
    let waits = ann.fails(&["service", "decommission", &service, "--yes"], 75, &["review by operator and owner"]);
    ann.does(&["request", "deny", &request_of(&waits)]);

    // Other rules are tried on the past, and put in force by an admin.
    let rules = ann.does(&["policy", "show", "--toml"]);
    let none = "[[rule]]\nid = \"no-topics\"\nreason = \"a test\"\nverdict = \"reject\"\n\n[[rule.when]]\nfact = \"kind\"\nis = \"topic\"\n\n";
    let small = "[[rule]]\nid = \"small-topic\"";
    let looser = rules.replacen(small, &format!("{none}{small}"), 1);
    assert_ne!(looser, rules);
    admin.write("rules.toml", &looser);
    ann.write("rules.toml", &looser);
    let replayed = admin.does(&["policy", "replay", "rules.toml"]);
    assert!(replayed.contains("auto -> reject: ") && replayed.contains("no-topics"), "{replayed}");
    ann.fails(&["policy", "replay", "rules.toml"], 1, &["role"]);
    ann.fails(&["policy", "set", "rules.toml", "--reason", "x"], 1, &["it needs the"]);
    admin.write("bad.toml", "[[rule]]\nid = \"x\"\nreason = \"y\"\nverdict = \"maybe\"\n");
    admin.fails(&["policy", "set", "bad.toml", "--reason", "x"], 64, &["bad.toml", "maybe"]);
    let set = admin.runs(&["policy", "set", "rules.toml", "--reason", "no topics before the holidays"]);
    assert!(set.code == Some(0) && set.stderr.contains("rules in force, revision 1"), "{}", set.stderr);
    let create = ["create", "topic", &format!("core/{topic}.more"), &of_service, "capacity.mb_per_second=0.001"];
    ann.fails(&create, 1, &["no-topics"]);
    assert!(admin.does(&["log", "export"]).contains("no topics before the holidays"), "why is in the log");
    admin.write("rules.toml", &rules);
    admin.does(&["policy", "set", "rules.toml", "--reason", "they are over"]);

    // Tokens are listed to whoever may, and are of no use once they are taken away.
    let eve = Person::new(&admin, "eve", &["team-orders"]);
    let listed = admin.does(&["token", "list"]);
    for told in ["root", "admin", "eve", "team-orders"] {
        assert!(listed.contains(told), "{told:?} is missing in {listed}");
    }
    eve.does(&["list", "topics"]);
    admin.fails(&["token", "delete", "nobody"], 1, &["nobody"]);
    admin.does(&["token", "delete", "eve"]);
    eve.fails(&["list", "topics"], 1, &["a token is needed"]);

    // What drifted is found when a node looks, which it does when it starts.
    let folder = plane.folder().to_owned();
    plane.finish();
    let found = |plane: &Control, admin: &mut Person, topic: &str| {
        admin.url = plane.url();
        let all = admin.json(&["findings", "--kind", "drift"]);
        let id = format!("topic/core/{topic}");
        let found = all["items"].as_array().expect("a list").iter().find(|finding| finding["resource"] == id.as_str());
        found.map(|finding| finding["id"].as_str().expect("an id").to_owned())
    };
    let mut plane = Control::start_in(folder.clone(), &config);
    let ids = loop {
        // A pass leaves alone what was changed a moment before it.
        wait_for("a pass", || {
            let has_looked = plane.log().iter().any(|line| line.message().starts_with("a cluster"));
            if has_looked { Ok(()) } else { Err("none yet".to_owned()) }
        });
        match (found(&plane, &mut admin, &drifted), found(&plane, &mut admin, &accepted)) {
            (Some(drifted), Some(accepted)) => break [drifted, accepted],
            _ => {
                plane.finish();
                plane = Control::start_in(folder.clone(), &config);
            }
        }
    };
    (ann.url, bob.url) = (plane.url(), plane.url());
    let tried = ann.does(&["findings", "restore", &ids[0], "--dry-run"]);
    assert!(tried.contains("approved (restore"), "{tried}");
    let restored = ann.runs(&["findings", "restore", &ids[0], "--reason", "it was not agreed on"]);
    assert!(restored.code == Some(0) && restored.stderr.contains("done: 1 change"), "{}", restored.stderr);
    ann.fails(&["findings", "accept", &ids[1]], 1, &["not-an-expert"]);
    let waits =
        admin.fails(&["findings", "accept", &ids[1], "--reason", "it is better so"], 75, &["review by operator"]);
    bob.does(&["request", "approve", &request_of(&waits)]);
    let spec = ann.json(&["get", "topic", &format!("core/{accepted}")])["spec"].take();
    assert_eq!(spec["expert"]["configs"]["segment.ms"], "7654321", "{spec:#}");
    let ask =
        |topic: &str| serde_json::json!({ "client": "confluent", "do": "configs", "kind": "TOPIC", "name": topic });
    let seen = referee::ask(&cluster, &serde_json::json!([ask(&drifted), ask(&accepted)]));
    assert_ne!(seen[0]["segment.ms"][0], "7654321");
    assert_eq!(seen[1]["segment.ms"][0], "7654321");
    plane.finish();
}

#[test]
fn completion_knows_the_commands_and_kinds() {
    let place = folder("completion");
    for shell in ["bash", "zsh", "fish"] {
        let script = iguazu(&place, &["ctl", "completion", shell]).printed();
        for word in ["onboard", "take-over", "repository"] {
            assert!(script.contains(word), "{word} is missing in that of {shell}");
        }
    }
}

/// A dev for others to ask, on a real Kafka or on embedded brokers.
fn dev(place: PathBuf, on_kafka: bool) -> Dev {
    let (jars, java) = (fetched("kafka/lib"), kafka::java());
    let real = ["--kafka", jars.to_str().expect("UTF-8"), "--java", java.to_str().expect("UTF-8")];
    let arguments = if on_kafka { &real[..] } else { &[] };
    Dev::start_in(place, &[&["--quiet", "--self-serve"], arguments].concat())
}

#[test]
fn the_chapter_of_the_readme_works_as_shown_from_nothing_to_an_event_on_a_real_kafka() {
    let readme = std::fs::read_to_string("README.md").expect("tests run in the package's folder");
    let chapter =
        readme.split("\n## Self-serve\n").nth(1).expect("the chapter").split("\n## ").next().expect("its text");
    let shown = chapter.split("```sh\n").nth(1).expect("its commands").split("```").next().expect("their end");
    let commands: Vec<_> = shown.lines().collect();
    assert!(commands.len() < 10, "in under ten commands");
    assert_eq!(commands[0], "./deploy/dev.sh --kafka --self-serve &");
    let place = folder("self-serve");
    let dev = dev(place.clone(), true);
    let binary = Path::new(env!("CARGO_BIN_EXE_iguazu")).parent().expect("it is in a folder");
    let mut printed = vec![String::new()];
    for line in &commands[1..] {
        let line = line.replace("http://127.0.0.1:8080", dev.url());
        let ended = shell(&place, &format!("PATH={}:$PATH\n{line}", binary.display()));
        assert_eq!(ended.code, Some(0), "{line}\n{}{}", ended.stdout, ended.stderr);
        printed.push(ended.stdout);
    }
    let said = |n: usize, what: &str| assert!(printed[n].contains(what), "{what:?} is missing in {}", printed[n]);
    said(1, "ok    cluster     cluster/dev: shared");
    said(5, r#""succeeded":1"#);
    said(6, r#"{"order":"o-1"}"#);
    assert_eq!(
        printed[8],
        "5 unchanged\n5 files the same and managed elsewhere: `apply --take-over` makes these files their source\n"
    );
    assert!(place.join("kafka/topic/dev/checkout.paid.yaml").exists());
    dev.finish();
}

#[test]
fn embedded_brokers_have_topics_and_events_and_say_where_users_are_to_be_had() {
    let place = folder("self-serve");
    let dev = dev(place.clone(), false);
    let ctl = |arguments: &[&str]| iguazu(&place, &[&["ctl"], arguments].concat());
    for arguments in [
        &["create", "service", "checkout", "group=dev"][..],
        &["create", "topic", "dev/checkout.seen", "service=checkout", "capacity.mb_per_second=0.1"],
        &["onboard", "checkout.paid", "--service", "checkout", "--cluster", "dev"],
        &["secret", "sender", "checkout", "--out", "checkout.key"],
    ] {
        let ended = ctl(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
    }
    let key = std::fs::read_to_string(place.join("checkout.key")).expect("it was written");
    wait_for("the event is live", || {
        let body = r#"{"event":"checkout.paid","payload":{"order":"o-1"}}"#;
        let request =
            http::client().post(format!("{}/v1/events?reply=acknowledged", dev.url())).bearer_auth(key.trim());
        let reply = http::block_on(http::send(request.header("content-type", "application/json").body(body)))?;
        if reply.status == 200 { Ok(()) } else { Err(reply.text()) }
    });
    let tail = iguazu(&place, &["tail", "checkout.paid", "-n", "1"]).printed();
    assert!(tail.contains(r#"{"order":"o-1"}"#), "{tail}");
    for arguments in [
        &["create", "user", "dev/app", "service=checkout"][..],
        &["create", "access", "dev", "service=checkout", "level=consume", "target=checkout.paid", "principal=app"],
        &["create", "quota", "dev", "service=checkout", "user=app", "produce_bytes_per_second=1000"],
    ] {
        let ended = ctl(arguments);
        assert_eq!(ended.code, Some(1), "{arguments:?}: {}", ended.stdout);
        for told in ["not_supported_by_embedded_brokers", "./deploy/dev.sh --kafka"] {
            assert!(ended.stderr.contains(told), "{told:?} is missing in {}", ended.stderr);
        }
    }
    dev.finish();
}

#[test]
fn the_commands_of_the_example_workflow_are_ones_that_there_are() {
    let workflow = std::fs::read_to_string("deploy/ci/kafka.yml").expect("tests run in the package's folder");
    let commands = workflow.lines().filter_map(|line| line.trim().strip_prefix("iguazu "));
    let until = |line: &str, end: &str| line.split(end).next().expect("its first part").trim().to_owned();
    let commands: Vec<_> = commands.map(|line| until(&until(line, ">"), "||")).collect();
    assert_eq!(commands.len(), 3);
    let place = folder("workflow");
    for command in commands {
        // Arguments are read up to `--help`, so that one that is not known is an error.
        let arguments: Vec<_> =
            command.split(' ').map(|argument| if argument.contains('$') { "x" } else { argument }).collect();
        let ended = iguazu(&place, &[&arguments[..], &["--help"]].concat());
        assert_eq!(ended.code, Some(0), "{command}: {}", ended.stderr);
    }
}
