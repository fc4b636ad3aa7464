//! JSON numbers -> integers and floats, exactly.
//!
//! In: the text of a number. Out: the integer it equals, if it is one, or the nearest float. Never: rounds an integer.

/// A number as it was written.
#[derive(Clone, Copy, Debug)]
pub(in crate::transcode) struct Number<'a> {
    /// The whole text, by RFC 8259's grammar.
    pub(in crate::transcode) text: &'a [u8],
    negative: bool,
    /// All digits as one number, if there are at most 19.
    mantissa: Option<u64>,
    /// Power of ten of the last digit, saturated.
    exponent: i32,
}

/// Powers of ten that an `f64` holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

impl<'a> Number<'a> {
    /// The number that the text begins with.
    #[inline]
    pub(in crate::transcode) fn parse(text: &'a [u8]) -> Option<Number<'a>> {
        let negative = text.first() == Some(&b'-');
        let start = usize::from(negative);
        let (mut pos, mut mantissa) = (start, 0u64);
        let take_digits = |pos: &mut usize, mantissa: &mut u64| {
            let from = *pos;
            while let Some(byte @ b'0'..=b'9') = text.get(*pos) {
                *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                *pos += 1;
            }
            *pos - from
        };
        let whole = take_digits(&mut pos, &mut mantissa);
        if whole == 0 || (whole > 1 && text[start] == b'0') {
            return None;
        }
        let mut fraction = 0;
        if text.get(pos) == Some(&b'.') {
            pos += 1;
            fraction = take_digits(&mut pos, &mut mantissa);
            if fraction == 0 {
                return None;
            }
        }
        let mut exponent = -(fraction as i32);
        if let Some(b'e' | b'E') = text.get(pos) {
            let (end, power) = parse_exponent(text, pos + 1)?;
            pos = end;
            exponent = exponent.saturating_add(power);
        }
        let mantissa = (whole + fraction <= 19).then_some(mantissa);
        Some(Number { text: &text[..pos], negative, mantissa, exponent })
    }

    /// The integer that the number equals, if it is one of at most 64 bits.
    #[inline]
    pub(in crate::transcode) fn integer(&self) -> Option<i128> {
        match (self.mantissa, self.exponent) {
            (Some(mantissa), 0) => Some(self.signed(mantissa)),
            _ => self.written_integer(),
        }
    }

    fn signed(&self, magnitude: u64) -> i128 {
        if self.negative { -i128::from(magnitude) } else { i128::from(magnitude) }
    }

    /// Of `1.0`, `1e3`, `120e-1`, and of integers of 20 digits and more.
    #[cold]
    fn written_integer(&self) -> Option<i128> {
        let before_exponent = self.text.split(|byte| matches!(byte, b'e' | b'E')).next()?;
        let digits = before_exponent.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0');
        let mut significant: Vec<u8> = digits.skip_while(|digit| *digit == 0).collect();
        let mut exponent = i64::from(self.exponent);
        while significant.last() == Some(&0) {
            significant.pop();
            exponent += 1;
        }
        if significant.is_empty() {
            return Some(0);
        }
        if exponent < 0 || significant.len() as i64 + exponent > 20 {
            return None;
        }
        let magnitude = significant.iter().fold(0u128, |value, digit| value * 10 + u128::from(*digit));
        let magnitude = magnitude * 10u128.pow(exponent as u32);
        u64::try_from(magnitude).ok().map(|magnitude| self.signed(magnitude))
    }

    /// Whether the number is integral, however large.
    pub(in crate::transcode) fn is_integral(&self) -> bool {
        self.integer().is_some() || (self.exponent >= 0 && self.float().abs() >= 1.0) || self.float().abs() >= 1e19
    }

    /// The nearest `f64`; infinite if the number is out of range.
    #[inline]
    pub(in crate::transcode) fn float(&self) -> f64 {
        // Both numbers are exact, so their quotient or product is rounded once, which makes it the nearest.
        if let Some(mantissa @ 0..=0x1f_ffff_ffff_ffff) = self.mantissa {
            let power = EXACT_POWERS.get(self.exponent.unsigned_abs() as usize);
            if let Some(power) = power {
                let magnitude = if self.exponent < 0 { mantissa as f64 / power } else { mantissa as f64 * power };
                return if self.negative { -magnitude } else { magnitude };
            }
        }
        self.as_str().parse().expect("a JSON number is a number to Rust")
    }

    /// The nearest `f32`; infinite if the number is out of range.
    pub(in crate::transcode) fn float32(&self) -> f32 {
        self.as_str().parse().expect("a JSON number is a number to Rust")
    }

    fn as_str(&self) -> &'a str {
        std::str::from_utf8(self.text).expect("a number is ASCII")
    }
}

fn parse_exponent(text: &[u8], mut pos: usize) -> Option<(usize, i32)> {
    let negative = text.get(pos) == Some(&b'-');
    if let Some(b'+' | b'-') = text.get(pos) {
        pos += 1;
    }
    let (from, mut power) = (pos, 0i32);
    while let Some(byte @ b'0'..=b'9') = text.get(pos) {
        power = power.saturating_mul(10).saturating_add(i32::from(byte - b'0'));
        pos += 1;
    }
    (pos > from).then_some((pos, if negative { -power } else { power }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number<'_> {
        let number = Number::parse(text.as_bytes()).expect(text);
        assert_eq!(number.text, text.as_bytes());
        number
    }

    #[test]
    fn only_integral_numbers_of_64_bits_are_integers() {
        for text in
            ["0.5", "1e-1", "1.5e0", "18446744073709551616", "1e20", "1e999999999999", "-1e-999999999999", "12345e-1"]
        {
            assert_eq!(number(text).integer(), None, "{text}");
        }
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("1.0", 1),
            ("1e3", 1000),
            ("120e-1", 12),
            ("0.00e9", 0),
            ("-5.0e0", -5),
            ("18446744073709551615", u64::MAX.into()),
            ("-9223372036854775808", i64::MIN.into()),
            ("1.8446744073709551615e19", u64::MAX.into()),
            ("100000000000000000000e-2", 1_000_000_000_000_000_000),
            ("0e999999999999", 0),
        ] {
            assert_eq!(number(text).integer(), Some(value), "{text}");
        }
    }

    #[test]
    fn numbers_too_large_for_any_integer_are_integral_still() {
        for (text, integral) in
            [("1e30", true), ("99999999999999999999999", true), ("0.5", false), ("1e-5", false), ("7", true)]
        {
            assert_eq!(number(text).is_integral(), integral, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn floats_are_the_nearest(text in "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,22})?([eE][+-]?[0-9]{1,3})?") {
            let number = number(&text);
            proptest::prop_assert_eq!(number.float().to_bits(), text.parse::<f64>().unwrap().to_bits());
            proptest::prop_assert_eq!(number.float32().to_bits(), text.parse::<f32>().unwrap().to_bits());
        }

        #[test]
        fn integers_are_exact(value: i64, zeros in 0usize..3) {
            let text = format!("{value}.{}", "0".repeat(zeros + 1));
            proptest::prop_assert_eq!(number(&text).integer(), Some(value.into()));
            proptest::prop_assert_eq!(number(&value.to_string()).integer(), Some(value.into()));
        }
    }
}
