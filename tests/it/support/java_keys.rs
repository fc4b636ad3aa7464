//! Where the Java producer puts keys: golden vectors that `tests/kafka/Partitions.java` recorded.

/// Counts of partitions that the vectors are recorded for.
pub const COUNTS: [usize; 4] = [1, 3, 12, 1000];

/// A key and its partition for each of [`COUNTS`].
#[derive(Clone, Debug)]
pub struct JavaKey {
    /// The key; may be empty, and need not be UTF-8.
    pub key: Vec<u8>,
    partitions: [i32; COUNTS.len()],
}

impl JavaKey {
    /// The partition among so many; panics when the vectors have no such count.
    pub fn partition_of(&self, count: usize) -> i32 {
        let index = COUNTS.iter().position(|known| *known == count);
        self.partitions[index.unwrap_or_else(|| panic!("vectors are recorded for {COUNTS:?} partitions"))]
    }
}

/// All vectors: texts, and every length up to 40 with random bytes and with high ones (Java's bytes are signed).
pub fn all() -> Vec<JavaKey> {
    let lines = include_str!("../../golden/java_partitions.txt").lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let hex = words.next().filter(|hex| *hex != "-").unwrap_or_default();
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok());
        let partitions: Vec<i32> = words.map_while(|word| word.parse().ok()).collect();
        Some(JavaKey { key: bytes.collect::<Option<_>>()?, partitions: partitions.try_into().ok()? })
    };
    lines.map(|line| parse(line).unwrap_or_else(|| panic!("not a vector: {line}"))).collect()
}
