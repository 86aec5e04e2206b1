//! Page 5: what is due when, on a line of time.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;

use super::dash;
use crate::admin::due::Due;
use crate::admin::schedule::{Schedule, date};
use crate::admin::settings::app::App;
use crate::admin::settings::view::{BOLD, Column, Row, put, table};
use crate::vault::Record;

/// Days before today and after it that the line shows.
const BEFORE: i32 = 30;
const AFTER: i32 = 90;

/// Every secret, in the order in which they are due. First what has no version to use, last what
/// has no schedule.
pub(in super::super) fn sorted<'m>(app: &'m App<'_>) -> Vec<(&'m Record, Option<Due>)> {
    let of = |record: &'m Record| (record, Due::of(record, app.now, i32::MAX));
    let mut all: Vec<_> = app.model.secrets.iter().map(of).collect();
    let rank = |record: &Record, due: &Option<Due>| match due {
        Some(due) if due.days.is_none() => (0, Timestamp::MIN),
        Some(_) => (1, record.due().unwrap_or(Timestamp::MAX)),
        None => (2, Timestamp::MAX),
    };
    all.sort_by_key(|(record, due)| rank(record, due));
    all
}

/// Draws it.
pub(in super::super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &mut App<'_>) {
    let room = area.width.saturating_sub(76).min(60) + 20;
    // A narrow screen has no room for it; page 1 says it too.
    let rotate = if area.width < 100 { 0 } else { 9 };
    let columns: &[Column] = &[
        ("", Constraint::Length(1)),
        ("SECRET", Constraint::Fill(1)),
        ("ROTATE", Constraint::Length(rotate)),
        ("DUE", Constraint::Length(10)),
        ("STATE", Constraint::Length(18)),
        ("", Constraint::Length(room)),
    ];
    let (count, place) = {
        let rows = sorted(app);
        let [.., mut place] = app.places;
        table(frame, area, columns, rows.len(), &mut place, |at| match rows.get(at) {
            Some((record, due)) => row(record, due.as_ref(), app, room),
            None => Row { cells: Vec::new(), style: Style::new() },
        });
        (rows.len(), place)
    };
    put(frame, area, 0, area.width.saturating_sub(room + 1), &scale(room), BOLD);
    if count == 0 {
        put(frame, area, 2, 3, "no secrets yet; a adds one", Style::new());
    }
    let [.., kept] = &mut app.places;
    *kept = place;
}

fn row(record: &Record, due: Option<&Due>, app: &App<'_>, room: u16) -> Row {
    let overdue = due.is_some_and(|due| due.overdue);
    let soon = due.and_then(|due| due.days).is_some_and(|days| days <= 7);
    let cells = vec![
        if overdue { "!".into() } else { String::new() },
        record.name.to_string(),
        Schedule(record.rotation).to_string(),
        dash(record.due().map(date)),
        due.map_or_else(|| "not scheduled".into(), |due| due.state()),
        due.and_then(|due| due.days).map_or_else(String::new, |days| line(days, overdue, room)),
    ];
    let style = match (overdue, soon) {
        (true, _) => app.look.alarm(),
        (false, true) => app.look.warning(),
        (false, false) => Style::new(),
    };
    Row { cells, style }
}

fn column(days: i32, room: u16) -> usize {
    let days = usize::try_from(days.clamp(-BEFORE, AFTER) + BEFORE).unwrap_or(0);
    days * usize::from(room.saturating_sub(1)) / usize::try_from(BEFORE + AFTER).unwrap_or(1)
}

/// Today is `|`, the day that it is due `*` or, where it is past, `!`.
fn line(days: i32, overdue: bool, room: u16) -> String {
    let mut cells = vec!['.'; room.into()];
    for (days, mark) in [(0, '|'), (days, if overdue { '!' } else { '*' })] {
        if let Some(cell) = cells.get_mut(column(days, room)) {
            *cell = mark;
        }
    }
    cells.into_iter().collect()
}

fn scale(room: u16) -> String {
    let mut cells = vec![' '; room.into()];
    let end = usize::from(room).saturating_sub(4);
    for (at, label) in [(0, "-30d"), (column(0, room), "today"), (end, "+90d")] {
        for (place, c) in cells.iter_mut().skip(at).zip(label.chars()) {
            *place = c;
        }
    }
    cells.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_time_keeps_its_width() {
        for room in [20, 21, 40, 80] {
            assert_eq!(scale(room).len(), usize::from(room));
            for days in [i32::MIN, -31, -30, -1, 0, 1, 89, 90, 91, i32::MAX] {
                assert_eq!(line(days, days < 0, room).len(), usize::from(room), "{days}");
            }
        }
        assert_eq!(line(-40, true, 20), "!...|...............");
        assert_eq!(line(0, false, 20), "....*...............");
        assert_eq!(line(45, false, 20), "....|......*........");
        assert_eq!(line(200, false, 20), "....|..............*");
        assert_eq!(scale(20), "-30dtoday       +90d");
    }
}
