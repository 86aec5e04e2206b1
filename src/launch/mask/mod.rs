//! `--mask`: granted values never leave through the agent's standard output or error.
//!
//! The supervisor reads what the agent writes, replaces each value by `[NAME]`, and passes it on.
//! For that it keeps the values in its arena as long as the agent runs: masking is bought with the
//! empty parent that `--supervise` alone has.

mod forms;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod matcher;
mod plumbing;
mod relay;

use std::process::ExitCode;

use super::{Failure, Site, Status, Supervised};
use crate::memory::Arena;
use crate::vault::Secret;

#[cfg(feature = "admin")]
pub(crate) use forms::{SHORTEST, of as forms_of};
use matcher::Matcher;
pub use plumbing::Plumbing;
use relay::Relay;

/// What masking needs of the arena, set aside before the agent exists: a launch for which there is
/// not enough must fail while it can.
pub struct Masking<'a> {
    wanted: Vec<(&'a [u8], Vec<u8>)>,
    table: &'a mut [u8],
    buffers: Vec<&'a mut [u8]>,
}

impl<'a> Masking<'a> {
    /// With `--mask`: the forms of each value, and room for each stream.
    pub fn prepare(site: &Site<'_>, secrets: &[Secret<'a>], arena: &'a Arena) -> Result<Option<Self>, Failure> {
        if !site.arguments.mask {
            return Ok(None);
        }
        let mut wanted: Vec<(&'a [u8], Vec<u8>)> = Vec::new();
        for secret in secrets {
            let value = secret.value();
            if value.len() < forms::SHORTEST {
                let shortest = forms::SHORTEST;
                site.warn_late(&format!(
                    "the value of '{}' has less than {shortest} bytes and is not masked",
                    secret.name()
                ));
                continue;
            }
            let mark = format!("[{}]", secret.name()).into_bytes();
            wanted.extend(forms::of(value, arena)?.into_iter().map(|form| (form, mark.clone())));
        }
        let longest = wanted.iter().map(|(form, _)| form.len()).max().unwrap_or(0);
        // Standard output, error, and a terminal at the most.
        let buffers = (0..3).map(|_| arena.alloc(relay::CHUNK + longest)).collect::<Result<_, _>>()?;
        Ok(Some(Self { wanted, table: arena.alloc(matcher::ENTRIES)?, buffers }))
    }
}

/// Waits for the agent's end as a supervisor, passing on its output with the values masked.
pub fn relay<'a>(
    site: &Site<'a>,
    agent: Supervised,
    plumbing: Plumbing,
    masking: Option<Masking<'a>>,
    arena: &'a Arena,
) -> Result<ExitCode, Failure> {
    let nothing = || Failure::new(Status::Other, "nothing was prepared for masking");
    let Masking { wanted, table, buffers } = masking.ok_or_else(nothing)?;
    let matcher = Matcher::new(wanted.iter().map(|(form, mark)| (*form, mark.as_slice())), table);
    let mut relay = Relay::new(plumbing, &matcher, buffers);
    let end = relay.serve(&agent);
    agent.record_end(site, end, arena);
    Ok(end.into())
}
