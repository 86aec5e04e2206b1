//! A part of a file, read where it lies in the page cache, without a copy.

use std::ffi::c_void;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Once;

use nix::errno::Errno;
use nix::libc::{_exit, STDERR_FILENO};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The kernel maps what is near a page that is touched, too, but never beyond a table of pages: as much as one has at
/// 4 KiB a page.
const AROUND: usize = 2 << 20;

/// The beginning of a file that others only append to, mapped to be read (mmap(2)).
///
/// A file that becomes shorter nevertheless ends the program, with a message: whoever reads beyond
/// its end gets SIGBUS.
#[derive(Debug)]
pub struct Mapped {
    start: NonNull<c_void>,
    length: NonZeroUsize,
}

// SAFETY: a mapping that is only read is the same for every thread.
unsafe impl Send for Mapped {}
// SAFETY: the same.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps so many bytes, which must lie within the file.
    pub fn new(file: &File, length: u64) -> Result<Self, Errno> {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(end_on_sigbus);
        // No slice is longer than an isize counts.
        let length = isize::try_from(length).ok().and_then(|length| NonZeroUsize::new(length.cast_unsigned()));
        let length = length.ok_or(Errno::EINVAL)?;
        // SAFETY: a new mapping, at a place that the kernel chooses, overlaps nothing.
        let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start, length })
    }

    /// The bytes of the range, as far as they are mapped, for `look` alone: after that they do not count as resident.
    /// What is to be judged is copied first: nothing but that others only append keeps them as they are.
    pub fn with<T>(&self, range: &Range<u64>, look: impl FnOnce(&[u8]) -> T) -> T {
        let place = |at: u64| usize::try_from(at).map_or(self.length.get(), |at| at.min(self.length.get()));
        let (start, end) = (place(range.start), place(range.end));
        // One call maps all pages, instead of a fault for each (Linux 5.14).
        self.advise(start, end, MmapAdvise::MADV_POPULATE_READ);
        // SAFETY: the mapping is readable over this length for as long as `self` lives.
        let all = unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<u8>(), self.length.get()) };
        let seen = look(all.get(start..end).unwrap_or_default());
        // Unlike munmap(2), it does not keep other threads from mapping what they want.
        self.advise(start.saturating_sub(AROUND), end.saturating_add(AROUND), MmapAdvise::MADV_DONTNEED);
        seen
    }

    /// About the pages of this range, as far as they are mapped. If it fails, it is slower, or takes more memory.
    fn advise(&self, start: usize, end: usize, advice: MmapAdvise) {
        // A multiple of every page's size.
        let start = start - start % (64 << 10);
        let length = end.min(self.length.get()).saturating_sub(start);
        if length > 0 {
            // SAFETY: the start lies within the mapping.
            let first = unsafe { self.start.byte_add(start) };
            // SAFETY: whole pages of the mapping, which are the file's: when they are looked at again they are the same.
            let _ = unsafe { madvise(first, length, advice) };
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; no slice of it outlives `self`.
        let _ = unsafe { munmap(self.start, self.length.get()) };
    }
}

fn end_on_sigbus() {
    let action = SigAction::new(SigHandler::Handler(tell_and_end), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler calls nothing but write(2) and _exit(2) (signal-safety(7)).
    // Where this fails, SIGBUS ends the program without a message.
    let _ = unsafe { sigaction(Signal::SIGBUS, &action) };
}

extern "C" fn tell_and_end(_: i32) {
    const MESSAGE: &str = "mentiko: the access log became shorter while it was read; ask again\n";
    // SAFETY: the pointer is valid for the length.
    unsafe { nix::libc::write(STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
    // SAFETY: ends the process; nothing is to be cleaned up.
    unsafe { _exit(1) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn any_range_is_the_files() {
        let mut file = tempfile::tempfile().unwrap();
        let text: Vec<u8> = (0..20_000_u32).map(|at| (at % 251) as u8).collect();
        file.write_all(&text).unwrap();
        let mapped = Mapped::new(&file, 20_000).unwrap();
        for range in [0..1, 0..20_000, 1..4096, 4095..4097, 4096..8192, 19_999..20_000, 7..7, 0..0] {
            mapped.with(&range, |bytes| assert_eq!(bytes, &text[range.start as usize..range.end as usize]));
        }
        mapped.with(&(19_999..30_000), |bytes| assert_eq!(bytes, &text[19_999..]));
        mapped.with(&(30_000..30_001), |bytes| assert_eq!(bytes, b""));
        assert_eq!(Mapped::new(&file, 0).err(), Some(Errno::EINVAL));
    }

    #[test]
    fn a_file_that_becomes_shorter_ends_the_program() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mapped = Mapped::new(&file, 8192).unwrap();
        file.set_len(0).unwrap();
        match crate::memory::fork().unwrap() {
            crate::memory::Forked::Child => {
                let last = mapped.with(&(0..8192), |bytes| bytes.last().copied());
                // SAFETY: a child of a test ends here, whatever it has read.
                unsafe { _exit(last.map_or(3, |_| 2)) }
            }
            crate::memory::Forked::Parent(child) => {
                let ended = nix::sys::wait::waitpid(child, None).unwrap();
                assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 1));
            }
        }
    }
}
