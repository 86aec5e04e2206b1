//! The forms in which a value may appear in output: as it is, and as common encodings write it.
//!
//! All of them lie in the arena, like the value itself.

use std::collections::BTreeSet;

use crate::memory::{Arena, Error};

/// The shortest value, and the shortest form of one, that is masked: shorter ones would hit
/// ordinary text.
pub(crate) const SHORTEST: usize = 8;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";
const LOWER: &[u8; 16] = b"0123456789abcdef";

/// Every form of the value that is long enough, each once.
pub(crate) fn of<'a>(value: &'a [u8], arena: &'a Arena) -> Result<Vec<&'a [u8]>, Error> {
    let mut forms = BTreeSet::from([value]);
    for digits in [UPPER, LOWER] {
        // RFC 3986, section 2.3: unreserved characters stay; some encoders keep the slash too.
        for keep in [&b"-._~"[..], b"-._~/", b""] {
            forms.insert(escaped(value, arena, |byte, out| percent(byte, keep, digits, out))?);
        }
    }
    for slash in [false, true] {
        forms.insert(escaped(value, arena, |byte, out| json(byte, slash, out))?);
    }
    for alphabet in [STANDARD, URL_SAFE] {
        for offset in 0..3 {
            forms.insert(base64(value, offset, alphabet, arena)?);
        }
    }
    Ok(forms.into_iter().filter(|form| form.len() >= SHORTEST).collect())
}

/// The value with each byte either kept or replaced by up to six others; the value itself where all
/// are kept.
fn escaped<'a>(value: &'a [u8], arena: &'a Arena, encode: impl Fn(u8, &mut [u8]) -> usize) -> Result<&'a [u8], Error> {
    let length = value.iter().map(|&byte| encode(byte, &mut [0; 6])).sum();
    if length == value.len() {
        return Ok(value);
    }
    let out = arena.alloc(length)?;
    let mut at = 0;
    for &byte in value {
        at += encode(byte, out.get_mut(at..).unwrap_or_default());
    }
    Ok(out)
}

fn put(out: &mut [u8], bytes: &[u8]) -> usize {
    out.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    bytes.len()
}

fn digit(digits: &[u8; 16], value: u8) -> u8 {
    digits.get(usize::from(value & 15)).copied().unwrap_or_default()
}

fn percent(byte: u8, keep: &[u8], digits: &[u8; 16], out: &mut [u8]) -> usize {
    match byte.is_ascii_alphanumeric() || keep.contains(&byte) {
        true => put(out, &[byte]),
        false => put(out, &[b'%', digit(digits, byte >> 4), digit(digits, byte)]),
    }
}

/// RFC 8259, section 7, as encoders write it: short escapes where there are some.
fn json(byte: u8, slash: bool, out: &mut [u8]) -> usize {
    match byte {
        b'"' | b'\\' => put(out, &[b'\\', byte]),
        b'/' if slash => put(out, b"\\/"),
        b'\n' => put(out, b"\\n"),
        b'\r' => put(out, b"\\r"),
        b'\t' => put(out, b"\\t"),
        0x08 => put(out, b"\\b"),
        0x0c => put(out, b"\\f"),
        0..0x20 => put(out, &[b'\\', b'u', b'0', b'0', digit(LOWER, byte >> 4), digit(LOWER, byte)]),
        _ => put(out, &[byte]),
    }
}

/// What base64 (RFC 4648) of a text holds of the value when `offset` bytes (modulo 3) stand before
/// it: the characters that depend on nothing but the value.
fn base64<'a>(value: &[u8], offset: usize, alphabet: &[u8; 64], arena: &'a Arena) -> Result<&'a [u8], Error> {
    let first = (offset * 8).div_ceil(6);
    let end = (offset + value.len()) * 8 / 6;
    let out = arena.alloc(end.saturating_sub(first))?;
    let bit = |at: usize| -> usize {
        let byte = (at / 8).checked_sub(offset).and_then(|at| value.get(at)).copied().unwrap_or_default();
        usize::from(byte >> (7 - at % 8) & 1)
    };
    for (place, character) in out.iter_mut().zip(first..) {
        let index = (0..6).fold(0, |index, at| index << 1 | bit(character * 6 + at));
        *place = alphabet.get(index).copied().unwrap_or_default();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(value: &[u8]) -> Vec<String> {
        let arena = Arena::new().unwrap();
        let value = {
            let place = arena.alloc(value.len()).unwrap();
            place.copy_from_slice(value);
            &*place
        };
        of(value, &arena).unwrap().iter().map(|form| String::from_utf8_lossy(form).into_owned()).collect()
    }

    #[test]
    fn the_usual_encodings_are_among_the_forms() {
        let forms = texts(b"pa/ss+wo\"rd\n1");
        for expected in [
            "pa/ss+wo\"rd\n1", "pa%2Fss%2Bwo%22rd%0A1", "pa%2fss%2bwo%22rd%0a1", "pa/ss%2Bwo%22rd%0A1",
            "pa/ss+wo\\\"rd\\n1", "pa\\/ss+wo\\\"rd\\n1",
        ] {
            assert!(forms.iter().any(|form| form == expected), "{expected}: {forms:?}");
        }
    }

    /// `printf 'x%s' VALUE | base64` and so on, by coreutils.
    #[test]
    fn base64_is_found_at_any_offset() {
        let forms = texts(b"correct-horse-battery");
        for (encoded, offset) in [
            ("Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5", 0),
            ("eGNvcnJlY3QtaG9yc2UtYmF0dGVyeQ==", 1),
            ("eHhjb3JyZWN0LWhvcnNlLWJhdHRlcnk=", 2),
        ] {
            assert!(
                forms.iter().any(|form| encoded.contains(form.as_str()) && form.len() >= 27),
                "{offset}: {forms:?}"
            );
        }
    }

    #[test]
    fn a_plain_key_has_few_forms() {
        // The plain one, two that escape even the dash, and base64 at three offsets.
        assert_eq!(texts(b"sk-abcdefghijkl").len(), 6, "{:?}", texts(b"sk-abcdefghijkl"));
    }
}
