//! A real Postgres on loopback, in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::ports;
use super::process::Process;
use super::wait_for;

/// A server that is gone with this.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    folder: TempDir,
    port: u16,
}

impl Postgres {
    /// Makes a database cluster and starts it.
    pub fn start() -> Postgres {
        Postgres::start_with(|_| {})
    }

    /// One that nobody gets into without TLS; it shows the certificate `server.pem` of this folder.
    pub fn start_encrypted(certificates: &Path) -> Postgres {
        Postgres::start_with(|data| {
            for (name, from) in [("server.crt", "server.pem"), ("server.key", "server.key")] {
                let text = std::fs::read_to_string(certificates.join(from)).expect("it was made");
                write_for_server(&data.join(name), &text);
            }
            write_for_server(&data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n");
            write_for_server(&data.join("postgresql.auto.conf"), "ssl = on\n");
        })
    }

    fn start_with(prepare: impl FnOnce(&Path)) -> Postgres {
        // Not in the target folder: Postgres refuses to run as root, and another user may not reach what is below root's home.
        let folder = tempfile::Builder::new().prefix("iguazu-postgres-").tempdir().expect("a folder can be made");
        let data = folder.path().join("data");
        if is_root() {
            let done = Command::new("chown").arg("postgres:postgres").arg(folder.path()).status();
            assert!(done.is_ok_and(|status| status.success()), "the folder can be given to the user postgres");
        }
        let mut init = as_nobody_special("initdb");
        init.arg("--pgdata").arg(&data).args([
            "--username",
            "iguazu",
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--no-sync",
        ]);
        let made = init.stdout(Stdio::null()).output().expect("initdb can be run");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        prepare(&data);
        let port = ports::free(1)[0];
        let process = serve(&folder, port);
        Postgres { process, folder, port }
    }

    /// The address of a new, empty database.
    pub fn database(&self, name: &str) -> String {
        let mut create = as_nobody_special("createdb");
        create.args(["--host", "127.0.0.1", "--username", "iguazu", "--port", &self.port.to_string(), name]);
        wait_for("a new database", || {
            let made = create.output().expect("createdb can be run");
            if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).into_owned()) }
        });
        format!("postgres://iguazu@127.0.0.1:{}/{name}", self.port)
    }

    /// Kills it and starts it again with what it had.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = serve(&self.folder, self.port);
    }
}

/// One server for all tests that do not break it.
pub fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(Postgres::start)
}

fn serve(folder: &TempDir, port: u16) -> Process {
    let data = folder.path().join("data");
    let log = std::fs::File::create(folder.path().join("log")).expect("the log can be written");
    let mut command = as_nobody_special("postgres");
    command.arg("-D").arg(data).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""]);
    // What a crash would lose is not asked about here, and a disk that is shared is slow to sync.
    command.args(["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Process::spawn("postgres", command)
}

/// Writes a file of the server's folder, which the server alone may read: it refuses a key that others may.
fn write_for_server(file: &Path, text: &str) {
    std::fs::write(file, text).expect("the folder is ours");
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("the file is ours");
    if is_root() {
        let done = Command::new("chown").arg("postgres:postgres").arg(file).status();
        assert!(done.is_ok_and(|status| status.success()), "a file can be given to the user postgres");
    }
}

/// A program of Postgres, as a user that it agrees to, and gone when we are.
fn as_nobody_special(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    // Its clients look for certificates at home, and another user may not look at ours.
    command.arg("--").arg(binary(program)).current_dir("/").env("HOME", "/");
    command
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Debian keeps the server's programs beside the path, by version.
fn binary(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin").join(program)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(program))
}
