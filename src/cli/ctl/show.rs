//! What `iguazu ctl` prints: tables for people, JSON for machines.
//!
//! In: rows, or what the API said. Out: text on stdout; what goes on meanwhile on stderr. Never: colour where nobody looks, a control
//! character that came from elsewhere.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use serde_json::Value;

use super::fields::flat;
use crate::cli::Failure;

/// Widest cell of a table; what is longer is cut, `--output json` has it whole.
const CELL_CHARS_MAX: usize = 80;

/// How it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Table,
    /// For machines: what the API said.
    Json,
}

/// Rows under headings, each column as wide as it needs.
#[derive(Debug)]
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&'static str]) -> Table {
        Table { headings: headings.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.headings.len());
        self.rows.push(cells.iter().map(|cell| clean(cell)).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn text(&self) -> String {
        let width = |column: usize| {
            let of_rows = self.rows.iter().map(|row| row[column].chars().count());
            of_rows.chain([self.headings[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (cell, width) in cells.zip(&widths) {
                let padding = width - cell.chars().count() + 2;
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', padding));
            }
            line.truncate(line.trim_end().len());
            line.push('\n');
            line
        };
        let mut text = line(&mut self.headings.iter().copied());
        for row in &self.rows {
            text.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        text
    }

    /// Prints it, or what there is to say when nothing is in it.
    pub(super) fn print(&self, when_empty: &str) -> Result<(), Failure> {
        match self.is_empty() {
            true => say(when_empty),
            false => print(&self.text()),
        }
    }
}

/// Prints text as it is.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Prints a document.
pub(super) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// Says something beside what is printed. Nothing is left to do when nobody listens.
pub(super) fn say(line: &str) -> Result<(), Failure> {
    let _ = writeln!(io::stderr().lock(), "{line}");
    Ok(())
}

/// A cell: one line, of bounded length, without what a terminal would obey.
fn clean(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    match text.chars().count() > CELL_CHARS_MAX {
        true => plain.take(CELL_CHARS_MAX - 1).chain(['…']).collect(),
        false => plain.collect(),
    }
}

/// A value of a document in a cell.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A document for people: a line for each value that is not null.
pub(super) fn lines(document: &Value) -> String {
    let fields: Vec<_> = flat(document).into_iter().filter(|(_, value)| !value.is_null()).collect();
    let width = fields.iter().map(|(path, _)| path.chars().count()).max().unwrap_or(0);
    fields.iter().map(|(path, value)| format!("{path:<width$}  {}\n", clean(&cell(value)))).collect()
}

/// Bytes for people, in powers of 1000 as disks are sold.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ if value < 9.95 => format!("{value:.1} {}", units[unit]),
        _ => format!("{value:.0} {}", units[unit]),
    }
}

/// How long ago a moment was, milliseconds since 1970, in one unit.
pub(super) fn ago(at_ms: i64) -> String {
    span((now_ms() - at_ms) / 1000)
}

/// How long it is until a moment.
pub(super) fn until(at_ms: i64) -> String {
    match (at_ms - now_ms()) / 1000 {
        ..=0 => "is over".to_owned(),
        seconds => format!("in {}", span(seconds)),
    }
}

/// This machine's clock, milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as i64
}

fn span(seconds: i64) -> String {
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `1 topic`, `2 topics`.
pub(super) fn count(number: usize, what: &str) -> String {
    match (number, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_and_no_cell_moves_the_cursor() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(["größe".to_owned(), "ready".to_owned()]);
        table.row(["a\u{1b}[2Jb\n".to_owned(), "x".repeat(100)]);
        let long = format!("{}…", "x".repeat(79));
        assert_eq!(table.text(), format!("NAME     STATE\ngröße    ready\na [2Jb   {long}\n"));
    }

    #[test]
    fn bytes_have_a_unit() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (999_500, "1.0 MB"),
            (1_660_000_000_000, "1.7 TB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }
}
