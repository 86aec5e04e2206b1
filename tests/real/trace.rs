//! A program under strace(1): what it asked of the kernel, and what it does when the kernel refuses.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::{is_root, text};

/// One launch under strace(1).
pub(crate) struct Trace {
    pub(crate) output: Output,
    /// `PID call(arguments) = result`, in their order.
    pub(crate) lines: Vec<String>,
}

impl Trace {
    /// With the names of files whoever runs it.
    pub(crate) fn of(launch: &mut Command, faults: &[&str], agent: &[&str]) -> Self {
        match is_root() {
            true => Self::with(launch, faults, agent),
            false => Self::with(launch, &[faults, &["prctl:retval=0"]].concat(), agent),
        }
    }

    /// `faults` are those of strace's --inject.
    pub(crate) fn with(launch: &mut Command, faults: &[&str], agent: &[&str]) -> Self {
        Self::of_program(launch.arg("--").args(agent), faults, Stdio::null())
    }

    /// Any program, with this on its standard input.
    pub(crate) fn of_program(program: &Command, faults: &[&str], input: impl Into<Stdio>) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-s", "1024", "-o"]).arg(file.path());
        strace.args(faults.iter().map(|fault| format!("--inject={fault}"))).arg("--").arg(program.get_program());
        strace.args(program.get_args()).stdin(input).env_clear().envs(variables(program));
        let output = strace.output();
        let output = output.unwrap_or_else(|error| panic!("strace can't be run ({error}); install the package strace"));
        let lines = text(&std::fs::read(file.path()).unwrap()).lines().map(str::to_owned).collect();
        Self { output, lines }
    }

    pub(crate) fn complaint(&self) -> String {
        text(&self.output.stderr)
    }

    pub(crate) fn positions(&self, call: &str, text: &str) -> Vec<usize> {
        let is_call = |line: &str| {
            let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
            line.strip_prefix(call).is_some_and(|rest| rest.starts_with('('))
        };
        (0..self.lines.len()).filter(|&at| is_call(&self.lines[at]) && self.lines[at].contains(text)).collect()
    }

    pub(crate) fn position(&self, call: &str, text: &str) -> usize {
        let positions = self.positions(call, text);
        *positions.first().unwrap_or_else(|| panic!("no {call} with {text}: {:#?}", self.calls(call)))
    }

    pub(crate) fn only(&self, call: &str, text: &str) -> usize {
        let positions = self.positions(call, text);
        assert_eq!(positions.len(), 1, "{call} {text}: {:#?}", self.calls(call));
        positions[0]
    }

    pub(crate) fn calls(&self, call: &str) -> Vec<&String> {
        self.positions(call, "").into_iter().map(|at| &self.lines[at]).collect()
    }

    /// How many bytes each read of a file gave.
    pub(crate) fn reads_of(&self, path: &Path) -> Vec<i64> {
        assert!(self.output.status.success(), "{}", self.complaint());
        let path = format!("<{}>", path.display());
        // Nothing else takes bytes out of it.
        for call in ["read", "readv", "preadv", "mmap", "sendfile", "copy_file_range"] {
            assert_eq!(self.positions(call, &path), [0; 0], "{call}");
        }
        let reads = self.positions("pread64", &path).into_iter();
        reads.map(|at| self.lines[at].rsplit_once("= ").unwrap().1.parse().unwrap()).collect()
    }
}

/// What a command's environment is set to.
pub(crate) fn variables(command: &Command) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    command.get_envs().filter_map(|(name, value)| Some((name, value?)))
}
