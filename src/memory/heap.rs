//! The heap of a launch: a region that is handed out once, from its beginning to its end.
//!
//! A launch makes some hundreds of small blocks within a millisecond, and then the process becomes
//! the agent. musl's allocator, which is made for small memory, maps and unmaps pages dozens of
//! times meanwhile: a tenth of a launch. What is needed beyond the region comes from there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes; those that are not used are never made. A launch with a few secrets takes a third.
const SIZE: usize = 256 * 1024;
/// Of the region's beginning; who wants more goes to the system's allocator.
const ALIGN: usize = 16;

/// An allocator for a program that soon becomes another.
#[repr(align(16))]
#[derive(Debug)]
pub struct LaunchHeap {
    region: UnsafeCell<[u8; SIZE]>,
    /// Bytes from the beginning that are handed out.
    used: AtomicUsize,
}

// SAFETY: `used` alone decides whose a byte of the region is, and changes in one step.
unsafe impl Sync for LaunchHeap {}

impl LaunchHeap {
    /// Before anything was handed out.
    #[allow(clippy::new_without_default, reason = "made once, where it is a static")]
    pub const fn new() -> Self {
        Self { region: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) }
    }

    /// Where in the region the next block of this layout goes, and where it ends.
    fn next(used: usize, layout: Layout) -> Option<(usize, usize)> {
        let start = used.checked_next_multiple_of(layout.align())?;
        let end = start.checked_add(layout.size())?;
        (layout.align() <= ALIGN && end <= SIZE).then_some((start, end))
    }

    /// Where in the region a block begins, if it lies there.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        block.addr().checked_sub(self.region.get().addr()).filter(|&offset| offset < SIZE)
    }

    /// Makes the block that was handed out last end elsewhere; says whether it was that one.
    fn set_end(&self, from: usize, to: usize) -> bool {
        to <= SIZE && self.used.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

// SAFETY: a block of the region is handed out once, until it is given back or shortened at the end
// of what is used; all others are the system's allocator's, and go back to it.
unsafe impl GlobalAlloc for LaunchHeap {
    #[inline(never)] // In each of its callers, it would make the program a tenth larger.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut used = self.used.load(Ordering::Relaxed);
        while let Some((start, end)) = Self::next(used, layout) {
            match self.used.compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed) {
                // A pointer into the region, for `start` is not beyond its end.
                Ok(_) => return self.region.get().cast::<u8>().wrapping_add(start),
                Err(now) => used = now,
            }
        }
        // SAFETY: the caller's promises are those that System asks for.
        unsafe { System.alloc(layout) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(start) => _ = self.set_end(start + layout.size(), start),
            // SAFETY: it was not handed out from the region, so it is System's.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = self.offset(block) else {
            // SAFETY: it was not handed out from the region, so it is System's.
            return unsafe { System.realloc(block, layout, size) };
        };
        if self.set_end(start + layout.size(), start.saturating_add(size)) || size <= layout.size() {
            return block;
        }
        // SAFETY: the caller promises that `size`, rounded up to the alignment, does not overflow.
        let moved = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller promises that `size` is not zero.
        let new = unsafe { self.alloc(moved) };
        if !new.is_null() {
            // SAFETY: two blocks that don't overlap, each of at least the old size.
            unsafe { std::ptr::copy_nonoverlapping(block, new, layout.size()) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    /// A block of this heap that is filled with a byte.
    fn filled(heap: &LaunchHeap, size: usize, byte: u8) -> *mut u8 {
        // SAFETY: the layout is not empty.
        let block = unsafe { heap.alloc(layout(size)) };
        // SAFETY: the block has that many bytes.
        unsafe { block.write_bytes(byte, size) };
        block
    }

    fn holds(block: *mut u8, size: usize, byte: u8) -> bool {
        // SAFETY: the callers name a block of theirs, that many bytes of which were written.
        unsafe { std::slice::from_raw_parts(block, size) }.iter().all(|&found| found == byte)
    }

    #[test]
    fn the_last_block_grows_shrinks_and_goes_where_it_lies() {
        let heap = Box::new(LaunchHeap::new());
        let first = filled(&heap, 100, 1);
        let last = filled(&heap, 50, 2);
        // SAFETY: the block was made with this layout.
        let grown = unsafe { heap.realloc(last, layout(50), 5000) };
        assert_eq!(grown, last);
        // SAFETY: as above.
        let shrunk = unsafe { heap.realloc(grown, layout(5000), 20) };
        assert_eq!(shrunk, last);
        assert!(holds(first, 100, 1) && holds(shrunk, 20, 2));
        // SAFETY: as above.
        unsafe { heap.dealloc(shrunk, layout(20)) };
        assert_eq!(filled(&heap, 10, 3), last);
        assert!(holds(first, 100, 1));
    }

    #[test]
    fn a_block_that_others_follow_moves_to_grow() {
        let heap = Box::new(LaunchHeap::new());
        let block = filled(&heap, 100, 1);
        let follower = filled(&heap, 100, 2);
        // SAFETY: the block was made with this layout.
        let shorter = unsafe { heap.realloc(block, layout(100), 40) };
        assert_eq!(shorter, block);
        // SAFETY: as above.
        let moved = unsafe { heap.realloc(shorter, layout(40), 200) };
        assert!(moved != block && holds(moved, 40, 1) && holds(follower, 100, 2));
        // SAFETY: as above.
        unsafe { heap.dealloc(follower, layout(100)) };
        assert_ne!(filled(&heap, 100, 3), follower, "it was not the last");
        assert!(holds(moved, 40, 1));
    }

    #[test]
    fn what_does_not_fit_comes_from_the_system() {
        let heap = Box::new(LaunchHeap::new());
        let block = filled(&heap, SIZE - 64, 1);
        let beyond = filled(&heap, 100, 2);
        assert!(heap.offset(block).is_some() && heap.offset(beyond).is_none());
        // SAFETY: the block was made with this layout.
        let grown = unsafe { heap.realloc(block, layout(SIZE - 64), SIZE + 1) };
        assert!(heap.offset(grown).is_none() && holds(grown, SIZE - 64, 1));
        // SAFETY: as above.
        let moved = unsafe { heap.realloc(beyond, layout(100), 300) };
        assert!(holds(moved, 100, 2));
        // SAFETY: as above.
        unsafe { heap.dealloc(moved, layout(300)) };
        // SAFETY: as above.
        unsafe { heap.dealloc(grown, layout(SIZE + 1)) };
        let wide = Layout::from_size_align(64, 4096).unwrap();
        // SAFETY: the layout is not empty.
        let aligned = unsafe { heap.alloc(wide) };
        assert!(heap.offset(aligned).is_none() && aligned.addr() % 4096 == 0);
        // SAFETY: as above.
        unsafe { heap.dealloc(aligned, wide) };
    }

    #[test]
    fn threads_get_blocks_of_their_own() {
        let heap = LaunchHeap::new();
        std::thread::scope(|scope| {
            for byte in 1..=4 {
                let heap = &heap;
                scope.spawn(move || {
                    let blocks: Vec<*mut u8> = (1..100).map(|size| filled(heap, size, byte)).collect();
                    assert!(blocks.iter().zip(1..100).all(|(&block, size)| holds(block, size, byte)));
                    for (block, size) in blocks.into_iter().zip(1..100).rev() {
                        // SAFETY: the block was made with this layout.
                        unsafe { heap.dealloc(block, layout(size)) };
                    }
                });
            }
        });
    }
}
