//! A connection of bytes: for what an HTTP client would not send, or would not stop in the middle of.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An open connection. Nothing is read from it but by [`Raw::reply`]; dropping it closes it as a crashed sender would.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// What came back. Interim answers (`100 Continue`) are replies of their own.
#[derive(Clone, Debug)]
pub struct RawReply {
    /// Status code.
    pub status: u16,
    /// Status line and headers, lower case.
    pub head: String,
    /// The whole body.
    pub body: Vec<u8>,
}

impl RawReply {
    /// The body as JSON; panics with the reply when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).await.expect("the proxy listens");
        Raw { stream, unread: Vec::new() }
    }

    /// Writes bytes; an error when the other end is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next reply; none when the connection was closed before its first byte. Panics when it was closed in the middle.
    pub async fn reply(&mut self) -> Option<RawReply> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.read_more().await {
                assert!(self.unread.is_empty(), "closed within {:?}", String::from_utf8_lossy(&self.unread));
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let whole = end + length.unwrap_or(0);
        while self.unread.len() < whole {
            assert!(self.read_more().await, "closed within the body of {head}");
        }
        let body = self.unread[end..whole].to_vec();
        self.unread.drain(..whole);
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Some(RawReply { status: status.unwrap_or_else(|| panic!("no status in {head}")), head, body })
    }

    async fn read_more(&mut self) -> bool {
        let read = tokio::time::timeout(super::PATIENCE, self.stream.read_buf(&mut self.unread)).await;
        // A reset ends a connection as well as a close does.
        read.expect("the proxy answers or closes in time").unwrap_or(0) > 0
    }
}

/// A `POST` with a body of this type.
pub fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: iguazu\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}
