//! What a run holds: the versions that its launches were given first, sealed in `runs/ID.run`.

use std::collections::BTreeMap;
use std::path::Path;

use zeroize::Zeroizing;

use super::bytes::{Malformed, Reader, put_text};
use super::crypto::{self, NONCE};
use super::{Error, RootKey, Vault};
use crate::instance::fill;
use crate::memory::with_wiped_frames;
use crate::policy::{ChainName, RunId, SecretName};

const MAGIC: &[u8; 8] = b"MENTRUN1";

/// The versions that a run keeps, whatever is rotated meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    /// The chain of its first launch.
    pub chain: ChainName,
    /// When it began: seconds since 1970, UTC.
    pub created: u64,
    pub(super) versions: BTreeMap<SecretName, u32>,
}

impl Pins {
    /// Those of a run that begins now.
    pub fn new(chain: ChainName, created: u64) -> Self {
        Self { chain, created, versions: BTreeMap::new() }
    }

    /// The version of this secret that the run holds.
    pub fn version(&self, name: &SecretName) -> Option<u32> {
        self.versions.get(name).copied()
    }

    /// Adds a version of a secret that the run holds none of yet; whether that was so.
    pub fn add(&mut self, name: &SecretName, version: u32) -> bool {
        match self.versions.contains_key(name) {
            true => false,
            false => self.versions.insert(name.clone(), version).is_none(),
        }
    }

    pub(super) fn write(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut out = Zeroizing::new(Vec::new());
        put_text(&mut out, self.chain.as_str())?;
        out.extend_from_slice(&self.created.to_le_bytes());
        let count = u16::try_from(self.versions.len()).map_err(|_| Error::TooLarge)?;
        out.extend_from_slice(&count.to_le_bytes());
        for (name, version) in &self.versions {
            put_text(&mut out, name.as_str())?;
            out.extend_from_slice(&version.to_le_bytes());
        }
        Ok(out)
    }

    pub(super) fn read(plain: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(plain);
        let chain = reader.text()?.parse().map_err(|_| Malformed)?;
        let mut pins = Self::new(chain, reader.u64()?);
        for _ in 0..reader.u16()? {
            let name = reader.text()?.parse().map_err(|_| Malformed)?;
            if !pins.add(&name, reader.u32()?) {
                return Err(Malformed);
            }
        }
        reader.finish()?;
        Ok(pins)
    }
}

impl Vault<'_> {
    /// Seals the pins of a run, under a key that is used this once.
    pub fn seal_pins(&self, run: &RunId, pins: &Pins) -> Result<Vec<u8>, Error> {
        seal(&self.root, self.id(), run, pins)
    }

    /// Opens those that [`Vault::seal_pins`] sealed for this run of this vault; `path` stands in
    /// the message alone.
    pub fn open_pins(&self, run: &RunId, sealed: &[u8], path: &Path) -> Result<Pins, Error> {
        let damaged = |_: Malformed| Error::Pins { path: path.to_owned(), run: run.clone() };
        let mut reader = Reader::new(sealed);
        let mut pins = None;
        // A second block stands there while the keys are rotated, so that the file opens before and after.
        while !reader.is_empty() {
            pins = pins.or(self.open_block(run, &mut reader).map_err(damaged)?);
        }
        pins.ok_or(Malformed).map_err(damaged)
    }

    /// The pins of one block; `None` where it was sealed under another root key.
    fn open_block(&self, run: &RunId, reader: &mut Reader<'_>) -> Result<Option<Pins>, Malformed> {
        if reader.array::<8>()? != *MAGIC {
            return Err(Malformed);
        }
        let length = usize::try_from(reader.u32()?).map_err(|_| Malformed)?;
        let (salt, nonce) = (reader.array()?, reader.array()?);
        let mut pins = Zeroizing::new(reader.take(length)?.to_vec());
        let (aad, tag) = (aad(self.id(), run), reader.array()?);
        let opened = with_wiped_frames(|| crypto::open(&self.root.run(&salt), &nonce, &aad, &mut pins, &tag));
        Ok(opened.ok().and_then(|()| Pins::read(&pins).ok()))
    }
}

/// One block.
pub(super) fn seal(root: &RootKey<'_>, vault_id: &[u8; 16], run: &RunId, pins: &Pins) -> Result<Vec<u8>, Error> {
    let (mut salt, mut nonce) = ([0; 32], [0; NONCE]);
    fill(&mut salt)?;
    fill(&mut nonce)?;
    let mut plain = pins.write()?;
    let aad = aad(vault_id, run);
    let tag = with_wiped_frames(|| crypto::seal(&root.run(&salt), &nonce, &aad, &mut plain))?;
    let length = u32::try_from(plain.len()).map_err(|_| Error::TooLarge)?;
    Ok([&MAGIC[..], &length.to_le_bytes(), &salt, &nonce, &plain, &tag].concat())
}

fn aad(vault_id: &[u8; 16], run: &RunId) -> Vec<u8> {
    [&MAGIC[..], vault_id, run.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Arena;
    use crate::vault::NewRoot;
    use crate::vault::whole_tests::Kit;

    fn pins() -> Pins {
        let mut pins = Pins::new("content-pipeline".parse().unwrap(), 1_772_874_902);
        for (name, version) in [("B", 7), ("A", 1), ("slack/marketing", u32::MAX)] {
            assert!(pins.add(&name.parse().unwrap(), version));
        }
        pins
    }

    #[test]
    fn the_first_version_stays() {
        let mut pins = pins();
        let name: SecretName = "A".parse().unwrap();
        assert!(!pins.add(&name, 2));
        assert_eq!(pins.version(&name), Some(1));
        assert_eq!(pins.version(&"C".parse().unwrap()), None);
        let all: Vec<_> = pins.versions().iter().map(|(name, version)| (name.to_string(), *version)).collect();
        assert_eq!(all, [("A".into(), 1), ("B".into(), 7), ("slack/marketing".into(), u32::MAX)]);
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let plain = pins().write().unwrap();
        assert_eq!(Pins::read(&plain).unwrap(), pins());
        for end in 0..plain.len() {
            assert_eq!(Pins::read(&plain[..end]), Err(Malformed), "{end}");
        }
        assert_eq!(Pins::read(&[&plain[..], &[0]].concat()), Err(Malformed));
        let twice = [&b"\x01\0c"[..], &[0; 8], &[2, 0], b"\x01\0A\x01\0\0\0", b"\x01\0A\x02\0\0\0"].concat();
        assert_eq!(Pins::read(&twice), Err(Malformed), "one secret twice");
    }

    #[test]
    fn sealed_pins_open_for_their_run_and_vault_alone() {
        let (kit, arena) = (Kit::new(), Arena::new().unwrap());
        let vault = kit.open(&arena);
        let run: RunId = "nightly".parse().unwrap();
        let open = |vault: &Vault<'_>, run: &RunId, sealed: &[u8]| vault.open_pins(run, sealed, "nightly.run".as_ref());
        let sealed = vault.seal_pins(&run, &pins()).unwrap();
        // docs/vault-format.md: magic, length, salt, nonce, and the pins with their tag.
        assert_eq!(
            (&sealed[..8], sealed.len()),
            (&b"MENTRUN1"[..], 8 + 4 + 32 + 12 + pins().write().unwrap().len() + 16)
        );
        assert_eq!(aad(&[9; 16], &run)[..], [&b"MENTRUN1"[..], &[9; 16], b"nightly"].concat());
        assert_eq!(open(&vault, &run, &sealed).unwrap(), pins());
        assert_ne!(vault.seal_pins(&run, &pins()).unwrap(), sealed, "a key is used once");
        let said = open(&vault, &"weekly".parse().unwrap(), &sealed).unwrap_err().to_string();
        assert!(said.starts_with("nightly.run: the pins of run 'weekly' are damaged"), "{said}");
        let other = Kit::new();
        assert!(open(&other.open(&arena), &run, &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&vault, &run, &changed).is_err(), "{at}");
            assert!(open(&vault, &run, &sealed[..at]).is_err(), "{at}");
        }
    }

    /// As a file is while the keys are rotated.
    #[test]
    fn of_two_blocks_each_vault_opens_its_own() {
        let (kit, arena) = (Kit::new(), Arena::new().unwrap());
        let vault = kit.open(&arena);
        let run: RunId = "nightly".parse().unwrap();
        let new = NewRoot::make(&arena).unwrap();
        let blocks = [vault.seal_pins(&run, &pins()).unwrap(), vault.reseal_pins(&run, &pins(), &new).unwrap()];
        let keys = [(1, crate::vault::whole_tests::KEY)];
        vault
            .rotate(&kit.lock(), &new, &crate::vault::Contents::new(), &kit.empty_ledger(), &keys, &kit.instance)
            .unwrap();
        let rotated = kit.open(&arena);
        for file in [blocks.concat(), [&blocks[1][..], &blocks[0]].concat()] {
            for vault in [&vault, &rotated] {
                assert_eq!(vault.open_pins(&run, &file, "nightly.run".as_ref()).unwrap(), pins());
                for cut in [1, 16, blocks[0].len() - 1] {
                    assert!(vault.open_pins(&run, &file[..file.len() - cut], "nightly.run".as_ref()).is_err(), "{cut}");
                }
            }
        }
        assert!(rotated.open_pins(&run, &blocks[0], "nightly.run".as_ref()).is_err());
        assert!(vault.open_pins(&run, &[], "nightly.run".as_ref()).is_err());
    }
}
