//! Server-sent events (WHATWG HTML, section 9.2): bytes in, events out.
//!
//! In: pieces of a reply, cut anywhere. Out: whole events. Never: more of one event in memory than its limit.

/// Most bytes of one event.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerEvent {
    /// Its type; empty where the server named none.
    pub name: String,
    /// Its data, lines joined.
    pub data: String,
}

/// What came so far and is no whole event yet.
#[derive(Debug, Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    event: ServerEvent,
    after_return: bool,
}

/// An event over its limit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {EVENT_BYTES_MAX} bytes")]
pub(super) struct TooLong;

impl Reader {
    /// Takes a piece; gives the events that it completes.
    pub(super) fn read(&mut self, piece: &[u8]) -> Result<Vec<ServerEvent>, TooLong> {
        let mut events = Vec::new();
        for &byte in piece {
            let is_second = byte == b'\n' && std::mem::take(&mut self.after_return);
            match byte {
                // `\r\n` ends a line once.
                b'\n' if is_second => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_line(&String::from_utf8_lossy(&line)));
                }
                byte => {
                    self.after_return = false;
                    if self.line.len() + self.event.data.len() >= EVENT_BYTES_MAX {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self, line: &str) -> Option<ServerEvent> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return (!event.data.is_empty())
                .then(|| ServerEvent { data: event.data.trim_end_matches('\n').to_owned(), ..event });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event.name = value.to_owned(),
            "data" => {
                self.event.data.push_str(value);
                self.event.data.push('\n');
            }
            // A line that begins with a colon only keeps the connection.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_they_are_cut() {
        let text =
            ": hello\n\nevent: step\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nid: 7\ndata:x\n\nevent: none\n\ndata: cut";
        let expected = [("step", "{\"a\":\n1}"), ("", "x")];
        for size in 1..text.len() {
            let mut reader = Reader::default();
            let events: Vec<_> =
                text.as_bytes().chunks(size).flat_map(|piece| reader.read(piece).expect("short")).collect();
            let events: Vec<_> = events.iter().map(|event| (event.name.as_str(), event.data.as_str())).collect();
            assert_eq!(events, expected, "{size}");
        }
        assert_eq!(Reader::default().read(&vec![b'x'; EVENT_BYTES_MAX + 1]), Err(TooLong));
    }
}
