//! Tables for people.

use std::io::Write;

use comfy_table::{Table, presets};

use super::Error;

/// Prints rows under their headings, columns two blanks apart. Every cell is escaped: names come
/// from files that somebody may have tampered with.
pub(super) fn print(headings: &[&str], rows: &[Vec<String>]) -> Result<(), Error> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// The text with what could steer a terminal made visible.
fn printable(text: &str) -> String {
    let show = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    text.chars().map(show).collect()
}

/// Prints a value as JSON, on lines.
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
