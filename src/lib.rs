//! Iguazu: a high-throughput event ingestion proxy in front of Kafka.
//!
//! Services POST events as Protobuf or JSON, phones and browsers POST raw JSON. Each event is checked against a cached
//! schema, its payload becomes an Avro datum (or stays Protobuf or JSON), its envelope becomes Kafka headers, and it is
//! produced to the cluster and topic that its event type is mapped to.
//!
//! # The path of an event
//!
//! ```text
//!            sender                                                         Kafka
//!              │ POST                                                         ▲
//!              ▼                                                              │
//!  serve ─▶ http ─▶ envelope ─▶ route ─▶ admit ─▶ schema ─▶ transcode ─▶ produce ─┐
//!  sockets  doors   Batch ▸     Event     auth,    Schema    Plan ▸       Client   │ delivery
//!  drain    bodies  Event       Type      limits   Set       Record       Tracked  │ report
//!              ▲                                                                   │
//!              └──────────── reply ◀── outcome: Code, BatchState, Ledger ◀─────────┘
//!                                                     Kafka down: produce ─▶ spool ─▶ produce
//!
//!  behind the path:  config ─▶ feed ─▶ Snapshot ─▶ pipeline     telemetry ◀─ ledger, clients, registries
//!  beside it:        control ─▶ Kafka's topics, access rules, users and quotas
//! ```
//!
//! Beside it is the way back: [`consume`] turns records into events again, for consumers written in Rust and for `tail`.
//!
//! [`pipeline`] is the only place that knows the order; no step knows the next. Between counting an event `received` and
//! handing it to a producer there is no `.await`, so a sender that goes away cannot make an event fall between.
//!
//! # Invariants
//!
//! - Every event is accounted for: `received + recovered = delivered + rejected + failed + lost + in memory + in spool`, per
//!   event type, and `lost = 0` ([`outcome::Ledger`]).
//! - No registry call on the path of an event: [`feed`] fetches ahead, refreshes behind, serves stale.
//! - [`route`], [`envelope`], [`transcode`], [`outcome`] and [`pipeline`] do no I/O and never name `hyper`, `reqwest` or
//!   `rdkafka`; those appear in [`http`] and [`serve`], in [`outbound`] and what asks through it, and in [`produce`], [`dev`] and [`cli`].
//! - Nothing is unbounded, nothing waits without a limit, no task runs without an owner that joins it.
//! - A payload's value is never in a log line, an error or a metric.
//!
//! # Glossary
//!
//! One event in all its names: the **event** `delivery.status_changed` is routed by its **event type** to the **topic**
//! `delivery_status_changed` on the **cluster** `core`; its schema is **subject** `delivery.v1.StatusChanged` in the
//! registry, whose **message** has the same full name.
//!
//! - *sender*: who is allowed to send which events, known by an API key.
//! - *door*: one way in: a path and its body forms, behind which all is the same.
//! - *envelope*: what stands beside the payload: id, source, time, key, properties, headers, trace context.
//! - *snapshot*: event types, plans, producers and senders as of one moment; replaced whole.
//! - *plan*: a schema compiled to tables, once; it turns payloads into values. Of a Protobuf message, an Avro schema or a JSON
//!   Schema, by the language of the subject.
//! - *record*: what goes to Kafka: key, value, headers, timestamp.
//! - *lane*: one producer client of a cluster: `standard` (acks=1), `slow` (longer linger), `all` (acks=all, idempotent), `wal`,
//!   `dead_letter` (acks=all, a small buffer).
//! - *wal*: the log on disk that events of the lane `wal` go to first, and from which they are produced in order.
//! - *breaker*: whether a cluster takes records: closed, open, or half-open while it is tried.
//! - *stand in*: what a cluster does for another one whose breaker is open; an event counts for its *intended* cluster wherever it is.
//! - *spool*: the disk beside the producers, one a cluster: an *entry* is a record that waits there, *replay* produces it.
//! - *dead letter*: a rejected event, or the record of a failed one, in a topic for people; *failed log*: the disk for records that
//!   have no such topic; *redrive* takes both back.
//! - *delivery*: what Kafka finally said of a record; *outcome*: what became of an event; *code*: its stable name.
//! - *ledger*: the counts that show that no event fell between.
//!
//! # Where things will go
//!
//! Another kind of resource is a provider in [`control`]; another door a file in [`http`]; another framing of what a consumer reads
//! goes into [`envelope`], so that both ways know it.

#![deny(unsafe_code, missing_docs)]
#![warn(rust_2018_idioms)]

// In reading order: the path first, then what feeds it, then what is around it.
pub mod pipeline;
pub mod outcome;
pub mod http;
pub mod auth;
pub mod envelope;
pub mod route;
pub mod schema;
pub mod transcode;
pub mod spool;
pub mod dead_letter;
pub mod produce;
pub mod feed;
pub mod control;
pub mod proxy;
pub mod serve;
pub mod outbound;
pub mod telemetry;
pub mod config;
pub mod consume;
pub mod dev;
pub mod cli;
