//! Sinks: a folder of the test's, and a server of its own that speaks the documented calls of Vault's key-value store.

use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::config::VaultSettings;

fn delivery<'d>(user: &'d str, generation: u32, password: &'d Secret) -> Delivery<'d> {
    Delivery { service: "orders", cluster: "core", user, generation, mechanism: "SCRAM-SHA-512", password }
}

#[tokio::test]
async fn a_file_is_its_owners_alone_and_is_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::new(folder.path().join("sink"));
    for (generation, password) in [(1, "one"), (2, "two")] {
        sink.put(delivery("app", generation, &Secret::new(password.to_owned()))).await.unwrap();
    }
    let file = folder.path().join("sink/orders/core.app.json");
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let expected = json!({ "username": "app", "password": "two", "mechanism": "SCRAM-SHA-512", "generation": 2 });
    assert_eq!(kept, expected);
    let mode = |path: &std::path::Path| std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing else is left there");
    let out = sink.put(delivery("../../app", 1, &Secret::new("x".to_owned()))).await.unwrap_err();
    assert!(!out.may_pass && !folder.path().join("core.app.json").exists(), "{out}");
}

/// What was asked of the server: method, path, body.
type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

struct Server {
    url: String,
    asked: Asked,
    /// What it answers to what it would otherwise take.
    refuses: Arc<Mutex<Option<u16>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, refuses) = (Asked::default(), Arc::<Mutex<Option<u16>>>::default());
        let (noted, refused) = (Arc::clone(&asked), Arc::clone(&refuses));
        let task = tokio::spawn(async move {
            let mut versions: Vec<Value> = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (method, path, token, body) = read(&mut stream).await;
                noted.lock().unwrap().push((method.clone(), path.clone(), body.clone()));
                let refusal = *refused.lock().unwrap();
                let (status, reply) = match (token.as_str(), refusal, method.as_str()) {
                    (_, Some(status), _) => (status, json!({ "errors": ["not now"] })),
                    ("t0ken", _, _) if !path.starts_with("/v1/secret/data/") => (404, json!({ "errors": [] })),
                    ("t0ken", _, "POST") => {
                        versions.push(body["data"].clone());
                        (200, json!({ "data": { "version": versions.len() } }))
                    }
                    ("t0ken", _, "GET") => match versions.last() {
                        Some(data) => {
                            (200, json!({ "data": { "data": data, "metadata": { "version": versions.len() } } }))
                        }
                        None => (404, json!({ "errors": [] })),
                    },
                    _ => (403, json!({ "errors": ["permission denied"] })),
                };
                let text = reply.to_string();
                let head =
                    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
                let _ = stream.write_all((head + &text).as_bytes()).await;
            }
        });
        Server { url, asked, refuses, task }
    }

    fn sink(&self, token: &str) -> VaultSink {
        VaultSink::new(VaultSettings {
            url: self.url.clone(),
            mount: "secret".to_owned(),
            prefix: "iguazu".to_owned(),
            token: Secret::new(token.to_owned()),
            namespace: None,
            ca_file: None,
        })
        .unwrap()
    }

    fn asked(&self) -> Vec<(String, String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

/// Method, path, token and body of one request.
async fn read(stream: &mut TcpStream) -> (String, String, String, Value) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let header = |name: &str| {
                let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
                Some(line.split_once(':')?.1.trim().to_owned())
            };
            let length: usize = header("content-length:").map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                let mut words = head.split(' ').map(str::to_owned);
                let (method, path) = (words.next().unwrap(), words.next().unwrap());
                let token = header("x-vault-token:").unwrap_or_default();
                return (method, path, token, serde_json::from_str(body).unwrap_or_default());
            }
        }
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).await.unwrap();
        assert!(length > 0, "closed in the middle of {text:?}");
        bytes.extend_from_slice(&chunk[..length]);
    }
}

#[tokio::test]
async fn a_vault_gets_each_password_once_at_the_services_own_path() {
    let server = Server::start().await;
    let sink = server.sink("t0ken");
    let password = Secret::new("pass-one".to_owned());
    sink.put(delivery("app", 1, &password)).await.unwrap();
    // A node that died after it had put it there is followed by one that tries again.
    sink.put(delivery("app", 1, &password)).await.unwrap();
    sink.put(delivery("app", 2, &Secret::new("pass-two".to_owned()))).await.unwrap();
    let asked = server.asked();
    assert!(asked.iter().all(|(_, path, _)| path == "/v1/secret/data/iguazu/orders/core/app"), "{asked:?}");
    let written: Vec<_> = asked.iter().filter(|(method, ..)| method == "POST").map(|(.., body)| body.clone()).collect();
    let expected = |password: &str, generation: u32| json!({ "data": { "username": "app", "password": password, "mechanism": "SCRAM-SHA-512", "generation": generation } });
    assert_eq!(written, [expected("pass-one", 1), expected("pass-two", 2)]);
}

#[tokio::test]
async fn what_a_vault_refuses_is_tried_again_only_if_that_may_help_and_no_password_is_told() {
    let server = Server::start().await;
    let password = Secret::new("geheim".to_owned());
    let check = async |sink: &VaultSink, may_pass: bool| {
        let error = sink.put(delivery("app", 1, &password)).await.unwrap_err();
        assert_eq!(error.may_pass, may_pass, "{error}");
        assert!(!format!("{error:?}").contains("geheim") && !error.to_string().contains("t0ken"), "{error:?}");
    };
    check(&server.sink("wrong"), false).await;
    for (status, may_pass) in [(503, true), (429, true), (400, false), (302, false)] {
        *server.refuses.lock().unwrap() = Some(status);
        check(&server.sink("t0ken"), may_pass).await;
    }
    let sink = server.sink("t0ken");
    drop(server);
    check(&sink, true).await;
}
