//! A git repository's whole history: every object that it stores.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::files::Looked;
use super::sieve::Sieve;
use super::stream::Reader;
use crate::admin::progress::Bar;

/// An object in which something was found.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) repository: PathBuf,
    pub(super) id: String,
    /// blob, commit or tag.
    pub(super) kind: String,
    /// For a blob: the first commit that has it, and the path there; `None` where no commit that can
    /// be reached has.
    pub(super) place: Option<(String, String)>,
}

/// The repository that holds the path, if one does.
pub(super) fn repository_of(path: &Path) -> Result<PathBuf, String> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut git = git();
    git.arg("-C").arg(folder).args(["rev-parse", "--absolute-git-dir"]);
    let output = git.output().map_err(|error| format!("can't run git: {error}"))?;
    match output.status.success() {
        true => {
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(PathBuf::from(text.strip_suffix('\n').unwrap_or(&text)))
        }
        false => {
            let why = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
            Err(format!("can't look into the git history of {}: {why}", path.display()))
        }
    }
}

/// Searches all objects, also those that no branch or tag leads to any more.
pub(super) fn search(repository: &Path, sieve: &Sieve<'_>) -> Looked<Object> {
    let mut looked = Looked::default();
    let result = objects(repository, sieve, &mut looked).and_then(|()| place(repository, &mut looked.found));
    if let Err(fault) = result {
        looked.faults.push(format!("{}: {fault}", repository.display()));
    }
    looked
}

/// git on no other repository than is named, without a network, without programs of its
/// configuration.
fn git() -> Command {
    let mut git = Command::new("git");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"] {
        git.env_remove(variable);
    }
    git.env("GIT_NO_LAZY_FETCH", "1").env("GIT_OPTIONAL_LOCKS", "0").stdin(Stdio::null());
    git
}

fn start(repository: &Path, words: &[&str]) -> Result<(Child, BufReader<ChildStdout>), String> {
    let mut git = git();
    git.arg("--git-dir").arg(repository).args(words).stdout(Stdio::piped());
    let mut child = git.spawn().map_err(|error| format!("can't run git: {error}"))?;
    let output = child.stdout.take().ok_or("git has no output")?;
    Ok((child, BufReader::with_capacity(1 << 18, output)))
}

fn end(mut child: Child) -> Result<(), String> {
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("git failed ({status})")),
        Err(error) => Err(format!("git was lost: {error}")),
    }
}

const ALL: [&str; 4] = ["cat-file", "--batch-all-objects", "--unordered", "--buffer"];

fn objects(repository: &Path, sieve: &Sieve<'_>, looked: &mut Looked<Object>) -> Result<(), String> {
    let total = total(repository);
    let mut bar = Bar::new("scanning history");
    let mut done = 0;
    let (child, mut output) = start(repository, &[&ALL[..], &["--batch"]].concat())?;
    let mut reader = Reader::new(sieve);
    let lost = |error| format!("can't read from git: {error}");
    let mut line = String::new();
    while output.read_line(&mut line).map_err(lost)? > 0 {
        let mut words = line.split_ascii_whitespace();
        let (id, kind) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let size: u64 = match words.next().and_then(|size| size.parse().ok()) {
            Some(size) => size,
            // `missing`: a clone that has not got it.
            None => {
                line.clear();
                continue;
            }
        };
        let mut object = (&mut output).take(size);
        // A tree has names, which are in the work tree too, and hashes.
        if kind != "tree" {
            looked.count += 1;
            let found = reader.search(&mut object).map_err(lost)?;
            if !found.is_empty() {
                let (repository, id, kind) = (repository.to_owned(), id.to_owned(), kind.to_owned());
                looked.found.push((Object { repository, id, kind, place: None }, found));
            }
        }
        std::io::copy(&mut object, &mut std::io::sink()).map_err(lost)?;
        if object.limit() > 0 {
            return Err("git ended within an object".into());
        }
        output.read_exact(&mut [0]).map_err(lost)?;
        done += size;
        bar.show(done, total);
        line.clear();
    }
    end(child)
}

/// How many bytes there are to look at; only where somebody sees a bar.
fn total(repository: &Path) -> u64 {
    if !std::io::stderr().is_terminal() {
        return 0;
    }
    let Ok((child, output)) = start(repository, &[&ALL[..], &["--batch-check=%(objectsize)"]].concat()) else {
        return 0;
    };
    let total = output.lines().map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok()).sum();
    let _ = end(child);
    total
}

/// Names the first commit and the path of each blob: one walk through the history for all of them.
fn place(repository: &Path, found: &mut [(Object, Vec<super::stream::Found>)]) -> Result<(), String> {
    let mut blobs: BTreeMap<String, Option<(String, String)>> = BTreeMap::new();
    blobs.extend(found.iter().filter(|(object, _)| object.kind == "blob").map(|(object, _)| (object.id.clone(), None)));
    if blobs.is_empty() {
        return Ok(());
    }
    let words = [
        "log", "--all", "-m", "--raw", "-z", "--no-abbrev", "--no-renames", "--no-ext-diff", "--no-show-signature",
        "--no-color", "--format=commit %H",
    ];
    let (child, output) = start(repository, &words)?;
    let mut commit = String::new();
    let mut tokens = output.split(0);
    let mut next = || tokens.next().transpose().map_err(|error| format!("can't read from git: {error}"));
    while let Some(token) = next()? {
        let token = String::from_utf8_lossy(&token).trim_start_matches('\n').to_owned();
        if let Some(id) = token.strip_prefix("commit ") {
            commit = id.trim().to_owned();
        } else if token.starts_with(':') {
            // :OLDMODE NEWMODE OLDID NEWID STATUS, then the path.
            let path = next()?.unwrap_or_default();
            if let Some(place) = token.split(' ').nth(3).and_then(|id| blobs.get_mut(id)) {
                // The newest commits come first: the last that is seen is the first that was made.
                *place = Some((commit.clone(), String::from_utf8_lossy(&path).into_owned()));
            }
        }
    }
    end(child)?;
    for (object, _) in found {
        object.place = blobs.get(&object.id).cloned().flatten();
    }
    Ok(())
}
