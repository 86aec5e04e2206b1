//! `mentiko secret import`: many values at once, from a file or the environment.
//!
//! The file is read into the arena, and the values that are kept lie there. What the parsers hold
//! of them meanwhile is on the heap, which is wiped as it is freed (`memory/allocator.rs`).

mod dotenv;
mod history;
mod json;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata as FileMetadata};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::context::{self, Change};
use super::secret::{self, Metadata, RESERVED};
use super::{Common, Error, say, table, value};
use crate::audit::Event;
use crate::instance::{self, read_secret};
use crate::memory::{Arena, wipe_freed_memory};
use crate::policy::{InvalidName, Scope, SecretName, is_reserved};
use crate::vault::{Contents, Vault};

/// How much is read of a pipe, whose size nobody tells.
const PIPE: usize = 1 << 20;

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  mentiko secret import .env --scope content-pipeline\n  \
                        mentiko secret import --from-env OPENAI_API_KEY SLACK_WEBHOOK")]
pub(super) struct Arguments {
    /// A .env file, or a .json file with one flat object of strings
    #[arg(required_unless_present = "from_env", conflicts_with = "from_env")]
    file: Option<PathBuf>,
    /// Take these variables of the environment instead
    #[arg(long, num_args = 1.., value_name = "NAME")]
    from_env: Vec<String>,
    #[command(flatten)]
    metadata: Metadata,
    /// Don't ask before the values are stored
    #[arg(long)]
    yes: bool,
    /// Remove the file afterwards without asking, if all of it was stored
    #[arg(long, requires = "file")]
    remove: bool,
}

/// One name with its value in the arena, or why it is refused.
pub(super) struct Entry<'a> {
    name: String,
    value: Result<&'a mut [u8], String>,
}

pub(super) fn run(common: &Common, arguments: Arguments) -> Result<ExitCode, Error> {
    secret::check(&arguments.metadata)?;
    wipe_freed_memory();
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let source = arguments.file.as_deref().map(Source::open).transpose()?;
    let mut entries = match &source {
        Some(source) => source.entries(&arena)?,
        None => arguments.from_env.iter().map(|name| variable(name, &arena)).collect::<Result<_, Error>>()?,
    };
    refuse_twice(&mut entries);
    let (names, refused) = sift(&mut entries);
    let key = context::key(common, &instance, &arena)?;
    let contents = crate::memory::with_wiped_stack(|| Vault::open(&instance, key, &arena)?.read_all())?;
    show(&entries, &contents)?;
    if names.is_empty() {
        return Err("nothing in it can be stored".to_owned().into());
    }
    let question = format!("Store {}? [y/N] ", secrets(names.len()));
    if !arguments.yes && !secret::confirmed(&question)? {
        return Err("nothing was stored; say --yes to store without being asked".to_owned().into());
    }
    let now = context::now();
    let changes = context::changes(&instance, key, &arena, |vault, contents| {
        let values = entries.into_iter().filter_map(|entry| entry.value.ok());
        names
            .into_iter()
            .zip(values)
            .map(|(name, value)| {
                let record = contents.entry(name.clone()).or_insert_with(|| Vault::new_record(name.clone(), now));
                secret::apply(record, &arguments.metadata);
                let version = vault.add_version(record, value, now)?;
                Ok(Change { event: Event::SECRET_SET, secret: name, version: Some(version) })
            })
            .collect()
    })?;
    let new = changes.iter().filter(|change| !contents.contains_key(&change.secret)).count();
    writeln!(
        std::io::stdout(),
        "stored {}: {new} new, {} as new versions",
        secrets(changes.len()),
        changes.len() - new
    )?;
    secret::warn_of_unknown_chains(&instance.chains, arguments.metadata.scope.as_ref().unwrap_or(&Scope::All));
    if let Some(source) = &source {
        history::tell(source.path);
        source.offer_removal(arguments.remove, refused)?;
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn secrets(count: usize) -> String {
    format!("{count} {}", if count == 1 { "secret" } else { "secrets" })
}

fn variable<'a>(name: &str, arena: &'a Arena) -> Result<Entry<'a>, Error> {
    let value = match std::env::var_os(name) {
        Some(text) => Ok(copy(&text.into_vec(), arena)?),
        None => Err("there is no such variable".into()),
    };
    Ok(Entry { name: name.to_owned(), value })
}

/// A value's own place in the arena.
fn copy<'a>(value: &[u8], arena: &'a Arena) -> Result<&'a mut [u8], crate::memory::Error> {
    let place = arena.alloc(value.len())?;
    place.copy_from_slice(value);
    Ok(place)
}

/// Which of two counts differs from program to program.
fn refuse_twice(entries: &mut [Entry<'_>]) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.value.is_ok()) {
        *counts.entry(entry.name.clone()).or_default() += 1;
    }
    for entry in entries.iter_mut().filter(|entry| counts.get(&entry.name).is_some_and(|&count| count > 1)) {
        entry.value = Err("it stands there twice; keep one".into());
    }
}

/// The names that can be stored, in the order of their entries, and how many are refused.
fn sift(entries: &mut [Entry<'_>]) -> (Vec<SecretName>, usize) {
    let mut names = Vec::new();
    for entry in entries.iter_mut() {
        let Ok(value) = &entry.value else { continue };
        let name: Result<SecretName, InvalidName> = entry.name.parse();
        match (name, value::fault_of(value)) {
            (Ok(name), _) if is_reserved(name.as_str()) => entry.value = Err(RESERVED.into()),
            (Ok(_), Some(fault)) => entry.value = Err(format!("the value {fault}")),
            (Ok(name), None) => names.push(name),
            (Err(error), _) => entry.value = Err(error.to_string()),
        }
    }
    let refused = entries.len() - names.len();
    (names, refused)
}

/// Names and lengths; never more of a value.
fn show(entries: &[Entry<'_>], contents: &Contents) -> Result<(), Error> {
    let row = |entry: &Entry<'_>| {
        let (length, what) = match &entry.value {
            Ok(value) => (value.len().to_string(), fate(&entry.name, value, contents)),
            Err(reason) => ("-".into(), format!("refused: {reason}")),
        };
        vec![entry.name.chars().take(128).collect(), length, what]
    };
    table::print(&["SECRET", "BYTES", "WHAT"], &entries.iter().map(row).collect::<Vec<_>>())
}

fn fate(name: &str, value: &[u8], contents: &Contents) -> String {
    let known = name.parse().ok().and_then(|name: SecretName| contents.get(&name));
    let last = known.map(|record| record.versions.iter().map(|version| version.number).max().unwrap_or(0));
    let fate = last.map_or_else(|| "new".into(), |last| format!("version {}", last.saturating_add(1)));
    // A quote that was not closed takes the lines after it into the value.
    match value.iter().filter(|&&byte| byte == b'\n').count() {
        0 => fate,
        newlines => format!("{fate}, {} lines", newlines + 1),
    }
}

/// The file that the values come from.
struct Source<'p> {
    path: &'p Path,
    file: File,
    metadata: FileMetadata,
}

impl<'p> Source<'p> {
    fn open(path: &'p Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| instance::Error::file("open", path, error))?;
        let metadata = file.metadata().map_err(|error| instance::Error::file("stat", path, error))?;
        if metadata.is_dir() {
            return Err(format!("{} is a folder; name the file in it", path.display()).into());
        }
        if metadata.is_file() && metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o7777;
            say(&format!("{} has mode {mode:04o}: others may have read it; rotate what it holds", path.display()));
        }
        Ok(Self { path, file, metadata })
    }

    fn entries<'a>(&self, arena: &'a Arena) -> Result<Vec<Entry<'a>>, Error> {
        let size = match self.metadata.is_file() {
            true => usize::try_from(self.metadata.len()).unwrap_or(usize::MAX),
            false => PIPE,
        };
        // Room for a newline at the end, which a .env file may lack.
        let buffer = arena.alloc(size.saturating_add(1))?;
        let place = buffer.get_mut(..size).unwrap_or_default();
        let length =
            read_secret(&mut &self.file, place).map_err(|error| instance::Error::file("read", self.path, error))?;
        match self.path.extension() {
            Some(extension) if extension == OsStr::new("json") => {
                json::entries(buffer.get(..length).unwrap_or_default(), arena)
            }
            _ => dotenv::entries(buffer, length, arena),
        }
        .map_err(|error| match error {
            Error::Other(fault) => Error::Other(format!("{}: {fault}", self.path.display())),
            error => error,
        })
    }

    /// Removes the file, if that is wanted and nothing of it would be lost.
    fn offer_removal(&self, remove: bool, refused: usize) -> Result<(), Error> {
        let path = self.path.display();
        if !self.metadata.is_file() {
            return Ok(());
        }
        if refused > 0 {
            say(&format!("{path} was left in place: it holds what was not stored"));
            return Ok(());
        }
        let wanted = remove || std::io::stdin().is_terminal() && secret::confirmed(&format!("Remove {path}? [y/N] "))?;
        if !wanted {
            say(&format!("{path} still holds the values; remove it, or say --remove next time"));
            return Ok(());
        }
        let now =
            std::fs::symlink_metadata(self.path).map_err(|error| instance::Error::file("stat", self.path, error))?;
        if (now.dev(), now.ino()) != (self.metadata.dev(), self.metadata.ino()) {
            return Err(format!("{path} is a link or another file by now, and was left in place").into());
        }
        std::fs::remove_file(self.path).map_err(|error| instance::Error::file("remove", self.path, error))?;
        instance::sync_folder(instance::folder_of(self.path))?;
        let rest = "backups and snapshots, and for a while the disk, may still have it";
        Ok(writeln!(std::io::stdout(), "removed {path}; {rest}")?)
    }
}
