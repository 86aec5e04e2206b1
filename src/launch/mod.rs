//! One launch, from the command line to execve(2): a pipeline of values, each made from the one
//! before, each step one file. `src/bin/mentiko-exec.rs` shows the pipeline.

mod arguments;
mod command;
mod deliver;
mod due;
mod environment;
mod exec;
mod failure;
mod fence;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod inherited;
mod mask;
mod opened;
mod privileges;
mod site;
mod supervise;

pub use arguments::{Arguments, Delivery, parse};
pub use command::{Program, resolve, search};
pub use environment::Environment;
pub use exec::become_agent;
pub use failure::{Failure, Status};
pub use fence::{Enclosure, Keep, Raised, raise};
pub use inherited::Inherited;
pub use mask::{Masking, Plumbing, relay};
#[cfg(feature = "admin")]
pub(crate) use mask::{SHORTEST, forms_of};
pub use opened::{Decided, decide};
pub use privileges::drop_to;
pub use site::Site;
pub use supervise::{Mode, Side, Supervised, start};
