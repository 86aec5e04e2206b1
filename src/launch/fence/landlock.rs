//! The fence of Landlock, where namespaces are refused.
//!
//! Landlock allows what is below a path; it can't except a place from what was allowed above. So
//! every neighbor of each folder on the way to a covered place is allowed, and the way itself is
//! not: nothing new can be made directly in those folders. Where the agent's home, working or
//! temporary folder is on the way, that would hinder it, and there is no such fence.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus};

use super::{Places, Refusal};

pub(super) fn restrict(places: &Places) -> Result<(), Refusal> {
    let way = way_to(places);
    if let Some(folder) = way.iter().find(|folder| places.is_needed(folder)) {
        let fault = format!("Landlock can't except the instance from {}, which the agent works in", folder.display());
        return Err(Refusal::Unfit(fault));
    }
    let abi = ABI::V3;
    // Listing is left free: it shows names of files, as the way's own folders must.
    let all = AccessFs::from_all(abi) & !AccessFs::ReadDir;
    let of_a_file = AccessFs::from_file(abi);
    let refused = |error: landlock::RulesetError| Refusal::Unfit(format!("Landlock is refused ({error})"));
    let mut rules = Ruleset::default().handle_access(all).and_then(|ruleset| ruleset.create()).map_err(refused)?;
    let covered: BTreeSet<&Path> = places.covers().iter().map(|cover| cover.path()).collect();
    for folder in &way {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if way.contains(&path) || covered.contains(path.as_path()) {
                continue;
            }
            // Gone meanwhile, or not ours to open: then it is not allowed.
            let Ok(fd) = PathFd::new(&path) else { continue };
            let access = if path.is_dir() { all } else { of_a_file };
            rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(refused)?;
        }
    }
    let status = rules.restrict_self().map_err(refused)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(Refusal::Unfit("this kernel has no Landlock".into())),
    }
}

/// Every folder above a covered place.
fn way_to(places: &Places) -> BTreeSet<PathBuf> {
    let above = |path: &Path| path.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
    places.covers().iter().flat_map(|cover| above(cover.path())).collect()
}
