//! What operators let through of an event type, or of a sender, for now.

/// How much is let through. The choice among events is made by their ids, so that an event that is sent again meets the same
/// fate, at every proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Brake {
    /// All.
    #[default]
    Off,
    /// Nothing; senders are told to come back later.
    Disabled,
    /// A share of the events, the others are left out.
    Sample {
        /// Events are let through whose id hashes to less.
        below: u64,
    },
}

impl Brake {
    /// Lets a share of the events through, more than 0 and less than 1.
    pub fn sample(share: f64) -> Brake {
        // Both casts saturate.
        Brake::Sample { below: (share * u64::MAX as f64) as u64 }
    }

    /// What is in force, for operators; none without a brake.
    pub fn describe(self) -> Option<String> {
        match self {
            Brake::Off => None,
            Brake::Disabled => Some("disabled: nothing is let through".to_owned()),
            Brake::Sample { below } => {
                let percent = below as f64 / u64::MAX as f64 * 100.0;
                Some(format!("a sample of {percent:.4} % is let through, the others are accepted and left out"))
            }
        }
    }

    /// Whether an event with this id is let through.
    pub fn lets_through(self, id: &[u8]) -> bool {
        match self {
            Brake::Off => true,
            Brake::Disabled => false,
            Brake::Sample { below } => hash(id) < below,
        }
    }
}

/// FNV-1a, whose bits are then spread (the finaliser of SplitMix64). Not keyed: all proxies must choose alike, and who chooses
/// ids so that they are let through gains what everybody has without the brake.
fn hash(id: &[u8]) -> u64 {
    let n = id.iter().fold(0xcbf2_9ce4_8422_2325_u64, |n, byte| (n ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_about_its_share_of_any_ids_and_always_the_same() {
        for (share, kind) in [(0.01, "o-"), (0.1, "0190163d-8694-739b-aea5-"), (0.5, "")] {
            let brake = Brake::sample(share);
            let ids = || (0..100_000).map(|n| format!("{kind}{n:012x}"));
            let passed: Vec<String> = ids().filter(|id| brake.lets_through(id.as_bytes())).collect();
            let expected = 100_000.0 * share;
            assert!((passed.len() as f64 - expected).abs() < 5.0 * expected.sqrt(), "{share}: {}", passed.len());
            assert!(passed.iter().all(|id| brake.lets_through(id.as_bytes())));
            let wider = Brake::sample(share + 0.1);
            assert!(passed.iter().all(|id| wider.lets_through(id.as_bytes())), "a wider sample holds the narrower one");
        }
    }

    #[test]
    fn off_lets_everything_through_and_disabled_nothing() {
        assert!(Brake::Off.lets_through(b"") && !Brake::Disabled.lets_through(b"a"));
        assert!((0..1_000).all(|n: u32| !Brake::sample(1e-18).lets_through(&n.to_be_bytes())));
    }
}
