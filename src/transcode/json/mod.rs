//! The JSON front-end: proto3 JSON -> frames.
//!
//! In: the payload's text. Out: the same slots that the wire scan fills, strings as spans of the text. Never: a tree,
//! a number kept as text, or a member that the schema does not have, unless the event type wants those.

mod any;
mod number;
mod reader;
mod tokenizer;
mod well_known;

pub(super) use number::Number;
pub(super) use reader::{AnyState, Reader, add_property, mismatch, read_inner, read_root};
pub(super) use tokenizer::{Token, Tokenizer};
