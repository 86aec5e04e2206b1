//! The pins of a run: any bytes as what was sealed, and any change of what is.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mentiko_exec::fuzzing::vault::{pins, plain_pins};
use mentiko_exec::policy::RunId;
use mentiko_exec::vault::{Pins, Vault};
use mentiko_exec_fuzz::{KEY, arena, instance};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Plain(&'a [u8]),
    Sealed { flips: Vec<(u16, u8)>, length: Option<u16>, other_run: bool },
    Anything(&'a [u8]),
}

struct Ground {
    vault: Vault<'static>,
    run: RunId,
    pins: Pins,
    sealed: Vec<u8>,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let vault = Vault::open(&instance(), KEY, arena()).unwrap();
    let run: RunId = "run-1".parse().unwrap();
    let mut pins = Pins::new("c".parse().unwrap(), 1_700_000_000);
    assert!(pins.add(&"A".parse().unwrap(), 1) && pins.add(&"slack/marketing".parse().unwrap(), 7));
    let sealed = vault.seal_pins(&run, &pins).unwrap();
    Ground { vault, run, pins, sealed }
});

fuzz_target!(|input: Input<'_>| {
    let Ground { vault, run, pins: expected, sealed } = &*GROUND;
    let path = Path::new("run-1.run");
    match input {
        Input::Plain(plain) => {
            if let Some(pins_read) = pins(plain) {
                // The order of names in it is free.
                let again = plain_pins(&pins_read).unwrap();
                assert_eq!((again.len(), pins(&again)), (plain.len(), Some(pins_read)));
            }
        }
        Input::Sealed { flips, length, other_run } => {
            let mut changed = sealed.clone();
            for (at, flip) in flips {
                let at = usize::from(at) % changed.len();
                changed[at] ^= flip;
            }
            changed.resize(length.map_or(changed.len(), usize::from), 0);
            let other: RunId = "run-2".parse().unwrap();
            let opened = vault.open_pins(if other_run { &other } else { run }, &changed, path);
            match changed == *sealed && !other_run {
                true => assert_eq!(opened.unwrap(), *expected),
                false => assert!(opened.is_err()),
            }
        }
        Input::Anything(bytes) => assert!(bytes == sealed || vault.open_pins(run, bytes, path).is_err()),
    }
});
