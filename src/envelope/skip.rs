//! Where an object or array ends, and nothing else of it.
//!
//! In: text that begins with `{` or `[`. Out: the length up to its closing bracket. Never: a judgement whether it is JSON.
//! That is for whoever reads what was skipped: a payload's plan reads every byte of it anyway, and then says what is
//! wrong and where, so that looking at each byte here would be done twice. All that counts here are brackets outside of strings.
//!
//! Works on blocks of 64 bytes, each turned into masks with a bit a byte, as simdjson's first stage does
//! (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 2019).

use wide::u8x16;

/// Length of the object or array that the text begins with, or none if it does not end.
pub(super) fn nested_len(text: &[u8]) -> Option<usize> {
    debug_assert!(matches!(text.first(), Some(b'{' | b'[')), "the caller has seen the bracket");
    let mut state = State { depth: 0, in_string: 0, escaping: false };
    let mut blocks = text.chunks_exact(64);
    let mut start = 0;
    for block in &mut blocks {
        if let Some(end) = state.end_in(&Masks::of(block.first_chunk().expect("a whole block"))) {
            return Some(start + end);
        }
        start += 64;
    }
    let mut last = [b' '; 64];
    let rest = blocks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    state.end_in(&Masks::of(&last)).map(|end| start + end)
}

/// What one block hands to the next.
struct State {
    /// Open brackets.
    depth: usize,
    /// All ones inside a string, else zero.
    in_string: u64,
    /// Whether the last byte was a backslash that escapes the next.
    escaping: bool,
}

impl State {
    /// Where in the block the outermost bracket is closed: the offset behind it.
    #[inline]
    fn end_in(&mut self, masks: &Masks) -> Option<usize> {
        let mut quotes = masks.quotes;
        if masks.backslashes != 0 || self.escaping {
            quotes &= !self.escaped(masks.backslashes);
        }
        let inside = prefix_xor(quotes) ^ self.in_string;
        self.in_string = ((inside as i64) >> 63) as u64;
        let opening = masks.opening & !inside;
        let mut brackets = opening | masks.closing & !inside;
        while brackets != 0 {
            let lowest = brackets & brackets.wrapping_neg();
            if opening & lowest != 0 {
                self.depth += 1;
            } else {
                self.depth -= 1;
                if self.depth == 0 {
                    return Some(lowest.trailing_zeros() as usize + 1);
                }
            }
            brackets ^= lowest;
        }
        None
    }

    /// The bytes that a backslash before them escapes.
    #[cold]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        let mut escaped = u64::from(self.escaping);
        let mut left = backslashes & !escaped;
        self.escaping = false;
        while left != 0 {
            let lowest = left & left.wrapping_neg();
            self.escaping = lowest == 1 << 63;
            escaped |= lowest << 1;
            left &= !(lowest | lowest << 1);
        }
        escaped
    }
}

/// Each bit of the result is the parity of the bits up to it: set from an opening quote up to, not including, the closing one.
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// What decides where a value ends, a bit a byte, the first byte lowest.
#[derive(Debug, PartialEq, Eq)]
struct Masks {
    quotes: u64,
    backslashes: u64,
    opening: u64,
    closing: u64,
}

/// Braces and square brackets differ in this bit only; no other character becomes one of them when it is set.
const BRACE_BIT: u8 = 0x20;

impl Masks {
    #[inline]
    fn of(block: &[u8; 64]) -> Masks {
        let mut masks = Masks { quotes: 0, backslashes: 0, opening: 0, closing: 0 };
        for lane in (0..4).rev() {
            let bytes = u8x16::new(*block[lane * 16..].first_chunk().expect("four lanes of 16 bytes"));
            let folded = bytes | u8x16::splat(BRACE_BIT);
            let bits = |bytes: u8x16, byte: u8| u64::from(bytes.simd_eq(u8x16::splat(byte)).to_bitmask());
            masks.quotes = masks.quotes << 16 | bits(bytes, b'"');
            masks.backslashes = masks.backslashes << 16 | bits(bytes, b'\\');
            masks.opening = masks.opening << 16 | bits(folded, b'{');
            masks.closing = masks.closing << 16 | bits(folded, b'}');
        }
        masks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What [`nested_len`] promises, a byte at a time.
    fn plain(text: &[u8]) -> Option<usize> {
        let (mut depth, mut in_string, mut escaped) = (0, false, false);
        for (at, byte) in text.iter().enumerate() {
            let before = escaped;
            escaped = *byte == b'\\' && !before;
            match byte {
                b'"' if !before => in_string = !in_string,
                b'{' | b'[' if !in_string => depth += 1,
                b'}' | b']' if !in_string => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }

    #[test]
    fn what_has_no_end_has_no_length() {
        for text in ["{", "[", "[[]", "{\"", "{\"}", "{\"\\\"}", "{\"a\":[}"] {
            for padding in [0, 30, 63, 64, 100] {
                assert_eq!(nested_len(format!("{text}{}", " ".repeat(padding)).as_bytes()), None, "{text:?}");
            }
        }
    }

    #[test]
    fn brackets_in_strings_do_not_count_wherever_a_block_begins() {
        for value in [r#"{"a}":"]}\"}\\"}"#, r#"[["\\\\\"]"],{}]"#, r#"{"\\":"\\","x":"\\\\"}"#, "{}", "[]"] {
            for n in 0..140 {
                let text = format!("[\"{}\",{value}]", "x".repeat(n));
                assert_eq!(nested_len(format!("{text}]]}}").as_bytes()), Some(text.len()), "{text}");
            }
        }
    }

    fn byte_by_byte(block: &[u8; 64]) -> Masks {
        let bits = |is: fn(u8) -> bool| block.iter().rev().fold(0, |bits, byte| bits << 1 | u64::from(is(*byte)));
        Masks {
            quotes: bits(|byte| byte == b'"'),
            backslashes: bits(|byte| byte == b'\\'),
            opening: bits(|byte| matches!(byte, b'{' | b'[')),
            closing: bits(|byte| matches!(byte, b'}' | b']')),
        }
    }

    proptest! {
        #[test]
        fn blocks_find_the_end_that_bytes_find(text in "[\\[{](\\PC|[\\[\\]{}\"\\\\,a]|\\\\){0,300}") {
            prop_assert_eq!(nested_len(text.as_bytes()), plain(text.as_bytes()));
        }

        #[test]
        fn all_masks_are_those_of_the_bytes(bytes in proptest::collection::vec(any::<u8>(), 64)) {
            let block = bytes.first_chunk().unwrap();
            prop_assert_eq!(Masks::of(block), byte_by_byte(block));
        }
    }
}
