//! A vault of which bytes were changed, cut off or added, with or without the MAC of the header
//! made anew by somebody who has the key: it opens as what was stored, or not at all.
#![no_main]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mentiko_exec::fuzzing::vault::{authenticate, bucket};
use mentiko_exec::instance::Instance;
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::SecretName;
use mentiko_exec::vault::{Contents, Vault, WriteLock};
use mentiko_exec_fuzz::{KEY, arena, instance, secret};

#[derive(Arbitrary, Debug)]
struct Change {
    /// The vault of one bucket, or that of several.
    many: bool,
    /// Where, from the start or from the end, and what is flipped there.
    flips: Vec<(u16, bool, u8)>,
    /// Another piece of the file is put over this one: where from, where to, how much.
    copy: Option<(u16, u16, u8)>,
    length: Option<u16>,
    has_mac: bool,
}

struct Pristine {
    instance: Instance,
    vault: Vault<'static>,
    bytes: Vec<u8>,
    contents: Contents,
}

fn pristine(count: usize) -> Pristine {
    let mut instance = instance();
    let empty = Vault::open(&instance, KEY, arena()).unwrap();
    let names = (0..count).map(|at| format!("S{at}"));
    let contents: Contents = names
        .map(|name| secret(&empty, &name, format!("value of {name}").as_bytes()))
        .map(|record| (record.name.clone(), record))
        .collect();
    empty.replace(&WriteLock::take(&instance).unwrap(), &contents).unwrap();
    let vault = Vault::open(&instance, KEY, arena()).unwrap();
    let bytes = std::fs::read(&instance.vault).unwrap();
    instance.vault = PathBuf::from(format!("{}.changed", instance.vault.display()));
    Pristine { instance, vault, bytes, contents }
}

static ONE: LazyLock<Pristine> = LazyLock::new(|| pristine(1));
static MANY: LazyLock<Pristine> = LazyLock::new(|| pristine(20));

/// Everything that a vault tells, value and all, in bytes; `None` where any of it is refused.
fn told(vault: &Vault<'_>, contents: &Contents, arena: &Arena) -> Option<()> {
    let all = vault.read_all().ok()?;
    assert_eq!(plain(&all), plain(contents));
    let values: Vec<String> = contents.keys().map(|name| format!("value of {name}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    assert!(vault.names_of_values(&values, arena).ok()?.iter().eq(contents.keys()));
    Some(())
}

fn plain(contents: &Contents) -> Vec<u8> {
    bucket(&contents.values().cloned().collect::<Vec<_>>()).unwrap()
}

fuzz_target!(|change: Change| {
    let Pristine { instance, vault, bytes, contents } = if change.many { &*MANY } else { &*ONE };
    let mut changed = bytes.clone();
    for (at, from_end, flip) in change.flips {
        let length = changed.len();
        let at = usize::from(at) % length;
        changed[if from_end { length - 1 - at } else { at }] ^= flip;
    }
    if let Some((from, to, count)) = change.copy {
        let (from, to) = (usize::from(from) % changed.len(), usize::from(to) % changed.len());
        let end = changed.len().min(from + usize::from(count)).min(from + changed.len() - to);
        changed.copy_within(from..end, to);
    }
    changed.resize(change.length.map_or(changed.len(), usize::from), 0);
    if change.has_mac {
        authenticate(vault, &mut changed);
    }
    std::fs::write(&instance.vault, &changed).unwrap();
    let arena = Arena::new().unwrap();
    let opened = Vault::open(instance, KEY, &arena);
    if changed == *bytes {
        told(&opened.unwrap(), contents, &arena).unwrap();
        return;
    }
    let Ok(opened) = opened else { return };
    // What a launch asks for is there as it was stored, or the launch is refused.
    for name in contents.keys() {
        let names: BTreeSet<SecretName> = [name.clone(), "absent".parse().unwrap()].into();
        if let Ok(found) = opened.lookup(&names) {
            assert_eq!(plain(&found), bucket(std::slice::from_ref(&contents[name])).unwrap());
        }
    }
    let told = told(&opened, contents, &arena);
    assert!(told.is_none() || change.has_mac, "a change that nothing notices");
});
