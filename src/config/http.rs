//! `[http]` and `[admin]`: the two listeners.

use std::net::{Ipv4Addr, SocketAddr};

use super::reader::{Item, Table};
use super::{Admin, Http, Tls};

/// Bytes that are held for one event of a batch and the result that it may have in the reply: a result with its id and a
/// message of usual length, and the event's entry in the batch.
pub const RESULT_BYTES: usize = 384;

/// Reads `[http]`; the table comes back for what must hold between it and other parts.
pub(super) fn read<'s>(root: &mut Table<'s>) -> (Http, Table<'s>) {
    let mut table = root.section("http");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let listen = listen(&mut table, 8080);
    // Nothing on another machine sends to loopback, so that nobody has to be told before the listener closes.
    let delay_seconds = if listen.ip().is_loopback() { 0 } else { 5 };
    let http = Http {
        listen,
        tls: table.table("tls").map(|mut tls| {
            let read = Tls {
                certificate_file: tls.need_file("certificate_file", "the PEM file with the certificate chain"),
                key_file: tls.need_private_file("key_file", "the PEM file with the private key"),
                client_ca_file: None,
            };
            tls.finish();
            read
        }),
        unauthenticated: table.flag("unauthenticated"),
        workers: table.optional_number("workers", 1..=1024).map_or(cores, |workers| workers as usize),
        body_bytes_max: table.size("body_bytes_max", 1_048_576, 1024..=104_857_600),
        batch_events_max: table.size("batch_events_max", 10_000, 1..=100_000),
        in_flight_bytes_max: table.size("in_flight_bytes_max", 268_435_456, 1_048_576..=68_719_476_736),
        connections_max: table.size("connections_max", 10_000, 1..=1_000_000),
        read_timeout: table.seconds("read_timeout_seconds", 10, 1..=300),
        ack_timeout: table.seconds("ack_timeout_seconds", 35, 1..=1000),
        drain_delay: table.seconds("drain_delay_seconds", delay_seconds, 0..=600),
        drain: table.seconds("drain_seconds", 30, 2..=3600),
    };
    table.finish();
    if http.in_flight_bytes_max < 2 * http.body_bytes_max {
        let least = 2 * http.body_bytes_max;
        let why = "one compressed body counts as sent and again decompressed";
        table.problem("in_flight_bytes_max", format!("must be at least twice `http.body_bytes_max` ({least}): {why}"));
    } else if http.in_flight_bytes_max < http.body_bytes_max + http.batch_events_max * RESULT_BYTES {
        let least = http.body_bytes_max + http.batch_events_max * RESULT_BYTES;
        let why =
            format!("a body (`http.body_bytes_max`), and {RESULT_BYTES} bytes an event (`http.batch_events_max`)");
        table.problem("in_flight_bytes_max", format!("must be at least {least}: {why}"));
    }
    (http, table)
}

/// Reads `[admin]`.
pub(super) fn read_admin(root: &mut Table<'_>, http: &Http) -> Admin {
    let mut table = root.section("admin");
    let admin = Admin { listen: listen(&mut table, 8081) };
    table.finish();
    if admin.listen == http.listen && admin.listen.port() != 0 {
        table.problem("listen", format!("{} is `http.listen` already; the two listeners are apart", admin.listen));
    }
    admin
}

pub(super) fn listen(table: &mut Table<'_>, default_port: u16) -> SocketAddr {
    let address = |item: Item<'_>| {
        item.is_meant_as("IP address and port");
        let text = item.clone().string()?;
        let parsed = text.parse().ok();
        parsed.or_else(|| {
            item.wrong(format!("`{text}` is not an IP address and a port, such as `127.0.0.1:8080` or `[::]:8080`"))
        })
    };
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, default_port));
    table.by_default("listen", || format!("`\"{default}\"`"));
    table.take("listen").and_then(address).unwrap_or(default)
}
