//! Other keys: slots added and removed; the whole vault under another root key.

use super::crypto;
use super::slots::{PassphraseCost, SLOTS, Slot, SlotKind};
use super::write::write;
use super::{AuditKey, Contents, Error, Ledger, MAX_VALUE, Pins, RootKey, Sealed, Vault, WriteLock};
use crate::instance::{Instance, InstanceKey, Uuid, fill};
use crate::memory::{Arena, with_wiped_stack};
use crate::policy::RunId;
use zeroize::Zeroizing;

/// What is known of a key slot without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySlot {
    /// 1 for the first.
    pub number: usize,
    /// What opens it.
    pub kind: SlotKind,
    /// What Argon2id costs, for a passphrase.
    pub cost: PassphraseCost,
}

const COST: PassphraseCost = PassphraseCost::RECOMMENDED;

/// A root key and a vault id that nothing was sealed under yet.
#[derive(Debug)]
pub struct NewRoot<'a> {
    root: RootKey<'a>,
    vault_id: [u8; 16],
    audit: AuditKey<'a>,
}

impl<'a> NewRoot<'a> {
    /// From the kernel's randomness.
    pub fn make(arena: &'a Arena) -> Result<Self, Error> {
        let root = arena.key()?;
        fill(root)?;
        let root = RootKey(root);
        let mut vault_id = [0; 16];
        fill(&mut vault_id)?;
        Ok(Self { root, vault_id, audit: root.audit(arena)? })
    }

    /// The key that the log will have.
    pub fn audit_key(&self) -> AuditKey<'a> {
        self.audit
    }
}

impl Slot {
    pub(super) fn describe(&self, number: usize) -> KeySlot {
        KeySlot { number, kind: self.kind, cost: self.cost }
    }

    /// Seals the root key in a new slot.
    pub(super) fn seal(
        key: InstanceKey<'_>,
        cost: PassphraseCost,
        instance: Uuid,
        vault_id: &[u8; 16],
        root: &RootKey<'_>,
    ) -> Result<Self, Error> {
        let mut slot = Self::none();
        match key {
            InstanceKey::Bytes(_) => slot.kind = SlotKind::InstanceKey,
            InstanceKey::Passphrase(_) => {
                slot.kind = SlotKind::Passphrase;
                slot.cost = cost;
            }
            InstanceKey::Recovery(_) => slot.kind = SlotKind::Recovery,
        }
        fill(&mut slot.salt)?;
        fill(&mut slot.nonce)?;
        let aad = slot.aad(vault_id);
        with_wiped_stack(|| {
            let kek = slot.kek(key, instance, vault_id).ok_or(Error::TooLarge)?;
            // In place in memory that wipes itself: it holds the root key until it is sealed.
            let mut buffer = Zeroizing::new(*root.0);
            slot.tag = crypto::seal(&kek, &slot.nonce, &aad, buffer.as_mut())?;
            slot.sealed = *buffer;
            Ok(slot)
        })
    }
}

impl Vault<'_> {
    /// The slots in use, by number.
    pub fn key_slots(&self) -> Vec<KeySlot> {
        let slots = self.header.slots.iter().zip(1..);
        slots.filter(|(slot, _)| !slot.is_none()).map(|(slot, number)| slot.describe(number)).collect()
    }

    /// The number of the first slot that the key opens.
    pub fn slot_of(&self, key: InstanceKey<'_>, instance: &Instance, arena: &Arena) -> Result<Option<usize>, Error> {
        for (slot, number) in self.header.slots.iter().zip(1..) {
            if slot.open(key, instance.id, self.id(), arena)?.is_some() {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Whether the key opens the slot of this number.
    pub fn opens(
        &self,
        number: usize,
        key: InstanceKey<'_>,
        instance: &Instance,
        arena: &Arena,
    ) -> Result<bool, Error> {
        match number.checked_sub(1).and_then(|at| self.header.slots.get(at)) {
            Some(slot) => Ok(slot.open(key, instance.id, self.id(), arena)?.is_some()),
            None => Ok(false),
        }
    }

    /// Seals the root key for one more key, in the first slot that is not in use, else in that of
    /// `spare`; returns the slot's number and the new generation.
    pub fn add_key(
        &self,
        lock: &WriteLock,
        key: InstanceKey<'_>,
        instance: &Instance,
        spare: Option<usize>,
    ) -> Result<(usize, u64), Error> {
        let mut header = self.header.clone();
        let free = header.slots.iter().zip(1..).find(|(slot, _)| slot.is_none()).map(|(_, number)| number);
        let number = free.or(spare).ok_or(Error::NoFreeSlot)?;
        put(&mut header.slots, number, Slot::seal(key, COST, instance.id, self.id(), &self.root)?);
        let generation = self.rewrite(lock, header, &self.read_all()?, &self.ledger_plain()?)?;
        Ok((number, generation))
    }

    /// Empties a slot and returns the new generation. Whoever has its key and an older copy of the
    /// vault has the root key, which stays: [`Vault::add_key`] and this change who opens the file, not
    /// what it is sealed with.
    pub fn remove_key(&self, lock: &WriteLock, number: usize) -> Result<u64, Error> {
        let mut header = self.header.clone();
        put(&mut header.slots, number, Slot::none());
        self.rewrite(lock, header, &self.read_all()?, &self.ledger_plain()?)
    }

    /// Every record, its values sealed anew. One value at a time is open, in the arena.
    pub fn reseal(&self, contents: &Contents, new: &NewRoot<'_>, arena: &Arena) -> Result<Contents, Error> {
        let scratch = arena.alloc(MAX_VALUE)?;
        let mut resealed = contents.clone();
        for record in resealed.values_mut() {
            for version in record.versions.iter_mut().filter(|version| !version.sealed.is_wiped()) {
                let damaged = || self.damaged(format!("version {} of secret '{}'", version.number, record.name));
                let place = scratch.get_mut(..version.sealed.value_len()).ok_or_else(damaged)?;
                self.open_value(&record.name, version, place)?;
                version.sealed = Sealed::seal(&new.root, &new.vault_id, &record.name, version.number, place)?;
            }
        }
        Ok(resealed)
    }

    /// The pins of a run under the root key that is to come.
    pub fn reseal_pins(&self, run: &RunId, pins: &Pins, new: &NewRoot<'_>) -> Result<Vec<u8>, Error> {
        super::pins::seal(&new.root, &new.vault_id, run, pins)
    }

    /// Replaces the vault by one under the new root key, which these keys open and no others, each
    /// in the slot of its number. `contents` come from [`Vault::reseal`]. Returns the generation.
    pub fn rotate(
        &self,
        lock: &WriteLock,
        new: &NewRoot<'_>,
        contents: &Contents,
        ledger: &Ledger,
        keys: &[(usize, InstanceKey<'_>)],
        instance: &Instance,
    ) -> Result<u64, Error> {
        let mut header = self.header.clone();
        header.vault_id = new.vault_id;
        header.generation = header.generation.checked_add(1).ok_or(Error::TooLarge)?;
        header.slots = [const { Slot::none() }; SLOTS];
        for (number, key) in keys {
            put(&mut header.slots, *number, Slot::seal(*key, COST, instance.id, &new.vault_id, &new.root)?);
        }
        let generation = header.generation;
        write(lock, header, &new.root, contents, &ledger.encode()?)?;
        Ok(generation)
    }
}

fn put(slots: &mut [Slot; SLOTS], number: usize, slot: Slot) {
    if let Some(place) = number.checked_sub(1).and_then(|at| slots.get_mut(at)) {
        *place = slot;
    }
}

impl Default for PassphraseCost {
    fn default() -> Self {
        Self::RECOMMENDED
    }
}

impl PassphraseCost {
    /// RFC 9106, section 4, second recommended option: 64 MiB, 3 passes, 4 lanes.
    pub const RECOMMENDED: Self = Self { memory: 64 * 1024, passes: 3, lanes: 4 };
}
