//! The record's key, read from the payload's slots.
//!
//! In: a field path at compile time, frames later. Out: the key's text: proto3 JSON without quotes. Never: reads the
//! payload a second time; a message that the path opens stays open for the back-end.

use super::buffer::Buffer;
use super::fail::{Done, Step};
use super::plan::{Kind, Plan, Shape, Table};
use super::slots::{Holds, List, Message, Slots, Span};
use super::{PlanError, json_out};

/// The slots of a dotted path of field names, from the root message to a singular scalar or enum.
pub(super) fn compile(plan: &Plan, path: &str) -> Result<Vec<u16>, PlanError> {
    let refuse = |message: String| PlanError { message: format!("key `{path}`: {message}") };
    let mut slots = Vec::new();
    let mut table = &plan.tables[0];
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        let Some(at) = table.slots.iter().position(|slot| slot.name == name || slot.json_name == name) else {
            return Err(refuse(format!("`{}` has no field `{name}`; it has {}", table.name, fields_of(table))));
        };
        let slot = &table.slots[at];
        slots.push(at as u16);
        if slot.shape != Shape::Singular {
            return Err(refuse(format!("field `{name}` of `{}` has many values, a key has one", table.name)));
        }
        match (slot.kind, names.peek()) {
            (Kind::Message(child), Some(_)) => table = &plan.tables[usize::from(child)],
            (Kind::Message(child), None) => {
                let (within, child) = (&table.name, &plan.tables[usize::from(child)]);
                return Err(refuse(format!(
                    "field `{name}` of `{within}` is a message; name a field in it: {}",
                    fields_of(child)
                )));
            }
            (_, Some(below)) => {
                return Err(refuse(format!("field `{name}` of `{}` has no field `{below}` in it", table.name)));
            }
            (_, None) => {}
        }
    }
    Ok(slots)
}

fn fields_of(table: &Table) -> String {
    let mut names: Vec<_> = table.slots.iter().take(20).map(|slot| format!("`{}`", slot.name)).collect();
    if table.slots.len() > names.len() {
        names.push(format!("{} more", table.slots.len() - names.len()));
    }
    if names.is_empty() { "no fields".to_owned() } else { names.join(", ") }
}

/// Appends the key's text to `text`, if the field is present. A field without presence always is.
pub(super) fn extract(slots: &mut Slots<'_>, mut frame: usize, text: &mut Buffer) -> Done<bool> {
    let plan = slots.plan;
    let (mut index, depth) = (0u16, slots.path.len());
    for at in plan.key.iter().copied() {
        let table = &plan.tables[usize::from(index)];
        let slot = &table.slots[usize::from(at)];
        if slot.presence && !slots.is_present(frame, usize::from(at)) {
            break;
        }
        let word = slots.word(table, frame, usize::from(at));
        let Kind::Message(child) = slot.kind else {
            let bytes = match slot.kind {
                Kind::String | Kind::Bytes => slots.bytes(Span(word)),
                _ => &[],
            };
            json_out::write_text(plan, slot.kind, word, bytes, text);
            slots.path.truncate(depth);
            return Ok(true);
        };
        slots.enter(Step::field(index, at))?;
        let inner = slots.open(child, Message::Parts(List(word)))?;
        let mut opened = 0;
        super::slots::append(&mut opened, slots.frames.nodes, inner as u64, Holds::Frame)?;
        slots.frames.words[frame + table.at(at)] = opened;
        (index, frame) = (child, inner);
    }
    slots.path.truncate(depth);
    Ok(false)
}
