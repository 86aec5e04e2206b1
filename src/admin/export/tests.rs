use super::*;

const RECORDS: &str = include_str!("../../../tests/data/export/records.jsonl");
const HOSTILE: &str = include_str!("../../../tests/data/export/hostile.jsonl");

fn exported(format: Format, log: &str) -> String {
    let mut out = Vec::new();
    log.split_inclusive('\n').for_each(|line| write(&mut out, format, line.as_bytes()).unwrap());
    String::from_utf8(out).unwrap()
}

/// One record of each event becomes what stands in the files beside them, to the byte. They are
/// what `mentiko audit export` writes, with VERSION for that of this program; tests/export holds
/// them against the schemas.
#[test]
fn each_event_becomes_what_it_always_became() {
    for (format, expected) in [
        (Format::Jsonl, RECORDS),
        (Format::Ecs, include_str!("../../../tests/data/export/records.ecs.jsonl")),
        (Format::Ocsf, include_str!("../../../tests/data/export/records.ocsf.jsonl")),
        (Format::Cef, include_str!("../../../tests/data/export/records.cef")),
    ] {
        let expected = expected.replace("VERSION", env!("CARGO_PKG_VERSION"));
        let found = exported(format, RECORDS);
        for (found, expected) in found.lines().zip(expected.lines()) {
            assert_eq!(found, expected);
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn each_event_of_the_log_s_document_has_a_record_here_and_a_name() {
    let document = include_str!("../../../docs/access-log.md");
    let table = document.split("### Events").nth(1).unwrap().split("\n\n").nth(1).unwrap();
    let cells = |row: &'static str| row.split('|').map(|cell| cell.trim().trim_matches('`')).collect::<Vec<_>>();
    let records: Vec<Record> = RECORDS.lines().map(|line| Record::parse(line.as_bytes()).unwrap()).collect();
    let mut rows = 0;
    for row in table.lines().skip(2).map(cells) {
        let (event, outcome) = (row[1], row[2]);
        let record = records.iter().find(|record| record.event == event && record.outcome == outcome);
        let record = record.unwrap_or_else(|| panic!("{event} {outcome} is not in tests/data/export"));
        assert_ne!(meaning::title(record), event);
        assert_ne!(meaning::noun(record), meaning::Noun::Other, "{event}");
        rows += 1;
    }
    assert!(rows >= 10, "{table}");
}

/// Whatever stands in a field: as many lines as records, each of them printable, and JSON that
/// holds the line of the log as it was.
#[test]
fn nothing_breaks_out_of_its_field() {
    for format in [Format::Ecs, Format::Ocsf] {
        let exported = exported(format, HOSTILE);
        assert!(exported.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
        assert_eq!(exported.lines().count(), HOSTILE.split_terminator('\n').count());
        for (event, line) in exported.lines().zip(HOSTILE.split_terminator('\n')) {
            let event: Value = serde_json::from_str(event).unwrap();
            let original = event.pointer("/event/original").or(event.get("raw_data")).unwrap();
            assert_eq!(original, line);
        }
    }
    let exported = exported(Format::Cef, HOSTILE);
    assert_eq!(exported.lines().count(), HOSTILE.split_terminator('\n').count());
    for line in exported.split_terminator('\n') {
        assert!(line.starts_with("CEF:0|Mentiko|mentiko-exec|"), "{line:.200}");
        assert!(
            !line.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}')),
            "{line:.200}"
        );
    }
}

#[test]
fn cef_escapes_what_its_two_places_ask_for() {
    let record = Record { reason: Some("a|b\\c=d\ne\rf\u{1b}\u{2028}".into()), ..record() };
    let line = cef::line(&Entry::new(b"", &record));
    assert!(line.contains(r" reason=a|b\\c\=d\ne\rf\\u{1b}\\u{2028} msg="), "{line}");

    let record = Record { event: "a|b\\c=d\n".into(), outcome: "done".into(), ..record };
    let line = cef::line(&Entry::new(b"", &record));
    let header = r"|a\|b\\c=d\\u{a}|a\|b\\c=d\\u{a}|3|rt=1772874302482 ";
    assert!(line.contains(header), "{line}");

    let record = Record { event: String::new(), outcome: "done".into(), reason: Some("x".repeat(5000)), ..record };
    let line = cef::line(&Entry::new(b"", &record));
    assert!(line.contains("|-|-|3|"), "{line}");
    assert!(line.contains(&format!(" reason={} msg", "x".repeat(1023))));
}

/// A SIEM refuses a record for a time or a number that it can't store, and nobody sees it.
#[test]
fn what_no_writer_writes_is_still_stored() {
    for time in ["", "tomorrow", "1969-12-31T23:59:59.999999Z", "-009999-01-02T01:59:59Z"] {
        let record = Record { time: time.into(), ..record() };
        assert_eq!(Entry::new(b"", &record).time(), Timestamp::UNIX_EPOCH, "{time}");
    }
    let record = Record { seq: u64::MAX, milliseconds: Some(u64::MAX), ..record() };
    let event = ecs::event(&Entry::new(b"", &record));
    for field in ["/event/sequence", "/event/duration"] {
        assert_eq!(event.pointer(field).unwrap().as_i64(), Some(i64::MAX), "{field}");
    }
}

/// The form of a record with a field that is none: left out, and the next one goes on.
#[test]
fn a_line_that_is_no_record_is_left_out() {
    let broken = RECORDS.replacen("\"uid\":1000", "\"uid\":-1", 1);
    assert_eq!(exported(Format::Jsonl, &broken), broken);
    for format in [Format::Ecs, Format::Ocsf, Format::Cef] {
        assert_eq!(exported(format, &broken).lines().count(), RECORDS.lines().count() - 1);
    }
}

fn record() -> Record {
    let line = RECORDS.lines().find(|line| line.contains("\"granted\"")).unwrap();
    Record::parse(line.as_bytes()).unwrap()
}

/// docs/siem.md has a row for each.
#[test]
fn the_document_says_what_becomes_of_each_event() {
    let document = include_str!("../../../docs/siem.md");
    for line in RECORDS.lines() {
        let record = Record::parse(line.as_bytes()).unwrap();
        let entry = Entry::new(line.as_bytes(), &record);
        let (ecs, ocsf, cef) = (ecs::event(&entry), ocsf::event(&entry), cef::line(&entry));
        let text = |value: &Value, path| value.pointer(path).and_then(Value::as_str).unwrap_or("none").to_owned();
        let row = format!(
            "| `{}` | {} | {}: {} | {} {}: {} | `{}` | {} |",
            record.event,
            record.outcome,
            text(&ecs, "/event/category/0"),
            text(&ecs, "/event/type/0"),
            ocsf["class_uid"],
            text(&ocsf, "/class_name"),
            text(&ocsf, "/activity_name"),
            cef.split('|').nth(4).unwrap(),
            cef.split('|').nth(6).unwrap(),
        );
        // Names of events that are unknown stand for all of them.
        let known = !["secret.taste", "weather.changed"].contains(&&*record.event);
        assert!(document.contains(&row) || !known, "docs/siem.md lacks this row:\n{row}");
    }
}
