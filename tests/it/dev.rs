//! `iguazu dev`: everything on one machine, for people and for other projects' tests.

use serde_json::{Value, json};

use super::support::tool::{Dev, iguazu, shell, taken_port};
use super::support::{folder, wait_for, wait_until};

const STATUS: &str = "delivery.v1.StatusChanged";

#[test]
fn once_shows_each_form_and_ends() {
    let place = folder("dev");
    let printed = iguazu(&place, &["dev", "--once", "--port", "0"]).printed();
    for shown in ["One JSON event", "one a line", "bare Protobuf", "Protobuf batch", "mistake", "All as it should be"] {
        assert!(printed.contains(shown), "{shown:?} is missing:\n{printed}");
    }
    assert!(printed.contains("9 received = 8 delivered + 1 rejected + 0 failed + 0 lost"), "{printed}");
    assert!(!place.join(".iguazu-dev.toml").exists(), "it leaves nothing that points nowhere");
}

#[test]
fn a_taken_port_is_named_with_the_flag_that_chooses_another() {
    let (_held, address) = taken_port();
    for flag in ["--port", "--admin-port"] {
        let ended = iguazu(&folder("dev"), &["dev", "--once", flag, &address.port().to_string()]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(64), ""), "{}", ended.stderr);
        let named = format!("port {} is taken; choose another one with `{flag} N`", address.port());
        assert!(ended.stderr.contains(&named), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_test_of_another_project_asserts_on_what_came_and_what_was_refused() {
    let dev = Dev::start(&["--quiet"]);
    let good = json!({"event": STATUS, "id": "d-1", "payload": {"delivery_id": "7", "status": "STATUS_ASSIGNED"}});
    let bad = json!({"event": STATUS, "id": "d-2", "payload": {"delivery_id": "7", "statue": "of somebody"}});
    let (status, reply) = dev.ask("POST", "/v1/events?reply=acknowledged", json!([good, bad]).to_string()).await;
    assert_eq!(status, 207, "{reply}");
    let events = format!("/dev/events?event={STATUS}");
    let (status, came) = dev.ask("GET", &events, String::new()).await;
    let ids = |lines: &Value| -> Vec<Value> {
        lines.as_array().expect("a list").iter().map(|line| line["id"].clone()).collect()
    };
    assert_eq!((status, ids(&came)), (200, vec![json!("d-1")]), "{came}");
    assert_eq!((&came[0]["key"], &came[0]["payload"]["status"]), (&json!("7"), &json!("STATUS_ASSIGNED")), "{came}");
    let (status, refused) = dev.ask("GET", "/dev/rejected", String::new()).await;
    assert_eq!((status, ids(&refused)), (200, vec![json!("d-2")]), "{refused}");
    assert_eq!(refused[0]["code"], json!("unknown_field"), "{refused}");
    assert!(!refused.to_string().contains("of somebody"), "a refused payload is not shown: {refused}");

    assert_eq!(dev.ask("POST", "/dev/reset", String::new()).await.0, 200);
    for page in [events.as_str(), "/dev/rejected"] {
        assert_eq!(dev.ask("GET", page, String::new()).await, (200, json!([])), "{page}");
    }
    assert_eq!(dev.ask("GET", "/dev/events?event=nobody.knows", String::new()).await.0, 404);
    assert_eq!(dev.ask("GET", "/dev/reset", String::new()).await.0, 405);
    assert_eq!(dev.finish(), "", "quiet is quiet");
}

#[tokio::test]
async fn your_own_messages_become_event_types() {
    let place = folder("dev");
    let protos = place.join("proto/acme/v1");
    std::fs::create_dir_all(&protos).expect("the folder is ours");
    let text = "syntax = \"proto3\";\npackage acme.v1;\n\nmessage Sold {\n  string sale_id = 1;\n  Item item = 2;\n}\n\n\
                message Item {\n  string name = 1;\n}\n";
    std::fs::write(protos.join("sold.proto"), text).expect("the folder is ours");
    let dev = Dev::start_in(place, &["--quiet", "--proto", "proto"]);
    let send = async |event: &str| {
        let event = json!({"event": event, "payload": {"sale_id": "s-1", "item": {"name": "tea"}}});
        dev.ask("POST", "/v1/events?reply=acknowledged", event.to_string()).await.0
    };
    assert_eq!(send("acme.v1.Sold").await, 200);
    assert_eq!(send("acme.v1.Item").await, 404, "a part of a message is no event");
    let (_, came) = dev.ask("GET", "/dev/events?event=acme.v1.Sold", String::new()).await;
    assert_eq!((&came[0]["key"], &came[0]["payload"]["item"]["name"]), (&json!("s-1"), &json!("tea")), "{came}");
    dev.finish();
}

#[test]
fn beside_it_the_other_commands_need_no_addresses() {
    let dev = Dev::start(&["--quiet"]);
    let place = dev.place().to_owned();
    let iguazu = |arguments: &[&str]| iguazu(&place, arguments);
    let example = iguazu(&["schema", "example", STATUS]).printed();
    let at = example.find("curl ").expect("a line that posts the example");
    let reply = shell(&place, &example[at..]).printed();
    assert!(reply.contains("\"succeeded\":1"), "{reply}");
    let line = iguazu(&["tail", STATUS, "-n", "1", "--from", "beginning"]).printed();
    let line: Value = serde_json::from_str(&line).expect("one line of JSON");
    let payload: Value = serde_json::from_str(&iguazu(&["schema", "example", STATUS, "--payload-only"]).printed())
        .expect("the example is JSON");
    assert_eq!(line["payload"]["delivery_id"], payload["delivery_id"], "{line}");
    for load in [
        &["load", dev.url(), "--events", "200", "--verify"][..],
        &["load", "--events", "200", "--rate", "400/s", "--batch", "10", "--format", "protobuf", "--verify"],
    ] {
        let ended = iguazu(load);
        assert_eq!(ended.code, Some(0), "{load:?}: {}\n{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("200"), "{load:?}: {}", ended.stdout);
    }
    dev.finish();
    let ended = iguazu(&["tail", STATUS, "-n", "1"]);
    assert_eq!(ended.code, Some(64), "without a dev the addresses are missed: {}", ended.stderr);
}

#[tokio::test]
async fn a_second_one_in_the_same_folder_leaves_the_first_one_alone() {
    let first = Dev::start(&["--quiet"]);
    let place = first.place().to_owned();
    let second = Dev::start_in(place.clone(), &["--quiet"]);
    assert_eq!(first.config(), ".iguazu-dev.toml");
    assert_ne!(second.config(), first.config());
    let load = |dev: &Dev, config: &[&str]| {
        let ended = iguazu(
            &place,
            &[&["load", "--events", "10", "--reply", "acknowledged", "--event", STATUS], config].concat(),
        );
        assert_eq!(ended.code, Some(0), "{}: {}{}", dev.url(), ended.stdout, ended.stderr);
    };
    let kept = async |dev: &Dev| {
        let (_, came) = dev.ask("GET", &format!("/dev/events?event={STATUS}"), String::new()).await;
        came.as_array().map_or(0, Vec::len)
    };
    load(&second, &["--config", second.config()]);
    assert_eq!((kept(&first).await, kept(&second).await), (0, 10));
    iguazu(&place, &["dev", "--once", "--port", "0"]).printed();
    second.finish();
    load(&first, &[]);
    assert_eq!(kept(&first).await, 10);
    first.finish();
}

#[tokio::test]
async fn the_curl_line_that_it_prints_works() {
    let dev = Dev::start(&[]);
    let line = wait_for("the line is printed", || {
        let printed = dev.printed();
        let try_it = printed.split("Try it").nth(1).ok_or("not there yet")?;
        // The last command is printed after it: then it is whole.
        try_it.find("/metrics").ok_or("not whole yet")?;
        let lines: Vec<_> = try_it.lines().skip_while(|line| !line.contains("curl -s")).collect();
        let count = lines.iter().take_while(|line| line.ends_with('\\')).count();
        Ok(lines[..=count].join("\n"))
    });
    assert!(line.contains("--data-binary @"), "{line}");
    let before = kept(&dev).await;
    let reply = shell(dev.place(), &line).printed();
    assert!(reply.contains("\"succeeded\":1"), "{line}\n{reply}");
    wait_until("it is in Kafka", async || {
        let now = kept(&dev).await;
        if now == before + 1 { Ok(()) } else { Err(format!("{now} records, {before} before")) }
    })
    .await;
    dev.finish();
}

async fn kept(dev: &Dev) -> usize {
    let (_, came) = dev.ask("GET", "/dev/events?event=orders.v1.OrderPlaced", String::new()).await;
    came.as_array().map_or(0, Vec::len)
}
