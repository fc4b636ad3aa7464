//! JSON syntax and nothing more: finds where values begin and end.
//!
//! In: JSON text. Out: the spans of its values, strings without their escapes. Never: a tree, a number's value, an
//! allocation for a string without escapes, or recursion. A payload is skipped here and read by its plan later, so this
//! pass has to cost little: plain stretches of strings are stepped over eight bytes at a time.

use std::borrow::Cow;

use super::skip;

/// Values may nest this deep, as in payloads that a plan reads.
pub(super) const DEPTH_MAX: u32 = 100;
const TOO_DEEP: &str = "values nest deeper than 100 levels";

/// Where and why a text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Byte offset in the text.
    pub at: usize,
    /// What was expected or found there.
    pub what: &'static str,
}

impl SyntaxError {
    /// Whether the text may well be JSON, but nests deeper than [`DEPTH_MAX`].
    pub fn is_too_deep(&self) -> bool {
        self.what == TOO_DEEP
    }

    /// Line and column in the text, both from 1, the column in characters.
    pub fn position(&self, text: &str) -> (usize, usize) {
        let before = &text.as_bytes()[..self.at.min(text.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before[line_start..].iter().filter(|b| **b & 0xC0 != 0x80).count() + 1;
        (line, column)
    }
}

/// What a value is, seen from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    /// With its article, for messages.
    pub fn named(self) -> &'static str {
        match self {
            Kind::Object => "an object",
            Kind::Array => "an array",
            Kind::String => "a string",
            Kind::Number => "a number",
            Kind::Bool => "a boolean",
            Kind::Null => "null",
        }
    }
}

/// A position in a JSON text.
#[derive(Clone, Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Scanner { text, at: 0 }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The kind of the value that comes next.
    pub fn kind(&mut self) -> Result<Kind, SyntaxError> {
        match self.skip_space() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => Err(self.unexpected("a value is expected")),
        }
    }

    /// Steps into the object or array that comes next. Call [`Scanner::first_member`] or [`Scanner::first_element`] next.
    fn enter(&mut self) {
        self.at += 1;
    }

    /// Enters an object and reads its first name, up to the colon; none: the object is empty and behind us.
    pub fn first_member(&mut self) -> Result<Option<Cow<'a, str>>, Problem> {
        self.enter();
        if self.skip_space() == Some(b'}') {
            self.at += 1;
            return Ok(None);
        }
        self.name().map(Some)
    }

    /// After a member's value: the next name, up to the colon; none: the object is behind us.
    pub fn next_member(&mut self) -> Result<Option<Cow<'a, str>>, Problem> {
        match self.skip_space() {
            Some(b',') => {
                self.at += 1;
                self.name().map(Some)
            }
            Some(b'}') => {
                self.at += 1;
                Ok(None)
            }
            _ => Err(Problem::Syntax(self.unexpected("`,` or `}` is expected"))),
        }
    }

    /// Enters an array; says whether it has an element.
    pub fn first_element(&mut self) -> bool {
        self.enter();
        if self.skip_space() == Some(b']') {
            self.at += 1;
            return false;
        }
        true
    }

    /// After an element: whether another one follows.
    pub fn next_element(&mut self) -> Result<bool, SyntaxError> {
        let more = match self.skip_space() {
            Some(b',') => true,
            Some(b']') => false,
            _ => return Err(self.unexpected("`,` or `]` is expected")),
        };
        self.at += 1;
        Ok(more)
    }

    /// Reads the string that comes next; borrowed unless it has escapes.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Problem> {
        let start = self.at;
        let escaped = self.skip_string()?;
        let raw = &self.text[start..self.at];
        if !escaped {
            return Ok(Cow::Borrowed(&raw[1..raw.len() - 1]));
        }
        // The escapes themselves are well formed, so what is left to go wrong is half a surrogate pair.
        serde_json::from_str(raw).map(Cow::Owned).map_err(|_| Problem::LoneSurrogate)
    }

    /// Skips the value that comes next and gives its text.
    pub fn value(&mut self) -> Result<&'a str, SyntaxError> {
        self.skip_space();
        let start = self.at;
        self.skip_value()?;
        Ok(&self.text[start..self.at])
    }

    /// Skips the value that comes next without judging what is in it, and gives its text, which may not be JSON.
    pub fn unread_value(&mut self) -> Result<&'a str, SyntaxError> {
        let start = match self.skip_space() {
            Some(b'{' | b'[') => self.at,
            _ => return self.value(),
        };
        match skip::nested_len(&self.text.as_bytes()[start..]) {
            Some(len) => self.at += len,
            None => {
                self.at = self.text.len();
                return Err(self.unexpected("the value has no end"));
            }
        }
        Ok(&self.text[start..self.at])
    }

    /// Checks that nothing but white space is left.
    pub fn end(&mut self) -> Result<(), SyntaxError> {
        match self.skip_space() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("there is more text after the end of the value")),
        }
    }

    /// A member's name and the colon after it.
    fn name(&mut self) -> Result<Cow<'a, str>, Problem> {
        if self.skip_space() != Some(b'"') {
            return Err(Problem::Syntax(self.unexpected("a member's name is expected")));
        }
        let name = self.string()?;
        self.colon()?;
        Ok(name)
    }

    /// Skips a value of any kind. The open objects and arrays are bits, the innermost lowest; 1 is an object.
    fn skip_value(&mut self) -> Result<(), SyntaxError> {
        let mut objects = 0u128;
        let mut depth = 0u32;
        loop {
            match self.skip_space() {
                Some(b'"') => {
                    self.skip_string()?;
                }
                Some(open @ (b'{' | b'[')) => {
                    if depth == DEPTH_MAX {
                        return Err(self.error(TOO_DEEP));
                    }
                    depth += 1;
                    objects = objects << 1 | u128::from(open == b'{');
                    self.at += 1;
                    match self.skip_space() {
                        Some(b'}') if open == b'{' => {}
                        Some(b']') if open == b'[' => {}
                        _ if open == b'[' => continue,
                        _ => {
                            self.skip_name()?;
                            continue;
                        }
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.skip_number()?,
                Some(b't') => self.skip_literal("true")?,
                Some(b'f') => self.skip_literal("false")?,
                Some(b'n') => self.skip_literal("null")?,
                _ => return Err(self.unexpected("a value is expected")),
            }
            // A value is complete: close what it closes, until another one follows or none is open.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let in_object = objects & 1 == 1;
                match self.skip_space() {
                    Some(b',') => {
                        self.at += 1;
                        if in_object {
                            self.skip_name()?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    _ if in_object => return Err(self.unexpected("`,` or `}` is expected")),
                    _ => return Err(self.unexpected("`,` or `]` is expected")),
                }
                self.at += 1;
                objects >>= 1;
                depth -= 1;
            }
        }
    }

    #[inline(always)]
    fn skip_name(&mut self) -> Result<(), SyntaxError> {
        if self.skip_space() != Some(b'"') {
            return Err(self.unexpected("a member's name is expected"));
        }
        self.skip_string()?;
        self.colon()
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<(), SyntaxError> {
        if self.skip_space() != Some(b':') {
            return Err(self.unexpected("`:` is expected"));
        }
        self.at += 1;
        Ok(())
    }

    /// Skips the string whose opening quote is next; says whether it has escapes.
    #[inline(always)]
    fn skip_string(&mut self) -> Result<bool, SyntaxError> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.skip_plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.skip_escape()?;
                }
                Some(_) => return Err(self.error("a control character stands in a string; escape it")),
                None => return Err(self.error("the text ends inside a string")),
            }
        }
    }

    /// Steps over what needs no look inside a string: up to the next quote, backslash or control character.
    #[inline(always)]
    fn skip_plain(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(chunk) = bytes.get(self.at..self.at + 8) {
            let word = u64::from_le_bytes(chunk.try_into().expect("the range has eight bytes"));
            let special = special_bytes(word);
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|b| b >= 0x20 && b != b'"' && b != b'\\') {
            self.at += 1;
        }
    }

    fn skip_escape(&mut self) -> Result<(), SyntaxError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                        return Err(self.error("`\\u` needs four hexadecimal digits"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.error("there is no such escape")),
        }
        Ok(())
    }

    #[inline(always)]
    fn skip_number(&mut self) -> Result<(), SyntaxError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.skip_digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Ok(())
    }

    #[inline(always)]
    fn skip_digits(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("a digit is expected")) } else { Ok(()) }
    }

    fn skip_literal(&mut self, literal: &'static str) -> Result<(), SyntaxError> {
        if !self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            return Err(self.error("a value is expected"));
        }
        self.at += literal.len();
        Ok(())
    }

    /// Skips white space and looks at the byte after it.
    #[inline(always)]
    fn skip_space(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                // Most texts have none: one comparison tells.
                Some(byte) if byte > b' ' => return Some(byte),
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                byte => return byte,
            }
        }
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[cold]
    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { at: self.at, what }
    }

    /// The error of a byte that cannot stand here, or of a text that ends too early.
    #[cold]
    fn unexpected(&self, what: &'static str) -> SyntaxError {
        match self.peek() {
            None => self.error("the text ends too early"),
            Some(0xEF) if self.text[self.at..].starts_with('\u{feff}') => {
                self.error("a byte order mark stands here; send plain UTF-8 without one")
            }
            Some(_) => self.error(what),
        }
    }
}

/// Why a string could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The text is not JSON.
    Syntax(SyntaxError),
    /// The string escapes half of a surrogate pair: JSON by the grammar, but no text.
    LoneSurrogate,
}

impl From<SyntaxError> for Problem {
    fn from(error: SyntaxError) -> Self {
        Problem::Syntax(error)
    }
}

/// The high bit of each byte that is a quote, a backslash or below 0x20. A borrow can only set bits above a true hit,
/// and the caller takes the lowest, so false hits do no harm.
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // Flipping bit 1 puts the quote, 0x22, at 0x20, beside the control characters, and moves 0x20 and 0x21 out of the way.
    let quote_or_control = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (quote_or_control | backslash) & !word & HIGHS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<(), (usize, &str)>) {
        let mut scanner = Scanner::new(text);
        let found = scanner.value().and_then(|_| scanner.end());
        assert_eq!(found.map_err(|e| (e.at, e.what)), expected, "{text:?}");
    }

    #[test]
    fn text_that_is_not_json_is_told_where_and_why() {
        check("", Err((0, "the text ends too early")));
        check(" ", Err((1, "the text ends too early")));
        check("\u{feff}{}", Err((0, "a byte order mark stands here; send plain UTF-8 without one")));
        check("{} x", Err((3, "there is more text after the end of the value")));
        check("[1,]", Err((3, "a value is expected")));
        check("[1 2]", Err((3, "`,` or `]` is expected")));
        check("{\"a\":1,}", Err((7, "a member's name is expected")));
        check("{\"a\" 1}", Err((5, "`:` is expected")));
        check("{\"a\":1]", Err((6, "`,` or `}` is expected")));
        check("{a:1}", Err((1, "a member's name is expected")));
        check("\"a", Err((2, "the text ends inside a string")));
        check("\"a\n\"", Err((2, "a control character stands in a string; escape it")));
        check("\"0123456789\u{1}\"", Err((11, "a control character stands in a string; escape it")));
        check("\"\\x\"", Err((2, "there is no such escape")));
        check("\"\\u00g0\"", Err((5, "`\\u` needs four hexadecimal digits")));
        check("01", Err((1, "there is more text after the end of the value")));
        check("-", Err((1, "a digit is expected")));
        check("1.", Err((2, "a digit is expected")));
        check("1e+", Err((3, "a digit is expected")));
        check("+1", Err((0, "a value is expected")));
        check("nul", Err((0, "a value is expected")));
        check("NaN", Err((0, "a value is expected")));
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        check(&nested(100), Ok(()));
        check(&nested(101), Err((100, TOO_DEEP)));
        check(&"[{\"a\":".repeat(1_000_000), Err((6 * 50, TOO_DEEP)));
    }

    #[test]
    fn a_string_is_borrowed_unless_it_has_escapes() {
        let read = |text: &'static str| Scanner::new(text).string();
        assert!(matches!(read("\"plain é text\""), Ok(Cow::Borrowed("plain é text"))));
        assert_eq!(read("\"a\\n\\u00e9\\ud83d\\ude00\""), Ok(Cow::Owned("a\né😀".to_owned())));
        assert_eq!(read("\"\\ud83d\""), Err(Problem::LoneSurrogate));
    }

    #[test]
    fn a_position_counts_lines_and_characters() {
        let text = "{\n  \"é\": x}";
        let error = Scanner::new(text).value().expect_err("x is no value");
        assert_eq!(error.position(text), (2, 8));
    }

    /// Texts of JSON's own characters: near misses are likelier than in plain noise.
    fn nearly_json() -> impl Strategy<Value = String> {
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\\u00e9",
            "\\ud800",
            "a",
            "é",
            "\u{1}",
            "0",
            "1",
            "-",
            ".",
            "e",
            "+",
            "true",
            "false",
            "null",
            " ",
            "\n",
            "\"k\":",
            "\"long enough to fill words\"",
        ];
        proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..24).prop_map(|p| p.concat())
    }

    proptest! {
        #[test]
        fn what_serde_json_takes_is_taken_and_nothing_else(text in prop_oneof![nearly_json(), any::<String>()]) {
            let mut scanner = Scanner::new(&text);
            let ours = scanner.value().and_then(|_| scanner.end());
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} / {:?}", ours, theirs);
        }
    }
}
