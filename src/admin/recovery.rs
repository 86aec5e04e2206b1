//! Recovery codes: 160 random bits as a person writes them down and types them in.
//!
//! 8 groups of 5 characters in Crockford's base 32, the last of each a check character, so that a
//! slip is found in its group. docs/vault-format.md states it.

use std::fs::File;
use std::os::fd::RawFd;

use super::Error;
use crate::instance::{RECOVERY_KEY, ask, read_secret};
use crate::memory::{Arena, adopt, wipe};

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUPS: usize = 8;
const PER_GROUP: usize = 5;
/// Groups with hyphens between.
pub(super) const CODE: usize = GROUPS * PER_GROUP + GROUPS - 1;
/// What is read at most: people put blanks where they like.
const MAX_TYPED: usize = 256;

/// Asks for a code, or reads it from the descriptor of `--recovery-code-fd`.
pub(super) fn read(fd: Option<RawFd>, arena: &Arena) -> Result<&[u8; RECOVERY_KEY], Error> {
    let typed = arena.alloc(MAX_TYPED)?;
    let length = match fd {
        Some(fd) => {
            let fd = adopt(fd).map_err(|_| format!("--recovery-code-fd {fd}: no such open descriptor above 2"))?;
            let length = read_secret(&mut File::from(fd), typed);
            length.map_err(|error| format!("can't read the recovery code: {error}"))?
        }
        None => ask("Recovery code: ", typed)?,
    };
    let key = new_place(arena)?;
    decode(typed.get(..length).unwrap_or_default(), key)?;
    wipe(typed);
    Ok(key)
}

/// Room for a recovery key.
#[allow(clippy::mut_from_ref)] // As Arena::alloc.
pub(super) fn new_place(arena: &Arena) -> Result<&mut [u8; RECOVERY_KEY], Error> {
    let place: Result<&mut [u8; RECOVERY_KEY], _> = arena.alloc(RECOVERY_KEY)?.try_into();
    place.map_err(|_| Error::Other("no room for a recovery key".into()))
}

/// Writes the code of a key to `place`, which must be [`CODE`] bytes of the arena.
pub(super) fn encode(key: &[u8; RECOVERY_KEY], place: &mut [u8]) {
    let mut out = place.iter_mut();
    let mut put = |byte: u8| {
        if let Some(place) = out.next() {
            *place = byte;
        }
    };
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'?');
    for group in 0..GROUPS {
        if group > 0 {
            put(b'-');
        }
        let mut sum = start(group);
        for at in 0..PER_GROUP - 1 {
            let value = five_bits(key, group * (PER_GROUP - 1) + at);
            sum = doubled(sum) ^ value;
            put(digit(value));
        }
        put(digit(doubled(sum)));
    }
}

/// Takes a code in any usual spelling; the error names the group and never shows what was typed.
fn decode(typed: &[u8], key: &mut [u8; RECOVERY_KEY]) -> Result<(), String> {
    let mut count = 0;
    let mut sum = 0;
    let is_passed_over = |byte: &&u8| !byte.is_ascii_whitespace() && **byte != b'-';
    for byte in typed.iter().filter(is_passed_over) {
        let (group, at) = (count / PER_GROUP, count % PER_GROUP);
        if group == GROUPS {
            return Err("the recovery code is too long: it has 8 groups of 5 characters".into());
        }
        let value = value_of(*byte).ok_or_else(|| {
            format!("group {} of the recovery code has a character that none has; look at it again", group + 1)
        })?;
        if at == 0 {
            sum = start(group);
        }
        if at < PER_GROUP - 1 {
            sum = doubled(sum) ^ value;
            set_five_bits(key, group * (PER_GROUP - 1) + at, value);
        } else if doubled(sum) != value {
            return Err(format!("group {} of the recovery code is mistyped; look at it again", group + 1));
        }
        count += 1;
    }
    match count {
        0 => Err("the recovery code is empty".into()),
        _ if count == GROUPS * PER_GROUP => Ok(()),
        _ => Err("the recovery code is too short: it has 8 groups of 5 characters".into()),
    }
}

/// What the sum of a group begins with: no two groups begin with the same.
fn start(group: usize) -> u8 {
    u8::try_from(group + 1).unwrap_or(0)
}

/// Times x in GF(32), modulo x^5 + x^2 + 1.
fn doubled(value: u8) -> u8 {
    let shifted = value << 1;
    if shifted & 0x20 == 0 { shifted } else { shifted ^ 0x25 }
}

fn value_of(byte: u8) -> Option<u8> {
    let plain = match byte.to_ascii_uppercase() {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    };
    DIGITS.iter().position(|&digit| digit == plain).and_then(|value| u8::try_from(value).ok())
}

/// The bits 5 * at to 5 * at + 4, the most significant bit of the first byte being bit 0.
fn five_bits(key: &[u8; RECOVERY_KEY], at: usize) -> u8 {
    (at * 5..at * 5 + 5).fold(0, |value, bit| {
        let byte = key.get(bit / 8).copied().unwrap_or(0);
        value << 1 | byte >> (7 - bit % 8) & 1
    })
}

fn set_five_bits(key: &mut [u8; RECOVERY_KEY], at: usize, value: u8) {
    for (bit, shift) in (at * 5..at * 5 + 5).zip((0..5).rev()) {
        if let Some(byte) = key.get_mut(bit / 8) {
            let mask = 1 << (7 - bit % 8);
            *byte = if value >> shift & 1 == 1 { *byte | mask } else { *byte & !mask };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; RECOVERY_KEY] =
        [0x84, 0x3d, 0xff, 0x00, 0x12, 7, 99, 200, 31, 64, 1, 2, 3, 4, 5, 0xaa, 0x55, 0xc3, 0x3c, 0x80];

    fn code_of(key: &[u8; RECOVERY_KEY]) -> String {
        let mut place = [0; CODE];
        encode(key, &mut place);
        String::from_utf8(place.to_vec()).unwrap()
    }

    fn decoded(text: &str) -> Result<[u8; RECOVERY_KEY], String> {
        let mut key = [0x77; RECOVERY_KEY];
        decode(text.as_bytes(), &mut key).map(|()| key)
    }

    /// Worked out by hand from docs/vault-format.md: 32, 64, 96 ... are the group's share alone.
    #[test]
    fn known_codes() {
        assert_eq!(code_of(&[0; RECOVERY_KEY]).split('-').next(), Some("00005"));
        // The first digit is 1: 2^5 + 2^4 is 5 + 16.
        assert_eq!(
            &code_of(&{
                let mut key = [0; RECOVERY_KEY];
                key[0] = 0b0000_1000;
                key
            })[..5],
            "1000N"
        );
        let code = code_of(&KEY);
        assert_eq!((code.len(), code.split('-').count()), (47, 8));
        assert!(code.starts_with("GGYZG"), "{code}");
    }

    #[test]
    fn a_code_is_taken_in_any_usual_spelling() {
        let code = code_of(&KEY);
        for text in [
            code.clone(),
            code.to_lowercase(),
            code.replace('-', ""),
            code.replace('-', " - "),
            format!(" {code}\n"),
            code.replace('0', "O"),
            code.replace('0', "o"),
            code.replace('1', "l"),
            code.replace('1', "I"),
        ] {
            assert_eq!(decoded(&text), Ok(KEY), "{text}");
        }
        assert!(code.contains('0') && code.contains('1'));
    }

    #[test]
    fn every_slip_of_one_character_is_found_in_its_group() {
        let code = code_of(&KEY);
        for (at, right) in code.char_indices().filter(|(_, right)| *right != '-') {
            for wrong in DIGITS.iter().map(|&digit| char::from(digit)).filter(|wrong| *wrong != right) {
                let mut text = code.clone();
                text.replace_range(at..=at, &wrong.to_string());
                let error = decoded(&text).unwrap_err();
                assert!(error.starts_with(&format!("group {} of", at / 6 + 1)), "{text}: {error}");
                assert!(!error.contains(&code[..5]), "{error}");
            }
        }
    }

    #[test]
    fn swapped_characters_and_groups_are_found() {
        let code = code_of(&KEY);
        let plain: Vec<char> = code.chars().filter(|&c| c != '-').collect();
        for group in 0..GROUPS {
            for (one, two) in (0..5).flat_map(|one| (one + 1..5).map(move |two| (one, two))) {
                let mut swapped = plain.clone();
                swapped.swap(group * 5 + one, group * 5 + two);
                let error = decoded(&swapped.iter().collect::<String>());
                assert_eq!(error.is_ok(), swapped == plain, "{group} {one} {two}");
            }
        }
        let groups: Vec<&str> = code.split('-').collect();
        for (one, two) in (0..8).flat_map(|one| (one + 1..8).map(move |two| (one, two))) {
            let mut swapped = groups.clone();
            swapped.swap(one, two);
            assert!(decoded(&swapped.join("-")).is_err(), "{one} {two}");
        }
    }

    #[test]
    fn other_lengths_and_characters_are_refused() {
        let code = code_of(&KEY);
        for (text, part) in [
            (String::new(), "is empty"),
            ("--".into(), "is empty"),
            (code[..46].into(), "too short"),
            (format!("{code}0"), "too long"),
            (code.replacen('G', "U", 1), "group 1 of"),
            (format!("{}é", &code[..6]), "group 2 of"),
        ] {
            let error = decoded(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
