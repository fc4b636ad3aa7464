//! What names may look like. They become metric labels, thread names, Kafka topics and headers.

/// An event name, or the name of a sender: 1 to 249 letters, digits, `.`, `_`, `-`.
pub(super) fn event(name: &str) -> Result<(), String> {
    characters(
        name,
        249,
        |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'),
        "letters, digits, `.`, `_` and `-`",
    )
}

/// A topic by Kafka's own rule (`org.apache.kafka.common.internals.Topic`).
pub(super) fn topic(name: &str) -> Result<(), String> {
    match name {
        "." | ".." => Err(format!("`{name}` is no topic: Kafka refuses `.` and `..`")),
        _ => event(name),
    }
}

/// A cluster or registry: 1 to 63 letters, digits, `_`, `-`.
pub(super) fn place(name: &str) -> Result<(), String> {
    characters(name, 63, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'), "letters, digits, `_` and `-`")
}

/// The full name of a Protobuf message, or the path of a field: identifiers joined by dots.
pub(super) fn identifiers(name: &str, what: &str) -> Result<(), String> {
    let identifier = |part: &str| {
        part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !part.starts_with(|c: char| c.is_ascii_digit())
    };
    match name.split('.').all(|part| !part.is_empty() && identifier(part)) {
        true => Ok(()),
        false => Err(format!("`{name}` is not {what}: identifiers joined by dots")),
    }
}

fn characters(name: &str, bytes_max: usize, allowed: fn(u8) -> bool, allowed_text: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > bytes_max {
        return Err(format!("a name has 1 to {bytes_max} characters, this one {}", name.len()));
    }
    match name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(format!("`{}` has a character that is not allowed; {allowed_text} are", name.escape_debug())),
    }
}
