//! The commands of the binary, run as people run them: arguments in, exit code and what was printed out.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use super::process::{Process, Signal, command};
use super::{folder, http, unique, wait_for};

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

impl Ended {
    /// What it printed; panics unless it exited with 0 and said nothing beside.
    pub fn printed(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }
}

/// Runs `iguazu` in a folder, to its end.
pub fn iguazu(place: &Path, arguments: &[&str]) -> Ended {
    let mut command = command(env!("CARGO_BIN_EXE_iguazu"));
    command.args(arguments);
    Running::start("iguazu", place, command).end()
}

/// Runs a command line that was printed, in a shell, to its end.
pub fn shell(place: &Path, line: &str) -> Ended {
    let mut command = command("sh");
    command.args(["-c", line]);
    Running::start("sh", place, command).end()
}

/// A command that prints into files.
struct Running {
    process: Process,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    fn start(name: &str, place: &Path, mut command: Command) -> Running {
        let output = |kind| place.join(unique(&format!("{name}.{kind}")));
        let (stdout, stderr) = (output("stdout"), output("stderr"));
        let create = |path: &PathBuf| File::create(path).expect("the folder is ours");
        command.current_dir(place).env("TMPDIR", place).stdout(create(&stdout)).stderr(create(&stderr));
        Running { process: Process::spawn(name, command), stdout, stderr }
    }

    fn end(&mut self) -> Ended {
        let code = self.process.wait().code();
        let read = |path: &PathBuf| std::fs::read_to_string(path).expect("it printed UTF-8");
        Ended { code, stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }
}

/// A running `iguazu dev` in a folder of its own, on free ports. End it with [`Dev::finish`].
pub struct Dev {
    running: Running,
    place: PathBuf,
    ready: PathBuf,
    addresses: Addresses,
}

/// What it writes into its `--ready-file`.
#[derive(Debug, Deserialize)]
struct Addresses {
    http: String,
    config: Option<String>,
}

impl Dev {
    /// Starts it with further arguments, and waits until it is ready.
    pub fn start(arguments: &[&str]) -> Dev {
        Dev::start_in(folder("dev"), arguments)
    }

    /// [`Dev::start`] in a folder that holds something already.
    pub fn start_in(place: PathBuf, arguments: &[&str]) -> Dev {
        let ready = place.join(unique("ready.json"));
        let mut command = command(env!("CARGO_BIN_EXE_iguazu"));
        command.args(["dev", "--port", "0", "--ready-file"]).arg(&ready).args(arguments);
        let mut running = Running::start("dev", &place, command);
        let addresses = wait_for("dev is ready", || {
            if let Some(status) = running.process.exit_status() {
                panic!("dev ended: {status}: {:?}", running.end());
            }
            let text = std::fs::read_to_string(&ready).map_err(|e| e.to_string())?;
            serde_json::from_str(&text).map_err(|e| e.to_string())
        });
        Dev { running, place, ready, addresses }
    }

    /// Base URL of its doors.
    pub fn url(&self) -> &str {
        &self.addresses.http
    }

    /// The file in its folder that other commands find it by.
    pub fn config(&self) -> &str {
        self.addresses.config.as_deref().expect("its folder can be written")
    }

    /// The folder it runs in.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.running.stdout).unwrap_or_default()
    }

    /// A request to its port: the status, and the reply as JSON.
    pub async fn ask(&self, method: &str, path: &str, body: String) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let request = http::client().request(method, format!("{}{path}", self.url()));
        let request = request.header("content-type", "application/json").body(body);
        let reply = http::send(request).await.unwrap_or_else(|e| panic!("{path}: {e}"));
        (reply.status, reply.json())
    }

    /// Ends it as ^C does: it exits with 0, since every event is accounted for, and said nothing on stderr. What it printed.
    pub fn finish(mut self) -> String {
        self.running.process.signal(Signal::INT);
        let ended = self.running.end();
        for file in [&self.ready, &self.place.join(self.config())] {
            assert!(!file.exists(), "{} points to where nobody listens", file.display());
        }
        ended.printed()
    }
}

/// Holds a port of loopback, so that nobody else can listen on it.
pub fn taken_port() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    (listener, address)
}
