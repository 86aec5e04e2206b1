//! Asking the vault, deciding, opening what was granted.

use std::io::Write;
use std::process::ExitCode;

use super::due::warn_of_overdue;
use super::environment::check_length;
use super::{Delivery, Failure, Inherited, Site, Status};
use crate::memory::{Arena, with_wiped_stack};
use crate::policy::{self, Decision, Definition, Grant, Reason, SecretName, review};
use crate::vault::{Contents, Pins, Runs, Secret, Vault, now};

/// A launch that was granted, before any value is opened.
#[derive(Debug)]
pub struct Decided<'a> {
    vault: Vault<'a>,
    contents: Contents,
    grants: Vec<Grant>,
}

/// Opens key, slot and the buckets of the names in question, looks at the approval where there must
/// be one, decides, and pins the versions that are granted, so that the run keeps them.
pub fn decide<'a>(
    site: &Site<'a>,
    definition: &Definition,
    inherited: &Inherited,
    arena: &'a Arena,
) -> Result<Decided<'a>, Failure> {
    let decided = decide_and_pin(site, definition, inherited, arena)?;
    warn_of_overdue(site, &decided.contents, &decided.grants);
    Ok(decided)
}

fn decide_and_pin<'a>(
    site: &Site<'a>,
    definition: &Definition,
    inherited: &Inherited,
    arena: &'a Arena,
) -> Result<Decided<'a>, Failure> {
    let passphrase = site.arguments.passphrase()?;
    let mut names = inherited.suspects();
    let requests = definition.requests(&site.arguments.agent).unwrap_or_default();
    names.extend(requests.iter().map(|request| request.secret.clone()));
    let key = with_wiped_stack(|| site.instance.key.read(passphrase, arena))?;
    let runs = Runs::open(&site.instance)?;
    let mut lock = None;
    loop {
        // Before the vault is opened: then it holds whatever was pinned by now.
        let sealed = if site.run_is_new { None } else { runs.read(&site.run)? };
        let (decided, mut pins) = with_wiped_stack(|| -> Result<_, Failure> {
            let vault = Vault::open(&site.instance, key, arena)?;
            site.remember_key(&vault);
            let pins = match &sealed {
                Some(sealed) => vault.open_pins(&site.run, sealed, &runs.file(&site.run))?,
                None => Pins::new(site.arguments.chain.clone(), now()),
            };
            let contents = vault.lookup(&names)?;
            let grants = judge(site, definition, inherited, &vault, &contents, &pins)?;
            Ok((Decided { vault, contents, grants }, pins))
        })?;
        let added = decided.grants.iter().filter(|grant| pins.add(grant.secret(), grant.version())).count();
        if added == 0 || site.arguments.dry_run || !site.run_goes_on() {
            return Ok(decided);
        }
        if !site.run_is_new && lock.is_none() {
            lock = Some(runs.lock()?);
            // Another launch of the run may have been first, or a version may have been retired.
            if runs.read(&site.run)? != sealed || !decided.vault.is_latest() {
                continue;
            }
        }
        let sealed = with_wiped_stack(|| decided.vault.seal_pins(&site.run, &pins));
        let written = sealed.and_then(|sealed| match &lock {
            Some(lock) => runs.replace(lock, &site.run, &sealed),
            None => runs.create(&site.run, &sealed),
        });
        return written.map(|()| decided).map_err(|error| Failure::new(Status::Other, error.to_string()));
    }
}

fn judge(
    site: &Site<'_>,
    definition: &Definition,
    inherited: &Inherited,
    vault: &Vault<'_>,
    contents: &Contents,
    pins: &Pins,
) -> Result<Vec<Grant>, Failure> {
    let agent = &site.arguments.agent;
    let reviewed = review(definition, site.instance.policy.approval, || -> Result<_, Failure> {
        Ok(vault.approval(definition.chain())?.map(|approval| approval.definition))
    })?;
    let reviewed = reviewed
        .map_err(|unapproved| Failure::denied(unapproved.to_string(), unapproved.denials(definition, agent)))?;
    let kept = inherited.kept_secrets(contents);
    let facts = |name: &SecretName| contents.get(name).map(|record| record.facts_for(pins.version(name)));
    let denials = match policy::decide(reviewed, agent, &kept, facts) {
        Decision::Granted(grants) => return Ok(grants),
        Decision::Denied(denials) => denials,
    };
    let is_revoked = denials.iter().any(|denial| denial.reason == Reason::VersionRevoked);
    let failure = Failure::denied(definition.explain(agent, &denials), denials);
    Err(match is_revoked {
        true => failure.and(format_args!("start a new run, or begin this one anew: mentiko run end {}", site.run)),
        false => failure,
    })
}

impl<'a> Decided<'a> {
    /// What `--dry-run` shows: names, never values.
    pub fn print(&self, site: &Site<'_>) -> Result<ExitCode, Failure> {
        let mut text = format!("granted to agent '{}' of chain '{}':\n", site.arguments.agent, site.arguments.chain);
        for grant in &self.grants {
            text.push_str(&format!("  {} <- {} (version {})\n", grant.variable(), grant.secret(), grant.version()));
        }
        match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::new(Status::Other, format!("can't write to standard output: {error}"))),
        }
    }

    /// Opens the granted values, and no others, into the arena.
    pub fn open(self, delivery: Delivery, arena: &'a Arena) -> Result<(Vec<Secret<'a>>, Contents), Failure> {
        let Self { vault, contents, grants } = self;
        let secrets = with_wiped_stack(|| {
            grants
                .into_iter()
                .map(|grant| {
                    let record = contents
                        .get(grant.secret())
                        .ok_or_else(|| Failure::new(Status::Other, format!("secret '{}' is gone", grant.secret())))?;
                    vault.open_secret(grant, record, arena).map_err(Failure::from)
                })
                .collect::<Result<Vec<_>, Failure>>()
        })?;
        secrets.iter().try_for_each(|secret| check_length(secret, delivery))?;
        Ok((secrets, contents))
    }
}
