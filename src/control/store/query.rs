//! Lists by conditions that may or may not be there, with the numbered parameters that both engines read.
//!
//! Sqlx's own builder writes a question mark for each parameter where the engine is known at run time only, and Postgres reads none.

use std::fmt::Write as _;

use sqlx::AnyPool;
use sqlx::any::AnyRow;

use super::StoreError;

/// Rows that one statement names: more would be more parameters than some engines take.
pub(super) const ROWS_MAX: usize = 500;

/// Places for parameters, from this number on: `($1, $2), ($3, $4)` for two rows of two.
pub(super) fn places(first: usize, rows: usize, width: usize) -> String {
    let row = |row: usize| {
        let places: Vec<String> = (0..width).map(|column| format!("${}", first + row * width + column)).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// A `SELECT` that grows.
pub(super) struct Query {
    text: String,
    parameters: Vec<String>,
}

impl Query {
    /// Begins with this text, which ends in a condition.
    pub(super) fn new(text: String) -> Query {
        Query { text, parameters: Vec::new() }
    }

    /// Adds a condition on a value, where there is one.
    pub(super) fn and(&mut self, condition: &str, value: Option<String>) {
        self.and_then(condition, value, "");
    }

    /// [`Query::and`], with something behind the value.
    pub(super) fn and_then(&mut self, condition: &str, value: Option<String>, behind: &str) {
        let Some(value) = value else { return };
        let number = self.number(value);
        write!(self.text, " AND {condition}{number}{behind}").expect("a String takes everything");
    }

    /// Adds that these columns together come after these values.
    pub(super) fn and_after(&mut self, columns: &str, values: [String; 3]) {
        let [one, two, three] = values.map(|value| self.number(value));
        write!(self.text, " AND {columns} > ({one}, {two}, {three})").expect("a String takes everything");
    }

    /// Runs it, for the first rows in this order.
    pub(super) async fn fetch(mut self, pool: &AnyPool, order: &str, limit: u32) -> Result<Vec<AnyRow>, StoreError> {
        write!(self.text, " ORDER BY {order} LIMIT {limit}").expect("a String takes everything");
        // Every part of the text stands in this program; what callers bring is bound.
        let query = sqlx::query(sqlx::AssertSqlSafe(self.text));
        Ok(self.parameters.into_iter().fold(query, |query, value| query.bind(value)).fetch_all(pool).await?)
    }

    fn number(&mut self, value: String) -> String {
        self.parameters.push(value);
        format!("${}", self.parameters.len())
    }
}
