//! Why nothing can be done with an event: there is no event type of its name, or not yet, or it cannot be served now.
//!
//! In: the name, and who asks. Out: the error. Never: on the path of an event that goes well; a name that the sender may not send.

use super::{Ask, Outage, Snapshot};
use crate::outcome::{Code, EventError};
use crate::route::EventType;

/// Why no event type has this name; of names that are near to it, if those may be searched.
#[cold]
pub(super) fn absent(name: &str, snapshot: &Snapshot, ask: &Ask<'_>, searches: bool) -> EventError {
    let may = |known: &str| ask.sender.is_none_or(|sender| sender.may_send(known));
    // Whoever may not send it is not told that there will be one.
    if let Some(reason) = snapshot.waiting.get(name).filter(|_| may(name)) {
        let message = format!("event `{name}` is not available yet: {reason}; send it again later");
        return EventError::new(Code::EventTypeUnavailable, message);
    }
    let nearest = if searches { snapshot.routes.nearest(name, may) } else { None };
    let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    let message = match nearest {
        Some(nearest) => format!("no event type is named `{shown}`; did you mean `{nearest}`?"),
        None => format!("no event type is named `{shown}`; check the name, or ask those who run this proxy to add it"),
    };
    EventError::new(Code::UnknownEvent, message)
}

/// The reason stays with the operators: it names brokers and topics, and what they said.
#[cold]
pub(super) fn unavailable(event_type: &EventType, outage: &Outage) -> EventError {
    let (name, seconds) = (&event_type.name, outage.since.elapsed().as_secs());
    let message = format!("event `{name}` is not available, for {seconds} s now; send it again later");
    EventError::new(Code::EventTypeUnavailable, message)
}
