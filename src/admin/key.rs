//! `mentiko key`: what opens the vault.

use std::io::Write;
use std::os::fd::RawFd;
use std::process::ExitCode;

use serde::Serialize;

use super::context::{self, Rewritten};
use super::{Common, Error, recovery, rekey, table, value};
use crate::audit::Event;
use crate::instance::{Instance, InstanceKey, KeySource, PendingKey, fill, read_key};
use crate::memory::{Arena, adopt};
use crate::vault::{KeySlot, SlotKind, Vault};

#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    /// List the key slots: what opens the vault
    #[command(after_help = "Example: mentiko key list")]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let one more key open the vault
    #[command(after_help = "Examples:\n  mentiko key add --recovery\n  mentiko key add --passphrase\n  \
                            mentiko --recovery-code key add --instance-key")]
    Add(Add),
    /// Empty a key slot; not that of the configured key
    #[command(after_help = "Example: mentiko key remove 2\n\nWho has that key and an older copy of the vault can \
                            still open this one, until 'mentiko key rotate'.")]
    Remove {
        /// The number that 'mentiko key list' shows
        #[arg(value_name = "N")]
        number: usize,
    },
    /// Seal everything anew, under a new key: older copies of the key open nothing any more
    Rotate(rekey::Arguments),
}

#[derive(clap::Args, Debug)]
pub(super) struct Add {
    #[command(flatten)]
    kind: AddedKind,
    /// Read the new passphrase from this descriptor [default: asked twice]
    #[arg(long, value_name = "N", conflicts_with_all = ["recovery", "instance_key"])]
    new_passphrase_fd: Option<RawFd>,
    /// Read the new key from this descriptor: 32 bytes or 64 hexadecimal digits
    #[arg(long, value_name = "N", conflicts_with_all = ["recovery", "passphrase"])]
    new_key_fd: Option<RawFd>,
}

#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct AddedKind {
    /// A passphrase
    #[arg(long)]
    passphrase: bool,
    /// A recovery code, made now and shown once: it opens the vault with --recovery-code
    #[arg(long)]
    recovery: bool,
    /// The key that the configured source gives; with the source 'file' and no file there, a new one
    #[arg(long)]
    instance_key: bool,
}

pub(super) fn run(common: &Common, command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::List { json } => list(common, json)?,
        Command::Add(arguments) => add(common, &arguments)?,
        Command::Remove { number } => remove(common, number)?,
        Command::Rotate(arguments) => return rekey::run(common, &arguments),
    }
    Ok(ExitCode::SUCCESS)
}

/// What opens a slot, in words.
pub(super) fn name(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::None => "none",
        SlotKind::InstanceKey => "instance key",
        SlotKind::Passphrase => "passphrase",
        SlotKind::Recovery => "recovery code",
    }
}

#[derive(Serialize)]
struct Shown {
    slot: usize,
    kind: &'static str,
    /// Of a passphrase.
    argon2: Option<Cost>,
    /// Whether it was this one that opened the vault now.
    opened: bool,
}

#[derive(Serialize)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Shown {
    fn of(slot: KeySlot, vault: &Vault<'_>) -> Self {
        let cost = Cost { memory_kib: slot.cost.memory, passes: slot.cost.passes, lanes: slot.cost.lanes };
        Self {
            slot: slot.number,
            kind: name(slot.kind),
            argon2: (slot.kind == SlotKind::Passphrase).then_some(cost),
            opened: slot.number == vault.slot(),
        }
    }

    fn row(self) -> Vec<String> {
        let cost = self
            .argon2
            .map(|cost| format!("Argon2id, {} KiB, {} passes, {} lanes", cost.memory_kib, cost.passes, cost.lanes));
        let opened = if self.opened { "opened the vault now" } else { "" };
        vec![self.slot.to_string(), self.kind.into(), cost.unwrap_or_else(|| "-".into()), opened.into()]
    }
}

fn list(common: &Common, json: bool) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let vault = context::vault(common, &instance, &arena)?;
    let shown = vault.key_slots().into_iter().map(|slot| Shown::of(slot, &vault));
    if json {
        return table::json(&shown.collect::<Vec<_>>());
    }
    table::print(&["SLOT", "OPENS WITH", "COST", ""], &shown.map(Shown::row).collect::<Vec<_>>())
}

fn add(common: &Common, arguments: &Add) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let key = context::key(common, &instance, &arena)?;
    let (added, makes_file) = added(arguments, &instance, &arena)?;
    let mut slot = 0;
    context::rewrite(&instance, key, &arena, Event::KEY_ADD, |vault, lock| {
        if let Some(number) = vault.slot_of(added, &instance, &arena)? {
            return Err(format!("it opens slot {number} already; nothing was changed").into());
        }
        // In place only once the vault opens under it.
        let pending = makes_file.map(|(path, key)| PendingKey::write(path, key)).transpose()?;
        let (number, generation) = vault.add_key(lock, added, &instance, None)?;
        slot = number;
        pending.map(PendingKey::put_in_place).transpose()?;
        Ok(Rewritten { generation, chain: None, detail: Some(format!("slot {number}: {}", kind_of(added))) })
    })?;
    let mut out = std::io::stdout();
    match (added, makes_file) {
        (InstanceKey::Recovery(key), _) => show_code(slot, key, &arena)?,
        (_, Some((path, _))) => writeln!(
            out,
            "made {}, which opens slot {slot}; keep a copy elsewhere. The key that was lost opens the vault until \
             'mentiko key rotate'",
            path.display()
        )?,
        (added, None) => writeln!(out, "added slot {slot}: {}", kind_of(added))?,
    }
    Ok(())
}

fn kind_of(key: InstanceKey<'_>) -> &'static str {
    name(match key {
        InstanceKey::Bytes(_) => SlotKind::InstanceKey,
        InstanceKey::Passphrase(_) => SlotKind::Passphrase,
        InstanceKey::Recovery(_) => SlotKind::Recovery,
    })
}

/// A key file that is to be made.
type NewFile<'a> = (&'a std::path::Path, &'a [u8; 32]);

/// The key that is to be added, and the file that is to be made for it, if there is none yet.
fn added<'a>(
    arguments: &Add,
    instance: &'a Instance,
    arena: &'a Arena,
) -> Result<(InstanceKey<'a>, Option<NewFile<'a>>), Error> {
    if arguments.kind.passphrase {
        let passphrase = value::new_passphrase(arguments.new_passphrase_fd, arena)?;
        return Ok((InstanceKey::Passphrase(passphrase), None));
    }
    if arguments.kind.recovery {
        let key = recovery::new_place(arena)?;
        fill(key)?;
        return Ok((InstanceKey::Recovery(key), None));
    }
    if let Some(fd) = arguments.new_key_fd {
        let fd = adopt(fd).map_err(|_| format!("--new-key-fd {fd}: no such open descriptor above 2"))?;
        return Ok((read_key(&mut std::fs::File::from(fd), "the new key", arena)?, None));
    }
    match &instance.key {
        KeySource::File(path) if is_missing(path) => {
            let key = arena.key()?;
            fill(key)?;
            Ok((InstanceKey::Bytes(key), Some((path, key))))
        }
        KeySource::Passphrase => {
            Err("the key source is 'passphrase'; use: mentiko key add --passphrase".to_owned().into())
        }
        source => Ok((source.read(None, arena)?, None)),
    }
}

pub(super) fn is_missing(path: &std::path::Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Straight from the arena, for a buffer would keep a copy.
fn show_code(slot: usize, key: &[u8; crate::instance::RECOVERY_KEY], arena: &Arena) -> Result<(), Error> {
    let code = arena.alloc(recovery::CODE + 2)?;
    if let Some(place) = code.get_mut(..recovery::CODE) {
        recovery::encode(key, place);
    }
    if let Some(end) = code.get_mut(recovery::CODE..) {
        end.copy_from_slice(b"\n\n");
    }
    let mut out = std::io::stdout();
    writeln!(out, "added slot {slot}: a recovery code. It is shown this once; keep it away from this machine:\n")?;
    out.flush()?;
    let mut rest: &[u8] = code;
    while !rest.is_empty() {
        let written = nix::unistd::write(&out, rest).map_err(|errno| {
            format!("the code could not be shown ({errno}); empty its slot with: mentiko key remove {slot}")
        })?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(writeln!(out, "It opens the vault instead of the key: mentiko --recovery-code key list")?)
}

fn remove(common: &Common, number: usize) -> Result<(), Error> {
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let key = context::key(common, &instance, &arena)?;
    let mut kind = SlotKind::None;
    context::rewrite(&instance, key, &arena, Event::KEY_REMOVE, |vault, lock| {
        kind = removable(vault, number, &instance, &arena)?;
        let generation = vault.remove_key(lock, number)?;
        Ok(Rewritten { generation, chain: None, detail: Some(format!("slot {number}: {}", name(kind))) })
    })?;
    let mut out = std::io::stdout();
    writeln!(out, "emptied slot {number}: {}", name(kind))?;
    let more = "who has it and an older copy of the vault can still open this one; 'mentiko key rotate' ends that";
    Ok(writeln!(out, "{more}")?)
}

/// The kind of a slot that can be emptied: neither the one that opened the vault now, and so never the
/// last, nor one without which the configured key source opens nothing. There is no way around this:
/// whoever wants that adds another key first.
fn removable(vault: &Vault<'_>, number: usize, instance: &Instance, arena: &Arena) -> Result<SlotKind, Error> {
    let slots = vault.key_slots();
    let Some(slot) = slots.iter().find(|slot| slot.number == number) else {
        return Err(format!("slot {number} is not in use; 'mentiko key list' shows those that are").into());
    };
    let refused =
        |why: &str| Err(format!("slot {number} stays: {why}; add another key first, and open with it").into());
    if number == vault.slot() {
        return refused("it is the one that opened the vault now");
    }
    let configured = match instance.key {
        KeySource::Passphrase => SlotKind::Passphrase,
        _ => SlotKind::InstanceKey,
    };
    if slot.kind == configured && slots.iter().filter(|slot| slot.kind == configured).count() == 1 {
        return refused("the configured key source opens no other");
    }
    if instance.key.is_silent()
        && let Ok(key) = instance.key.read(None, arena)
        && vault.slot_of(key, instance, arena)? == Some(number)
    {
        return refused("it is that of the configured key");
    }
    Ok(slot.kind)
}
