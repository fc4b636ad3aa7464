//! API keys: how they are made, and what is kept of them.
//!
//! A key is `igz_` and 43 characters of base64url: 256 bits from the system's random generator. With that much chance in
//! it a plain SHA-256 is enough to keep; the slow hashes are for passwords that people choose.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// What every key begins with, so that secret scanners and people recognise one.
pub const PREFIX: &str = "igz_";

/// The system's random generator gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator failed, so no key was made")]
pub struct NoRandomness;

/// A new key, to be shown once and never stored, and its hash for the `key_hashes` of the configuration.
pub fn fresh() -> Result<(String, [u8; 32]), NoRandomness> {
    let mut random = [0; 32];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut random).map_err(|_| NoRandomness)?;
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let hash = hash(&key);
    Ok((key, hash))
}

/// SHA-256 of a key: all that is kept of it.
pub fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_256_random_bits_and_is_found_by_its_hash() {
        let (one, hash_of_one) = fresh().unwrap();
        let (other, hash_of_other) = fresh().unwrap();
        assert_ne!(one, other);
        assert_ne!(hash_of_one, hash_of_other);
        assert_eq!(hash(&one), hash_of_one);
        let random = URL_SAFE_NO_PAD.decode(one.strip_prefix(PREFIX).unwrap()).unwrap();
        assert_eq!((random.len(), one.len()), (32, 47));
    }

    #[test]
    fn the_hash_is_plain_sha_256_so_that_other_tools_can_make_it() {
        // printf %s abc | sha256sum (FIPS 180-2, B.1)
        assert_eq!(hash("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
