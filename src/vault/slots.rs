//! Key slots: each seals the root key under another key.

use argon2::{Algorithm, Argon2, Params};
use zeroize::{Zeroize, Zeroizing};

use super::Error;
use super::bytes::{Malformed, Reader};
use super::crypto::{self, Key, NONCE, TAG};
use super::keys::RootKey;
use crate::instance::{InstanceKey, Uuid};
use crate::memory::{Arena, with_wiped_stack};

/// How many slots a header has.
pub const SLOTS: usize = 8;
/// Bytes of a slot.
pub(super) const SLOT: usize = 4 + 12 + 32 + NONCE + 32 + TAG;

/// What opens a slot. The numbers stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotKind {
    /// Nothing: it is not in use.
    None = 0,
    /// 32 bytes from the instance's key source.
    InstanceKey = 1,
    /// A passphrase.
    Passphrase = 2,
    /// A recovery code.
    Recovery = 3,
}

/// The cost of Argon2id (RFC 9106) for a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseCost {
    /// Memory in KiB.
    pub memory: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl PassphraseCost {
    /// What is tried at all: a forged header must not make the reader use up the machine.
    fn is_bearable(self) -> bool {
        let work = u64::from(self.memory) * u64::from(self.passes);
        self.memory <= 256 * 1024 && work <= 1024 * 1024 && (1..=16).contains(&self.lanes)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) kind: SlotKind,
    pub(super) cost: PassphraseCost,
    pub(super) salt: [u8; 32],
    pub(super) nonce: [u8; NONCE],
    pub(super) sealed: [u8; 32],
    pub(super) tag: [u8; TAG],
}

impl Slot {
    pub(super) const fn none() -> Self {
        let cost = PassphraseCost { memory: 0, passes: 0, lanes: 0 };
        Self { kind: SlotKind::None, cost, salt: [0; 32], nonce: [0; NONCE], sealed: [0; 32], tag: [0; TAG] }
    }

    pub(super) fn is_none(&self) -> bool {
        self.kind == SlotKind::None
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = match reader.array()? {
            [0, 0, 0, 0] => SlotKind::None,
            [1, 0, 0, 0] => SlotKind::InstanceKey,
            [2, 0, 0, 0] => SlotKind::Passphrase,
            [3, 0, 0, 0] => SlotKind::Recovery,
            _ => return Err(Malformed),
        };
        Ok(Self {
            kind,
            cost: PassphraseCost { memory: reader.u32()?, passes: reader.u32()?, lanes: reader.u32()? },
            salt: reader.array()?,
            nonce: reader.array()?,
            sealed: reader.array()?,
            tag: reader.array()?,
        })
    }

    /// The root key, in the arena; `None` where this slot is for another key.
    pub(super) fn open<'a>(
        &self,
        key: InstanceKey<'_>,
        instance: Uuid,
        vault_id: &[u8; 16],
        arena: &'a Arena,
    ) -> Result<Option<RootKey<'a>>, Error> {
        let aad = self.aad(vault_id);
        with_wiped_stack(|| {
            let Some(kek) = self.kek(key, instance, vault_id) else { return Ok(None) };
            let root = arena.key()?;
            *root = self.sealed;
            match crypto::open(&kek, &self.nonce, &aad, root, &self.tag) {
                Ok(()) => Ok(Some(RootKey(root))),
                Err(crypto::Forged) => Ok(None),
            }
        })
    }

    /// The key that this slot is sealed under; `None` where the kind of key does not fit.
    pub(super) fn kek(&self, key: InstanceKey<'_>, instance: Uuid, vault_id: &[u8; 16]) -> Option<Key> {
        let stretched;
        let material: &[u8] = match (self.kind, key) {
            (SlotKind::InstanceKey, InstanceKey::Bytes(bytes)) => bytes,
            // As good as a key: 160 random bits need no stretching.
            (SlotKind::Recovery, InstanceKey::Recovery(bytes)) => bytes,
            (SlotKind::Passphrase, InstanceKey::Passphrase(passphrase)) => {
                stretched = self.stretch(passphrase)?;
                stretched.as_ref()
            }
            _ => return None,
        };
        Some(crypto::hkdf(material, &self.salt, &[b"mentiko/1 slot", instance.as_bytes(), vault_id]))
    }

    fn stretch(&self, passphrase: &[u8]) -> Option<Key> {
        let PassphraseCost { memory, passes, lanes } = self.cost;
        if !self.cost.is_bearable() {
            return None;
        }
        let parameters = Params::new(memory, passes, lanes, Some(32)).ok()?;
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(parameters.block_count()).ok()?;
        blocks.resize(parameters.block_count(), argon2::Block::new());
        let mut output = Zeroizing::new([0; 32]);
        let result = Argon2::new(Algorithm::Argon2id, argon2::Version::V0x13, parameters)
            .hash_password_into_with_memory(passphrase, &self.salt, output.as_mut(), &mut blocks);
        blocks.iter_mut().for_each(Zeroize::zeroize);
        result.ok().map(|()| output)
    }

    pub(super) fn aad(&self, vault_id: &[u8; 16]) -> Vec<u8> {
        [&b"MENTIKO1"[..], &1u32.to_le_bytes(), vault_id, &[self.kind as u8]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: [u8; 16] = [9; 16];
    const CHEAP: PassphraseCost = PassphraseCost { memory: 64, passes: 1, lanes: 1 };

    fn opens(slot: &Slot, key: InstanceKey<'_>, instance: u8, vault_id: &[u8; 16]) -> bool {
        let arena = Arena::new().unwrap();
        match slot.open(key, Uuid::from_bytes([instance; 16]), vault_id, &arena).unwrap() {
            Some(root) => {
                assert_eq!(root.0, &[5; 32]);
                true
            }
            None => false,
        }
    }

    #[test]
    fn a_slot_opens_for_its_key_instance_and_vault_only() {
        let seal = |key| Slot::seal(key, CHEAP, Uuid::from_bytes([1; 16]), &VAULT, &RootKey(&[5; 32])).unwrap();
        for (right, wrong) in [
            (InstanceKey::Bytes(&[3; 32]), InstanceKey::Bytes(&[4; 32])),
            (InstanceKey::Passphrase(b"correct horse"), InstanceKey::Passphrase(b"correct horsf")),
            (InstanceKey::Recovery(&[3; 20]), InstanceKey::Recovery(&[4; 20])),
        ] {
            let slot = seal(right);
            assert!(opens(&slot, right, 1, &VAULT));
            assert!(!opens(&slot, wrong, 1, &VAULT));
            assert!(!opens(&slot, right, 2, &VAULT));
            assert!(!opens(&slot, right, 1, &[8; 16]));
        }
        let bytes = seal(InstanceKey::Bytes(&[3; 32]));
        assert!(!opens(&bytes, InstanceKey::Passphrase(&[3; 32]), 1, &VAULT));
        let recovery = seal(InstanceKey::Recovery(&[3; 20]));
        assert!(!opens(&recovery, InstanceKey::Passphrase(&[3; 20]), 1, &VAULT));
    }

    #[test]
    fn a_forged_cost_is_not_paid() {
        let key = InstanceKey::Passphrase(b"p");
        let mut slot = Slot::seal(key, CHEAP, Uuid::from_bytes([1; 16]), &VAULT, &RootKey(&[5; 32])).unwrap();
        slot.cost.memory = u32::MAX;
        assert!(!opens(&slot, key, 1, &VAULT));
        let cost = |memory, passes, lanes| PassphraseCost { memory, passes, lanes };
        for bearable in [PassphraseCost::RECOMMENDED, cost(1 << 18, 4, 16), cost(1 << 16, 16, 1), CHEAP] {
            assert!(bearable.is_bearable(), "{bearable:?}");
        }
        for forged in [cost((1 << 18) + 1, 1, 1), cost(1 << 18, 5, 1), cost(64, 1, 0), cost(64, 1, 17)] {
            assert!(!forged.is_bearable(), "{forged:?}");
        }
        assert_eq!(PassphraseCost::default(), cost(65_536, 3, 4));
    }

    /// docs/vault-format.md, to the byte: else a change that writer and reader share goes unnoticed.
    #[test]
    fn a_slot_is_bound_to_its_format_vault_and_kind() {
        let slot =
            Slot::seal(InstanceKey::Recovery(&[3; 20]), CHEAP, Uuid::from_bytes([1; 16]), &VAULT, &RootKey(&[5; 32]));
        assert_eq!(slot.unwrap().aad(&VAULT), [&b"MENTIKO1"[..], &[1, 0, 0, 0], &VAULT, &[3]].concat());
    }

    #[test]
    fn bytes_round_trip() {
        let keys = [InstanceKey::Bytes(&[3; 32]), InstanceKey::Passphrase(b"p"), InstanceKey::Recovery(&[3; 20])];
        for (key, kind) in keys.into_iter().zip(1..) {
            let slot = Slot::seal(key, CHEAP, Uuid::from_bytes([1; 16]), &VAULT, &RootKey(&[5; 32])).unwrap();
            let mut out = Vec::new();
            slot.write(&mut out);
            assert_eq!((out.len(), out[0]), (SLOT, kind));
            let read = Slot::read(&mut Reader::new(&out)).unwrap();
            assert!(opens(&read, key, 1, &VAULT) && !read.is_none());
            for changed in 1..4 {
                out[changed] = 1;
                assert!(Slot::read(&mut Reader::new(&out)).is_err(), "{changed}");
                out[changed] = 0;
            }
        }
        assert!(Slot::read(&mut Reader::new(&[0; SLOT])).unwrap().is_none());
        assert!(Slot::read(&mut Reader::new(&[4; SLOT])).is_err());
    }
}
