//! Reads TOML tables and collects problems.
