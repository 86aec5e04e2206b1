//! `--mask`: granted values never leave through the agent's standard output or error.
//!
//! The supervisor reads what the agent writes, replaces each value by `[NAME]`, and passes it on.
//! For that it keeps the values in its arena as long as the agent runs: masking is bought with the
//! empty parent that `--supervise` alone has.

mod forms;
mod matcher;
mod plumbing;
mod relay;

use std::process::ExitCode;

use super::failure::warn;
use super::{Failure, Site, Supervised};
use crate::memory::Arena;
use crate::vault::Secret;

use matcher::Matcher;
pub use plumbing::Plumbing;
use relay::Relay;

/// Waits for the agent's end as a supervisor, passing on its output with the values masked.
pub fn relay<'a>(
    site: &Site<'a>,
    agent: Supervised,
    plumbing: Plumbing,
    secrets: &[Secret<'a>],
    arena: &'a Arena,
) -> Result<ExitCode, Failure> {
    let mut wanted: Vec<(&'a [u8], Vec<u8>)> = Vec::new();
    for secret in secrets {
        let value = secret.value();
        if value.len() < forms::SHORTEST {
            let shortest = forms::SHORTEST;
            warn(&format!("the value of '{}' has less than {shortest} bytes and is not masked", secret.name()));
            continue;
        }
        let mark = format!("[{}]", secret.name()).into_bytes();
        wanted.extend(forms::of(value, arena)?.into_iter().map(|form| (form, mark.clone())));
    }
    let matcher = Matcher::new(wanted.iter().map(|(form, mark)| (*form, mark.as_slice())));
    let mut relay = Relay::new(plumbing, &matcher, arena)?;
    let status = relay.serve(&agent);
    agent.record_end(site, status, arena);
    Ok(ExitCode::from(status))
}
