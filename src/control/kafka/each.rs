//! Results in the order asked, from responses that name their items in an order of their own.

use std::collections::HashMap;
use std::hash::Hash;

use super::Each;
use super::error::AdminError;

/// The result of each item asked. One that the broker left out is an error: it may have been done or not.
pub(super) fn in_order<K: Eq + Hash, T: Clone>(
    asked: impl IntoIterator<Item = K>,
    answered: impl IntoIterator<Item = (K, Result<T, AdminError>)>,
) -> Each<T> {
    let answered: HashMap<K, Result<T, AdminError>> = answered.into_iter().collect();
    let left_out = || AdminError::nonsense("the broker's answer leaves this item out");
    asked.into_iter().map(|item| answered.get(&item).cloned().unwrap_or_else(|| Err(left_out()))).collect()
}

/// The result of each item asked, from an answer that has them in the same order.
pub(super) fn one_each<T>(asked: usize, answered: Vec<Result<T, AdminError>>) -> Each<T> {
    if answered.len() == asked {
        return answered;
    }
    let wrong = || Err(AdminError::nonsense(format!("the broker answered {} of {asked} items", answered.len())));
    (0..asked).map(|_| wrong()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_the_broker_leaves_out_is_neither_done_nor_refused() {
        let results = in_order(["a", "b"], [("b", Ok(1)), ("c", Ok(2))]);
        assert_eq!(results[1], Ok(1));
        assert_eq!(results[0].as_ref().map_err(AdminError::code), Err("failed"));
        assert!(one_each(2, vec![Ok(1)]).iter().all(Result::is_err));
    }
}
