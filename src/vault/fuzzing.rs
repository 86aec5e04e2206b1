//! See [`crate::fuzzing`].

use super::approval::approval_of;
use super::header::{HEADER, Unauthenticated};
use super::{Approval, AuditKey, Error, Ledger, LogKey, Pins, Record, RootKey, Sealed, Vault, crypto, read};
use crate::policy::ChainName;

/// Takes a header apart as a reader does, and writes it again.
pub fn header(bytes: &[u8], size: u64) -> Option<Vec<u8>> {
    let root = RootKey(&[7; 32]);
    let unauthenticated = Unauthenticated::parse("vault".as_ref(), bytes, size).ok()?;
    Some(unauthenticated.believe().encode(&root))
}

/// The length of a header, and of the MAC at its end.
pub const HEADER_AND_MAC: (usize, usize) = (HEADER, 32);

/// Gives a changed header the MAC that a writer with the key would have given it.
pub fn authenticate(vault: &Vault<'_>, file: &mut [u8]) {
    if let Some((header, mac)) = file.get_mut(..HEADER).and_then(<[u8]>::split_last_chunk_mut) {
        *mac = crypto::hmac(&vault.root.header(), &[header]);
    }
}

/// The records of a bucket that has been opened.
pub fn records(plain: &[u8]) -> Option<Vec<Record>> {
    read::records(plain).ok()
}

/// What a bucket of these records holds.
pub fn bucket(records: &[Record]) -> Result<Vec<u8>, Error> {
    let mut plain = u32::try_from(records.len()).map_err(|_| Error::TooLarge)?.to_le_bytes().to_vec();
    records.iter().try_for_each(|record| record.write(&mut plain))?;
    Ok(plain)
}

/// The ledger, once it has been opened.
pub fn ledger(plain: &[u8]) -> Option<Ledger> {
    Ledger::parse(plain).ok()
}

/// What a ledger is sealed of.
pub fn plain_ledger(ledger: &Ledger) -> Result<Vec<u8>, Error> {
    Ok(ledger.encode()?.to_vec())
}

/// What an opened ledger says of one chain; the outer `None` where it is refused.
pub fn approval(plain: &[u8], chain: &ChainName) -> Option<Option<Approval>> {
    approval_of(plain, chain).ok()
}

/// The pins of a run, once they have been opened.
pub fn pins(plain: &[u8]) -> Option<Pins> {
    Pins::read(plain).ok()
}

/// What is sealed of pins.
pub fn plain_pins(pins: &Pins) -> Result<Vec<u8>, Error> {
    Ok(pins.write()?.to_vec())
}

/// A value for a record that is only decided about.
pub fn no_value() -> Sealed {
    Sealed::wiped()
}

/// The same, for appending.
pub fn log_key(key: &[u8; 32]) -> LogKey<'_> {
    LogKey::of(key)
}

/// A key for the log alone.
pub fn audit_key(key: &[u8; 32]) -> AuditKey<'_> {
    AuditKey::of(key)
}
