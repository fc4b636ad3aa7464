//! The body of a request: its bytes, decompressed, within every limit.
//!
//! A declared length over the limit is refused before anything is read, so that a sender who asked with
//! `Expect: 100-continue` is never told to go on. A body that came in one piece is not copied.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::HeaderMap;

use super::Limits;
use super::admission::{Budget, Hold};
use super::decode::{Gzip, unzstd};
use super::media::Coding;
use super::refusal::Refusal;
use crate::outcome::Code;

/// A body may wait for its sender this many times the pause between two chunks in all: enough for a megabyte over a slow
/// phone (60 s with the default of 10 s), and an end for senders that trickle.
const PAUSES_MAX: u32 = 6;

/// A body, with its share of the budget.
#[derive(Debug)]
pub(super) struct Body<'b> {
    /// The bytes, decompressed.
    pub(super) bytes: Bytes,
    /// Its share, which becomes that of the reply.
    pub(super) hold: Hold<'b>,
}

/// Reads a body to its end.
pub(super) async fn read<'b, B>(
    body: B,
    headers: &HeaderMap,
    limits: &Limits,
    budget: &'b Budget,
) -> Result<Body<'b>, Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let coding = Coding::declared(headers)?;
    let bytes_max = limits.body_bytes_max;
    let declared = body.size_hint().lower();
    if declared > bytes_max as u64 {
        return Err(too_large(format_args!("the body has {declared} bytes"), bytes_max));
    }
    let mut hold = budget.hold();
    let chunks =
        Chunks { body, bytes_max, read: 0, pause: limits.read_timeout, patience: limits.read_timeout * PAUSES_MAX };
    match coding {
        Coding::Identity => Ok(Body { bytes: read_plain(chunks, &mut hold).await?, hold }),
        Coding::Zstd => {
            // Decompressed in one go, into a buffer that is its own window: the window that a frame declares costs
            // nothing, and may be larger than what follows. Streaming encoders declare megabytes for any length.
            let wire = read_plain(chunks, &mut hold).await?;
            Ok(Body { bytes: unzstd(&wire, bytes_max, &mut hold)?.into(), hold })
        }
        Coding::Gzip => {
            let (bytes, hold) = read_gzip(chunks, bytes_max, hold).await?;
            Ok(Body { bytes, hold })
        }
    }
}

async fn read_plain<B>(mut chunks: Chunks<B>, hold: &mut Hold<'_>) -> Result<Bytes, Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let Some(first) = chunks.next().await? else { return Ok(Bytes::new()) };
    hold.grow(first.len())?;
    if chunks.body.is_end_stream() {
        return Ok(first);
    }
    let Some(second) = chunks.next().await? else { return Ok(first) };
    // The declared length is at most the limit, and pages that nothing is written to cost no memory.
    let expected = (first.len() + second.len()).saturating_add(chunks.body.size_hint().lower() as usize);
    let mut whole = BytesMut::with_capacity(expected.min(chunks.bytes_max));
    whole.extend_from_slice(&first);
    drop(first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        hold.grow(chunk.len())?;
        whole.extend_from_slice(&chunk);
        next = chunks.next().await?;
    }
    Ok(whole.freeze())
}

async fn read_gzip<B>(mut chunks: Chunks<B>, bytes_max: usize, hold: Hold<'_>) -> Result<(Bytes, Hold<'_>), Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut gzip = Gzip::new(bytes_max, hold)?;
    while let Some(chunk) = chunks.next().await? {
        gzip.write(&chunk)?;
    }
    gzip.finish()
}

/// A body's chunks, within the limit of bytes as sent and the limits of time.
struct Chunks<B> {
    body: B,
    bytes_max: usize,
    read: usize,
    pause: Duration,
    /// How long the body may still be waited for.
    patience: Duration,
}

impl<B: HttpBody<Data = Bytes> + Unpin> Chunks<B> {
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let Some(frame) = self.frame().await? else { return Ok(None) };
            // Trailers say nothing to us.
            let Ok(chunk) = frame.into_data() else { continue };
            self.read += chunk.len();
            if self.read > self.bytes_max {
                return Err(too_large(format_args!("the body has {} bytes and more", self.read), self.bytes_max));
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }

    /// The next frame. What is there already costs no timer.
    async fn frame(&mut self) -> Result<Option<Frame<Bytes>>, Refusal> {
        let there = poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => Some(frame),
                Poll::Pending => None,
            })
        });
        let frame = match there.await {
            Some(frame) => frame,
            None => {
                let begun = Instant::now();
                let arrives = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx));
                let arrived = tokio::time::timeout(self.pause.min(self.patience), arrives).await;
                let frame = arrived.map_err(|_| too_slow(self.read))?;
                self.patience = self.patience.saturating_sub(begun.elapsed());
                frame
            }
        };
        frame.transpose().map_err(|_| ended_early(self.read))
    }
}

#[cold]
fn too_slow(read: usize) -> Refusal {
    let message =
        format!("the body stopped arriving after {read} bytes; send it again, in smaller parts over a slow line");
    Refusal::new(Code::BodyTimeout, message)
}

#[cold]
fn ended_early(read: usize) -> Refusal {
    Refusal::new(Code::InvalidBody, format!("the body broke off after {read} bytes"))
}

#[cold]
pub(super) fn too_large(what: std::fmt::Arguments<'_>, bytes_max: usize) -> Refusal {
    let message =
        format!("{what}, the limit is {bytes_max} (`http.body_bytes_max`); send fewer or smaller events at once");
    Refusal::new(Code::BodyTooLarge, message)
}
