//! Any bytes as what the ledger of a vault holds: refused, or understood in the same way by whoever
//! reads all of it and by a launch, which looks for one approval.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mentiko_exec::fuzzing::vault::{approval, ledger, plain_ledger};
use mentiko_exec::memory::Arena;

fuzz_target!(|plain: &[u8]| {
    let absent = "absent-4711".parse().unwrap();
    let Some(read) = ledger(plain) else { return assert!(approval(plain, &absent).is_none()) };
    assert_eq!(approval(plain, &absent), Some(read.approvals().get(&absent).cloned()));
    for (chain, approved) in read.approvals() {
        assert_eq!(approval(plain, chain).unwrap().as_ref(), Some(approved));
    }
    let arena = Arena::new().unwrap();
    let eras = read.eras(&arena).unwrap();
    assert!(eras.len() * 80 <= plain.len());
    let written = plain_ledger(&read).unwrap();
    let again = ledger(&written).unwrap();
    assert_eq!((again.approvals(), again.eras(&arena).unwrap().len()), (read.approvals(), eras.len()));
    assert_eq!(plain_ledger(&again).unwrap(), written);
});
