//! A whole dev in this process: what `iguazu dev` promises, asked over HTTP.

use super::client::{Address, Connection, Post};
use super::demo::{self, Stay};
use super::screen::Screen;
use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn ask(dev: &Dev, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    let address = Address::parse(&format!("http://{}", dev.addresses.http), None).expect("an address");
    let answer = dev.runtime.block_on(async {
        let mut connection = Connection::open(&address, TIMEOUT).await?;
        match method {
            "GET" => connection.get(path, TIMEOUT).await,
            _ => {
                let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
                connection.post(&Post { path: path.to_owned(), headers, body: body.to_owned().into() }, TIMEOUT).await
            }
        }
    });
    let answer = answer.expect("an answer");
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).expect("JSON"))
}

#[test]
fn a_dev_shows_what_goes_in_and_comes_out_and_what_does_not() {
    let dev = Dev::start(&Options::default()).expect("a dev");
    assert!(
        demo::show(&dev, &mut Screen::nowhere(), Duration::ZERO, Stay::UntilInterrupted(None))
            .expect("nothing to write to")
    );

    let event = "delivery.v1.StatusChanged";
    let path = format!("/dev/events?event={event}&limit=1");
    let (status, lines) = ask(&dev, "GET", &path, "");
    assert_eq!((status, lines.as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!(lines[0]["event"].as_str(), Some(event));
    assert!(lines[0]["payload"]["delivery_id"].is_string(), "{lines}");

    let (_, rejected) = ask(&dev, "GET", "/dev/rejected", "");
    assert_eq!(rejected[0]["code"].as_str(), Some("unknown_field"), "{rejected}");

    assert_eq!(ask(&dev, "POST", "/dev/reset", "").0, 200);
    assert_eq!(ask(&dev, "GET", &path, "").1, serde_json::json!([]));
    assert_eq!(ask(&dev, "GET", "/dev/rejected", "").1, serde_json::json!([]));
    let body = format!(r#"{{"event":"{event}","id":"after","payload":{{"delivery_id":"d"}}}}"#);
    assert_eq!(ask(&dev, "POST", "/v1/events?reply=acknowledged", &body).0, 200);
    assert_eq!(ask(&dev, "GET", &path, "").1[0]["id"].as_str(), Some("after"));

    assert_eq!(ask(&dev, "GET", "/dev/events", "").0, 400);
    assert_eq!(ask(&dev, "GET", "/dev/events?event=no.such", "").0, 404);
    assert_eq!(ask(&dev, "GET", "/dev/nothing", "").0, 404);
    assert_eq!(ask(&dev, "GET", "/dev/reset", "").0, 405);
    let balance = dev.stop();
    assert!(balance.holds() && balance.in_memory == 0, "{balance:?}");
}

#[test]
fn a_taken_port_names_the_flag_to_choose_another() {
    let taken = TcpListener::bind(loopback(0)).expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let error = Dev::start(&Options { port, ..Options::default() }).expect_err("taken");
    assert!(error.is_usage());
    assert_eq!(
        error.to_string(),
        format!("port {port} is taken; choose another one with `--port N`, or a free one with `--port 0`")
    );
}

#[test]
fn protos_of_the_users_own_become_event_types_with_their_imports() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    };
    write("shared/money.proto", r#"syntax = "proto3"; package shared; message Money { int64 units = 1; }"#);
    write(
        "shop/sold.proto",
        r#"syntax = "proto3"; package shop; import "shared/money.proto"; message Sold { string id = 1; shared.Money price = 2; }"#,
    );
    let dev = Dev::start(&Options { protos: vec![folder.path().to_owned()], ..Options::default() }).expect("a dev");
    let names: Vec<_> = dev.events.iter().map(|event| event.event_type.name.as_str()).collect();
    assert_eq!(names, ["shop.Sold"]);
    assert!(demo::show(&dev, &mut Screen::nowhere(), Duration::ZERO, Stay::No).expect("nothing to write to"));
    assert!(dev.stop().holds());
}
