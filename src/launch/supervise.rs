//! `--supervise`: the wrapper stays as the agent's parent, without a secret, and ends as it did.
//!
//! Parent and agent are in one process group, so that what the terminal sends reaches the agent by
//! itself; only what others send to the parent is passed on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpid, getppid, getsid, pipe2, read, write};

use super::failure::warn;
use super::mask::Plumbing;
use super::{Failure, Site, Status};
use crate::audit::Origin;
use crate::memory::{self, Arena, Change, Forked};

/// How the agent comes to be: picked once, by [`start`].
#[derive(Debug)]
pub enum Mode {
    /// This process becomes it.
    Exec,
    /// This process is a child of the supervisor, and becomes it.
    Supervised {
        /// The supervisor.
        parent: Pid,
        /// Whether the caller had SIGCHLD ignored.
        ignored_sigchld: bool,
        /// Whether the supervisor masks, for which it needs the values.
        masks: bool,
        /// What the supervisor waits at.
        _running: Running,
    },
}

/// The agent's end of a pipe. execve(2) closes it without a word; a launch that fails says so.
#[derive(Debug)]
pub struct Running(OwnedFd);

impl Drop for Running {
    fn drop(&mut self) {
        // If even this fails, the supervisor takes the exit status for the agent's.
        let _ = write(&self.0, b"!");
    }
}

/// The two sides of a launch.
#[derive(Debug)]
pub enum Side {
    /// Goes on to become the agent.
    Agent(Mode),
    /// Waits for it. The agent runs, or has failed to.
    Supervisor(Supervised),
    /// The same, and passes on its output.
    Masker(Supervised, Plumbing),
}

/// An agent that is waited for.
#[derive(Debug)]
pub struct Supervised {
    child: Pid,
    origin: Origin,
    signals: SignalFd,
    ran: bool,
    since: Instant,
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit status, or 128+n if signal n ended it.
    With(u8),
    /// It could not be learned.
    Unknown,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        match end {
            End::With(status) => Self::from(status),
            End::Unknown => Self::from(Status::Other as u8),
        }
    }
}

/// Without `--supervise`, nothing. With it, forks; the supervisor comes back once the agent has
/// taken its values: until then the two share the arena.
pub fn start(site: &Site<'_>) -> Result<Side, Failure> {
    if !site.arguments.supervise && !site.arguments.mask {
        return Ok(Side::Agent(Mode::Exec));
    }
    let failed = |errno: Errno| Failure::new(Status::Other, format!("can't supervise: {errno}"));
    // The agent's orphans are ours to reap.
    prctl::set_child_subreaper(true).map_err(failed)?;
    let ignored_sigchld = memory::default_sigchld().map_err(failed)?;
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before)).map_err(failed)?;
    let (running, alive) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    let plumbing = site.arguments.mask.then(Plumbing::new).transpose()?;
    let signals =
        SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
    let parent = getpid();
    match memory::fork().map_err(failed)? {
        Forked::Child => {
            drop(running);
            // First, so that a failure of what follows is told too.
            let masks = plumbing.is_some();
            let mode = Mode::Supervised { parent, ignored_sigchld, masks, _running: Running(alive) };
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).map_err(failed)?;
            plumbing.map(Plumbing::attach).transpose().map_err(failed)?;
            Ok(Side::Agent(mode))
        }
        Forked::Parent(child) => {
            drop(alive);
            let origin = Origin::of(child);
            // From here on and not from its exec, of which this process learns late.
            let since = Instant::now();
            let ran = has_run(&running);
            let agent = Supervised { child, origin, signals, ran, since };
            Ok(match plumbing {
                None => Side::Supervisor(agent),
                Some(plumbing) => Side::Masker(agent, plumbing),
            })
        }
    }
}

/// Waits for the agent's exec, or the end of the attempt; whether it was the former.
fn has_run(running: &OwnedFd) -> bool {
    loop {
        match read(running, &mut [0]) {
            Err(Errno::EINTR) => {}
            // In doubt it runs.
            answer => return answer != Ok(1),
        }
    }
}

impl Mode {
    /// Whether the values are still needed once the agent runs.
    pub(super) fn needs_values(&self) -> bool {
        matches!(self, Self::Supervised { masks: true, .. })
    }

    /// In the process that becomes the agent, after privileges were given up: it dies with its
    /// supervisor. A change of user would have taken this back (PR_SET_PDEATHSIG(2const)).
    pub(super) fn tie_to_parent(&self) -> Result<(), Failure> {
        let Self::Supervised { parent, ignored_sigchld, .. } = self else { return Ok(()) };
        let failed = |errno: Errno| Failure::new(Status::Other, format!("can't be tied to the supervisor: {errno}"));
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
        if getppid() != *parent {
            return Err(Failure::new(Status::Other, "the supervisor has died"));
        }
        if *ignored_sigchld {
            memory::ignore_sigchld().map_err(failed)?;
        }
        Ok(())
    }
}

impl Supervised {
    /// Waits for the agent's end, passing on signals meanwhile; records it; ends as the agent did.
    /// The arena of the launch is gone by now: its key is not needed, and a new one is used.
    pub fn wait(self, site: Site<'_>) -> ExitCode {
        let end = self.serve();
        match Arena::new() {
            Ok(arena) => self.record_end(&site.without_key(), end, &arena),
            Err(error) => warn(&format!("the agent's end could not be recorded: {error}")),
        }
        end.into()
    }

    /// Records the agent's end, if it is known. A launch that failed has put its reason on record itself.
    pub(super) fn record_end<'a>(&self, site: &Site<'a>, end: End, arena: &'a Arena) {
        let milliseconds = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let End::With(status) = end
            && self.ran
            && let Err(error) = site.agent_ended(&self.origin, status, milliseconds, arena)
        {
            warn(&format!("the agent's end could not be recorded: {error}"));
        }
    }

    /// Readable when there is a signal to be had by [`Supervised::next_signal`].
    pub(super) fn signals(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// A signal to be looked at, if there is one: its number, and whether a process sent it rather
    /// than the kernel. Never SIGCHLD, which is for [`Supervised::reap`].
    pub(super) fn next_signal(&self) -> Option<(i32, bool)> {
        loop {
            let signal = self.signals.read_signal().ok()??;
            let number = i32::try_from(signal.ssi_signo).ok()?;
            // SIGPIPE, when nobody reads our output any more, is about our own writing; and the agent
            // knows what it sent itself.
            let sender = i32::try_from(signal.ssi_pid).map(Pid::from_raw);
            let is_ours = signal.ssi_code <= 0 && (sender == Ok(getpid()) || sender == Ok(self.child));
            if number != Signal::SIGCHLD as i32 && !is_ours {
                return Some((number, signal.ssi_code <= 0));
            }
        }
    }

    /// That its terminal is gone, the kernel tells the session's leader and nobody else.
    pub(super) fn is_for_leader_alone(&self, number: i32) -> bool {
        let hangup = [Signal::SIGHUP as i32, Signal::SIGCONT as i32].contains(&number);
        hangup && getsid(None) == Ok(getpid())
    }

    /// Passes a signal on.
    pub(super) fn send(&self, number: i32) {
        // ESRCH: it has just ended, which the next look finds.
        let _ = memory::send_signal(self.child, number);
    }

    fn serve(&self) -> End {
        loop {
            if let Some(end) = self.reap() {
                return end;
            }
            let _ = poll(&mut [PollFd::new(self.signals(), PollFlags::POLLIN)], PollTimeout::NONE);
            while let Some((number, by_a_process)) = self.next_signal() {
                // What the kernel sends (a terminal's Ctrl-C, a changed window) went to the whole
                // process group already.
                if by_a_process || self.is_for_leader_alone(number) {
                    self.send(number);
                }
            }
        }
    }

    /// Takes in every child that changed; the agent's end if it has ended.
    pub(super) fn reap(&self) -> Option<End> {
        let mut failed = false;
        loop {
            let (pid, change) = match memory::changed_child() {
                Ok(changed) => changed?,
                // The SIGCHLD that led here may be taken already, so that this must not be waited out.
                Err(_) if !failed => {
                    failed = true;
                    continue;
                }
                Err(errno) => {
                    warn(&format!("what became of the agent is not known: {errno}"));
                    // Nobody is to run on unsupervised. Without children, its number may be another process's.
                    if errno != Errno::ECHILD {
                        self.send(Signal::SIGKILL as i32);
                    }
                    return Some(End::Unknown);
                }
            };
            match change {
                // An orphan of the agent's.
                _ if pid != self.child => {}
                Change::Exited(code) => return Some(End::With(code)),
                Change::Killed(number) => return Some(End::With(number.saturating_add(128))),
                Change::Stopped => {
                    // The shell that waits for us is to see it; SIGCONT comes to the whole group,
                    // or to us, who pass it on.
                    let _ = kill(getpid(), Signal::SIGSTOP);
                }
            }
        }
    }
}
