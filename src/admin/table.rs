//! Tables for people.

use std::io::{IsTerminal, Write};

use comfy_table::{ColumnConstraint, Table, Width, presets};

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
pub(super) struct Printer<'h> {
    headings: Option<&'h [&'h str]>,
    rows: Vec<(Vec<String>, Tone)>,
    widths: Vec<u16>,
    colors: bool,
}

impl<'h> Printer<'h> {
    pub(super) fn new(headings: &'h [&'h str]) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colors = std::io::stdout().is_terminal() && !no_color;
        Self { headings: Some(headings), rows: Vec::new(), widths: Vec::new(), colors }
    }

    pub(super) fn push(&mut self, row: Vec<String>, tone: Tone) -> Result<(), Error> {
        self.rows.push((row, tone));
        match self.rows.len() < BLOCK {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Prints what has been pushed since.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut tones = Vec::new();
        if let Some(headings) = self.headings.take() {
            table.set_header(headings.to_vec());
            tones.push(Tone::Plain);
        }
        for (row, tone) in self.rows.drain(..) {
            table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
            tones.push(tone);
        }
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if let Some(width) = self.widths.get(at) {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width)));
            }
        }
        let widths = table.column_max_content_widths();
        // The padding belongs to the width of a constraint.
        let widths = widths.iter().map(|width| width + 2);
        self.widths =
            widths.enumerate().map(|(at, width)| width.max(self.widths.get(at).copied().unwrap_or(0))).collect();
        let mut text = String::new();
        for (line, tone) in table.lines().zip(tones) {
            let line = line.trim_end();
            match tone {
                Tone::Alarm if self.colors => text.push_str(&format!("\x1b[31m{line}\x1b[0m\n")),
                _ => text.push_str(&format!("{line}\n")),
            }
        }
        let mut out = std::io::stdout();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
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
