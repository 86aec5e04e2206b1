//! What most commands need: the instance, its key, its vault.

use std::fs::File;

use super::{Common, Error, recovery};
use crate::audit::{Entry, Event, Log, Outcome};
use crate::instance::{Instance, InstanceKey, find};
use crate::memory::{Arena, adopt, with_wiped_stack};
use crate::policy::{ChainName, InvalidName, SecretName};
pub(super) use crate::vault::now;
use crate::vault::{Contents, Vault, WriteLock};

/// The instance that the command is about.
pub(super) fn instance(common: &Common) -> Result<Instance, Error> {
    Ok(Instance::open(&find(common.instance.as_deref())?)?)
}

/// Its key, in the arena; or what opens its vault instead.
pub(super) fn key<'a>(common: &Common, instance: &Instance, arena: &'a Arena) -> Result<InstanceKey<'a>, Error> {
    match common.recovery_code || common.recovery_code_fd.is_some() {
        true => Ok(InstanceKey::Recovery(recovery::read(common.recovery_code_fd, arena)?)),
        false => Ok(instance.key.read(passphrase(common)?, arena)?),
    }
}

/// The descriptor of `--passphrase-fd`, taken over.
pub(super) fn passphrase(common: &Common) -> Result<Option<File>, Error> {
    let Some(fd) = common.passphrase_fd else { return Ok(None) };
    match adopt(fd) {
        Ok(fd) => Ok(Some(fd.into())),
        Err(_) => Err(format!("--passphrase-fd {fd}: no such open descriptor above 2").into()),
    }
}

/// Its vault, opened.
pub(super) fn vault<'a>(common: &Common, instance: &Instance, arena: &'a Arena) -> Result<Vault<'a>, Error> {
    let key = key(common, instance, arena)?;
    Ok(with_wiped_stack(|| Vault::open(instance, key, arena))?)
}

/// What a change says in the log.
pub(super) struct Change {
    pub(super) event: Event,
    pub(super) secret: SecretName,
    pub(super) version: Option<u32>,
}

/// Changes the vault as [`changes`] does, by one thing.
pub(super) fn change(
    instance: &Instance,
    key: InstanceKey<'_>,
    arena: &Arena,
    edit: impl FnOnce(&Vault<'_>, &mut Contents) -> Result<Change, Error>,
) -> Result<Change, Error> {
    let mut done = changes(instance, key, arena, |vault, contents| Ok(vec![edit(vault, contents)?]))?;
    done.pop().ok_or_else(|| Error::Other("nothing was changed".into()))
}

/// Changes the vault: reads it under the lock, lets `edit` change its contents, replaces it whole,
/// records the changes. Nothing is written when `edit` fails or changes nothing, or when the log
/// can't be written.
pub(super) fn changes(
    instance: &Instance,
    key: InstanceKey<'_>,
    arena: &Arena,
    edit: impl FnOnce(&Vault<'_>, &mut Contents) -> Result<Vec<Change>, Error>,
) -> Result<Vec<Change>, Error> {
    let lock = WriteLock::take(instance)?;
    let log = Log::open(instance)?;
    log.check_writable()?;
    with_wiped_stack(|| {
        let vault = Vault::open(instance, key, arena)?;
        let mut contents = vault.read_all()?;
        let changes = edit(&vault, &mut contents)?;
        if changes.is_empty() {
            return Ok(changes);
        }
        let generation = vault.replace(&lock, &contents)?;
        let entries: Vec<Entry<'_>> = changes
            .iter()
            .map(|change| Entry {
                secret: Some(change.secret.as_str()),
                version: change.version,
                generation: Some(generation),
                memory: Some(arena.protection().name()),
                ..Entry::new(change.event, Outcome::Done)
            })
            .collect();
        log.append(&entries, Some(&vault.log_key())).map_err(unrecorded)?;
        Ok(changes)
    })
}

/// What was done to the vault, other than to its secrets.
pub(super) struct Rewritten {
    pub(super) generation: u64,
    pub(super) chain: Option<ChainName>,
    pub(super) detail: Option<String>,
}

/// Like [`change`], for what is not about a secret: `write` does the writing.
pub(super) fn rewrite(
    instance: &Instance,
    key: InstanceKey<'_>,
    arena: &Arena,
    event: Event,
    write: impl FnOnce(&Vault<'_>, &WriteLock) -> Result<Rewritten, Error>,
) -> Result<(), Error> {
    let lock = WriteLock::take(instance)?;
    let log = Log::open(instance)?;
    log.check_writable()?;
    with_wiped_stack(|| {
        let vault = Vault::open(instance, key, arena)?;
        let written = write(&vault, &lock)?;
        let entry = Entry {
            chain: written.chain.as_ref().map(ChainName::as_str),
            reason: written.detail.as_deref(),
            generation: Some(written.generation),
            ..Entry::new(event, Outcome::Done)
        };
        log.append(&[entry], Some(&vault.log_key())).map_err(unrecorded)
    })
}

fn unrecorded(error: crate::audit::Error) -> Error {
    format!("the change was made, but it could not be recorded: {error}").into()
}

/// A parser of names for clap.
pub(super) fn secret_name(text: &str) -> Result<SecretName, String> {
    text.parse().map_err(|error: InvalidName| error.to_string())
}
