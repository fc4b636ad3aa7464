//! Iguazu: an event ingestion proxy in front of Kafka.

#![deny(unsafe_code)]

pub mod pipeline;
pub mod outcome;
pub mod http;
pub mod auth;
pub mod envelope;
pub mod route;
pub mod schema;
pub mod transcode;
pub mod produce;
pub mod feed;
pub mod serve;
pub mod telemetry;
pub mod config;
pub mod dev;
pub mod cli;
