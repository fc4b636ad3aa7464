//! The management plane under test: the real binary with a written configuration, its API, its log, its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{self, Reply};
use super::kafka::{ADMIN, Cluster};
use super::process::{Process, Signal, command};
use super::proxy::{LogLine, read_log};
use super::{folder, wait_for, wait_until};

/// A running `iguazu control`. End it with [`Control::finish`].
#[derive(Debug)]
pub struct Control {
    process: Process,
    addresses: Addresses,
    client: reqwest::Client,
    log: Arc<Mutex<Vec<LogLine>>>,
    log_reader: Option<JoinHandle<()>>,
    expected: Vec<String>,
    folder: PathBuf,
    finished: bool,
}

/// What it writes into its `--ready-file` once it listens.
#[derive(Clone, Debug, Deserialize)]
struct Addresses {
    control: SocketAddr,
    bootstrap_file: Option<PathBuf>,
}

/// A configuration over a cluster's listener with users and access rules; `more` are further lines of `[control]`.
pub fn config(cluster: &Cluster, more: &str) -> String {
    let brokers: Vec<_> = cluster.sasl_brokers().split(',').map(str::to_owned).collect();
    let user = ADMIN.0;
    format!(
        "[clusters.core]\nbrokers = {brokers:?}\n\
         sasl = {{ mechanism = \"PLAIN\", username = \"{user}\", password_file = \"admin-password\" }}\n\n\
         [control]\nlisten = \"127.0.0.1:0\"\nstate_dir = \"state\"\nrequests_per_second = 1000\n{more}\n\n\
         [control.clusters.core]\nmode = \"shared\"\noperators = [\"platform\"]\nenvironment = \"test\"\nshares_disks = true\n\
         disk_bytes = 10_000_000_000_000\n\n"
    )
}

/// Writes a file that nobody else may read.
pub fn write_private(file: &Path, text: &str) {
    std::fs::write(file, text).expect("the folder is ours");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(file, private).expect("the file is ours");
}

impl Control {
    /// Starts it and waits until it listens.
    pub fn start(config: &str) -> Control {
        Control::start_in(folder("control"), config)
    }

    /// Starts it in a folder that another one ran in.
    pub fn start_in(folder: PathBuf, config: &str) -> Control {
        let (file, ready) = (folder.join("control.toml"), folder.join("control-ready.json"));
        write_private(&folder.join("admin-password"), ADMIN.1);
        std::fs::write(&file, config).expect("the folder is ours");
        let _ = std::fs::remove_file(&ready);
        let mut command = command(env!("CARGO_BIN_EXE_iguazu"));
        command.current_dir(&folder).arg("control").arg(&file).arg("--ready-file").arg(&ready);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::spawn("iguazu control", command);
        let log = Arc::new(Mutex::new(Vec::new()));
        let log_reader = read_log(&mut process, folder.join("control-log"), Arc::clone(&log));
        let addresses = wait_for("the management plane listens", || {
            if let Some(status) = process.exit_status() {
                let text = std::fs::read_to_string(folder.join("control-log")).unwrap_or_default();
                panic!("it ended ({status}) before it listened:\n{text}");
            }
            let text = std::fs::read_to_string(&ready).map_err(|e| format!("{}: {e}", ready.display()))?;
            serde_json::from_str(&text).map_err(|e| e.to_string())
        });
        let client = http::client();
        // The clusters of the tests have users, and no TLS.
        let (expected, finished) =
            (vec!["cross the network in clear".to_owned(), "a cluster is not as desired".to_owned()], false);
        Control { process, addresses, client, log, log_reader: Some(log_reader), expected, folder, finished }
    }

    /// Base URL of the API.
    pub fn url(&self) -> String {
        format!("http://{}", self.addresses.control)
    }

    /// The folder it runs in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The file of the token that the first admin comes in with; its configuration says none.
    pub fn bootstrap_file(&self) -> &Path {
        self.addresses.bootstrap_file.as_deref().expect("its configuration does not say the token")
    }

    /// A request of whoever has this token.
    pub fn request(&self, token: &str, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method.parse().expect("a method"), format!("{}{path}", self.url()));
        if token.is_empty() { request } else { request.bearer_auth(token) }
    }

    /// Asks, with a body when it is not null.
    pub async fn ask(&self, token: &str, method: &str, path: &str, body: &Value) -> Reply {
        let mut request = self.request(token, method, path);
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        http::send(request).await.unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// Gets a path; panics unless it is answered 200.
    pub async fn get(&self, token: &str, path: &str) -> Value {
        let reply = self.ask(token, "GET", path, &Value::Null).await;
        assert_eq!(reply.status, 200, "GET {path}: {}", reply.text());
        reply.json()
    }

    /// The first admin's token, made with the bootstrap token.
    pub async fn admin(&self) -> String {
        let text = std::fs::read_to_string(self.bootstrap_file()).expect("the bootstrap token was not used yet");
        let reply = self.ask(text.trim(), "POST", "/v1/tokens", &json!({ "name": "root" })).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let token = reply.json()["token"].as_str().expect("a token").to_owned();
        // How full the disk of whoever runs the tests is must not decide on what they ask for.
        let mut rules = self.get(&token, "/v1/policy").await;
        rules["rule"].as_array_mut().expect("rules").retain(|rule| rule["id"] != "disk-filling");
        let put = self.ask(&token, "PUT", "/v1/policy", &rules).await;
        assert_eq!(put.status, 200, "{}", put.text());
        token
    }

    /// A token of somebody in these groups, with these roles.
    pub async fn token(&self, admin: &str, name: &str, groups: &[&str], roles: &[&str]) -> String {
        let body = json!({ "name": name, "groups": groups, "roles": roles });
        let reply = self.ask(admin, "POST", "/v1/tokens", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Asks for changes and waits until they are made; the request then.
    pub async fn done(&self, token: &str, changes: Value) -> Value {
        let reply = self.ask(token, "POST", "/v1/requests", &json!({ "changes": changes })).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
        self.ready(token, reply.json()["id"].as_str().expect("an id")).await
    }

    /// Waits until a request is through.
    pub async fn ready(&self, token: &str, id: &str) -> Value {
        let path = format!("/v1/requests/{id}");
        wait_until(&path, async || {
            let request = self.get(token, &path).await;
            match request["state"].as_str() {
                Some("ready") => Ok(request),
                Some("approved" | "applying") => Err(request.to_string()),
                _ => panic!("{request:#}"),
            }
        })
        .await
    }

    /// Declares that log lines of level `warn` or `error` with this text are part of the test.
    pub fn expect_log(&mut self, text: &str) {
        self.expected.push(text.to_owned());
    }

    /// The log so far.
    pub fn log(&self) -> Vec<LogLine> {
        self.log.lock().expect("no code panics while it holds this lock").clone()
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.process.kill();
        self.finished = true;
        self.check_log();
    }

    /// Ends it with `SIGTERM`: it exits with 0, and has logged no warning or error that was not expected.
    pub fn finish(mut self) {
        self.finished = true;
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        self.check_log();
        assert!(status.success(), "it ended with {status}; its log is {}", self.folder.join("control-log").display());
        assert!(!self.folder.join("control-ready.json").exists(), "its ready file points to where nobody listens");
    }

    fn check_log(&mut self) {
        self.log_reader.take().expect("the log is checked once").join().expect("the log reader does not panic");
        let unexpected: Vec<_> = self
            .log()
            .into_iter()
            .filter(LogLine::is_trouble)
            .map(|line| serde_json::to_string(&line.fields).expect("it was JSON"))
            .filter(|text| !self.expected.iter().any(|expected| text.contains(expected.as_str())))
            .collect();
        assert!(unexpected.is_empty(), "it logged what the test does not expect:\n{}", unexpected.join("\n"));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("its log is {}", self.folder.join("control-log").display());
        } else {
            assert!(self.finished, "a test ends the management plane with `finish` or `kill`");
        }
    }
}
