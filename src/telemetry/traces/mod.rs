//! Spans of sampled requests and of their events: where the time went, and what belongs together across services.
//!
//! In: a request's and an event's W3C trace context (`traceparent`), when they begin and how they end. Out: spans, handed to the
//! exporter; and the trace context that goes to Kafka, so that whoever reads the record goes on with the trace. Never: an
//! allocation, a lock or a look at the clock for what is not sampled, waits for the exporter, a payload or a key in a span.
//!
//! Sampled is what its sender says is (the flag of its `traceparent`), and of requests that say nothing a share
//! (`sample_ratio`). A sampled request is one span, and so is the delivery of each of its first [`EVENTS_MAX`] events, from
//! the check of its limits to Kafka's acknowledgement. An event that brings a trace context of its own, as events that were
//! collected do, belongs to that trace, and its span is linked to the request's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use crate::outcome::{Account, Delivery};
use crate::telemetry::sources;

mod export;

pub use export::{Exporter, SetupError};

/// Events of a request that have a span of their own; the others' records carry the request's trace context.
pub const EVENTS_MAX: u32 = 64;

/// Spans that wait for the exporter. At some 500 bytes a span this is 2 MB.
const QUEUE_MAX: usize = 4_096;

/// Length of a `traceparent` of version 00.
const TEXT_BYTES: usize = 55;

/// Hands spans over, and decides what is sampled.
#[derive(Debug)]
pub struct Tracer {
    queue: mpsc::Sender<Span>,
    /// Of 2^56 requests without a parent so many are sampled.
    sampled_below: u64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Tracer {
    /// A tracer that samples this share of the requests without a parent, and where its spans come out.
    fn new(sample_ratio: f64) -> (Arc<Tracer>, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(QUEUE_MAX);
        let sampled_below = (sample_ratio.clamp(0.0, 1.0) * (1u64 << 56) as f64) as u64;
        (Arc::new(Tracer { queue, sampled_below, counts: Counts::default() }), spans)
    }

    /// What became of spans so far.
    pub fn counts(&self) -> sources::Spans {
        let Counts { exported, dropped, failed } = &self.counts;
        sources::Spans {
            exported: exported.load(Relaxed),
            dropped: dropped.load(Relaxed),
            failed: failed.load(Relaxed),
        }
    }

    fn hand_over(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Whether a request without a parent is sampled, by its fresh trace id. The last seven bytes of it are random (W3C trace
    /// context, level 2, section 3.2.2.3).
    fn samples(&self, trace_id: [u8; 16]) -> bool {
        let last = trace_id[9..].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        last < self.sampled_below
    }
}

/// Where a span stands: its trace and itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Context {
    trace_id: [u8; 16],
    span_id: [u8; 8],
}

impl Context {
    /// The context in a `traceparent` that is one.
    fn read(text: &str) -> Option<Context> {
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        hex::decode_to_slice(text.get(3..35)?, &mut trace_id).ok()?;
        hex::decode_to_slice(text.get(36..52)?, &mut span_id).ok()?;
        Some(Context { trace_id, span_id })
    }

    /// As a sampled `traceparent`.
    fn text(self) -> [u8; TEXT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
        hex::encode_to_slice(self.trace_id, &mut text[3..35]).expect("32 digits of 16 bytes");
        hex::encode_to_slice(self.span_id, &mut text[36..52]).expect("16 digits of 8 bytes");
        text
    }

    /// The same trace, another span of it.
    fn child(self) -> Context {
        Context { span_id: fresh_span_id(), ..self }
    }
}

/// Not all zero: a UUID of version 4 says so in its bits.
fn fresh_span_id() -> [u8; 8] {
    let random = uuid::Uuid::new_v4();
    random.as_bytes()[8..].try_into().expect("a UUID has 16 bytes")
}

/// The lowest bit of the flags.
fn is_sampled(traceparent: &str) -> bool {
    let last = traceparent.as_bytes().get(TEXT_BYTES - 1).copied().unwrap_or(b'0');
    matches!(last, b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f')
}

/// A request as traces see it, sampled or not.
#[derive(Debug)]
pub struct Tracing<'t> {
    tracer: &'t Arc<Tracer>,
    /// None: it is not sampled.
    own: Option<Own>,
    /// Events that may still have a span.
    events_left: AtomicU32,
    events: AtomicU32,
    refused: AtomicU32,
}

#[derive(Debug)]
struct Own {
    context: Context,
    text: [u8; TEXT_BYTES],
    parent: Option<[u8; 8]>,
    begun_ns: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// Path of the door, with `{event}` for what differs.
    pub route: &'static str,
    /// HTTP status.
    pub status: u16,
}

impl<'t> Tracing<'t> {
    /// A request begins, with the `traceparent` that it brought, which must be one.
    pub fn begin(tracer: &'t Arc<Tracer>, parent: Option<&str>) -> Tracing<'t> {
        let own = match parent {
            Some(parent) if is_sampled(parent) => Context::read(parent).map(Own::below),
            Some(_) => None,
            None if tracer.sampled_below == 0 => None,
            None => Own::root(tracer),
        };
        let zero = || AtomicU32::new(0);
        Tracing { tracer, own, events_left: AtomicU32::new(EVENTS_MAX), events: zero(), refused: zero() }
    }

    /// The trace context of the request's own span, if it is sampled.
    pub fn traceparent(&self) -> Option<&str> {
        self.own.as_ref().map(|own| as_text(&own.text))
    }

    /// Notes how many events there were, and how many of them were refused.
    pub fn note(&self, events: u32, refused: u32) {
        self.events.store(events, Relaxed);
        self.refused.store(refused, Relaxed);
    }

    /// The delivery of one event begins, with the trace context that it brought itself. None where it is not sampled, or too
    /// many others of its request are.
    #[inline]
    pub fn deliver(&self, own: Option<&str>, topic: &str) -> Option<Box<DeliverySpan>> {
        match own {
            Some(own) if is_sampled(own) => self.begin_delivery(Context::read(own)?, self.own.as_ref(), topic),
            Some(_) => None,
            None => self.begin_delivery(self.own.as_ref()?.context, None, topic),
        }
    }

    #[cold]
    fn begin_delivery(&self, above: Context, link: Option<&Own>, topic: &str) -> Option<Box<DeliverySpan>> {
        self.events_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).ok()?;
        let context = above.child();
        Some(Box::new(DeliverySpan {
            tracer: Arc::clone(self.tracer),
            context,
            text: context.text(),
            parent: above.span_id,
            link: link.map(|own| own.context),
            topic: topic.to_owned(),
            begun_ns: now_ns(),
        }))
    }

    /// The request is answered.
    pub fn end(self, end: &End<'_>) {
        let Some(Own { context, parent, begun_ns, .. }) = self.own else { return };
        let attributes = vec![
            ("http.request.method", Value::Text(end.method.to_owned())),
            ("http.route", Value::Text(end.route.to_owned())),
            ("http.response.status_code", Value::Number(i64::from(end.status))),
            ("messaging.batch.message_count", Value::Number(i64::from(self.events.load(Relaxed)))),
            ("iguazu.events.refused", Value::Number(i64::from(self.refused.load(Relaxed)))),
        ];
        let (name, kind) = (format!("{} {}", end.method, end.route), Kind::Server);
        // As OpenTelemetry has it for servers: what the sender did wrong is no error of the span.
        let error = (end.status >= 500).then(|| end.status.to_string());
        let (link, ended_ns) = (None, now_ns());
        self.tracer.hand_over(Span { context, parent, link, name, kind, begun_ns, ended_ns, error, attributes });
    }
}

impl Own {
    fn below(above: Context) -> Own {
        let context = above.child();
        Own { context, text: context.text(), parent: Some(above.span_id), begun_ns: now_ns() }
    }

    fn root(tracer: &Tracer) -> Option<Own> {
        let trace_id = *uuid::Uuid::new_v4().as_bytes();
        tracer.samples(trace_id).then(|| {
            let context = Context { trace_id, span_id: fresh_span_id() };
            Own { context, text: context.text(), parent: None, begun_ns: now_ns() }
        })
    }
}

/// The delivery of one sampled event. It is exported when it ends; one that is dropped before was none.
#[derive(Debug)]
pub struct DeliverySpan {
    tracer: Arc<Tracer>,
    context: Context,
    text: [u8; TEXT_BYTES],
    parent: [u8; 8],
    link: Option<Context>,
    topic: String,
    begun_ns: u64,
}

impl DeliverySpan {
    /// The trace context that goes to Kafka.
    pub fn traceparent(&self) -> &str {
        as_text(&self.text)
    }

    /// The event's record is settled.
    #[cold]
    pub fn end(self, account: &Account, delivery: Delivery) {
        let DeliverySpan { tracer, context, parent, link, topic, begun_ns, .. } = self;
        let mut attributes = vec![
            ("messaging.system", Value::Text("kafka".to_owned())),
            ("messaging.operation.type", Value::Text("send".to_owned())),
            ("iguazu.event", Value::Text(account.event.clone())),
            ("iguazu.cluster", Value::Text(account.cluster.clone())),
        ];
        let (outcome, error) = match delivery {
            Delivery::Delivered { partition, offset } => {
                attributes.push(("messaging.destination.partition.id", Value::Text(partition.to_string())));
                attributes.push(("messaging.kafka.offset", Value::Number(offset)));
                ("delivered", None)
            }
            Delivery::Spooled => ("spooled", None),
            Delivery::Failed(code) => (code.as_str(), Some(code.as_str().to_owned())),
        };
        attributes.push(("iguazu.outcome", Value::Text(outcome.to_owned())));
        let name = format!("send {topic}");
        attributes.push(("messaging.destination.name", Value::Text(topic)));
        let (parent, kind, ended_ns) = (Some(parent), Kind::Producer, now_ns());
        tracer.hand_over(Span { context, parent, link, name, kind, begun_ns, ended_ns, error, attributes });
    }
}

/// A span that has ended.
#[derive(Debug)]
struct Span {
    context: Context,
    parent: Option<[u8; 8]>,
    link: Option<Context>,
    name: String,
    kind: Kind,
    begun_ns: u64,
    ended_ns: u64,
    /// What went wrong, of what is ours or Kafka's.
    error: Option<String>,
    attributes: Vec<(&'static str, Value)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Server,
    Producer,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Number(i64),
}

fn as_text(text: &[u8; TEXT_BYTES]) -> &str {
    std::str::from_utf8(text).expect("hex digits and dashes")
}

fn now_ns() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::is_traceparent;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const NOT_SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn trace_of(text: &str) -> &str {
        &text[3..35]
    }

    #[test]
    fn who_brings_a_context_decides_and_else_the_ratio_does() {
        let check = |ratio: f64, parent: Option<&str>, expected: bool| {
            let (tracer, _spans) = Tracer::new(ratio);
            let tracing = Tracing::begin(&tracer, parent);
            assert_eq!(tracing.traceparent().is_some(), expected, "{ratio} {parent:?}");
            assert!(tracing.traceparent().is_none_or(|text| is_traceparent(text) && is_sampled(text)));
        };
        check(0.0, None, false);
        check(0.0, Some(SAMPLED), true);
        check(1.0, None, true);
        check(1.0, Some(NOT_SAMPLED), false);
    }

    #[test]
    fn a_ratio_samples_about_so_many() {
        let (tracer, _spans) = Tracer::new(0.25);
        let sampled = (0..4_000).filter(|_| Tracing::begin(&tracer, None).traceparent().is_some()).count();
        assert!((800..1_200).contains(&sampled), "{sampled} of 4000");
    }

    #[test]
    fn a_span_is_below_its_parent_and_in_its_trace() {
        let (tracer, mut spans) = Tracer::new(0.0);
        let tracing = Tracing::begin(&tracer, Some(SAMPLED));
        let own = tracing.traceparent().unwrap().to_owned();
        assert_eq!(trace_of(&own), trace_of(SAMPLED));
        let delivery = tracing.deliver(None, "orders").unwrap();
        assert_eq!(trace_of(delivery.traceparent()), trace_of(SAMPLED));
        assert_eq!(delivery.parent, Context::read(&own).unwrap().span_id);
        assert_eq!(delivery.link, None);
        tracing.end(&End { method: "POST", route: "/v1/events", status: 202 });
        let span = spans.try_recv().unwrap();
        assert_eq!(span.parent, Some(Context::read(SAMPLED).unwrap().span_id));
        assert!(spans.try_recv().is_err(), "a delivery that did not end is none");
    }

    #[test]
    fn an_event_with_a_context_of_its_own_belongs_to_that_trace_and_is_linked() {
        const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-01";
        let (tracer, _spans) = Tracer::new(0.0);
        let sampled = Tracing::begin(&tracer, Some(SAMPLED));
        let delivery = sampled.deliver(Some(OTHER), "orders").unwrap();
        assert_eq!(trace_of(delivery.traceparent()), trace_of(OTHER));
        assert_eq!(delivery.link, Context::read(sampled.traceparent().unwrap()));
        assert!(sampled.deliver(Some(NOT_SAMPLED), "orders").is_none());
        let unsampled = Tracing::begin(&tracer, None);
        assert_eq!(unsampled.deliver(Some(OTHER), "orders").unwrap().link, None);
        assert!(unsampled.deliver(None, "orders").is_none());
    }

    #[test]
    fn a_large_batch_has_spans_of_its_first_events_only() {
        let (tracer, _spans) = Tracer::new(0.0);
        let tracing = Tracing::begin(&tracer, Some(SAMPLED));
        let spans = (0..1_000).filter(|_| tracing.deliver(None, "orders").is_some()).count();
        assert_eq!(spans, EVENTS_MAX as usize);
    }

    #[test]
    fn spans_that_nobody_fetches_are_dropped_and_counted() {
        let (tracer, _spans) = Tracer::new(1.0);
        for _ in 0..QUEUE_MAX + 3 {
            Tracing::begin(&tracer, None).end(&End { method: "GET", route: "/", status: 200 });
        }
        assert_eq!(tracer.counts().dropped, 3);
    }
}
