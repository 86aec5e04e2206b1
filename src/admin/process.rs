//! The processes of agents, as the access log names them: which of them still run.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::Serialize;

use super::Error;
use crate::audit::{Filter, Origin, Record, search};
use crate::memory::{open_process, signal_process};

/// A process of this host: its number, and when it started, for the number alone may be given to
/// another. As JSON, the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "i32")]
pub(super) struct Process {
    pid: i32,
    start: u64,
}

impl From<Process> for i32 {
    fn from(process: Process) -> Self {
        process.pid
    }
}

impl Process {
    /// That of a record, if it still runs. `host` is this one's name.
    pub(super) fn of(record: &Record, host: &str) -> Option<Self> {
        let process = Self { pid: record.pid, start: record.start.filter(|_| record.host == host)? };
        process.still_runs().then_some(process)
    }

    fn still_runs(&self) -> bool {
        Origin::of(Pid::from_raw(self.pid)).start == Some(self.start)
    }

    /// Sends it SIGTERM; false where it has ended meanwhile. The descriptor is taken first and then
    /// compared, so that the signal can't reach another process that was given the number.
    pub(super) fn terminate(&self) -> Result<bool, Errno> {
        let process = match open_process(Pid::from_raw(self.pid)) {
            Err(Errno::ESRCH) => return Ok(false),
            opened => opened?,
        };
        if !self.still_runs() {
            return Ok(false);
        }
        match signal_process(&process, Signal::SIGTERM) {
            Err(Errno::ESRCH) => Ok(false),
            sent => sent.map(|()| true),
        }
    }
}

/// As a cell of a table.
pub(super) fn pids(processes: &[Process]) -> String {
    match processes {
        [] => "-".into(),
        _ => format!("pid {}", listed(processes, ", ")),
    }
}

/// Their numbers.
pub(super) fn listed(processes: &[Process], between: &str) -> String {
    processes.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(between)
}

/// Every record of the log that fits, oldest first.
pub(super) fn each_record(audit: &Path, filter: &Filter, mut found: impl FnMut(&Record) + Send) -> Result<(), Error> {
    search(audit, filter, |line| {
        if let Some(record) = Record::parse(line) {
            found(&record);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_signal_reaches_that_process_or_none() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id().try_into().unwrap();
        let process = Process { pid, start: Origin::of(Pid::from_raw(pid)).start.unwrap() };
        let other = Process { start: process.start + 1, ..process };
        assert_eq!(other.terminate(), Ok(false));
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(process.terminate(), Ok(true));
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(15));
        assert_eq!(process.terminate(), Ok(false));
    }
}
