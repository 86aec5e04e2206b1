//! Published answers, through the functions that seal the vault: those of NIST for AES-GCM, and
//! those of Project Wycheproof, whose wrong tags and edge cases are the point.

use zeroize::Zeroizing;

use super::crypto::{self, Forged, Key};

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Seals and opens; what is sealed must be what was published.
fn seals(key: &Key, nonce: &[u8; 12], aad: &[u8], plain: &[u8], sealed: &[u8], tag: &[u8]) {
    let mut buffer = plain.to_vec();
    assert_eq!(crypto::seal(key, nonce, aad, &mut buffer).unwrap()[..], *tag);
    assert_eq!(buffer, sealed);
    assert_eq!(crypto::open(key, nonce, aad, &mut buffer, tag.try_into().unwrap()), Ok(()));
    assert_eq!(buffer, plain);
}

#[test]
fn aes_gcm_is_that_of_nist() {
    let text = include_str!("../../tests/data/nist/gcmEncryptExtIV256.rsp");
    let mut count = 0;
    for block in text.split("\n\n").filter(|block| block.contains("Key = ")) {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" ="));
            bytes(line.unwrap().trim())
        };
        let key = Zeroizing::new(field("Key").try_into().unwrap());
        let nonce = field("IV").try_into().unwrap();
        seals(&key, &nonce, &field("AAD"), &field("PT"), &field("CT"), &field("Tag"));
        count += 1;
    }
    assert_eq!(count, 375);
}

#[test]
fn aes_gcm_is_that_of_wycheproof() {
    let (mut valid, mut invalid) = (0, 0);
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let ours =
        |group: &&wycheproof::aead::TestGroup| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128);
    for test in set.test_groups.iter().filter(ours).flat_map(|group| &group.tests) {
        let key: Key = Zeroizing::new(test.key[..].try_into().unwrap());
        let nonce = test.nonce[..].try_into().unwrap();
        if test.result.must_fail() {
            invalid += 1;
            let mut buffer = test.ct.to_vec();
            let tag = test.tag[..].try_into().unwrap();
            assert_eq!(crypto::open(&key, &nonce, &test.aad, &mut buffer, &tag), Err(Forged), "{}", test.tc_id);
            assert!(buffer.is_empty() || buffer[..] != test.pt[..], "decrypted all the same: {}", test.tc_id);
        } else {
            valid += 1;
            seals(&key, &nonce, &test.aad, &test.pt, &test.ct, &test.tag);
        }
    }
    assert_eq!((valid, invalid), (39, 27));
}

#[test]
fn hkdf_is_that_of_wycheproof() {
    let mut count = 0;
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        // A key has 32 bytes: the beginning of every longer output, for HKDF makes them block by block.
        let Some(expected) = test.okm.get(..32).filter(|_| !test.result.must_fail()) else { continue };
        for at in [0, test.info.len() / 2, test.info.len()] {
            let (first, second) = test.info.split_at(at);
            assert_eq!(crypto::hkdf(&test.ikm, &test.salt, &[first, second])[..], *expected, "{}", test.tc_id);
        }
        count += 1;
    }
    assert_eq!(count, 65);
}

#[test]
fn hmac_is_that_of_wycheproof() {
    let (mut valid, mut invalid) = (0, 0);
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
    let ours = |group: &&wycheproof::mac::TestGroup| (group.key_size, group.tag_size) == (256, 256);
    for test in set.test_groups.iter().filter(ours).flat_map(|group| &group.tests) {
        let key: &[u8; 32] = test.key[..].try_into().unwrap();
        let (first, second) = test.msg.split_at(test.msg.len() / 3);
        assert_eq!(crypto::hmac_is(key, &[first, second], &test.tag), !test.result.must_fail(), "{}", test.tc_id);
        match test.result.must_fail() {
            true => invalid += 1,
            false => {
                valid += 1;
                assert_eq!(crypto::hmac(key, &[&test.msg])[..], test.tag[..]);
            }
        }
    }
    assert_eq!((valid, invalid), (27, 54));
}
