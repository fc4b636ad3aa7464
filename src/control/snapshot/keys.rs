//! What snapshots are signed with, and how a key is replaced.
//!
//! In: a file of PEM blocks (PKCS #8, Ed25519); it is made at the first start, for its owner only. Out: the keys; every snapshot is
//! signed by all of them. Never: a key that everybody on the machine may read, a key of its own for each node: nodes share the file.
//!
//! To replace a key: append a block (`openssl genpkey -algorithm ed25519`) and restart the nodes, so that both sign; give the
//! proxies the new public key (`routes.public_key` takes a list, and is read again while they run); take the old block out.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use crate::config::{PublicKey, SigningKey};

/// Most keys that sign at the same time: the old one, the new one, and one to spare.
const KEYS_MAX: usize = 4;
/// Characters of a line of PEM (RFC 7468).
const LINE: usize = 64;

/// The keys.
#[derive(Debug)]
pub struct Keys(Vec<SigningKey>);

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum KeyError {
    #[error("`{}` cannot be used: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("`{}` may be read by everybody on this machine; take that right away (chmod 600)", path.display())]
    Readable { path: PathBuf },
    #[error("`{}` holds {problem}", path.display())]
    Content { path: PathBuf, problem: String },
    #[error("the system's random generator gave no key")]
    NoRandomness,
}

impl Keys {
    /// The keys in this file; if there is no such file, a new key in a new one. Blocking.
    pub fn open(path: &Path) -> Result<Keys, KeyError> {
        let file = |source| KeyError::File { path: path.to_owned(), source };
        match std::fs::read(path).map(Zeroizing::new) {
            Ok(pem) => {
                let metadata = std::fs::metadata(path).map_err(file)?;
                if everybody_may_read(&metadata) {
                    return Err(KeyError::Readable { path: path.to_owned() });
                }
                Keys::read(&pem).map_err(|problem| KeyError::Content { path: path.to_owned(), problem })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (key, pkcs8) = SigningKey::fresh().ok_or(KeyError::NoRandomness)?;
                write_new(path, &pem(&pkcs8)).map_err(file)?;
                Ok(Keys(vec![key]))
            }
            Err(error) => Err(file(error)),
        }
    }

    /// These keys.
    pub fn of(keys: Vec<SigningKey>) -> Keys {
        Keys(keys)
    }

    fn read(pem: &[u8]) -> Result<Keys, String> {
        let blocks: Result<Vec<_>, _> = PrivatePkcs8KeyDer::pem_slice_iter(pem).collect();
        let blocks = blocks.map_err(|error| format!("no PEM: {error}"))?;
        if blocks.is_empty() || blocks.len() > KEYS_MAX {
            return Err(format!("{} private keys; 1 to {KEYS_MAX} are taken", blocks.len()));
        }
        let keys = blocks.iter().map(|block| SigningKey::from_pkcs8(block.secret_pkcs8_der()));
        let keys: Option<Vec<_>> = keys.collect();
        keys.map(Keys).ok_or_else(|| "a private key that is none of Ed25519 in PKCS #8".to_owned())
    }

    /// All of them.
    pub fn all(&self) -> &[SigningKey] {
        &self.0
    }

    /// What proxies are told, as `ed25519:BASE64`.
    pub fn public(&self) -> Vec<PublicKey> {
        self.0.iter().map(SigningKey::public).collect()
    }
}

fn pem(pkcs8: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(pkcs8));
    let mut text = Zeroizing::new(String::with_capacity(2 * base64.len() + 64));
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(LINE.min(rest.len()));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

/// Writes a file that was not there, for its owner only. Of two nodes that start at the same time one fails, and finds it next time.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn everybody_may_read(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o004 != 0
}

#[cfg(not(unix))]
fn everybody_may_read(_: &std::fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot.pem");
        let made = Keys::open(&path).unwrap().public();
        assert_eq!(Keys::open(&path).unwrap().public(), made);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert!(matches!(Keys::open(&path), Err(KeyError::Readable { .. })));
        }
    }

    #[test]
    fn two_keys_sign_while_one_is_replaced_and_what_is_no_key_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let public = [Keys::open(&one).unwrap().public(), Keys::open(&other).unwrap().public()].concat();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        std::fs::write(&one, format!("{}{}", read(&one), read(&other))).unwrap();
        assert_eq!(Keys::open(&one).unwrap().public(), public);
        // As `openssl genpkey -algorithm ed25519` writes it: version 1, without the public key.
        let openssl = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        std::fs::write(&one, openssl).unwrap();
        // RFC 8410, section 10.1 and 10.3.
        assert_eq!(
            Keys::open(&one).unwrap().public()[0].to_string(),
            "ed25519:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
        );
        for text in ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            std::fs::write(&one, text).unwrap();
            assert!(matches!(Keys::open(&one), Err(KeyError::Content { .. })), "{text}");
        }
    }
}
