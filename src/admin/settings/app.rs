//! The state of the screen: keys change it, and say what is to be done. It knows no file.

use jiff::Timestamp;

use super::desk::Desk;
use super::dialog::Dialog;
use super::feed::Feed;
use super::input::Key;
use super::model::Model;
use crate::admin::schedule::Schedule;
use crate::admin::secret::Metadata;
use crate::audit::Filter;
use crate::policy::{Scope, SecretName};
use crate::vault::Record;

/// The pages, in the order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Secrets,
    Log,
    Chains,
    Runs,
    Rotation,
}

impl Page {
    pub(super) const ALL: [Self; 5] = [Self::Secrets, Self::Log, Self::Chains, Self::Runs, Self::Rotation];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Secrets => "Secrets",
            Self::Log => "Access log",
            Self::Chains => "Chains",
            Self::Runs => "Runs",
            Self::Rotation => "Rotation",
        }
    }

    fn beside(self, step: isize) -> Self {
        let at = Self::ALL.iter().position(|page| *page == self).unwrap_or(0);
        let count = Self::ALL.len();
        Self::ALL.get((at + count).saturating_add_signed(step) % count).copied().unwrap_or(self)
    }
}

/// How the terminal may be drawn on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colors: bool,
    /// Whether it knows more than ASCII.
    pub(super) unicode: bool,
}

/// Which row of a page is picked, and which is the first in sight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) row: usize,
    pub(super) top: usize,
    /// Columns to the left and rows above of a chain's matrix that are out of sight.
    pub(super) left: usize,
    pub(super) down: usize,
    /// How many rows the page had in sight.
    pub(super) height: usize,
}

impl Place {
    /// Follows the rows, of which there are so many.
    pub(super) fn fit(&mut self, rows: usize, height: usize) {
        self.height = height.max(1);
        self.row = self.row.min(rows.saturating_sub(1));
        self.top = self.top.min(self.row).max((self.row + 1).saturating_sub(self.height));
        self.top = self.top.min(rows.saturating_sub(self.height));
    }
}

/// What a key asks for.
pub(super) enum Effect {
    None,
    Quit,
    /// Ctrl-Z.
    Suspend,
    Redraw,
    /// What else was typed is not to be taken for keys.
    Forget,
    Filter(String, Box<Filter>),
    Do(Task),
}

/// A change of the vault. A value lies on the desk.
pub(super) enum Task {
    Add(SecretName, Metadata),
    Rotate(SecretName),
    Scope(SecretName, Scope),
    Schedule(SecretName, Schedule),
    /// With SIGTERM to its agents, or without.
    Revoke(SecretName, bool),
}

/// What came of a task.
pub(super) struct Done {
    pub(super) message: String,
    /// A title and lines that are worth a look of their own.
    pub(super) report: Option<(String, Vec<String>)>,
}

/// The whole screen.
pub(super) struct App<'a> {
    pub(super) look: Look,
    pub(super) instance: String,
    pub(super) now: Timestamp,
    pub(super) model: Model,
    pub(super) feed: Feed,
    pub(super) page: Page,
    pub(super) places: [Place; Page::ALL.len()],
    pub(super) dialog: Option<Dialog>,
    pub(super) desk: Desk<'a>,
    /// The last thing that was done, or went wrong.
    pub(super) message: String,
    /// What can't be read now.
    pub(super) trouble: Option<String>,
}

impl<'a> App<'a> {
    pub(super) fn new(look: Look, instance: String, desk: Desk<'a>) -> Self {
        Self {
            look,
            instance,
            now: Timestamp::now(),
            model: Model::default(),
            feed: Feed::default(),
            page: Page::Secrets,
            places: [Place::default(); Page::ALL.len()],
            dialog: None,
            desk,
            message: String::new(),
            trouble: None,
        }
    }

    pub(super) fn update(&mut self, key: Key) -> Effect {
        match key {
            Key::Control(b'z') => return Effect::Suspend,
            Key::Control(b'l') => return Effect::Redraw,
            _ => {}
        }
        match &mut self.dialog {
            None => self.page_key(key),
            Some(dialog) => match dialog.update(key, &mut self.desk, &self.model, self.now) {
                Some(effect) => {
                    if matches!(effect, Effect::Filter(..)) {
                        self.close();
                    }
                    effect
                }
                None => {
                    self.close();
                    Effect::None
                }
            },
        }
    }

    fn close(&mut self) {
        self.desk.clear();
        self.dialog = None;
    }

    fn page_key(&mut self, key: Key) -> Effect {
        let height = self.place().height.max(1);
        match key {
            Key::Text(b'q') | Key::Control(b'c') => return Effect::Quit,
            Key::Text(digit @ b'1'..=b'5') => {
                self.page = Page::ALL.get(usize::from(digit - b'1')).copied().unwrap_or(self.page);
            }
            Key::Tab => self.page = self.page.beside(1),
            Key::BackTab => self.page = self.page.beside(-1),
            Key::Up | Key::Text(b'k') => self.move_by(-1),
            Key::Down | Key::Text(b'j') => self.move_by(1),
            Key::PageUp if self.page == Page::Chains => self.place().down = self.place().down.saturating_sub(height),
            Key::PageDown if self.page == Page::Chains => self.place().down = self.place().down.saturating_add(height),
            Key::PageUp => self.move_by(-height.cast_signed()),
            Key::PageDown => self.move_by(height.cast_signed()),
            Key::Home => self.move_by(isize::MIN),
            Key::End => self.move_by(isize::MAX),
            Key::Left => self.place().left = self.place().left.saturating_sub(1),
            Key::Right => self.place().left = self.place().left.saturating_add(1),
            Key::Text(b'?') => self.dialog = Some(Dialog::text("Keys", HELP.iter().map(ToString::to_string).collect())),
            Key::Text(b'/') => {
                self.page = Page::Log;
                self.dialog = Some(Dialog::filter(&self.feed.filter));
            }
            Key::Text(b'd') if self.page == Page::Log => return self.denials(),
            Key::Text(b'a') => self.dialog = Some(Dialog::add()),
            Key::Text(letter @ (b'r' | b's' | b'p' | b'x')) => self.ask_about_picked(letter),
            _ => {}
        }
        Effect::None
    }

    pub(super) fn place(&mut self) -> &mut Place {
        let [secrets, log, chains, runs, rotation] = &mut self.places;
        match self.page {
            Page::Secrets => secrets,
            Page::Log => log,
            Page::Chains => chains,
            Page::Runs => runs,
            Page::Rotation => rotation,
        }
    }

    fn move_by(&mut self, rows: isize) {
        let last = self.count().saturating_sub(1);
        let place = self.place();
        place.row = place.row.saturating_add_signed(rows).min(last);
        (place.left, place.down) = (0, 0);
    }

    /// How many rows the page has.
    fn count(&self) -> usize {
        match self.page {
            Page::Secrets | Page::Rotation => self.model.secrets.len(),
            Page::Log => self.feed.len(),
            Page::Chains => self.model.chains.len(),
            Page::Runs => self.model.runs.len(),
        }
    }

    /// Shows what was read anew; the same secret stays picked.
    pub(super) fn show(&mut self, model: Model) {
        let [secrets, ..] = &self.places;
        let picked = self.model.secrets.get(secrets.row).map(|record| record.name.clone());
        self.model = model;
        if let Some(name) = picked {
            self.pick(&name);
        }
    }

    fn pick(&mut self, name: &SecretName) {
        let [secrets, ..] = &mut self.places;
        if let Some(row) = self.model.secrets.iter().position(|record| record.name == *name) {
            secrets.row = row;
        }
    }

    /// Shows what fits another filter, from the newest on.
    pub(super) fn filtered(&mut self) {
        let [_, log, ..] = &mut self.places;
        *log = Place::default();
    }

    /// All records, or denials alone.
    fn denials(&mut self) -> Effect {
        let text = if self.feed.filter == "denied" { "" } else { "denied" };
        match super::feed::filter_of(text, self.now) {
            Ok(filter) => Effect::Filter(text.to_owned(), Box::new(filter)),
            Err(_) => Effect::None,
        }
    }

    fn ask_about_picked(&mut self, letter: u8) {
        let dialog = self.picked().map(|record| match letter {
            b'r' => Dialog::rotate(record),
            b's' => Dialog::scope(record),
            b'p' => Dialog::schedule(record),
            _ => Dialog::revoke(record),
        });
        match dialog {
            Some(dialog) => self.dialog = Some(dialog),
            None => self.message = "pick a secret on page 1 or 5 first".into(),
        }
    }

    /// The secret that the keys r, s, p and x are about.
    pub(super) fn picked(&self) -> Option<&Record> {
        let [secrets, .., rotation] = &self.places;
        match self.page {
            Page::Secrets => self.model.secrets.get(secrets.row),
            Page::Rotation => super::pages::rotation::sorted(self).get(rotation.row).map(|(record, _)| *record),
            Page::Log | Page::Chains | Page::Runs => None,
        }
    }

    /// Takes what came of a task; its dialog goes on where it failed.
    pub(super) fn done(&mut self, done: Result<Done, String>) {
        match (done, &mut self.dialog) {
            (Ok(done), _) => {
                self.close();
                self.message = done.message;
                self.dialog = done.report.map(|(title, lines)| Dialog::text(&title, lines));
            }
            (Err(fault), Some(dialog)) => dialog.refuse("", fault, &mut self.desk),
            (Err(fault), None) => self.message = fault,
        }
    }

    /// So many records came in: whoever looks at one goes on looking at it.
    pub(super) fn arrived(&mut self, records: usize) {
        let [_, log, ..] = &mut self.places;
        if log.row > 0 {
            log.row += records;
            log.top += records;
        }
    }
}

const HELP: &[&str] = &[
    "1 2 3 4 5, Tab   secrets, access log, chains, runs, rotation",
    "Up Down, j k     pick a row; also PageUp, PageDown, Home, End",
    "Left Right       chains: more agents; PageDown, PageUp: more secrets",
    "a                add a secret",
    "r                rotate the picked secret: store a new value",
    "s                its scope: the chains that may use it at all",
    "p                its period: how often it is to be rotated",
    "x                revoke all its versions at once",
    "/                filter the access log",
    "d                access log: denials alone, or all again",
    "Ctrl-L           draw anew",
    "Ctrl-Z           suspend; fg comes back",
    "q, Ctrl-C        quit; a question is cancelled by Esc or Ctrl-C",
    "",
    "In a question Enter goes on, Tab moves, Ctrl-U empties a line.",
    "Values are typed or pasted unseen, into locked memory.",
];
