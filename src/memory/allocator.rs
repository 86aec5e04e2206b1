//! An allocator that wipes what it takes back, for work that can't keep values out of the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

static WIPES: AtomicBool = AtomicBool::new(false);

/// The system's allocator; from [`wipe_freed_memory`] on it overwrites each block that is given
/// back. Libraries that parse values hold them in Strings of their own, which grow and move: this
/// way no copy outlives its use.
#[derive(Debug)]
pub struct WipingAllocator;

/// From here on, every block of the heap is overwritten when it is freed or moved.
pub fn wipe_freed_memory() {
    WIPES.store(true, Ordering::Relaxed);
}

/// Overwrites a block that nobody uses any more.
///
/// # Safety
/// `block` is valid for `size` bytes.
unsafe fn retire(block: *mut u8, size: usize) {
    if WIPES.load(Ordering::Relaxed) {
        // SAFETY: as the caller promises.
        unsafe { memsec::memzero(block, size) };
    }
}

// SAFETY: every call goes on to the system's allocator, with the layout that it was made with.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that System asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is the caller's for that many bytes until it is given back.
        unsafe { retire(block, layout.size()) };
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !WIPES.load(Ordering::Relaxed) {
            // SAFETY: as above.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller promises that `size`, rounded up to the alignment, does not overflow.
        let moved = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller promises that `size` is not zero.
        let new = unsafe { System.alloc(moved) };
        if let Some(new) = NonNull::new(new) {
            // SAFETY: two blocks that don't overlap, each of at least the smaller size.
            unsafe { std::ptr::copy_nonoverlapping(block, new.as_ptr(), layout.size().min(size)) };
            // SAFETY: the block was made with this layout, and is not used any more.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_wiped_when_they_are_given_back_and_not_before() {
        let mut block = [0xA7u8; 200];
        // SAFETY: the range is the array.
        unsafe { retire(block.as_mut_ptr(), 200) };
        assert_eq!(block, [0xA7; 200]);
        wipe_freed_memory();
        let layout = Layout::from_size_align(200, 8).unwrap();
        // SAFETY: the layout is not empty.
        let moved = unsafe { WipingAllocator.alloc(layout) };
        // SAFETY: 200 bytes into a block of 200.
        unsafe { moved.copy_from(block.as_ptr(), 200) };
        // SAFETY: the block was made with this layout.
        let moved = unsafe { WipingAllocator.realloc(moved, layout, 400) };
        // SAFETY: the new block has 400 bytes, the first 200 of which were written.
        assert_eq!(unsafe { std::slice::from_raw_parts(moved, 200) }, block);
        // SAFETY: the block has that layout now.
        unsafe { WipingAllocator.dealloc(moved, Layout::from_size_align(400, 8).unwrap()) };
        // SAFETY: the range is the array.
        unsafe { retire(block.as_mut_ptr(), 200) };
        assert_eq!(block, [0; 200]);
    }
}
