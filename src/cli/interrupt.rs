//! ^C and SIGTERM, for commands that run until they are told to stop.

use std::sync::mpsc;
use std::time::Duration;

use super::Failure;

/// Told of the first ^C or SIGTERM.
#[derive(Debug)]
pub struct Interrupt {
    told: mpsc::Receiver<()>,
    happened: std::cell::Cell<bool>,
    // Ends its thread when it is dropped.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Interrupt {
    /// Starts to listen. From now on ^C does not end the process by itself.
    pub fn listen() -> Result<Interrupt, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (tell, told) = mpsc::sync_channel(1);
        let (_stop, stopped) = tokio::sync::oneshot::channel();
        // Registered here and not in the thread, so that a signal from now on is ours.
        let signals = {
            let _inside = runtime.enter();
            Signals::new()?
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = signals.first() => { let _ = tell.send(()); }
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Interrupt { told, happened: std::cell::Cell::new(false), _stop })
    }

    /// Whether it happened.
    pub fn happened(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits for it, at most so long; says whether it happened.
    pub fn wait(&self, timeout: Duration) -> bool {
        if !self.happened.get() && self.told.recv_timeout(timeout).is_ok() {
            self.happened.set(true);
        }
        self.happened.get()
    }

    /// Waits until it happens.
    pub fn wait_forever(&self) {
        while !self.wait(Duration::from_secs(3600)) {}
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Signals, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn first(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Signals, Failure> {
        Ok(Signals)
    }

    async fn first(self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
