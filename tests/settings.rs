//! `mentiko settings`, screen by screen, in tmux.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Site, is_root, output_with_input, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const FIRST: &str = "sk-first-QmFzZTY0IGlzIG5vdCBhIGNpcGhlcg";
const SECOND: &str = "-----BEGIN KEY-----\nMC4CAQAwBQYDK2VwBCIEIAr7Vw\n-----END KEY-----";
const MARK: &str = "planted-in-the-environment-of-the-screen";

/// A terminal of 80x24 with a shell in it.
struct Tmux {
    folder: tempfile::TempDir,
}

impl Tmux {
    fn new(site: &Site, environment: &[(&str, &str)]) -> Self {
        let tmux = Self { folder: tempfile::tempdir().unwrap() };
        let mut command = tmux.command(&["new-session", "-d", "-x", "80", "-y", "24", "bash", "--norc", "--noprofile"]);
        command.env("MENTIKO", env!("CARGO_BIN_EXE_mentiko")).env("MENTIKO_INSTANCE", site.path());
        command.env("OUT", tmux.folder.path()).env("PS1", "prompt> ").env("PLANTED", MARK);
        for (name, value) in environment {
            command.env(name, value);
        }
        let output = command.output().expect("tmux can't be run; install the package tmux");
        assert!(output.status.success(), "{}", text(&output.stderr));
        tmux.wait_for("prompt>");
        tmux
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("LANG", "C.UTF-8");
        command.arg("-uS").arg(self.folder.path().join("socket")).args(["-f", "/dev/null"]).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn tells(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Presses keys by their names.
    fn keys(&self, keys: &[&str]) {
        self.tells(&[&["send-keys"], keys].concat());
    }

    /// Types a text as it is.
    fn types(&self, text: &str) {
        self.tells(&["send-keys", "-l", text]);
    }

    fn pastes(&self, pasted: &str) {
        let output = output_with_input(&mut self.command(&["load-buffer", "-"]), pasted.as_bytes());
        assert!(output.status.success(), "{}", text(&output.stderr));
        self.tells(&["paste-buffer", "-p"]);
    }

    fn shown(&self) -> String {
        self.tells(&["capture-pane", "-p"])
    }

    /// All that was ever shown, colors too.
    fn history(&self) -> String {
        self.tells(&["capture-pane", "-e", "-p", "-S", "-"])
    }

    fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |shown| shown.contains(text))
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let shown = self.shown();
            if is_so(&shown) {
                return shown;
            }
            assert!(Instant::now() < end, "waited in vain for {what:?}:\n{shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the screen from the shell, between two looks at the terminal's modes.
    fn opens(&self) {
        self.types("clear; stty -a > $OUT/before; $MENTIKO settings");
        self.keys(&["Enter"]);
        self.wait_for("? all keys");
    }

    /// The shell has its terminal back, as it was; with the status that the screen ended with.
    fn is_restored(&self, status: i32) {
        self.wait_until("the prompt", |shown| shown.trim_end().ends_with("prompt>"));
        self.types("echo stat''us: $?.; stty -a > $OUT/after; echo do''ne.");
        self.keys(&["Enter"]);
        self.wait_for("done.");
        assert!(self.shown().contains(&format!("status: {status}.")), "{}", self.shown());
        let [before, after] = ["before", "after"].map(|name| self.modes(name));
        assert_eq!(before, after);
        assert!(!self.shown().contains("all keys"), "{}", self.shown());
        let flags = "#{alternate_on} #{cursor_flag} #{bracket_paste_flag}";
        // The shell itself marks pastes.
        assert!(self.tells(&["display", "-p", flags]).starts_with("0 1"));
    }

    /// What `stty -a` said, but for the size of the window, which is the emulator's.
    fn modes(&self, name: &str) -> String {
        let modes = std::fs::read_to_string(self.folder.path().join(name)).unwrap();
        let (size, modes) = modes.split_once('\n').unwrap();
        assert!(size.contains("rows") && modes.contains("icanon"), "{size} {modes}");
        modes.to_owned()
    }

    /// The process of the screen: the shell's child.
    fn process(&self) -> Pid {
        let shell = self.tells(&["display", "-p", "#{pane_pid}"]);
        let list = format!("/proc/{0}/task/{0}/children", shell.trim());
        let children = std::fs::read_to_string(list).unwrap();
        Pid::from_raw(children.split_ascii_whitespace().next().unwrap().parse().unwrap())
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).output();
    }
}

/// A secret that nobody stored yet, in a chain `c` whose agent `one` gets it; `two` asks for what
/// there is none of.
fn site() -> Site {
    let site = Site::new().unfenced();
    site.chain("c", r#"{"secrets": ["API_KEY", "NONE"], "agents": {"one": ["API_KEY"], "two": ["NONE"]}}"#);
    site
}

/// What the agent finds in API_KEY; the run it was launched in.
fn launch(site: &Site, agent: &str, run: &str) -> (Option<i32>, String) {
    let output =
        site.exec("c", agent).args(["--run-id", run, "--", "sh", "-c", "printf %s \"$API_KEY\""]).output().unwrap();
    (output.status.code(), text(&output.stdout))
}

#[test]
fn a_secret_is_added_rotated_watched_and_revoked() {
    let site = site();
    let tmux = Tmux::new(&site, &[]);
    tmux.opens();
    tmux.wait_for("no secrets yet");

    // Added: name, scope, period, and the value twice.
    tmux.keys(&["a"]);
    tmux.types("API_KEY");
    tmux.keys(&["Enter", "C-u"]);
    tmux.types("c");
    tmux.keys(&["Enter", "C-u"]);
    tmux.types("monthly");
    tmux.keys(&["Enter"]);
    for _ in 0..2 {
        tmux.types(FIRST);
        tmux.keys(&["Enter"]);
    }
    let shown = tmux.wait_for("stored API_KEY version 1, scope c");
    let row = shown.lines().find(|line| line.starts_with("   API_KEY")).unwrap();
    assert_eq!(row.split_ascii_whitespace().take(4).collect::<Vec<_>>(), ["API_KEY", "c", "1", "never"]);
    holds_nothing(&tmux, FIRST);
    assert_eq!(launch(&site, "one", "r1"), (Some(0), FIRST.into()));

    // Its access appears while the log is looked at, and a denial.
    tmux.keys(&["2"]);
    tmux.wait_until("the access", |shown| row_with(shown, &["granted", "access", "c", "one", "API_KEY"]));
    assert_eq!(launch(&site, "two", "r2").0, Some(77));
    tmux.wait_until("the denial", |shown| row_with(shown, &["!", "DENIED", "access", "c", "two", "NONE"]));
    tmux.keys(&["d"]);
    tmux.wait_until("denials alone", |shown| shown.contains("records with: denied") && !shown.contains("granted"));
    assert_eq!(launch(&site, "two", "r3").0, Some(77));
    tmux.wait_until("a new denial", |shown| shown.matches("DENIED").count() == 2);
    tmux.keys(&["/", "C-u"]);
    tmux.types("chain=c agent=one");
    tmux.keys(&["Enter"]);
    tmux.wait_until("its records", |shown| shown.contains("granted") && !shown.contains("DENIED"));

    // Rotated, by a paste of several lines.
    tmux.keys(&["1", "r"]);
    tmux.wait_for("Rotate API_KEY");
    tmux.pastes(&format!("{SECOND}\n"));
    tmux.wait_for("(hidden)");
    tmux.keys(&["Enter"]);
    tmux.pastes(SECOND);
    tmux.wait_until("both lines", |shown| shown.matches("(hidden)").count() == 2);
    holds_nothing(&tmux, SECOND);
    tmux.keys(&["Enter"]);
    tmux.wait_for("the two differ; type both again");
    for _ in 0..2 {
        tmux.pastes(SECOND);
        tmux.keys(&["Enter"]);
    }
    tmux.wait_for("rotated API_KEY to version 2");
    tmux.wait_for("1 previous, 2 current");
    holds_nothing(&tmux, SECOND);
    assert_eq!(launch(&site, "one", "r4"), (Some(0), SECOND.into()));

    tmux.wait_until("its last access", |shown| row_with(shown, &["API_KEY", "c", "2", "s", "ago"]));

    // Scope and period.
    for (key, answer, done) in [
        ("s", "c,newsletter", "API_KEY: scope c,newsletter; not defined yet: newsletter"),
        ("p", "7d", "API_KEY: rotate 7d, due "),
    ] {
        tmux.keys(&[key, "C-u"]);
        tmux.types(answer);
        tmux.keys(&["Enter"]);
        tmux.wait_for(done);
    }

    // Chains, runs and what is due say so too.
    tmux.keys(&["3"]);
    tmux.wait_until("the matrix", |shown| {
        row_with(shown, &["API_KEY", "yes", "-"]) && shown.contains("NO not in the v")
    });
    tmux.keys(&["4"]);
    tmux.wait_until("the runs", |shown| row_with(shown, &["r1", "c"]) && shown.contains("API_KEY:2"));
    tmux.keys(&["5"]);
    tmux.wait_for("due in 7 days");

    // Revoked: its name must be typed.
    tmux.keys(&["x"]);
    tmux.types("API");
    tmux.keys(&["Enter", "Enter"]);
    tmux.wait_for("nothing was revoked");
    tmux.types("_KEY");
    tmux.keys(&["Enter", "Enter"]);
    tmux.wait_for("API_KEY: revoked versions 1, 2, wiped from the vault");
    tmux.wait_for("c / one, version 2: not running here");
    tmux.keys(&["Enter", "1"]);
    tmux.wait_until("the mark", |shown| row_with(shown, &["!", "API_KEY", "REVOKED"]));
    assert_eq!(launch(&site, "one", "r5").0, Some(77));

    tmux.keys(&["q"]);
    tmux.is_restored(0);
    site.verify();
    let events: Vec<String> = site.log().iter().map(|record| record["event"].as_str().unwrap().to_owned()).collect();
    for event in ["secret.set", "secret.rotate", "secret.scope", "secret.schedule", "secret.revoke"] {
        assert!(events.iter().any(|found| found == event), "{event} in {events:?}");
    }
    for segment in site.segments() {
        let log = std::fs::read_to_string(segment).unwrap();
        assert!(!log.contains(FIRST) && !log.contains("MC4CAQAw"));
    }
}

/// Whether some row has these words, in this order, one after the other but for what is between.
fn row_with(shown: &str, words: &[&str]) -> bool {
    shown.lines().any(|line| {
        let mut found = line.split_ascii_whitespace();
        words.iter().all(|word| found.any(|other| other == *word))
    })
}

/// Nothing of the value was shown, nor stands in memory where root can look.
fn holds_nothing(tmux: &Tmux, value: &str) {
    let pieces: Vec<&[u8]> = value.as_bytes().windows(10).collect();
    let history = tmux.history();
    assert!(!pieces.iter().any(|piece| history.contains(&text(piece))), "{history}");
    let process = tmux.process();
    let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap();
    assert!(text(&line).contains("settings"));
    if !is_root() {
        // The user whose process it is can't read it at all.
        return assert!(File::open(format!("/proc/{process}/mem")).is_err());
    }
    let memory = memory(process);
    let is_there = |text: &[u8]| memory.iter().any(|block| has(block, text, 1));
    assert!(is_there(MARK.as_bytes()), "the search finds what is there");
    for piece in &pieces {
        assert!(!is_there(piece), "{:?} is in memory", text(piece));
    }
    // A queue of keys holds a character in each of its elements.
    for stride in [2, 4, 8, 12, 16, 20, 24, 32, 40, 48] {
        for piece in [pieces[0], pieces[pieces.len() - 1]] {
            assert!(!memory.iter().any(|block| has(block, piece, stride)), "{:?} every {stride} bytes", text(piece));
        }
    }
}

/// Whether the bytes stand in the block, so far apart.
fn has(block: &[u8], bytes: &[u8], stride: usize) -> bool {
    (0..block.len().saturating_sub(bytes.len() * stride))
        .filter(|at| block[*at] == bytes[0])
        .any(|at| bytes.iter().enumerate().all(|(number, byte)| block[at + number * stride] == *byte))
}

/// All of a process's memory that can be read.
fn memory(process: Pid) -> Vec<Vec<u8>> {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let (mut blocks, mut secret) = (Vec::new(), 0);
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|digits| u64::from_str_radix(digits, 16).unwrap());
        // What can't be written holds nothing that was typed.
        if !words.next().unwrap().contains('w') {
            continue;
        }
        let mut block = vec![0; (end - start) as usize];
        let read = block
            .chunks_mut(4096)
            .zip((start..).step_by(4096))
            .filter_map(|(page, at)| memory.read_exact_at(page, at).ok());
        match read.count() {
            0 => secret += usize::from(line.contains("/secretmem")),
            _ => blocks.push(block),
        }
    }
    assert!(secret > 0, "the arena is there, and closed:\n{maps}");
    blocks
}

#[test]
fn signals_end_it_and_give_the_terminal_back() {
    let site = site();
    let tmux = Tmux::new(&site, &[]);
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        tmux.opens();
        // In the middle of a question, with a value on its way.
        tmux.keys(&["a", "Enter", "Enter", "Enter"]);
        tmux.types("half");
        tmux.wait_for("(hidden)");
        kill(tmux.process(), signal).unwrap();
        tmux.is_restored(128 + signal as i32);
    }
    for key in ["q", "C-c"] {
        tmux.opens();
        tmux.keys(&[key]);
        tmux.is_restored(0);
    }
}

#[test]
fn it_is_suspended_and_comes_back_as_it_was() {
    let site = site();
    site.set("API_KEY", FIRST);
    let tmux = Tmux::new(&site, &[]);
    tmux.opens();
    tmux.keys(&["r"]);
    tmux.types("half");
    tmux.wait_for("(hidden)");
    let process = tmux.process();
    for by_key in [true, false] {
        match by_key {
            true => tmux.keys(&["C-z"]),
            false => kill(process, Signal::SIGTSTP).unwrap(),
        }
        tmux.wait_for("Stopped");
        tmux.types("stty -a > $OUT/after; echo do''ne.");
        tmux.keys(&["Enter"]);
        tmux.wait_for("done.");
        assert_eq!(tmux.modes("before"), tmux.modes("after"));
        assert!(!tmux.shown().contains("all keys"));
        tmux.types("clear; fg");
        tmux.keys(&["Enter"]);
        tmux.wait_until("the question again", |shown| shown.contains("Rotate API_KEY") && shown.contains("(hidden)"));
    }
    // And it goes on as if nothing had been.
    tmux.types(" and half");
    tmux.keys(&["Enter"]);
    tmux.types("half and half");
    tmux.keys(&["Enter"]);
    tmux.wait_for("rotated API_KEY to version 2");
    assert_eq!(launch(&site, "one", "r1"), (Some(0), "half and half".into()));
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let site = site();
    site.set("API_KEY", FIRST);
    let tmux = Tmux::new(&site, &[]);
    tmux.opens();
    tmux.tells(&["resize-window", "-x", "60", "-y", "15"]);
    tmux.wait_for("too small: 60x15");
    tmux.wait_for("72x20 is needed; q quits");
    tmux.tells(&["resize-window", "-x", "200", "-y", "60"]);
    tmux.wait_until("the page", |shown| row_with(shown, &["API_KEY", "all", "1", "never"]));
    assert_eq!(tmux.shown().lines().count(), 60);
    tmux.keys(&["?"]);
    tmux.wait_for("revoke all its versions at once");
    tmux.tells(&["resize-window", "-x", "80", "-y", "24"]);
    tmux.wait_until("the small page", |shown| shown.lines().count() == 24 && shown.contains("Enter closes"));
    tmux.keys(&["Enter", "q"]);
    tmux.is_restored(0);
}

#[test]
fn marks_need_no_color_and_ascii_is_enough() {
    let site = site();
    assert_eq!(launch(&site, "two", "r1").0, Some(77));
    for (environment, colors) in [(&[][..], true), (&[("NO_COLOR", "1"), ("LC_ALL", "C")], false)] {
        let tmux = Tmux::new(&site, environment);
        tmux.opens();
        tmux.keys(&["2"]);
        tmux.wait_until("the mark", |shown| row_with(shown, &["!", "DENIED", "two"]));
        let drawn = tmux.tells(&["capture-pane", "-e", "-p"]);
        assert_eq!(
            drawn.contains("\x1b[31m") || drawn.contains("\x1b[1m\x1b[31m") || drawn.contains("38;5;1m"),
            colors,
            "{drawn:?}"
        );
        assert!(colors || !(30..=38).any(|ink| drawn.contains(&format!("\x1b[{ink}"))), "{drawn:?}");
        assert_eq!(drawn.is_ascii(), !colors);
        tmux.keys(&["q"]);
        tmux.is_restored(0);
    }
}

#[test]
fn a_passphrase_is_asked_for_once_before_the_screen() {
    let site = site();
    let folder = site.file("second");
    std::fs::write(site.file("passphrase"), "seven quiet otters\n").unwrap();
    let script = r#"exec "$0" init "$1" --key passphrase --passphrase-fd 3 3< "$2""#;
    let mut init = Command::new("sh");
    init.args(["-c", script, env!("CARGO_BIN_EXE_mentiko")]).arg(&folder).arg(site.file("passphrase"));
    assert!(init.output().unwrap().status.success());
    let tmux = Tmux::new(&site, &[("MENTIKO_INSTANCE", folder.to_str().unwrap())]);
    tmux.types("stty -a > $OUT/before; $MENTIKO settings");
    tmux.keys(&["Enter"]);
    tmux.wait_for("Passphrase:");
    tmux.types("nine loud otters");
    tmux.keys(&["Enter"]);
    tmux.wait_for("the passphrase is wrong");
    tmux.is_restored(1);
    tmux.types("clear; stty -a > $OUT/before; $MENTIKO settings");
    tmux.keys(&["Enter"]);
    tmux.wait_until("a new question", |shown| shown.trim() == "Passphrase:");
    tmux.types("seven quiet otters");
    tmux.keys(&["Enter"]);
    tmux.wait_for("no secrets yet");
    tmux.keys(&["a"]);
    tmux.types("API_KEY");
    tmux.keys(&["Enter", "Enter", "Enter"]);
    for _ in 0..2 {
        tmux.types(FIRST);
        tmux.keys(&["Enter"]);
    }
    tmux.wait_for("stored API_KEY version 1");
    holds_nothing(&tmux, FIRST);
    holds_nothing(&tmux, "seven quiet otters");
    tmux.keys(&["q"]);
    tmux.is_restored(0);
}

#[test]
fn a_definition_that_nobody_approved_grants_nothing_on_its_page_either() {
    let site = site();
    site.set("API_KEY", FIRST);
    site.set_policy("require_approval", true);
    let tmux = Tmux::new(&site, &[]);
    tmux.opens();
    tmux.keys(&["3"]);
    tmux.wait_until("the denial", |shown| row_with(shown, &["API_KEY", "NO", "not", "approved", "-"]));
    let output = site.mentiko(&["chain", "approve", "c", "--yes"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    tmux.wait_until("the approval, by itself", |shown| row_with(shown, &["API_KEY", "yes", "-"]));
}

#[test]
fn without_a_terminal_it_says_so() {
    let site = site();
    let output = site.mentiko(&["settings"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = "mentiko: 'mentiko settings' needs a terminal: standard input or output is none; \
                    the commands work without ('mentiko --help')\n";
    assert_eq!(text(&output.stderr), expected);
    let tmux = Tmux::new(&site, &[]);
    tmux.types("TERM=dumb $MENTIKO settings; $MENTIKO settings | cat; echo do''ne");
    tmux.keys(&["Enter"]);
    let shown = tmux.wait_for("done");
    assert!(shown.replace('\n', "").contains("can be drawn on: TERM is 'dumb'"), "{shown}");
    assert!(shown.replace('\n', "").contains("standard input or output is none"), "{shown}");
}

#[test]
fn a_vault_that_can_not_be_read_is_told_of_and_nothing_else_changes() {
    let site = site();
    site.set("API_KEY", FIRST);
    let tmux = Tmux::new(&site, &[]);
    tmux.opens();
    let vault: PathBuf = site.file("vault");
    let good = std::fs::read(&vault).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&vault, bad).unwrap();
    tmux.wait_for("the vault is damaged");
    tmux.keys(&["x"]);
    tmux.types("API_KEY");
    tmux.keys(&["Enter", "Enter"]);
    tmux.wait_until("the refusal", |shown| shown.matches("the vault is damaged").count() == 2);
    std::fs::write(&vault, good).unwrap();
    tmux.keys(&["Escape"]);
    tmux.wait_until("the page", |shown| row_with(shown, &["API_KEY", "all", "1"]) && !shown.contains("damaged"));
}
