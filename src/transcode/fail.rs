//! Why an event cannot be transcoded, and where in it.
//!
//! In: a [`Fail`] from a front-end or back-end, and the path that led there. Out: the [`EventError`] for the sender.
//! Never: a payload's value; of what a sender wrote only unknown member names appear, shortened.

use std::fmt::Write;

use super::plan::Plan;
use crate::outcome::{Code, EventError};

/// A result on the path of an event. The failure is boxed because it is rare and results are returned everywhere.
pub(super) type Done<T = ()> = Result<T, Box<Fail>>;

/// What went wrong; where it went wrong is the path at that moment and, if known, the field below it.
#[derive(Debug)]
pub(super) struct Fail {
    pub(super) code: Code,
    pub(super) what: String,
    pub(super) at: Option<Step>,
}

impl Fail {
    /// A failure at the current path.
    #[cold]
    pub(super) fn new(code: Code, what: impl Into<String>) -> Box<Fail> {
        Box::new(Fail { code, what: what.into(), at: None })
    }

    /// The same failure, at a field of the message that the path leads to.
    #[cold]
    pub(super) fn at(mut self: Box<Self>, step: Step) -> Box<Fail> {
        self.at.get_or_insert(step);
        self
    }
}

/// One step of a path: a field of a message and, inside lists and maps, which element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Index of the message's table in the plan.
    pub(super) table: u16,
    /// Index of the slot in the table.
    pub(super) slot: u16,
    /// Index of the element or map entry, or [`Step::WHOLE`].
    pub(super) index: u32,
}

impl Step {
    /// The field itself rather than an element of it.
    pub(super) const WHOLE: u32 = u32::MAX;

    /// The step to a field as a whole.
    pub(super) fn field(table: u16, slot: u16) -> Step {
        Step { table, slot, index: Step::WHOLE }
    }
}

/// How the sender names fields: paths are given in the names that they know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// proto3 JSON names.
    Json,
    /// Names as declared, with the last field's number.
    Wire,
}

/// `$.items[3].price`, and for Protobuf payloads the number of the last field.
pub(super) fn path_text(plan: &Plan, steps: &[Step], last: Option<Step>, naming: Naming) -> String {
    let mut text = String::from("$");
    let mut number = None;
    for step in steps.iter().copied().chain(last) {
        let slot = &plan.tables[usize::from(step.table)].slots[usize::from(step.slot)];
        let name = if naming == Naming::Json { &slot.json_name } else { &slot.name };
        text.push('.');
        text.push_str(name);
        if step.index != Step::WHOLE {
            let _ = write!(text, "[{}]", step.index);
        }
        number = Some(slot.number);
    }
    if let (Naming::Wire, Some(number)) = (naming, number) {
        let _ = write!(text, " (field {number})");
    }
    text
}

/// The sender's error: code, path, what is wrong there.
#[cold]
pub(super) fn event_error(plan: &Plan, steps: &[Step], fail: &Fail, naming: Naming) -> EventError {
    let path = path_text(plan, steps, fail.at, naming);
    EventError::new(fail.code, format!("{path}: {}", fail.what))
}

/// A member name as it may appear in a message: at most 64 characters, without control characters.
pub(super) fn shown_name(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut shown: String = name.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}
