//! Folders and files, on all cores.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use ignore::{DirEntry, WalkBuilder, WalkState};
use nix::fcntl::OFlag;

use super::sieve::Sieve;
use super::stream::{Found, Reader};
use crate::admin::progress::Bar;

/// What came of looking at files or objects.
#[derive(Debug)]
pub(super) struct Looked<T> {
    pub(super) found: Vec<(T, Vec<Found>)>,
    /// What could not be looked at, and why.
    pub(super) faults: Vec<String>,
    /// How many were looked at.
    pub(super) count: usize,
}

impl<T> Default for Looked<T> {
    fn default() -> Self {
        Self { found: Vec::new(), faults: Vec::new(), count: 0 }
    }
}

/// A file to look at.
struct Job {
    path: PathBuf,
    size: u64,
    /// Named by the user, and not met on the way: it may be a link or a pipe.
    named: bool,
}

/// Searches all files below the paths; those that .gitignore leaves out are left out if `gitignore`.
pub(super) fn search(paths: &[PathBuf], gitignore: bool, sieve: &Sieve<'_>) -> Looked<PathBuf> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    let (jobs, mut faults) = list(paths, gitignore, cores);
    let total = jobs.iter().map(|job| job.size).sum();
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let results = Mutex::new(Vec::new());
    let mut bar = Bar::new("scanning");
    std::thread::scope(|scope| {
        let (working, ended) = channel::<()>();
        for _ in 0..cores.min(jobs.len()) {
            let (jobs, next, done, results, working) = (&jobs, &next, &done, &results, working.clone());
            scope.spawn(move || {
                let mut reader = Reader::new(sieve);
                let mut own = Vec::new();
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = open(job).and_then(|file| reader.search(file));
                    done.fetch_add(job.size, Ordering::Relaxed);
                    match result {
                        Ok(found) if found.is_empty() => {}
                        result => own.push((job.path.clone(), result)),
                    }
                }
                if let Ok(mut results) = results.lock() {
                    results.append(&mut own);
                }
                drop(working);
            });
        }
        drop(working);
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_millis(200)) {
            bar.show(done.load(Ordering::Relaxed), total);
        }
    });
    let mut looked = Looked { count: jobs.len(), ..Looked::default() };
    for (path, result) in results.into_inner().unwrap_or_default() {
        match result {
            Ok(found) => looked.found.push((path, found)),
            Err(error) => faults.push(format!("can't read {}: {error}", path.display())),
        }
    }
    faults.sort_unstable();
    looked.count -= faults.len().min(looked.count);
    looked.faults = faults;
    looked
}

fn open(job: &Job) -> std::io::Result<File> {
    // What was a regular file when it was listed may be a pipe by now, which nobody writes to.
    let flags = match job.named {
        true => OFlag::empty(),
        false => OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK,
    };
    File::options().read(true).custom_flags((flags | OFlag::O_NOCTTY).bits()).open(&job.path)
}

/// All files below the paths, with their sizes; and what could not be listed.
fn list(paths: &[PathBuf], gitignore: bool, cores: usize) -> (Vec<Job>, Vec<String>) {
    let Some((first, others)) = paths.split_first() else { return (Vec::new(), Vec::new()) };
    let mut walk = WalkBuilder::new(first);
    for path in others {
        walk.add(path);
    }
    walk.standard_filters(false).threads(cores);
    if gitignore {
        walk.git_ignore(true).git_exclude(true).git_global(true).parents(true).require_git(false);
    }
    let (jobs, faults) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    walk.build_parallel().run(|| {
        Box::new(|entry| {
            match entry {
                Ok(entry) => jobs.lock().map(|mut jobs| jobs.extend(job(&entry))).unwrap_or_default(),
                Err(error) => faults.lock().map(|mut faults| faults.push(error.to_string())).unwrap_or_default(),
            }
            WalkState::Continue
        })
    });
    (jobs.into_inner().unwrap_or_default(), faults.into_inner().unwrap_or_default())
}

fn job(entry: &DirEntry) -> Option<Job> {
    let path = match entry.is_stdin() {
        // The walk takes a dash for standard input.
        true => Path::new("/dev/stdin").to_owned(),
        false => entry.path().to_owned(),
    };
    let named = entry.depth() == 0;
    if !named {
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        return is_file.then(|| Job { size: entry.metadata().map_or(0, |metadata| metadata.len()), path, named });
    }
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => None,
        Ok(metadata) => Some(Job { size: metadata.len(), path, named }),
        // Opening it says why.
        Err(_) => Some(Job { size: 0, path, named }),
    }
}
