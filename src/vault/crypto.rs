//! The three primitives that everything here is made of: AES-256-GCM, HKDF-SHA256, HMAC-SHA256.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Error;

/// Bytes of an AES-GCM nonce (NIST SP 800-38D, 8.2).
pub(super) const NONCE: usize = 12;
/// Bytes of an AES-GCM tag.
pub(super) const TAG: usize = 16;

/// A derived key; wipes itself.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// HKDF-SHA256 (RFC 5869) to 32 bytes; `info` is the concatenation of its parts.
pub(super) fn hkdf(ikm: &[u8], salt: &[u8], info: &[&[u8]]) -> Key {
    let mut key = Zeroizing::new([0; 32]);
    let expanded = Hkdf::<Sha256>::new(Some(salt), ikm).expand_multi_info(info, key.as_mut());
    debug_assert!(expanded.is_ok(), "32 bytes is a valid length of output");
    key
}

/// HMAC-SHA256 (RFC 2104) over the concatenation of the parts.
pub fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    over(keyed(key), parts).finalize().into_bytes().into()
}

/// Whether `tag` is the HMAC of the parts, in constant time.
pub fn hmac_is(key: &[u8; 32], parts: &[&[u8]], tag: &[u8]) -> bool {
    over(keyed(key), parts).verify_slice(tag).is_ok()
}

/// The state of an HMAC; wipes itself.
pub(super) type HmacSha256 = Hmac<Sha256>;

pub(super) fn over(mut mac: HmacSha256, parts: &[&[u8]]) -> HmacSha256 {
    for part in parts {
        mac.update(part);
    }
    mac
}

pub(super) fn keyed(key: &[u8; 32]) -> HmacSha256 {
    // RFC 2104: a key shorter than the block of 64 bytes is padded with zeros.
    let mut block = Zeroizing::new([0; 64]);
    if let Some(start) = block.first_chunk_mut() {
        *start = *key;
    }
    let block: &[u8; 64] = &block;
    <HmacSha256 as KeyInit>::new(block.into())
}

/// SHA-256 (FIPS 180-4).
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Encrypts in place and returns the tag. The key must never have sealed anything before.
pub(super) fn seal(key: &Key, nonce: &[u8; NONCE], aad: &[u8], buffer: &mut [u8]) -> Result<[u8; TAG], Error> {
    Aes256Gcm::new((&**key).into())
        .encrypt_inout_detached(&Nonce::from(*nonce), aad, buffer.into())
        .map(Into::into)
        .map_err(|_| Error::TooLarge)
}

/// Checks the tag, then decrypts in place; leaves nothing decrypted when the tag is wrong.
pub(super) fn open(
    key: &Key,
    nonce: &[u8; NONCE],
    aad: &[u8],
    buffer: &mut [u8],
    tag: &[u8; TAG],
) -> Result<(), Forged> {
    Aes256Gcm::new((&**key).into())
        .decrypt_inout_detached(&Nonce::from(*nonce), aad, buffer.into(), &Tag::from(*tag))
        .map_err(|_| Forged)
}

/// The tag does not fit: another key, or other bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forged;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 5869, A.1 has an output of 42 bytes; its first 32 are those of a shorter output.
    #[test]
    fn hkdf_known_answer() {
        let info = bytes("f0f1f2f3f4f5f6f7f8f9");
        let (first, second) = info.split_at(4);
        let key = hkdf(&[0x0b; 22], &bytes("000102030405060708090a0b0c"), &[first, second]);
        assert_eq!(key[..], bytes("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")[..]);
    }

    /// RFC 4231, test case 6 needs a longer key; case 1 is padded here to 32 bytes by its zeros.
    #[test]
    fn hmac_known_answer() {
        let mut key = [0u8; 32];
        key[..20].fill(0x0b);
        let tag = hmac(&key, &[b"Hi ", b"There"]);
        assert_eq!(tag[..], bytes("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")[..]);
        assert!(hmac_is(&key, &[b"Hi There"], &tag));
        assert!(!hmac_is(&key, &[b"Hi there"], &tag));
        assert!(!hmac_is(&key, &[b"Hi There"], &tag[..16]));
    }

    /// FIPS 180-4, example B.1 of its predecessor.
    #[test]
    fn sha256_known_answer() {
        assert_eq!(sha256(b"abc")[..], bytes("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")[..]);
    }

    /// NIST CAVS gcmEncryptExtIV256, as published in McGrew and Viega's test case 16.
    #[test]
    fn aes_gcm_known_answer() {
        let key: Key = Zeroizing::new(
            bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308").try_into().unwrap(),
        );
        let nonce: [u8; 12] = bytes("cafebabefacedbaddecaf888").try_into().unwrap();
        let aad = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plain = bytes(concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        ));
        let mut buffer = plain.clone();
        let tag = seal(&key, &nonce, &aad, &mut buffer).unwrap();
        let expected = bytes(concat!(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa",
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        ));
        assert_eq!(buffer, expected);
        assert_eq!(tag[..], bytes("76fc6ece0f4e1768cddf8853bb2d551b")[..]);
        assert_eq!(open(&key, &nonce, &aad, &mut buffer, &tag), Ok(()));
        assert_eq!(buffer, plain);
    }

    #[test]
    fn nothing_is_decrypted_when_the_tag_is_wrong() {
        let key: Key = Zeroizing::new([1; 32]);
        let mut buffer = *b"some plain text";
        let mut tag = seal(&key, &[2; 12], b"", &mut buffer).unwrap();
        tag[0] ^= 1;
        assert_eq!(open(&key, &[2; 12], b"", &mut buffer, &tag), Err(Forged));
        assert_ne!(&buffer, b"some plain text");
    }
}
