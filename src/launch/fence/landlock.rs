//! The fence of Landlock, where namespaces are refused.
//!
//! Landlock allows what is below a path; it can't except a place from what was allowed above. So
//! every neighbor of each folder on the way to a covered place is allowed, and the way itself is
//! not: nothing new can be made directly in those folders. Where the agent's home, working or
//! temporary folder is on the way, that would hinder it, and there is no such fence.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus,
};

use super::places::open_real;
use super::{Places, Refusal};

/// Everything but the last step, after which this process could not write its own log either.
pub(super) fn prepare(places: &Places) -> Result<RulesetCreated, Refusal> {
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
    // What any Landlock has, this kernel must have; the rest as far as it goes.
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1) & !AccessFs::ReadDir)
        .and_then(|ruleset| ruleset.set_compatibility(CompatLevel::BestEffort).handle_access(all))
        .and_then(|ruleset| ruleset.create())
        .map_err(refused)?;
    for folder in &way {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            // Where a link leads is what would be allowed; what is gone meanwhile, or not ours to open, is not.
            let Ok((path, there)) = open_real(&entry.path()) else { continue };
            let is_covered = places.of_instance.iter().any(|cover| path.starts_with(cover.path()));
            if way.contains(&path) || is_covered {
                continue;
            }
            let access = if path.is_dir() { all } else { of_a_file };
            rules = rules.add_rule(PathBeneath::new(there, access)).map_err(refused)?;
        }
    }
    Ok(rules)
}

pub(super) fn restrict(rules: RulesetCreated) -> Result<(), String> {
    match rules.restrict_self() {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => Err("this kernel has no Landlock".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Every folder above a covered place. Landlock does not know of sockets, so doors can't be shut.
fn way_to(places: &Places) -> BTreeSet<PathBuf> {
    let mut way = BTreeSet::new();
    for cover in &places.of_instance {
        way.extend(cover.path().ancestors().skip(1).map(Path::to_owned));
    }
    way
}
