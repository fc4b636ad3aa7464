//! Who is let in where: every route of the table, every kind of caller.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::Value;
use tempfile::TempDir;
use tower_service::Service as _;

use super::guard::Grant;
use super::routes::{Right, Route, Scope, table};
use super::*;
use crate::auth::keys;
use crate::control::actor::{Actor, Role};
use crate::control::provider::{EventChecks, Providers};
use crate::control::reconcile;
use crate::control::seal::{KEY_BYTES, Sealer};
use crate::control::snapshot::Keys;
use crate::control::store::Token;
use crate::serve::Peer;

mod flows;
mod matrix;
mod services;

struct Plane {
    api: Api,
    router: Router,
    _folder: TempDir,
}

impl Plane {
    async fn open() -> Plane {
        Plane::with(1_000_000).await
    }

    async fn with(requests_per_second: u64) -> Plane {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", folder.path().join("control.db").display())).await.unwrap();
        let policy = Arc::new(ArcSwap::from_pointee(Table::default()));
        let view = ClusterView { disk_bytes_max: Some(1_000_000_000_000), ..ClusterView::default() };
        let clusters = Arc::new(ArcSwap::from_pointee(BTreeMap::from([("core".to_owned(), view)])));
        let desk = Desk::new(store.clone(), Providers::default(), Arc::clone(&policy), Arc::clone(&clusters));
        let reach = Reach {
            clusters: BTreeMap::new(),
            settings: BTreeMap::new(),
            store: store.clone(),
            sealer: Arc::new(Sealer::new(&[1; KEY_BYTES])),
        };
        let keys = Keys::open(&folder.path().join("snapshot.pem")).unwrap();
        let checks = Arc::new(EventChecks::new(&[], &[]).unwrap());
        let reconciler = Reconciler::new(
            store.clone(),
            desk.clone(),
            Providers::default(),
            reach.clone(),
            Arc::clone(&clusters),
            "a test",
            reconcile::Settings::default(),
        );
        let api = Api::new(Parts {
            snapshots: Arc::new(Snapshots::new(store.clone(), keys, checks)),
            store,
            desk,
            policy,
            clusters,
            reach,
            wake: Arc::default(),
            stop: CancellationToken::new(),
            reconciler,
            bootstrap_file: None,
            issuer: None,
            roles: config::Roles { auditor: vec!["audit".into()], ..config::Roles::default() },
            certificates: vec![config::Certificate { name: "spiffe://a/ci".into(), groups: vec!["audit".into()] }],
            requests_per_second,
            expiries: Box::new(Vec::new),
        });
        let router = router(&api, table());
        Plane { api, router, _folder: folder }
    }

    /// A token of somebody with these roles and scopes.
    async fn token(&self, name: &str, roles: &[Role], scopes: BTreeSet<Scope>) -> String {
        let (token, hash) = keys::fresh().unwrap();
        let actor = Actor { name: name.to_owned(), groups: BTreeSet::new(), roles: roles.iter().copied().collect() };
        let document = Grant { actor, scopes, made_by: "a test".to_owned() };
        let mut tx = self.api.store.begin().await.unwrap();
        let hash = hex::encode(hash);
        tx.put_token(&Token { hash, name: name.to_owned(), document, expires_ms: None }).await.unwrap();
        tx.commit().await.unwrap();
        token
    }

    async fn ask(&self, token: &str, method: &str, path: &str) -> (u16, Value) {
        self.ask_as(token, &[], method, path).await
    }

    /// A request with a body; the whole reply.
    async fn send(&self, token: &str, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Reply {
        let mut request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = request.header("content-type", "application/json").body(body).unwrap();
        let response = self.router.clone().call(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = String::from_utf8(to_bytes(response.into_body(), 1 << 24).await.unwrap().to_vec()).unwrap();
        Reply { status, headers, text }
    }

    async fn ask_as(&self, token: &str, names: &[&str], method: &str, path: &str) -> (u16, Value) {
        let address: SocketAddr = "192.0.2.7:1".parse().unwrap();
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let mut request = Request::builder().method(method).uri(path).extension(Peer { address, tls: true, names });
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = self.router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

struct Reply {
    status: u16,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Reply {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {} {}", self.status, self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Whether the guard let somebody in: what came of it there is not asked.
fn is_let_in(status: u16, body: &Value) -> bool {
    status != 401 && !(status == 403 && body["detail"].as_str().is_some_and(|detail| detail.starts_with("it needs")))
}

#[tokio::test]
async fn every_route_lets_in_who_is_written_down_and_nobody_else() {
    let plane = Plane::open().await;
    let people: BTreeSet<_> = [Scope::Read, Scope::Write, Scope::Approve, Scope::Secrets].into();
    let everything: BTreeSet<_> = Scope::ALL.into_iter().collect();
    let callers = [
        ("nobody", String::new()),
        ("reader", plane.token("reader", &[], [Scope::Read].into()).await),
        ("member", plane.token("member", &[], people.clone()).await),
        ("expert", plane.token("expert", &[Role::Expert], people.clone()).await),
        ("auditor", plane.token("auditor", &[Role::Auditor], people).await),
        ("proxy", plane.token("proxy", &[Role::Proxy], [Scope::Snapshot].into()).await),
        ("first", plane.token("first", &[], [Scope::Tokens].into()).await),
        ("narrow", plane.token("narrow", &[Role::Admin], [Scope::Read].into()).await),
        ("admin", plane.token("admin", &[Role::Admin], everything).await),
    ];
    let mut matrix = String::new();
    for Route { method, path, .. } in table() {
        let mut let_in = Vec::new();
        for (name, token) in &callers {
            let asked = path.replace("{cluster}", "core").replace("{name}", "x").replace("{id}", "x");
            let (status, body) = plane.ask(token, method.as_str(), &asked).await;
            assert!(status != 405 && status != 500, "{method} {path}: {status} {body}");
            if is_let_in(status, &body) {
                let_in.push(*name);
            }
        }
        writeln!(matrix, "{method} {path}: {}", let_in.join(" ")).unwrap();
    }
    let golden = include_str!("routes.txt");
    let taken_over = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/docs/routes.txt");
    if matrix != golden {
        std::fs::create_dir_all(taken_over.parent().unwrap()).unwrap();
        std::fs::write(&taken_over, &matrix).unwrap();
    }
    assert_eq!(matrix, golden, "if this is as intended: cp target/docs/routes.txt src/control/api/routes.txt");
    // What is in the file is not whatever happened to come out.
    for line in golden.lines() {
        let (route, let_in) = line.split_once(": ").unwrap();
        let is_public = ["GET /health", "GET /ready", "GET /metrics", "GET /v1/openapi.json"].contains(&route);
        assert_eq!(let_in.split(' ').any(|name| name == "nobody"), is_public, "{line}");
        if route.starts_with("PUT") || route.starts_with("DELETE") {
            assert!(!let_in.split(' ').any(|name| ["reader", "proxy", "narrow"].contains(&name)), "{line}");
        }
    }
}

#[tokio::test]
async fn whoever_is_refused_is_in_the_audit_log_and_strangers_do_not_fill_it() {
    let plane = Plane::open().await;
    let reader = plane.token("reader", &[], [Scope::Read].into()).await;
    assert_eq!(plane.ask(&reader, "DELETE", "/v1/services/orders").await.0, 403);
    let lines = plane.api.store.audit_lines(0, 100).await.unwrap();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&*line.actor, &*line.verb, &*line.object), ("reader", "delete", "/v1/services/orders"));
    assert_eq!((&*line.outcome, &*line.source), ("forbidden", "192.0.2.7"));
    for _ in 0..50 {
        assert_eq!(plane.ask("igz_invented", "GET", "/v1/services").await.0, 401);
    }
    let lines = plane.api.store.audit_lines(1, 100).await.unwrap();
    assert!((1..=20).contains(&lines.len()), "{} lines", lines.len());
    assert!(lines.iter().all(|line| line.outcome == "unauthenticated" && line.actor.is_empty()), "{lines:?}");
    let text = serde_json::to_string(&lines).unwrap();
    assert!(!text.contains("igz_"), "{text}");
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_back_and_others_are_not_held_up() {
    let plane = Plane::with(5).await;
    let (one, other) =
        (plane.token("one", &[], [Scope::Read].into()).await, plane.token("other", &[], [Scope::Read].into()).await);
    let mut refused = None;
    for _ in 0..50 {
        let (status, body) = plane.ask(&one, "GET", "/v1/me").await;
        if status == 429 {
            refused = Some(body);
            break;
        }
    }
    let refused = refused.expect("fifty at once are more than five a second");
    assert!(refused["retry_after_seconds"].as_u64().is_some_and(|seconds| seconds > 0), "{refused}");
    assert_eq!(plane.ask(&other, "GET", "/v1/me").await.0, 200);
}

#[tokio::test]
async fn a_certificate_says_who_somebody_is_and_a_token_comes_first() {
    let plane = Plane::open().await;
    let (status, me) = plane.ask_as("", &["dns.example", "spiffe://a/ci"], "GET", "/v1/me").await;
    assert_eq!((status, &me["name"], &me["roles"]), (200, &"spiffe://a/ci".into(), &serde_json::json!(["auditor"])));
    assert_eq!(plane.ask_as("", &["spiffe://a/other"], "GET", "/v1/me").await.0, 401);
    let token = plane.token("ann", &[], [Scope::Read].into()).await;
    assert_eq!(plane.ask_as(&token, &["spiffe://a/ci"], "GET", "/v1/me").await.1["name"], "ann");
    assert_eq!(plane.ask_as("igz_wrong", &["spiffe://a/ci"], "GET", "/v1/me").await.0, 401);
}

#[test]
fn a_right_with_a_role_asks_for_the_scope_too() {
    let caller = |roles: &[Role], scopes: &[Scope]| guard::Caller {
        actor: Actor { name: "a".into(), groups: BTreeSet::new(), roles: roles.iter().copied().collect() },
        scopes: scopes.iter().copied().collect(),
        via: String::new(),
        source: String::new(),
    };
    assert!(Right::ADMIN.check(&caller(&[Role::Admin], &[Scope::Read])).is_err());
    assert!(Right::ADMIN.check(&caller(&[Role::Auditor], &[Scope::Admin])).is_err());
    assert!(Right::ADMIN.check(&caller(&[Role::Admin], &[Scope::Admin])).is_ok());
    assert!(Right::SNAPSHOT.check(&caller(&[Role::Proxy], &[Scope::Snapshot])).is_ok());
    assert!(Right::SNAPSHOT.check(&caller(&[Role::Auditor], &[Scope::Snapshot])).is_err());
}
