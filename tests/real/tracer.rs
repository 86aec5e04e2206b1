//! A program whose calls are changed while it makes them, for what strace(1) can't do: it counts the calls of each
//! process by itself, so that it can't strike a child's alone, and it never lets the kernel do a part of a call.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Output};
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A call that is about to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// 0 for the first process, 1 for its first child, and so on.
    pub(crate) process: usize,
    /// Which of that process's calls it is, from 0.
    pub(crate) place: usize,
    pub(crate) number: i64,
    pub(crate) arguments: [u64; 3],
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// It is answered with this error, and not made; but for close(2), which closes whatever it answers.
    #[cfg(target_arch = "x86_64")]
    Error(Errno),
    /// One of its arguments is another.
    Argument(usize, u64),
}

/// Runs a program; each of its processes until it executes another.
pub(crate) fn run(command: &mut Command, mut change: impl FnMut(&Asked) -> Option<Change>) -> Output {
    let (mut stdout, mut stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    // SAFETY: one ptrace(2), between fork and exec.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    // Reaped below: its events come by waitpid(2).
    #[allow(clippy::zombie_processes)]
    let first = Pid::from_raw(command.spawn().unwrap().id() as i32);
    assert!(matches!(waitpid(first, None), Ok(WaitStatus::Stopped(..))));
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACECLONE;
    ptrace::setoptions(first, options | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL).unwrap();
    let _watchdog = Watchdog::over(first);
    let mut tracer = Tracer { processes: BTreeMap::from([(first, Process::new(0))]), children: 0 };
    ptrace::syscall(first, None).unwrap();
    let status = loop {
        // Of this thread alone: other tests have children too.
        match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).unwrap() {
            WaitStatus::Exited(pid, code) if pid == first => break ExitStatus::from_raw(code << 8),
            WaitStatus::Signaled(pid, signal, _) if pid == first => break ExitStatus::from_raw(signal as i32),
            other => tracer.go_on(other, &mut change),
        }
    };
    let read = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    Output { status, stdout: read(&mut stdout), stderr: read(&mut stderr) }
}

/// Kills a process that takes too long.
struct Watchdog(Option<(mpsc::Sender<()>, std::thread::JoinHandle<()>)>);

impl Watchdog {
    fn over(process: Pid) -> Self {
        let (done, wait) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(Duration::from_secs(10)) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill(process, Signal::SIGKILL);
            }
        });
        Self(Some((done, thread)))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.0.take() {
            drop(done);
            thread.join().unwrap();
        }
    }
}

struct Process {
    number: usize,
    calls: usize,
    /// What the call that is being made is to be answered.
    answer: Option<Errno>,
}

impl Process {
    fn new(number: usize) -> Self {
        Self { number, calls: 0, answer: None }
    }
}

struct Tracer {
    processes: BTreeMap<Pid, Process>,
    children: usize,
}

impl Tracer {
    fn go_on(&mut self, event: WaitStatus, change: &mut impl FnMut(&Asked) -> Option<Change>) {
        // A process that was killed meanwhile takes no orders.
        let syscall = |pid, signal| ptrace::syscall(pid, signal).unwrap_or(());
        match event {
            WaitStatus::PtraceSyscall(pid) => {
                self.at_a_call(pid, change);
                syscall(pid, None);
            }
            WaitStatus::PtraceEvent(pid, _, event) if event == Event::PTRACE_EVENT_EXEC as i32 => {
                self.processes.remove(&pid);
                let _ = ptrace::detach(pid, None);
            }
            WaitStatus::PtraceEvent(pid, ..) => syscall(pid, None),
            WaitStatus::Stopped(pid, signal) => {
                // A new child comes with a SIGSTOP of the kernel's.
                let is_new = !self.processes.contains_key(&pid);
                if is_new {
                    self.children += 1;
                    self.processes.insert(pid, Process::new(self.children));
                }
                syscall(pid, Some(signal).filter(|_| !is_new));
            }
            _ => {}
        }
    }

    fn at_a_call(&mut self, pid: Pid, change: &mut impl FnMut(&Asked) -> Option<Change>) {
        let (Some(process), Ok(info)) = (self.processes.get_mut(&pid), ptrace::syscall_info(pid)) else { return };
        let Ok(mut registers) = ptrace::getregs(pid) else { return };
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            if let Some(errno) = process.answer.take() {
                *answer(&mut registers) = (-(errno as i64)) as u64;
                let _ = ptrace::setregs(pid, registers);
            }
            return;
        }
        // SAFETY: a union of numbers, of which the kernel filled this part where `op` says so.
        let entry = unsafe { info.u.entry };
        let place = process.calls;
        process.calls += 1;
        let [one, two, three, ..] = entry.args;
        let asked = Asked { process: process.number, place, number: entry.nr as i64, arguments: [one, two, three] };
        match change(&asked) {
            None => return,
            Some(Change::Argument(at, value)) => *argument(&mut registers, at) = value,
            #[cfg(target_arch = "x86_64")]
            Some(Change::Error(errno)) => {
                process.answer = Some(errno);
                if asked.number != libc::SYS_close {
                    // No call has this number.
                    registers.orig_rax = u64::MAX;
                }
            }
        }
        let _ = ptrace::setregs(pid, registers);
    }
}

fn argument(registers: &mut libc::user_regs_struct, at: usize) -> &mut u64 {
    #[cfg(target_arch = "x86_64")]
    return [&mut registers.rdi, &mut registers.rsi, &mut registers.rdx].into_iter().nth(at).unwrap();
    #[cfg(target_arch = "aarch64")]
    return &mut registers.regs[at];
}

fn answer(registers: &mut libc::user_regs_struct) -> &mut u64 {
    #[cfg(target_arch = "x86_64")]
    return &mut registers.rax;
    #[cfg(target_arch = "aarch64")]
    return &mut registers.regs[0];
}
