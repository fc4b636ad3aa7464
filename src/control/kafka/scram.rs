//! SCRAM (RFC 5802, RFC 7677) as a client: what a password becomes for the broker to keep, and the messages of a login.
//!
//! In: a user, a password, the broker's messages. Out: our messages, and whether the broker knows the password too. Never: lets
//! a password leave the process. What a password was salted to is wiped when it is dropped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SecureRandom as _;
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

use super::numbers::numbers;
use crate::config::Secret;

numbers! {
    /// How a SCRAM user logs in.
    ScramMechanism {
        /// `SCRAM-SHA-256`.
        Sha256 = 1,
        /// `SCRAM-SHA-512`.
        Sha512 = 2,
    }
}

/// Bytes of a fresh salt.
const SALT_BYTES: usize = 32;
/// RFC 7677 §4 asks for at least so many, and Kafka refuses fewer; a server that wants fewer weakens the password.
const ITERATIONS_MIN: u32 = 4096;
/// Kafka's own limit is 16,384. A server that wants more than this wants our processor time: they take about 60 ms.
const ITERATIONS_MAX: u32 = 65_536;

/// Why a SCRAM login cannot go on. Shows nothing of what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// Neither SHA-256 nor SHA-512.
    #[error("SCRAM mechanism {} is not known", .0.number())]
    Mechanism(ScramMechanism),
    /// The broker's message is not one of SCRAM's, or answers another login's.
    #[error("the broker's SCRAM message {0}")]
    Message(&'static str),
    /// The broker does not know the password: it is not the broker.
    #[error("the broker did not prove that it knows the password")]
    Signature,
    /// The system's random generator gave nothing.
    #[error("the system's random generator failed")]
    NoRandomness,
}

impl ScramMechanism {
    /// The name in SASL.
    pub const fn sasl_name(self) -> &'static str {
        match self {
            ScramMechanism::Sha256 => "SCRAM-SHA-256",
            ScramMechanism::Sha512 => "SCRAM-SHA-512",
            ScramMechanism::Other(_) => "",
        }
    }

    fn algorithms(self) -> Result<(pbkdf2::Algorithm, hmac::Algorithm, &'static digest::Algorithm), ScramError> {
        match self {
            ScramMechanism::Sha256 => Ok((pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256)),
            ScramMechanism::Sha512 => Ok((pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512, &digest::SHA512)),
            ScramMechanism::Other(_) => Err(ScramError::Mechanism(self)),
        }
    }
}

/// `SaltedPassword` of RFC 5802 §3. Kafka does not normalise passwords (SASLprep), and neither do we.
fn salted_password(
    mechanism: ScramMechanism,
    password: &Secret,
    salt: &[u8],
    iterations: u32,
) -> Result<Zeroizing<Vec<u8>>, ScramError> {
    let (pbkdf2, _, digest) = mechanism.algorithms()?;
    let iterations = std::num::NonZeroU32::new(iterations).ok_or(ScramError::Message("asks for no iterations"))?;
    let mut salted = Zeroizing::new(vec![0; digest.output_len()]);
    pbkdf2::derive(pbkdf2, iterations, salt, password.expose().as_bytes(), &mut salted);
    Ok(salted)
}

/// What a broker keeps of a password.
pub(super) struct Salted {
    pub salt: Vec<u8>,
    pub password: Zeroizing<Vec<u8>>,
}

/// Salts a password with a salt of its own.
pub(super) fn salt(mechanism: ScramMechanism, password: &Secret, iterations: u32) -> Result<Salted, ScramError> {
    let mut salt = vec![0; SALT_BYTES];
    ring::rand::SystemRandom::new().fill(&mut salt).map_err(|_| ScramError::NoRandomness)?;
    let password = salted_password(mechanism, password, &salt, iterations)?;
    Ok(Salted { salt, password })
}

/// A login under way.
pub(super) struct Exchange<'a> {
    mechanism: ScramMechanism,
    password: &'a Secret,
    nonce: String,
    first_bare: String,
}

impl<'a> Exchange<'a> {
    /// Begins a login.
    pub fn begin(mechanism: ScramMechanism, user: &str, password: &'a Secret) -> Result<Exchange<'a>, ScramError> {
        let mut random = [0; 24];
        ring::rand::SystemRandom::new().fill(&mut random).map_err(|_| ScramError::NoRandomness)?;
        Ok(Exchange::with_nonce(mechanism, user, password, BASE64.encode(random)))
    }

    fn with_nonce(mechanism: ScramMechanism, user: &str, password: &'a Secret, nonce: String) -> Exchange<'a> {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Exchange { mechanism, password, first_bare: format!("n={user},r={nonce}"), nonce }
    }

    /// The client's first message: no channel binding, no other identity.
    pub fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first_bare).into_bytes()
    }

    /// The client's final message, and what the server's must then prove.
    pub fn last(&self, server_first: &[u8]) -> Result<(Vec<u8>, Proof), ScramError> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| ScramError::Message("is not text"))?;
        let mut parts = server_first.split(',');
        let mut attribute = |name: &str, missing| {
            parts.next().and_then(|part| part.strip_prefix(name)).ok_or(ScramError::Message(missing))
        };
        let nonce = attribute("r=", "has no nonce in front")?;
        let salt = attribute("s=", "has no salt")?;
        let iterations = attribute("i=", "has no count of iterations")?;
        // Else somebody replays the answers of an earlier login.
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Message("does not continue our nonce"));
        }
        let salt = BASE64.decode(salt).map_err(|_| ScramError::Message("has a salt that is not base64"))?;
        let iterations: u32 = iterations.parse().map_err(|_| ScramError::Message("has a count that is no number"))?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(ScramError::Message("asks for fewer than 4096 or more than 65536 iterations"));
        }

        let (_, hmac_algorithm, digest_algorithm) = self.mechanism.algorithms()?;
        let salted = salted_password(self.mechanism, self.password, &salt, iterations)?;
        let key = hmac::Key::new(hmac_algorithm, &salted);
        let client_key = hmac::sign(&key, b"Client Key");
        let stored_key = digest::digest(digest_algorithm, client_key.as_ref());
        let without_proof = format!("c=biws,r={nonce}");
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = hmac::sign(&hmac::Key::new(hmac_algorithm, stored_key.as_ref()), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server_key = hmac::Key::new(hmac_algorithm, hmac::sign(&key, b"Server Key").as_ref());
        let message = format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes();
        Ok((message, Proof { server_key, auth_message }))
    }
}

/// What the server must sign.
pub(super) struct Proof {
    server_key: hmac::Key,
    auth_message: String,
}

impl Proof {
    /// Whether the server's final message shows that it knows the password.
    pub fn check(&self, server_final: &[u8]) -> Result<(), ScramError> {
        let text = std::str::from_utf8(server_final).map_err(|_| ScramError::Message("is not text"))?;
        let signature = text.strip_prefix("v=").and_then(|v| v.split(',').next());
        let signature = signature.ok_or(ScramError::Message("has no signature"))?;
        let signature = BASE64.decode(signature).map_err(|_| ScramError::Signature)?;
        hmac::verify(&self.server_key, self.auth_message.as_bytes(), &signature).map_err(|_| ScramError::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7677 §3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn answer(server_first: &str) -> Result<(Vec<u8>, Proof), ScramError> {
        let password = Secret::new("pencil".to_owned());
        Exchange::with_nonce(ScramMechanism::Sha256, "user", &password, NONCE.to_owned()).last(server_first.as_bytes())
    }

    #[test]
    fn a_login_is_that_of_the_rfc() {
        let (last, proof) = answer(SERVER_FIRST).unwrap();
        assert_eq!(
            String::from_utf8(last).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        proof.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
        assert_eq!(proof.check(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Err(ScramError::Signature));
        assert_eq!(proof.check(b"v=AAAA"), Err(ScramError::Signature));
        assert!(proof.check(b"e=invalid-proof").is_err());
    }

    #[test]
    fn a_server_that_replays_weakens_or_exhausts_is_refused() {
        for (from, to) in [
            ("r=rOpr", "r=rOps"),
            ("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", ""),
            ("i=4096", "i=4095"),
            ("i=4096", "i=65537"),
            ("i=4096", "i=0"),
            ("i=4096", "i=many"),
            (",i=4096", ""),
            ("s=W22", "s=?"),
            ("r=rOpr", "m=ext,r=rOpr"),
        ] {
            assert!(SERVER_FIRST.contains(from));
            let refused = answer(&SERVER_FIRST.replace(from, to));
            assert!(matches!(refused, Err(ScramError::Message(_))), "{from} -> {to}");
        }
    }

    #[test]
    fn a_user_with_the_signs_of_the_protocol_in_its_name_is_escaped() {
        let password = Secret::new(String::new());
        let exchange = Exchange::with_nonce(ScramMechanism::Sha512, "a=b,c", &password, "N".to_owned());
        assert_eq!(exchange.first(), b"n,,n=a=3Db=2Cc,r=N");
    }

    #[test]
    fn every_password_has_a_salt_of_its_own() {
        let password = Secret::new("pencil".to_owned());
        let [one, other] = [(); 2].map(|()| salt(ScramMechanism::Sha512, &password, 4096).unwrap());
        assert_eq!((one.salt.len(), one.password.len()), (32, 64));
        assert!(one.salt != other.salt && one.password != other.password);
        assert!(salt(ScramMechanism::Other(3), &password, 4096).is_err());
    }
}
