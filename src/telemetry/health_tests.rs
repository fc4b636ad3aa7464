use super::*;

fn condition(name: &str, reason: &str) -> Condition {
    Condition { name: name.to_owned(), reason: reason.to_owned(), since: Duration::from_millis(7_900) }
}

fn buffer(cluster: &str, lane: &'static str, fill: f64) -> Buffer {
    Buffer { cluster: cluster.to_owned(), lane, fill }
}

/// A process that has started and takes events.
fn well() -> View {
    View { started: true, ..View::default() }
}

#[track_caller]
fn check(answer: Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (status, format!("{body}\n").as_str()));
}

#[track_caller]
fn check_ready(view: View, reasons: &[&str]) {
    let answer = ready(&view);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["reasons"], serde_json::json!(reasons));
    assert_eq!(body["ready"], reasons.is_empty());
    assert_eq!(answer.status, if reasons.is_empty() { 200 } else { 503 });
}

#[test]
fn a_full_buffer_is_no_reason_while_its_spool_has_room() {
    let full = |spool: f64| {
        let spools = vec![SpoolLevel { cluster: "core".to_owned(), log: "spool", fill: spool, trouble: None }];
        View { buffers: vec![buffer("core", "standard", 0.95)], spools, ..well() }
    };
    check_ready(full(0.91), &["every cluster's buffer is over 90 % full: core 91 %"]);
    check_ready(full(0.5), &[]);
}

#[test]
fn a_spool_whose_disk_fails_is_told_and_has_no_room() {
    let trouble = Some(("cannot write: no space".to_owned(), Duration::from_secs(3)));
    let spools = vec![SpoolLevel { cluster: "core".to_owned(), log: "spool", fill: 1.0, trouble }];
    let health = Health::default();
    health.set_started();
    let view = health.view(Measured { buffers: vec![buffer("core", "all", 0.0)], spools, ..Measured::default() });
    let told = &view.conditions[0];
    assert_eq!((told.name.as_str(), told.reason.as_str()), ("spool of core", "cannot write: no space"));
    check_ready(view, &[]);
}

#[test]
fn not_ready_while_starting_or_shutting_down() {
    check_ready(View::default(), &["starting"]);
    let waiting = View { unavailable: vec![condition("orders.placed", "no topic")], ..View::default() };
    check_ready(waiting, &["starting; waiting for orders.placed"]);
    check_ready(View { draining: true, ..well() }, &["shutting down"]);
    check_ready(View { draining: true, ..View::default() }, &["shutting down", "starting"]);
}

#[test]
fn not_ready_only_when_no_cluster_has_room() {
    let all = "every cluster's buffer is over 90 % full: core 91 %";
    check_ready(View { buffers: vec![buffer("core", "standard", 0.91)], ..well() }, &[all]);
    check_ready(
        View { buffers: vec![buffer("core", "slow", 0.0), buffer("core", "standard", 0.91)], ..well() },
        &[all],
    );
    check_ready(
        View { buffers: vec![buffer("core", "standard", 1.0), buffer("edge", "standard", 0.1)], ..well() },
        &[],
    );
    check_ready(View { buffers: vec![buffer("core", "standard", 0.9)], ..well() }, &[]);
    let both = "every cluster's buffer is over 90 % full: core 100 %, edge 95 %";
    check_ready(View { buffers: vec![buffer("core", "all", 1.0), buffer("edge", "all", 0.95)], ..well() }, &[both]);
}

#[test]
fn what_is_unavailable_is_shown_but_is_no_reason() {
    let view = View {
        unavailable: vec![condition("orders.placed", "cluster `core` has no topic `orders`")],
        conditions: vec![condition("cluster core", "transport: connection refused")],
        silent: vec![Pulse {
            name: "worker-0".into(),
            silence: Duration::from_secs(60),
            silence_max: Duration::from_secs(5),
        }],
        ..well()
    };
    check(
        ready(&view),
        200,
        r#"{"ready":true,"reasons":[],"unavailable":[{"event":"orders.placed","reason":"cluster `core` has no topic `orders`","since_seconds":7}],"conditions":[{"name":"cluster core","reason":"transport: connection refused","since_seconds":7}],"buffers":[]}"#,
    );
}

#[test]
fn started_is_started_warm_or_degraded_and_even_while_draining() {
    check(
        startup(&View {
            unavailable: vec![condition("orders.placed", "it is being warmed")],
            conditions: vec![condition("schemas of orders.paid", "they may be old")],
            ..View::default()
        }),
        503,
        r#"{"started":false,"waiting_for":[{"name":"orders.placed","reason":"it is being warmed","since_seconds":7}]}"#,
    );
    let degraded = View { unavailable: vec![condition("a", "b")], draining: true, ..well() };
    check(startup(&degraded), 200, r#"{"started":true,"waiting_for":[]}"#);
}

#[test]
fn only_a_silent_thread_is_a_reason_to_be_restarted() {
    let dismal = View {
        draining: true,
        conditions: vec![condition("cluster core", "gone")],
        buffers: vec![buffer("core", "standard", 1.0)],
        ..View::default()
    };
    check(live(&dismal), 200, r#"{"live":true,"silent":[]}"#);
    let silent =
        Pulse { name: "worker-0".into(), silence: Duration::from_secs(60), silence_max: Duration::from_secs(5) };
    check(
        live(&View { silent: vec![silent], ..well() }),
        503,
        r#"{"live":false,"silent":[{"thread":"worker-0","silent_seconds":60,"silent_seconds_max":5}]}"#,
    );
}

#[test]
fn a_thread_is_silent_when_it_has_not_come_round_for_longer_than_it_may() {
    let silent = |silence| {
        let pulse = Pulse { name: "poll".into(), silence, silence_max: Duration::from_secs(5) };
        let view = Health::default().view(Measured { pulses: vec![pulse], ..Measured::default() });
        view.silent.into_iter().map(|pulse| pulse.name).collect::<Vec<_>>()
    };
    assert_eq!(silent(Duration::from_secs(5)), Vec::<String>::new());
    assert_eq!(silent(Duration::from_secs(6)), ["poll"]);
}

#[test]
fn trouble_that_stays_keeps_the_time_at_which_it_began() {
    let health = Health::default();
    let (a, b) = (|reason: &str| ("a".to_owned(), reason.to_owned()), ("b".to_owned(), "x".to_owned()));
    health.set_unavailable(vec![a("x"), b.clone()]);
    let since = |health: &Health, name: &str| health.notes().unavailable.get(name).map(|note| note.since);
    let began = since(&health, "a");
    health.set_unavailable(vec![a("y")]);
    assert_eq!(since(&health, "a"), began, "another reason, but unavailable all the time");
    assert_eq!(since(&health, "b"), None);
    assert_eq!(health.view(Measured::default()).unavailable[0].reason, "y");
    health.set_unavailable(vec![b]);
    health.set_unavailable(vec![a("x")]);
    assert!(since(&health, "a") > began, "it was available in between");

    health.set_condition("cluster core", "x");
    health.set_condition("cluster core", "y");
    assert_eq!(health.view(Measured::default()).conditions.len(), 1);
    health.clear_condition("cluster core");
    assert_eq!(health.view(Measured::default()).conditions, []);
}
