//! The last good routes on disk, so that a start needs no control plane.
//!
//! In: what is in force. Out: the same in the next run, its signature checked again. Never: a copy that no known key has signed.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Accepted, Good, PublicKey, Settings, Signed, accept};
use crate::schema::replace_file;

/// The file's format, and the only one that is read.
const FORMAT: u32 = 1;

/// What is kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// What was accepted last.
    pub accepted: Accepted,
    /// What is in force of it, or of those before it.
    pub good: Good,
    /// When the control plane had last confirmed it, milliseconds since 1970.
    pub confirmed_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    confirmed_ms: u64,
    signed: Signed,
    /// Routes whose last good version is another one than the document's.
    held: Good,
}

/// Writes it, at once and whole. Blocking.
pub(super) fn save(folder: &Path, kept: &Kept) -> io::Result<()> {
    let Kept { accepted, good, confirmed_ms } = kept;
    let document = &accepted.document;
    let mut held = good.clone();
    held.events.retain(|name, settings: &mut Settings| document.events.get(name) != Some(settings));
    held.senders.retain(|name, sender| document.senders.get(name) != Some(sender));
    let file = File { format: FORMAT, confirmed_ms: *confirmed_ms, signed: (*accepted.signed).clone(), held };
    let bytes = serde_json::to_vec(&file).expect("documents have string keys and finite numbers");
    replace_file(folder, &path(folder), &bytes)
}

/// Reads it; none where nothing was kept. Blocking.
pub(super) fn load(folder: &Path, keys: &[PublicKey]) -> Result<Option<Kept>, String> {
    let path = path(folder);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?,
    };
    let wrong = |what: String| format!("`{}`: {what}", path.display());
    #[derive(Deserialize)]
    struct OfAnyFormat {
        format: u32,
    }
    let OfAnyFormat { format } = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    if format != FORMAT {
        return Err(wrong(format!("it has format {format}, this version reads {FORMAT}")));
    }
    let file: File = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let accepted = accept(file.signed, keys, None).map_err(|refusal| wrong(refusal.to_string()))?;
    let mut good = Good { events: accepted.document.events.clone(), senders: accepted.document.senders.clone() };
    good.events.extend(file.held.events);
    good.senders.extend(file.held.senders);
    Ok(Some(Kept { accepted, good, confirmed_ms: file.confirmed_ms }))
}

/// The name of this proxy, by which a control plane counts it: made once, kept for all runs. Blocking.
pub(super) fn name(folder: &Path) -> String {
    let path = folder.join("proxy-name");
    let known = std::fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
    if let Some(known) = known.filter(|known| uuid::Uuid::parse_str(known).is_ok()) {
        return known;
    }
    let fresh = uuid::Uuid::new_v4().to_string();
    if let Err(error) = replace_file(folder, &path, fresh.as_bytes()) {
        tracing::warn!(%error, "this proxy's name cannot be kept for the next start; until the old one is forgotten it counts twice");
    }
    fresh
}

fn path(folder: &Path) -> PathBuf {
    folder.join("routes.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, ROUTES_FORMAT, SigningKey, Statement, digest};

    fn kept(key: SigningKey) -> Kept {
        let document = Document { events: [("a".to_owned(), Settings::new())].into(), ..Document::default() };
        let text = serde_json::to_string(&document).unwrap();
        let statement = Statement { format: ROUTES_FORMAT, revision: 3, sha256: digest(&text), proxies: 2 };
        let keys = [key];
        let accepted = accept(Signed::new(&statement, &keys, Some(text)), &[keys[0].public()], None).unwrap();
        let before = Settings::from_iter([("topic".to_owned(), "t".into())]);
        let good = Good { events: [("a".to_owned(), before)].into(), ..Good::default() };
        Kept { accepted, good, confirmed_ms: 5 }
    }

    #[test]
    fn what_was_in_force_is_there_in_the_next_run_with_what_was_held() {
        let (folder, (key, _)) = (tempfile::tempdir().unwrap(), SigningKey::fresh().unwrap());
        let public = key.public();
        assert!(load(folder.path(), &[public]).unwrap().is_none());
        let before = kept(key);
        save(folder.path(), &before).unwrap();
        let after = load(folder.path(), &[public]).unwrap().unwrap();
        assert_eq!((after.accepted, after.good, after.confirmed_ms), (before.accepted, before.good, 5));
    }

    #[test]
    fn a_copy_that_no_known_key_signed_or_that_is_damaged_is_refused() {
        let (folder, (key, _), (other, _)) =
            (tempfile::tempdir().unwrap(), SigningKey::fresh().unwrap(), SigningKey::fresh().unwrap());
        let public = key.public();
        save(folder.path(), &kept(key)).unwrap();
        assert!(load(folder.path(), &[other.public()]).unwrap_err().contains("signed by"));
        let text = std::fs::read_to_string(path(folder.path())).unwrap();
        for (from, to) in
            [("\"format\":1,\"confirmed", "\"format\":2,\"confirmed"), ("\\\"a\\\"", "\\\"b\\\""), ("{", "")]
        {
            assert!(text.contains(from), "{text}");
            std::fs::write(path(folder.path()), text.replacen(from, to, 1)).unwrap();
            assert!(load(folder.path(), &[public]).is_err(), "{from}");
        }
    }

    #[test]
    fn a_proxy_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let one = name(folder.path());
        assert_eq!(name(folder.path()), one);
        std::fs::write(folder.path().join("proxy-name"), "../x").unwrap();
        assert_ne!(name(folder.path()), one);
    }
}
