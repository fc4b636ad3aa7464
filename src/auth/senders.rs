//! The table of senders, by the hash of their keys.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::{Limiter, keys};
use crate::config;
use crate::route::{Brake, Limits};

/// The senders of a snapshot. A clone shares their limits: clone it into the next snapshot when the settings are the same, or
/// take those that are the same over with [`Senders::with`].
#[derive(Clone, Debug, Default)]
pub struct Senders {
    by_key: Arc<HashMap<KeyHash, Arc<Sender>>>,
    any: bool,
}

/// A sender that a request was made by.
#[derive(Debug)]
pub struct Sender {
    /// Its name.
    pub name: String,
    events: HashSet<String>,
    prefixes: Vec<String>,
    limiter: Arc<Limiter>,
    limits: Limits,
    brake: Brake,
    event_bytes_max: Option<usize>,
}

impl Senders {
    /// The table of these senders. Their limits begin anew.
    pub fn new(senders: &[config::Sender]) -> Self {
        Senders::default().with(senders)
    }

    /// The table of these senders. Those that have the limits they had in this one go on with what they have taken of them.
    pub fn with(&self, senders: &[config::Sender]) -> Self {
        let before: HashMap<_, _> = self.by_key.values().map(|sender| (sender.name.as_str(), sender)).collect();
        let mut by_key = HashMap::new();
        for settings in senders {
            let mut sender = Sender::new(settings);
            if let Some(before) = before.get(settings.name.as_str()).filter(|before| before.limits == settings.limits) {
                sender.limiter = Arc::clone(&before.limiter);
            }
            let sender = Arc::new(sender);
            for hash in &settings.key_hashes {
                by_key.insert(KeyHash(*hash), Arc::clone(&sender));
            }
        }
        Senders { by_key: Arc::new(by_key), any: !senders.is_empty() }
    }

    /// The same table, in which nobody is anonymous even if there is no sender.
    pub fn without_strangers(self) -> Self {
        Senders { any: true, ..self }
    }

    /// Whether no sender exists, so that everybody may send everything.
    pub fn is_open(&self) -> bool {
        !self.any
    }

    /// The sender with this API key.
    pub fn find(&self, key: &str) -> Option<&Arc<Sender>> {
        self.by_key.get(&KeyHash(keys::hash(key)))
    }
}

impl Sender {
    fn new(settings: &config::Sender) -> Self {
        let (patterns, names): (Vec<_>, Vec<_>) = settings.events.iter().partition(|event| event.ends_with('*'));
        Sender {
            name: settings.name.clone(),
            events: names.into_iter().cloned().collect(),
            prefixes: patterns.into_iter().map(|pattern| pattern.trim_end_matches('*').to_owned()).collect(),
            limiter: Arc::new(Limiter::new(&settings.limits)),
            limits: settings.limits,
            brake: settings.brake,
            event_bytes_max: settings.limits.event_bytes_max,
        }
    }

    /// Whether it may send this event. A `*` at the end of a name in its `events` matches any rest.
    pub fn may_send(&self, event: &str) -> bool {
        self.events.contains(event) || self.prefixes.iter().any(|prefix| event.starts_with(prefix.as_str()))
    }

    /// How much of what it sends is let through for now.
    pub fn brake(&self) -> Brake {
        self.brake
    }

    /// Its limits over all its events.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Most bytes of one of its payloads as sent; none: what the event type takes.
    pub fn event_bytes_max(&self) -> Option<usize> {
        self.event_bytes_max
    }
}

/// SHA-256 of a key. Finding one tells nothing by its time: the table's own hash is keyed by a secret of the process, so
/// that nobody can aim at a neighbour of a stored key, and the comparison takes as long for the first byte as for the last.
#[derive(Clone, Copy)]
struct KeyHash([u8; 32]);

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(name: &str, keys: &[&str], events: &[&str]) -> config::Sender {
        config::Sender {
            name: name.to_owned(),
            key_hashes: keys.iter().map(|key| keys::hash(key)).collect(),
            events: events.iter().map(|event| event.to_string()).collect(),
            limits: Limits::default(),
            brake: Brake::Off,
        }
    }

    #[test]
    fn a_key_finds_its_sender_and_nobody_else_does() {
        let senders = Senders::new(&[sender("orders", &["old", "new"], &[]), sender("app", &["app-key"], &[])]);
        let check = |key: &str, expected: Option<&str>| {
            assert_eq!(senders.find(key).map(|sender| sender.name.as_str()), expected, "key {key:?}");
        };
        check("", None);
        check("ol", None);
        check("old ", None);
        check("orders", None);
        check("old", Some("orders"));
        check("new", Some("orders"));
        check("app-key", Some("app"));
    }

    #[test]
    fn once_a_sender_exists_nobody_is_anonymous_even_if_it_has_no_key() {
        assert!(Senders::default().is_open());
        assert!(!Senders::new(&[sender("locked out", &[], &["*"])]).is_open());
    }

    #[test]
    fn a_sender_may_send_what_its_settings_list() {
        let settings = sender("orders", &[], &["order.placed", "delivery.*"]);
        let sender = Sender::new(&settings);
        let check = |event: &str, expected: bool| assert_eq!(sender.may_send(event), expected, "event {event:?}");
        check("order", false);
        check("order.placed.again", false);
        check("deliver", false);
        check("", false);
        check("order.placed", true);
        check("delivery.", true);
        check("delivery.status_changed", true);
        assert!(Sender::new(&super::tests::sender("all", &[], &["*"])).may_send("anything"));
        assert!(!Sender::new(&super::tests::sender("none", &[], &[])).may_send("anything"));
    }

    #[test]
    fn a_sender_whose_limits_stay_owes_what_it_owed_and_others_begin_anew() {
        let limited = |name: &str, events: u64| {
            let limits = Limits { events_per_second: Some(events), ..Limits::default() };
            config::Sender { limits, ..sender(name, &[name], &["*"]) }
        };
        let before = Senders::new(&[limited("same", 1), limited("other", 1)]);
        let take = |senders: &Senders, key: &str| senders.find(key).unwrap().limiter().take(1, 5).is_ok();
        assert!(take(&before, "same") && take(&before, "other"));
        let renamed_key = config::Sender { key_hashes: vec![keys::hash("rotated")], ..limited("same", 1) };
        let after = before.with(&[renamed_key, limited("other", 2)]);
        assert!(after.find("same").is_none(), "its key is another one now");
        assert!(!take(&after, "rotated"), "its limit is taken");
        assert!(take(&after, "other"));
    }

    #[test]
    fn no_key_hash_shows_in_the_debug_form() {
        assert_eq!(format!("{:?}", KeyHash(keys::hash("k"))), "KeyHash");
    }
}
