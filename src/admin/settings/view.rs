//! Drawing: the frame around the pages, tables, questions. Every text is escaped here: names come
//! from files that somebody may have tampered with.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use super::app::{App, Look, Page, Place};
use super::dialog::{Content, Dialog};
use super::pages;
use crate::text::printable;

/// What the pages need; less is said and not drawn.
pub(super) const SMALLEST: (u16, u16) = (72, 20);

impl Look {
    pub(super) fn alarm(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colors { style.fg(Color::Red) } else { style }
    }

    pub(super) fn warning(self) -> Style {
        if self.colors { Style::new().fg(Color::Yellow) } else { Style::new() }
    }

    pub(super) fn good(self) -> Style {
        if self.colors { Style::new().fg(Color::Green) } else { Style::new() }
    }

    pub(super) fn line(self) -> &'static str {
        if self.unicode { "─" } else { "-" }
    }
}

pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const PICKED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Puts a text into a row of the area, cut where it does not fit.
pub(super) fn put(frame: &mut Frame<'_>, area: Rect, row: u16, column: u16, text: &str, style: Style) {
    if row >= area.height || column >= area.width {
        return;
    }
    let room = usize::from(area.width - column);
    frame.buffer_mut().set_string(area.x + column, area.y + row, cut(&printable(text), room), style);
}

/// The text in at most so many columns; `~` stands for what is left out.
pub(super) fn cut(text: &str, room: usize) -> String {
    if Span::raw(text).width() <= room {
        return text.to_owned();
    }
    let (mut shown, mut width) = (String::new(), 1);
    for c in text.chars() {
        width += Span::raw(c.to_string()).width();
        if width > room {
            break;
        }
        shown.push(c);
    }
    if room > 0 {
        shown.push('~');
    }
    shown
}

fn rule(frame: &mut Frame<'_>, area: Rect, row: u16, look: Look) {
    put(frame, area, row, 0, &look.line().repeat(area.width.into()), Style::new());
}

/// The whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App<'_>) {
    let area = frame.area();
    let (width, height) = SMALLEST;
    if area.width < width || area.height < height {
        let text = format!("too small: {}x{}", area.width, area.height);
        put(frame, area, 0, 0, &text, BOLD);
        put(frame, area, 1, 0, &format!("{width}x{height} is needed; q quits"), Style::new());
        return;
    }
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(3)]).areas(area);
    header(frame, head, app);
    match app.page {
        Page::Secrets => pages::secrets::draw(frame, body, app),
        Page::Log => pages::log::draw(frame, body, app),
        Page::Chains => pages::chains::draw(frame, body, app),
        Page::Runs => pages::runs::draw(frame, body, app),
        Page::Rotation => pages::rotation::draw(frame, body, app),
    }
    footer(frame, foot, app);
    if let Some(dialog) = &app.dialog {
        question(frame, area, app, dialog);
    }
}

fn header(frame: &mut Frame<'_>, area: Rect, app: &App<'_>) {
    let mut column = 0;
    for (number, page) in (1u16..).zip(Page::ALL) {
        let tab = format!(" {number} {} ", page.name());
        put(frame, area, 0, column, &tab, if page == app.page { PICKED.patch(BOLD) } else { Style::new() });
        column += u16::try_from(tab.len()).unwrap_or(0);
    }
    let room = usize::from(area.width.saturating_sub(column + 2));
    let place = cut(&printable(&app.instance), room);
    let width = u16::try_from(Span::raw(&place).width()).unwrap_or(0);
    put(frame, area, 0, area.width.saturating_sub(width + 1), &place, Style::new());
    rule(frame, area, 1, app.look);
}

fn footer(frame: &mut Frame<'_>, area: Rect, app: &App<'_>) {
    rule(frame, area, 0, app.look);
    let area = Rect { width: area.width - 1, ..area };
    match &app.trouble {
        Some(trouble) => put(frame, area, 1, 1, &format!("! {trouble}"), app.look.alarm()),
        None => put(frame, area, 1, 1, &app.message, Style::new()),
    }
    let keys = match app.page {
        Page::Secrets | Page::Rotation => "a add  r rotate  s scope  p period  x revoke  ? all keys  q quit",
        Page::Log => "/ filter  d denials  a add  ? all keys  q quit",
        Page::Chains => "Up Down chains  Left Right agents  a add  ? all keys  q quit",
        Page::Runs => "a add  ? all keys  q quit",
    };
    put(frame, area, 2, 1, keys, BOLD);
}

/// A column of a table: its heading, and how wide it may be.
pub(super) type Column = (&'static str, Constraint);

/// A row, with the style that makes it stand out.
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) style: Style,
}

/// A table of which one row is picked. Only rows in sight are made.
pub(super) fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    columns: &[Column],
    count: usize,
    place: &mut Place,
    row: impl Fn(usize) -> Row,
) {
    let height = area.height.saturating_sub(1);
    place.fit(count, height.into());
    let widths = Layout::horizontal(columns.iter().map(|(_, width)| *width)).spacing(1).split(Rect {
        x: 0,
        width: area.width.saturating_sub(2),
        ..area
    });
    let mut line = |at: u16, cells: &[&str], style: Style| {
        for (text, column) in cells.iter().zip(widths.iter()) {
            let cell = cut(&printable(text), column.width.into());
            put(frame, area, at, column.x + 1, &cell, style);
        }
        if style.add_modifier.contains(Modifier::REVERSED) {
            let whole = Rect { y: area.y + at, height: 1, ..area };
            frame.buffer_mut().set_style(whole, style);
        }
    };
    line(0, &columns.iter().map(|(heading, _)| *heading).collect::<Vec<_>>(), BOLD);
    for (at, number) in (1..=height).zip(place.top..count) {
        let Row { cells, style } = row(number);
        let style = if number == place.row { style.patch(PICKED) } else { style };
        line(at, &cells.iter().map(String::as_str).collect::<Vec<_>>(), style);
    }
}

/// A page's table above, lines about the picked row below.
pub(super) fn with_details(frame: &mut Frame<'_>, area: Rect, look: Look, lines: &[String]) -> Rect {
    let below = u16::try_from(lines.len()).unwrap_or(0) + 1;
    let [above, details] = Layout::vertical([Constraint::Fill(1), Constraint::Length(below)]).areas(area);
    rule(frame, details, 0, look);
    let details = Rect { width: details.width - 1, ..details };
    for (row, line) in (1..).zip(lines) {
        put(frame, details, row, 1, line, Style::new());
    }
    above
}

fn question(frame: &mut Frame<'_>, area: Rect, app: &App<'_>, dialog: &Dialog) {
    let lines = dialog.lines();
    let wanted = lines.len() + 2 * dialog.fields.len() + 5;
    let width = area.width.min(SMALLEST.0.max(area.width / 2)) - 2;
    let height = u16::try_from(wanted).unwrap_or(u16::MAX).min(area.height - 2);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(ratatui::widgets::Clear, place);
    border(frame, place, app.look, &dialog.title());
    let inside = Rect { x: place.x + 2, y: place.y + 1, width: width - 4, height: height - 2 };
    let room = usize::from(inside.height.saturating_sub(1)).saturating_sub(2 * dialog.fields.len() + 1);
    let top = dialog.offset.min(lines.len().saturating_sub(room));
    for (row, line) in (0u16..).zip(lines.iter().skip(top).take(room)) {
        put(frame, inside, row, 0, line, Style::new());
    }
    let mut row = u16::try_from(lines.len().min(room)).unwrap_or(0);
    for (number, field) in dialog.fields.iter().enumerate() {
        row += 1;
        let style = if number == dialog.at { BOLD } else { Style::new() };
        put(frame, inside, row, 0, if number == dialog.at { ">" } else { " " }, style);
        put(frame, inside, row, 2, field.label, style);
        put(frame, inside, row, 14, &shown(app, &field.content, number == dialog.at), style);
        row += 1;
        let hint = if number == dialog.at { field.hint } else { "" };
        put(frame, inside, row, 14, hint, Style::new().add_modifier(Modifier::DIM));
    }
    let last = inside.height - 1;
    match &dialog.fault {
        Some(fault) => put(frame, inside, last.saturating_sub(1), 0, &format!("! {fault}"), app.look.alarm()),
        None if lines.len() > room => put(frame, inside, last.saturating_sub(1), 0, "Up and Down: more", BOLD),
        None => {}
    }
    let keys = if dialog.fields.is_empty() { "Enter closes" } else { "Enter goes on   Tab moves   Esc cancels" };
    put(frame, inside, last, 0, keys, BOLD);
}

/// What of a field is in sight. Of a value, whether there is one.
fn shown(app: &App<'_>, content: &Content, active: bool) -> String {
    let line = match content {
        Content::Text(text) => {
            let room = 46;
            let from = text.len().saturating_sub(room);
            return format!("{}{}", text.get(from..).unwrap_or_default(), if active { "_" } else { "" });
        }
        Content::Value => &app.desk.first,
        Content::ValueAgain => &app.desk.again,
    };
    match (line.is_empty(), active) {
        (false, _) => "(hidden)".into(),
        (true, true) => "_".into(),
        (true, false) => String::new(),
    }
}

fn border(frame: &mut Frame<'_>, area: Rect, look: Look, title: &str) {
    let ascii = ["+", "+", "+", "+", "-", "|"];
    let [top_left, top_right, bottom_left, bottom_right, line, side] =
        if look.unicode { ["┌", "┐", "└", "┘", "─", "│"] } else { ascii };
    let middle = line.repeat(usize::from(area.width - 2));
    put(frame, area, 0, 0, &format!("{top_left}{middle}{top_right}"), Style::new());
    put(frame, area, area.height - 1, 0, &format!("{bottom_left}{middle}{bottom_right}"), Style::new());
    for row in 1..area.height - 1 {
        put(frame, area, row, 0, side, Style::new());
        put(frame, area, row, area.width - 1, side, Style::new());
    }
    let title = cut(&printable(title), usize::from(area.width - 6));
    put(frame, area, 0, 2, &format!(" {title} "), BOLD);
}
