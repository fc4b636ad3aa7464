//! The promises of Iguazu, tested on the real binary, a real Apache Kafka and a real schema registry.
//!
//! `tests/run.sh` fetches what they need and runs them; after `tests/run.sh --fetch`, `cargo test --test it NAME` runs one.

mod support;

mod path;
mod round_trip;
mod replies;
mod batches;
mod canary;
mod traces;
mod shown;
mod keys;
mod mappings;
mod brokers;
mod faults;
mod chaos;
mod drain;
mod roll;
mod spool;
mod outage;
mod wal;
mod ctl;
mod alerts;
mod dashboards;
mod dead_letters;
mod rejected;
mod failover;
mod frozen;
mod hostile;
mod bulkhead;
mod reload;
mod degraded;
mod registry;
mod evolution;
mod subjects;
mod senders;
mod control_accidents;
mod control_api;
mod control_live;
mod control_nodes;
mod control_onboarding;
mod control_requests;
mod control_reconcile;
mod control_routes;
mod control_deletion;
mod control_reconcile_scale;
mod control_diagnosis;
mod control_store;
mod kafka_admin;
mod kafka_admin_faults;
mod dev;
mod images;
mod tools;
mod find;
mod schemas;
mod registry_clients;
mod schema_rules;
mod consumer;
mod consumer_example;
mod vectors;
mod transcode;

mod harness;
mod log_page;
mod tidy;
