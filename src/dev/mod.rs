//! Embedded brokers, an embedded registry and what reads a topic back, for `iguazu dev`, `iguazu tail` and tests.

pub mod brokers;
pub mod read_back;
pub mod registry;
