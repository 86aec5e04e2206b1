//! .env files, read by `dotenvy`.
//!
//! Programs differ in what an unquoted `$` means: Docker and Node's dotenv take it as it is, shells
//! and others put a variable there, which may be an empty one. A value must not change unnoticed
//! on its way into the vault, so that such a `$` is refused. To tell, the text is read twice, once
//! with another character in the place of each `$`.

use super::{Entry, copy};
use crate::admin::Error;
use crate::memory::Arena;

const UNREADABLE: &str = "the line can't be read: is there a quote that is not closed, a blank or a backslash \
                          outside of single quotes?";
const AMBIGUOUS: &str = "it holds a $, which some programs take for a variable; put the value into single quotes";

/// The entries of a text of `length` bytes; there is room for one more.
pub(super) fn entries<'a>(buffer: &mut [u8], length: usize, arena: &'a Arena) -> Result<Vec<Entry<'a>>, Error> {
    // Without it, blanks at the end would count as an open quote.
    if let Some(end) = buffer.get_mut(length) {
        *end = b'\n';
    }
    // A pipe's buffer is longer than what came.
    let text = buffer.get(..=length).unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| "the file is not text in UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Of the characters for private use, one that the text does not use itself.
    let mark = ('\u{e000}'..='\u{f8ff}').find(|&mark| !text.contains(mark)).unwrap_or('\u{f8ff}');
    let marked = with_mark(text, mark, arena)?;
    let mut entries: Vec<Entry<'a>> = Vec::new();
    for (plain, marked) in dotenvy::from_read_iter(text.as_bytes()).zip(dotenvy::from_read_iter(marked)) {
        entries.push(match (plain, marked) {
            (Ok((name, value)), Ok((_, marked))) if is_same(&value, &marked, mark) => {
                Entry { name, value: Ok(copy(value.as_bytes(), arena)?) }
            }
            // An error of the one alone: there is an escaped $, or one right before a closing quote.
            (Ok((name, _)), _) | (Err(_), Ok((name, _))) => Entry { name, value: Err(AMBIGUOUS.into()) },
            // What the error holds is the line, with the value.
            (Err(_), _) => {
                let name = match entries.last() {
                    Some(before) => format!("(after {})", before.name),
                    None => "(first)".into(),
                };
                Entry { name, value: Err(UNREADABLE.into()) }
            }
        });
    }
    Ok(entries)
}

fn with_mark<'a>(text: &str, mark: char, arena: &'a Arena) -> Result<&'a [u8], Error> {
    let dollars = text.bytes().filter(|&byte| byte == b'$').count();
    let out = arena.alloc(text.len() + dollars * (mark.len_utf8() - 1))?;
    let mut bytes = [0; 4];
    let mark: &[u8] = mark.encode_utf8(&mut bytes).as_bytes();
    let marked = text.bytes().flat_map(|byte| {
        let other = if byte == b'$' { mark } else { &[] };
        other.iter().copied().chain((byte != b'$').then_some(byte))
    });
    out.iter_mut().zip(marked).for_each(|(place, byte)| *place = byte);
    Ok(out)
}

fn is_same(value: &str, marked: &str, mark: char) -> bool {
    value.chars().eq(marked.chars().map(|c| if c == mark { '$' } else { c }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Result<String, String>)> {
        let arena = Arena::new().unwrap();
        let mut buffer = text.as_bytes().to_vec();
        let length = buffer.len();
        buffer.resize(length + 9, 0);
        let text = |value: &mut [u8]| String::from_utf8(value.to_vec()).unwrap();
        entries(&mut buffer, length, &arena)
            .unwrap()
            .into_iter()
            .map(|entry| (entry.name, entry.value.map(text)))
            .collect()
    }

    #[test]
    fn the_usual_lines_are_read() {
        let found = read(
            "\u{feff}A=plain\n# don't\nexport B=\"two words\" # note\nC='it''s # $HOME'\nD=a#b\n\nE=\"x\\ny\"\r\nF=\nG=1 ",
        );
        let expected = [
            ("A", "plain"),
            ("B", "two words"),
            ("C", "its # $HOME"),
            ("D", "a#b"),
            ("E", "x\ny"),
            ("F", ""),
            ("G", "1"),
        ];
        let found: Vec<(&str, &str)> =
            found.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_would_change_on_its_way_is_refused() {
        for text in ["A=pa$$word", "A=\"x$HOME\"", "A=x${NONE}y", "A=pa\\$word", "A=\"pa\\$word\"", "A=$"] {
            let found = read(text);
            assert_eq!(found, [("A".into(), Err(AMBIGUOUS.into()))], "{text}");
        }
        // The mark is one that the text does not have.
        assert_eq!(read("A='\u{e000}$'"), [("A".into(), Ok("\u{e000}$".into()))]);
    }

    #[test]
    fn a_line_that_can_not_be_read_is_not_shown() {
        let found = read("A=good\nB=two words-of-a-value\nC=good\nD='open\nE=lost");
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["A", "(after A)", "C", "(after C)"]);
        assert!(found[1].1.is_err() && found[3].1.is_err());
        assert!(!format!("{found:?}").contains("of-a-value"));
    }
}
