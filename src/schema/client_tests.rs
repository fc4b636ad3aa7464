//! The client against the embedded registry, over real HTTP.

use std::time::Duration;

use super::*;
use crate::config::Secret;
use crate::dev::registry::{EmbeddedRegistry, Login, Options};

const MESSAGE: &str = "syntax = \"proto3\"; package a.v1; message A { string id = 1; }";

async fn embedded() -> EmbeddedRegistry {
    EmbeddedRegistry::start(Options::default()).await.expect("a free port")
}

fn settings(urls: &[String]) -> config::Registry {
    config::Registry {
        name: "main".to_owned(),
        urls: urls.to_vec(),
        auth: None,
        ca_file: None,
        timeout: Duration::from_secs(5),
        negative_ttl: Duration::from_secs(60),
    }
}

fn client(urls: &[String]) -> Registry {
    Registry::new(&settings(urls)).expect("good settings")
}

/// The URL of a port where nobody listens.
async fn nowhere() -> String {
    let registry = embedded().await;
    let url = registry.url();
    registry.stop().await;
    url
}

async fn register(registry: &Registry, subject: &str, text: &str, references: &[(&str, &str, u32)]) -> u32 {
    let references = references.iter().map(|(name, subject, version)| Reference {
        name: (*name).to_owned(),
        subject: (*subject).to_owned(),
        version: *version,
    });
    let schema = Schema { kind: Kind::Protobuf, text: text.to_owned(), references: references.collect() };
    registry.register(subject, &schema).await.expect("registered")
}

#[tokio::test]
async fn what_does_not_exist_is_asked_for_once() {
    let server = embedded().await;
    let registry = client(&[server.url()]);
    for _ in 0..50 {
        let error = registry.versions("no.Such").await.expect_err("there is none");
        assert_eq!(error.to_string(), "registry `main` has no subject `no.Such`");
        let error = registry.schema(77).await.expect_err("there is none");
        assert_eq!(error.to_string(), "registry `main` has no schema with id 77");
    }
    assert_eq!(server.requests_for("/subjects/no.Such/versions"), 1);
    assert_eq!(server.requests_for("/schemas/ids/77"), 1);
    assert_eq!(registry.counts().hits.load(Relaxed), 98);
}

#[tokio::test]
async fn what_appears_is_found_once_the_absence_is_forgotten() {
    let server = embedded().await;
    let mut forgetful = settings(&[server.url()]);
    forgetful.negative_ttl = Duration::ZERO;
    let registry = Registry::new(&forgetful).expect("good settings");
    registry.versions("a.v1.A").await.expect_err("not yet");
    register(&registry, "a.v1.A", MESSAGE, &[]).await;
    assert_eq!(registry.versions("a.v1.A").await, Ok(vec![1]));
}

#[tokio::test]
async fn a_hundred_who_ask_at_once_are_one_request() {
    let server = embedded().await;
    let registry = Arc::new(client(&[server.url()]));
    let id = register(&registry, "a.v1.A", MESSAGE, &[]).await;
    // Nobody gets an answer before all have asked.
    server.set_delay(Duration::from_millis(300));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let registry = Arc::clone(&registry);
        asking.spawn(async move { registry.schema(id).await });
    }
    while let Some(answer) = asking.join_next().await {
        assert_eq!(answer.expect("no panic").expect("found").schema.text, MESSAGE);
    }
    assert_eq!(server.requests_for(&format!("/schemas/ids/{id}")), 1);
    assert!(registry.flights.is_empty(), "nothing is left of the question");
}

#[tokio::test]
async fn a_question_whose_askers_are_gone_leaves_nothing() {
    let server = embedded().await;
    let registry = client(&[server.url()]);
    server.set_delay(Duration::from_secs(60));
    tokio::select! {
        biased;
        _ = registry.versions("a") => panic!("it cannot be answered yet"),
        () = async { while registry.flights.is_empty() { tokio::task::yield_now().await } } => {}
    }
    assert!(registry.flights.is_empty());
}

#[tokio::test]
async fn a_dead_url_is_passed_over_and_remembered() {
    let server = embedded().await;
    let dead = nowhere().await;
    let registry = client(&[dead, server.url()]);
    register(&registry, "a.v1.A", MESSAGE, &[]).await;
    assert_eq!(registry.counts().requests.load(Relaxed), 2, "the dead one, then the living one");
    assert_eq!(registry.versions("a.v1.A").await, Ok(vec![1]));
    assert_eq!(registry.counts().requests.load(Relaxed), 3, "the living one at once");
}

#[tokio::test]
async fn a_registry_that_fails_is_tried_at_the_next_url() {
    let (broken, server) = (embedded().await, embedded().await);
    let registry = client(&[broken.url(), server.url()]);
    for status in [408, 429, 500, 503] {
        registry.preferred.store(0, Relaxed);
        broken.set_failing(Some(status));
        let error = registry.versions("no.Such").await.expect_err("there is none");
        assert!(matches!(error, RegistryError::NotFound { .. }), "{status}: {error}");
        registry.missing.insert("/subjects/no.Such/versions".to_owned(), (Instant::now(), error), 0);
    }
    assert_eq!(broken.requests(), 4);
}

#[tokio::test]
async fn tries_are_bounded_and_the_error_says_why() {
    let server = embedded().await;
    let registry = client(&[server.url()]);
    server.set_failing(Some(503));
    let error = registry.versions("a").await.expect_err("it fails");
    assert!(error.is_outage());
    let host = server.addr();
    let expected =
        format!("registry `main` did not answer in 3 tries, asked for subject `a`; last try: {host}: status 503");
    assert_eq!(error.to_string(), expected);
    assert_eq!(server.requests(), 3);

    let error = client(&[nowhere().await]).versions("a").await.expect_err("nobody is there");
    assert!(error.to_string().to_lowercase().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn a_slow_registry_is_given_up() {
    let server = embedded().await;
    let mut impatient = settings(&[server.url()]);
    impatient.timeout = Duration::from_millis(50);
    let registry = Registry::new(&impatient).expect("good settings");
    server.set_delay(Duration::from_secs(60));
    let error = registry.versions("a").await.expect_err("it is too slow");
    assert!(error.to_string().ends_with("no answer within 50 ms"), "{error}");
}

#[tokio::test]
async fn credentials_open_the_registry_and_never_show() {
    let basic = Login::Basic("me".to_owned(), "s3cret".to_owned());
    let bearer = Login::Bearer("s3cret".to_owned());
    let secret = || Secret::new("s3cret".to_owned());
    let login = RegistryAuth::Basic { username: "me".to_owned(), password: secret() };
    let wrong = RegistryAuth::Basic { username: "me".to_owned(), password: Secret::new("wr0ng".to_owned()) };
    for (wanted, given, opens) in [
        (basic.clone(), Some(login.clone()), true),
        (bearer.clone(), Some(RegistryAuth::Bearer(secret())), true),
        (bearer, Some(login), false),
        (basic.clone(), Some(wrong), false),
        (basic, None, false),
    ] {
        let options = Options { login: Some(wanted), ..Options::default() };
        let server = EmbeddedRegistry::start(options).await.expect("a free port");
        let registry = Registry::new(&config::Registry { auth: given, ..settings(&[server.url()]) });
        let registry = registry.expect("good settings");
        match registry.versions("a").await.expect_err("it is empty") {
            RegistryError::NotFound { .. } => assert!(opens),
            error @ RegistryError::Refused { status: 401, .. } => {
                assert!(!opens);
                let shown = format!("{error} {error:?} {registry:?}");
                assert!(!shown.contains("s3cret") && !shown.contains("wr0ng"), "{shown}");
                assert_eq!(server.requests(), 1, "a wrong password does not get better by trying");
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn credentials_in_a_url_do_not_show_either() {
    let server = embedded().await;
    let url = server.url().replace("http://", "http://me:s3cret@");
    let registry = client(&[url]);
    server.set_failing(Some(500));
    let error = registry.versions("a").await.expect_err("it fails");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused_without_showing_them() {
    #[track_caller]
    fn check(change: impl Fn(&mut config::Registry), expected: &str) {
        let mut settings = settings(&["http://localhost:1".to_owned()]);
        change(&mut settings);
        let error = Registry::new(&settings).expect_err(expected).to_string();
        assert!(error.starts_with("registry `main`: ") && error.contains(expected), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let no_pem = folder.path().join("ca.pem");
    std::fs::write(&no_pem, "s3cret").expect("written");
    check(|s| s.urls.clear(), "has no URL");
    check(|s| s.urls = vec!["me:s3cret@nowhere".to_owned()], "URL 1 is neither http nor https");
    check(|s| s.urls = vec!["http://me:s3cret@".to_owned()], "URL 1 is not one");
    check(|s| s.urls.push("http://localhost:1/".to_owned()), "URLs 1 and 2 are the same");
    check(|s| s.ca_file = Some(folder.path().join("gone.pem")), "cannot read ca_file");
    check(|s| s.ca_file = Some(no_pem.clone()), "holds no PEM certificate");
    check(|s| s.auth = Some(RegistryAuth::Bearer(Secret::new("s3cret\n".to_owned()))), "credentials");
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_outage_and_not_an_absence() {
    // A path that no registry has: what a wrong base URL looks like.
    let server = embedded().await;
    let registry = client(&[format!("{}/somewhere/else", server.url())]);
    let error = registry.versions("a").await.expect_err("that is no registry");
    assert!(error.is_outage(), "{error}");

    server.set_failing(Some(302));
    let registry = client(&[server.url()]);
    let error = registry.versions("a").await.expect_err("redirects are not followed");
    assert!(error.to_string().contains("answered with status 302"), "{error}");
    server.set_failing(Some(200));
    let error = registry.versions("a").await.expect_err("that is no list of versions");
    assert!(error.to_string().contains("JSON that does not fit"), "{error}");
}

#[tokio::test]
async fn a_subject_may_have_any_name() {
    let server = embedded().await;
    let registry = client(&[server.url()]);
    for subject in [":.staging:a.v1.A", "a b/c?d#e%2F", "日本", "..a"] {
        register(&registry, subject, MESSAGE, &[]).await;
        assert_eq!(registry.versions(subject).await, Ok(vec![1]), "{subject}");
        assert_eq!(registry.latest(subject).await.expect(subject).subject, subject);
    }
}

#[tokio::test]
async fn what_cannot_change_is_asked_for_once() {
    let server = embedded().await;
    let registry = client(&[server.url()]);
    let id = register(&registry, "a.v1.A", MESSAGE, &[]).await;
    let latest = registry.latest("a.v1.A").await.expect("there");
    assert_eq!((latest.version, latest.registered.id), (1, id));
    assert!(latest.registered.guid.is_some());
    let before = server.requests();
    for _ in 0..10 {
        assert_eq!(registry.version("a.v1.A", 1).await.as_ref(), Ok(&latest));
    }
    assert_eq!(server.requests(), before);
    assert_eq!(registry.schema(id).await.expect("there").guid, latest.registered.guid);
}

#[tokio::test]
async fn references_are_followed_to_their_end() {
    let server = embedded().await;
    let registry = client(&[server.url()]);
    let base = "syntax = \"proto3\"; package c; message Base {}";
    let left = "syntax = \"proto3\"; package c; import \"base.proto\"; message Left { Base b = 1; }";
    let right = "syntax = \"proto3\"; package c; import \"base.proto\"; message Right { Base b = 1; }";
    let root = "syntax = \"proto3\"; import \"left.proto\"; import \"right.proto\"; message Root { c.Left l = 1; c.Right r = 2; }";
    register(&registry, "base", base, &[]).await;
    register(&registry, "left", left, &[("base.proto", "base", 1)]).await;
    register(&registry, "right", right, &[("base.proto", "base", 1)]).await;
    register(&registry, "Root", root, &[("left.proto", "left", 1), ("right.proto", "right", 1)]).await;
    let found = registry.latest("Root").await.expect("there");
    let family = registry.family("root", &found.registered.schema).await.expect("complete");
    let names: Vec<_> = family.imports.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["base.proto", "left.proto", "right.proto"]);
    crate::schema::compile::compile("root.proto", &family).expect("it compiles");
}

#[tokio::test]
async fn references_that_lead_nowhere_or_round_name_the_import() {
    let server = embedded().await;
    let registry = client(&[server.url()]);
    let with = |name: &str, subject: &str| Schema {
        references: vec![Reference { name: name.to_owned(), subject: subject.to_owned(), version: 1 }],
        ..Schema::new(Kind::Protobuf, MESSAGE)
    };
    let error = registry.family("subject `a` version 2", &with("gone.proto", "gone")).await.expect_err("it is gone");
    assert_eq!(
        error.to_string(),
        "subject `a` version 2 imports `gone.proto` from subject `gone`, which registry `main` does not have"
    );
    assert!(!error.is_outage());

    // No registry takes a cycle, so these come from one that is wrong: they are put where its answers are kept.
    for (subject, name, next) in [("x", "y.proto", "y"), ("y", "x.proto", "x")] {
        let registered = Registered { id: 1, guid: None, schema: with(name, next) };
        registry.keep(format!("/subjects/{subject}/versions/1"), registered);
    }
    let error = registry.family("subject `a` version 2", &with("x.proto", "x")).await.expect_err("a cycle");
    assert!(error.to_string().contains("import cycle: x.proto -> y.proto -> x.proto"), "{error}");

    for n in 0..100 {
        let schema = with(&format!("{}.proto", n + 1), &format!("deep{}", n + 1));
        registry.keep(format!("/subjects/deep{n}/versions/1"), Registered { id: n, guid: None, schema });
    }
    let error = registry.family("it", &with("0.proto", "deep0")).await.expect_err("too deep");
    assert!(error.to_string().contains("deeper than 32"), "{error}");
}

#[tokio::test]
async fn a_schema_that_the_registry_does_not_take_says_why() {
    let server = embedded().await;
    let registry = client(&[server.url()]);
    let error = registry.register("a", &Schema::new(Kind::Protobuf, "message {")).await.expect_err("no Protobuf");
    assert!(
        matches!(&error, RegistryError::Rejected { code: 42_201, message, .. } if message.contains("schema.proto:1"))
    );
    assert!(!error.is_outage());
}

#[tokio::test]
async fn only_the_authorities_of_the_file_are_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, other) = (certificate(folder.path(), "ours"), certificate(folder.path(), "other"));
    let server = embedded().await;
    let url = encrypted(&server, &ours).await;
    for (authorities, trusted) in [(Some(ours.0), true), (Some(other.0), false), (None, false)] {
        let registry = Registry::new(&config::Registry { ca_file: authorities, ..settings(&[url.clone()]) });
        let registry = registry.expect("good settings");
        match registry.versions("a").await.expect_err("it is empty") {
            RegistryError::NotFound { .. } => assert!(trusted),
            error @ RegistryError::Unreachable { .. } => {
                assert!(!trusted && error.to_string().contains("certificate"), "{error}");
            }
            error => panic!("{error}"),
        }
    }
}

/// A certificate for 127.0.0.1 that is its own authority, and its key, made by the `openssl` command.
fn certificate(folder: &std::path::Path, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
    let files = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    let curve = "ec_paramgen_curve:prime256v1";
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-days", "2", "-subj", "/CN=registry"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&files.1)
        .arg("-out")
        .arg(&files.0)
        .output()
        .expect("the openssl command is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    files
}

/// TLS in front of a registry, for as long as the test runs.
async fn encrypted(server: &EmbeddedRegistry, files: &(std::path::PathBuf, std::path::PathBuf)) -> String {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_file(&files.0).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(&files.1).expect("a key");
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (url, behind) = (format!("https://{}", listener.local_addr().expect("bound")), server.addr());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate ends the connection here.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut registry = tokio::net::TcpStream::connect(behind).await.expect("it listens");
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut registry).await;
            });
        }
    });
    url
}
