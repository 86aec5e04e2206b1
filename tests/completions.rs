//! Completion in real shells on a real terminal: keys go in, and the command that they complete runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{Site, output_with_input, text};

/// An instance with a secret that no chain names, and a chain with one that is not stored.
fn site() -> Site {
    let site = Site::new().unfenced();
    site.set("OPENAI_API_KEY", "sk-value-4711");
    site.set("SHELL_ONLY", "value-0815");
    site.chain(
        "content-pipeline",
        r#"{"secrets": ["OPENAI_API_KEY", "NOT_STORED"],
            "agents": {"researcher": ["OPENAI_API_KEY"], "writer": []}}"#,
    );
    site.chain("newsletter", r#"{"secrets": ["OPENAI_API_KEY"], "agents": {"editor": []}}"#);
    site
}

/// What is typed, what the command then says.
const TYPED: &[(&str, &str)] = &[
    // A command, its command, a secret of the vault.
    ("mentiko sec\tsho\tSHELL\t\r", "  scope    all"),
    ("mentiko chain show cont\t\r", "denied: not in the vault|granted"),
    ("mentiko audit query --outcome=denied --chain newsl\t --count\r", "0\r\n"),
    ("mentiko secret scope SHELL_ONLY newsletter,cont\t\r", "SHELL_ONLY: scope content-pipeline,newsletter"),
    ("mentiko chain check chains/newsl\t\r", "chains/newsletter.json: ok"),
    ("mentiko-exec --chain cont\t --agent resea\t --dry-run -- true\r", "OPENAI_API_KEY"),
    ("mentiko-exec --fence=of\t --chain content-pipeline --agent resea\t -- ./say-it-is-do\t\r", "it is done"),
];

struct Terminal {
    shell: Child,
    keys: ChildStdin,
    screen: Receiver<Vec<u8>>,
}

impl Terminal {
    /// The shell under script(1), which gives it a terminal of its own.
    fn open(site: &Site, shell: &str, environment: &[(&str, &Path)]) -> Self {
        let programs = Path::new(env!("CARGO_BIN_EXE_mentiko")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", shell, "/dev/null"]).current_dir(site.path());
        command.env("MENTIKO_INSTANCE", site.path()).env("PATH", path).env("TERM", "dumb").env("HOME", site.path());
        command.env("LC_ALL", "C.UTF-8").env_remove("XDG_CONFIG_HOME").envs(environment.iter().copied());
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, screen) = channel();
        let mut output = shell.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                let _ = sender.send(buffer[..length].to_vec());
            }
        });
        Self { keys: shell.stdin.take().unwrap(), shell, screen }
    }

    fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until one of these, with | between, is on the screen.
    fn expect(&mut self, expected: &str) {
        let (mut seen, end) = (Vec::new(), Instant::now() + Duration::from_secs(30));
        while !expected.split('|').any(|expected| text(&seen).contains(expected)) {
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(more) => seen.extend(more),
                Err(_) => panic!("no '{expected}' in:\n{}", text(&seen)),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Writes the script of a shell for one program.
fn write_script(site: &Site, shell: &str, program: &str, place: &Path) {
    let output = site.mentiko(&["completions", shell, "--for", program]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(place, output.stdout).unwrap();
}

fn complete_in(site: &Site, mut terminal: Terminal) {
    let program = site.file("say-it-is-done");
    std::fs::write(&program, "#!/bin/sh\necho it is done\n").unwrap();
    common::chmod(&program, 0o755);
    for (number, (keys, expected)) in TYPED.iter().enumerate() {
        terminal.type_keys(keys);
        terminal.expect(expected);
        // Each is finished before the next is typed.
        terminal.type_keys(&format!("echo finished-'{number}'\r"));
        terminal.expect(&format!("finished-{number}"));
    }
}

#[test]
fn bash_completes_names() {
    let site = site();
    for program in ["mentiko", "mentiko-exec"] {
        write_script(&site, "bash", program, &site.file(&format!("scripts/{program}")));
    }
    let mut terminal = Terminal::open(&site, "bash --norc --noprofile -i", &[]);
    terminal.type_keys("source scripts/mentiko; source scripts/mentiko-exec; echo read-'42'\r");
    terminal.expect("read-42");
    complete_in(&site, terminal);
}

#[test]
fn zsh_completes_names() {
    let site = site();
    for program in ["mentiko", "mentiko-exec"] {
        write_script(&site, "zsh", program, &site.file(&format!("scripts/_{program}")));
    }
    std::fs::write(site.file(".zshrc"), "fpath=(~/scripts $fpath)\nautoload -U compinit\ncompinit -u -D\n").unwrap();
    let mut terminal = Terminal::open(&site, "zsh -i", &[("ZDOTDIR", site.path())]);
    terminal.type_keys("echo read-'42'\r");
    terminal.expect("read-42");
    complete_in(&site, terminal);
}

#[test]
fn fish_completes_names() {
    let site = site();
    for program in ["mentiko", "mentiko-exec"] {
        write_script(&site, "fish", program, &site.file(&format!(".config/fish/completions/{program}.fish")));
    }
    let mut terminal = Terminal::open(&site, "fish -i", &[]);
    terminal.type_keys("echo read-'42'\r");
    terminal.expect("read-42");
    complete_in(&site, terminal);
}

/// The names that are offered in the place of the last word.
fn offered(site: &Site, words: &[&str]) -> String {
    let mut command = site.mentiko(&["complete", "--for", "mentiko", "--"]);
    let output = output_with_input(command.args(words), b"");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn completing_leaves_no_record_and_asks_for_no_passphrase() {
    let site = site();
    let before = site.log().len();
    assert_eq!(offered(&site, &["secret", "show", ""]), "words\nNOT_STORED\t\nOPENAI_API_KEY\t\nSHELL_ONLY\t\n");
    assert_eq!(
        offered(&site, &["secret", "scope", "A", "newsletter,"]),
        "words\nnewsletter,all\t\nnewsletter,content-pipeline\t\nnewsletter,newsletter\t\n"
    );
    assert_eq!(offered(&site, &["audit", "query", "--agent", ""]), "words\neditor\t\nresearcher\t\nwriter\t\n");
    assert_eq!(offered(&site, &["audit", "query", "--chain", "newsletter", "--agent", ""]), "words\neditor\t\n");
    assert_eq!(site.log().len(), before);

    // What opens the vault can't be had silently: the definitions' names are all there is.
    let path = site.file("instance.json");
    let configuration = std::fs::read_to_string(&path).unwrap();
    let start = configuration.find("\"key\": {").unwrap();
    let end = start + configuration[start..].find('}').unwrap();
    let configuration =
        format!("{}\"key\": {{\"source\": \"passphrase\"{}", &configuration[..start], &configuration[end..]);
    std::fs::write(&path, configuration).unwrap();
    assert_eq!(offered(&site, &["secret", "show", ""]), "words\nNOT_STORED\t\nOPENAI_API_KEY\t\n");
    // Nor is a fault a thing to say at a prompt.
    std::fs::write(&path, "{").unwrap();
    assert_eq!(offered(&site, &["secret", "show", ""]), "words\n");
}
