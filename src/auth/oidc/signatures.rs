//! Signatures of tokens, checked by `ring`: the library for tokens has none of its own that we take, and ours is in the program
//! already, for TLS.
//!
//! Never: signs anything, checks with a shared secret.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{self as kinds, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};

static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: no_signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// Makes it the one of this process.
pub(super) fn install() {
    // It fails only when it is there already.
    let _ = PROVIDER.install_default();
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let how = How::of(*algorithm).ok_or(ErrorKind::UnsupportedAlgorithm)?;
    if algorithm.family() != key.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(Check { algorithm: *algorithm, how, key: key.clone() }))
}

/// How a signature is checked.
#[derive(Clone, Copy)]
enum How {
    Rsa(&'static RsaParameters),
    Curve(&'static dyn VerificationAlgorithm),
}

impl How {
    fn of(algorithm: Algorithm) -> Option<How> {
        Some(match algorithm {
            Algorithm::RS256 => How::Rsa(&kinds::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => How::Rsa(&kinds::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => How::Rsa(&kinds::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => How::Rsa(&kinds::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => How::Rsa(&kinds::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => How::Rsa(&kinds::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => How::Curve(&kinds::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => How::Curve(&kinds::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => How::Curve(&kinds::ED25519),
            // Shared secrets first of all.
            _ => return None,
        })
    }
}

struct Check {
    algorithm: Algorithm,
    how: How,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for Check {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let checked = match (self.how, self.key.kind()) {
            (How::Rsa(how), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(how, message, signature)
            }
            (How::Curve(how), DecodingKeyKind::SecretOrDer(key)) => {
                UnparsedPublicKey::new(how, key).verify(message, signature)
            }
            _ => return Err(signature::Error::new()),
        };
        checked.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Check {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
