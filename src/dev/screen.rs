//! How `iguazu dev` looks: lines of at most 96 columns, colour on a terminal only.
//!
//! In: titles, labelled values, JSON. Out: text. Never: decides what is right; a tick is printed for who checked it.

use std::io::{self, IsTerminal as _, Write};

/// Most columns of a line, unless something that cannot be broken is longer.
pub const WIDTH: usize = 96;
/// Columns in front of everything that belongs to a step.
const INDENT: usize = 3;
/// Columns of a label, the space after it included.
const LABEL: usize = 15;

/// Where the demonstration is printed.
pub struct Screen {
    out: Box<dyn Write + Send>,
    colour: bool,
}

/// How a text stands out on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Bold,
    Dim,
    Green,
    Red,
    Cyan,
}

impl Screen {
    /// Standard output.
    pub fn stdout() -> Screen {
        Screen { out: Box::new(io::stdout()), colour: io::stdout().is_terminal() }
    }

    /// Nothing is shown.
    pub fn nowhere() -> Screen {
        Screen { out: Box::new(io::sink()), colour: false }
    }

    /// A heading with a rule after it.
    pub fn heading(&mut self, title: &str, right: &str) -> io::Result<()> {
        let right = if right.is_empty() { String::new() } else { format!("  {right}") };
        let used = title.chars().count() + right.chars().count() + 2;
        let rule = "─".repeat(WIDTH.saturating_sub(used));
        let (title, rest) = (self.tone(title, Tone::Bold), self.tone(&format!("{rule}{right}"), Tone::Dim));
        writeln!(self.out, "\n{title}  {rest}")
    }

    /// A line as it is.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// A paragraph of a step, broken between words.
    pub fn paragraph(&mut self, text: &str) -> io::Result<()> {
        for line in fill(text.split(' '), " ", WIDTH - INDENT) {
            writeln!(self.out, "{:INDENT$}{}", "", self.tone(&line, Tone::Dim))?;
        }
        Ok(())
    }

    /// A label and its value.
    pub fn pair(&mut self, label: &str, value: &str) -> io::Result<()> {
        self.labelled(label, &[value.to_owned()], None)
    }

    /// A label and a value that stands out.
    pub fn main_pair(&mut self, label: &str, value: &str) -> io::Result<()> {
        self.labelled(label, &[value.to_owned()], Some(Tone::Cyan))
    }

    /// A label and JSON text, broken after commas, and between words where a text is longer than a line.
    pub fn json(&mut self, label: &str, json: &str) -> io::Result<()> {
        let width = WIDTH - INDENT - LABEL;
        let lines = json_lines(json, width).into_iter().flat_map(|line| match line.chars().count() > width {
            true => fill(line.split(' '), " ", width),
            false => vec![line],
        });
        self.labelled(label, &lines.collect::<Vec<_>>(), None)
    }

    fn labelled(&mut self, label: &str, lines: &[String], tone: Option<Tone>) -> io::Result<()> {
        for (i, line) in lines.iter().enumerate() {
            // A label that is longer than its column pushes its value, and keeps a space.
            let label = if i == 0 { format!("{label:<width$} ", width = LABEL - 1) } else { " ".repeat(LABEL) };
            let label = self.tone(&label, Tone::Dim);
            let line = tone.map_or_else(|| line.clone(), |tone| self.tone(line, tone));
            writeln!(self.out, "{:INDENT$}{label}{line}", "")?;
        }
        Ok(())
    }

    /// A command to paste.
    pub fn command(&mut self, command: &str) -> io::Result<()> {
        for line in command.lines() {
            writeln!(self.out, "{:INDENT$}{}", "", self.tone(line, Tone::Cyan))?;
        }
        Ok(())
    }

    /// Something that was checked, and how it turned out.
    pub fn verdict(&mut self, right: bool, text: &str) -> io::Result<()> {
        let mark = if right { self.tone("✓", Tone::Green) } else { self.tone("✗", Tone::Red) };
        let text = if right { text.to_owned() } else { self.tone(text, Tone::Red) };
        writeln!(self.out, "{:INDENT$}{mark} {text}", "")
    }

    fn tone(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Bold => "1",
            Tone::Dim => "2",
            Tone::Green => "32",
            Tone::Red => "31",
            Tone::Cyan => "36",
        };
        if self.colour && !text.trim().is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// JSON text on lines of at most `width` columns, broken after commas between members and items; still JSON.
pub fn json_lines(json: &str, width: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    let (mut start, mut inside_string, mut escaped) = (0, false, false);
    for (at, c) in json.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if inside_string => escaped = true,
            '"' => inside_string = !inside_string,
            ',' if !inside_string => {
                pieces.push(&json[start..=at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&json[start..]);
    // One column less: lines after the first are indented by one, so that braces stand out.
    let mut lines = fill(pieces.into_iter(), "", width - 1);
    for line in lines.iter_mut().skip(1) {
        line.insert(0, ' ');
    }
    lines
}

fn fill<'a>(pieces: impl Iterator<Item = &'a str>, join: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for piece in pieces {
        let line = lines.last_mut().expect("it begins with one line");
        let needed = line.chars().count() + join.len() + piece.chars().count();
        match line.is_empty() {
            true => line.push_str(piece),
            false if needed <= width => {
                line.push_str(join);
                line.push_str(piece);
            }
            false => lines.push(piece.to_owned()),
        }
    }
    lines
}

/// A text as one word of a POSIX shell.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_broken_between_members_and_stays_json() {
        let json = r#"{"a":"x, y","b":[1,2,3],"c":{"d":"\",","e":null}}"#;
        for width in 2..60 {
            let text = json_lines(json, width).join("\n");
            let (broken, whole): (serde_json::Value, serde_json::Value) =
                (serde_json::from_str(&text).expect("JSON"), serde_json::from_str(json).expect("JSON"));
            assert_eq!(broken, whole);
        }
        let json = r#"{"a":"x, y","b":1,"c":22}"#;
        assert_eq!(json_lines(json, 20), [r#"{"a":"x, y","b":1,"#, r#" "c":22}"#]);
    }

    #[test]
    fn a_shell_takes_a_word_as_one() {
        for (text, word) in [("a/b.c", "a/b.c"), ("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("$x", "'$x'")] {
            assert_eq!(shell_word(text), word);
        }
    }
}
