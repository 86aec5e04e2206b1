//! `mentiko settings`: a screen for people, on which the commands are keys.
//!
//! Keys go to [`app`], which says what is to be done; [`work`] does it by the functions that the
//! commands call; [`view`] and the [`pages`] draw. The key of the instance, and a value while it is
//! typed, lie in one arena for as long as the screen stands; whatever opens the vault takes an arena
//! of its own, which is wiped at once.

mod app;
mod desk;
mod dialog;
mod feed;
mod input;
mod model;
mod pages;
mod screen;
#[cfg(test)]
mod tests;
mod view;
mod work;

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};

use super::{Common, Error, context};
use crate::instance::{Instance, InstanceKey};
use crate::memory::{Arena, wipe};
use app::{App, Effect, Look, Page};
use desk::Desk;
use feed::Source;
use input::{Decoder, Key};
use model::{Model, Stamp};
use screen::Screen;

/// How long until the log is looked at again.
const TICK: u16 = 250;
/// How long until an escape byte is the key of that name.
const ESCAPE: u16 = 50;
/// How long until the runs are looked at again: an agent may end without a record.
const PATIENCE: Duration = Duration::from_secs(3);

/// What every task needs.
pub(super) struct Session<'a> {
    instance: &'a Instance,
    key: InstanceKey<'a>,
}

pub(super) fn run(common: &Common) -> Result<ExitCode, Error> {
    let tty = terminal()?;
    let instance = context::instance(common)?;
    let ended = {
        let arena = Arena::new()?;
        // Asked for before the screen stands, and once.
        let key = context::key(common, &instance, &arena)?;
        let session = Session { instance: &instance, key };
        let place = instance.folder.display().to_string();
        let mut app = App::new(look(), place, Desk::new(&arena)?);
        // A wrong key is told of here, and not on the screen.
        app.model = Model::read(&session)?;
        let mut source = Source::new(&instance.audit)?;
        source.read_on(&mut app.feed)?;
        let keys = arena.alloc(256)?;
        let (stamp, read) = (Stamp::default(), Instant::now());
        Desktop { screen: Screen::take(tty)?, session, source, stamp, read, fault: None }.run(&mut app, keys)?
    };
    match ended {
        None => Ok(ExitCode::SUCCESS),
        // The terminal is given back and the arena wiped: now it may do what it does.
        Some(signal) => {
            let _ = raise(signal);
            Ok(ExitCode::from(128u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0))))
        }
    }
}

/// The terminal that standard input and output are.
fn terminal() -> Result<File, Error> {
    let needs = "'mentiko settings' needs a terminal";
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let fault = "standard input or output is none; the commands work without ('mentiko --help')";
        return Err(format!("{needs}: {fault}").into());
    }
    let kind = std::env::var("TERM").unwrap_or_default();
    if kind.is_empty() || kind == "dumb" {
        return Err(format!("{needs} that can be drawn on: TERM is '{kind}'").into());
    }
    let tty = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(File::from(tty))
}

fn look() -> Look {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default().to_lowercase();
    // no-color.org
    Look { colors: set("NO_COLOR").is_none(), unicode: locale.contains("utf-8") || locale.contains("utf8") }
}

/// The screen with all that feeds it.
struct Desktop<'a> {
    screen: Screen,
    session: Session<'a>,
    source: Source,
    /// What the model was read from, and when.
    stamp: Stamp,
    read: Instant,
    /// Why it could not be.
    fault: Option<String>,
}

impl<'a> Desktop<'a> {
    /// Until a key or a signal ends it; which signal.
    fn run(mut self, app: &mut App<'a>, keys: &mut [u8]) -> Result<Option<Signal>, Error> {
        let mut decoder = Decoder::default();
        loop {
            app.now = Timestamp::now();
            self.screen.draw(|frame| view::draw(frame, app))?;
            let (has_keys, has_signals) = self.wait(if decoder.waits() { ESCAPE } else { TICK })?;
            if has_signals && let Some(signal) = self.signals()? {
                return Ok(Some(signal));
            }
            let goes_on = match has_keys {
                true => self.keys(app, &mut decoder, keys)?,
                false => match decoder.silence() {
                    Some(key) => self.act(app, key)?,
                    None => Next::GoOn,
                },
            };
            if goes_on == Next::End {
                return Ok(None);
            }
            self.look_around(app);
        }
    }

    fn wait(&self, milliseconds: u16) -> Result<(bool, bool), Error> {
        let [tty, signals] = self.screen.sources();
        let mut sources = [PollFd::new(tty, PollFlags::POLLIN), PollFd::new(signals, PollFlags::POLLIN)];
        match poll(&mut sources, PollTimeout::from(milliseconds)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(std::io::Error::from(errno).into()),
        }
        let [tty, signals] = sources.map(|source| source.any().unwrap_or(false));
        Ok((tty, signals))
    }

    /// Follows the signals that came; the one that ends all.
    fn signals(&mut self) -> Result<Option<Signal>, Error> {
        while let Some(signal) = self.screen.signal()? {
            match signal {
                Signal::SIGTSTP => self.screen.suspend(false)?,
                Signal::SIGCONT => self.screen.resume()?,
                Signal::SIGWINCH => {}
                end => return Ok(Some(end)),
            }
        }
        Ok(None)
    }

    fn keys(&mut self, app: &mut App<'a>, decoder: &mut Decoder, bytes: &mut [u8]) -> Result<Next, Error> {
        let length = match self.screen.read(bytes) {
            Ok(0) => return Err("the terminal is gone".to_owned().into()),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(format!("the terminal is gone: {error}").into()),
        };
        let mut next = Next::GoOn;
        for &byte in bytes.get(..length).unwrap_or_default() {
            let mut pressed = Vec::new();
            decoder.take(byte, &mut |key| pressed.push(key));
            for key in pressed {
                next = self.act(app, key)?;
                if next != Next::GoOn {
                    break;
                }
            }
            if next != Next::GoOn {
                break;
            }
        }
        wipe(bytes);
        Ok(next)
    }

    fn act(&mut self, app: &mut App<'a>, key: Key) -> Result<Next, Error> {
        match app.update(key) {
            Effect::None => return Ok(Next::GoOn),
            Effect::Quit => return Ok(Next::End),
            Effect::Suspend => self.screen.suspend(true)?,
            Effect::Redraw => self.screen.redraw()?,
            Effect::Forget => {}
            Effect::Filter(text, filter) => {
                app.filtered();
                if let Err(error) = self.source.pick(&mut app.feed, text, *filter) {
                    app.message = error.to_string();
                }
                return Ok(Next::GoOn);
            }
            Effect::Do(task) => {
                let done = work::perform(&self.session, app, task);
                app.done(done.map_err(|error| error.to_string()));
            }
        }
        // What else was typed was not meant for what is asked now.
        self.screen.forget_keys();
        Ok(Next::Forget)
    }

    /// Reads on in the log, and the vault anew where something changed.
    fn look_around(&mut self, app: &mut App<'a>) {
        let read = self.source.read_on(&mut app.feed).map(|new| app.arrived(new));
        let stamp = Stamp::of(&self.session);
        let is_old = app.page == Page::Runs && self.read.elapsed() > PATIENCE;
        if is_old || stamp != self.stamp {
            // Noted first: what changes while it is read is read again.
            (self.stamp, self.read) = (stamp, Instant::now());
            self.fault = Model::read(&self.session).map(|model| app.show(model)).err().map(|error| error.to_string());
        }
        app.trouble = self.fault.clone().or_else(|| read.err().map(|error| error.to_string()));
    }
}

/// What follows a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    /// Without the keys that were typed ahead.
    Forget,
    End,
}
