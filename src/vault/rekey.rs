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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::State;
    use crate::vault::whole_tests::{KEY, Kit, opened};

    const CODES: [[u8; 20]; 8] = [[1; 20], [2; 20], [3; 20], [4; 20], [5; 20], [6; 20], [7; 20], [8; 20]];

    #[test]
    fn a_key_gets_the_first_free_slot_and_opens_until_it_is_removed() {
        let (kit, arena) = (Kit::new(), Arena::new().unwrap());
        let instance = &kit.instance;
        let code = |at: usize| InstanceKey::Recovery(&CODES[at]);
        let add = |key, spare| kit.open(&arena).add_key(&kit.lock(), key, instance, spare);
        let passphrase = InstanceKey::Passphrase(b"correct horse");
        assert_eq!(add(passphrase, None).unwrap(), (2, 2));
        for at in 2..8 {
            assert_eq!(add(code(at), None).unwrap(), (at + 1, at as u64 + 1));
        }
        let vault = kit.open(&arena);
        let none = PassphraseCost { memory: 0, passes: 0, lanes: 0 };
        assert_eq!(
            vault.key_slots()[..3],
            [
                KeySlot { number: 1, kind: SlotKind::InstanceKey, cost: none },
                KeySlot { number: 2, kind: SlotKind::Passphrase, cost: PassphraseCost::RECOMMENDED },
                KeySlot { number: 3, kind: SlotKind::Recovery, cost: none },
            ]
        );
        assert_eq!(vault.key_slots().len(), 8);
        let slot_of = |vault: &Vault<'_>, key| vault.slot_of(key, instance, &arena).unwrap();
        assert_eq!(
            [KEY, passphrase, code(5), code(0)].map(|key| slot_of(&vault, key)),
            [Some(1), Some(2), Some(6), None]
        );
        let opens = [0, 5, 6, 7, 9].map(|number| vault.opens(number, code(5), instance, &arena).unwrap());
        assert_eq!(opens, [false, false, true, false, false]);
        // All are in use: there is room only in the place of one that is to go.
        assert!(matches!(add(code(0), None), Err(Error::NoFreeSlot)));
        assert_eq!(add(code(0), Some(6)).unwrap(), (6, 9));
        let vault = kit.open(&arena);
        assert_eq!([code(0), code(5)].map(|key| slot_of(&vault, key)), [Some(6), None]);
        assert_eq!(vault.remove_key(&kit.lock(), 3).unwrap(), 10);
        let vault = kit.open(&arena);
        assert_eq!((slot_of(&vault, code(2)), vault.key_slots().len()), (None, 7));
        assert_eq!(slot_of(&vault, code(0)), Some(6));
        // A free slot comes before that of the other.
        assert_eq!(add(code(1), Some(6)).unwrap(), (3, 11));
    }

    #[test]
    fn a_rotated_vault_holds_the_same_under_other_keys() {
        let (kit, arena) = (Kit::new(), Arena::new().unwrap());
        let mut contents = kit.fill(3);
        assert!(contents.values_mut().next().unwrap().versions[0].revoke());
        let old = kit.open(&arena);
        old.replace(&kit.lock(), &contents).unwrap();
        let old = kit.open(&arena);
        let (new, code) = (NewRoot::make(&arena).unwrap(), InstanceKey::Recovery(&CODES[0]));
        let resealed = old.reseal(&old.read_all().unwrap(), &new, &arena).unwrap();
        let ledger = {
            let mut ledger = kit.empty_ledger();
            ledger.retire(&old.audit_key(), 5, [1; 32], 0);
            ledger
        };
        let keys = [(4, code), (2, InstanceKey::Bytes(&[9; 32]))];
        assert_eq!(old.rotate(&kit.lock(), &new, &resealed, &ledger, &keys, &kit.instance).unwrap(), 4);
        let open = |key| Vault::open(&kit.instance, key, &arena);
        assert!(matches!(open(KEY), Err(Error::WrongKey { .. })));
        let (vault, other) = (open(code).unwrap(), open(InstanceKey::Bytes(&[9; 32])).unwrap());
        assert_eq!((vault.slot(), other.slot(), vault.generation()), (4, 2, 4));
        assert_ne!(vault.id(), old.id());
        assert_eq!(vault.audit_key().mac(b"line"), new.audit_key().mac(b"line"));
        assert_ne!(vault.audit_key().mac(b"line"), old.audit_key().mac(b"line"));
        assert!(!old.log_key().is_current() && vault.log_key().is_current());
        let read = vault.read_all().unwrap();
        for secret in opened(&vault, &read, &arena) {
            assert_eq!(secret.value(), format!("value of {}", secret.name()).as_bytes());
        }
        let first = &read.values().next().unwrap().versions[0];
        assert!(first.state == State::Revoked && first.sealed.is_wiped());
        assert!(ciphertexts(&contents).is_disjoint(&ciphertexts(&read)), "each was sealed anew");
        // The log's lines up to the fifth are under the old key, as the ledger says.
        let keys = vault.audit_keys(&arena).unwrap();
        assert_eq!(keys.ends().collect::<Vec<_>>(), [(5, [1; 32])]);
        assert_eq!(keys.current().mac(b"line"), vault.audit_key().mac(b"line"));
        let is_mac_of = |seq: u64, key: AuditKey<'_>| keys.checker().of(seq).is_mac(b"line", &key.mac(b"line"));
        for seq in [1, 5, 6] {
            assert_eq!(
                (is_mac_of(seq, old.audit_key()), is_mac_of(seq, vault.audit_key())),
                (seq <= 5, seq > 5),
                "{seq}"
            );
        }
    }

    fn ciphertexts(contents: &Contents) -> std::collections::BTreeSet<Vec<u8>> {
        let versions = contents.values().flat_map(|record| &record.versions);
        versions.map(|version| version.sealed.ciphertext.clone()).filter(|sealed| !sealed.is_empty()).collect()
    }
}
