//! Page 4: the runs, their agents and the versions that they hold.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;

use super::{age, dash, moment};
use crate::admin::process::pids;
use crate::admin::run::Shown;
use crate::admin::settings::app::App;
use crate::admin::settings::view::{Column, Row, put, table, with_details};

const COLUMNS: &[Column] = &[
    ("", Constraint::Length(1)),
    ("RUN", Constraint::Fill(3)),
    ("CHAIN", Constraint::Fill(2)),
    ("STARTED", Constraint::Length(13)),
    ("AGENTS", Constraint::Length(8)),
    ("HOLDS", Constraint::Fill(2)),
];

/// Draws it.
pub(in super::super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &mut App<'_>) {
    let [_, _, _, mut place, _] = app.places;
    let runs = &app.model.runs;
    place.fit(runs.len(), 1);
    let lines = match runs.get(place.row) {
        Some(run) => details(run, usize::from(area.width.saturating_sub(2))),
        None => vec![String::new(); 4],
    };
    let above = with_details(frame, area, app.look, &lines);
    let [_, _, _, mut place, _] = app.places;
    table(frame, above, COLUMNS, runs.len(), &mut place, |at| match runs.get(at) {
        Some(run) => row(run, app),
        None => Row { cells: Vec::new(), style: Style::new() },
    });
    if runs.is_empty() {
        put(frame, above, 2, 3, "no runs", Style::new());
    }
    let [_, _, _, kept, _] = &mut app.places;
    *kept = place;
}

fn row(run: &Shown, app: &App<'_>) -> Row {
    let damaged = run.state == "damaged";
    let cells = vec![
        if damaged { "!".into() } else { String::new() },
        run.run.clone(),
        dash(run.chain.clone()),
        run.started.as_ref().map_or_else(|| "-".into(), |time| age(time, app.now)),
        match run.running.len() {
            0 => "-".into(),
            alive => format!("{alive} alive"),
        },
        if damaged { "DAMAGED".into() } else { holds(run) },
    ];
    Row { cells, style: if damaged { app.look.alarm() } else { Style::new() } }
}

fn holds(run: &Shown) -> String {
    run.versions.iter().map(|(name, version)| format!("{name}:{version}")).collect::<Vec<_>>().join(" ")
}

fn details(run: &Shown, width: usize) -> Vec<String> {
    let last = run.last_access.as_ref().map_or_else(|| "never".into(), |time| format!("{} UTC", moment(time)));
    let holds: Vec<char> = format!("holds: {}", holds(run)).chars().collect();
    let mut lines = vec![
        format!("run {} ({})", run.run, run.state),
        format!("last access: {last}   agents: {}", pids(&run.running)),
    ];
    lines.extend(holds.chunks(width.max(1)).take(2).map(|line| line.iter().collect()));
    lines.resize(4, String::new());
    lines
}
