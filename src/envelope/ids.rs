//! Event ids: UUIDv7, so that an event can be found by its id.
