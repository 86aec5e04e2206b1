//! The log's files: `access-YYYY-MM.jsonl`, one a month, in the order of their names.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::Error;

/// Every segment in the folder, oldest first.
#[cfg(feature = "admin")]
pub fn segments(folder: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let cant_list = |error| Error::file("list", folder, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cant_list)? {
        let entry = entry.map_err(cant_list)?;
        if entry.file_name().to_str().is_some_and(is_segment) {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Their names in an open folder, oldest first; `path` stands in messages only.
pub(super) fn names_in(folder: &OwnedFd, path: &Path) -> Result<Vec<String>, Error> {
    let cant_list = |errno| Error::file("list", path, errno);
    let mut listing = Dir::openat(folder, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(cant_list)?;
    let mut found = Vec::new();
    for entry in listing.iter() {
        let entry = entry.map_err(cant_list)?;
        if let Some(name) = entry.file_name().to_str().ok().filter(|name| is_segment(name)) {
            found.push(name.to_owned());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The segment of a time in RFC 3339.
pub(super) fn name_for(time: &str) -> String {
    format!("access-{}.jsonl", time.get(..7).unwrap_or("0000-00"))
}

fn is_segment(name: &str) -> bool {
    let month = name.strip_prefix("access-").and_then(|rest| rest.strip_suffix(".jsonl"));
    month.is_some_and(|month| {
        month.len() == 7
            && month.bytes().enumerate().all(|(at, byte)| if at == 4 { byte == b'-' } else { byte.is_ascii_digit() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segments_are_segments() {
        assert!(is_segment(&name_for("2026-03-07T09:15:02.482113Z")));
        for name in ["access-2026-3.jsonl", "access-2026-03.jsonl.gz", "access-.jsonl", "x", "access-2026-03.jsonl~"] {
            assert!(!is_segment(name), "{name}");
        }
    }
}
