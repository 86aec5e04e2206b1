//! What the fuzz targets (`fuzz/`) need of the inside. Only with the feature `fuzzing`, which no
//! program of ours is built with; no part of the interface.

pub use crate::audit::fuzzing as audit;
pub use crate::instance::fuzzing as instance;
pub use crate::launch::fuzzing as launch;
pub use crate::vault::fuzzing as vault;
