//! Any bytes as the plain contents of a bucket: refused, or records that are written as they were
//! read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mentiko_exec::fuzzing::vault::{bucket, records};

fuzz_target!(|plain: &[u8]| {
    let Some(read) = records(plain) else { return };
    for record in &read {
        let (facts, current) = (record.facts(), record.current());
        assert_eq!(facts.version, current.map(|version| version.number));
        assert!(record.due().is_none() || record.rotation.is_some() && current.is_some());
        for version in &record.versions {
            assert!(record.version(version.number).is_some());
            assert!(version.sealed.value_len() <= plain.len());
        }
    }
    // Not always the same bytes: chains of a scope may have come in any order.
    let written = bucket(&read).unwrap();
    assert!(written.len() <= plain.len());
    let again = bucket(&records(&written).unwrap()).unwrap();
    assert_eq!(written, again);
});
