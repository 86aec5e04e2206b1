//! Wiping what cryptographic code leaves on the stack.

use std::mem::MaybeUninit;

/// How deep below the caller the stack is wiped: several times what a call of Argon2id uses.
const DEEP: usize = 64 * 1024;
/// The same for one call of AES-GCM, HKDF or HMAC, and the derivation of its key.
const SHALLOW: usize = 16 * 1024;

/// Runs `work`, then overwrites the part of the stack on which it ran.
///
/// Key schedules and hash states wipe themselves when they are dropped, but moves of them leave
/// copies behind. What `work` returns must hold no secret itself, only references to an arena.
pub fn with_wiped_stack<T>(work: impl FnOnce() -> T) -> T {
    let result = run(work);
    overwrite::<DEEP>();
    result
}

/// The same for the least that needs a key, so that nothing else comes to lie where the key was:
/// what has gaps, a struct or an enum, keeps in them what stood there before, and may take it along
/// to the heap.
pub fn with_wiped_frames<T>(work: impl FnOnce() -> T) -> T {
    let result = run(work);
    overwrite::<SHALLOW>();
    result
}

#[inline(never)]
fn run<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn overwrite<const DEPTH: usize>() {
    let mut area = MaybeUninit::<[u8; DEPTH]>::uninit();
    // SAFETY: the pointer is valid for DEPTH bytes of this frame.
    unsafe { libc::explicit_bzero(area.as_mut_ptr().cast(), DEPTH) };
    std::hint::black_box(&mut area);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds out whether a marker stands in the stack below this frame.
    #[inline(never)]
    fn marker_is_left() -> bool {
        let area = MaybeUninit::<[u8; 16 * 1024]>::uninit();
        let pointer = std::hint::black_box(area.as_ptr().cast::<u8>());
        (0..16 * 1024 - 16).any(|offset| {
            (0..16).all(|byte| {
                // SAFETY: within the frame's own array.
                let place = unsafe { pointer.add(offset + byte) };
                // SAFETY: as above; a volatile read of whatever stands there.
                let value = unsafe { place.read_volatile() };
                value == 0xB7
            })
        })
    }

    #[inline(never)]
    fn leave_marker() {
        let mut local = [0u8; 512];
        // Volatile and through black_box, so that it does reach the stack.
        std::hint::black_box(&mut local).fill(0xB7);
        std::hint::black_box(&local);
    }

    #[test]
    fn what_stood_on_the_stack_is_gone() {
        leave_marker();
        assert!(marker_is_left(), "the search must find what was not wiped");
        with_wiped_stack(leave_marker);
        assert!(!marker_is_left());
        leave_marker();
        with_wiped_frames(leave_marker);
        assert!(!marker_is_left());
    }
}
