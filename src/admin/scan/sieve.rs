//! Looks for many values at once, as fast as files are read.
//!
//! Any text that holds a form holds, at one of `stride` places in a row, a block of four bytes of
//! its beginning: so only every `stride`-th place is looked at, and a table of bits says whether
//! its block belongs to some form. What passes is looked up and compared. Unlike the search of
//! `--mask`, which reads a stream and holds back as little as it can, this one takes whole buffers,
//! and thousands of forms.
//!
//! `aho-corasick` would copy the forms to the heap, and its automaton tells all of them. Here the
//! forms, the bits and the table all lie in the arena.

use crate::memory::{Arena, Error};

/// Bytes of a block.
const BLOCK: usize = 4;
/// The longest stride: beyond it, reading memory takes longer than looking.
const MAX_STRIDE: usize = 16;
/// The most entries of the table, where fewer forms than this are looked for: 2 MiB.
const MAX_PLACES: usize = 1 << 18;

/// Where in which form a block stands: hash, number of the form, offset; in the order of the hashes.
type Place = [u8; 8];

pub(super) struct Sieve<'a> {
    forms: Vec<&'a [u8]>,
    stride: usize,
    /// A bit for each possible beginning of a hash.
    bits: &'a [u8],
    shift: u32,
    places: &'a [Place],
}

impl<'a> Sieve<'a> {
    /// For forms of at least 8 bytes, in the arena.
    pub(super) fn new(forms: Vec<&'a [u8]>, arena: &'a Arena) -> Result<Self, Error> {
        let shortest = forms.iter().map(|form| form.len()).min().unwrap_or(0);
        let stride = (MAX_PLACES / forms.len().max(1)).min(shortest.saturating_sub(BLOCK - 1)).clamp(1, MAX_STRIDE);
        let (places, _) = arena.alloc(forms.len() * stride * size_of::<Place>())?.as_chunks_mut();
        let blocks = forms.iter().zip(0u32..).flat_map(|(form, number)| {
            let start = form.get(..stride + BLOCK - 1).unwrap_or_default();
            start.windows(BLOCK).zip(0u64..).map(move |(block, offset)| (hash(block), number, offset))
        });
        for (place, (hash, number, offset)) in places.iter_mut().zip(blocks) {
            *place = (u64::from(hash) << 32 | u64::from(number) << 8 | offset).to_be_bytes();
        }
        // In place, in the arena.
        places.sort_unstable();
        // 32 bits for each entry: few blocks of other texts pass.
        let size = (places.len() * 32).next_power_of_two().clamp(1 << 12, 1 << 24);
        let shift = u32::BITS - size.trailing_zeros();
        let bits = arena.alloc(size / 8)?;
        for place in places.iter() {
            let bit = hash_of(place) >> shift;
            if let Some(byte) = bits.get_mut((bit >> 3) as usize) {
                *byte |= 1 << (bit & 7);
            }
        }
        Ok(Self { forms, stride, bits, shift, places })
    }

    /// The length of the longest form.
    pub(super) fn longest(&self) -> usize {
        self.forms.iter().map(|form| form.len()).max().unwrap_or(0)
    }

    /// Calls `found` with the start and the number of each form in the text, in no strict order.
    pub(super) fn search(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        let mut at = 0;
        while let Some(block) = text.get(at..at + BLOCK) {
            let hash = hash(block);
            let bit = hash >> self.shift;
            if self.bits.get((bit >> 3) as usize).is_some_and(|byte| byte >> (bit & 7) & 1 == 1) {
                self.look(text, at, hash, &mut found);
            }
            at += self.stride;
        }
    }

    #[cold]
    fn look(&self, text: &[u8], at: usize, hash: u32, found: &mut impl FnMut(usize, usize)) {
        let first = self.places.partition_point(|place| hash_of(place) < hash);
        let rest = self.places.get(first..).unwrap_or_default();
        for place in rest.iter().take_while(|place| hash_of(place) == hash) {
            let low = u64::from_be_bytes(*place) as u32;
            let (number, offset) = ((low >> 8) as usize, (low & 0xff) as usize);
            let Some(start) = at.checked_sub(offset) else { continue };
            let form = self.forms.get(number).copied().unwrap_or_default();
            if text.get(start..).is_some_and(|text| text.starts_with(form)) {
                found(start, number);
            }
        }
    }
}

fn hash(block: &[u8]) -> u32 {
    let number = block.first_chunk::<BLOCK>().map_or(0, |block| u32::from_le_bytes(*block));
    number.wrapping_mul(0x9E37_79B1)
}

fn hash_of(place: &Place) -> u32 {
    (u64::from_be_bytes(*place) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator (xorshift64), so that a failure can be repeated from its seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }
    }

    fn found(text: &[u8], forms: &[Vec<u8>]) -> Vec<(usize, usize)> {
        let arena = Arena::new().unwrap();
        let sieve = Sieve::new(forms.iter().map(Vec::as_slice).collect(), &arena).unwrap();
        let mut found = Vec::new();
        sieve.search(text, |start, number| found.push((start, number)));
        found.sort_unstable();
        found
    }

    #[test]
    fn every_form_is_found_wherever_it_stands() {
        for seed in 1..2000 {
            let mut random = Random(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15));
            // Few letters, so that forms overlap, repeat and hold one another.
            let letters = 1 + random.below(4);
            let mut word =
                |length: usize| -> Vec<u8> { (0..length).map(|_| b'a' + random.below(letters) as u8).collect() };
            let count = 1 + seed as usize % 7;
            let shortest = 8 + seed as usize % 3 * 6;
            let forms: Vec<Vec<u8>> = (0..count).map(|at| word(shortest + (seed as usize + at * 5) % 13)).collect();
            let mut text = word(seed as usize % 60);
            for form in &forms {
                text.extend_from_slice(&form[..form.len() - seed as usize % 3]);
                text.extend_from_slice(&word(seed as usize % 9));
                text.extend_from_slice(form);
            }
            let mut expected = Vec::new();
            for start in 0..text.len() {
                for (number, form) in forms.iter().enumerate() {
                    if text[start..].starts_with(form) {
                        expected.push((start, number));
                    }
                }
            }
            assert_eq!(found(&text, &forms), expected, "seed {seed}");
        }
    }

    #[test]
    fn with_very_many_forms_the_stride_shrinks() {
        let forms: Vec<Vec<u8>> = (0..40_000).map(|number| format!("value-{number:08}-x").into_bytes()).collect();
        let text = b"a value-00039999-x and value-00040000-x, value-00000000-x";
        assert_eq!(found(text, &forms), [(2, 39_999), (41, 0)]);
        assert_eq!(found(text, &[]), []);
    }
}
