//! A part of a file, read where it lies in the page cache, without a copy.

use std::ffi::c_void;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Once;

use nix::errno::Errno;
use nix::libc::{_exit, STDERR_FILENO};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{SysconfVar, sysconf};

/// A range of a file that others only append to, mapped to be read (mmap(2)).
///
/// A file that becomes shorter nevertheless ends the program, with a message: whoever reads beyond
/// its end gets SIGBUS.
#[derive(Debug)]
pub struct Mapped {
    start: NonNull<c_void>,
    length: NonZeroUsize,
    /// From the start of a page to where the range begins.
    skip: usize,
}

impl Mapped {
    /// Maps the range, which must lie within the file and hold something.
    pub fn new(file: &File, range: &Range<u64>) -> Result<Self, Errno> {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(end_on_sigbus);
        let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|page| u64::try_from(page).ok()).unwrap_or(4096);
        let skip = range.start % page;
        let from = i64::try_from(range.start - skip).map_err(|_| Errno::EOVERFLOW)?;
        let length = usize::try_from(range.end.saturating_sub(range.start - skip)).map_err(|_| Errno::EOVERFLOW)?;
        let length = NonZeroUsize::new(length).ok_or(Errno::EINVAL)?;
        let skip = usize::try_from(skip).map_err(|_| Errno::EOVERFLOW)?;
        // The pages are all wanted: one call maps them, instead of a fault for each.
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        // SAFETY: a new mapping, at a place that the kernel chooses, overlaps nothing.
        let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, flags, file, from) }?;
        Ok(Self { start, length, skip })
    }

    /// The bytes of the range. What is to be judged is copied first: nothing but that others only
    /// append keeps them as they are.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable over this length for as long as `self` lives.
        let all = unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<u8>(), self.length.get()) };
        all.get(self.skip..).unwrap_or_default()
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
        for range in [0..1, 0..20_000, 1..4096, 4095..4097, 4096..8192, 19_999..20_000] {
            let mapped = Mapped::new(&file, &range).unwrap();
            assert_eq!(mapped.bytes(), &text[range.start as usize..range.end as usize]);
        }
        assert_eq!(Mapped::new(&file, &(0..0)).err(), Some(Errno::EINVAL));
    }

    #[test]
    fn a_file_that_becomes_shorter_ends_the_program() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mapped = Mapped::new(&file, &(0..8192)).unwrap();
        file.set_len(0).unwrap();
        match crate::memory::fork().unwrap() {
            crate::memory::Forked::Child => {
                let last = mapped.bytes().last().copied();
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
