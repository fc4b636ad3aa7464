//! The promises of Iguazu, tested on the real binary, a real Apache Kafka and a real schema registry.
//!
//! `tests/run.sh` fetches what they need and runs them; after `tests/run.sh --fetch`, `cargo test --test it NAME` runs one.

mod support;

mod path;
mod round_trip;
mod replies;
mod batches;
mod canary;
mod keys;
mod mappings;
mod brokers;
mod faults;
mod chaos;
mod drain;
mod spool;
mod outage;
mod wal;
mod ctl;
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
mod control_api;
mod control_nodes;
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
mod tools;
mod find;
mod schemas;
mod registry_clients;
mod schema_rules;
mod consumer;
mod consumer_example;
mod examples;
mod vectors;
mod transcode;

mod docs;
mod release;
mod harness;
mod tidy;
