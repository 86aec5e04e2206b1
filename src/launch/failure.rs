//! Why a launch does not happen: the line for people, the status, what the log is to say.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use crate::policy::{Denial, Reason, SecretName};
use crate::text::printable;
use crate::{audit, instance, memory, policy, vault};

/// Exit statuses of the wrapper's own failures, before the agent runs. systemd shows 77 and 78 as
/// NOPERM and CONFIG (sysexits.h, systemd.exec(5)); the others are those of env(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The policy refuses the launch.
    Denied = 77,
    /// Configuration, key or chain definition can't be used.
    Configuration = 78,
    /// Anything else, the command line too.
    Other = 125,
    /// The command is there and can't be executed.
    NotExecutable = 126,
    /// There is no such command.
    NotFound = 127,
}

/// A refused launch.
#[derive(Debug)]
pub struct Failure {
    status: Status,
    message: String,
    denials: Vec<Denial>,
    /// Whether the log has it already, or can't have it.
    settled: bool,
}

impl Failure {
    /// A failure that the log is to show as one denial of the launch.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), denials: Vec::new(), settled: false }
    }

    /// A refusal by the policy: one denial for each secret.
    pub fn denied(message: String, denials: Vec<Denial>) -> Self {
        Self { status: Status::Denied, message, denials, settled: false }
    }

    /// The refusal of one secret for a reason that is not the policy's.
    pub fn of_secret(status: Status, message: String, secret: SecretName) -> Self {
        let denial = Denial { secret: Some(secret), reason: Reason::Failed(message.clone()) };
        Self { status, message, denials: vec![denial], settled: false }
    }

    /// The same, with nothing left to record.
    pub fn settled(mut self) -> Self {
        self.settled = true;
        self
    }

    /// What the log is to show; nothing where it shows it already.
    pub fn denials(&self) -> Vec<Denial> {
        match (self.settled, self.denials.is_empty()) {
            (true, _) => Vec::new(),
            (false, false) => self.denials.clone(),
            (false, true) => {
                let reason = Reason::Failed(self.message.chars().take(300).collect());
                vec![Denial { secret: None, reason }]
            }
        }
    }

    /// Adds to the line.
    pub fn and(mut self, more: impl fmt::Display) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }

    /// Prints the one line and gives the status.
    pub fn report(&self) -> ExitCode {
        say_as_is(&self.to_string());
        ExitCode::from(self.status as u8)
    }
}

/// One line on standard error about a launch that goes on.
pub(super) fn say(line: &str) {
    say_as_is(&printable(line));
}

/// In one write, so that nothing of another process comes in between. Not by eprintln!, which panics where nobody
/// reads: the launch and its status must stand all the same.
fn say_as_is(line: &str) {
    let _ = std::io::stderr().write_all(format!("mentiko-exec: {line}\n").as_bytes());
}

/// The same for a warning.
pub(super) fn warn(text: &str) {
    say(&format!("warning: {text}"));
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.message))
    }
}

impl From<memory::Error> for Failure {
    fn from(error: memory::Error) -> Self {
        Self::new(Status::Other, error.to_string())
    }
}

impl From<instance::Error> for Failure {
    fn from(error: instance::Error) -> Self {
        let status = match error {
            instance::Error::Memory(_) | instance::Error::Random(_) => Status::Other,
            _ => Status::Configuration,
        };
        Self::new(status, error.to_string())
    }
}

impl From<vault::Error> for Failure {
    fn from(error: vault::Error) -> Self {
        match error {
            vault::Error::Instance(error) => error.into(),
            vault::Error::WrongKey { .. } | vault::Error::Pins { .. } => {
                Self::new(Status::Configuration, error.to_string())
            }
            other => Self::new(Status::Other, other.to_string()),
        }
    }
}

impl From<policy::Error> for Failure {
    fn from(error: policy::Error) -> Self {
        let message = error.to_string();
        match error {
            policy::Error::Instance(error) => error.into(),
            policy::Error::UnknownChain { .. } => {
                Self::denied(message, vec![Denial { secret: None, reason: Reason::UnknownChain }])
            }
            policy::Error::Definition { .. } => Self::new(Status::Configuration, message),
        }
    }
}

/// No record, no launch.
impl From<audit::Error> for Failure {
    fn from(error: audit::Error) -> Self {
        match error {
            // Which keeps this record out, and not that of the refusal.
            audit::Error::Rotated => Self::new(Status::Other, error.to_string()),
            _ => Self::new(Status::Other, format!("{error}; without its record nothing is launched")).settled(),
        }
    }
}
