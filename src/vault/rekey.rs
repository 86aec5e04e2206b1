//! Other keys for the same vault: slots added and removed.

use super::slots::{PassphraseCost, Slot, SlotKind};
use super::{Error, Vault, WriteLock};
use crate::instance::{Instance, InstanceKey};
use crate::memory::Arena;

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

impl Vault<'_> {
    /// The slots in use, by number.
    pub fn key_slots(&self) -> Vec<KeySlot> {
        let slots = self.header().slots.iter().zip(1..);
        slots.filter(|(slot, _)| !slot.is_none()).map(|(slot, number)| slot.describe(number)).collect()
    }

    /// The number of the first slot that the key opens.
    pub fn slot_of(&self, key: InstanceKey<'_>, instance: &Instance, arena: &Arena) -> Result<Option<usize>, Error> {
        for (slot, number) in self.header().slots.iter().zip(1..) {
            if slot.open(key, instance.id, self.id(), arena)?.is_some() {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Seals the root key for one more key; returns the slot's number and the new generation.
    pub fn add_key(&self, lock: &WriteLock, key: InstanceKey<'_>, instance: &Instance) -> Result<(usize, u64), Error> {
        let mut header = self.header().clone();
        let place = header.slots.iter_mut().zip(1..).find(|(slot, _)| slot.is_none());
        let (slot, number) = place.ok_or(Error::NoFreeSlot)?;
        *slot = Slot::seal(key, PassphraseCost::default(), instance.id, self.id(), &self.root())?;
        let generation = self.rewrite(lock, header, &self.read_all()?, &self.ledger_plain()?)?;
        Ok((number, generation))
    }

    /// Empties a slot and returns the new generation. Whoever has its key and an older copy of the
    /// vault has the root key, which stays: [`Vault::add_key`] and this change who opens the file, not
    /// what it is sealed with.
    pub fn remove_key(&self, lock: &WriteLock, number: usize) -> Result<u64, Error> {
        let mut header = self.header().clone();
        if let Some(slot) = number.checked_sub(1).and_then(|at| header.slots.get_mut(at)) {
            *slot = Slot::none();
        }
        self.rewrite(lock, header, &self.read_all()?, &self.ledger_plain()?)
    }
}
