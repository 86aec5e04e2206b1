//! Asking the vault, deciding, opening what was granted.

use std::io::Write;
use std::process::ExitCode;

use super::due::warn_of_overdue;
use super::environment::check_length;
use super::{Delivery, Failure, Inherited, Site, Status};
use crate::memory::{Arena, with_wiped_stack};
use crate::policy::{self, AgentName, Decision, Definition, Grant};
use crate::vault::{Contents, Secret, Vault};

/// A launch that was granted, before any value is opened.
#[derive(Debug)]
pub struct Decided<'a> {
    vault: Vault<'a>,
    contents: Contents,
    grants: Vec<Grant>,
}

/// Opens key, slot and the buckets of the names in question, and decides.
pub fn decide<'a>(
    site: &Site<'a>,
    definition: &Definition,
    inherited: &Inherited,
    arena: &'a Arena,
) -> Result<Decided<'a>, Failure> {
    let passphrase = site.arguments.passphrase()?;
    let agent: &AgentName = &site.arguments.agent;
    let mut names = inherited.suspects();
    names.extend(definition.requests(agent).unwrap_or_default().iter().map(|request| request.secret.clone()));
    let (vault, contents) = with_wiped_stack(|| -> Result<_, Failure> {
        let key = site.instance.key.read(passphrase, arena)?;
        let vault = Vault::open(&site.instance, key, arena)?;
        site.remember_key(&vault);
        let contents = vault.lookup(&names)?;
        Ok((vault, contents))
    })?;
    let kept = inherited.kept_secrets(&contents);
    let facts = |name: &policy::SecretName| contents.get(name).map(|record| record.facts());
    match policy::decide(definition, agent, &kept, facts) {
        Decision::Granted(grants) => {
            warn_of_overdue(site, &contents, &grants);
            Ok(Decided { vault, contents, grants })
        }
        Decision::Denied(denials) => Err(Failure::denied(definition.explain(agent, &denials), denials)),
    }
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
