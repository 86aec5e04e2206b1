//! Page 3: which agent of a chain gets which secret.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};

use crate::admin::settings::app::{App, Look, Place};
use crate::admin::settings::model::{Cell, Chain};
use crate::admin::settings::view::{BOLD, Column, Row, cut, put, table};

const COLUMNS: &[Column] = &[("", Constraint::Length(1)), ("CHAIN", Constraint::Fill(1))];
/// How wide an agent's column is at most.
const WIDEST: usize = 20;

/// Draws it.
pub(in super::super) fn draw(frame: &mut Frame<'_>, area: Rect, app: &mut App<'_>) {
    let [left, right] = Layout::horizontal([Constraint::Max(24), Constraint::Fill(1)]).areas(area);
    let [_, _, mut place, ..] = app.places;
    let chains = &app.model.chains;
    table(frame, left, COLUMNS, chains.len(), &mut place, |at| match chains.get(at) {
        Some(chain) if is_faulty(chain) => Row { cells: vec!["!".into(), chain.name.clone()], style: app.look.alarm() },
        Some(chain) => Row { cells: vec![String::new(), chain.name.clone()], style: Style::new() },
        None => Row { cells: Vec::new(), style: Style::new() },
    });
    match chains.get(place.row) {
        None => put(frame, area, 2, 3, "no chains yet; define one in chains/NAME.json", Style::new()),
        Some(chain) => {
            place.left = place.left.min(chain.agents.len().saturating_sub(1));
            place.down = place.down.min(chain.rows.len().saturating_sub(1));
            matrix(frame, right, app.look, chain, place);
        }
    }
    let [_, _, kept, ..] = &mut app.places;
    *kept = place;
}

fn is_faulty(chain: &Chain) -> bool {
    let denied = |cell: &Cell| matches!(cell, Cell::Denied(_));
    chain.fault.is_some() || chain.rows.iter().any(|(_, cells)| cells.iter().any(denied))
}

fn matrix(frame: &mut Frame<'_>, area: Rect, look: Look, chain: &Chain, place: Place) {
    if let Some(fault) = &chain.fault {
        put(frame, area, 0, 0, "This definition grants nothing:", BOLD);
        let width = usize::from(area.width).max(1);
        let text: Vec<char> = crate::text::printable(fault).chars().collect();
        for (row, line) in (1..).zip(text.chunks(width)) {
            put(frame, area, row, 0, &line.iter().collect::<String>(), look.alarm());
        }
        return;
    }
    let longest = chain.rows.iter().map(|(secret, _)| secret.len()).max().unwrap_or(0).max(6);
    let names = longest.min(usize::from(area.width / 2));
    let mut column = as_column(names + 1);
    put(frame, area, 0, 0, "SECRET", BOLD);
    let rows = chain.rows.get(place.down..).unwrap_or_default();
    for (row, (secret, _)) in (1..).zip(rows) {
        put(frame, area, row, 0, &cut(secret, names), Style::new());
    }
    for (at, agent) in chain.agents.iter().enumerate().skip(place.left) {
        let cells: Vec<(String, Style)> =
            rows.iter().map(|(secret, cells)| cell(cells.get(at), secret, look)).collect();
        let width = cells.iter().map(|(text, _)| text.len()).max().unwrap_or(0).max(agent.len()).min(WIDEST);
        if usize::from(area.width.saturating_sub(column)) < width.min(8) {
            put(frame, area, 0, area.width - 1, ">", BOLD);
            break;
        }
        put(frame, area, 0, column, &cut(agent, width), BOLD);
        for (row, (text, style)) in (1..).zip(&cells) {
            put(frame, area, row, column, &cut(text, width), *style);
        }
        column += as_column(width + 2);
    }
    let hidden = rows.len().saturating_sub(usize::from(area.height) - 1);
    if hidden > 0 {
        let last = area.height - 1;
        put(frame, area, last, 0, &cut(&format!("PageDown: {} more", hidden + 1), area.width.into()), BOLD);
    }
    if place.left > 0 {
        put(frame, area, 0, as_column(names), "<", BOLD);
    }
}

fn as_column(width: usize) -> u16 {
    u16::try_from(width).unwrap_or(u16::MAX)
}

fn cell(cell: Option<&Cell>, secret: &str, look: Look) -> (String, Style) {
    match cell {
        None | Some(Cell::Nothing) => ("-".into(), Style::new().add_modifier(Modifier::DIM)),
        Some(Cell::Granted(variables)) => {
            let named: Vec<&str> = variables.iter().map(String::as_str).filter(|name| *name != secret).collect();
            (if named.is_empty() { "yes".into() } else { format!("as {}", named.join(", ")) }, look.good())
        }
        Some(Cell::Denied(reason)) => (format!("NO {}", reason.trim_start_matches("denied: ")), look.alarm()),
    }
}
