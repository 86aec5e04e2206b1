//! Randomness of the kernel, and the identifiers made of it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Error, Uuid};

/// Fills the slice from getrandom(2).
pub fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(Error::Random)
}

/// A UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 74 random bits.
pub fn uuid_v7() -> Result<Uuid, Error> {
    let mut bytes = [0u8; 16];
    fill(&mut bytes)?;
    let milliseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let [.., a, b, c, d, e, f] = milliseconds.to_be_bytes();
    let [t0, t1, t2, t3, t4, t5, version, _, variant, ..] = &mut bytes;
    (*t0, *t1, *t2, *t3, *t4, *t5) = (a, b, c, d, e, f);
    *version = *version & 0x0f | 0x70;
    *variant = *variant & 0x3f | 0x80;
    Ok(Uuid::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_7_has_its_marks_and_its_time() {
        let text = uuid_v7().unwrap().to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "7");
        assert!("89ab".contains(&text[19..20]));
        let milliseconds = u128::from_str_radix(&text.replace('-', "")[..12], 16).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        assert!(now - milliseconds < 10_000);
    }
}
