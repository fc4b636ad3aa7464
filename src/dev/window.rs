//! The records of a topic that were received in a window of time, without reading the rest of it.
//!
//! In: a topic and a window. Out: its records, to the end of the window in each partition, then none. It begins where the
//! timestamps say, since those are when the proxy received an event; it cannot know where to end: what waited on disk stands
//! behind what was received after it. So a partition is through when it has a record that was received after `read_until`, or no
//! more. Never: commits an offset, waits for records that are still to come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::read_back::{Consumed, ReadError, Start, Step, TopicReader};

/// How long brokers may be silent while there is something to read.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How soon a caller that must stop is asked.
const POLL: Duration = Duration::from_millis(100);

/// Reads a window.
pub struct Window {
    reader: TopicReader,
    topic: String,
    /// Partitions that are not through, and where they ended when the window was opened.
    open: BTreeMap<i32, i64>,
    read_until_ms: i64,
}

/// Why a window cannot be read to its end.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum WindowError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("topic `{topic}` cannot be read to its end: {partitions} of its partitions gave nothing for {seconds} s")]
    Silent { topic: String, partitions: usize, seconds: u64 },
}

impl Window {
    /// Opens a window from `since_ms` on, milliseconds since 1970. Blocking, as [`TopicReader::open`].
    pub fn open(
        bootstrap: &str,
        extra_config: &[(String, String)],
        topic: &str,
        since_ms: i64,
        read_until_ms: i64,
    ) -> Result<Window, WindowError> {
        let reader = TopicReader::open(bootstrap, extra_config, topic, &Start::Time(since_ms.max(0)))?;
        let open = reader.ends()?;
        Ok(Window { reader, topic: topic.to_owned(), open, read_until_ms })
    }

    /// Reads less far than was meant at first.
    pub fn end_at(&mut self, read_until_ms: i64) {
        self.read_until_ms = self.read_until_ms.min(read_until_ms);
    }

    /// The next record; none when every partition is through, or when `is_stopped` says so.
    pub fn next(&mut self, is_stopped: impl Fn() -> bool) -> Result<Option<Consumed>, WindowError> {
        let heard = Instant::now();
        while !self.open.is_empty() && !is_stopped() {
            match self.reader.step(POLL)? {
                Some(Step::Record(record)) => {
                    // What was on its way from a partition that is through.
                    let Some(end) = self.open.get(&record.partition) else { continue };
                    let is_late = record.timestamp_ms.is_some_and(|ms| ms > self.read_until_ms);
                    if is_late || record.offset + 1 >= *end {
                        self.open.remove(&record.partition);
                        self.reader.leave(record.partition)?;
                    }
                    return Ok(Some(record));
                }
                Some(Step::End(partition)) => drop(self.open.remove(&partition)),
                None if heard.elapsed() > SILENCE_MAX => {
                    let (topic, partitions) = (self.topic.clone(), self.open.len());
                    return Err(WindowError::Silent { topic, partitions, seconds: SILENCE_MAX.as_secs() });
                }
                None => {}
            }
        }
        Ok(None)
    }
}
