//! Whether a cluster takes records: the breaker of one cluster, shared by its lanes' clients.
//!
//! In: what was seen of the cluster since the last look, and the time. Out: its state, and whoever may read it. Never: I/O, a clock
//! of its own, or a sign that is the sender's fault: a record that is refused for good is an answer like any other.
//!
//! ```text
//!            nothing acknowledged for `open_after`
//!   closed ─────────────────────────────────────────▶ open ◀───┐
//!      ▲                                                │       │ the records that were let through
//!      │ one of them was acknowledged      it answers   ▼       │ were not acknowledged either
//!      └──────────────────────────────────────────── half-open ─┘
//! ```

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What the breaker of a cluster stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The cluster takes records.
    Closed,
    /// It answers again, and a few records are let through to see whether it takes them.
    HalfOpen,
    /// It takes none: what can go elsewhere does.
    Open,
}

impl State {
    /// Every state; its position is the number in the metric.
    pub const ALL: [State; 3] = [State::Closed, State::HalfOpen, State::Open];

    /// The name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::HalfOpen => "half_open",
            State::Open => "open",
        }
    }
}

/// When a breaker opens, and how soon it tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long records may wait while none is acknowledged.
    pub open_after: Duration,
    /// How long it stays open before the cluster is asked whether it is back.
    pub retry_after: Duration,
}

/// The share of its patience that a cluster gets that no broker of it can be reached, or that refuses our login: the client has
/// said what a silence would only suggest.
const CUT_OFF_SHARE: u32 = 3;
/// The part of `retry_after` for which acknowledgements must go on before the breaker closes.
const SETTLE_SHARE: u32 = 5;
/// How often the pause may double when the cluster does not take what it is given.
const DOUBLINGS_MAX: u32 = 4;
/// Records that are let through between two looks while half-open.
const TRIALS: u32 = 100;

/// What was seen of a cluster since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signs {
    /// For how long records have been waiting while none was acknowledged; none when none waits.
    pub(super) stalled: Option<Duration>,
    /// No broker can be reached, or they refuse our login.
    pub(super) is_cut_off: bool,
    /// At least one record was acknowledged, or refused for good, which is an answer too.
    pub(super) acknowledged: bool,
    /// Records were let through since it became half-open.
    pub(super) tried: bool,
    /// The answer to [`Breaker::wants_probe`], if it was asked.
    pub(super) answered: Option<bool>,
}

/// The state machine.
#[derive(Debug)]
pub(super) struct Breaker {
    patience: Patience,
    phase: Phase,
    /// How often in a row a trial has failed, or has been followed by another failure soon.
    setbacks: u32,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { since: Instant },
    Open { until: Instant },
    HalfOpen { since: Instant, tried: Option<Instant>, acknowledged: bool },
}

impl Breaker {
    pub(super) fn new(patience: Patience, now: Instant) -> Self {
        Breaker { patience, phase: Phase::Closed { since: now }, setbacks: 0 }
    }

    /// Whether the cluster is to be asked for a sign of life before the next look.
    pub(super) fn wants_probe(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Open { until } if now >= until)
    }

    /// Takes in what was seen; the state then.
    pub(super) fn look(&mut self, signs: &Signs, now: Instant) -> State {
        let limit = match signs.is_cut_off {
            true => self.patience.open_after / CUT_OFF_SHARE,
            false => self.patience.open_after,
        };
        match &mut self.phase {
            Phase::Closed { since } => {
                if signs.stalled.is_some_and(|stalled| stalled >= limit) {
                    // What fails again right after it was back is not asked as often.
                    let is_setback = now.saturating_duration_since(*since) < 2 * self.patience.open_after;
                    self.setbacks = if is_setback { self.setbacks } else { 0 };
                    self.open(now);
                }
            }
            Phase::Open { until } => {
                if signs.acknowledged || signs.answered == Some(true) {
                    self.phase = Phase::HalfOpen { since: now, tried: None, acknowledged: false };
                } else if signs.answered == Some(false) {
                    *until = now + self.patience.retry_after;
                }
            }
            Phase::HalfOpen { since, tried, acknowledged } => {
                *acknowledged |= signs.acknowledged;
                if signs.tried && tried.is_none() {
                    *tried = Some(now);
                }
                let lasted = now.saturating_duration_since(*since);
                let settle = self.patience.retry_after / SETTLE_SHARE;
                let is_proven = *acknowledged && lasted >= settle;
                // Nobody has a record for it, and it answers: the next record is the trial.
                let is_idle = tried.is_none() && lasted >= self.patience.retry_after;
                let in_vain = |tried: &Instant| now.saturating_duration_since(*tried) >= limit;
                if is_proven || is_idle {
                    self.phase = Phase::Closed { since: now };
                } else if !*acknowledged && tried.as_ref().is_some_and(in_vain) {
                    self.setbacks = (self.setbacks + 1).min(DOUBLINGS_MAX);
                    self.open(now);
                }
            }
        }
        self.state()
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::Open { .. } => State::Open,
        }
    }

    fn open(&mut self, now: Instant) {
        self.phase = Phase::Open { until: now + self.patience.retry_after * (1 << self.setbacks) };
    }
}

/// What the senders of a cluster read of its breaker. One load tells that nothing is wrong.
#[derive(Debug, Default)]
pub struct Gate {
    state: AtomicU8,
    /// Records that may still be let through.
    trials: AtomicU32,
    tried: AtomicBool,
    entered: [AtomicU64; State::ALL.len()],
    note: Mutex<Option<Note>>,
}

/// Why a breaker is not closed.
#[derive(Clone, Debug)]
struct Note {
    reason: String,
    since: Instant,
}

/// A breaker that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What was seen of the cluster when it opened.
    pub reason: String,
    /// For how long it has not been closed.
    pub since: Duration,
}

impl Gate {
    /// Whether records go to the cluster as usual.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.state.load(Relaxed) == State::Closed as u8
    }

    /// What the breaker stands at.
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Relaxed))]
    }

    /// Whether the next record goes to the cluster: it is closed, or the record may be a trial.
    pub fn lets_pass(&self) -> bool {
        match self.state() {
            State::Closed => true,
            State::HalfOpen => self.trials.load(Relaxed) > 0,
            State::Open => false,
        }
    }

    /// The same, and counts the trial.
    pub(super) fn pass(&self) -> bool {
        match self.state() {
            State::Closed => true,
            State::HalfOpen => {
                let is_trial = self.trials.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
                self.tried.fetch_or(is_trial, Relaxed);
                is_trial
            }
            State::Open => false,
        }
    }

    /// How often each state was entered.
    pub fn entered(&self) -> impl Iterator<Item = (State, u64)> + '_ {
        State::ALL.into_iter().zip(self.entered.iter().map(|count| count.load(Relaxed)))
    }

    /// Why it is not closed; none when it is.
    pub fn trouble(&self) -> Option<Trouble> {
        let note = self.note.lock().expect("no code panics while it holds this lock").clone()?;
        Some(Trouble { reason: note.reason, since: note.since.elapsed() })
    }

    /// Whether records were let through for a trial.
    pub(super) fn has_tried(&self) -> bool {
        self.tried.load(Relaxed)
    }

    /// Takes over what the state machine says. True when that is something else than before.
    pub(super) fn set(&self, state: State, reason: impl FnOnce() -> String) -> bool {
        let before = self.state();
        if before == state {
            return false;
        }
        let mut note = self.note.lock().expect("no code panics while it holds this lock");
        match state {
            State::Closed => *note = None,
            State::HalfOpen | State::Open => {
                let since = note.as_ref().map_or_else(Instant::now, |note| note.since);
                *note = Some(Note { reason: reason(), since });
            }
        }
        drop(note);
        self.tried.store(false, Relaxed);
        self.trials.store(if state == State::HalfOpen { TRIALS } else { 0 }, Relaxed);
        self.entered[state as usize].fetch_add(1, Relaxed);
        self.state.store(state as u8, Relaxed);
        true
    }

    /// Lets as many records through as at first, because some of those before were acknowledged.
    pub(super) fn renew_trials(&self) {
        self.trials.store(TRIALS, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATIENCE: Patience = Patience { open_after: Duration::from_secs(9), retry_after: Duration::from_secs(5) };

    const QUIET: Signs = Signs { stalled: None, is_cut_off: false, acknowledged: false, tried: false, answered: None };
    const ACKNOWLEDGED: Signs = Signs { acknowledged: true, ..QUIET };
    const TRIED: Signs = Signs { tried: true, ..stalled(20) };
    const ANSWERED: Signs = Signs { answered: Some(true), ..QUIET };
    const SILENT: Signs = Signs { answered: Some(false), ..stalled(20) };

    const fn stalled(seconds: u64) -> Signs {
        Signs { stalled: Some(Duration::from_secs(seconds)), ..QUIET }
    }

    const fn cut_off(signs: Signs) -> Signs {
        Signs { is_cut_off: true, ..signs }
    }

    /// Looks at these signs at these seconds; the states.
    #[track_caller]
    fn check(looks: &[(u64, Signs, State)]) {
        let begin = Instant::now();
        let mut breaker = Breaker::new(PATIENCE, begin);
        for (at, signs, expected) in looks {
            let found = breaker.look(signs, begin + Duration::from_secs(*at));
            assert_eq!(found, *expected, "at {at} s with {signs:?}");
        }
    }

    #[test]
    fn it_opens_when_nothing_is_acknowledged_for_too_long_and_sooner_when_no_broker_can_be_reached() {
        check(&[(100, stalled(8), State::Closed), (101, stalled(9), State::Open)]);
        check(&[(100, cut_off(stalled(2)), State::Closed), (101, cut_off(stalled(3)), State::Open)]);
        // Without a record that waits, an error of the connection says nothing: brokers close idle ones.
        check(&[(100, cut_off(QUIET), State::Closed), (200, cut_off(QUIET), State::Closed)]);
    }

    #[test]
    fn it_stays_open_until_the_cluster_answers_or_takes_a_record() {
        check(&[(100, stalled(9), State::Open), (105, SILENT, State::Open), (200, SILENT, State::Open)]);
        check(&[(100, stalled(9), State::Open), (105, ANSWERED, State::HalfOpen)]);
        check(&[(100, stalled(9), State::Open), (101, ACKNOWLEDGED, State::HalfOpen)]);
    }

    #[test]
    fn it_closes_once_a_trial_is_acknowledged_and_some_time_has_passed() {
        let begin = [(100, stalled(9), State::Open), (105, ANSWERED, State::HalfOpen)];
        let after = |looks: &[(u64, Signs, State)]| check(&[&begin, looks].concat());
        let one_more = Signs { tried: true, ..ACKNOWLEDGED };
        after(&[(105, one_more, State::HalfOpen), (106, QUIET, State::Closed)]);
        after(&[(106, one_more, State::Closed)]);
        after(&[(106, TRIED, State::HalfOpen), (114, TRIED, State::HalfOpen), (115, TRIED, State::Open)]);
        after(&[(106, cut_off(TRIED), State::HalfOpen), (109, cut_off(TRIED), State::Open)]);
    }

    #[test]
    fn it_closes_when_the_cluster_answers_and_nobody_has_a_record_for_it() {
        check(&[
            (100, stalled(9), State::Open),
            (105, ANSWERED, State::HalfOpen),
            (109, QUIET, State::HalfOpen),
            (110, QUIET, State::Closed),
        ]);
    }

    #[test]
    fn a_cluster_that_answers_and_takes_nothing_is_asked_less_and_less_often() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut breaker = Breaker::new(PATIENCE, begin);
        breaker.look(&stalled(9), at(100));
        let mut now = 100;
        let pauses = [5, 10, 20, 40, 80, 80].map(|pause| {
            let asked = (now..).find(|seconds| breaker.wants_probe(at(*seconds))).expect("it asks some day");
            assert_eq!(asked - now, pause);
            breaker.look(&ANSWERED, at(asked));
            breaker.look(&TRIED, at(asked));
            assert_eq!(breaker.look(&TRIED, at(asked + 9)), State::Open);
            now = asked + 9;
            pause
        });
        assert_eq!(pauses.len(), 6);
        let asked = (now..).find(|seconds| breaker.wants_probe(at(*seconds))).expect("it asks some day");
        breaker.look(&ANSWERED, at(asked));
        breaker.look(&ACKNOWLEDGED, at(asked + 1));
        assert_eq!(breaker.look(&stalled(9), at(asked + 100)), State::Open);
        assert!(breaker.wants_probe(at(asked + 105)), "a cluster that was well for a while begins anew");
    }

    #[test]
    fn a_gate_lets_a_few_through_while_half_open() {
        let gate = Gate::default();
        assert!(gate.is_closed() && gate.lets_pass() && gate.pass() && gate.trouble().is_none());
        assert!(gate.set(State::Open, || "silence".to_owned()));
        assert!(!gate.lets_pass() && !gate.pass() && !gate.has_tried());
        assert!(gate.set(State::HalfOpen, || "it answers".to_owned()));
        assert!(!gate.set(State::HalfOpen, || unreachable!("it is nothing new")));
        assert_eq!((0..2 * TRIALS).filter(|_| gate.pass()).count(), TRIALS as usize);
        assert!(gate.has_tried() && !gate.lets_pass());
        gate.renew_trials();
        assert!(gate.lets_pass());
        assert_eq!(gate.trouble().map(|trouble| trouble.reason).as_deref(), Some("it answers"));
        assert!(gate.set(State::Closed, || unreachable!("closed needs no reason")));
        assert_eq!(gate.entered().map(|(_, count)| count).collect::<Vec<_>>(), [1, 1, 1]);
    }

    fn signs() -> impl Strategy<Value = Signs> {
        let stalled = prop::option::of((0_u64..30).prop_map(Duration::from_secs));
        (stalled, any::<bool>(), any::<bool>(), any::<bool>(), prop::option::of(any::<bool>())).prop_map(
            |(stalled, is_cut_off, acknowledged, tried, answered)| Signs {
                stalled: stalled.filter(|_| !acknowledged),
                is_cut_off,
                acknowledged,
                tried,
                answered,
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_is_seen_it_opens_only_after_a_silence_and_never_closes_without_an_answer(
            looks in prop::collection::vec((0_u64..20, signs()), 0..60)
        ) {
            let begin = Instant::now();
            let (mut breaker, mut now) = (Breaker::new(PATIENCE, begin), begin);
            for (pause, signs) in looks {
                now += Duration::from_secs(pause);
                let (before, after) = (breaker.state(), breaker.look(&signs, now));
                match (before, after) {
                    (State::Closed, State::Open) => prop_assert!(signs.stalled >= Some(Duration::from_secs(3))),
                    (State::Open, State::HalfOpen) => {
                        prop_assert!(signs.acknowledged || signs.answered == Some(true));
                    }
                    (State::HalfOpen, State::Open) => prop_assert!(!signs.acknowledged),
                    (State::Closed, State::HalfOpen) | (State::Open, State::Closed) => {
                        prop_assert!(false, "{before:?} to {after:?}");
                    }
                    _ => {}
                }
            }
            // A cluster that is well again closes it, whatever came before.
            let mut patient = 0;
            while breaker.state() != State::Closed {
                now += Duration::from_secs(1);
                breaker.look(&Signs { answered: Some(true), ..ACKNOWLEDGED }, now);
                patient += 1;
                prop_assert!(patient < 10, "{breaker:?}");
            }
        }
    }
}
