//! The nearest of some names to one that is none of them.

/// Names longer than this get no suggestion: senders choose the names that they ask for, and comparing costs time.
const NAME_BYTES_MAX: usize = 256;

/// The candidate with the fewest slips (a byte inserted, left out, replaced, or swapped with its neighbour) away from
/// `name`, if there are at most `max(1, length / 4)` of them. Of equally near ones the first in order of the alphabet,
/// so that the answer does not depend on the order of the candidates.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let limit = (name.len() / 4).max(1);
    let near = candidates.into_iter().filter_map(|candidate| Some((slips(name, candidate, limit)?, candidate)));
    near.min().map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance (Damerau-Levenshtein without edits inside a swapped pair), if at most `limit`.
/// Only the diagonal band of width `2 * limit + 1` can stay within the limit, so only that is computed.
fn slips(a: &str, b: &str, limit: usize) -> Option<usize> {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let over = limit + 1;
    let mut before: Vec<usize> = vec![over; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).map(|j| j.min(over)).collect();
    let mut row: Vec<usize> = vec![over; b.len() + 1];
    for i in 1..=a.len() {
        row.fill(over);
        row[0] = i.min(over);
        for j in i.saturating_sub(limit).max(1)..=(i + limit).min(b.len()) {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row[j] = least.min(over);
        }
        if row.iter().all(|slips| *slips == over) {
            return None;
        }
        std::mem::swap(&mut before, &mut above);
        std::mem::swap(&mut above, &mut row);
    }
    Some(above[b.len()]).filter(|slips| *slips <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(name: &str, candidates: &[&str], expected: Option<&str>) {
        assert_eq!(nearest(name, candidates.iter().copied()), expected, "{name}");
    }

    #[test]
    fn only_a_slip_of_the_pen_gets_a_suggestion() {
        check("payments.done", &["orders.placed", "users"], None);
        check("", &["ab"], None);
        check("ab", &["abcd", "cd"], None);
        check(&"x".repeat(257), &["x"], None);
        check("tpoic", &["topic", "owner"], Some("topic"));
        check("Topic", &["topic"], Some("topic"));
        check("order.placed", &["orders.placed", "order.paid"], Some("orders.placed"));
        check("linger", &["linger_ms"], None);
        check("bcd", &["bce", "bcc", "acd"], Some("acd"));
    }

    /// The textbook table, without the band.
    fn plainly(a: &[u8], b: &[u8]) -> usize {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                table[i][j] = match (i, j) {
                    (0, n) | (n, 0) => n,
                    _ => {
                        let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                        let mut least = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                        if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                            least = least.min(table[i - 2][j - 2] + 1);
                        }
                        least
                    }
                };
            }
        }
        table[a.len()][b.len()]
    }

    proptest! {
        #[test]
        fn the_band_gives_the_same_distance_as_the_whole_table(a in "[ab]{0,12}", b in "[abc]{0,12}", limit in 1usize..4) {
            let whole = plainly(a.as_bytes(), b.as_bytes());
            prop_assert_eq!(slips(&a, &b, limit), Some(whole).filter(|slips| *slips <= limit));
        }
    }
}
