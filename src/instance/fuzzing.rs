//! See [`crate::fuzzing`].

use std::path::Path;

use super::Instance;

/// Checks the text of an instance.json that would stand in this folder.
pub fn parse(folder: &Path, text: &[u8]) -> Result<Instance, String> {
    Instance::parse(folder, text)
}
