//! JSON tokens, strictly by RFC 8259.
//!
//! In: text that is known to be UTF-8. Out: strings, numbers and punctuation, one at a time. Never: accepts what the
//! RFC does not (comments, trailing commas, lone surrogates, control characters in strings), or recurses deeper than
//! the limit.

use super::number::Number;
use crate::outcome::Code;
use crate::transcode::fail::{Done, Fail};
use crate::transcode::slots::{DEPTH_MAX, Span, too_deep};

/// A position in a JSON text.
#[derive(Debug)]
pub(in crate::transcode) struct Tokenizer<'a> {
    pub(in crate::transcode) text: &'a [u8],
    pub(in crate::transcode) pos: usize,
}

/// What a value is, by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transcode) enum Token {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl Token {
    /// With its article, for messages.
    pub(in crate::transcode) fn name(self) -> &'static str {
        match self {
            Token::Null => "null",
            Token::Bool => "a boolean",
            Token::Number => "a number",
            Token::String => "a string",
            Token::Array => "an array",
            Token::Object => "an object",
        }
    }
}

impl<'a> Tokenizer<'a> {
    /// At the start of the text.
    pub(in crate::transcode) fn new(text: &'a [u8]) -> Self {
        Tokenizer { text, pos: 0 }
    }

    /// The next character that is not whitespace, without taking it.
    #[inline]
    pub(in crate::transcode) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.get(self.pos)?;
            if byte > b' ' {
                return Some(byte);
            }
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.pos += 1;
        }
    }

    /// What the next value is, without taking it.
    #[inline]
    pub(in crate::transcode) fn token(&mut self) -> Done<Token> {
        match self.peek() {
            Some(b'"') => Ok(Token::String),
            Some(b'-' | b'0'..=b'9') => Ok(Token::Number),
            Some(b'{') => Ok(Token::Object),
            Some(b'[') => Ok(Token::Array),
            Some(b't' | b'f') => Ok(Token::Bool),
            Some(b'n') => Ok(Token::Null),
            _ => Err(self.expected("a value")),
        }
    }

    /// Takes a character that has been seen.
    #[inline]
    pub(in crate::transcode) fn bump(&mut self) {
        self.pos += 1;
    }

    /// Takes `:` after a member's name.
    #[inline]
    pub(in crate::transcode) fn colon(&mut self) -> Done {
        if self.peek() != Some(b':') {
            return Err(self.expected("`:`"));
        }
        self.bump();
        Ok(())
    }

    /// After an element or member: true if another follows, false if `close` ended the list.
    #[inline]
    pub(in crate::transcode) fn more(&mut self, close: u8) -> Done<bool> {
        match self.peek() {
            Some(b',') => {
                self.bump();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.bump();
                Ok(false)
            }
            _ => Err(self.expected(if close == b']' { "`,` or `]`" } else { "`,` or `}`" })),
        }
    }

    /// After the opening bracket: whether `close` follows at once; it is taken.
    #[inline]
    pub(in crate::transcode) fn is_empty(&mut self, close: u8) -> bool {
        let empty = self.peek() == Some(close);
        self.pos += usize::from(empty);
        empty
    }

    /// Takes the opening quote of a member's name.
    #[inline]
    pub(in crate::transcode) fn name_quote(&mut self) -> Done {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a member's name in quotes"));
        }
        self.bump();
        Ok(())
    }

    /// Takes a member's name and the colon after it: the name as [`Tokenizer::string`] gives it.
    #[inline]
    pub(in crate::transcode) fn member_name(&mut self, side: &mut Vec<u8>) -> Done<Span> {
        self.name_quote()?;
        let name = self.string(side)?;
        self.colon()?;
        Ok(name)
    }

    /// Takes `true` or `false`.
    pub(in crate::transcode) fn boolean(&mut self) -> Done<bool> {
        if self.text[self.pos..].starts_with(b"true") {
            self.pos += 4;
            Ok(true)
        } else if self.text[self.pos..].starts_with(b"false") {
            self.pos += 5;
            Ok(false)
        } else {
            Err(self.expected("a value"))
        }
    }

    /// Takes `null`.
    pub(in crate::transcode) fn null(&mut self) -> Done {
        if !self.text[self.pos..].starts_with(b"null") {
            return Err(self.expected("a value"));
        }
        self.pos += 4;
        Ok(())
    }

    /// Takes a number.
    #[inline]
    pub(in crate::transcode) fn number(&mut self) -> Done<Number<'a>> {
        match Number::parse(&self.text[self.pos..]) {
            Some(number) => {
                self.pos += number.text.len();
                Ok(number)
            }
            None => Err(self.expected("a number")),
        }
    }

    /// Takes a string whose opening quote is taken: a span of the text, or of `side` if it had escapes.
    #[inline]
    pub(in crate::transcode) fn string(&mut self, side: &mut Vec<u8>) -> Done<Span> {
        let start = self.pos;
        let end = plain_end(self.text, start);
        if self.text.get(end) == Some(&b'"') {
            self.pos = end + 1;
            return Ok(Span::payload(start, end - start));
        }
        self.escaped_string(end, side)
    }

    #[cold]
    fn escaped_string(&mut self, mut end: usize, side: &mut Vec<u8>) -> Done<Span> {
        let start = side.len();
        loop {
            side.extend_from_slice(&self.text[self.pos..end]);
            self.pos = end;
            match self.text.get(end) {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(Span::side(start, side.len() - start));
                }
                Some(b'\\') => {
                    self.pos += 1;
                    let c = self.escape()?;
                    side.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(_) => return Err(self.malformed("a string has a control character that is not escaped")),
                None => return Err(self.malformed("a string has no end")),
            }
            end = plain_end(self.text, self.pos);
        }
    }

    fn escape(&mut self) -> Done<char> {
        let Some(letter) = self.text.get(self.pos) else {
            return Err(self.malformed("a string has no end"));
        };
        self.pos += 1;
        Ok(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.malformed("a string has an escape that JSON does not know")),
        })
    }

    fn unicode_escape(&mut self) -> Done<char> {
        let first = self.hex4()?;
        let code = match first {
            0xd800..0xdc00 if self.text[self.pos..].starts_with(b"\\u") => {
                self.pos += 2;
                match self.hex4()? {
                    second @ 0xdc00..0xe000 => 0x10000 + ((first - 0xd800) << 10 | (second - 0xdc00)),
                    _ => first,
                }
            }
            _ => first,
        };
        char::from_u32(code).ok_or_else(|| self.malformed("a string has half of a surrogate pair"))
    }

    fn hex4(&mut self) -> Done<u32> {
        let digits = self.text.get(self.pos..self.pos + 4);
        let digit = |value: u32, byte: &u8| Some(value << 4 | char::from(*byte).to_digit(16)?);
        match digits.and_then(|digits| digits.iter().try_fold(0, digit)) {
            Some(code) => {
                self.pos += 4;
                Ok(code)
            }
            None => Err(self.malformed("a `\\u` escape does not have four hexadecimal digits")),
        }
    }

    /// Passes over a value of any kind, `depth` levels below the root.
    pub(in crate::transcode) fn skip_value(&mut self, depth: usize, side: &mut Vec<u8>) -> Done {
        let kept = side.len();
        match self.token()? {
            Token::Null => return self.null(),
            Token::Bool => drop(self.boolean()?),
            Token::Number => drop(self.number()?),
            Token::String => {
                self.bump();
                self.string(side)?;
            }
            Token::Array | Token::Object if depth >= DEPTH_MAX => return Err(too_deep()),
            Token::Array => {
                self.bump();
                let mut more = !self.is_empty(b']');
                while more {
                    self.skip_value(depth + 1, side)?;
                    more = self.more(b']')?;
                }
            }
            Token::Object => {
                self.bump();
                let mut more = !self.is_empty(b'}');
                while more {
                    self.member_name(side)?;
                    self.skip_value(depth + 1, side)?;
                    more = self.more(b'}')?;
                }
            }
        }
        side.truncate(kept);
        Ok(())
    }

    /// Nothing but whitespace may follow.
    pub(in crate::transcode) fn end(&mut self) -> Done {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.malformed("something follows the JSON value")),
        }
    }

    #[cold]
    fn expected(&self, what: &str) -> Box<Fail> {
        self.malformed(&format!("expected {what}"))
    }

    #[cold]
    fn malformed(&self, what: &str) -> Box<Fail> {
        let place = if self.pos >= self.text.len() { " (the end)" } else { "" };
        Fail::new(Code::MalformedJson, format!("{what} at byte {}{place} of the payload", self.pos))
    }
}

/// Where the plain characters of a string end: at a quote, a backslash or a control character, or at the text's end.
/// Eight bytes a step: in each of the two tests the lowest byte marked is exact, those above may not be. Flipping bit 1 puts
/// the quote, 0x22, at 0x20, beside the control characters, and moves 0x20 and 0x21 out of the way.
#[inline]
fn plain_end(text: &[u8], mut pos: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    while let Some(chunk) = text.get(pos..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*chunk);
        let quote_or_control = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
        let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
        let found = (quote_or_control | backslash) & !word & HIGHS;
        if found != 0 {
            return pos + found.trailing_zeros() as usize / 8;
        }
        pos += 8;
    }
    while text.get(pos).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
        pos += 1;
    }
    pos
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &[u8]) -> bool {
        let mut tokenizer = Tokenizer::new(text);
        tokenizer.skip_value(0, &mut Vec::new()).and_then(|()| tokenizer.end()).is_ok()
    }

    #[test]
    fn what_rfc_8259_does_not_have_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[",
            "]",
            "{,}",
            "[,]",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{'a':1}",
            "nul",
            "True",
            "NaN",
            "Infinity",
            "+1",
            "01",
            "-",
            "-01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x10",
            "1_000",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\t\"",
            "\"\u{0}\"",
            "1 2",
            "{} {}",
            "\u{feff}{}",
            "/**/1",
            "[1 2]",
            "{\"a\" 1}",
            "\u{a0}1",
            "\u{b}1",
        ] {
            assert!(!accepts(text.as_bytes()), "{text:?} was accepted");
        }
    }

    #[test]
    fn what_rfc_8259_has_is_accepted() {
        for text in [
            "null",
            " true ",
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "[[],{}]",
            "-0",
            "0.5",
            "1e5",
            "1E+5",
            "-1.5e-3",
            "\"\"",
            "\"\\u00e4\\ud83d\\ude00\\/\\b\\f\"",
            "{\"a\":{\"b\":[1,2,{\"c\":null}]}}",
            "\"\u{7f}\u{2028}\"",
        ] {
            assert!(accepts(text.as_bytes()), "{text:?} was refused");
        }
    }

    #[test]
    fn a_string_ends_at_its_quote_wherever_that_is() {
        for n in 0..40 {
            for content in ["x".repeat(n), format!("{}\\n", "ä".repeat(n)), format!("\\u0041{}", "y".repeat(n))] {
                let text = format!("{content}\" tail");
                let (mut tokenizer, mut side) = (Tokenizer::new(text.as_bytes()), Vec::new());
                let span = tokenizer.string(&mut side).unwrap();
                let expected: String = serde_json::from_str(&format!("\"{content}\"")).unwrap();
                assert_eq!(span.len(), expected.len());
                assert_eq!(&text[tokenizer.pos..], " tail");
                if content.contains('\\') {
                    assert_eq!(side, expected.as_bytes());
                }
            }
        }
    }

    #[test]
    fn values_nest_to_the_limit_and_no_deeper() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(accepts(nested(DEPTH_MAX).as_bytes()));
        assert!(!accepts(nested(DEPTH_MAX + 1).as_bytes()));
        assert!(!accepts("[".repeat(1_000_000).as_bytes()));
    }

    proptest::proptest! {
        #[test]
        fn accepts_what_serde_json_accepts(text in "[\\[\\]{}:,0-9a-f\"\\\\\\-+.eE \\n]{0,24}") {
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            proptest::prop_assert_eq!(accepts(text.as_bytes()), theirs, "{:?}", text);
        }
    }
}
