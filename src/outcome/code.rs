//! The codes: what became of an event or of a request, as replies, metrics and logs say it.
//!
//! In: nothing. Out: a closed set of names, each with its HTTP status, whose fault it is, and one sentence for people. Never: anything
//! that depends on an event.

/// Whose mistake an error is: the reply's status and the log level follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody's: the event went through.
    None,
    /// The sender must change the event or the request; sending it again as it is will fail again.
    Sender,
    /// Ours or Kafka's: the same event may succeed later.
    Ours,
}

/// Makes the closed set of codes: name, wire form, HTTP status when every event of a request ended so,
/// fault, whether sending the same event again can help, and one sentence for the documentation.
macro_rules! codes {
    ($($name:ident, $text:literal, $status:literal, $fault:ident, $retry:literal, $help:literal;)*) => {
        /// What became of an event or of a request. Stable: replies, metrics and logs use [`Code::as_str`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Code { $(#[doc = $help] $name,)* }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as it stands in replies, labels and logs.
            pub const fn as_str(self) -> &'static str { match self { $(Code::$name => $text,)* } }

            /// The HTTP status of a reply in which every event ended with this code.
            pub const fn status(self) -> u16 { match self { $(Code::$name => $status,)* } }

            /// Whose fault it is.
            pub const fn fault(self) -> Fault { match self { $(Code::$name => Fault::$fault,)* } }

            /// Whether the same event may succeed when it is sent again.
            pub const fn retry(self) -> bool { match self { $(Code::$name => $retry,)* } }

            /// One sentence for people: what it means and what to do.
            pub const fn help(self) -> &'static str { match self { $(Code::$name => $help,)* } }
        }
    };
}

codes! {
    Enqueued, "enqueued", 202, None, false, "checked, converted and in the producer's buffer; Kafka has not answered yet";
    Spooled, "spooled", 202, None, false, "Kafka does not take the event now; it is on the proxy's disk and is delivered when Kafka does";
    SampledOut, "sampled_out", 202, None, false, "operators let only a sample of this event type or sender through (`sample`), and the event is not in it: it was left out, on purpose";
    Acknowledged, "acknowledged", 200, None, false, "Kafka acknowledged the record; the result names its partition and offset";
    Durable, "durable", 200, None, false, "the event is on the proxy's disk and is delivered whatever happens to the process, or Kafka's in-sync replicas all have it";
    Valid, "valid", 200, None, false, "dry run: the event would be taken, as its result shows; nothing was produced";

    InvalidBody, "invalid_body", 400, Sender, false, "the request's body could not be parsed, so no event of it was taken";
    InvalidParameter, "invalid_parameter", 400, Sender, false, "a query parameter or header of the request has a value that is not allowed";
    ReplyNotOffered, "reply_not_offered", 400, Sender, false, "the request asks for `reply=durable`, which the event type does not offer; operators set `reply = \"durable\"`";
    Unauthenticated, "unauthenticated", 401, Sender, false, "the request has no API key, or one that no sender has; send `Authorization: Bearer <key>`";
    ForbiddenEvent, "forbidden_event", 403, Sender, false, "the sender is not allowed to send this event; its `events` setting lists those it may";
    NotFound, "not_found", 404, Sender, false, "there is no such path on this listener";
    UnknownEvent, "unknown_event", 404, Sender, false, "no event type has this name; the message names the nearest one that the sender may send, operators add others under `[events]`";
    MethodNotAllowed, "method_not_allowed", 405, Sender, false, "the path exists, but not with this method";
    BodyTimeout, "body_timeout", 408, Sender, true, "the request's body did not arrive in time";
    BodyTooLarge, "body_too_large", 413, Sender, false, "the request's body is over the limit, as sent or after decompression; send smaller batches";
    BatchTooLong, "batch_too_long", 413, Sender, false, "the request holds more events than a batch may; send smaller batches";
    EventTooLarge, "event_too_large", 413, Sender, false, "the event or its record is over the limit of its event type or topic";
    UnsupportedMediaType, "unsupported_media_type", 415, Sender, false, "the `Content-Type` or `Content-Encoding` is none that this path takes";

    InvalidEnvelope, "invalid_envelope", 422, Sender, false, "a field of the envelope is missing, has the wrong type or an illegal value";
    WrongFormat, "wrong_format", 422, Sender, false, "the event type does not take payloads of this format";
    InvalidPayload, "invalid_payload", 422, Sender, false, "the payload does not fit the schema at the path that the message names";
    MalformedJson, "malformed_json", 422, Sender, false, "the payload is not valid JSON";
    MalformedProtobuf, "malformed_protobuf", 422, Sender, false, "the payload is not a valid Protobuf message on the wire";
    MalformedAvro, "malformed_avro", 422, Sender, false, "the payload is not a valid Avro datum of its schema";
    InvalidUtf8, "invalid_utf8", 422, Sender, false, "a string is not valid UTF-8";
    UnknownField, "unknown_field", 422, Sender, false, "the payload has a field that the schema does not have, and the event type refuses those";
    MissingField, "missing_field", 422, Sender, false, "a required field is missing";
    OutOfRange, "out_of_range", 422, Sender, false, "a number, timestamp or duration is outside the range of its field";
    UnknownEnumValue, "unknown_enum_value", 422, Sender, false, "an enum field names no constant of its enum";
    TooDeep, "too_deep", 422, Sender, false, "messages or JSON values nest deeper than 100 levels";
    PayloadExpands, "payload_expands", 422, Sender, false, "the payload would expand into far more bytes or nodes than it has";
    MissingKey, "missing_key", 422, Sender, false, "the event type needs a key and the event has none";
    UnknownSchema, "unknown_schema", 422, Sender, false, "the schema version or id that the event names is not one of the event type's subject";
    RateLimited, "rate_limited", 429, Sender, true, "the sender or the event type is over its limit; wait as long as `Retry-After` says";

    Internal, "internal", 500, Ours, true, "a bug of ours; the log of the proxy has more";
    Overloaded, "overloaded", 503, Ours, true, "too many connections or too many bytes in flight; retry after the pause that `Retry-After` names";
    EventTypeUnavailable, "event_type_unavailable", 503, Ours, true, "the event type's cluster, topic or schema is not available; it is tried again by itself, `/ready` on the admin listener says why";
    Disabled, "disabled", 503, Ours, true, "operators have disabled the event type or the sender for now (`disabled`); wait as long as `Retry-After` says";
    BufferFull, "buffer_full", 503, Ours, true, "the buffer of the event type's cluster is full; retry after the pause that `Retry-After` names";
    DiskUnavailable, "disk_unavailable", 503, Ours, true, "the event type needs the proxy's disk, which is full or does not work now; retry after the pause that `Retry-After` names";
    DeliveryFailed, "delivery_failed", 503, Ours, true, "Kafka refused the record, or the client gave it up before it was written";
    RecordRefused, "record_refused", 422, Sender, false, "the broker refuses this record for good, for example as too large";
    Unknown, "unknown", 504, Ours, true, "the deadline passed before Kafka answered; the event may have been written, send it again with the same id";
}

impl Code {
    /// The position in [`Code::ALL`], for tables indexed by code.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it is the event itself that is refused: not who sent it, how often, or that it cannot be taken now.
    pub const fn is_about_content(self) -> bool {
        matches!(
            self,
            Code::EventTooLarge
                | Code::InvalidEnvelope
                | Code::WrongFormat
                | Code::InvalidPayload
                | Code::MalformedJson
                | Code::MalformedProtobuf
                | Code::MalformedAvro
                | Code::InvalidUtf8
                | Code::UnknownField
                | Code::MissingField
                | Code::OutOfRange
                | Code::UnknownEnumValue
                | Code::TooDeep
                | Code::PayloadExpands
                | Code::MissingKey
                | Code::UnknownSchema
        )
    }

    /// Whether the event went through as far as the reply says.
    pub const fn is_success(self) -> bool {
        matches!(self.fault(), Fault::None)
    }
}
