//! See [`crate::fuzzing`].

use super::matcher::{ENTRIES, Matcher};
use crate::memory::{Arena, Error};

/// The shortest value that is masked.
pub const SHORTEST: usize = super::forms::SHORTEST;

/// The forms in which a value is looked for.
pub fn forms<'a>(value: &'a [u8], arena: &'a Arena) -> Result<Vec<&'a [u8]>, Error> {
    super::forms::of(value, arena)
}

/// Masks the forms, each with its mark, in a text that comes in pieces of these sizes; what is left
/// after them comes at once.
pub fn mask(forms: &[(&[u8], &[u8])], text: &[u8], sizes: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut table = [0; ENTRIES];
    let matcher = Matcher::new(forms.iter().copied(), &mut table);
    let mut sizes = sizes.into_iter();
    let (mut held, mut out, mut rest) = (Vec::new(), Vec::new(), text);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len()));
        held.extend_from_slice(now);
        let open = matcher.replace(&held, false, |bytes| out.extend_from_slice(bytes));
        held.drain(..held.len() - open);
        rest = later;
    }
    matcher.replace(&held, true, |bytes| out.extend_from_slice(bytes));
    out
}
