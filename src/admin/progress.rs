//! How far a long piece of work has got.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on standard error: on a terminal only, and only for work over a second.
pub(super) struct Bar {
    what: &'static str,
    begun: std::time::Instant,
    bar: Option<ProgressBar>,
}

impl Bar {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, begun: std::time::Instant::now(), bar: None }
    }

    /// Bytes that are done, of how many.
    pub(super) fn show(&mut self, done: u64, total: u64) {
        if self.bar.is_none() && self.begun.elapsed() >= Duration::from_secs(1) {
            // indicatif draws nothing where standard error is no terminal.
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes}, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(self.what);
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
