//! Who may have which secret: names, chain definitions, and the decision.
//!
//! Nothing here opens a secret. [`decide`] is the only maker of [`Grant`]s and [`Denial`]s.

mod approval;
mod credential;
mod decision;
mod definition;
mod name;
mod scope;
#[cfg(feature = "admin")]
mod show;
mod variable;

use std::path::PathBuf;

pub use approval::{Reviewed, Unapproved, review};
pub use credential::looks_like_credential;
pub use decision::{Decision, Denial, Facts, Grant, Reason, decide, judge};
pub use definition::{Definition, Request, path_of};
pub use name::{AgentName, ChainName, InvalidName, RunId, SecretName};
pub use scope::Scope;
pub use variable::{VariableName, is_reserved};

/// Why a chain definition can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be trusted or read.
    #[error(transparent)]
    Instance(#[from] crate::instance::Error),
    /// There is no such chain.
    #[error("no chain '{chain}' ({path})")]
    UnknownChain {
        /// The chain that was asked for.
        chain: ChainName,
        /// The file that would define it.
        path: PathBuf,
    },
    /// The definition does not say what it should.
    #[error("{path}: {fault}")]
    Definition {
        /// The file.
        path: PathBuf,
        /// The field, the fault and the mend.
        fault: String,
    },
}
