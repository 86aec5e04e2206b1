//! From the bytes of a terminal to keys.
//!
//! Not by a library: those keep what was typed in buffers of their own. Here one byte passes at a
//! time, from the arena into the arena.

/// What was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A byte of text: a whole character, or a part of one that UTF-8 writes in several.
    Text(u8),
    /// The same out of a paste, where newlines are text too.
    Pasted(u8),
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    /// With the letter that was pressed besides, a small one.
    Control(u8),
}

const ESCAPE: u8 = 0x1b;
/// What a terminal sends after a paste, once it was asked to mark pastes.
const PASTE_END: &[u8] = b"\x1b[201~";
const PASTE_BEGINS: &[u8] = b"200~";
/// The longest sequence that is a key.
const LONGEST: usize = 16;
/// After so many silences a paste is over, whether its end was marked or not.
const PATIENCE: u8 = 20;

/// Takes bytes apart.
#[derive(Default)]
pub(super) struct Decoder {
    state: State,
    /// A paste's last byte was a carriage return: a line feed after it is the same newline.
    after_return: bool,
    silences: u8,
}

#[derive(Default)]
enum State {
    #[default]
    Ground,
    /// After an escape byte: what followed so far.
    Sequence(Vec<u8>),
    /// In a paste, after so many bytes of the mark of its end.
    Paste(usize),
}

impl Decoder {
    /// Whether it depends on the next byte, or on there being none, what was pressed.
    pub(super) fn waits(&self) -> bool {
        !matches!(self.state, State::Ground)
    }

    /// Nothing came for a while: an escape byte was the key.
    pub(super) fn silence(&mut self) -> Option<Key> {
        self.silences = self.silences.saturating_add(1);
        match &self.state {
            State::Paste(_) if self.silences < PATIENCE => None,
            State::Sequence(bytes) if bytes.is_empty() => {
                self.state = State::Ground;
                Some(Key::Escape)
            }
            _ => {
                self.state = State::Ground;
                None
            }
        }
    }

    /// Calls `found` with each key that this byte completes.
    pub(super) fn take(&mut self, byte: u8, found: &mut impl FnMut(Key)) {
        self.silences = 0;
        match std::mem::take(&mut self.state) {
            State::Ground if byte == ESCAPE => self.state = State::Sequence(Vec::new()),
            State::Ground => found(plain(byte)),
            State::Sequence(bytes) => self.go_on(bytes, byte, found),
            State::Paste(matched) => self.pasted(matched, byte, found),
        }
    }

    fn go_on(&mut self, mut bytes: Vec<u8>, byte: u8, found: &mut impl FnMut(Key)) {
        match (bytes.as_slice(), byte) {
            ([], b'[' | b'O') => {
                bytes.push(byte);
                self.state = State::Sequence(bytes);
            }
            ([], _) => {
                found(Key::Escape);
                self.take(byte, found);
            }
            ([b'[', rest @ ..], 0x20..=0x3f) if rest.len() < LONGEST => {
                bytes.push(byte);
                self.state = State::Sequence(bytes);
            }
            ([_, parameters @ ..], _) => {
                let whole = [parameters, &[byte]].concat();
                match whole == PASTE_BEGINS {
                    true => self.state = State::Paste(0),
                    false => found_in(&whole, found),
                }
            }
        }
    }

    fn pasted(&mut self, matched: usize, byte: u8, found: &mut impl FnMut(Key)) {
        if PASTE_END.get(matched) == Some(&byte) {
            if matched + 1 < PASTE_END.len() {
                self.state = State::Paste(matched + 1);
            }
            return;
        }
        // It was not the mark: what looked like it is text.
        for &byte in PASTE_END.get(..matched).unwrap_or_default() {
            self.paste(byte, found);
        }
        self.state = State::Paste(usize::from(byte == ESCAPE));
        if byte != ESCAPE {
            self.paste(byte, found);
        }
    }

    fn paste(&mut self, byte: u8, found: &mut impl FnMut(Key)) {
        match byte {
            b'\n' if self.after_return => {}
            b'\r' => found(Key::Pasted(b'\n')),
            _ => found(Key::Pasted(byte)),
        }
        self.after_return = byte == b'\r';
    }
}

fn plain(byte: u8) -> Key {
    match byte {
        b'\r' | b'\n' => Key::Enter,
        b'\t' => Key::Tab,
        8 | 127 => Key::Backspace,
        1..=26 => Key::Control(byte + b'a' - 1),
        _ => Key::Text(byte),
    }
}

/// The key of a sequence, from its parameters on. Others are no keys of ours.
fn found_in(sequence: &[u8], found: &mut impl FnMut(Key)) {
    let Some((last, parameters)) = sequence.split_last() else { return };
    found(match (last, parameters) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'Z', _) => Key::BackTab,
        (b'M', []) => Key::Enter,
        (b'~', b"5") => Key::PageUp,
        (b'~', b"6") => Key::PageDown,
        _ => return,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let (mut decoder, mut keys) = (Decoder::default(), Vec::new());
        bytes.iter().for_each(|&byte| decoder.take(byte, &mut |key| keys.push(key)));
        keys.extend(decoder.silence());
        assert!(!decoder.waits() || bytes.starts_with(b"\x1b[200~"));
        keys
    }

    #[test]
    fn keys_are_told_from_text() {
        for (bytes, expected) in [
            (&b"aA1"[..], vec![Key::Text(b'a'), Key::Text(b'A'), Key::Text(b'1')]),
            ("é".as_bytes(), vec![Key::Text(0xc3), Key::Text(0xa9)]),
            (
                b"\r\t\x7f\x08\x03\x1a",
                vec![Key::Enter, Key::Tab, Key::Backspace, Key::Backspace, Key::Control(b'c'), Key::Control(b'z')],
            ),
            (b"\x1b", vec![Key::Escape]),
            (b"\x1b\x1b", vec![Key::Escape, Key::Escape]),
            (b"\x1bq", vec![Key::Escape, Key::Text(b'q')]),
            (b"\x1b[A\x1bOB\x1b[1;5C\x1b[D", vec![Key::Up, Key::Down, Key::Right, Key::Left]),
            (b"\x1b[5~\x1b[6~\x1b[H\x1b[4~\x1b[Z", vec![Key::PageUp, Key::PageDown, Key::Home, Key::End, Key::BackTab]),
            // No keys of ours: F5, a focus report, a cut sequence.
            (b"\x1b[15~\x1b[Ix", vec![Key::Text(b'x')]),
            (b"\x1b[1;", vec![]),
        ] {
            assert_eq!(keys(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_paste_is_text_to_its_end_and_no_key() {
        let pasted = |bytes: &[u8]| bytes.iter().map(|&byte| Key::Pasted(byte)).collect::<Vec<_>>();
        for (bytes, expected) in [
            (&b"ab"[..], &b"ab"[..]),
            (b"one\rtwo\r\nthree\n", b"one\ntwo\nthree\n"),
            (b"q\x03\x1b[A", b"q\x03\x1b[A"),
            (b"\x1b[201", b"\x1b[201"),
            (b"\x1b\x1b[20", b"\x1b\x1b[20"),
        ] {
            let all = [b"\x1b[200~", bytes, b"x\x1b[201~q"].concat();
            let mut expected = pasted(expected);
            expected.extend([Key::Pasted(b'x'), Key::Text(b'q')]);
            assert_eq!(keys(&all), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_paste_without_end_ends_with_silence() {
        let mut decoder = Decoder::default();
        b"\x1b[200~a".iter().for_each(|&byte| decoder.take(byte, &mut |_| ()));
        for _ in 0..PATIENCE {
            assert!(decoder.waits());
            assert_eq!(decoder.silence(), None);
        }
        assert!(!decoder.waits());
    }
}
