//! ^C and SIGTERM, for commands that run until they are told to stop; and SIGHUP, for those that can read their files again.

use std::cell::Cell;
use std::sync::mpsc;
use std::time::Duration;

use super::Failure;

/// Signals that wait to be looked at; more of them say nothing new.
const WAITING_MAX: usize = 8;

/// What the process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// ^C or SIGTERM.
    Stop,
    /// SIGHUP.
    Reload,
}

/// Told of ^C, SIGTERM and, where that is asked for, SIGHUP.
#[derive(Debug)]
pub struct Interrupt {
    told: mpsc::Receiver<Signal>,
    happened: Cell<bool>,
    // Ends its thread when it is dropped.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Interrupt {
    /// Starts to listen. From now on ^C does not end the process by itself.
    pub fn listen() -> Result<Interrupt, Failure> {
        Interrupt::start(Signals::new)
    }

    /// [`Interrupt::listen`], and SIGHUP does not end the process either.
    pub fn listen_for_reloads() -> Result<Interrupt, Failure> {
        Interrupt::start(Signals::with_reloads)
    }

    fn start(register: fn() -> Result<Signals, Failure>) -> Result<Interrupt, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (tell, told) = mpsc::sync_channel(WAITING_MAX);
        let (_stop, mut stopped) = tokio::sync::oneshot::channel();
        // Registered here and not in the thread, so that a signal from now on is ours.
        let mut signals = {
            let _inside = runtime.enter();
            register()?
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        signal = signals.next() => drop(tell.try_send(signal)),
                        _ = &mut stopped => break,
                    }
                }
            });
        })?;
        Ok(Interrupt { told, happened: Cell::new(false), _stop })
    }

    /// Whether it was told to stop.
    pub fn happened(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits until it is told to stop, at most so long; says whether it was, now or before.
    pub fn wait(&self, timeout: Duration) -> bool {
        if !self.happened.get() && self.told.recv_timeout(timeout) == Ok(Signal::Stop) {
            self.happened.set(true);
        }
        self.happened.get()
    }

    /// Waits until it is told to stop.
    pub fn wait_forever(&self) {
        while !self.wait(Duration::from_secs(3600)) {}
    }

    /// The next signal, whatever came before, if it comes within this time.
    pub fn next_within(&self, timeout: Duration) -> Option<Signal> {
        self.told.recv_timeout(timeout).ok()
    }

    /// Waits for the next signal, whatever came before.
    pub fn wait_for_signal(&self) -> Signal {
        // Its thread lives as long as this does; without it, nothing could ever stop the process in order.
        self.told.recv().unwrap_or(Signal::Stop)
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Signals, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Signals { interrupt, terminate, hang_up: None })
    }

    fn with_reloads() -> Result<Signals, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals { hang_up: Some(signal(SignalKind::hangup())?), ..Signals::new()? })
    }

    async fn next(&mut self) -> Signal {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
            _ = hang_up => Signal::Reload,
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

    fn with_reloads() -> Result<Signals, Failure> {
        Ok(Signals)
    }

    async fn next(&mut self) -> Signal {
        let _ = tokio::signal::ctrl_c().await;
        Signal::Stop
    }
}
