//! The supervisor's loop: signals, the agent's streams, the keyboard.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{read, write};

use super::Matcher;
use super::plumbing::{Ends, Plumbing, Stream, Terminal};
use crate::launch::Supervised;
use crate::launch::supervise::End;

/// How much is read at once.
pub(super) const CHUNK: usize = 64 * 1024;

pub(super) struct Relay<'a, 'm> {
    channels: Vec<Channel<'a>>,
    matcher: &'m Matcher<'a>,
    terminal: Option<Terminal>,
    /// Keys that the agent's terminal has not taken yet; `None` without a keyboard.
    keys: Option<Vec<u8>>,
}

/// One stream on its way.
struct Channel<'a> {
    /// `None` once the agent has closed it.
    stream: Option<Stream>,
    /// In the arena, for it holds what is not masked yet.
    buffer: &'a mut [u8],
    held: usize,
    /// Masked, and not written yet.
    out: Vec<u8>,
}

impl<'a, 'm> Relay<'a, 'm> {
    pub(super) fn new(plumbing: Plumbing, matcher: &'m Matcher<'a>, buffers: Vec<&'a mut [u8]>) -> Self {
        let Ends { streams, mut terminal } = plumbing.ends();
        let mut channels = Vec::new();
        for (stream, buffer) in streams.into_iter().zip(buffers) {
            channels.push(Channel { stream: Some(stream), buffer, held: 0, out: Vec::new() });
        }
        let keys = terminal.as_mut().is_some_and(Terminal::take_over).then(Vec::new);
        Self { channels, matcher, terminal, keys }
    }

    /// Until the agent has ended and what it wrote is passed on.
    pub(super) fn serve(&mut self, agent: &Supervised) -> End {
        let end = loop {
            if let Some(end) = agent.reap() {
                break end;
            }
            let ready = self.wait(agent.signals());
            self.pass_signals(agent);
            self.pass_keys();
            for (channel, ready) in self.channels.iter_mut().zip(ready) {
                channel.turn(self.matcher, ready);
            }
        };
        // What the agent wrote last is in the pipes; what others write later goes nowhere.
        for channel in &mut self.channels {
            channel.drain(self.matcher);
        }
        self.terminal = None;
        end
    }

    /// Waits until something can go on; which channels can be read.
    fn wait(&self, signals: BorrowedFd<'_>) -> Vec<bool> {
        let mut fds = vec![PollFd::new(signals, PollFlags::POLLIN)];
        for channel in &self.channels {
            if let Some(stream) = &channel.stream {
                // No more is read before what is read is written.
                fds.push(match channel.out.is_empty() {
                    true => PollFd::new(stream.source.as_fd(), PollFlags::POLLIN),
                    false => PollFd::new(stream.outlet.as_fd(), PollFlags::POLLOUT),
                });
            }
        }
        let stdin = std::io::stdin();
        match (&self.keys, &self.terminal) {
            (Some(keys), _) if keys.is_empty() => fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN)),
            (Some(_), Some(terminal)) => fds.push(PollFd::new(terminal.master.as_fd(), PollFlags::POLLOUT)),
            _ => {}
        }
        let _ = poll(&mut fds, PollTimeout::NONE);
        let mut answers = fds.iter().skip(1).map(|fd| fd.any().unwrap_or(false));
        self.channels.iter().map(|channel| channel.stream.is_some() && answers.next().unwrap_or(false)).collect()
    }

    fn pass_signals(&mut self, agent: &Supervised) {
        while let Some((number, by_a_process)) = agent.next_signal() {
            match &self.terminal {
                Some(terminal) if number == Signal::SIGWINCH as i32 => terminal.follow_size(),
                // In a session of its own the agent gets nothing from the caller's terminal.
                Some(_) => agent.send(number),
                None if by_a_process || agent.is_for_leader_alone(number) => agent.send(number),
                None => {}
            }
        }
    }

    fn pass_keys(&mut self) {
        let (Some(keys), Some(terminal)) = (&mut self.keys, &self.terminal) else { return };
        if keys.is_empty() {
            let mut typed = [0; 1024];
            match read_ready(std::io::stdin().as_fd(), &mut typed) {
                Some(0) => return self.keys = None,
                Some(count) => keys.extend_from_slice(typed.get(..count).unwrap_or_default()),
                None => return,
            }
        }
        if let Ok(count) = write(&terminal.master, keys) {
            keys.drain(..count);
        }
    }
}

/// Reads what is there, without waiting: `None` where there is nothing.
fn read_ready(fd: BorrowedFd<'_>, place: &mut [u8]) -> Option<usize> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(1..) => read(fd, place).ok(),
        _ => None,
    }
}

impl Channel<'_> {
    /// Writes what is masked, else reads and masks more.
    fn turn(&mut self, matcher: &Matcher<'_>, ready: bool) {
        if ready && self.out.is_empty() {
            self.fill(matcher);
        }
        self.flush();
    }

    /// One read, and how many bytes it gave; `None` where nothing is left to read.
    fn fill(&mut self, matcher: &Matcher<'_>) -> Option<usize> {
        let stream = self.stream.as_ref()?;
        let place = self.buffer.get_mut(self.held..).unwrap_or_default();
        match read(&stream.source, place) {
            Ok(count) if count > 0 => {
                self.mask(matcher, self.held + count, false);
                Some(count)
            }
            Err(Errno::EINTR) => Some(0),
            Err(Errno::EAGAIN) => None,
            // The end of a pipe, or EIO at the end of a terminal.
            Ok(_) | Err(_) => {
                self.close(matcher);
                None
            }
        }
    }

    fn mask(&mut self, matcher: &Matcher<'_>, length: usize, end: bool) {
        let input = self.buffer.get(..length).unwrap_or_default();
        let out = &mut self.out;
        self.held = matcher.replace(input, end, |bytes| out.extend_from_slice(bytes));
        self.buffer.copy_within(length - self.held..length, 0);
    }

    fn close(&mut self, matcher: &Matcher<'_>) {
        self.mask(matcher, self.held, true);
        self.write_all();
        self.stream = None;
    }

    /// Writes what can be written now.
    fn flush(&mut self) {
        let Some(stream) = &self.stream else { return };
        while !self.out.is_empty() {
            match write(&stream.outlet, &self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // Nobody reads any more: the agent is to learn it at its next write.
                Err(_) => {
                    self.out.clear();
                    self.stream = None;
                    return;
                }
            }
        }
    }

    /// Writes all, waiting for whoever reads.
    fn write_all(&mut self) {
        while !self.out.is_empty() {
            self.flush();
            let Some(stream) = &self.stream else { return };
            if !self.out.is_empty() {
                let _ = poll(&mut [PollFd::new(stream.outlet.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            }
        }
    }

    /// Passes on what is still in the pipe: no more than it holds, for somebody else may go on
    /// filling it.
    fn drain(&mut self, matcher: &Matcher<'_>) {
        let mut left = self.stream.as_ref().map_or(0, Stream::capacity);
        while left > 0
            && let Some(count) = self.fill(matcher)
        {
            left = left.saturating_sub(count);
            self.write_all();
        }
        if self.stream.is_some() {
            self.close(matcher);
        }
    }
}
