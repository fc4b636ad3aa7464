//! Secrets at rest: sealed with a key that is not in the store.
//!
//! In: a secret and what it is of. Out: text that only whoever has the key can open, and only as that. Never: the same text twice for
//! one secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Characters of passwords that are made: no sign that a shell, a URL or a JAAS line reads as something else.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Of 62 kinds each: 238 bits.
const PASSWORD_CHARACTERS: usize = 40;

/// A text that was not sealed with this key, or not for this use, or was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed secret cannot be opened: it is of another key or of another resource, or was changed")]
pub struct CannotOpen;

/// The system's random generator gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct NoRandomness;

/// Seals and opens.
pub struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// With this key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Sealer {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key has the algorithm's length");
        Sealer { key: LessSafeKey::new(key), random: SystemRandom::new() }
    }

    /// Seals a secret for one use, such as `user/core/orders#2`.
    pub fn seal(&self, secret: &str, of: &str) -> Result<String, NoRandomness> {
        // Random: with 96 bits two of 2^32 secrets are alike once in 2^33 times, and there are thousands.
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| NoRandomness)?;
        let mut sealed = secret.as_bytes().to_vec();
        let tag = self.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(of), &mut sealed);
        let tag = tag.expect("a secret is shorter than the algorithm's 256 GB");
        Ok(STANDARD.encode([&nonce[..], &sealed, tag.as_ref()].concat()))
    }

    /// Opens what was sealed for this use.
    pub fn open(&self, sealed: &str, of: &str) -> Result<Zeroizing<String>, CannotOpen> {
        let mut bytes = Zeroizing::new(STANDARD.decode(sealed).map_err(|_| CannotOpen)?);
        let (nonce, rest) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(CannotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CannotOpen)?;
        let opened = self.key.open_in_place(nonce, Aad::from(of), rest).map_err(|_| CannotOpen)?;
        std::str::from_utf8(opened).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| CannotOpen)
    }
}

/// A new password.
pub fn password() -> Result<Zeroizing<String>, NoRandomness> {
    let random = SystemRandom::new();
    let mut text = Zeroizing::new(String::with_capacity(PASSWORD_CHARACTERS));
    let mut bytes = Zeroizing::new([0u8; 64]);
    while text.len() < PASSWORD_CHARACTERS {
        random.fill(bytes.as_mut()).map_err(|_| NoRandomness)?;
        // Bytes over the last whole multiple of 62 would make some characters likelier.
        let fair = bytes.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        let characters = fair.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        let left = PASSWORD_CHARACTERS - text.len();
        text.extend(characters.take(left));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_with_the_same_key_for_the_same_use_only() {
        let (sealer, other) = (Sealer::new(&[1; KEY_BYTES]), Sealer::new(&[2; KEY_BYTES]));
        let sealed = sealer.seal("geheim", "user/core/a#1").unwrap();
        assert!(!sealed.contains("geheim"));
        assert_ne!(sealer.seal("geheim", "user/core/a#1").unwrap(), sealed);
        assert_eq!(*sealer.open(&sealed, "user/core/a#1").unwrap(), "geheim");
        assert_eq!(other.open(&sealed, "user/core/a#1"), Err(CannotOpen));
        assert_eq!(sealer.open(&sealed, "user/core/b#1"), Err(CannotOpen));
        let mut changed = STANDARD.decode(&sealed).unwrap();
        changed[NONCE_LEN] ^= 1;
        assert_eq!(sealer.open(&STANDARD.encode(changed), "user/core/a#1"), Err(CannotOpen));
        for broken in ["", "!", "AAAA"] {
            assert_eq!(sealer.open(broken, "user/core/a#1"), Err(CannotOpen));
        }
    }

    #[test]
    fn passwords_are_long_plain_and_never_the_same() {
        let (one, other) = (password().unwrap(), password().unwrap());
        assert_ne!(*one, *other);
        assert!(one.len() == 40 && one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
