//! What a definition grants and how it changed, for people who look at it before a launch does.

use super::approval::{Granted, named};
use super::{Definition, Unapproved};

impl Unapproved {
    /// Everything that differs, a line each.
    pub fn lines(&self) -> Vec<String> {
        self.differences.clone().unwrap_or_else(|| vec!["it was never approved".into()])
    }
}

impl Definition {
    /// All that it grants, a line each.
    pub fn grants(&self) -> Vec<String> {
        let all = Granted::of(self);
        let lines = all.agents.iter().flat_map(|(agent, env)| match env.is_empty() {
            true => vec![format!("{agent} gets nothing")],
            false => env.iter().map(|(variable, secret)| format!("{agent} gets {}", named(variable, secret))).collect(),
        });
        lines.collect()
    }

    /// Fields that look like misspelled ones of ours.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
