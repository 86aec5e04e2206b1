//! Questions that stand in front of a page.

use jiff::Timestamp;

use super::app::{Effect, Task};
use super::desk::{Desk, Line};
use super::feed::filter_of;
use super::input::Key;
use super::model::Model;
use crate::admin::schedule::Schedule;
use crate::admin::secret::{Metadata, refuse_reserved};
use crate::policy::{InvalidName, Scope, SecretName};
use crate::vault::Record;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Add,
    Rotate(SecretName),
    Scope(SecretName),
    Schedule(SecretName),
    Revoke(SecretName),
    Filter,
    /// Only read.
    Text(String, Vec<String>),
}

/// A question with its fields.
pub(super) struct Dialog {
    pub(super) kind: Kind,
    pub(super) fields: Vec<Field>,
    /// The field that keys go to.
    pub(super) at: usize,
    /// What was wrong with the last answer.
    pub(super) fault: Option<String>,
    /// How far a text is scrolled.
    pub(super) offset: usize,
}

/// One line to fill in.
pub(super) struct Field {
    pub(super) label: &'static str,
    pub(super) content: Content,
    pub(super) hint: &'static str,
}

/// What a field holds.
pub(super) enum Content {
    Text(String),
    /// It lies in the arena.
    Value,
    ValueAgain,
}

/// The longest line of text: more than any name has.
const LONGEST: usize = 1024;

const VALUE: &str = "not shown; Enter when done";

impl Dialog {
    fn with(kind: Kind, fields: Vec<Field>) -> Self {
        Self { kind, fields, at: 0, fault: None, offset: 0 }
    }

    pub(super) fn add() -> Self {
        let mut fields = vec![
            text("Name", "", "letters, digits and . _ - /"),
            text("Scope", "all", "all, or chains with commas between"),
            text("Rotate", "none", PERIODS),
        ];
        fields.extend(value());
        Self::with(Kind::Add, fields)
    }

    pub(super) fn rotate(record: &Record) -> Self {
        Self::with(Kind::Rotate(record.name.clone()), value().into())
    }

    pub(super) fn scope(record: &Record) -> Self {
        let scope = text("Scope", &record.scope.to_string(), "all, or chains with commas between");
        Self::with(Kind::Scope(record.name.clone()), vec![scope])
    }

    pub(super) fn schedule(record: &Record) -> Self {
        let period = text("Rotate", &Schedule(record.rotation).to_string(), PERIODS);
        Self::with(Kind::Schedule(record.name.clone()), vec![period])
    }

    pub(super) fn revoke(record: &Record) -> Self {
        let fields = vec![
            text("Its name", "", "type it, to revoke"),
            text("Stop agents", "no", "yes: SIGTERM to those that still run"),
        ];
        Self::with(Kind::Revoke(record.name.clone()), fields)
    }

    pub(super) fn filter(now: &str) -> Self {
        let hint = "denied  secret=S  chain=C  agent=A  run=R  event=E  since=2h";
        Self::with(Kind::Filter, vec![text("Filter", now, hint)])
    }

    pub(super) fn text(title: &str, lines: Vec<String>) -> Self {
        Self::with(Kind::Text(title.to_owned(), lines), Vec::new())
    }

    pub(super) fn title(&self) -> String {
        match &self.kind {
            Kind::Add => "Add a secret".into(),
            Kind::Rotate(name) => format!("Rotate {name}"),
            Kind::Scope(name) => format!("Scope of {name}"),
            Kind::Schedule(name) => format!("Schedule of {name}"),
            Kind::Revoke(name) => format!("Revoke {name}"),
            Kind::Filter => "Filter the log".into(),
            Kind::Text(title, _) => title.clone(),
        }
    }

    /// What it is about, in lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines: &[&str] = match &self.kind {
            Kind::Add => &["The value is typed or pasted twice; it goes to locked memory and is never shown."],
            Kind::Rotate(_) => &[
                "The new value is typed or pasted twice; it is never shown.",
                "New runs get it; runs that hold an older one keep that.",
            ],
            Kind::Revoke(_) => &[
                "All its versions are revoked and wiped at once; it can't be undone.",
                "Launches that need it are refused until a new value is stored.",
            ],
            Kind::Text(_, lines) => return lines.clone(),
            Kind::Scope(_) | Kind::Schedule(_) | Kind::Filter => &[],
        };
        lines.iter().map(ToString::to_string).collect()
    }

    fn at(&self, label: &str) -> &str {
        self.fields
            .iter()
            .find_map(|field| match &field.content {
                Content::Text(text) if field.label == label => Some(text.trim()),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// Takes a key; `None` closes it.
    pub(super) fn update(&mut self, key: Key, desk: &mut Desk<'_>, model: &Model, now: Timestamp) -> Option<Effect> {
        match key {
            Key::Escape | Key::Control(b'c') => return None,
            Key::Enter | Key::Text(b'q') if self.fields.is_empty() => return None,
            Key::Up if self.fields.is_empty() => self.offset = self.offset.saturating_sub(1),
            Key::Down if self.fields.is_empty() => self.offset = (self.offset + 1).min(self.lines().len()),
            Key::Enter if self.at + 1 < self.fields.len() => self.at += 1,
            Key::Enter => return Some(self.submitted(desk, model, now)),
            Key::Tab | Key::Down => self.at = (self.at + 1).min(self.fields.len().saturating_sub(1)),
            Key::BackTab | Key::Up => self.at = self.at.saturating_sub(1),
            _ => self.edit(key, desk),
        }
        Some(Effect::None)
    }

    fn edit(&mut self, key: Key, desk: &mut Desk<'_>) {
        let Some(field) = self.fields.get_mut(self.at) else { return };
        self.fault = None;
        match &mut field.content {
            Content::Text(text) => match key {
                Key::Text(byte @ b' '..=b'~') | Key::Pasted(byte @ b' '..=b'~') if text.len() < LONGEST => {
                    text.push(char::from(byte));
                }
                Key::Backspace => drop(text.pop()),
                Key::Control(b'u') => text.clear(),
                _ => {}
            },
            Content::Value => type_into(&mut desk.first, key, &mut self.fault),
            Content::ValueAgain => type_into(&mut desk.again, key, &mut self.fault),
        }
    }

    fn submitted(&mut self, desk: &mut Desk<'_>, model: &Model, now: Timestamp) -> Effect {
        match self.effect(desk, model, now) {
            Ok(effect) => effect,
            Err((label, fault)) => {
                self.refuse(label, fault, desk);
                // What a paste with several lines left is no answer to this.
                Effect::Forget
            }
        }
    }

    /// Says what is wrong, at the field that it is about.
    pub(super) fn refuse(&mut self, label: &str, fault: String, desk: &mut Desk<'_>) {
        desk.clear();
        let value = || self.fields.iter().position(|field| matches!(field.content, Content::Value));
        self.at = self.fields.iter().position(|field| field.label == label).or_else(value).unwrap_or(0);
        self.fault = Some(fault);
    }

    fn effect(&self, desk: &mut Desk<'_>, model: &Model, now: Timestamp) -> Result<Effect, (&'static str, String)> {
        let scope = || self.at("Scope").parse::<Scope>().map_err(|error| ("Scope", error.to_string()));
        let schedule = || self.at("Rotate").parse::<Schedule>().map_err(|error| ("Rotate", error));
        Ok(Effect::Do(match &self.kind {
            Kind::Add => {
                let name = new_name(self.at("Name"), model).map_err(|fault| ("Name", fault))?;
                let metadata = Metadata { scope: Some(scope()?), rotate_every: Some(schedule()?), note: None };
                desk.value(name.as_str()).map_err(|error| ("Value", error.to_string()))?;
                Task::Add(name, metadata)
            }
            Kind::Rotate(name) => {
                desk.value(name.as_str()).map_err(|error| ("Value", error.to_string()))?;
                Task::Rotate(name.clone())
            }
            Kind::Scope(name) => Task::Scope(name.clone(), scope()?),
            Kind::Schedule(name) => Task::Schedule(name.clone(), schedule()?),
            Kind::Revoke(name) => {
                if self.at("Its name") != name.as_str() {
                    return Err(("Its name", "that is not its name; nothing was revoked".into()));
                }
                let terminate = match self.at("Stop agents") {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(("Stop agents", "say yes or no".into())),
                };
                Task::Revoke(name.clone(), terminate)
            }
            Kind::Filter => {
                let text = self.at("Filter");
                let filter = filter_of(text, now).map_err(|fault| ("Filter", fault))?;
                return Ok(Effect::Filter(text.to_owned(), Box::new(filter)));
            }
            Kind::Text(..) => return Ok(Effect::None),
        }))
    }
}

const PERIODS: &str = "30d, monthly, quarterly, yearly or none";

fn text(label: &'static str, text: &str, hint: &'static str) -> Field {
    Field { label, content: Content::Text(text.to_owned()), hint }
}

fn value() -> [Field; 2] {
    [
        Field { label: "Value", content: Content::Value, hint: VALUE },
        Field { label: "Again", content: Content::ValueAgain, hint: VALUE },
    ]
}

fn type_into(line: &mut Line<'_>, key: Key, fault: &mut Option<String>) {
    match key {
        Key::Text(byte) | Key::Pasted(byte) if !line.push(byte) => {
            *fault = Some("the value is too long; Ctrl-U empties the line".into());
        }
        Key::Backspace => line.backspace(),
        Key::Control(b'u') => line.clear(),
        _ => {}
    }
}

fn new_name(text: &str, model: &Model) -> Result<SecretName, String> {
    let name: SecretName = text.parse().map_err(|error: InvalidName| error.to_string())?;
    refuse_reserved(&name).map_err(|error| error.to_string())?;
    match model.secret(&name) {
        None => Ok(name),
        Some(_) => Err(format!("there is a secret '{name}' already; r rotates it")),
    }
}
