//! The blocks of the pages that a newcomer pastes, run as they stand, against one `iguazu dev`. Those of *Self-serve* and *Schemas*,
//! of the examples, of Compose and of the chart are run by tests of their own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::super::support::process::{Process, Signal, command};
use super::super::support::tool::{Dev, Ended, shell};
use super::super::support::{folder, http, ports, unique, wait_for, wait_until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const IGUAZU: &str = env!("CARGO_BIN_EXE_iguazu");
/// What pages call the door of a proxy.
const DOOR: &str = "http://127.0.0.1:8080";
/// The id that the page about delivery looks for.
const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

#[tokio::test]
async fn the_blocks_that_a_newcomer_pastes_do_what_the_pages_say() {
    let dev = Dev::start(&["--quiet"]);
    let place = like_a_clone(&dev);

    let sent = run(&place, &only("README.md", "curl http").replace(DOOR, dev.url()));
    assert_eq!(sent.printed().trim(), after("README.md", "curl http", "json").trim());
    let sent = run(&place, &only("deploy/docs/sending.md", "sender.py").replace(DOOR, dev.url()));
    assert_eq!(sent.printed(), "accepted 1, refused 0, given up 0\n");

    configure(&place);
    keys_of_a_control_plane();
    tools(&dev).await;
    dev.finish();
}

#[test]
fn the_block_that_converts_payloads_converts_them() {
    let place = with_path(&folder("transcode"));
    fs::create_dir_all(place.join("proto/shop/v1")).expect("the folder is ours");
    let order = "syntax = \"proto3\";\npackage shop.v1;\nmessage Order {\n  string id = 1;\n  int64 cents = 2;\n}\n";
    fs::write(place.join("proto/shop/v1/order.proto"), order).expect("the folder is ours");
    let block = only("deploy/docs/event-types.md", "iguazu transcode");
    let lines: Vec<&str> = block.lines().collect();
    let [to_avro, to_json, print] = lines[..] else { panic!("the page has other lines now: {block}") };
    let write = |file: &str, text: &str| fs::write(place.join(file), text).expect("the folder is ours");
    write("datums.hex", &run(&place, to_avro).printed());
    write("order.avsc", &run(&place, &print.replace(" --mapping java-avro", "")).printed());
    let back: Value = serde_json::from_str(&run(&place, to_json).printed()).expect("it is JSON");
    assert_eq!((&back["id"], &back["cents"]), (&json!("o-1"), &json!("5")), "{back}");
    let schema: Value = serde_json::from_str(&run(&place, print).printed()).expect("it is JSON");
    assert_eq!((&schema["type"], &schema["name"]), (&json!("record"), &json!("Order")), "{schema}");
}

/// README, *Configure*: the documented example is checked, is served, and stops; a sender gets a key.
fn configure(place: &Path) {
    let block = only("README.md", "iguazu check");
    let (serve, others): (Vec<&str>, Vec<&str>) = block.lines().partition(|line| line.starts_with("iguazu proxy"));
    let said = run(place, &others.join("\n"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stdout.contains("deploy/iguazu.toml: ") && said.stdout.contains("[senders.\"checkout\"]"),
        "{}",
        said.stdout
    );
    let [serve] = serve[..] else { panic!("the block serves nothing: {block}") };
    let mut proxy = Served::start(place, serve);
    proxy.stop();
}

/// The chart's keys, made as its page says, are those that a control plane starts with.
fn keys_of_a_control_plane() {
    let place = with_path(&folder("keys"));
    let page = fs::read_to_string("deploy/helm/iguazu/README.md").expect("there is the page");
    let (_, blocks) = super::split(&page);
    let made: Vec<&str> =
        blocks.iter().flat_map(|(_, block)| block.lines()).filter(|line| line.starts_with("openssl ")).collect();
    assert!(made.len() >= 2, "the page makes other keys now: {made:?}");
    let said = run(&place, &made.join("\n"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let config = "[control]\nlisten = \"127.0.0.1:0\"\nstate_dir = \"state\"\nseal_key_file = \"seal-key\"\n\
                  snapshot_key_file = \"snapshot.pem\"\n[clusters.core]\nbrokers = [\"127.0.0.1:1\"]\n\
                  [control.clusters.core]\nmode = \"observe\"\nenvironment = \"tests\"\n";
    fs::write(place.join("control.toml"), config).expect("the folder is ours");
    for key in ["seal-key", "snapshot.pem"] {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(place.join(key), private).expect("it was made");
    }
    let mut control = Served::start(&place, "iguazu control control.toml");
    control.stop();
}

/// The page about delivery: what waits, what failed, where an event is, and whether all of them are there.
async fn tools(dev: &Dev) {
    let place = with_path(&folder("tools"));
    let site = site(dev);
    let of = |key: &str, name: &str, list: &str| site[key][name][list].to_string();
    let free = ports::free(2);
    let config = format!(
        "state_dir = \"state\"\n[http]\nlisten = \"127.0.0.1:{}\"\n[admin]\nlisten = \"127.0.0.1:{}\"\n\
         [clusters.dev]\nbrokers = {}\nregistry = \"dev\"\nlinger_ms = 5\n[registries.dev]\nurls = {}\n\
         [spool]\nfolder = \"spool\"\nbytes_max = 67_108_864\n\
         [events.\"orders.placed\"]\ncluster = \"dev\"\ntopic = \"orders.v1.OrderPlaced\"\n\
         subject = \"orders.v1.OrderPlaced\"\nencoding = \"avro\"\ndead_letter = \"checkout.v1.PageViewed\"\n",
        free[0],
        free[1],
        of("clusters", "dev", "brokers"),
        of("registries", "dev", "urls"),
    );
    fs::write(place.join("iguazu.toml"), config).expect("the folder is ours");
    fs::write(place.join("ids"), format!("{ID}\n")).expect("the folder is ours");
    let mut proxy = Served::start(&place, "iguazu proxy iguazu.toml");
    let door = format!("http://127.0.0.1:{}", free[0]);
    let events = json!([
        {"event": "orders.placed", "id": ID, "payload": {"order_id": "1"}},
        {"event": "orders.placed", "payload": {"no_such_field": "1"}},
    ]);
    wait_until("an event type is warm", async || {
        let request = http::client().post(format!("{door}/v1/events?reply=acknowledged"));
        let reply = http::send(request.header("content-type", "application/json").body(events.to_string())).await;
        let reply = reply.map_err(|e| e.to_string())?;
        if reply.status == 207 { Ok(()) } else { Err(reply.text()) }
    })
    .await;

    let expected = [
        ("spool ls", 0, ": 0 events wait"),
        ("spool verify", 0, ": sound"),
        ("spool drain", 0, "0 events found"),
        ("--failed --dry-run", 0, "0 found"),
        // Its sender's mistake is still one.
        ("--dead-letters", 1, " refused again"),
        ("find", 0, "in Kafka: cluster dev, topic orders.v1.OrderPlaced, partition"),
        ("audit", 0, "orders.placed: 1 acknowledged, 1 found, 0 missing, 0 duplicates"),
        ("--ids ids", 0, "orders.placed: 1 acknowledged, 1 found, 0 missing, 0 duplicates"),
    ];
    let wrong = events[1].to_string();
    let blocks = only("deploy/docs/delivery.md", "iguazu spool ls") + &only("deploy/docs/delivery.md", "iguazu find");
    assert_eq!(blocks.lines().count(), expected.len(), "the page has other lines now: {blocks}");
    let copy = run(&place, "mkdir orphan && cp -r spool orphan/spool");
    assert_eq!(copy.code, Some(0), "{}", copy.stderr);
    for (line, (named, code, text)) in blocks.lines().zip(expected) {
        let here = line.replace("/var/lib/iguazu/spool", "spool").replace("/mnt/orphan", "orphan").replace(DOOR, &door);
        assert!(line.contains(named), "the page has other lines now: {line}");
        wait_for(line, || {
            if named == "--dead-letters" {
                // What is rejected before its topic is known becomes no letter.
                run(
                    &place,
                    &format!("curl -s -o rejected -H 'content-type: application/json' -d '{wrong}' {door}/v1/events"),
                );
            }
            let said = run(&place, &here);
            let is_so = said.code == Some(code) && said.stdout.contains(text);
            if is_so { Ok(()) } else { Err(format!("{said:?}")) }
        });
    }
    proxy.stop();
}

/// The folder of `dev`, with what a clone of the repository has after `./deploy/dev.sh`; its example reaches `dev`, at free ports.
fn like_a_clone(dev: &Dev) -> std::path::PathBuf {
    let place = with_path(dev.place());
    fs::create_dir(place.join("deploy")).expect("the folder is ours");
    symlink(format!("{ROOT}/deploy/examples"), place.join("deploy/examples")).expect("the folder is ours");
    let site = site(dev);
    let first = |key: &str, list: &str| site[key]["dev"][list][0].as_str().expect("an address").to_owned();
    let (broker, registry) = (first("clusters", "brokers"), first("registries", "urls"));
    let example = fs::read_to_string("deploy/iguazu.toml").expect("there is the example");
    let example = example.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:8081", "127.0.0.1:0");
    let example = example.replace("kafka-core-1:9092", &broker).replace(", \"kafka-core-2:9092\"", "");
    let example = example.replace("http://schema-registry-1:8081", &registry);
    let example = example.replace(", \"http://schema-registry-2:8081\"", "");
    fs::write(place.join("deploy/iguazu.toml"), example).expect("the folder is ours");
    place
}

/// The file by which commands find a `dev`.
fn site(dev: &Dev) -> toml::Table {
    let text = fs::read_to_string(dev.place().join(dev.config())).expect("it is there while it runs");
    toml::from_str(&text).expect("it is a configuration")
}

/// A folder in which the binary is where README puts it on the path.
fn with_path(place: &Path) -> std::path::PathBuf {
    fs::create_dir_all(place.join("target/quick")).expect("the folder is ours");
    symlink(IGUAZU, place.join("target/quick/iguazu")).expect("the folder is ours");
    place.to_owned()
}

/// Runs lines of a block, up to the first that fails.
fn run(place: &Path, lines: &str) -> Ended {
    let mut said = shell(place, &format!("set -e\nPATH=\"$PWD/target/quick:$PATH\"\n{lines}"));
    // curl and openssl show there how far they are.
    if said.code == Some(0) && !said.stderr.contains("iguazu") {
        said.stderr.clear();
    }
    said
}

/// The only block of a page that has this in it.
fn only(page: &str, what: &str) -> String {
    let blocks = blocks_with(page, what);
    assert_eq!(blocks.len(), 1, "{page} has other blocks with {what:?} now");
    blocks[0].1.clone()
}

/// The block of a language that follows that block.
fn after(page: &str, what: &str, language: &str) -> String {
    let text = fs::read_to_string(page).expect("there is the page");
    let (_, blocks) = super::split(&text);
    let mut rest = blocks.into_iter().skip_while(|(_, block)| !block.contains(what));
    rest.find(|(found, _)| found == language).expect("the page shows what comes of it").1
}

fn blocks_with(page: &str, what: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(page).expect("there is the page");
    let (_, blocks) = super::split(&text);
    blocks.into_iter().filter(|(language, block)| language == "sh" && block.contains(what)).collect()
}

/// A command of a page that serves until it is told to stop.
struct Served {
    process: Process,
    log: std::path::PathBuf,
}

impl Served {
    /// Starts `iguazu …`, and waits until it listens.
    fn start(place: &Path, line: &str) -> Served {
        let (ready, log) = (place.join(unique("ready.json")), place.join(unique("served.log")));
        let mut command = command(IGUAZU);
        command.args(line.split_whitespace().skip(1)).arg("--ready-file").arg(&ready).current_dir(place);
        let file = fs::File::create(&log).expect("the folder is ours");
        command.stdout(Stdio::null()).stderr(Stdio::from(file));
        let mut served = Served { process: Process::spawn(line, command), log };
        wait_for(&format!("{line} listens"), || match served.process.exit_status() {
            Some(status) => panic!("{line} ended: {status}; see {}", served.log.display()),
            None if ready.exists() => Ok(()),
            None => Err("not yet".to_owned()),
        });
        served
    }

    /// Ends it; nothing is lost, and it exits with 0.
    fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        assert!(status.success(), "it ended with {status}; see {}", self.log.display());
    }
}
