//! `mentiko key rotate`: everything sealed anew, so that no old copy of a key opens it.
//!
//! With the source `file`, two files change, and at every moment the one opens under the other:
//! the new key is written beside the old one; the vault gets a slot for it; it takes the place of the
//! old one; then the vault is replaced by one under a new root key, which has no slot for the old key.
//! Only who has the new key ever gets the new root key.

use std::fs::File;
use std::io::Write;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::str::FromStr;

use super::key::{is_missing, name};
use super::run::{ids, open as open_pins};
use super::{Common, Error, context, recovery, secret};
use crate::audit::{Entry, Event, Log, NextStub, Outcome};
use crate::instance::{
    Instance, InstanceKey, KeySource, MAX_PASSPHRASE, PendingKey, ask, fill, read_key, read_secret, without_newline,
};
use crate::memory::{Arena, adopt, with_wiped_stack};
use crate::policy::RunId;
use crate::vault::{self, KEY_SLOTS, KeySlot, NewRoot, Runs, SlotKind, Vault, WriteLock};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  mentiko key rotate\n  mentiko key rotate --keep 2\n\n\
    With the key source 'file', a new key file is made. Any other source gives the same key before and after; to \
    change it: 'mentiko key add --instance-key --new-key-fd N', let the source give the new key, then rotate.")]
pub(super) struct Arguments {
    /// Keep this slot too: its passphrase or code is asked for, or read from descriptor FD
    #[arg(long, value_name = "SLOT[=FD]")]
    keep: Vec<Keep>,
    /// Don't ask
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug)]
struct Keep {
    slot: usize,
    fd: Option<RawFd>,
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (slot, fd) = text.split_once('=').map_or((text, None), |(slot, fd)| (slot, Some(fd)));
        let parsed = slot.parse().ok().zip(fd.map_or(Some(None), |fd| fd.parse().ok().map(Some)));
        parsed.map(|(slot, fd)| Self { slot, fd }).ok_or_else(|| "use SLOT or SLOT=FD, both numbers".into())
    }
}

/// What the new vault is to open with.
struct Plan<'a> {
    /// With its slot each.
    keys: Vec<(usize, InstanceKey<'a>)>,
    dropped: Vec<KeySlot>,
    /// Where there is to be a new key file: the key, which is one of `keys`.
    new_file: Option<(&'a std::path::Path, &'a [u8; 32])>,
    /// What was planned for.
    slots: Vec<KeySlot>,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let key = context::key(common, &instance, &arena)?;
    let plan = with_wiped_stack(|| -> Result<_, Error> {
        let vault = Vault::open(&instance, key, &arena)?;
        Plan::make(&vault, key, &arguments.keep, &instance, &arena)
    })?;
    plan.tell()?;
    if !arguments.yes && !secret::confirmed("Rotate the keys of the instance? [y/N] ")? {
        return Err("nothing was rotated; say --yes to rotate without being asked".to_owned().into());
    }
    let secrets = with_wiped_stack(|| carry_out(&plan, key, &instance, &arena))?;
    let mut out = std::io::stdout();
    writeln!(out, "sealed {secrets} secrets anew; no older copy of a key opens them")?;
    match plan.new_file {
        Some((path, _)) => writeln!(out, "made a new {}; keep a copy elsewhere", path.display())?,
        None => writeln!(out, "the key that opens the vault is the same as before; see --help on how to change it")?,
    }
    Ok(ExitCode::SUCCESS)
}

impl<'a> Plan<'a> {
    fn make(
        vault: &Vault<'_>,
        key: InstanceKey<'a>,
        keep: &[Keep],
        instance: &'a Instance,
        arena: &'a Arena,
    ) -> Result<Self, Error> {
        let slots = vault.key_slots();
        let opened = vault.slot();
        let mut keys = Vec::new();
        let mut new_file = None;
        match &instance.key {
            KeySource::File(path) => {
                let new = arena.key()?;
                fill(new)?;
                let new: &[u8; 32] = new;
                new_file = Some((path.as_path(), new));
                if !matches!(key, InstanceKey::Bytes(_)) {
                    // At hand, and not what may have leaked.
                    keys.push((opened, key));
                }
            }
            _ if matches!(key, InstanceKey::Recovery(_)) => {
                let why = "the key source is not at hand, and could not open the vault afterwards";
                return Err(format!("{why}; rotate without --recovery-code").into());
            }
            _ => keys.push((opened, key)),
        }
        for &keep in keep {
            if keys.iter().any(|(number, _)| *number == keep.slot) {
                continue;
            }
            if keep.slot == opened {
                return Err(format!("slot {opened} is that of the key file, which is made anew").into());
            }
            keys.push((keep.slot, kept(keep, vault, instance, arena)?));
        }
        if let Some((_, new)) = new_file {
            // In the old key's slot; or, opened by another, in the first that will be free.
            let is_taken = |number: &usize| keys.iter().any(|(taken, _)| taken == number);
            let number = std::iter::once(opened).chain(1..=KEY_SLOTS).find(|number| !is_taken(number));
            keys.push((number.ok_or(crate::vault::Error::NoFreeSlot)?, InstanceKey::Bytes(new)));
        }
        let is_at_hand = |slot: &&KeySlot| {
            keys.iter().any(|(number, _)| *number == slot.number) || new_file.is_some() && slot.number == opened
        };
        let dropped = slots.iter().filter(|slot| !is_at_hand(slot)).copied().collect();
        Ok(Self { keys, dropped, new_file, slots })
    }

    /// As the record says it.
    fn detail(&self) -> String {
        let numbers = |numbers: Vec<usize>| match numbers.is_empty() {
            true => "none".into(),
            false => numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        let mut kept: Vec<usize> = self.keys.iter().map(|(number, _)| *number).collect();
        kept.sort_unstable();
        let dropped = self.dropped.iter().map(|slot| slot.number).collect();
        format!("slots in use: {}; dropped: {}", numbers(kept), numbers(dropped))
    }

    /// What will be lost, before it is.
    fn tell(&self) -> Result<(), Error> {
        let mut out = std::io::stdout();
        for KeySlot { number, kind, .. } in &self.dropped {
            let name = name(*kind);
            writeln!(
                out,
                "slot {number} ({name}) is dropped, for its key is not at hand; keep it with --keep {number}"
            )?;
        }
        if let Some((path, _)) = self.new_file.filter(|(path, _)| !is_missing(path)) {
            writeln!(out, "{} is replaced by a new key; copies of it open nothing any more", path.display())?;
        }
        Ok(())
    }
}

/// The key of a slot that is to be kept, proven to be its.
fn kept<'a>(keep: Keep, vault: &Vault<'_>, instance: &Instance, arena: &'a Arena) -> Result<InstanceKey<'a>, Error> {
    let Keep { slot: number, fd } = keep;
    let slots = vault.key_slots();
    let Some(slot) = slots.iter().find(|slot| slot.number == number) else {
        return Err(format!("--keep {number}: the slot is not in use; 'mentiko key list' shows those that are").into());
    };
    let open = |fd: RawFd| {
        let fd = adopt(fd).map_err(|_| format!("--keep {number}={fd}: no such open descriptor above 2"));
        fd.map(File::from)
    };
    let key = match slot.kind {
        SlotKind::Recovery => InstanceKey::Recovery(recovery::read(fd, arena)?),
        SlotKind::Passphrase => {
            let place = arena.alloc(MAX_PASSPHRASE)?;
            let length = match fd {
                Some(fd) => {
                    let length = read_secret(&mut open(fd)?, place);
                    without_newline(place, length.map_err(|error| format!("can't read the passphrase: {error}"))?)
                }
                None => ask(&format!("Passphrase of slot {number}: "), place)?,
            };
            InstanceKey::Passphrase(place.get(..length).unwrap_or_default())
        }
        _ => match fd {
            Some(fd) => read_key(&mut open(fd)?, &format!("the key of slot {number}"), arena)?,
            None => {
                return Err(format!("slot {number} has a key, which nobody can type; use --keep {number}=FD").into());
            }
        },
    };
    match vault.opens(number, key, instance, arena)? {
        true => Ok(key),
        false => Err(format!("--keep {number}: what was given does not open it; nothing was changed").into()),
    }
}

/// Does it, and returns how many secrets there are.
fn carry_out(plan: &Plan<'_>, key: InstanceKey<'_>, instance: &Instance, arena: &Arena) -> Result<usize, Error> {
    let lock = WriteLock::take(instance)?;
    let log = Log::open(instance)?;
    log.check_writable()?;
    let mut vault = Vault::open(instance, key, arena)?;
    if vault.key_slots() != plan.slots {
        return Err("the key slots were changed meanwhile; nothing was rotated, run it again".to_owned().into());
    }
    let mut key = key;
    if let Some((path, new)) = plan.new_file {
        let pending = PendingKey::write(path, new)?;
        let spare = plan.dropped.first().map(|slot| slot.number);
        key = InstanceKey::Bytes(new);
        vault.add_key(&lock, key, instance, spare)?;
        vault = Vault::open(instance, key, arena)?;
        pending.put_in_place()?;
    }
    let new = NewRoot::make(arena)?;
    let contents = vault.reseal(&vault.read_all()?, &new, arena)?;
    let mut ledger = vault.ledger()?;
    let runs = Runs::open(instance)?;
    let runs_lock = runs.lock()?;
    let pins = Carried::of_all(&runs, &vault, &new, instance)?;
    for Carried { run, both, .. } in &pins {
        runs.store(&runs_lock, run, both)?;
    }
    // From here on nobody appends under the key that is retired.
    let hold = log.hold()?;
    let (last, hash) = hold.last()?;
    ledger.retire(&vault.audit_key(), last, hash, context::now());
    let stub = NextStub::write(&instance.audit, vault.audit_key(), new.audit_key())?;
    let generation = vault.rotate(&lock, &new, &contents, &ledger, &plan.keys, instance)?;
    let record = || -> Result<(), Error> {
        stub.map(NextStub::put_in_place).transpose()?;
        let detail = plan.detail();
        let entry = Entry {
            reason: Some(&detail),
            generation: Some(generation),
            memory: Some(arena.protection().name()),
            ..Entry::new(Event::KEY_ROTATE, Outcome::Done)
        };
        Ok(hold.append(&entry, &Vault::open(instance, key, arena)?.log_key())?)
    };
    let recorded = record();
    // Pins open as they are; what is left under the old root key is of no use any more.
    let tidied = pins.iter().try_for_each(|Carried { run, new, .. }| runs.store(&runs_lock, run, new));
    recorded.map_err(|error| format!("the keys were rotated, but it could not be recorded: {error}"))?;
    tidied
        .map_err(|error| format!("the keys were rotated, but pins of runs are still under the old one too: {error}"))?;
    Ok(contents.len())
}

/// The pins of a run on their way to another root key.
struct Carried {
    run: RunId,
    /// As they stand while the vault is replaced: under the old root key and the new one.
    both: Vec<u8>,
    new: Vec<u8>,
}

impl Carried {
    /// Those of all runs that can be opened; the others stay as they are.
    fn of_all(runs: &Runs, vault: &Vault<'_>, new: &NewRoot<'_>, instance: &Instance) -> Result<Vec<Self>, Error> {
        let mut all = Vec::new();
        for run in ids(instance)? {
            let pins = match open_pins(runs, vault, &run) {
                Ok(Some(pins)) => pins,
                Ok(None) | Err(vault::Error::Pins { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let new = vault.reseal_pins(&run, &pins, new)?;
            let both = [vault.seal_pins(&run, &pins)?, new.clone()].concat();
            all.push(Self { run, both, new });
        }
        Ok(all)
    }
}
