//! The parts of `mentiko-exec` and `mentiko`.
//!
//! An arrow goes only downward: `launch` (and `admin`) → `audit` → `vault` → `policy` →
//! `instance` → `memory`. The trusted base is all of these but `admin`.

#[cfg(feature = "admin")]
pub mod admin;
pub mod audit;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod instance;
pub mod launch;
pub mod memory;
pub mod policy;
pub mod text;
pub mod vault;
