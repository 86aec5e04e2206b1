//! Tables for people.

use std::io::{IsTerminal, Write};

use unicode_width::UnicodeWidthStr;

use super::Error;
use crate::text::printable;

/// How many rows are laid out together.
const BLOCK: usize = 1000;

/// Whether a row is to stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Red, on a terminal whose user has not said NO_COLOR (no-color.org).
    Alarm,
}

/// A table that is printed as it grows: columns two blanks apart, that only get wider. Every cell
/// is escaped: names come from files that somebody may have tampered with.
pub(super) struct Printer {
    rows: Vec<(Vec<String>, Tone)>,
    /// In columns of a terminal.
    widths: Vec<usize>,
    colors: bool,
}

impl Printer {
    pub(super) fn new(headings: &[&str]) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colors = std::io::stdout().is_terminal() && !no_color;
        let headings = headings.iter().map(ToString::to_string).collect();
        Self { rows: vec![(headings, Tone::Plain)], widths: Vec::new(), colors }
    }

    pub(super) fn push(&mut self, row: Vec<String>, tone: Tone) -> Result<(), Error> {
        self.rows.push((row.into_iter().map(shown).collect(), tone));
        match self.rows.len() < BLOCK {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Prints what has been pushed since.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let mut out = std::io::stdout();
        out.write_all(self.text().as_bytes())?;
        Ok(out.flush()?)
    }

    fn text(&mut self) -> String {
        for (row, _) in &self.rows {
            self.widths.resize(self.widths.len().max(row.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let mut text = String::new();
        for (row, tone) in self.rows.drain(..) {
            let (before, after) = match tone {
                Tone::Alarm if self.colors => ("\x1b[31m", "\x1b[0m\n"),
                _ => ("", "\n"),
            };
            text.push_str(before);
            let start = text.len();
            for (cell, width) in row.iter().zip(&self.widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width + 2 - cell.width()));
            }
            text.truncate(start + text.get(start..).unwrap_or_default().trim_end().len());
            text.push_str(after);
        }
        text
    }
}

/// Escaped, where there is something to be escaped.
fn shown(cell: String) -> String {
    match cell.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => cell,
        false => printable(&cell),
    }
}

/// Prints a whole table.
pub(super) fn print(headings: &[&str], rows: &[Vec<String>]) -> Result<(), Error> {
    let mut printer = Printer::new(headings);
    for row in rows {
        printer.push(row.clone(), Tone::Plain)?;
    }
    printer.flush()
}

/// Prints a value as JSON, on lines.
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_two_blanks_apart_only_get_wider_and_steer_no_terminal() {
        let mut printer = Printer { colors: true, ..Printer::new(&["NAME", "WHAT", "END"]) };
        let mut push = |cells: [&str; 3], tone| {
            printer.push(cells.map(str::to_owned).to_vec(), tone).unwrap();
            printer.text()
        };
        assert_eq!(push(["a", "b", "c"], Tone::Plain), "NAME  WHAT  END\na     b     c\n");
        // Two columns wide each, no column wide, one to be escaped.
        assert_eq!(push(["鍵鍵鍵", "e\u{301}", "\u{1b}[2J"], Tone::Plain), "鍵鍵鍵  e\u{301}     \\u{1b}[2J\n");
        assert_eq!(push(["a", "", ""], Tone::Alarm), "\u{1b}[31ma\u{1b}[0m\n");
        assert_eq!(push(["", "b", "c"], Tone::Plain), "        b     c\n");
        assert_eq!(printer.text(), "");
    }
}
