//! `mentiko scan`: where values of the vault stand in the clear.
//!
//! All values are opened, into the arena, and so are their usual encodings. What is printed is the
//! place and the secret's name.

mod files;
mod history;
mod sieve;
mod stream;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::{Common, Error, context, say, table};
use crate::launch::{SHORTEST, forms_of};
use crate::memory::{Arena, wipe_freed_memory, with_wiped_stack};
use crate::text::printable;
use crate::vault::{State, Value};

use history::Object;
use sieve::Sieve;
use stream::Found;

/// Nothing is known to be there, but not everything could be looked at.
const INCOMPLETE: u8 = 2;

#[derive(clap::Args, Debug)]
#[command(after_help = "Exit status: 0 nothing found, 1 found, 2 nothing found but not all could be looked at.\n\
                        Example: mentiko scan --git . /var/log/agents")]
pub(super) struct Arguments {
    /// Files and folders; - for standard input
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Look through the whole history of the paths' git repositories too
    #[arg(long)]
    git: bool,
    /// Leave out what .gitignore leaves out
    #[arg(long)]
    gitignore: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> ExitCode {
    match scan(common, arguments) {
        Ok(code) => code,
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(INCOMPLETE)
        }
    }
}

fn scan(common: &Common, arguments: &Arguments) -> Result<ExitCode, Error> {
    // Buffers will hold what is found.
    wipe_freed_memory();
    let instance = context::instance(common)?;
    let arena = Arena::new()?;
    let vault = context::vault(common, &instance, &arena)?;
    let wanted = with_wiped_stack(|| Wanted::of(vault.open_values(&arena)?, &arena))?;
    let files = files::search(&arguments.paths, arguments.gitignore, &wanted.sieve);
    let mut faults = files.faults;
    let mut hits: Vec<Hit> = Vec::new();
    for (path, found) in files.found {
        let path = path.to_string_lossy().into_owned();
        hits.extend(found.into_iter().map(|found| wanted.hit(found, Some(path.clone()), None)));
    }
    let mut looked_at = format!("{} files", files.count);
    if arguments.git {
        let (repositories, unknown) = repositories(&arguments.paths);
        faults.extend(unknown);
        for repository in repositories {
            let history = history::search(&repository, &wanted.sieve);
            faults.extend(history.faults);
            looked_at += &format!(" and {} objects of {}", history.count, repository.display());
            for (object, found) in history.found {
                hits.extend(found.into_iter().map(|found| wanted.hit(found, None, Some(&object))));
            }
        }
    }
    hits.sort_unstable();
    hits.dedup_by(|next, kept| next.key() == kept.key());
    report(&hits, arguments.json)?;
    faults.iter().for_each(|fault| say(fault));
    let count = wanted.values.len();
    Ok(match (hits.is_empty(), faults.is_empty()) {
        (true, true) => {
            say(&format!("looked for {count} values in {looked_at}: none is there"));
            ExitCode::SUCCESS
        }
        (true, false) => ExitCode::from(INCOMPLETE),
        (false, _) => {
            let secrets: BTreeSet<&str> = hits.iter().map(|hit| hit.secret.as_str()).collect();
            say(&format!("{} places hold values of {} secrets: rotate them", hits.len(), secrets.len()));
            ExitCode::FAILURE
        }
    })
}

fn repositories(paths: &[PathBuf]) -> (BTreeSet<PathBuf>, Vec<String>) {
    let (mut found, mut faults) = (BTreeSet::new(), Vec::new());
    for path in paths {
        match history::repository_of(path) {
            Ok(repository) => drop(found.insert(repository)),
            Err(fault) => faults.push(fault),
        }
    }
    (found, faults)
}

/// What is looked for.
struct Wanted<'a> {
    values: Vec<Value<'a>>,
    /// For each form: whose it is, and whether it is the value itself.
    forms: Vec<(usize, bool)>,
    sieve: Sieve<'a>,
}

impl<'a> Wanted<'a> {
    fn of(mut values: Vec<Value<'a>>, arena: &'a Arena) -> Result<Self, Error> {
        values.retain(|value| {
            let long_enough = value.bytes.len() >= SHORTEST;
            if !long_enough {
                let (name, version) = (&value.name, value.version);
                say(&format!("'{name}' version {version} has less than {SHORTEST} bytes and is not looked for"));
            }
            long_enough
        });
        let (mut forms, mut texts) = (Vec::new(), Vec::new());
        for (at, value) in values.iter().enumerate() {
            for form in forms_of(value.bytes, arena)? {
                forms.push((at, form == value.bytes));
                texts.push(form);
            }
        }
        let sieve = Sieve::new(texts, arena)?;
        Ok(Self { values, forms, sieve })
    }

    fn hit(&self, found: Found, path: Option<String>, object: Option<&Object>) -> Hit {
        let (at, is_plain) = self.forms.get(found.form).copied().unwrap_or_default();
        let value = self.values.get(at);
        let place = object.and_then(|object| object.place.as_ref());
        Hit {
            repository: object.map(|object| object.repository.to_string_lossy().into_owned()),
            commit: match object {
                Some(object) if object.kind == "commit" => Some(object.id.clone()),
                _ => place.map(|(commit, _)| commit.clone()),
            },
            object: object.map(|object| format!("{} {}", object.kind, object.id)),
            path: path.or_else(|| place.map(|(_, path)| path.clone())),
            line: found.line,
            secret: value.map(|value| value.name.to_string()).unwrap_or_default(),
            version: value.map_or(0, |value| value.version),
            offset: found.offset,
            state: value.map_or("", |value| match value.state {
                State::Current => "current",
                State::Previous => "previous",
                State::Revoked => "revoked",
            }),
            encoded: !is_plain,
        }
    }
}

/// One place, as it is printed. The order of the fields is that of the list.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Hit {
    /// For a place in a history.
    repository: Option<String>,
    path: Option<String>,
    /// The first that has it; `null` where none that can be reached has, and for files.
    commit: Option<String>,
    /// Its kind and hash.
    object: Option<String>,
    /// `null` in what is no text.
    line: Option<u64>,
    secret: String,
    version: u32,
    /// In bytes.
    offset: u64,
    state: &'static str,
    /// In base64, percent-encoded or JSON-escaped.
    encoded: bool,
}

impl Hit {
    /// What is one finding: a line, or a place in what has no lines.
    fn key(&self) -> impl PartialEq + '_ {
        let offset = if self.line.is_some() { 0 } else { self.offset };
        (&self.repository, &self.object, &self.path, self.line, offset, &self.secret, self.version)
    }

    fn place(&self) -> String {
        let short = |id: &str| id.chars().take(12).collect::<String>();
        let at = self.line.unwrap_or(self.offset);
        let path = self.path.as_deref().unwrap_or_default();
        let Some(object) = &self.object else { return format!("{path}:{at}") };
        let repository = self.repository.as_deref().unwrap_or_default();
        let (kind, id) = object.split_once(' ').unwrap_or_default();
        match (&self.commit, kind) {
            (Some(commit), "blob") => format!("{repository}: commit {}: {path}:{at}", short(commit)),
            (None, "blob") => format!("{repository}: blob {}:{at} (in no branch or tag)", short(id)),
            _ => format!("{repository}: message of {kind} {}:{at}", short(id)),
        }
    }
}

fn report(hits: &[Hit], json: bool) -> Result<(), Error> {
    if json {
        return table::json(&hits);
    }
    let mut out = std::io::BufWriter::new(std::io::stdout());
    for hit in hits {
        let encoded = if hit.encoded { ", encoded" } else { "" };
        let line = format!("{}: {} (version {}, {}{encoded})", hit.place(), hit.secret, hit.version, hit.state);
        writeln!(out, "{}", printable(&line))?;
    }
    Ok(out.flush()?)
}
