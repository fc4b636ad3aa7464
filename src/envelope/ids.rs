//! Event ids: UUIDv7 (RFC 9562), so that an event can be found by its id.
//!
//! In: the time an event was received. Out: an id whose first 48 bits are that time, and the time back out of an id. Never: a
//! clock, a lock, an allocation.

use std::cell::Cell;

use uuid::{Builder, Uuid, Variant, Version};

thread_local! {
    /// The millisecond of the thread's last id, and its counter.
    static LAST: Cell<(u64, u16)> = const { Cell::new((0, 0)) };
}

/// The counter's 12 bits (`rand_a`).
const COUNTER_MAX: u16 = 0x0FFF;

/// Writes a fresh id for an event received at `now_ms`, milliseconds since 1970, and gives it as text. Ids of one thread and
/// millisecond ascend (RFC 9562, section 6.2, method 1) until 2,048 or more are made; 62 bits are random.
pub fn fresh(buffer: &mut [u8; 36], now_ms: u64) -> &str {
    let mut bytes = Uuid::new_v4().into_bytes();
    let drawn = u16::from_be_bytes([bytes[6], bytes[7]]);
    let counter = LAST.with(|last| {
        let counter = match last.get() {
            (ms, counter) if ms == now_ms && counter < COUNTER_MAX => counter + 1,
            // The top bit starts clear, which leaves room to count.
            _ => drawn & (COUNTER_MAX >> 1),
        };
        last.set((now_ms, counter));
        counter
    });
    bytes[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
    bytes[6..8].copy_from_slice(&counter.to_be_bytes());
    let builder = Builder::from_bytes(bytes).with_variant(Variant::RFC4122).with_version(Version::SortRand);
    builder.into_uuid().hyphenated().encode_lower(buffer)
}

/// When an event with this id was received, milliseconds since 1970; none if the id is not a UUIDv7, so not one of ours.
pub fn time_of(id: &str) -> Option<u64> {
    let uuid = Uuid::try_parse(id).ok()?;
    if id.len() != 36 || uuid.get_version() != Some(Version::SortRand) || uuid.get_variant() != Variant::RFC4122 {
        return None;
    }
    Some((uuid.as_u128() >> 80) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(id: &str, expected: Option<u64>) {
        assert_eq!(time_of(id), expected, "{id}");
    }

    #[test]
    fn only_a_uuidv7_has_a_time() {
        check("", None);
        check("order-17", None);
        check("f47ac10b-58cc-4372-a567-0e02b2c3d479", None);
        check("017f22e2-79b0-7cc3-18c4-dc0c0c07398f", None);
        check("017f22e279b07cc398c4dc0c0c07398f", None);
        // The example of RFC 9562, appendix A.6.
        check("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", Some(0x017F_22E2_79B0));
        check("017F22E2-79B0-7CC3-98C4-DC0C0C07398F", Some(0x017F_22E2_79B0));
    }

    #[test]
    fn ids_of_one_millisecond_are_distinct_and_ascend() {
        let mut buffer = [0; 36];
        let ids: Vec<String> = (0..2048).map(|_| fresh(&mut buffer, 1_700_000_000_000).to_owned()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn ids_stay_distinct_when_the_counter_is_used_up() {
        let mut buffer = [0; 36];
        let ids: std::collections::HashSet<String> = (0..20_000).map(|_| fresh(&mut buffer, 7).to_owned()).collect();
        assert_eq!(ids.len(), 20_000);
    }

    proptest! {
        #[test]
        fn the_time_comes_back_out_of_an_id(ms in 0u64..1 << 48) {
            let mut buffer = [0; 36];
            prop_assert_eq!(time_of(fresh(&mut buffer, ms)), Some(ms));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = time_of(&text);
        }
    }
}
