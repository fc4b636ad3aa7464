//! Embedded brokers and what reads a topic back, for `iguazu dev`, `iguazu tail` and tests.

pub mod brokers;
pub mod read_back;
