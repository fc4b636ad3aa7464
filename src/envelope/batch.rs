//! A request's body as a batch of events, read one at a time.

use super::Event;
use crate::outcome::EventError;

/// The forms a body comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON: one event object, an array of them, or `{"events":[…]}`.
    Json,
    /// One JSON event a line.
    Ndjson,
    /// `iguazu.v1.EventBatch`.
    Protobuf,
}

/// The events of one body. An error is the body's: nothing of it is taken. An item's error is that event's alone.
#[derive(Debug)]
pub struct Batch<'a> {
    _body: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Checks the body as a whole as far as its form asks, and counts its events.
    pub fn parse(_form: Form, _body: &'a [u8], _events_max: usize) -> Result<Batch<'a>, EventError> {
        todo!()
    }

    /// Number of events still to come.
    pub fn remaining(&self) -> usize {
        todo!()
    }
}

impl<'a> Iterator for Batch<'a> {
    type Item = Result<Event<'a>, EventError>;

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
