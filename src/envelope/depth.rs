//! Where JSON nests too deep.
//!
//! In: a text that nests deeper than [`DEPTH_MAX`]. Out: the error, with the path to the place. Never: recursion, or a value.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::scan::{DEPTH_MAX, Kind, Problem, Scanner};
use crate::outcome::{Code, EventError};

/// A path of a hundred steps helps nobody: so many are shown.
const STEPS_SHOWN: usize = 8;

/// The error of a text that nests too deep; `root` is what its sender calls the text.
#[cold]
pub(super) fn too_deep(root: &str, json: &str) -> EventError {
    let mut steps = Vec::new();
    // The scanner that found the text too deep came as far.
    let _ = descend(&mut Scanner::new(json), &mut steps);
    let mut path = root.to_owned();
    for step in steps.iter().take(STEPS_SHOWN) {
        let _ = match step {
            Step::Member(name) => write!(path, ".{}", shown(name)),
            Step::Element(index) => write!(path, "[{index}]"),
        };
    }
    if steps.len() > STEPS_SHOWN {
        path.push('…');
    }
    EventError::new(Code::TooDeep, format!("{path}: values nest deeper than {DEPTH_MAX} levels"))
}

enum Step<'a> {
    Member(Cow<'a, str>),
    Element(usize),
}

/// Walks to the first place that is too deep.
fn descend<'a>(scanner: &mut Scanner<'a>, steps: &mut Vec<Step<'a>>) -> Result<(), Problem> {
    loop {
        let inner = match scanner.kind()? {
            Kind::Object | Kind::Array if steps.len() == DEPTH_MAX as usize => return Ok(()),
            Kind::Object => scanner.first_member()?.map(Step::Member),
            Kind::Array => scanner.first_element().then_some(Step::Element(0)),
            _ => {
                scanner.value()?;
                None
            }
        };
        let mut next = inner;
        while next.is_none() {
            next = match steps.pop() {
                None => return Ok(()),
                Some(Step::Member(_)) => scanner.next_member()?.map(Step::Member),
                Some(Step::Element(index)) => scanner.next_element()?.then_some(Step::Element(index + 1)),
            };
        }
        steps.extend(next);
    }
}

/// A member's name as it may appear in a message.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_leads_to_the_first_place_that_is_too_deep() {
        let check = |json: &str, expected: &str| {
            let error = too_deep("$", json);
            assert_eq!(error.code, Code::TooDeep);
            assert_eq!(error.message, format!("{expected}: values nest deeper than 100 levels"));
        };
        let deep = "[".repeat(101) + &"]".repeat(101);
        check(&deep, "$[0][0][0][0][0][0][0][0]…");
        check(&format!("{{\"a\":[1,{{}},[]],\"b\\n\":[null,{{\"c\":{deep}}}]}}"), "$.b[1].c[0][0][0][0][0]…");
        check(&format!("{{\"{}\":{deep}}}", "n".repeat(1_000)), &format!("$.{}[0][0][0][0][0][0][0]…", "n".repeat(32)));
        // Not so deep, or not JSON: it says what it found.
        check("[1]", "$");
        check("[{", "$[0]");
    }
}
