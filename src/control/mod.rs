//! The management plane: topics, users, access and quotas without a person, and without a surprise.
//!
//! In: requests of people, of CI jobs and of other programs. Out: Kafka as they wish it. Never: is named by the path of an event,
//! carries an event, changes what it does not own, makes a change that was not planned, decided and written down first, guesses what
//! an unanswered change came to.
//!
//! ```text
//!  ask ─▶ request: check ─▶ plan ─▶ decide ─▶ reserve ─┬─▶ refused, with all reasons
//!         (one transaction)  provider  policy   store  ├─▶ pending ── approve ──┐
//!                            capacity                  └─▶ approved ◀───────────┘
//!                                                             │ apply: observe, compare, act, read back
//!                                                             ▼
//!                                                       kafka, store: resources, journal, audit
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`resource`] | what is managed: kinds, their names, and what is said of each |
//! | [`capacity`] | megabytes a second and hours -> partitions, configs, and the disk to reserve |
//! | [`policy`] | who decides: an ordered table of rules, as data |
//! | [`actor`] | who asks, and what they may |
//! | [`world`] | what a change is judged against |
//! | `admission` | whether a cluster has room for what is asked |
//! | [`probe`] | what a cluster is, what it can do, how much room it has |
//! | [`gate`] | the last door before a cluster: no write to one that is only looked at |
//! | [`provider`] | what each kind knows how to do: check, plan, observe, act |
//! | [`origin`] | which side changes a resource: the API, or the files of one repository |
//! | [`request`] | a request on its way in, and its approvals |
//! | [`quiet`] | deletion of topics, after a period in which it can be called off |
//! | `left` | what would be left without a service or cluster that is to go |
//! | [`apply`] | an approved request carried out, step by step, in a journal |
//! | [`reconcile`] | what is there against what is desired: findings, diagnosis, budgets, forecasts |
//! | [`store`] | SQLite or Postgres: resources, requests, reservations, leases, audit |
//! | [`snapshot`] | what the proxies get of it: event types, senders, limits, brakes; signed, by long poll |
//! | [`seal`] | secrets at rest |
//! | [`sink`] | where a new password is put instead of being shown |
//! | [`api`] | HTTP and JSON in front of all this: who may come in, routes, replies |
//! | [`node`] | a node put together, and its end |
//! | [`kafka`] | administration of a Kafka cluster: one trait, and the client that speaks Kafka's protocol |
//!
//! # Where things will go
//!
//! Import, incident operations and rotation jobs come beside these.

pub mod resource;
pub mod capacity;
pub mod policy;
pub mod actor;
pub mod world;
mod admission;
pub mod probe;
pub mod gate;
pub mod provider;
pub mod origin;
pub mod request;
pub mod quiet;
mod left;
pub mod apply;
pub mod reconcile;
pub mod store;
pub mod snapshot;
pub mod seal;
pub mod sink;
mod private_file;
pub mod kafka;
pub mod api;
pub mod node;
