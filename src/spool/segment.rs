//! One file of entries.
//!
//! In: a path. Out: a new segment with its header, or the entries of one, in order: a torn end is dropped and nothing before it,
//! and what is damaged is stepped over to the next sound entry. Never: changes a file that it reads.
//!
//! ```text
//! magic    8 bytes "IGUSPOOL"
//! version  u16      1
//! cluster  u16      bytes of the cluster's name
//! salt     u32      begins every checksum of the segment, so that bytes of another one are never taken for its entries
//! base     u64      number of its first entry; the others follow
//! name              the cluster that the entries are for
//! sum      u32      CRC-32C of all of this
//! ```

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::cursor::Place;
use super::entry::{self, FRAME_BYTES, HEAD_BYTES};
use super::folder;

const MAGIC: &[u8; 8] = b"IGUSPOOL";
/// A reader takes this version and, once there is one, the version before.
const VERSION: u16 = 1;
/// What stands before the cluster's name.
const FIXED_BYTES: usize = 24;
/// How much is read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The cluster that its entries are for.
    pub(super) cluster: String,
    /// Number of its first entry.
    pub(super) base: u64,
    /// Begins its checksums.
    pub(super) salt: u32,
}

/// Why a file is not read. It is left as it is.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SegmentError {
    #[error("it has format version {found}, this program reads {VERSION}")]
    Version { found: u16 },
    #[error("it does not begin as a segment does")]
    NoSegment,
    #[error("it cannot be read: {0}")]
    Disk(#[from] io::Error),
}

impl Header {
    /// Bytes before the first entry.
    pub(super) fn bytes(&self) -> u64 {
        (FIXED_BYTES + self.cluster.len() + 4) as u64
    }

    /// Makes the file, which must not be there, and writes the header. Nothing is synced.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.cluster.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.base.to_le_bytes());
        bytes.extend_from_slice(self.cluster.as_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let mut file = folder::private().create_new(true).open(path)?;
        file.write_all(&bytes).inspect_err(|_| {
            // A file without its header is of no use to anybody; if it cannot be removed either, readers pass over it.
            let _ = std::fs::remove_file(path);
        })?;
        Ok(file)
    }

    fn read(file: &mut File) -> Result<Header, SegmentError> {
        let mut fixed = [0; FIXED_BYTES];
        fill(file, &mut fixed)?;
        if fixed[..8] != *MAGIC {
            return Err(SegmentError::NoSegment);
        }
        let number = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let version = number(8);
        if version != VERSION {
            return Err(SegmentError::Version { found: version });
        }
        let mut rest = vec![0; usize::from(number(10)) + 4];
        fill(file, &mut rest)?;
        let (name, sum) = rest.split_at(rest.len() - 4);
        if crc32c::crc32c_append(crc32c::crc32c(&fixed), name).to_le_bytes() != *sum {
            return Err(SegmentError::NoSegment);
        }
        let cluster = std::str::from_utf8(name).map_err(|_| SegmentError::NoSegment)?.to_owned();
        let salt = u32::from_le_bytes(fixed[12..16].try_into().expect("four bytes"));
        let base = u64::from_le_bytes(fixed[16..24].try_into().expect("eight bytes"));
        Ok(Header { cluster, base, salt })
    }
}

/// A file that is too short to be a segment was cut off while it was made.
fn fill(file: &mut File, bytes: &mut [u8]) -> Result<(), SegmentError> {
    file.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SegmentError::NoSegment,
        _ => SegmentError::Disk(error),
    })
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A sound entry: where it begins. [`Segment::body`] has its body until the next step.
    Entry { at: u64 },
    /// So many bytes are no entries, though one follows them: something changed the file.
    Damage { bytes: u64 },
    /// No entry follows. So many bytes do: what was being written when the process or the machine stopped.
    End { torn_bytes: u64 },
}

/// A segment that is being read.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) header: Header,
    file: File,
    /// Bytes from `start` on.
    buffer: Vec<u8>,
    start: u64,
    /// Where the next entry is looked for.
    next: u64,
    body: std::ops::Range<usize>,
}

impl Segment {
    /// Opens a segment and reads its header.
    pub(super) fn open(path: &Path) -> Result<Segment, SegmentError> {
        let mut file = File::open(path)?;
        let header = Header::read(&mut file)?;
        let next = header.bytes();
        Ok(Segment { header, file, buffer: Vec::new(), start: next, next, body: 0..0 })
    }

    /// Where the next entry is looked for.
    pub(super) fn place(&self) -> Place {
        Place { base: self.header.base, at: self.next }
    }

    /// Goes to an entry that was read before.
    pub(super) fn seek(&mut self, at: u64) {
        self.next = at;
    }

    /// The next thing before `end`, which is where the file ends, or what of it is known to be on disk.
    pub(super) fn step(&mut self, end: u64) -> io::Result<Step> {
        let at = self.next;
        if let Some(length) = self.sound_at(at, end)? {
            let body = (at - self.start) as usize + FRAME_BYTES;
            self.body = body..body + length;
            self.next = at + (FRAME_BYTES + length) as u64;
            return Ok(Step::Entry { at });
        }
        // Most often nothing follows, or what a write left that did not come to its end.
        for candidate in at + 1..end {
            if self.sound_at(candidate, end)?.is_some() {
                self.next = candidate;
                return Ok(Step::Damage { bytes: candidate - at });
            }
        }
        Ok(Step::End { torn_bytes: end.saturating_sub(at) })
    }

    /// The body of the entry that the last step found.
    pub(super) fn body(&self) -> &[u8] {
        &self.buffer[self.body.clone()]
    }

    /// Bytes of the body of the sound entry that begins there, if one does.
    fn sound_at(&mut self, at: u64, end: u64) -> io::Result<Option<usize>> {
        let left = end.saturating_sub(at);
        if left < HEAD_BYTES as u64 {
            return Ok(None);
        }
        self.load(at, HEAD_BYTES, end)?;
        let Some(length) = entry::body_length(self.loaded(at), left) else { return Ok(None) };
        self.load(at, FRAME_BYTES + length, end)?;
        let whole = self.loaded(at).get(..FRAME_BYTES + length);
        Ok(whole.is_some_and(|whole| entry::is_sound(self.header.salt, whole)).then_some(length))
    }

    fn loaded(&self, at: u64) -> &[u8] {
        &self.buffer[((at - self.start) as usize).min(self.buffer.len())..]
    }

    /// Makes sure that so many bytes from `at` on are in the buffer, as far as there are so many.
    fn load(&mut self, at: u64, bytes: usize, end: u64) -> io::Result<()> {
        let have = self.start..self.start + self.buffer.len() as u64;
        if have.contains(&at) && at + bytes as u64 <= have.end {
            return Ok(());
        }
        let wanted = (bytes.max(CHUNK_BYTES) as u64).min(end.saturating_sub(at)) as usize;
        self.buffer.clear();
        self.buffer.resize(wanted, 0);
        self.start = at;
        let mut filled = 0;
        while filled < wanted {
            match self.file.read_at(&mut self.buffer[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.buffer.clear();
                    return Err(error);
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::headers::HeaderBuffer;
    use crate::route::Lane;
    use crate::spool::Entry;
    use std::path::PathBuf;

    /// A segment with three entries: its folder, path, and where each entry begins and the last ends.
    fn written() -> (tempfile::TempDir, PathBuf, Vec<u64>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.seg");
        let header = Header { cluster: "core".to_owned(), base: 40, salt: 5 };
        let mut file = header.create(&path).unwrap();
        let (headers, mut bytes, mut places) = (HeaderBuffer::default(), Vec::new(), vec![header.bytes()]);
        for value in [&b"one"[..], &[2; 300], b"three"] {
            entry(&headers, value).write(header.salt, &mut bytes);
            places.push(header.bytes() + bytes.len() as u64);
        }
        file.write_all(&bytes).unwrap();
        (folder, path, places)
    }

    fn entry<'a>(headers: &'a HeaderBuffer, value: &'a [u8]) -> Entry<'a> {
        let (event, topic, lane, timestamp_ms) = ("e", "t", Lane::Standard, 1);
        Entry { event, topic, lane, partition: None, tried: false, timestamp_ms, key: None, headers, value }
    }

    /// All steps to the end.
    fn steps(path: &Path) -> Vec<Step> {
        let mut segment = Segment::open(path).unwrap();
        let end = std::fs::metadata(path).unwrap().len();
        let mut steps = Vec::new();
        loop {
            steps.push(segment.step(end).unwrap());
            if matches!(steps.last(), Some(Step::End { .. })) {
                return steps;
            }
        }
    }

    #[test]
    fn wherever_a_file_is_cut_off_every_whole_entry_before_is_read() {
        let (_folder, path, places) = written();
        let whole = std::fs::read(&path).unwrap();
        for length in (places[0]..=whole.len() as u64).rev() {
            std::fs::write(&path, &whole[..length as usize]).unwrap();
            let entries: Vec<_> = places.windows(2).filter(|place| place[1] <= length).collect();
            let begins = entries.last().map_or(places[0], |last| last[1]);
            let mut expected: Vec<_> = entries.iter().map(|place| Step::Entry { at: place[0] }).collect();
            expected.push(Step::End { torn_bytes: length - begins });
            assert_eq!(steps(&path), expected, "cut off at {length}");
        }
    }

    #[test]
    fn whichever_byte_is_damaged_the_other_entries_are_read() {
        let (_folder, path, places) = written();
        let whole = std::fs::read(&path).unwrap();
        for damaged in places[0]..places[3] {
            let mut bytes = whole.clone();
            bytes[damaged as usize] ^= 0x55;
            std::fs::write(&path, &bytes).unwrap();
            let mut expected = Vec::new();
            let mut torn_bytes = 0;
            for (number, place) in places.windows(2).enumerate() {
                match (place[0]..place[1]).contains(&damaged) {
                    true if number == 2 => torn_bytes = place[1] - place[0],
                    true => expected.push(Step::Damage { bytes: place[1] - place[0] }),
                    false => expected.push(Step::Entry { at: place[0] }),
                }
            }
            expected.push(Step::End { torn_bytes });
            assert_eq!(steps(&path), expected, "damaged at {damaged}");
        }
    }

    #[test]
    fn an_end_of_zeros_or_of_another_segments_entries_is_torn() {
        let (_folder, path, places) = written();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.resize(bytes.len() + 5_000, 0);
        entry(&HeaderBuffer::default(), b"of another").write(6, &mut bytes);
        let torn_bytes = bytes.len() as u64 - places[3];
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(steps(&path).last(), Some(&Step::End { torn_bytes }));
    }

    #[test]
    fn what_is_no_segment_or_of_a_later_version_is_refused() {
        let (_folder, path, _) = written();
        let whole = std::fs::read(&path).unwrap();
        let check = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
            let mut bytes = whole.clone();
            change(&mut bytes);
            std::fs::write(&path, &bytes).unwrap();
            let told = Segment::open(&path).expect_err("it is no segment").to_string();
            assert!(told.contains(expected), "{told}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is left as it is");
        };
        check(&|bytes| bytes.clear(), "does not begin");
        check(&|bytes| bytes.truncate(25), "does not begin");
        check(&|bytes| bytes[0] = b'X', "does not begin");
        check(&|bytes| bytes[16] ^= 1, "does not begin");
        check(&|bytes| bytes[8] = 2, "format version 2, this program reads 1");
    }
}
