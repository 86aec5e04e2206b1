//! Finding values in a stream, wherever reads split it.
//!
//! The search of Wu and Manber (1994): a table says for each block of bytes how far no form can
//! begin. Unlike the automaton of the `aho-corasick` crate it needs no copy of the forms. The table
//! lies in the arena too, for its places tell something of how the forms begin.

use super::forms::SHORTEST;

/// Bytes of a block.
const BLOCK: usize = 4;
/// Entries of the table, a power of two.
pub(super) const ENTRIES: usize = 1 << 14;

/// What is looked for, and what stands in its place.
pub(super) struct Matcher<'a> {
    forms: Vec<Form<'a>>,
    shifts: &'a [u8],
}

struct Form<'a> {
    bytes: &'a [u8],
    mark: &'a [u8],
}

/// What stands at one place.
enum Found<'m> {
    Nothing,
    /// A form of this length.
    Whole(usize, &'m [u8]),
    /// The beginning of one; what follows decides.
    Beginning,
}

impl<'a> Matcher<'a> {
    /// For forms of at least [`SHORTEST`] bytes, each with its mark.
    /// `shifts` is [`ENTRIES`] bytes of the arena.
    pub(super) fn new(forms: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, shifts: &'a mut [u8]) -> Self {
        let mut forms: Vec<Form<'a>> = forms.into_iter().map(|(bytes, mark)| Form { bytes, mark }).collect();
        // The longest first: of several that begin at one place, it is the one that is replaced.
        forms.sort_by_key(|form| std::cmp::Reverse(form.bytes.len()));
        let farthest = (SHORTEST - BLOCK + 1) as u8;
        shifts.fill(farthest);
        for form in &forms {
            let start = form.bytes.get(..SHORTEST).unwrap_or(form.bytes);
            for (at, block) in start.windows(BLOCK).enumerate() {
                let distance = (SHORTEST - BLOCK).saturating_sub(at) as u8;
                if let Some(shift) = shifts.get_mut(entry(block)) {
                    *shift = distance.min(*shift);
                }
            }
        }
        Self { forms, shifts }
    }

    #[cfg(test)]
    /// The longest hold-back: one byte less than the longest form.
    pub(super) fn longest(&self) -> usize {
        self.forms.first().map_or(0, |form| form.bytes.len())
    }

    /// Hands out `input` with every form replaced, and returns how many bytes at its end are still
    /// open: they may begin a form, and are to stand at the start of the next input. At the `end`
    /// of the stream there are none.
    pub(super) fn replace(&self, input: &[u8], end: bool, mut out: impl FnMut(&[u8])) -> usize {
        let mut done = 0;
        let mut at = 0;
        while at < input.len() {
            let rest = input.get(at..).unwrap_or_default();
            if let Some(block) = rest.get(SHORTEST - BLOCK..SHORTEST) {
                let shift = self.shifts.get(entry(block)).copied().unwrap_or(0);
                if shift > 0 {
                    at += usize::from(shift);
                    continue;
                }
            }
            match self.look(rest, end) {
                Found::Nothing => at += 1,
                Found::Beginning => break,
                Found::Whole(length, mark) => {
                    out(input.get(done..at).unwrap_or_default());
                    out(mark);
                    at += length;
                    done = at;
                }
            }
        }
        // A shift may lead past the end.
        let at = at.min(input.len());
        out(input.get(done..at).unwrap_or_default());
        input.len() - at
    }

    fn look(&self, rest: &[u8], end: bool) -> Found<'_> {
        for form in &self.forms {
            if rest.starts_with(form.bytes) {
                return Found::Whole(form.bytes.len(), form.mark);
            }
            // A longer form that may still come whole goes before a shorter one that is there.
            if !end && rest.len() < form.bytes.len() && form.bytes.starts_with(rest) {
                return Found::Beginning;
            }
        }
        Found::Nothing
    }
}

fn entry(block: &[u8]) -> usize {
    let number = block.first_chunk::<BLOCK>().map_or(0, |block| u32::from_le_bytes(*block));
    (number.wrapping_mul(0x9E37_79B1) >> 18) as usize
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

    /// The same on the whole text at once: leftmost, then longest.
    fn oracle(text: &[u8], forms: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let found =
                forms.iter().filter(|(form, _)| text[at..].starts_with(form)).max_by_key(|(form, _)| form.len());
            match found {
                Some((form, mark)) => {
                    out.extend_from_slice(mark);
                    at += form.len();
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out
    }

    fn stream(text: &[u8], matcher: &Matcher<'_>, mut size: impl FnMut() -> usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut held: Vec<u8> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(size().clamp(1, rest.len()));
            held.extend_from_slice(now);
            let open = matcher.replace(&held, false, |bytes| out.extend_from_slice(bytes));
            assert!(open < matcher.longest(), "the hold-back is bounded");
            held.drain(..held.len() - open);
            rest = later;
        }
        assert_eq!(matcher.replace(&held, true, |bytes| out.extend_from_slice(bytes)), 0);
        out
    }

    #[test]
    fn any_split_gives_what_the_whole_gives() {
        for seed in 1..3000 {
            let mut random = Random(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15));
            // Few letters, so that forms overlap, repeat and begin one another.
            let letters = 1 + random.below(4);
            let mut word =
                |length: usize| -> Vec<u8> { (0..length).map(|_| b'a' + random.below(letters) as u8).collect() };
            let mut forms: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            for at in 0..1 + seed as usize % 5 {
                let form = word(SHORTEST + (seed as usize * 7 + at * 5) % 13);
                if forms.iter().all(|(known, _)| *known != form) {
                    forms.push((form, format!("[{at}]").into_bytes()));
                }
            }
            let mut text = word(seed as usize % 60);
            for (form, _) in &forms {
                text.extend_from_slice(&form[..form.len() - seed as usize % 3]);
                text.extend_from_slice(&word(seed as usize % 9));
                text.extend_from_slice(form);
            }
            let mut table = [0; ENTRIES];
            let matcher = Matcher::new(forms.iter().map(|(form, mark)| (&form[..], &mark[..])), &mut table);
            let expected = oracle(&text, &forms);
            assert_eq!(stream(&text, &matcher, || 1), expected, "seed {seed}, byte by byte");
            assert_eq!(stream(&text, &matcher, || usize::MAX), expected, "seed {seed}, at once");
            assert_eq!(stream(&text, &matcher, || 1 + random.below(20)), expected, "seed {seed}, random splits");
        }
    }

    #[test]
    fn text_that_can_not_begin_a_value_is_not_held() {
        let mut table = [0; ENTRIES];
        let matcher = Matcher::new([(&b"sk-secret-value"[..], &b"[K]"[..])], &mut table);
        let mut out = Vec::new();
        assert_eq!(matcher.replace(b"hello: ", false, |bytes| out.extend_from_slice(bytes)), 0);
        assert_eq!(out, b"hello: ");
        assert_eq!(matcher.replace(b"ask-", false, |_| ()), 3, "held as long as it may be a value");
        assert_eq!(matcher.replace(b"ask-n", false, |_| ()), 0);
    }
}
