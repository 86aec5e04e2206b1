//! Page 1: every secret, who may use it, when it was used last, when it is due.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;

use super::{age, dash, moment};
use crate::admin::due::Due;
use crate::admin::schedule::{Schedule, date};
use crate::admin::settings::app::App;
use crate::admin::settings::view::{Column, Row, put, table, with_details};
use crate::vault::{Record, State};

const COLUMNS: &[Column] = &[
    ("", Constraint::Length(1)),
    ("SECRET", Constraint::Fill(3)),
    ("SCOPE", Constraint::Fill(2)),
    ("VERSION", Constraint::Length(7)),
    ("LAST ACCESS", Constraint::Length(11)),
    ("DUE", Constraint::Length(18)),
];

/// Draws it.
pub(in super::super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &mut App<'_>) {
    let [mut place, ..] = app.places;
    let count = app.model.secrets.len();
    place.fit(count, 1);
    let lines = match app.model.secrets.get(place.row) {
        Some(record) => details(record, app),
        None => vec![String::new(); 3],
    };
    let above = with_details(frame, area, app.look, &lines);
    let [mut place, ..] = app.places;
    table(frame, above, COLUMNS, count, &mut place, |at| match app.model.secrets.get(at) {
        Some(record) => row(record, app),
        None => Row { cells: Vec::new(), style: Style::new() },
    });
    if count == 0 {
        put(frame, above, 2, 3, "no secrets yet; a adds one", Style::new());
    }
    let [secrets, ..] = &mut app.places;
    *secrets = place;
}

fn row(record: &Record, app: &App<'_>) -> Row {
    let mark = mark(record, app.now);
    let last = app.feed.last_access.get(record.name.as_str());
    let cells = vec![
        if mark.is_empty() { String::new() } else { "!".into() },
        record.name.to_string(),
        record.scope.to_string(),
        dash(record.current().map(|version| version.number.to_string())),
        last.map_or_else(|| "never".into(), |time| age(time, app.now)),
        format!("{} {mark}", dash(record.due().map(date))).trim_end().to_owned(),
    ];
    Row { cells, style: if mark.is_empty() { Style::new() } else { app.look.alarm() } }
}

/// What is wrong with it, in a word.
fn mark(record: &Record, now: Timestamp) -> &'static str {
    match record.current() {
        None => "REVOKED",
        Some(_) if record.overdue_since(now).is_some() => "OVERDUE",
        Some(_) => "",
    }
}

fn details(record: &Record, app: &App<'_>) -> Vec<String> {
    let versions = record.versions.iter().map(|version| {
        let state = match version.state {
            State::Current => "current",
            State::Previous => "previous",
            State::Revoked => "revoked",
        };
        format!("{} {state}", version.number)
    });
    let due = Due::of(record, app.now, i32::MAX);
    let due = due.map_or_else(|| "not scheduled".into(), |due| due.state());
    let last = app.feed.last_access.get(record.name.as_str()).map(|time| moment(time));
    let note = if record.note.is_empty() { String::new() } else { format!("   note: {}", record.note) };
    vec![
        format!("{}   scope: {}{note}", record.name, record.scope),
        format!(
            "rotate: {}, {due}   last access: {}",
            Schedule(record.rotation),
            last.map_or_else(|| "never".into(), |time| format!("{time} UTC"))
        ),
        format!("versions: {}", versions.collect::<Vec<_>>().join(", ")),
    ]
}
