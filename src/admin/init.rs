//! `mentiko init`: a new instance.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::unistd::geteuid;
use serde::Serialize;

use super::{Common, Error, context, value};
use crate::audit::{Entry, Event, Log, Outcome};
use crate::instance::{self, Instance, InstanceKey, KeySource, Policy, Uuid, below_home, fill, uuid_v7, variable};
use crate::launch::search;
use crate::memory::{Arena, with_wiped_stack};
use crate::vault::{self, PassphraseCost, WriteLock};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  mentiko init\n  mentiko init ./agents --key passphrase\n  \
                        mentiko init --key command -- pass show mentiko/key")]
pub(super) struct Arguments {
    /// Put all of it here [default: the places of this user's system]
    dir: Option<PathBuf>,
    /// file, passphrase, systemd-credential=NAME or command
    #[arg(long, value_name = "SOURCE", default_value = "file")]
    key: String,
    /// With --key command: what prints the key, 32 bytes or 64 hexadecimal digits
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn run(common: &Common, arguments: Arguments) -> Result<ExitCode, Error> {
    let source = source(&arguments)?;
    let folder = arguments.dir.or_else(|| common.instance.clone());
    let places = match folder {
        Some(folder) => Places::within(&std::path::absolute(folder)?),
        None => Places::of_this_system()?,
    };
    let passphrase = context::passphrase(common)?;
    let arena = Arena::new()?;
    let instance = make(&places, source, passphrase, PassphraseCost::default(), &arena)?;
    let mut out = std::io::stdout();
    writeln!(out, "made the instance {}", instance.folder.display())?;
    if let KeySource::File(path) = &instance.key {
        writeln!(out, "its key is {}: without it the vault can't be opened; keep a copy elsewhere", path.display())?;
    }
    writeln!(out, "next: mentiko secret set NAME")?;
    Ok(ExitCode::SUCCESS)
}

fn source(arguments: &Arguments) -> Result<KeySource, Error> {
    let source = match (arguments.key.as_str(), arguments.key.split_once('=')) {
        ("file", _) => KeySource::File("instance.key".into()),
        ("passphrase", _) => KeySource::Passphrase,
        ("command", _) if arguments.command.is_empty() => {
            return Err("--key command needs the command: --key command -- pass show mentiko/key".to_owned().into());
        }
        ("command", _) => KeySource::Command(with_absolute_program(&arguments.command)?),
        (_, Some(("systemd-credential", name))) if !name.is_empty() => KeySource::SystemdCredential(name.to_owned()),
        (other, _) => {
            let known = "file, passphrase, systemd-credential=NAME, command";
            return Err(format!("--key '{}' is none of {known}", other.escape_debug()).into());
        }
    };
    match (&source, arguments.command.is_empty()) {
        (KeySource::Command(_), _) | (_, true) => Ok(source),
        _ => Err("a command was given, but not --key command".to_owned().into()),
    }
}

/// The command with its program's whole path: a later search of PATH would let the caller of a
/// launch choose what sees the key.
fn with_absolute_program(command: &[String]) -> Result<Vec<String>, Error> {
    let mut command = command.to_vec();
    if let Some(program) = command.first_mut() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = search(program.as_ref(), &path).map_err(|failure| failure.to_string())?;
        *program = std::path::absolute(found)?.to_string_lossy().into_owned();
    }
    Ok(command)
}

/// Where the parts of a new instance go: as instance.json is to name them.
pub(super) struct Places {
    folder: PathBuf,
    vault: PathBuf,
    runs: PathBuf,
    audit: PathBuf,
}

impl Places {
    /// Everything below one folder.
    pub(super) fn within(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), vault: "vault".into(), runs: "runs".into(), audit: "audit".into() }
    }

    /// XDG base directories, or /etc, /var/lib and /var/log for root; systemd's where it names some.
    fn of_this_system() -> Result<Self, Error> {
        let (folder, state, audit) = match geteuid().is_root() {
            true => ("/etc/mentiko".into(), "/var/lib/mentiko".into(), "/var/log/mentiko".into()),
            false => (
                below_home("XDG_CONFIG_HOME", ".config")?,
                below_home("XDG_DATA_HOME", ".local/share")?,
                below_home("XDG_STATE_HOME", ".local/state")?.join("audit"),
            ),
        };
        let folder = variable("CONFIGURATION_DIRECTORY").unwrap_or(folder);
        let state = variable("STATE_DIRECTORY").unwrap_or(state);
        let audit = variable("LOGS_DIRECTORY").unwrap_or(audit);
        Ok(Self { folder, vault: state.join("vault"), runs: state.join("runs"), audit })
    }
}

/// instance.json, its fields in order.
#[derive(Serialize)]
struct Configuration<'a> {
    version: u32,
    instance: String,
    key: Key<'a>,
    vault: &'a Path,
    chains: &'a Path,
    audit: &'a Path,
    runs: &'a Path,
    policy: PolicyFields,
}

#[derive(Serialize)]
struct PolicyFields {
    fence: &'static str,
    warn_when_due: bool,
}

#[derive(Serialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
enum Key<'a> {
    File { path: &'a Path },
    SystemdCredential { name: &'a str },
    Command { argv: &'a [String] },
    Passphrase,
}

/// Makes all of it; instance.json comes last, so that there is no instance before it is whole.
pub(super) fn make(
    places: &Places,
    source: KeySource,
    passphrase: Option<File>,
    cost: PassphraseCost,
    arena: &Arena,
) -> Result<Instance, Error> {
    let configuration = places.folder.join("instance.json");
    if configuration.symlink_metadata().is_ok() {
        return Err(format!("{} exists already; it stays as it is", configuration.display()).into());
    }
    let chains = Path::new("chains");
    let within = |path: &Path| places.folder.join(path);
    for folder in [places.folder.clone(), within(chains), within(&places.runs), within(&places.audit)] {
        make_folder(&folder)?;
    }
    if let Some(folder) = within(&places.vault).parent() {
        make_folder(folder)?;
    }
    let id = uuid_v7()?;
    let key_path = within(Path::new("instance.key"));
    let key = new_key(&source, &key_path, passphrase, arena)?;
    let stored_source = match &source {
        KeySource::File(_) => Key::File { path: Path::new("instance.key") },
        KeySource::SystemdCredential(name) => Key::SystemdCredential { name },
        KeySource::Command(argv) => Key::Command { argv },
        KeySource::Passphrase => Key::Passphrase,
    };
    let instance = new_instance(places, id, source.clone(), &key_path, chains);
    let lock = WriteLock::take(&instance)?;
    with_wiped_stack(|| vault::create(&lock, &instance, key, cost, arena))?;
    let text = serde_json::to_string_pretty(&Configuration {
        version: 1,
        instance: id.to_string(),
        key: stored_source,
        vault: &places.vault,
        chains,
        audit: &places.audit,
        runs: &places.runs,
        policy: PolicyFields { fence: "auto", warn_when_due: true },
    })
    .map_err(|error| error.to_string())?;
    write_new(&configuration, format!("{text}\n").as_bytes(), 0o644)?;
    let opened = with_wiped_stack(|| vault::Vault::open(&instance, key, arena))?;
    let entry = Entry { generation: Some(opened.generation()), ..Entry::new(Event::INSTANCE_INIT, Outcome::Done) };
    Log::open(&instance)?.append(&[entry], Some(&opened.log_key()))?;
    Ok(instance)
}

fn new_instance(places: &Places, id: Uuid, source: KeySource, key_path: &Path, chains: &Path) -> Instance {
    let within = |path: &Path| places.folder.join(path);
    Instance {
        folder: places.folder.clone(),
        id,
        key: match source {
            KeySource::File(_) => KeySource::File(key_path.to_owned()),
            other => other,
        },
        vault: within(&places.vault),
        chains: within(chains),
        audit: within(&places.audit),
        runs: within(&places.runs),
        policy: Policy::default(),
    }
}

/// A fresh key file, or the key that the source has already.
fn new_key<'a>(
    source: &KeySource,
    path: &Path,
    passphrase: Option<File>,
    arena: &'a Arena,
) -> Result<InstanceKey<'a>, Error> {
    match source {
        KeySource::File(_) => {
            let key = arena.key()?;
            fill(key)?;
            write_new(path, key, 0o600)?;
            Ok(InstanceKey::Bytes(key))
        }
        KeySource::Passphrase if passphrase.is_none() => {
            Ok(InstanceKey::Passphrase(value::new_passphrase(None, arena)?))
        }
        other => Ok(other.read(passphrase, arena)?),
    }
}

fn make_folder(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    Ok(made.map_err(|error| instance::Error::file("create", path, error))?)
}

/// A new file, whole or not at all: written beside, synced, linked into place.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let temporary = instance::beside(path, ".tmp");
    let failed = |what| move |error| instance::Error::file(what, path, error);
    let _ = std::fs::remove_file(&temporary);
    let mut file =
        File::options().write(true).create_new(true).mode(mode).open(&temporary).map_err(failed("create"))?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        // Unlike rename(2), link(2) refuses to replace.
        .and_then(|()| std::fs::hard_link(&temporary, path));
    let _ = std::fs::remove_file(&temporary);
    written.map_err(failed("write"))?;
    instance::sync_folder(instance::folder_of(path))?;
    Ok(())
}
