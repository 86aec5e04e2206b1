//! Text on its way to a terminal.

/// The text on one line, with what could steer a terminal made visible: names come from arguments
/// and files that anybody may have written.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push(' '),
            c if c.is_control() || is_invisible(c) => shown.extend(c.escape_debug()),
            c => shown.push(c),
        }
    }
    shown
}

/// Characters without width, and those that turn the order of what follows (UAX #9): with them one
/// name can look like another.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What clap says over several lines, without its usage and hints, on one.
pub fn usage_error(error: &clap::Error) -> String {
    let text = error.to_string();
    let is_hint = |line: &str| ["Usage:", "tip:", "For more information"].iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> =
        text.lines().map(str::trim).take_while(|line| !is_hint(line)).filter(|line| !line.is_empty()).collect();
    format!("{}; see --help", printable(lines.join(" ").trim_start_matches("error: ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        assert_eq!(printable("a\nb\u{1b}[31m 'c' \"d\" \\ é\t"), "a b\\u{1b}[31m 'c' \"d\" \\ é\\t");
        assert_eq!(printable("a\u{202e}b\u{2028}c\u{200b}\u{feff}"), "a\\u{202e}b\\u{2028}c\\u{200b}\\u{feff}");
    }
}
