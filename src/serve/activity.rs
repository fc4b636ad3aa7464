//! What a connection is doing, and whether it may go on.
//!
//! One timer a connection, that fires once in the head timeout, looks at counters: no timer is made per request, and the
//! clock is not read.
//!
//! A response that its reader does not read holds memory that others need, so it has an end, too: [`UNREAD_ROUNDS`] rounds
//! after it began its connection is closed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a connection that we closed is still read from. If we closed it with bytes unread, the kernel would send a
/// reset, and the reply that says why (413, 401, 415) would not survive it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Rounds that a response may take to be read, at least: a minute with the default timeouts, as long as a body may take to
/// arrive.
const UNREAD_ROUNDS: usize = 6;

/// Counters of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    round: AtomicU64,
    /// Responses that are not read yet, by the round in which they began.
    unread: [AtomicU32; UNREAD_ROUNDS + 1],
    begun: AtomicU64,
    done: AtomicU64,
    read: AtomicU64,
    read_when_done: AtomicU64,
    h2: AtomicBool,
    let_go: AtomicBool,
}

impl Activity {
    /// Counts a request for as long as [`Activity::end`] has not been called.
    pub(super) fn begin(&self, h2: bool) {
        self.h2.store(h2, Relaxed);
        self.begun.fetch_add(1, Relaxed);
    }

    /// The request is answered, or its sender has gone.
    pub(super) fn end(&self) {
        self.read_when_done.store(self.read.load(Relaxed), Relaxed);
        self.done.fetch_add(1, Relaxed);
    }

    /// A response begins, and is unread until what this gives is dropped.
    pub(super) fn unread(self: &Arc<Self>, h2: bool) -> Unread {
        let slot = self.slot(self.round.load(Relaxed));
        self.unread[slot].fetch_add(1, Relaxed);
        Unread { activity: Arc::clone(self), slot, h2 }
    }

    /// Another round begins; says whether a response has been unread for too many of them.
    pub(super) fn next_round(&self) -> bool {
        let round = self.round.fetch_add(1, Relaxed) + 1;
        self.unread[self.slot(round)].load(Relaxed) > 0
    }

    fn slot(&self, round: u64) -> usize {
        (round % self.unread.len() as u64) as usize
    }

    /// The connection is closed while nothing is on its way in: nobody has to listen once more.
    pub(super) fn let_go(&self) {
        self.let_go.store(true, Relaxed);
    }

    /// The counters as they stand.
    pub(super) fn read(&self) -> Reading {
        Reading {
            begun: self.begun.load(Relaxed),
            done: self.done.load(Relaxed),
            unclaimed_bytes: self.read.load(Relaxed) > self.read_when_done.load(Relaxed),
            h2: self.h2.load(Relaxed),
        }
    }
}

/// Counts a response as unread until it is dropped.
#[derive(Debug)]
pub(super) struct Unread {
    activity: Arc<Activity>,
    slot: usize,
    h2: bool,
}

impl Unread {
    /// The last bytes of the response, which stay unread until they are written. With HTTP/1.1 they are copied at once into
    /// the connection's buffer, which has its own bounds.
    pub(super) fn until_written(self, bytes: Bytes) -> Bytes {
        if self.h2 { Bytes::from_owner(Last { bytes, _unread: self }) } else { bytes }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.activity.unread[self.slot].fetch_sub(1, Relaxed);
    }
}

struct Last {
    bytes: Bytes,
    _unread: Unread,
}

impl AsRef<[u8]> for Last {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A reading of an [`Activity`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// Requests whose head was read.
    pub(super) begun: u64,
    /// Requests that are over.
    pub(super) done: u64,
    /// Whether bytes have come since the last request was over: with HTTP/1.1, the beginning of another head.
    pub(super) unclaimed_bytes: bool,
    /// Whether the connection speaks HTTP/2, whose pings are bytes too.
    pub(super) h2: bool,
}

impl Reading {
    /// Whether nothing has come in since an earlier reading, and nothing was under way then.
    pub(super) fn is_idle_since(&self, earlier: Reading) -> bool {
        earlier.begun == earlier.done && self.begun == earlier.begun && !self.unclaimed_bytes
    }
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is wrong with it.
    Keep,
    /// It may finish what it does, and ends.
    Finish,
    /// It ends now.
    Close,
}

/// Judges a connection, once in every head timeout.
#[derive(Debug)]
pub(super) struct Patrol {
    /// Rounds that a connection may be without a request.
    idle_rounds_max: u64,
    begun_last_round: u64,
    half_a_head: bool,
    idle_rounds: u64,
    finishing: bool,
}

impl Patrol {
    pub(super) fn new(round: Duration, idle_timeout: Duration) -> Self {
        let idle_rounds_max = (idle_timeout.as_millis() / round.as_millis().max(1)) as u64;
        Patrol { idle_rounds_max, begun_last_round: 0, half_a_head: false, idle_rounds: 0, finishing: false }
    }

    /// The connection was told to finish: without a request in progress it has one more round.
    pub(super) fn finish(&mut self) {
        self.finishing = true;
    }

    pub(super) fn judge(&mut self, now: Reading) -> Verdict {
        let busy = now.begun != now.done || now.begun != self.begun_last_round;
        self.begun_last_round = now.begun;
        if busy {
            (self.half_a_head, self.idle_rounds) = (false, 0);
            return Verdict::Keep;
        }
        if self.finishing || now.begun == 0 {
            return Verdict::Close;
        }
        if now.unclaimed_bytes && !now.h2 {
            let since_last_round = std::mem::replace(&mut self.half_a_head, true);
            return if since_last_round { Verdict::Close } else { Verdict::Keep };
        }
        self.idle_rounds += 1;
        if self.idle_rounds < self.idle_rounds_max {
            return Verdict::Keep;
        }
        self.finishing = true;
        Verdict::Finish
    }
}

/// A stream that counts what is read from it, and listens for a moment after it was closed, unless it was let go.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    closed: bool,
    let_go: bool,
    last_words: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Watched { stream, activity, closed: false, let_go: false, last_words: None }
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        let timer = self.last_words.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_WORDS)));
        timer.as_mut().poll(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.activity.read.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.closed = true;
            // Asked only once: a connection that listens already has a sender that is still writing.
            self.let_go = self.activity.let_go.load(Relaxed);
        }
        if self.let_go {
            return Poll::Ready(Ok(()));
        }
        self.poll_last_words(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges a connection round by round; `idle_timeout` is three rounds.
    fn check(rounds: &[(Reading, Verdict)]) {
        let mut patrol = Patrol::new(Duration::from_secs(10), Duration::from_secs(30));
        for (round, (reading, expected)) in rounds.iter().enumerate() {
            assert_eq!(patrol.judge(*reading), *expected, "round {round}: {reading:?}");
        }
    }

    fn http1(begun: u64, done: u64, unclaimed_bytes: bool) -> Reading {
        Reading { begun, done, unclaimed_bytes, h2: false }
    }

    fn h2(begun: u64, done: u64) -> Reading {
        Reading { begun, done, unclaimed_bytes: true, h2: true }
    }

    #[test]
    fn a_connection_is_idle_when_nothing_has_come_since() {
        assert!(http1(5, 5, false).is_idle_since(http1(5, 5, false)));
        assert!(!http1(5, 5, true).is_idle_since(http1(5, 5, false)), "half a head");
        assert!(!http1(6, 6, false).is_idle_since(http1(5, 5, false)), "a request meanwhile");
        assert!(!http1(5, 5, false).is_idle_since(http1(5, 4, false)), "a request before, answered meanwhile");
    }

    #[test]
    fn a_connection_that_says_nothing_is_closed_after_one_round() {
        check(&[(http1(0, 0, false), Verdict::Close)]);
        check(&[(http1(0, 0, true), Verdict::Close)]);
    }

    #[test]
    fn half_a_head_is_closed_in_the_round_after_it_was_seen() {
        check(&[
            (http1(1, 1, false), Verdict::Keep),
            (http1(1, 1, true), Verdict::Keep),
            (http1(1, 1, true), Verdict::Close),
        ]);
        check(&[
            (http1(1, 1, false), Verdict::Keep),
            (http1(1, 1, true), Verdict::Keep),
            (http1(2, 2, true), Verdict::Keep),
            (http1(2, 2, true), Verdict::Keep),
            (http1(2, 2, true), Verdict::Close),
        ]);
    }

    #[test]
    fn a_request_in_progress_keeps_its_connection_however_long_it_takes() {
        let waiting = (http1(1, 0, true), Verdict::Keep);
        check(&[waiting; 100]);
    }

    #[test]
    fn a_response_that_is_not_read_is_noticed_when_its_rounds_are_over() {
        let activity = Arc::new(Activity::default());
        for h2 in [false, true] {
            let unread = activity.unread(h2);
            for round in 0..UNREAD_ROUNDS {
                assert!(!activity.next_round(), "in round {round}");
                drop(activity.unread(h2));
            }
            assert!(activity.next_round());
            let last = unread.until_written(Bytes::from_static(b"end"));
            assert_eq!((last.len(), activity.unread.iter().any(|n| n.load(Relaxed) > 0)), (3, h2));
            drop(last);
            assert!((0..20).all(|_| !activity.next_round()), "it was read after all");
        }
    }

    #[test]
    fn an_idle_connection_is_told_to_finish_and_then_closed() {
        let idle = |verdict| (http1(5, 5, false), verdict);
        let rounds = [Verdict::Keep, Verdict::Keep, Verdict::Keep, Verdict::Finish, Verdict::Close];
        check(&rounds.map(idle));
        check(&rounds.map(|verdict| (h2(5, 5), verdict)));
    }
}
