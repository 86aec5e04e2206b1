//! Where a value is typed: in the arena, and shown nowhere.

use crate::admin::Error;
use crate::instance::{previous_character, without_newline};
use crate::memory::{Arena, equal, wipe};
use crate::vault::MAX_VALUE;

/// A line that is typed without being seen.
pub(super) struct Line<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl<'a> Line<'a> {
    fn new(arena: &'a Arena) -> Result<Self, crate::memory::Error> {
        // Room for a final newline.
        Ok(Self { bytes: arena.alloc(MAX_VALUE + 1)?, length: 0 })
    }

    /// False where there is no room left.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        let Some(place) = self.bytes.get_mut(self.length) else { return false };
        *place = byte;
        self.length += 1;
        true
    }

    /// Takes the last character back.
    pub(super) fn backspace(&mut self) {
        let length = previous_character(self.bytes, self.length);
        wipe(self.bytes.get_mut(length..self.length).unwrap_or_default());
        self.length = length;
    }

    pub(super) fn clear(&mut self) {
        wipe(self.bytes);
        self.length = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// The two lines of a value, for nobody sees what is typed.
pub(super) struct Desk<'a> {
    pub(super) first: Line<'a>,
    pub(super) again: Line<'a>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(arena: &'a Arena) -> Result<Self, crate::memory::Error> {
        Ok(Self { first: Line::new(arena)?, again: Line::new(arena)? })
    }

    pub(super) fn clear(&mut self) {
        self.first.clear();
        self.again.clear();
    }

    /// The value, if both lines hold it. One final newline, as pastes have, is not part of it.
    pub(super) fn value(&mut self, name: &str) -> Result<&mut [u8], Error> {
        let [first, again] = [&self.first, &self.again].map(|line| line.bytes.get(..line.length).unwrap_or_default());
        if !equal(first, again) {
            return Err("the two differ; type both again".to_owned().into());
        }
        let length = without_newline(self.first.bytes, self.first.length);
        crate::admin::value::check(name, self.first.bytes, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &mut Line<'_>, text: &str) {
        assert!(text.bytes().all(|byte| line.push(byte)));
    }

    #[test]
    fn a_value_is_taken_if_it_is_typed_twice() {
        let arena = Arena::new().unwrap();
        let mut desk = Desk::new(&arena).unwrap();
        typed(&mut desk.first, "aé€");
        typed(&mut desk.again, "aé");
        assert_eq!(desk.value("A").unwrap_err().to_string(), "the two differ; type both again");
        desk.first.backspace();
        assert_eq!(desk.value("A").unwrap(), "aé".as_bytes());
        for line in [&mut desk.first, &mut desk.again] {
            typed(line, "\n");
        }
        assert_eq!(desk.value("A").unwrap(), "aé".as_bytes(), "but for the final newline");
        desk.clear();
        assert!(desk.first.bytes.iter().chain(&*desk.again.bytes).all(|&byte| byte == 0));
        assert_eq!(desk.value("A").unwrap_err().to_string(), "the value of 'A' is empty; nothing was stored");
    }

    #[test]
    fn there_is_room_for_the_longest_value_and_no_more() {
        let arena = Arena::new().unwrap();
        let mut desk = Desk::new(&arena).unwrap();
        for line in [&mut desk.first, &mut desk.again] {
            typed(line, &"x".repeat(MAX_VALUE + 1));
            assert!(!line.push(b'x'));
        }
        assert!(desk.value("A").unwrap_err().to_string().contains("longer than 131000 bytes"));
    }
}
