//! What several targets stand on: an instance in a folder of the process's own.

use std::path::PathBuf;

use mentiko_exec::instance::{ApprovalPolicy, Instance, InstanceKey};
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::{Definition, Reviewed, review};
use mentiko_exec::vault::{PassphraseCost, Record, Vault, WriteLock, create};

/// The key of every instance here.
pub const KEY: InstanceKey<'static> = InstanceKey::Bytes(&[3; 32]);

/// A new folder; `fuzz/run` removes what is left.
pub fn folder() -> PathBuf {
    tempfile::tempdir().unwrap().keep()
}

/// An instance with an empty vault.
pub fn instance() -> Instance {
    let folder = folder();
    for name in ["audit", "chains", "runs"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    let text = r#"{"version": 1, "instance": "0198c0de-0000-7000-8000-000000000001",
        "key": {"source": "file", "path": "instance.key"},
        "vault": "vault", "chains": "chains", "audit": "audit", "runs": "runs"}"#;
    std::fs::write(folder.join("instance.json"), text).unwrap();
    let instance = Instance::open(&folder).unwrap();
    let lock = WriteLock::take(&instance).unwrap();
    create(&lock, &instance, KEY, PassphraseCost::default(), arena()).unwrap();
    instance
}

/// A definition of an instance that asks for no approval.
pub fn reviewed(definition: &Definition) -> Reviewed<'_> {
    let Ok(reviewed) = review(definition, ApprovalPolicy::NotRequired, || Ok::<_, std::convert::Infallible>(None));
    reviewed.unwrap()
}

/// An arena that stays.
pub fn arena() -> &'static Arena {
    Box::leak(Box::new(Arena::new().unwrap()))
}

/// A secret of the vault with a first version.
pub fn secret(vault: &Vault<'_>, name: &str, value: &[u8]) -> Record {
    let mut record = Vault::new_record(name.parse().unwrap(), 1_700_000_000);
    vault.add_version(&mut record, &mut value.to_vec(), 1_700_000_000).unwrap();
    record
}
