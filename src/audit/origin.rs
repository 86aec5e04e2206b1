//! Which process a record is about.

use nix::unistd::{Pid, geteuid, gethostname, getpid};

/// Host, user and process: `pid` with `start` tells whether that process still runs.
#[derive(Clone, Debug)]
pub struct Origin {
    /// gethostname(2).
    pub host: String,
    /// The effective user ID.
    pub uid: u32,
    /// The process ID; the agent will have it.
    pub pid: i32,
    /// When the process started, in clock ticks since boot (proc_pid_stat(5), field 22); `None`
    /// without /proc.
    pub start: Option<u64>,
}

impl Origin {
    /// That of this process.
    pub fn of_this_process() -> Self {
        Self::of(getpid())
    }

    /// That of a child of this process.
    pub fn of(process: Pid) -> Self {
        let host = gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
        Self {
            host,
            uid: geteuid().as_raw(),
            pid: process.as_raw(),
            start: stat.ok().and_then(|stat| start_time(&stat)),
        }
    }
}

/// Field 22; the command in field 2 may hold blanks and parentheses, so counting starts after the
/// last parenthesis, with field 3.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    after.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_does_not_disturb_the_count() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 8812345 2 3";
        assert_eq!(start_time(stat), Some(8_812_345));
        assert_eq!(start_time("7 (a) S 1"), None);
        assert!(Origin::of_this_process().start.is_some());
    }
}
