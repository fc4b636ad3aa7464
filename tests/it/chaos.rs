//! Chaos: faults in a random order under load, and at the end the conservation oracle.
//!
//! The schedule follows from a seed, which is printed. When one fails, smaller ones are tried, and the smallest that still fails
//! is printed. `IGUAZU_CHAOS_SECONDS` lets it go on round after round, each with a schedule of its own; `IGUAZU_CHAOS_SEED`
//! repeats one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::support::gate::{Gate, Gatekeeper};
use super::support::load::Load;
use super::support::ordeal::{Happened, Ordeal};
use super::support::proxy::Proxy;

/// Steps of a round.
const STEPS: usize = 8;
/// Most rounds that looking for a smaller schedule may take.
const SHRINKS_MAX: usize = 24;

/// Something goes wrong, for as long as some requests take.
#[derive(Clone, Copy, Debug)]
struct Step {
    fault: Fault,
    /// Requests that are answered meanwhile.
    replies: u64,
    /// How many steps later it ends; 0: with its own.
    lasts: usize,
}

/// What goes wrong. Nodes and gates count from 0.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// `kill -9` of a broker, and a start.
    Kill(usize),
    /// An orderly stop of a broker, and a start.
    Stop(usize),
    /// A broker hangs, and goes on.
    Pause(usize),
    /// The network to a broker is not as it should be.
    Network(usize, Gate),
    /// Every connection to a broker breaks.
    Reset(usize),
    /// `kill -9` of the proxy, and a start.
    KillProxy,
    /// An orderly stop of the proxy, and a start.
    StopProxy,
}

/// A generator of 64-bit numbers (SplitMix64): the same everywhere and for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn schedule(seed: u64) -> Vec<Step> {
    let mut random = Random(seed);
    let step = |_| {
        let node = random.below(3) as usize;
        let fault = match random.below(12) {
            0 | 1 => Fault::Kill(node),
            2 => Fault::Stop(node),
            3 | 4 => Fault::Pause(node),
            5 => Fault::Network(node, Gate::Slow(Duration::from_millis(20 + random.below(1_000)))),
            6 => Fault::Network(node, [Gate::Hole, Gate::Silent][random.below(2) as usize]),
            7 => Fault::Network(node, [Gate::Shut, Gate::Narrow(50_000)][random.below(2) as usize]),
            8 | 9 => Fault::Reset(node),
            10 => Fault::KillProxy,
            _ => Fault::StopProxy,
        };
        Step { fault, replies: 5 + random.below(60), lasts: random.below(3) as usize }
    };
    (0..STEPS).map(step).collect()
}

#[test]
fn whatever_goes_wrong_in_whatever_order_no_promised_event_is_missing() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let (first, begun) = (number("IGUAZU_CHAOS_SEED").unwrap_or_else(now), Instant::now());
    let time = Duration::from_secs(number("IGUAZU_CHAOS_SECONDS").unwrap_or(0));
    for round in 0.. {
        let seed = first.wrapping_add(round);
        println!("chaos: IGUAZU_CHAOS_SEED={seed}");
        let steps = schedule(seed);
        if let Err(reason) = attempt(&steps) {
            let (smallest, reason) = shrink(steps, reason);
            panic!("chaos with seed {seed}; the smallest schedule that still fails:\n{}\n{reason}", shown(&smallest));
        }
        if begun.elapsed() >= time {
            return;
        }
    }
}

fn shown(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("  {step:?}")).collect::<Vec<_>>().join("\n")
}

/// Leaves out halves, quarters, … and single steps, as long as what is left fails.
fn shrink(mut steps: Vec<Step>, mut reason: String) -> (Vec<Step>, String) {
    let (mut size, mut tries) = (steps.len().div_ceil(2), 0);
    while size > 0 && steps.len() > 1 {
        let mut at = 0;
        while at < steps.len() && tries < SHRINKS_MAX {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(fewer.len()));
            tries += 1;
            println!("chaos: trying {} of {} steps", fewer.len(), steps.len());
            match attempt(&fewer) {
                Err(also) if !fewer.is_empty() => (steps, reason) = (fewer, also),
                _ => at += size,
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    (steps, reason)
}

/// Runs a schedule on a thread of its own, so that a panic in it is an answer.
fn attempt(steps: &[Step]) -> Result<(), String> {
    let steps = steps.to_vec();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(&steps));
    };
    let ended = std::thread::Builder::new().name("chaos".into()).spawn(run).expect("a thread can be started").join();
    ended.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// What a schedule is run on.
struct Stage {
    ordeal: Ordeal,
    gates: Vec<Gatekeeper>,
    config: String,
    /// None only while it is started again.
    proxy: Option<Proxy>,
    resident_before: u64,
    load: Load,
    happened: Happened,
    /// Nodes that are not as they should be.
    away: [bool; 3],
}

async fn run(steps: &[Step]) {
    let ordeal = Ordeal::new("it.chaos");
    let gates = ordeal.cluster.gates();
    let config = format!("startup_wait_seconds = 3\n{}", ordeal.config(&ordeal.cluster.gated_brokers()));
    let proxy = ordeal.start(&config).await;
    let (resident_before, load) = (proxy.resident_bytes(), ordeal.load(&proxy));
    let (proxy, happened, away) = (Some(proxy), Happened::default(), [false; 3]);
    let mut stage = Stage { ordeal, gates, config, proxy, resident_before, load, happened, away };
    let mut active: Vec<(Fault, usize)> = Vec::new();
    for (now, step) in steps.iter().enumerate() {
        println!("chaos: {step:?}");
        if stage.begin(step.fault).await {
            active.push((step.fault, now + step.lasts));
        }
        stage.load.await_replies(step.replies);
        for (fault, _) in active.extract_if(.., |(_, last)| *last <= now).collect::<Vec<_>>() {
            stage.end(fault);
        }
    }
    active.into_iter().for_each(|(fault, _)| stage.end(fault));
    stage.gates.iter().for_each(|gate| gate.set(Gate::Open));
    stage.ordeal.cluster.restore();
    let Stage { ordeal, proxy, resident_before, load, happened, .. } = stage;
    let proxy = proxy.expect("it was started again");
    ordeal.end(proxy, load, resident_before, happened).await;
}

impl Stage {
    /// Lets it happen; says whether it has to be ended.
    async fn begin(&mut self, fault: Fault) -> bool {
        let cluster = &self.ordeal.cluster;
        match fault {
            Fault::Kill(node) | Fault::Stop(node) | Fault::Pause(node) if self.away[node] => return false,
            Fault::Kill(node) => {
                cluster.kill(node + 1);
                (self.happened.leaders_changed, self.happened.connections_broke) = (true, true);
            }
            // Without a quorum a node does not stop in order.
            Fault::Stop(_) if self.away.contains(&true) => return false,
            Fault::Stop(node) => {
                cluster.stop(node + 1);
                self.happened.connections_broke = true;
            }
            // A node that is taken for dead loses its leadership, and what only it had.
            Fault::Pause(node) => {
                cluster.pause(node + 1);
                (self.happened.leaders_changed, self.happened.connections_broke) = (true, true);
            }
            Fault::Network(node, gate) => {
                self.gates[node].set(gate);
                self.happened.connections_broke = true;
            }
            Fault::Reset(node) => {
                self.gates[node].reset();
                self.happened.connections_broke = true;
                return false;
            }
            Fault::KillProxy | Fault::StopProxy => {
                self.replace_proxy(matches!(fault, Fault::KillProxy)).await;
                return false;
            }
        }
        if let Fault::Kill(node) | Fault::Stop(node) | Fault::Pause(node) = fault {
            self.away[node] = true;
        }
        true
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(node) | Fault::Stop(node) => self.ordeal.cluster.restart(node + 1),
            Fault::Pause(node) => self.ordeal.cluster.resume(node + 1),
            Fault::Network(node, _) => self.gates[node].set(Gate::Open),
            Fault::Reset(_) | Fault::KillProxy | Fault::StopProxy => {}
        }
        if let Fault::Kill(node) | Fault::Stop(node) | Fault::Pause(node) = fault {
            self.away[node] = false;
        }
    }

    async fn replace_proxy(&mut self, without_a_word: bool) {
        let proxy = self.proxy.take().expect("there is one");
        let folder = proxy.folder().to_owned();
        if without_a_word {
            proxy.kill();
            self.happened.proxy_died = true;
        } else {
            proxy.finish();
            self.happened.proxy_stopped = true;
        }
        self.load.redirect(None);
        let proxy = self.ordeal.start_in(folder, &self.config).await;
        self.resident_before = proxy.resident_bytes();
        self.load.redirect(Some(proxy.http()));
        self.proxy = Some(proxy);
    }
}
