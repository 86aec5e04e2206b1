//! The heap of a launch: one region, of which blocks are handed out, and taken back to be handed out
//! again.
//!
//! A launch makes some hundreds of small blocks within a millisecond, and then the process becomes
//! the agent. musl's allocator, which is made for small memory, maps and unmaps pages dozens of
//! times meanwhile: a tenth of a launch. What is needed beyond the region comes from there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes; pages that are not used are never made.
const SIZE: usize = 256 * 1024;
/// Blocks have 16 bytes, or a power of two of them, up to 64 KiB; who wants more, or another
/// alignment, goes to the system's allocator.
const SMALLEST: usize = 16;
const CLASSES: usize = 13;

/// An allocator for a program that soon becomes another.
// The region comes first: so it is aligned as the whole is.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct LaunchHeap {
    region: UnsafeCell<[u8; SIZE]>,
    state: UnsafeCell<State>,
    /// Whoever finds it taken goes to the system's allocator: there is one thread, in fact.
    taken: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// How many bytes from the beginning were ever handed out.
    used: usize,
    /// Of each size, the block that was given back last, or null. Each begins with the one before.
    free: [*mut u8; CLASSES],
}

// SAFETY: the state is looked at by whoever has set `taken`; the blocks of the region belong to
// whom asked for them.
unsafe impl Sync for LaunchHeap {}

impl LaunchHeap {
    /// Before anything was handed out.
    #[allow(clippy::new_without_default, reason = "made once, where it is a static")]
    pub const fn new() -> Self {
        let state = State { used: 0, free: [std::ptr::null_mut(); CLASSES] };
        Self { region: UnsafeCell::new([0; SIZE]), state: UnsafeCell::new(state), taken: AtomicBool::new(false) }
    }

    /// `None` where another thread is at it.
    fn with_state<T>(&self, work: impl FnOnce(&mut State) -> T) -> Option<T> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: who has set `taken` has the state alone.
        let result = work(unsafe { &mut *self.state.get() });
        self.taken.store(false, Ordering::Release);
        Some(result)
    }

    fn start(&self) -> *mut u8 {
        self.region.get().cast()
    }

    fn owns(&self, block: *mut u8) -> bool {
        block.addr().wrapping_sub(self.start().addr()) < SIZE
    }
}

impl State {
    /// A block of this class of the region that begins at `start`, unless that is full.
    fn take(&mut self, class: usize, start: *mut u8) -> Option<*mut u8> {
        let free = self.free.get_mut(class)?;
        if !free.is_null() {
            let block = *free;
            // SAFETY: a free block begins with the address of the next, and is aligned for it.
            *free = unsafe { block.cast::<*mut u8>().read() };
            return Some(block);
        }
        let block = start.wrapping_add(self.used);
        let used = self.used + (SMALLEST << class);
        (used <= SIZE).then(|| {
            self.used = used;
            block
        })
    }

    fn give(&mut self, class: usize, block: *mut u8) {
        let Some(free) = self.free.get_mut(class) else { return };
        // SAFETY: the block is free, has at least 16 bytes, and is aligned to as many.
        unsafe { block.cast::<*mut u8>().write(*free) };
        *free = block;
    }
}

/// Which blocks are large enough.
fn class(layout: Layout) -> Option<usize> {
    let class = layout.size().div_ceil(SMALLEST).next_power_of_two().trailing_zeros() as usize;
    (layout.align() <= SMALLEST && class < CLASSES).then_some(class)
}

// SAFETY: a block of the region is handed out to one owner until it is given back; all others are
// the system's allocator's, and go back to it.
unsafe impl GlobalAlloc for LaunchHeap {
    #[inline(never)] // In each of its callers, it would make the program a tenth larger.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.start();
        let block = class(layout).and_then(|class| self.with_state(|state| state.take(class, start))?);
        // SAFETY: the caller's promises are those that System asks for.
        block.unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout).filter(|_| self.owns(block)) {
            // Where another thread is at it, the block is lost.
            Some(class) => _ = self.with_state(|state| state.give(class, block)),
            // SAFETY: it was not handed out from the region, so it is System's.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.owns(block) {
            // SAFETY: it was not handed out from the region, so it is System's.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller promises that `size`, rounded up to the alignment, does not overflow.
        let moved = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if class(moved) == class(layout) {
            return block;
        }
        // SAFETY: the caller promises that `size` is not zero.
        let new = unsafe { self.alloc(moved) };
        if !new.is_null() {
            // SAFETY: two blocks that don't overlap, each of at least the smaller size.
            unsafe { std::ptr::copy_nonoverlapping(block, new, layout.size().min(size)) };
            // SAFETY: the block was made with this layout, and is not used any more.
            unsafe { self.dealloc(block, layout) };
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
    fn a_block_grows_and_shrinks_where_it_lies_and_moves_when_it_is_too_small() {
        let heap = Box::new(LaunchHeap::new());
        let block = filled(&heap, 100, 1);
        let other = filled(&heap, 100, 2);
        // SAFETY: the block was made with this layout.
        let grown = unsafe { heap.realloc(block, layout(100), 128) };
        // SAFETY: as above.
        let shrunk = unsafe { heap.realloc(grown, layout(128), 70) };
        assert!(grown == block && shrunk == block && holds(block, 70, 1));
        // SAFETY: as above.
        let moved = unsafe { heap.realloc(shrunk, layout(70), 200) };
        assert!(moved != block && holds(moved, 70, 1) && holds(other, 100, 2));
        // SAFETY: as above.
        let small = unsafe { heap.realloc(moved, layout(200), 20) };
        assert!(small != moved && holds(small, 20, 1));
        assert_eq!(filled(&heap, 128, 3), block, "what was left is handed out again");
        assert!(holds(small, 20, 1) && holds(other, 100, 2));
    }

    #[test]
    fn blocks_come_back_last_first_and_never_overlap() {
        let heap = Box::new(LaunchHeap::new());
        let sizes = [1, 16, 17, 40, 300, 5000, 65_536];
        let blocks = sizes.map(|size| filled(&heap, size, size as u8));
        assert!(blocks.iter().zip(sizes).all(|(&block, size)| holds(block, size, size as u8)));
        assert!(blocks.iter().all(|&block| heap.owns(block) && block.addr() % 16 == 0));
        for (block, size) in blocks.into_iter().zip(sizes) {
            // SAFETY: the block was made with this layout.
            unsafe { heap.dealloc(block, layout(size)) };
        }
        assert_eq!(filled(&heap, 10, 1), blocks[1]);
        assert_eq!(filled(&heap, 10, 1), blocks[0]);
        assert_eq!(filled(&heap, 40_000, 1), blocks[6]);
    }

    #[test]
    fn what_does_not_fit_comes_from_the_system() {
        let heap = Box::new(LaunchHeap::new());
        let blocks: Vec<*mut u8> = (0..SIZE / 65_536 + 1).map(|_| filled(&heap, 65_536, 1)).collect();
        let (&beyond, within) = blocks.split_last().unwrap();
        assert!(within.iter().all(|&block| heap.owns(block)) && !heap.owns(beyond));
        // SAFETY: the block was made with this layout.
        let moved = unsafe { heap.realloc(beyond, layout(65_536), 100_000) };
        // SAFETY: as above.
        let grown = unsafe { heap.realloc(within[0], layout(65_536), 65_537) };
        assert!(holds(moved, 65_536, 1) && !heap.owns(moved) && holds(grown, 65_536, 1) && !heap.owns(grown));
        // SAFETY: as above.
        unsafe { heap.dealloc(moved, layout(100_000)) };
        // SAFETY: as above.
        unsafe { heap.dealloc(grown, layout(65_537)) };
        let wide = Layout::from_size_align(64, 4096).unwrap();
        // SAFETY: the layout is not empty.
        let aligned = unsafe { heap.alloc(wide) };
        assert!(!heap.owns(aligned) && aligned.addr() % 4096 == 0);
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
