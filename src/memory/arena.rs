//! The secret arena: memory for keys and values that never reaches a disk.
//!
//! Pages come from memfd_secret(2) where the kernel has it: they are locked, left out of core
//! files, unreadable through /proc/PID/mem and ptrace even for root, and zeroed by the kernel
//! when they are released, so that execve itself wipes them. Elsewhere they are anonymous shared
//! pages under mlock(2) and MADV_DONTDUMP, and [`super::wipe_after_exec`] wipes them.

use std::cell::RefCell;
use std::fmt;
use std::num::NonZeroUsize;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::Error;

/// Which kind of page an arena stands on, as the access record names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// memfd_secret(2).
    Secretmem,
    /// mlock(2) with MADV_DONTDUMP.
    Mlock,
}

impl Protection {
    /// The name in access records: `secretmem` or `mlock`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secretmem => "secretmem",
            Self::Mlock => "mlock",
        }
    }
}

/// Hands out zeroed, locked slices; wipes and returns all of them when it is dropped.
///
/// Slices are disjoint and live as long as the arena. It grows by whole chunks, so a slice never
/// moves.
pub struct Arena {
    protection: Protection,
    chunks: RefCell<Vec<Chunk>>,
    /// What the helper waits for that wipes these pages after exec.
    wiper: RefCell<Option<OwnedFd>>,
}

/// A mapping with an inaccessible page on either side.
struct Chunk {
    base: NonNull<u8>,
    size: usize,
    used: usize,
}

/// The size of a first chunk: keys and a few ordinary values. Small, because RLIMIT_MEMLOCK may be.
const CHUNK: usize = 16 * 1024;

impl Arena {
    /// An arena on the best pages this kernel has.
    pub fn new() -> Result<Self, Error> {
        match Chunk::map(Protection::Secretmem, CHUNK) {
            Ok(chunk) => Ok(Self::starting_with(Protection::Secretmem, chunk)),
            Err(_) => Self::with_protection(Protection::Mlock),
        }
    }

    /// An arena on pages of this kind, or none.
    pub fn with_protection(protection: Protection) -> Result<Self, Error> {
        let chunk = Chunk::map(protection, CHUNK).map_err(|errno| Error::Lock { size: CHUNK, errno })?;
        Ok(Self::starting_with(protection, chunk))
    }

    fn starting_with(protection: Protection, chunk: Chunk) -> Self {
        Self { protection, chunks: RefCell::new(vec![chunk]), wiper: RefCell::default() }
    }

    /// Which kind of page this arena stands on.
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// `size` zeroed bytes that nothing else refers to.
    #[allow(clippy::mut_from_ref)] // Each call hands out another range: that is an arena's purpose.
    pub fn alloc(&self, size: usize) -> Result<&mut [u8], Error> {
        let mut chunks = self.chunks.borrow_mut();
        let fits = chunks.last().is_some_and(|chunk| chunk.size - chunk.used >= size);
        if !fits {
            let chunk = Chunk::map(self.protection, size.max(CHUNK))
                .map_err(|errno| Error::Lock { size: size.max(CHUNK), errno })?;
            chunks.push(chunk);
        }
        let Some(chunk) = chunks.last_mut() else { unreachable!("a chunk was just made") };
        let start = chunk.used;
        chunk.used += size;
        // SAFETY: start + size is within the mapping, as checked above.
        let pointer = unsafe { chunk.base.add(start) };
        // SAFETY: the range lies within the chunk's readable and writable mapping, was zeroed by
        // the kernel, is handed out once (`used` only grows), and stays mapped for as long as
        // `self` is borrowed.
        Ok(unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr(), size) })
    }

    /// 32 zeroed bytes: the size of every key.
    #[allow(clippy::mut_from_ref)]
    pub fn key(&self) -> Result<&mut [u8; 32], Error> {
        let bytes = self.alloc(32)?;
        let Ok(key) = bytes.try_into() else { unreachable!("32 bytes were asked for") };
        Ok(key)
    }

    /// Overwrites all that was handed out. Needs `&mut`: no slice can be in use any more.
    pub fn wipe(&mut self) {
        for chunk in self.chunks.get_mut() {
            chunk.wipe();
        }
    }

    /// Keeps open what the helper waits for, as long as this arena is in use here.
    pub(super) fn wiped_at_the_end_of(&self, wiper: OwnedFd) {
        self.wiper.replace(Some(wiper));
    }

    /// Locks the pages in the helper too: the lock of the process that mapped them ends with it.
    pub(super) fn lock_shared(&self) {
        for chunk in self.chunks.borrow_mut().iter_mut() {
            // SAFETY: the range is this chunk's mapping.
            unsafe { memsec::mlock(chunk.base.as_ptr(), chunk.size) };
        }
    }

    /// Wipes from the helper process that shares these pages: see [`super::wipe_after_exec`].
    pub(super) fn overwrite_shared(&self) {
        for chunk in self.chunks.borrow_mut().iter_mut() {
            chunk.wipe();
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("protection", &self.protection).finish_non_exhaustive()
    }
}

impl Chunk {
    fn map(protection: Protection, size: usize) -> Result<Self, Errno> {
        let page = page_size();
        let size = size.checked_next_multiple_of(page).ok_or(Errno::ENOMEM)?;
        let whole = size.checked_add(2 * page).and_then(NonZeroUsize::new).ok_or(Errno::ENOMEM)?;
        let length = NonZeroUsize::new(size).ok_or(Errno::EINVAL)?;
        // Opened before anything is mapped, so that a kernel without it leaves nothing behind.
        let secret = match protection {
            Protection::Secretmem => Some(memfd_secret(size)?),
            Protection::Mlock => None,
        };
        // SAFETY: a new mapping at an address of the kernel's choice touches no other.
        let reserve = unsafe {
            mmap_anonymous(None, whole, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE)?
        };
        // SAFETY: one page into a mapping of at least three.
        let base = unsafe { reserve.cast::<u8>().add(page) };
        let address = NonZeroUsize::new(base.as_ptr() as usize);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        let mapped = match &secret {
            // SAFETY: MAP_FIXED replaces inner pages of the reservation above, which is ours.
            Some(fd) => unsafe { mmap(address, length, access, flags, fd, 0) },
            // SAFETY: as above.
            None => unsafe { mmap_anonymous(address, length, access, flags) },
        };
        let locked = mapped.and_then(|_| match protection {
            // secretmem counts as locked and undumpable by itself.
            Protection::Secretmem => Ok(()),
            // SAFETY: the range is the mapping just made. This also sets MADV_DONTDUMP.
            Protection::Mlock => match unsafe { memsec::mlock(base.as_ptr(), size) } {
                true => Ok(()),
                false => Err(Errno::last()),
            },
        });
        if let Err(errno) = locked {
            // SAFETY: the reservation and all that was put into it; nobody holds a slice of it.
            let _ = unsafe { munmap(reserve, whole.get()) };
            return Err(errno);
        }
        Ok(Self { base, size, used: 0 })
    }

    fn wipe(&mut self) {
        // SAFETY: the range up to `used` is within this chunk's mapping.
        unsafe { libc::explicit_bzero(self.base.as_ptr().cast(), self.used) };
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let page = page_size();
        // SAFETY: the guard page before `base` belongs to this chunk's reservation.
        let reserve = unsafe { self.base.sub(page) };
        // SAFETY: the whole reservation made by `map`; no slice outlives the arena.
        let _ = unsafe { munmap(reserve.cast(), self.size + 2 * page) };
    }
}

/// memfd_secret(2), close-on-exec: the descriptor would hand the pages to the agent.
fn memfd_secret(size: usize) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes flags and no pointers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    nix::unistd::ftruncate(&fd, size.try_into().map_err(|_| Errno::EFBIG)?)?;
    Ok(fd)
}

fn page_size() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [Arena; 2] {
        [Protection::Secretmem, Protection::Mlock].map(|kind| Arena::with_protection(kind).unwrap())
    }

    #[test]
    fn slices_are_zeroed_disjoint_and_stay_in_place_while_the_arena_grows() {
        for arena in both() {
            let first = arena.alloc(100).unwrap();
            assert!(first.iter().all(|&byte| byte == 0));
            first.fill(1);
            let large = arena.alloc(CHUNK * 3).unwrap();
            large.fill(2);
            let last = arena.alloc(7).unwrap();
            last.fill(3);
            assert!(first.iter().all(|&byte| byte == 1));
            assert!(large.iter().all(|&byte| byte == 2));
            assert!(last.iter().all(|&byte| byte == 3));
        }
    }

    #[test]
    fn wiping_leaves_zeros() {
        for mut arena in both() {
            arena.alloc(64).unwrap().fill(0xAA);
            arena.wipe();
            let chunk = &arena.chunks.borrow()[0];
            // SAFETY: 64 bytes were handed out, and no slice of them is left.
            let bytes = unsafe { std::slice::from_raw_parts(chunk.base.as_ptr(), 64) };
            assert!(bytes.iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn pages_are_locked_and_left_out_of_core_files() {
        for arena in both() {
            let address = arena.alloc(8).unwrap().as_ptr() as usize;
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let entry = maps
                .split("VmFlags:")
                .find(|entry| {
                    entry.lines().any(|line| {
                        line.split_once('-')
                            .is_some_and(|(start, _)| usize::from_str_radix(start, 16) == Ok(address & !0xfff))
                    })
                })
                .unwrap();
            let start = maps.find(entry).unwrap() + entry.len();
            let flags = maps[start..].lines().next().unwrap();
            for flag in ["lo", "dd"] {
                assert!(flags.split(' ').any(|f| f == flag), "{:?}: {flags}", arena.protection());
            }
        }
    }

    #[test]
    fn debug_shows_the_kind_only() {
        for arena in both() {
            arena.alloc(6).unwrap().copy_from_slice(b"sk-abc");
            assert!(!format!("{arena:?}").contains("sk-abc"));
        }
    }
}
