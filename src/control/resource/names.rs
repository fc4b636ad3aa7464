//! Which names are allowed: Kafka's own rules, and ours on top of them.

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum NameError {
    #[error("a name has 1 to {most} characters, this one has {length}")]
    Length { length: usize, most: usize },
    #[error("`{character}` is not allowed; letters, digits, `.`, `_` and `-` are")]
    Character { character: char },
    #[error("`.` and `..` are no names")]
    Dots,
    #[error("names that begin with `_` are Kafka's and its tools' own")]
    Reserved,
}

/// Most characters of a topic's name (Kafka: `Topic.MAX_NAME_LENGTH`).
const TOPIC_LENGTH_MAX: usize = 249;

/// Refuses what Kafka refuses (`Topic.validate`), and what is its own.
pub fn check_topic(name: &str) -> Result<(), NameError> {
    check(name, TOPIC_LENGTH_MAX)?;
    // `__consumer_offsets`, `_schemas`, `__transaction_state`: a team that owned one of them owned the cluster.
    if name.starts_with('_') { Err(NameError::Reserved) } else { Ok(()) }
}

/// The names of services, clusters, users, senders and groups: the characters of topics, and short enough for a column.
pub(super) fn check_other(name: &str) -> Result<(), NameError> {
    check(name, 100)
}

fn check(name: &str, most: usize) -> Result<(), NameError> {
    let length = name.chars().count();
    if length == 0 || length > most {
        return Err(NameError::Length { length, most });
    }
    if matches!(name, "." | "..") {
        return Err(NameError::Dots);
    }
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name.chars().find(|c| !is_allowed(c)) {
        Some(character) => Err(NameError::Character { character }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kafka_refuses_and_what_is_its_own_is_refused() {
        for (name, expected) in [
            ("", NameError::Length { length: 0, most: 249 }),
            (&"a".repeat(250), NameError::Length { length: 250, most: 249 }),
            ("..", NameError::Dots),
            ("a b", NameError::Character { character: ' ' }),
            ("a/b", NameError::Character { character: '/' }),
            ("größe", NameError::Character { character: 'ö' }),
            ("__consumer_offsets", NameError::Reserved),
        ] {
            assert_eq!(check_topic(name), Err(expected), "{name}");
        }
        assert_eq!(check_topic(&"a".repeat(249)), Ok(()));
        assert_eq!(check_topic("orders.placed-v1_x"), Ok(()));
    }
}
