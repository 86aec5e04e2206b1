//! Schedules: what is due when, whatever the clock and the time zone, and what a launch says of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::process::{Command, Output};

use common::{Site, text};
use mentiko_exec::instance::Instance;
use mentiko_exec::memory::Arena;
use mentiko_exec::vault::{Record, State, Vault, WriteLock};
use serde_json::{Value, json};

/// The same command at another time, by faketime(1); the time is UTC.
fn at(time: &str, command: &Command) -> Command {
    let mut faked = Command::new("faketime");
    faked.arg(format!("{time} UTC")).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        faked.env(name, value.unwrap());
    }
    faked.stdin(std::process::Stdio::null());
    faked
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// `mentiko due --json` at a time: the status, and what it lists.
fn due_at(site: &Site, time: &str, options: &[&str]) -> (Option<i32>, Value) {
    let output = at(time, &site.mentiko(&[&["due", "--json"], options].concat())).output().unwrap();
    assert_eq!(text(&output.stderr), "");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn names(listed: &Value) -> Vec<&str> {
    listed.as_array().unwrap().iter().map(|secret| secret["name"].as_str().unwrap()).collect()
}

/// Stored at a time, with a schedule. The value is `value-of-NAME`.
fn set_at(site: &Site, time: &str, name: &str, options: &[&str]) -> Output {
    let mut command = at(time, site.mentiko(&["secret", "set", name]).args(options));
    let output = common::output_with_input(&mut command, format!("value-of-{name}").as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// Changes a record behind the commands' back.
fn edit(site: &Site, name: &str, edit: impl FnOnce(&mut Record)) {
    let instance = Instance::open(site.path()).unwrap();
    let arena = Arena::new().unwrap();
    let lock = WriteLock::take(&instance).unwrap();
    let vault = Vault::open(&instance, instance.key.read(None, &arena).unwrap(), &arena).unwrap();
    let mut contents = vault.read_all().unwrap();
    edit(contents.get_mut(&name.parse().unwrap()).unwrap());
    vault.replace(&lock, &contents).unwrap();
}

/// A chain `c` whose agent `a` gets all of these.
fn chain(site: &Site, names: &[&str]) {
    site.chain("c", &json!({"secrets": names, "agents": {"a": names}}).to_string());
}

fn set_policy(site: &Site, from: &str, to: &str) {
    let path = site.file("instance.json");
    let before = std::fs::read_to_string(&path).unwrap();
    assert!(before.contains(from), "{before}");
    std::fs::write(&path, before.replace(from, to)).unwrap();
}

#[test]
fn due_dates_hold_at_month_ends_on_leap_days_and_with_clocks_that_jump() {
    for (stored, period, due, quiet_until, loud_from) in [
        ("2026-01-31 12:00:00", "monthly", "2026-02-28T12:00", "2026-02-27 23:59:30", "2026-02-28 12:01:00"),
        ("2028-01-31 12:00:00", "monthly", "2028-02-29T12:00", "2028-02-28 23:59:30", "2028-02-29 12:01:00"),
        ("2028-02-29 00:00:00", "yearly", "2029-02-28T00:00", "2029-02-27 23:59:30", "2029-02-28 00:01:00"),
        ("2026-11-30 06:00:00", "quarterly", "2027-02-28T06:00", "2027-02-27 23:59:30", "2027-02-28 06:01:00"),
        ("2026-12-31 23:00:00", "1d", "2027-01-01T23:00", "2026-12-31 23:59:30", "2027-01-01 23:01:00"),
        ("2026-01-31 12:00:00", "30d", "2026-03-02T12:00", "2026-03-01 23:59:30", "2026-03-02 12:01:00"),
    ] {
        let site = Site::new();
        set_at(&site, stored, "A", &["--rotate-every", period]);
        let what = format!("{stored} {period}");
        assert_eq!(due_at(&site, quiet_until, &["--within", "0d"]), (Some(0), json!([])), "{what}");
        let (status, listed) = due_at(&site, loud_from, &["--within", "0d"]);
        assert_eq!((status, &listed[0]["overdue"], &listed[0]["days"]), (Some(1), &json!(true), &json!(0)), "{what}");
        // To the minute: the faked clock ran on while the value was stored.
        assert_eq!(listed[0]["due"].as_str().unwrap()[..16], *due, "{what}");
        // A clock set back, before the value was stored even, and one far ahead.
        for back in ["2020-02-29 00:00:00", "1975-01-01 00:00:00"] {
            assert_eq!(due_at(&site, back, &[]), (Some(0), json!([])), "{what} seen from {back}");
        }
        let (status, listed) = due_at(&site, "2037-01-01 00:00:00", &[]);
        assert_eq!((status, &listed[0]["overdue"]), (Some(1), &json!(true)), "{what}");
        assert!(listed[0]["days"].as_i64().unwrap() < -2800, "{what}");
    }
}

#[test]
fn the_time_zone_changes_nothing() {
    let site = Site::new();
    set_at(&site, "2026-01-31 23:30:00", "A", &["--rotate-every", "monthly"]);
    let seen = |zone: &str, time: &str| {
        let mut command = at(time, &site.mentiko(&["due", "--json", "--within", "1d"]));
        let output = command.env("TZ", zone).output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    for time in ["2026-02-26 23:59:00", "2026-02-27 00:01:00", "2026-02-28 12:00:00", "2026-02-28 23:45:00"] {
        let expected = seen("UTC", time);
        let days = ["-", "1", "0", "0"].iter().zip(["2026-02-26", "2026-02-27 00", "2026-02-28 12", "2026-02-28 23"]);
        let days = days.filter(|(_, start)| time.starts_with(start)).map(|(days, _)| *days).next().unwrap();
        assert_eq!(expected.1.contains(&format!("\"days\": {days}")), days != "-", "{time}: {}", expected.1);
        for zone in ["Pacific/Kiritimati", "Etc/GMT+12", "America/St_Johns", "FAR-14", "WEST+12", "No/Such", ""] {
            assert_eq!(seen(zone, time), expected, "{zone} {time}");
        }
    }
}

#[test]
fn due_lists_by_date_and_tells_by_its_status() {
    let site = Site::new();
    assert_eq!(due_at(&site, "2027-01-01 00:00:00", &[]), (Some(0), json!([])));
    set_at(&site, "2026-03-01 10:00:00", "LATE", &["--rotate-every", "30d"]);
    set_at(&site, "2026-03-05 10:00:00", "SOON", &["--rotate-every", "monthly", "--scope", "c,d"]);
    set_at(&site, "2026-03-05 10:00:00", "EARLY", &["--rotate-every", "5d"]);
    set_at(&site, "2026-03-05 10:00:00", "YEARLY", &["--rotate-every", "yearly"]);
    set_at(&site, "2026-03-05 10:00:00", "NEVER", &[]);
    set_at(&site, "2026-03-05 10:00:00", "GONE", &[]);
    edit(&site, "GONE", |record| record.versions.iter_mut().for_each(|version| version.state = State::Revoked));

    let now = "2026-04-01 12:00:00";
    let (status, listed) = due_at(&site, now, &[]);
    assert_eq!((status, names(&listed)), (Some(1), vec!["GONE", "EARLY", "LATE", "SOON"]));
    let [gone, early, late, soon] = [0, 1, 2, 3].map(|at| &listed[at]);
    assert_eq!(
        *gone,
        json!({"name": "GONE", "due": null, "overdue": true, "days": null, "rotate_every": null, "version": null,
               "scope": null})
    );
    assert_eq!((&early["days"], &early["overdue"]), (&json!(-22), &json!(true)));
    assert_eq!((&late["days"], &late["overdue"], &late["rotate_every"]), (&json!(-1), &json!(true), &json!("30d")));
    assert_eq!((&soon["days"], &soon["overdue"], &soon["version"]), (&json!(4), &json!(false), &json!(1)));
    assert_eq!(soon["scope"], json!(["c", "d"]));
    let within = |period: &str| names(&due_at(&site, now, &["--within", period]).1).len();
    assert_eq!(["0d", "3d", "4d", "337d", "338d", "9999d"].map(within), [3, 3, 4, 4, 5, 5]);

    let table = at(now, &site.mentiko(&["due"])).output().unwrap();
    let blanks_in = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        text(&table.stdout).lines().map(blanks_in).collect::<Vec<_>>(),
        [
            "SECRET DUE STATE ROTATE VERSION SCOPE",
            "GONE - no usable version - - all",
            "EARLY 2026-03-10 overdue by 22 days 5d 1 all",
            "LATE 2026-03-31 overdue by 1 day 30d 1 all",
            "SOON 2026-04-05 due in 4 days monthly 1 c,d",
        ]
    );
    assert_eq!(table.status.code(), Some(1));

    // A new value is a new start.
    set_at(&site, now, "LATE", &[]);
    set_at(&site, now, "GONE", &[]);
    set_at(&site, now, "EARLY", &["--rotate-every", "none"]);
    let (status, listed) = due_at(&site, now, &["--within", "3d"]);
    assert_eq!((status, listed), (Some(0), json!([])));
    assert_eq!(done(&mut at(now, &site.mentiko(&["due", "--within", "1d"]))), "nothing is due within 1 day\n");
}

#[test]
fn an_error_of_due_is_not_taken_for_something_due() {
    let site = Site::new();
    site.set("A", "value");
    assert_eq!(site.mentiko(&["due"]).status().unwrap().code(), Some(0));
    for wrong in ["7", "d", "-1d", "+1d", "7w", "10000d", "", "1.5d"] {
        let output = site.mentiko(&["due", &format!("--within={wrong}")]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{wrong}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(site.mentiko(&["due"]).stdout(full).status().unwrap().code(), Some(2));
    std::fs::remove_file(site.file("instance.key")).unwrap();
    let output = site.mentiko(&["due"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
    assert!(text(&output.stderr).starts_with("mentiko: can't open "), "{}", text(&output.stderr));
    let mut elsewhere = site.mentiko(&["due", "--instance", "/nonexistent"]);
    assert_eq!(elsewhere.output().unwrap().status.code(), Some(2));
    assert!(done(&mut site.mentiko(&["due", "--help"])).contains("0 nothing is due, 1 something is, 2 an error"));
}

#[test]
fn a_reader_who_has_had_enough_does_not_change_the_status() {
    let site = Site::new();
    set_at(&site, "2020-01-01 00:00:00", "A", &["--rotate-every", "1d"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = site.mentiko(&["due"]).stdout(writer).stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
}

#[test]
fn a_schedule_is_set_changed_and_taken_away() {
    let site = Site::new();
    set_at(&site, "2026-01-31 12:00:00", "A", &["--rotate-every", "quarterly"]);
    let schedule = |time: &str, period: &str| done(&mut at(time, &site.mentiko(&["secret", "schedule", "A", period])));
    let shown = || {
        let shown: Value = serde_json::from_str(&done(&mut site.mentiko(&["secret", "show", "A", "--json"]))).unwrap();
        (shown["rotate_every"].clone(), shown["due"].as_str().map(|due| due[..10].to_owned()))
    };
    assert_eq!(shown(), (json!("quarterly"), Some("2026-04-30".into())));
    // Counted from when the value was stored, not from when the schedule was made.
    assert_eq!(schedule("2026-02-10 00:00:00", "monthly"), "A: rotate monthly, due 2026-02-28\n");
    assert_eq!(shown(), (json!("monthly"), Some("2026-02-28".into())));
    assert_eq!(schedule("2026-02-10 00:00:00", "5d"), "A: rotate 5d, due since 2026-02-05\n");
    assert_eq!(schedule("2026-02-10 00:00:00", "none"), "A: rotate none\n");
    assert_eq!(shown(), (Value::Null, None));

    let records: Vec<Value> = site.log().into_iter().filter(|record| record["event"] == "secret.schedule").collect();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record["secret"] == "A" && record["outcome"] == "done"), "{records:?}");
    assert!(records.iter().all(|record| record["mac"].is_string() && record["generation"].is_u64()), "{records:?}");
    site.verify();

    for (arguments, part) in [
        (["schedule", "B", "monthly"], "mentiko: there is no secret 'B'"),
        (["schedule", "A", "weekly"], "use 30d (1d to 3650d), monthly, quarterly or yearly; or none"),
        (["schedule", "A", "0d"], "use 30d"),
    ] {
        let output = site.mentiko(&[&["secret"], &arguments[..]].concat()).output().unwrap();
        assert!(!output.status.success() && text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    assert_eq!(shown(), (Value::Null, None));
}

#[test]
fn advice_is_one_line_and_not_imposed() {
    let site = Site::new();
    let advised = |name: &str, options: &[&str]| {
        let output = site.set_with(name, options, b"value");
        assert!(output.status.success());
        assert!(text(&output.stdout).starts_with("stored "), "{}", text(&output.stdout));
        text(&output.stderr)
    };
    let advice = "mentiko: advice: LLM keys are best rotated monthly: mentiko secret schedule OPENAI_API_KEY monthly\n";
    assert_eq!(advised("OPENAI_API_KEY", &[]), advice);
    let show = done(&mut site.mentiko(&["secret", "show", "OPENAI_API_KEY"]));
    assert!(show.contains("  rotate   never\n"), "{show}");
    // The command that it names works, and quiets it.
    let words: Vec<&str> = advice.trim_end().rsplit(": ").next().unwrap().split(' ').skip(1).collect();
    done(&mut site.mentiko(&words));
    assert_eq!(advised("OPENAI_API_KEY", &[]), "");
    assert_eq!(advised("OPENAI_API_KEY", &["--rotate-every", "none"]), "");
    assert_eq!(advised("SLACK_WEBHOOK", &["--rotate-every", "30d"]), "");
    assert!(advised("slack/webhook", &[]).contains("webhooks are best rotated quarterly: "));
    assert_eq!(advised("PLAIN", &[]), "");
}

/// What a launch at a time said; the agent must have run.
fn said(site: &Site, time: &str, options: &[&str]) -> String {
    let mut command = site.exec("c", "a");
    // Where it is tomorrow already: dates are those of UTC.
    command.args(options).env("TZ", "FAR-14").args(["--", "sh", "-c", "echo ran"]);
    let output = at(time, &command).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "ran\n".into()), "{}", text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn a_launch_says_in_one_line_what_is_overdue() {
    let site = Site::new().unfenced();
    for (name, period) in [("OPENAI_API_KEY", "monthly"), ("OTHER", "monthly"), ("UNGRANTED", "1d"), ("FREE", "none")] {
        set_at(&site, "2026-09-01 12:00:00", name, &["--rotate-every", period]);
    }
    chain(&site, &["OPENAI_API_KEY", "FREE"]);
    assert_eq!(said(&site, "2026-10-01 11:59:00", &[]), "");
    assert_eq!(said(&site, "2020-01-01 00:00:00", &[]), "", "before it was stored");
    let line =
        "mentiko-exec: OPENAI_API_KEY is due for rotation since 2026-10-01 (mentiko secret rotate OPENAI_API_KEY)\n";
    assert_eq!(said(&site, "2026-10-01 12:05:00", &[]), line);
    assert_eq!(said(&site, "2026-12-24 12:00:00", &[]), line);
    assert_eq!(said(&site, "2026-12-24 12:00:00", &["--supervise"]), line);
    assert_eq!(said(&site, "2026-12-24 12:00:00", &["--mask"]), line);
    assert_eq!(said(&site, "2026-12-24 12:00:00", &["--quiet"]), "");
    chain(&site, &["OTHER", "OPENAI_API_KEY", "FREE"]);
    assert_eq!(
        said(&site, "2026-12-24 12:00:00", &[]),
        "mentiko-exec: OPENAI_API_KEY is due for rotation since 2026-10-01, OTHER since 2026-10-01 \
         (mentiko secret rotate NAME)\n"
    );
    // By date and name: which was stored first on that day does not matter.
    set_at(&site, "2026-09-01 11:00:00", "SECOND", &["--rotate-every", "monthly"]);
    chain(&site, &["SECOND", "OPENAI_API_KEY", "FREE"]);
    assert_eq!(
        said(&site, "2026-12-24 12:00:00", &[]),
        "mentiko-exec: OPENAI_API_KEY is due for rotation since 2026-10-01, SECOND since 2026-10-01 \
         (mentiko secret rotate NAME)\n"
    );
    chain(&site, &["OTHER", "OPENAI_API_KEY", "FREE"]);
    // It only says so: the version that is there is the one that the agent got.
    let granted: Vec<Value> = site.accesses();
    assert!(granted.iter().all(|record| record["version"] == 1 && record["outcome"] == "granted"));

    set_policy(&site, "\"warn_when_due\": true", "\"warn_when_due\": false");
    assert_eq!(said(&site, "2026-12-24 12:00:00", &[]), "");
    // A configuration that does not say wants the line.
    set_policy(&site, ",\n    \"warn_when_due\": false", "");
    assert!(said(&site, "2026-12-24 12:00:00", &[]).contains("is due for rotation"));
    set_at(&site, "2026-12-24 12:00:00", "OPENAI_API_KEY", &[]);
    set_at(&site, "2026-12-24 12:00:00", "OTHER", &[]);
    assert_eq!(said(&site, "2026-12-24 12:00:00", &[]), "");
}

#[test]
fn a_launch_that_fails_says_its_own_line_only() {
    let site = Site::new();
    set_at(&site, "2026-09-01 12:00:00", "A", &["--rotate-every", "1d"]);
    chain(&site, &["A", "MISSING"]);
    let refused = site.exec("c", "a").args(["--", "true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(77));
    let error = text(&refused.stderr);
    assert!(error.contains("MISSING") && error.lines().count() == 1, "{error}");
    // Quiet of warnings; a refusal is none.
    let quiet = site.exec("c", "a").args(["--quiet", "--", "true"]).output().unwrap();
    assert_eq!(text(&quiet.stderr), error);
    chain(&site, &["A"]);
    let dry = at("2027-01-01 00:00:00", site.exec("c", "a").args(["--dry-run", "--", "true"])).output().unwrap();
    assert_eq!((dry.status.code(), text(&dry.stderr)), (Some(0), String::new()));
}

#[test]
fn quiet_silences_the_other_warnings_too() {
    let site = Site::new();
    site.set("A", "short");
    chain(&site, &["A"]);
    let errors = |options: &[&str]| {
        let output = site.exec("c", "a").args(options).args(["--fence", "off", "--", "true"]).output().unwrap();
        assert!(output.status.success());
        text(&output.stderr)
    };
    assert!(errors(&["--mask"]).contains("warning: the value of 'A' has less than"));
    assert_eq!(errors(&["--mask", "--quiet"]), "");
    if common::is_root() {
        // Root's fence comes with a warning; an ordinary user's comes without one.
        let fenced = |options: &[&str]| {
            let mut command = site.exec("c", "a");
            text(&command.args(options).args(["--fence", "require", "--", "true"]).output().unwrap().stderr)
        };
        assert!(fenced(&[]).contains("warning: the agent runs as root"));
        assert_eq!(fenced(&["--quiet"]), "");
    }
}

#[test]
fn list_and_show_mark_what_is_overdue() {
    let site = Site::new();
    set_at(&site, "2026-03-01 10:00:00", "LATE", &["--rotate-every", "30d"]);
    set_at(&site, "2026-03-01 10:00:00", "GOOD", &["--rotate-every", "yearly"]);
    let now = "2026-04-01 12:00:00";
    let list = done(&mut at(now, &site.mentiko(&["secret", "list"])));
    let line = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("LATE").contains(" 2026-03-31 overdue "), "{list}");
    assert!(line("GOOD").contains(" 2027-03-01 ") && !line("GOOD").contains("overdue"), "{list}");
    let listed: Value =
        serde_json::from_str(&done(&mut at(now, &site.mentiko(&["secret", "list", "--json"])))).unwrap();
    let marks: Vec<&Value> = listed.as_array().unwrap().iter().map(|secret| &secret["overdue"]).collect();
    assert_eq!(marks, [&json!(false), &json!(true)]);
    let show = done(&mut at(now, &site.mentiko(&["secret", "show", "LATE"])));
    assert!(show.contains("  due      2026-03-31T10:00:0") && show.contains("Z (overdue)\n"), "{show}");
}
