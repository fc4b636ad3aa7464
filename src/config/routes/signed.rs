//! How what is pushed is signed, and what is refused whole.
//!
//! In: a document and keys; or what came from a control plane, and what was accepted before it. Out: a signed statement; or a
//! document that is to be put in force. Never: a part of a document that is refused; a document by its signature alone: an older
//! one was signed as well.
//!
//! What is signed is a statement: the format, the revision, the document's hash, and among how many proxies its rates are shared.
//! The document is the same for all proxies and may be large; the share changes whenever a proxy comes or goes. So everything that
//! changes what a proxy does is signed, and no document is signed or sent twice.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Document;

/// The format of statements and documents, and the only one that is read: there is no previous one.
pub const FORMAT: u32 = 1;

/// What stands before every statement that is signed, so that a signature is of nothing else.
const CONTEXT: &[u8] = b"iguazu routes\0";
const KEY_PREFIX: &str = "ed25519:";
const KEY_BYTES: usize = 32;

/// A key that signatures are checked with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// Reads `ed25519:BASE64`.
    pub fn parse(text: &str) -> Option<PublicKey> {
        let bytes = STANDARD.decode(text.trim().strip_prefix(KEY_PREFIX)?).ok()?;
        Some(PublicKey(bytes.try_into().ok()?))
    }

    /// The first bytes of its hash, to tell keys apart.
    pub fn id(&self) -> String {
        hex(&Sha256::digest(self.0)[..8])
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that signs.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new one and its PKCS #8 form; none when the system's random generator gave nothing.
    pub fn fresh() -> Option<(SigningKey, Zeroizing<Vec<u8>>)> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok()?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        let key = SigningKey::from_pkcs8(&pkcs8)?;
        Some((key, pkcs8))
    }

    /// From its PKCS #8 form, with or without the public key in it.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Option<SigningKey> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok().map(SigningKey)
    }

    /// Its other half.
    pub fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref().try_into();
        PublicKey(bytes.expect("public keys of Ed25519 have 32 bytes"))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The format.
    pub format: u32,
    /// Greater than that of every document before.
    pub revision: u64,
    /// Hash of the document's bytes, in hex.
    pub sha256: String,
    /// Among how many proxies rates are shared; at least one.
    pub proxies: u32,
}

/// A statement as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signed {
    /// The statement's exact text.
    pub statement: String,
    /// One of each key: there are two while a key is being replaced.
    pub signatures: Vec<Signature>,
    /// The document's exact text; left out for who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// [`PublicKey::id`] of the key.
    pub key: String,
    /// Base64.
    pub signature: String,
}

/// Why what came is refused whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("it is signed by none of the keys in `routes.public_key`; it is signed by {by}")]
    Signature { by: String },
    #[error("it has format {found}, this version reads {FORMAT}; use a proxy of the control plane's version")]
    Format { found: u32 },
    #[error("it is of revision {found}, and {have} is in force: the control plane has gone back, or is another one")]
    Older { found: u64, have: u64 },
    #[error("it is another document of revision {revision}, which is in force")]
    Contradiction { revision: u64 },
    #[error("its document is not the one that was signed")]
    Digest,
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

impl Refusal {
    /// Every code.
    pub const CODES: [&str; 6] = ["signature", "format", "older", "contradiction", "digest", "unreadable"];

    /// The stable name.
    pub fn code(&self) -> &'static str {
        let [signature, format, older, contradiction, digest, unreadable] = Refusal::CODES;
        match self {
            Refusal::Signature { .. } => signature,
            Refusal::Format { .. } => format,
            Refusal::Older { .. } => older,
            Refusal::Contradiction { .. } => contradiction,
            Refusal::Digest => digest,
            Refusal::Unreadable(_) => unreadable,
        }
    }
}

/// What was accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// Its revision.
    pub revision: u64,
    /// Among how many proxies rates are shared.
    pub proxies: u32,
    /// What it says.
    pub document: Arc<Document>,
    /// As it came, the document's text included: what is kept on disk.
    pub signed: Arc<Signed>,
    sha256: String,
}

impl Signed {
    /// Signs a statement with every key.
    pub fn new(statement: &Statement, keys: &[SigningKey], document: Option<String>) -> Signed {
        let statement = serde_json::to_string(statement).expect("numbers and texts are JSON");
        let message = [CONTEXT, statement.as_bytes()].concat();
        let sign = |key: &SigningKey| Signature {
            key: key.public().id(),
            signature: STANDARD.encode(key.0.sign(&message).as_ref()),
        };
        Signed { signatures: keys.iter().map(sign).collect(), statement, document }
    }

    /// The statement, if one of these keys has signed it and it is of this format.
    fn verify(&self, keys: &[PublicKey]) -> Result<Statement, Refusal> {
        let message = [CONTEXT, self.statement.as_bytes()].concat();
        let is_by = |key: &PublicKey, signature: &Signature| {
            let bytes = STANDARD.decode(&signature.signature).unwrap_or_default();
            UnparsedPublicKey::new(&ED25519, &key.0).verify(&message, &bytes).is_ok()
        };
        if !keys.iter().any(|key| self.signatures.iter().any(|signature| is_by(key, signature))) {
            let named: Vec<&str> = self.signatures.iter().map(|signature| signature.key.as_str()).take(4).collect();
            let by = if named.is_empty() { "nobody".to_owned() } else { format!("{named:?}") };
            return Err(Refusal::Signature { by });
        }
        #[derive(Deserialize)]
        struct OfAnyFormat {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| Refusal::Unreadable(error.to_string());
        let OfAnyFormat { format } = serde_json::from_str(&self.statement).map_err(unreadable)?;
        if format != FORMAT {
            return Err(Refusal::Format { found: format });
        }
        serde_json::from_str(&self.statement).map_err(unreadable)
    }
}

/// What is to be put in force of what came, after what was accepted before it.
pub fn accept(signed: Signed, keys: &[PublicKey], before: Option<&Accepted>) -> Result<Accepted, Refusal> {
    let Statement { format: _, revision, sha256, proxies } = signed.verify(keys)?;
    let proxies = proxies.max(1);
    if let Some(before) = before {
        if revision < before.revision {
            return Err(Refusal::Older { found: revision, have: before.revision });
        }
        if revision == before.revision {
            if sha256 != before.sha256 {
                return Err(Refusal::Contradiction { revision });
            }
            let signed = Signed { document: before.signed.document.clone(), ..signed };
            return Ok(Accepted { proxies, signed: Arc::new(signed), ..before.clone() });
        }
    }
    let text = signed.document.as_deref().ok_or_else(|| Refusal::Unreadable("it has no document".to_owned()))?;
    if digest(text) != sha256 {
        return Err(Refusal::Digest);
    }
    let document = serde_json::from_str(text).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    Ok(Accepted { revision, proxies, document: Arc::new(document), signed: Arc::new(signed), sha256 })
}

/// SHA-256 of a document's text, in hex.
pub fn digest(document: &str) -> String {
    hex(&Sha256::digest(document.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = r#"{"events":{},"senders":{}}"#;

    fn signed_by(keys: &[SigningKey], revision: u64, proxies: u32, document: &str) -> Signed {
        let statement = Statement { format: FORMAT, revision, sha256: digest(document), proxies };
        Signed::new(&statement, keys, Some(document.into()))
    }

    fn key() -> SigningKey {
        SigningKey::fresh().unwrap().0
    }

    #[test]
    fn a_key_is_read_back_from_its_text_and_from_its_file() {
        let (key, pkcs8) = SigningKey::fresh().unwrap();
        assert_eq!(PublicKey::parse(&key.public().to_string()), Some(key.public()));
        assert_eq!(SigningKey::from_pkcs8(&pkcs8).unwrap().public(), key.public());
        for text in ["", "ed25519:", "ed25519:AAAA", &key.public().to_string()[8..], "rsa:AAAA"] {
            assert_eq!(PublicKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn one_known_key_among_several_is_enough_and_none_is_not() {
        let (old, new, stranger) = (key(), key(), key());
        let known = [old.public()];
        let by_both = signed_by(&[stranger, old], 1, 1, EMPTY);
        assert_eq!(accept(by_both, &known, None).unwrap().revision, 1);
        let refused = accept(signed_by(&[new], 1, 1, EMPTY), &known, None);
        assert!(matches!(refused, Err(Refusal::Signature { .. })), "{refused:?}");
        let unsigned = accept(signed_by(&[], 1, 1, EMPTY), &known, None);
        assert_eq!(unsigned, Err(Refusal::Signature { by: "nobody".into() }));
    }

    #[test]
    fn whatever_is_changed_of_it_is_refused() {
        let key = key();
        let known = [key.public()];
        let good = signed_by(&[key], 7, 3, EMPTY);
        assert!(accept(good.clone(), &known, None).is_ok());
        let statement = good.statement.replace("\"proxies\":3", "\"proxies\":1");
        assert_ne!(statement, good.statement);
        let changed = accept(Signed { statement, ..good.clone() }, &known, None);
        assert!(matches!(changed, Err(Refusal::Signature { .. })), "{changed:?}");
        let other = Signed { document: Some(r#"{"events":{},"senders":{} }"#.into()), ..good.clone() };
        assert_eq!(accept(other, &known, None), Err(Refusal::Digest));
        assert!(matches!(accept(Signed { document: None, ..good }, &known, None), Err(Refusal::Unreadable(_))));
    }

    #[test]
    fn another_format_an_older_revision_and_a_second_document_of_one_are_refused() {
        let key = [key()];
        let known = [key[0].public()];
        let statement = Statement { format: 2, revision: 9, sha256: digest(EMPTY), proxies: 1 };
        let refused = accept(Signed::new(&statement, &key, Some(EMPTY.into())), &known, None);
        assert_eq!(refused, Err(Refusal::Format { found: 2 }));
        let before = accept(signed_by(&key, 5, 1, EMPTY), &known, None).unwrap();
        let refused = accept(signed_by(&key, 4, 1, EMPTY), &known, Some(&before));
        assert_eq!(refused, Err(Refusal::Older { found: 4, have: 5 }));
        let other = r#"{"events":{"a":{}},"senders":{}}"#;
        let refused = accept(signed_by(&key, 5, 1, other), &known, Some(&before));
        assert_eq!(refused, Err(Refusal::Contradiction { revision: 5 }));
        let refused = accept(signed_by(&key, 6, 1, r#"{"events":{},"senders":{},"more":1}"#), &known, Some(&before));
        assert!(matches!(refused, Err(Refusal::Unreadable(_))), "{refused:?}");
        assert_eq!(accept(signed_by(&key, 6, 1, other), &known, Some(&before)).unwrap().document.events.len(), 1);
    }

    #[test]
    fn another_share_needs_no_second_document() {
        let key = [key()];
        let known = [key[0].public()];
        let before = accept(signed_by(&key, 5, 1, EMPTY), &known, None).unwrap();
        let statement = Statement { format: FORMAT, revision: 5, sha256: digest(EMPTY), proxies: 4 };
        let after = accept(Signed::new(&statement, &key, None), &known, Some(&before)).unwrap();
        assert_eq!((after.proxies, after.signed.document.as_deref()), (4, Some(EMPTY)));
        // What is kept on disk is whole: it is accepted in the next run.
        assert_eq!(accept((*after.signed).clone(), &known, None).unwrap(), after);
    }
}
