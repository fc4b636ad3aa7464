//! A load balancer as people run it: HAProxy, which asks each proxy's `/ready` and sends where that answers 200.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::process::{Process, command};
use super::{folder, ports, wait_until};

/// A running HAProxy; killed when dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    folder: PathBuf,
    process: Process,
}

/// Where a proxy's doors and its probes are.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    /// Port of the doors.
    pub http: u16,
    /// Port of the admin listener.
    pub admin: u16,
}

impl Balancer {
    /// Starts one in front of these; `name()` of each is `p0`, `p1`, …
    ///
    /// It asks every 250 ms and believes the first answer. Each request goes over a new connection and is sent once, so that what a
    /// proxy refuses or resets is seen.
    pub fn start(backends: &[Backend]) -> Balancer {
        let folder = folder("balancer");
        let port = ports::free(1)[0];
        let mut config = format!(
            "global\n  stats socket {socket} mode 600 level admin\n\
             defaults\n  mode http\n  option http-server-close\n  retries 0\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  timeout check 2s\n\
             frontend in\n  bind 127.0.0.1:{port}\n  default_backend proxies\n\
             backend proxies\n  balance roundrobin\n  option httpchk GET /ready\n  http-check expect status 200\n\
             \x20 default-server check inter 250ms fall 1 rise 1\n",
            socket = folder.join("stats.sock").display(),
        );
        for (number, Backend { http, admin }) in backends.iter().enumerate() {
            writeln!(config, "  server p{number} 127.0.0.1:{http} port {admin}").expect("a String takes all");
        }
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, config).expect("the folder is ours");
        let log = std::fs::File::create(folder.join("log")).expect("the folder is ours");
        // Debian keeps it where only root looks.
        let known = Path::new("/usr/sbin/haproxy");
        let mut haproxy = command(if known.exists() { known } else { Path::new("haproxy") });
        haproxy.arg("-db").arg("-f").arg(&file).stdout(Stdio::null()).stderr(log);
        let process = Process::spawn("haproxy", haproxy);
        Balancer { address: SocketAddr::from(([127, 0, 0, 1], port)), folder, process }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it sends to exactly these.
    pub async fn await_up(&mut self, wanted: &[&str]) {
        wait_until("the balancer sees which proxies are ready", async || {
            if let Some(status) = self.process.exit_status() {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("haproxy ended ({status}):\n{log}");
            }
            let up = self.up()?;
            if up == wanted { Ok(()) } else { Err(format!("{up:?}, not {wanted:?}")) }
        })
        .await;
    }

    /// Sends nothing to this one, ready or not, until [`Balancer::let_in`].
    pub fn keep_away(&self, number: usize) {
        self.tell(&format!("set server proxies/p{number} state maint\n"));
    }

    /// Asks this one again whether it is ready, and sends to it then.
    pub fn let_in(&self, number: usize) {
        self.tell(&format!("set server proxies/p{number} state ready\n"));
    }

    fn tell(&self, order: &str) {
        let said = self.ask(order).unwrap_or_else(|error| panic!("{order}: {error}"));
        assert_eq!(said.trim(), "", "{order}");
    }

    fn ask(&self, what: &str) -> Result<String, String> {
        let ask = || -> std::io::Result<String> {
            let mut socket = UnixStream::connect(self.folder.join("stats.sock"))?;
            socket.write_all(what.as_bytes())?;
            let mut text = String::new();
            socket.read_to_string(&mut text)?;
            Ok(text)
        };
        ask().map_err(|error| error.to_string())
    }

    /// The proxies that it sends to.
    fn up(&self) -> Result<Vec<String>, String> {
        let text = self.ask("show stat\n")?;
        // pxname, svname, …; the eighteenth field is the status.
        let rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let rows =
            rows.filter(|row| row.first() == Some(&"proxies") && row.get(1).is_some_and(|name| name.starts_with('p')));
        Ok(rows.filter(|row| row.get(17) == Some(&"UP")).map(|row| row[1].to_owned()).collect())
    }
}
