//! Randomness of the kernel, and the identifiers made of it.

use jiff::Timestamp;

use super::{Error, Uuid};

/// Fills the slice from getrandom(2).
pub fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(Error::Random)
}

/// A UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 74 random bits.
pub fn uuid_v7() -> Result<Uuid, Error> {
    let mut random = [0; 10];
    fill(&mut random)?;
    let milliseconds = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
    Ok(uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
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
        let now = u128::try_from(Timestamp::now().as_millisecond()).unwrap();
        assert!(now - milliseconds < 10_000);
    }
}
