//! The recorded suite: `suite.zst`.
//!
//! Its content, compressed with zstd: the descriptors of the test messages (a `FileDescriptorSet`), then request and response of
//! each test, each of them behind its length. Tests that we skip or fail are not in it.

use std::path::{Path, PathBuf};

use iguazu::transcode::read_descriptor_set;
use prost_reflect::DescriptorPool;

use crate::protocol;

/// How strongly to compress: the file is written rarely.
const ZSTD_LEVEL: i32 = 19;

/// A test and its answer.
pub struct Exchange {
    pub request: Vec<u8>,
    pub response: Vec<u8>,
}

/// The suite as it was recorded.
pub struct Suite {
    /// A `FileDescriptorSet`.
    pub descriptors: Vec<u8>,
    pub exchanges: Vec<Exchange>,
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/suite.zst")
}

impl Suite {
    /// Reads the file.
    pub fn load() -> Result<Suite, String> {
        let path = path();
        let broken = |e: std::io::Error| format!("{}: {e}", path.display());
        let content = std::fs::read(&path).and_then(|bytes| zstd::decode_all(&bytes[..])).map_err(broken)?;
        Suite::decode(&content).map_err(broken)
    }

    fn decode(content: &[u8]) -> std::io::Result<Suite> {
        let mut rest = content;
        let descriptors = protocol::read(&mut rest)?.unwrap_or_default();
        Ok(Suite { descriptors, exchanges: exchanges(rest)? })
    }

    /// Writes the file; returns its size in bytes.
    pub fn store(&self) -> Result<usize, String> {
        let mut content = Vec::new();
        let messages = self.exchanges.iter().flat_map(|exchange| [&exchange.request, &exchange.response]);
        for message in std::iter::once(&self.descriptors).chain(messages) {
            protocol::write(&mut content, message).map_err(|e| e.to_string())?;
        }
        let compressed = zstd::encode_all(&content[..], ZSTD_LEVEL).map_err(|e| e.to_string())?;
        std::fs::write(path(), &compressed).map_err(|e| format!("{}: {e}", path().display()))?;
        Ok(compressed.len())
    }

    /// The test messages; those of editions as our compiler takes them.
    pub fn pool(&self) -> Result<DescriptorPool, String> {
        read_descriptor_set(&self.descriptors).map_err(|e| format!("the recorded descriptors: {e}"))
    }
}

/// Requests and responses that follow each other.
pub fn exchanges(mut bytes: &[u8]) -> std::io::Result<Vec<Exchange>> {
    let mut exchanges = Vec::new();
    while let Some(request) = protocol::read(&mut bytes)? {
        let response = protocol::read(&mut bytes)?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        exchanges.push(Exchange { request, response });
    }
    Ok(exchanges)
}
