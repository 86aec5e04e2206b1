//! Any bytes as the beginning of a vault: refused, or understood to the last byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mentiko_exec::fuzzing::vault::{HEADER_AND_MAC, header};

fuzz_target!(|input: (u32, &[u8])| {
    let (size, bytes) = input;
    if let Some(again) = header(bytes, size.into()) {
        let covered = HEADER_AND_MAC.0 - HEADER_AND_MAC.1;
        assert_eq!(again[..covered], bytes[..covered]);
        assert_eq!(again.len(), HEADER_AND_MAC.0);
        assert!(size as usize > HEADER_AND_MAC.0, "there is no room for a table");
    }
});
