//! Page 2: the access log, newest first, as it grows.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;

use super::{age, dash, moment};
use crate::admin::settings::app::App;
use crate::admin::settings::view::{BOLD, Column, Row, put, table, with_details};
use crate::audit::Record;

const COLUMNS: &[Column] = &[
    ("", Constraint::Length(1)),
    ("TIME (UTC)", Constraint::Length(14)),
    ("OUTCOME", Constraint::Length(7)),
    ("EVENT", Constraint::Length(11)),
    ("CHAIN", Constraint::Fill(2)),
    ("AGENT", Constraint::Fill(2)),
    ("SECRET", Constraint::Fill(3)),
];

/// Draws it.
pub(in super::super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &mut App<'_>) {
    let [_, mut place, ..] = app.places;
    let count = app.feed.len();
    place.fit(count, 1);
    let lines = match app.feed.record(place.row) {
        Some(record) => details(&record, app),
        None => vec![String::new(); 4],
    };
    let filter = match app.feed.filter.as_str() {
        "" => format!("{} records, live", app.feed.count),
        filter => format!("{} records with: {filter} (live; d or / changes it)", app.feed.count),
    };
    put(frame, area, 0, 1, &filter, BOLD);
    let area = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let above = with_details(frame, area, app.look, &lines);
    let [_, mut place, ..] = app.places;
    table(frame, above, COLUMNS, count, &mut place, |at| match app.feed.record(at) {
        Some(record) => row(&record, app),
        None => Row { cells: Vec::new(), style: Style::new() },
    });
    let [_, log, ..] = &mut app.places;
    *log = place;
}

fn is_alarm(record: &Record) -> bool {
    matches!(record.outcome.as_str(), "denied" | "failed")
}

fn row(record: &Record, app: &App<'_>) -> Row {
    let alarm = is_alarm(record);
    let cells = vec![
        if alarm { "!".into() } else { String::new() },
        moment(&record.time).get(5..).unwrap_or_default().to_owned(),
        if alarm { record.outcome.to_uppercase() } else { record.outcome.clone() },
        record.event.strip_prefix("secret.").unwrap_or(&record.event).to_owned(),
        dash(record.chain.clone()),
        dash(record.agent.clone()),
        dash(record.secret.clone()),
    ];
    Row { cells, style: if alarm { app.look.alarm() } else { Style::new() } }
}

fn details(record: &Record, app: &App<'_>) -> Vec<String> {
    let version = record.version.map_or_else(String::new, |version| format!("   version {version}"));
    vec![
        format!("{} UTC, {}   record {}{version}", moment(&record.time), age(&record.time, app.now), record.seq),
        format!("reason: {}", dash(record.reason.clone())),
        format!("run: {}", dash(record.run.clone())),
        format!(
            "command: {}   host: {}   uid: {}   pid: {}   fence: {}",
            dash(record.command.clone()),
            record.host,
            record.uid,
            record.pid,
            dash(record.fence.clone())
        ),
    ]
}
