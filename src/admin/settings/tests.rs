//! The screen without a terminal: what keys do, and what is drawn.

use jiff::{Timestamp, ToSpan};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::app::{App, Done, Effect, Look, Page, Task};
use super::desk::Desk;
use super::input::Key;
use super::model::{Cell, Chain, Model};
use super::view;
use crate::admin::run::Shown;
use crate::memory::Arena;
use crate::vault::{Record, Rotation, Sealed, State, Vault, Version};

const NOW: &str = "2026-03-07T12:00:00Z";
const LONG: &str =
    "a-name/that.is-far_too-long/for-any-column/of-a-screen-of-80-columns/and-goes-on-and-on-to-the-limit/0123456789";
const BLACK: Look = Look { colors: false, unicode: true };

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A secret whose current version was stored so many days ago.
fn secret(name: &str, rotation: Option<Rotation>, days: i64, revoked: bool) -> Record {
    let created = now().checked_sub((days * 24).hours()).unwrap().as_second() as u64;
    let mut record = Vault::new_record(name.parse().unwrap(), created);
    record.rotation = rotation;
    let state = if revoked { State::Revoked } else { State::Current };
    record.versions.push(Version { number: 3, state, created, sealed: Sealed::wiped() });
    record
}

fn model() -> Model {
    let monthly = Some(Rotation::Days(30));
    let mut scoped = secret("B_SOON", monthly, 26, false);
    scoped.scope = format!("content-pipeline,newsletter,{}", "x".repeat(100)).parse().unwrap();
    let secrets = vec![
        secret("A_OVERDUE", monthly, 33, false),
        scoped,
        secret("C_REVOKED", None, 1, true),
        secret("D_PLAIN", None, 1, false),
        secret(LONG, monthly, 0, false),
    ];
    let chain = Chain {
        name: "content-pipeline".into(),
        agents: vec!["publisher".into(), "researcher".into()],
        rows: vec![
            ("A_OVERDUE".into(), vec![Cell::Nothing, Cell::Granted(vec!["A_OVERDUE".into()])]),
            ("B_SOON".into(), vec![Cell::Granted(vec!["HOOK".into()]), Cell::Denied("denied: out of scope")]),
        ],
        fault: None,
    };
    let broken = Chain { name: "broken".into(), agents: vec![], rows: vec![], fault: Some("it has a fault".into()) };
    let runs = vec![Shown {
        run: "0198c0de-0000-7000-8000-000000000001".into(),
        chain: Some("content-pipeline".into()),
        started: Some("2026-03-07T11:00:00Z".into()),
        last_access: Some("2026-03-07T11:59:00.000000Z".into()),
        running: Vec::new(),
        versions: [("A_OVERDUE".to_owned(), 2)].into(),
        state: "living",
    }];
    Model { secrets, chains: vec![chain, broken], runs }
}

/// A line of the log.
fn line(seq: u64, outcome: &str, agent: &str) -> Vec<u8> {
    let line = serde_json::json!({
        "v": 1, "seq": seq, "time": format!("2026-03-07T11:59:{seq:02}.000000Z"), "event": "secret.access",
        "outcome": outcome, "chain": "content-pipeline", "agent": agent, "run": "r1", "secret": "A_OVERDUE",
        "version": 3, "reason": if outcome == "denied" { Some("out of scope") } else { None }, "instance": "i",
        "host": "h", "uid": 1000, "pid": 4242, "command": "python", "fence": "namespace", "prev": "0",
    });
    line.to_string().into_bytes()
}

fn app(arena: &Arena, look: Look) -> App<'_> {
    let mut app = App::new(look, "/etc/mentiko".into(), Desk::new(arena).unwrap());
    app.now = now();
    app.show(model());
    app.feed.push(&line(1, "granted", "researcher"));
    app.feed.push(&line(2, "denied", "intruder"));
    app.feed.last_access.insert("A_OVERDUE".into(), "2026-03-07T11:58:00.000000Z".into());
    app
}

fn draw(app: &mut App<'_>, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, app)).unwrap();
    terminal
}

/// What is drawn, a text a row.
fn rows(terminal: &Terminal<TestBackend>) -> Vec<String> {
    let buffer = terminal.backend().buffer();
    let row = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    buffer.content().chunks(buffer.area.width.into()).map(row).collect()
}

fn press(app: &mut App<'_>, text: &str) -> Effect {
    text.bytes().fold(Effect::None, |_, byte| {
        app.update(match byte {
            b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            _ => Key::Text(byte),
        })
    })
}

/// The row that begins with this name, after the mark.
fn row_of<'r>(rows: &'r [String], name: &str) -> &'r str {
    rows.iter().find(|row| row[3..].starts_with(name)).unwrap_or_else(|| panic!("{name} in {rows:#?}"))
}

fn column_of(row: &str, text: &str) -> usize {
    row.find(text).unwrap_or_else(|| panic!("{text:?} in {row:?}"))
}

#[test]
fn every_page_fits_small_and_large_terminals() {
    let arena = Arena::new().unwrap();
    for (width, height) in [(80, 24), (200, 60), view::SMALLEST] {
        let mut app = app(&arena, BLACK);
        for (key, heading, texts) in [
            ("1", "SECRET", &["A_OVERDUE", "2 min ago", "2026-03-04 OVERDUE", "2026-03-11", "- REVOKED", "never"][..]),
            ("2", "OUTCOME", &["DENIED", "granted", "intruder", "reason: out of scope", "pid: 4242"]),
            ("3", "CHAIN", &["publisher", "researcher", "yes", "as HOOK", "NO out of scope", "! broken"]),
            ("4", "RUN", &["0198c0de-0000", "1 h ago", "holds: A_OVERDUE:2", "8000-000000000001 (living)"]),
            ("5", "STATE", &["overdue by 3 days", "due in 4 days", "no usable version", "not scheduled", "today"]),
        ] {
            press(&mut app, key);
            let rows = rows(&draw(&mut app, width, height));
            assert_eq!(rows.len(), usize::from(height));
            assert!(rows[2..4].iter().any(|row| row.contains(heading)), "{heading}: {rows:#?}");
            for text in texts {
                assert!(rows.iter().any(|row| row.contains(text)), "{width}x{height}: {text} in {rows:#?}");
            }
            let keys = &rows[usize::from(height) - 1];
            assert!(keys.contains("? all keys") && keys.contains("q quit"), "{keys}");
            assert!(rows[0].contains(" 1 Secrets  2 Access log  3 Chains  4 Runs  5 Rotation"));
            // Nothing runs into the last column but lines that mean to.
            let at_the_end = |row: &String| row.ends_with([' ', '─', '>']);
            assert!(rows.iter().all(at_the_end), "{rows:#?}");
        }
    }
}

#[test]
fn columns_stand_under_their_headings_and_long_names_are_cut() {
    let arena = Arena::new().unwrap();
    for width in [80, 200] {
        let mut app = app(&arena, BLACK);
        let rows = rows(&draw(&mut app, width, 24));
        let heading = &rows[2];
        for (name, column, text) in [
            ("A_OVERDUE", "SCOPE", "all"),
            ("A_OVERDUE", "VERSION", "3 "),
            ("A_OVERDUE", "LAST ACCESS", "2 min ago"),
            ("A_OVERDUE", "DUE", "2026-03-04 OVERDUE"),
            ("B_SOON", "SCOPE", "content-"),
            ("B_SOON", "DUE", "2026-03-11"),
            ("C_REVOKED", "DUE", "- REVOKED"),
        ] {
            let row = row_of(&rows, name);
            let at = column_of(heading, column);
            assert!(row[at..].starts_with(text), "{name} {column}: {row:?}");
        }
        let long = row_of(&rows, "a-name/that");
        assert!(long.contains("~ all"), "{long}");
        assert_eq!(&long[column_of(heading, "DUE")..][..10], "2026-04-06");
    }
}

#[test]
fn alarms_are_marked_with_and_without_color() {
    let arena = Arena::new().unwrap();
    for colors in [false, true] {
        let mut app = app(&arena, Look { colors, unicode: false });
        for (page, at) in [("1", 3), ("2", 4), ("5", 3)] {
            press(&mut app, page);
            let terminal = draw(&mut app, 80, 24);
            let rows = rows(&terminal);
            assert_eq!(&rows[at][1..2], "!", "{rows:#?}");
            assert!(rows.concat().is_ascii());
            let buffer = terminal.backend().buffer();
            let has = |color| buffer.content().iter().any(|cell| cell.fg == color);
            assert_eq!(has(Color::Red), colors);
            let any_color = buffer.content().iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
            assert_eq!(any_color, colors);
            // The picked row is told apart without color.
            let picked = &buffer[(2, u16::try_from(at).unwrap())];
            assert!(picked.modifier.contains(Modifier::REVERSED));
        }
    }
}

#[test]
fn what_is_too_small_says_so() {
    let arena = Arena::new().unwrap();
    for (width, height) in [(71, 24), (80, 19), (20, 5), (10, 1), (1, 1)] {
        let rows = rows(&draw(&mut app(&arena, BLACK), width, height));
        let expected = format!("too small: {width}x{height}");
        assert!(rows[0].trim_end().starts_with(&expected[..expected.len().min(usize::from(width) - 1)]), "{rows:?}");
        assert!(width < 40 || rows[1].starts_with("72x20 is needed; q quits"), "{rows:?}");
    }
}

#[test]
fn names_of_the_log_can_not_steer_the_terminal() {
    let arena = Arena::new().unwrap();
    let mut app = app(&arena, BLACK);
    app.feed.push(&line(3, "granted", "x\u{1b}[2Jy\nz"));
    press(&mut app, "2");
    let rows = rows(&draw(&mut app, 200, 24));
    assert!(rows.iter().any(|row| row.contains("x\\u{1b}[2Jy z")), "{rows:#?}");
    assert!(!rows.concat().contains(char::is_control));
}

#[test]
fn a_value_is_typed_twice_and_never_drawn() {
    let arena = Arena::new().unwrap();
    let mut app = app(&arena, BLACK);
    press(&mut app, "aNEW_KEY\n\n\n");
    assert!(matches!(press(&mut app, "sk-hidden-1\nsk-hidden-2\n"), Effect::Forget));
    let shown = rows(&draw(&mut app, 80, 24)).concat();
    assert!(shown.contains("! the two differ; type both again") && !shown.contains("(hidden)"), "{shown}");
    assert!(app.desk.first.is_empty() && app.desk.again.is_empty());

    press(&mut app, "sk-hidden-1\nsk-hidden-1");
    let shown = rows(&draw(&mut app, 80, 24)).concat();
    assert!(shown.matches("(hidden)").count() == 2 && !shown.contains("sk-"), "{shown}");
    let Effect::Do(Task::Add(name, metadata)) = app.update(Key::Enter) else { panic!("it is to be stored") };
    assert_eq!((name.as_str(), metadata.scope.unwrap().to_string().as_str()), ("NEW_KEY", "all"));
    assert_eq!(app.desk.value("NEW_KEY").unwrap(), b"sk-hidden-1");
    app.done(Ok(Done { message: "stored".into(), report: None }));
    assert!(app.dialog.is_none() && app.desk.first.is_empty());
}

#[test]
fn a_paste_goes_into_a_line_whole_and_is_no_key_anywhere() {
    let arena = Arena::new().unwrap();
    let mut app = app(&arena, BLACK);
    for byte in *b"q2ax\n" {
        assert!(matches!(app.update(Key::Pasted(byte)), Effect::None));
    }
    assert!(app.page == Page::Secrets && app.dialog.is_none());
    press(&mut app, "r");
    for line in 0..2 {
        for byte in *b"-----BEGIN\nkey\n-----END\n" {
            app.update(Key::Pasted(byte));
        }
        if line == 0 {
            app.update(Key::Enter);
        }
    }
    assert!(matches!(app.update(Key::Enter), Effect::Do(Task::Rotate(name)) if name.as_str() == "A_OVERDUE"));
    assert_eq!(app.desk.value("A_OVERDUE").unwrap(), b"-----BEGIN\nkey\n-----END");
}

#[test]
fn answers_are_checked_where_they_are_given() {
    let arena = Arena::new().unwrap();
    for (keys, fault) in [
        ("aA_OVERDUE\n\n\nv\nv\n", "there is a secret 'A_OVERDUE' already; r rotates it"),
        ("aPATH\n\n\nv\nv\n", "'PATH' can't be a secret"),
        ("aa b\n\n\nv\nv\n", "secret"),
        ("aN\n\nweekly\nv\nv\n", "use 30d"),
        ("aN\n\n\n\n\n", "the value of 'N' is empty"),
        ("xA_OVER\n\n", "that is not its name; nothing was revoked"),
        ("xA_OVERDUE\nmaybe\n", "say yes or no"),
        ("s,\n", "chain"),
        ("/who=x\n", "'who' is none of secret"),
    ] {
        let mut app = app(&arena, BLACK);
        assert!(matches!(press(&mut app, keys), Effect::Forget), "{keys:?}");
        let found = app.dialog.as_ref().and_then(|dialog| dialog.fault.clone()).unwrap();
        assert!(found.contains(fault), "{keys:?}: {found}");
    }
}

#[test]
fn keys_ask_for_what_the_commands_do() {
    let arena = Arena::new().unwrap();
    let mut app = app(&arena, BLACK);
    app.update(Key::Down);
    let clear = |app: &mut App<'_>| drop(app.update(Key::Control(b'u')));
    press(&mut app, "s");
    clear(&mut app);
    assert!(matches!(press(&mut app, "newsletter\n"), Effect::Do(Task::Scope(name, scope))
        if name.as_str() == "B_SOON" && scope.to_string() == "newsletter"));
    app.update(Key::Escape);
    press(&mut app, "p");
    clear(&mut app);
    assert!(matches!(press(&mut app, "yearly\n"), Effect::Do(Task::Schedule(name, period))
        if name.as_str() == "B_SOON" && period.to_string() == "yearly"));
    app.update(Key::Escape);
    assert!(matches!(press(&mut app, "xB_SOON\n"), Effect::None));
    clear(&mut app);
    assert!(matches!(press(&mut app, "yes\n"), Effect::Do(Task::Revoke(name, true)) if name.as_str() == "B_SOON"));
    app.done(Err("the vault is locked".into()));
    assert_eq!(app.dialog.as_ref().unwrap().fault.as_deref(), Some("the vault is locked"));
    app.update(Key::Escape);
    assert!(matches!(press(&mut app, "/denied\n"), Effect::Filter(text, filter)
        if text == "denied" && filter.outcome.as_deref() == Some("denied")));
    // On the line of time, the first is another one.
    press(&mut app, "5r");
    assert_eq!(app.dialog.as_ref().unwrap().title(), "Rotate C_REVOKED");
    assert!(matches!(app.update(Key::Control(b'c')), Effect::None) && app.dialog.is_none());
    for (key, page) in [(Key::Tab, Page::Secrets), (Key::BackTab, Page::Rotation), (Key::BackTab, Page::Runs)] {
        app.update(key);
        assert_eq!(app.page, page);
    }
    press(&mut app, "r");
    assert!(app.dialog.is_none() && app.message.contains("pick a secret"));
    assert!(matches!(app.update(Key::Control(b'z')), Effect::Suspend));
    assert!(matches!(press(&mut app, "q"), Effect::Quit));
}

#[test]
fn whoever_looks_at_a_record_goes_on_looking_at_it() {
    let arena = Arena::new().unwrap();
    let mut app = app(&arena, BLACK);
    press(&mut app, "2");
    app.update(Key::Down);
    draw(&mut app, 80, 24);
    app.feed.push(&line(3, "granted", "newcomer"));
    app.arrived(1);
    let details = rows(&draw(&mut app, 80, 24));
    assert!(details.iter().any(|row| row.contains("record 1 ")), "{details:#?}");
    // And a secret stays picked when others come before it.
    press(&mut app, "1");
    app.update(Key::End);
    let mut more = model();
    more.secrets.insert(0, secret("AAA", None, 0, false));
    app.show(more);
    assert_eq!(app.picked().unwrap().name.as_str(), LONG);
}

#[test]
fn a_long_matrix_is_seen_in_parts() {
    let arena = Arena::new().unwrap();
    let mut app = app(&arena, BLACK);
    let agents: Vec<String> = (0..9).map(|number| format!("agent-{number}")).collect();
    let rows_of = |number| (format!("SECRET_{number:02}"), vec![Cell::Nothing; 9]);
    app.model.chains[0].rows = (0..40).map(rows_of).collect();
    app.model.chains[0].agents = agents;
    press(&mut app, "3");
    let before = rows(&draw(&mut app, 80, 24));
    assert!(before[2].contains("agent-0") && !before[2].contains("agent-8") && before[2].contains('>'));
    assert!(before.concat().contains("SECRET_00") && before.iter().any(|row| row.contains("PageDown: ")));
    app.update(Key::PageDown);
    (0..8).for_each(|_| drop(app.update(Key::Right)));
    let after = rows(&draw(&mut app, 80, 24));
    assert!(after[2].contains("agent-8") && after[2].contains('<'), "{after:#?}");
    assert!(after.concat().contains("SECRET_25") && !after.concat().contains("SECRET_00"));
}
