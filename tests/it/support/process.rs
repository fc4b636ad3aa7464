//! Child processes that never outlive the test run, however it ends.

use std::ffi::OsStr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use super::wait_for;

/// A command for [`Process::spawn`]: the kernel kills what it starts as soon as the thread that started it is gone.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
    // Nothing in a test leaves this machine, whatever the machine's settings say.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
}

/// A running child; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts what [`command`] made. `name` is for messages.
    pub fn spawn(name: &str, command: Command) -> Process {
        // The death signal follows the thread that spawned, not the process: a test's own thread ends with its test,
        // while others still use the cluster that it started. So one thread that lives as long as the run spawns all.
        static SPAWNER: LazyLock<SyncSender<(Command, SyncSender<std::io::Result<Child>>)>> = LazyLock::new(|| {
            let (requests, inbox) = sync_channel::<(Command, SyncSender<std::io::Result<Child>>)>(1);
            let spawn_all = move || {
                for (mut command, reply) in inbox {
                    let _ = reply.send(command.spawn());
                }
            };
            std::thread::Builder::new().name("spawner".into()).spawn(spawn_all).expect("a thread can be started");
            requests
        });
        let (reply, answer) = sync_channel(1);
        SPAWNER.send((command, reply)).expect("the spawner lives as long as the run");
        let child = answer.recv().expect("the spawner answers").unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        Process { child, name: name.to_owned() }
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id: `setpriv` is replaced by the program, so it is the program's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; a child that is gone is left alone.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            kill_process(Pid::from_child(&self.child), signal).unwrap_or_else(|e| panic!("signal {}: {e}", self.name));
        }
    }

    /// How it ended, if it did.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|e| panic!("wait for {}: {e}", self.name))
    }

    /// Waits for its end, which something else brings about.
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("end of {}", self.name);
        wait_for(&what, || self.exit_status().ok_or_else(|| "still running".to_owned()))
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
