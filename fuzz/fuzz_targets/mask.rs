//! Masking of a stream, wherever reads split it, gives what masking the whole text at once does;
//! and a value is found in each of the usual encodings.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mentiko_exec::fuzzing::launch::mask::{SHORTEST, forms, mask};
use mentiko_exec::memory::Arena;

#[derive(Arbitrary, Debug)]
struct Input {
    values: Vec<Vec<u8>>,
    text: Vec<Piece>,
    sizes: Vec<u8>,
    before: Vec<u8>,
    after: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Piece {
    Bytes(Vec<u8>),
    Value(u8),
    Beginning(u8, u8),
    Rest(u8, u8),
}

/// The simplest that can be: from the left, the longest form that stands there.
fn oracle(forms: &[(&[u8], &[u8])], text: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let mut found: Option<(&[u8], &[u8])> = None;
        for &(form, mark) in forms {
            if text[at..].starts_with(form) && found.is_none_or(|(longest, _)| form.len() > longest.len()) {
                found = Some((form, mark));
            }
        }
        match found {
            Some((form, mark)) => {
                out.extend_from_slice(mark);
                at += form.len();
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

/// RFC 4648, a group of three bytes at a time.
fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let mut out = Vec::new();
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0, |number, at| number << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            out.push(if at <= group.len() { alphabet[(number >> (18 - 6 * at)) as usize & 63] } else { b'=' });
        }
    }
    out
}

fn percent(bytes: &[u8], keep: &str, upper: bool) -> Vec<u8> {
    let escape = |&byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() || keep.as_bytes().contains(&byte) => char::from(byte).to_string(),
        byte if upper => format!("%{byte:02X}"),
        byte => format!("%{byte:02x}"),
    };
    bytes.iter().map(escape).collect::<String>().into_bytes()
}

fn encodings(whole: &[u8]) -> Vec<Vec<u8>> {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut encoded = vec![whole.to_vec()];
    for marks in ["+/", "-_"] {
        encoded.push(base64(whole, format!("{letters}{marks}").as_bytes().try_into().unwrap()));
    }
    for keep in ["-._~", "-._~/", ""] {
        encoded.extend([percent(whole, keep, true), percent(whole, keep, false)]);
    }
    if let Ok(text) = std::str::from_utf8(whole) {
        encoded.push(serde_json::to_vec(text).unwrap());
    }
    encoded
}

fuzz_target!(|input: Input| {
    let mut values = input.values;
    values.retain(|value| (SHORTEST..=64).contains(&value.len()));
    values.truncate(4);
    let marks: Vec<Vec<u8>> = (0..values.len()).map(|at| format!("[{at}]").into_bytes()).collect();
    let mut wanted: Vec<(&[u8], &[u8])> = Vec::new();
    let arena = Arena::new().unwrap();
    for (value, mark) in values.iter().zip(&marks) {
        let all = forms(value, &arena).unwrap();
        for encoded in encodings(&[&input.before, &value[..], &input.after].concat()) {
            let alone: Vec<(&[u8], &[u8])> = all.iter().map(|form| (*form, &mark[..])).collect();
            let masked = mask(&alone, &encoded, []);
            assert!(masked.windows(mark.len()).any(|part| part == mark), "not found in {encoded:?}");
        }
        wanted.extend(all.into_iter().map(|form| (form, &mark[..])));
    }
    let mut text = Vec::new();
    for piece in input.text {
        let form = |number: u8| wanted.get(usize::from(number) % wanted.len().max(1)).map_or(&[][..], |(form, _)| form);
        let cut = |form: &[u8], at: u8| usize::from(at).min(form.len());
        match piece {
            Piece::Bytes(bytes) => text.extend_from_slice(&bytes),
            Piece::Value(number) => text.extend_from_slice(form(number)),
            Piece::Beginning(number, at) => text.extend_from_slice(&form(number)[..cut(form(number), at)]),
            Piece::Rest(number, at) => text.extend_from_slice(&form(number)[cut(form(number), at)..]),
        }
        if text.len() > 4096 {
            break;
        }
    }
    let expected = oracle(&wanted, &text);
    assert_eq!(mask(&wanted, &text, []), expected, "at once");
    assert_eq!(mask(&wanted, &text, input.sizes.into_iter().cycle().map(usize::from)), expected, "in pieces");
    assert_eq!(mask(&wanted, &text, std::iter::repeat(1)), expected, "byte by byte");
});
