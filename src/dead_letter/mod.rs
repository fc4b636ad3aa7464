//! What did not get into its topic and is kept for people: what it says of itself, and back.
//!
//! In: why an event was rejected, or why a record was given up after it had been accepted. Out: headers that say so, and from a
//! record's headers the reason again. Never: a payload's value, a broker's address.
//!
//! Two stages. **Rejected**: the reply refused the event for its content; the dead letter's value is what the sender sent.
//! **Failed**: the event was accepted, and Kafka then refused its record for good; what is kept is that record, byte for byte, in
//! the dead-letter topic of its event type or in the failed log on disk ([`crate::spool::failed`]).
//!
//! | header | of | holds |
//! |---|---|---|
//! | `iguazu-dead-letter` | both | `1`, the version of these headers |
//! | `iguazu-dead-letter-stage` | both | `rejected` or `failed` |
//! | `iguazu-dead-letter-code` | both | the code of the reply and of the ledger |
//! | `iguazu-dead-letter-message` | both | rejected: the reply's message; failed: the reason in `iguazu_producer_failures_total` |
//! | `iguazu-dead-letter-event` | both | event name |
//! | `iguazu-dead-letter-at` | both | when it was rejected or given up, RFC 3339 |
//! | `iguazu-dead-letter-topic` | failed | the topic that the record was meant for |
//! | `iguazu-dead-letter-id` | rejected | the event's id: the sender's, or one that a redrive gives it; none where the id cannot be read |
//! | `iguazu-dead-letter-door` | rejected | the door by which it came |
//! | `iguazu-dead-letter-part` | rejected | `payload`: the value is the payload, the envelope is in the CloudEvents headers as far as it could be read; `event`: the value is envelope and payload together, in JSON or as `iguazu.v1.Event` |
//! | `iguazu-dead-letter-encoding` | rejected | `base64` where the sender's bytes are that |
//! | `iguazu-dead-letter-schema` | rejected | the schema that the event names, `version:N` or `id:N` |
//!
//! The `content-type` of a rejected event is that of the sender's bytes. The record's timestamp is when the event was received.

use crate::envelope::headers::HeaderBuffer;
use crate::envelope::time;

/// The version of the headers that this program writes; a reader takes this one.
const VERSION: &str = "1";
/// What the name of every header of a dead letter begins with, and the whole name of the one with the version.
const PREFIX: &str = "iguazu-dead-letter";

/// How far an event came that is kept for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The reply refused it.
    Rejected,
    /// It was accepted, and its record was then given up for good.
    Failed,
}

impl Stage {
    /// As it stands in the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Rejected => "rejected",
            Stage::Failed => "failed",
        }
    }
}

/// Why a record was given up after its event had been accepted.
#[derive(Clone, Copy, Debug)]
pub struct GivenUp<'a> {
    /// Its code in the ledger.
    pub code: &'a str,
    /// The client's reason, from a closed set.
    pub reason: &'a str,
    /// Event name.
    pub event: &'a str,
    /// The topic that it was meant for.
    pub topic: &'a str,
    /// When it was given up, milliseconds since 1970.
    pub at_ms: i64,
}

/// Appends the headers that say why a record was given up.
pub fn write_given_up(given_up: &GivenUp<'_>, out: &mut HeaderBuffer) {
    out.push(PREFIX, VERSION.as_bytes());
    push(out, "stage", Stage::Failed.as_str());
    push(out, "code", given_up.code);
    push(out, "message", given_up.reason);
    push(out, "event", given_up.event);
    push(out, "at", &at(given_up.at_ms));
    push(out, "topic", given_up.topic);
}

/// How much of an event the value of its dead letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The payload.
    Payload,
    /// Envelope and payload together.
    Event,
}

impl Part {
    /// As it stands in the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Part::Payload => "payload",
            Part::Event => "event",
        }
    }
}

/// Why the reply refused an event, and how it came.
#[derive(Clone, Debug)]
pub struct Rejected<'a> {
    /// The reply's code.
    pub code: &'a str,
    /// The reply's message, which never holds a value of the payload.
    pub message: &'a str,
    /// Event name.
    pub event: &'a str,
    /// Its id; empty where that is not known.
    pub id: &'a str,
    /// The door's name in metrics.
    pub door: &'a str,
    /// How much of it the value is.
    pub part: Part,
    /// `base64` where the value is that.
    pub encoding: Option<&'a str>,
    /// The schema that it names.
    pub schema: Option<&'a str>,
    /// When it was received, milliseconds since 1970; it was rejected within the same request.
    pub received_ms: i64,
}

/// Appends the headers that say why an event was rejected.
pub fn write_rejected(rejected: &Rejected<'_>, out: &mut HeaderBuffer) {
    out.push(PREFIX, VERSION.as_bytes());
    push(out, "stage", Stage::Rejected.as_str());
    push(out, "code", rejected.code);
    push(out, "message", rejected.message);
    push(out, "event", rejected.event);
    push(out, "at", &at(rejected.received_ms));
    if !rejected.id.is_empty() {
        push(out, "id", rejected.id);
    }
    push(out, "door", rejected.door);
    push(out, "part", rejected.part.as_str());
    for (ending, value) in [("encoding", rejected.encoding), ("schema", rejected.schema)] {
        if let Some(value) = value {
            push(out, ending, value);
        }
    }
}

/// What the headers of a kept record say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// How far the event came.
    pub stage: Stage,
    /// Why, as a code.
    pub code: String,
    /// Why, for people.
    pub message: String,
    /// Event name.
    pub event: String,
    /// The topic that a record was meant for that was given up.
    pub topic: Option<String>,
    /// The id of an event that was rejected.
    pub id: Option<String>,
    /// How much of a rejected event the value is.
    pub part: Option<Part>,
    /// Whether the value is base64 of that.
    pub is_base64: bool,
    /// The schema that a rejected event names, `version:N` or `id:N`.
    pub schema: Option<String>,
}

/// Why headers say nothing that we understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ReadError {
    #[error("the record has no header `{PREFIX}`: it is no dead letter of ours")]
    NoDeadLetter,
    #[error("header `{PREFIX}` has version `{0}`, this program reads {VERSION}")]
    Version(String),
    #[error("header `{PREFIX}-{0}` is missing or damaged")]
    Damaged(&'static str),
}

/// Reads why a record is kept.
///
/// # Errors
/// [`ReadError`], for records that no proxy of this version has written.
pub fn read<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Reason, ReadError> {
    let ours: Vec<_> = headers.filter(|(name, _)| is_ours(name)).collect();
    let find = |ending: &str| {
        let found = ours.iter().find(|(name, _)| name[PREFIX.len()..].trim_start_matches('-') == ending);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok()).map(str::to_owned)
    };
    let need = |ending: &'static str| find(ending).ok_or(ReadError::Damaged(ending));
    match find("").ok_or(ReadError::NoDeadLetter)? {
        version if version == VERSION => {}
        other => return Err(ReadError::Version(other)),
    }
    let stage = need("stage")?;
    let stage = [Stage::Rejected, Stage::Failed].into_iter().find(|known| known.as_str() == stage);
    Ok(Reason {
        stage: stage.ok_or(ReadError::Damaged("stage"))?,
        code: need("code")?,
        message: need("message")?,
        event: need("event")?,
        topic: find("topic"),
        id: find("id"),
        part: find("part")
            .and_then(|part| [Part::Payload, Part::Event].into_iter().find(|known| known.as_str() == part)),
        is_base64: find("encoding").is_some_and(|encoding| encoding == "base64"),
        schema: find("schema"),
    })
}

/// Whether a header says something about why its record is kept, and is no part of the record.
pub fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn push(out: &mut HeaderBuffer, ending: &str, value: &str) {
    out.push(&format!("{PREFIX}-{ending}"), value.as_bytes());
}

fn at(milliseconds: i64) -> String {
    let nanos = milliseconds.rem_euclid(1_000) * 1_000_000;
    time::from_timestamp(milliseconds.div_euclid(1_000), nanos as i32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> HeaderBuffer {
        let mut headers = HeaderBuffer::default();
        headers.push("ce_id", b"1");
        let given_up = GivenUp {
            code: "delivery_failed",
            reason: "forbidden",
            event: "a.b",
            topic: "t",
            at_ms: 1_700_000_000_123,
        };
        write_given_up(&given_up, &mut headers);
        headers
    }

    #[test]
    fn what_was_written_of_a_record_that_was_given_up_is_read_back() {
        let headers = headers();
        let reason = read(headers.iter()).expect("it was just written");
        assert_eq!(
            (reason.stage, reason.code.as_str(), reason.message.as_str()),
            (Stage::Failed, "delivery_failed", "forbidden")
        );
        assert_eq!((reason.event.as_str(), reason.topic.as_deref()), ("a.b", Some("t")));
        assert!(headers.iter().any(|header| header == ("iguazu-dead-letter-at", b"2023-11-14T22:13:20.123Z")));
        let own: Vec<_> = headers.iter().filter(|(name, _)| !is_ours(name)).collect();
        assert_eq!(own, [("ce_id", &b"1"[..])]);
    }

    #[test]
    fn what_was_written_of_a_rejected_event_is_read_back() {
        let mut headers = HeaderBuffer::default();
        let rejected = Rejected {
            code: "invalid_payload",
            message: "at `a.b`: a string is expected",
            event: "a.b",
            id: "7",
            door: "events",
            part: Part::Event,
            encoding: Some("base64"),
            schema: Some("version:3"),
            received_ms: 1_700_000_000_123,
        };
        write_rejected(&rejected, &mut headers);
        let reason = read(headers.iter()).expect("it was just written");
        assert_eq!(
            (reason.stage, reason.code.as_str(), reason.message.as_str()),
            (Stage::Rejected, rejected.code, rejected.message)
        );
        assert_eq!(
            (reason.part, reason.is_base64, reason.schema.as_deref()),
            (Some(Part::Event), true, Some("version:3"))
        );
        assert_eq!((reason.id.as_deref(), reason.topic), (Some("7"), None));
        assert!(headers.iter().all(|(name, _)| is_ours(name)));
    }

    #[test]
    fn headers_of_another_version_or_of_somebody_else_are_refused() {
        assert_eq!(read([("ce_id", &b"1"[..])].into_iter()), Err(ReadError::NoDeadLetter));
        assert_eq!(read([("iguazu-dead-letters", &b"1"[..])].into_iter()), Err(ReadError::NoDeadLetter));
        assert_eq!(read([(PREFIX, &b"2"[..])].into_iter()), Err(ReadError::Version("2".to_owned())));
        assert_eq!(read([(PREFIX, &b"1"[..])].into_iter()), Err(ReadError::Damaged("stage")));
        let all = headers();
        for missing in ["code", "message", "event"] {
            let rest = all.iter().filter(|(name, _)| !name.ends_with(missing));
            assert_eq!(read(rest), Err(ReadError::Damaged(missing)));
        }
    }
}
