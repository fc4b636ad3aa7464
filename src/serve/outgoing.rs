//! A response's body on its way out: piece by piece, as its reader reads.
//!
//! HTTP/1.1 copies what it is given into the connection's buffer, so a body given whole would stand there a second time, out
//! of everybody's count, for as long as its reader does not read. In pieces, a connection holds one of them. HTTP/2 keeps the
//! bytes themselves until the reader's window takes them; the last piece carries the note that the response is unread.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::activity::Unread;

/// Most bytes that are handed on at once; a TLS record is as long.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// A body, and the note that it is not read yet.
pub(super) struct Outgoing<B> {
    whole: B,
    rest: Bytes,
    unread: Option<Unread>,
}

impl<B> Outgoing<B> {
    pub(super) fn new(whole: B, unread: Unread) -> Self {
        Outgoing { whole, rest: Bytes::new(), unread: Some(unread) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Outgoing<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.whole).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // Nobody of ours sends trailers.
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES_MAX);
        let mut piece = self.rest.split_to(length);
        if self.is_end_stream()
            && let Some(unread) = self.unread.take()
        {
            piece = unread.until_written(piece);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.whole.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.whole.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
