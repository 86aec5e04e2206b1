//! docs/migration.md, as it stands there: each of its commands is run, and the agents have the values.
//!
//! dotenvx (from npm) and direnv are the real ones. op, doppler and sops are stand-ins that do what
//! their documentation says of the one command that is used.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Site, chmod, text};

const VALUES: [(&str, &str, &str); 2] =
    [("researcher", "OPENAI_API_KEY", "sk-value-4711"), ("publisher", "SLACK_WEBHOOK", "https://hooks.invalid/a b")];

/// The commands below a heading of the guides, each block one.
fn commands(heading: &str) -> Vec<String> {
    let guides = include_str!("../docs/migration.md");
    let section = guides.split("\n## ").find(|section| section.starts_with(heading)).expect(heading);
    let blocks: Vec<String> = section
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().replace("mentiko secret import", "mentiko secret import --yes"))
        .collect();
    assert!(!blocks.is_empty(), "{heading}");
    blocks
}

/// An instance with the chain that the guides define.
fn site() -> Site {
    let site = Site::new().unfenced();
    let guides = include_str!("../docs/migration.md");
    let definition = guides.split("```\n{").nth(1).unwrap().split("```").next().unwrap();
    site.chain("content-pipeline", &format!("{{{definition}"));
    std::fs::create_dir_all(site.file("work/bin")).unwrap();
    site
}

/// Runs a script in the folder `work` of the instance, as a user would.
fn run(site: &Site, script: &str, programs: &[&Path]) -> String {
    let ours = Path::new(env!("CARGO_BIN_EXE_mentiko")).parent().unwrap().to_owned();
    let bin = site.file("work/bin");
    let path = std::env::var_os("PATH").unwrap();
    let folders = [ours, bin].into_iter().chain(programs.iter().map(|path| path.to_path_buf()));
    let path = std::env::join_paths(folders.chain(std::env::split_paths(&path))).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-euc", script]).current_dir(site.file("work"));
    shell.env("MENTIKO_INSTANCE", site.path()).env("PATH", path).env("HOME", site.path());
    let output = shell.output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}");
    assert!(!VALUES.iter().any(|(_, _, value)| said.contains(value)), "{said}");
    said
}

/// Each agent has its own value and not that of the other.
fn agents_have_their_values(site: &Site) {
    for (agent, name, value) in VALUES {
        let output = site.exec("content-pipeline", agent).args(["--", "env"]).output().unwrap();
        let variables = text(&output.stdout);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(variables.contains(&format!("{name}={value}\n")), "{agent}");
        assert!(!VALUES.iter().any(|(_, other, value)| *other != name && variables.contains(value)), "{agent}");
    }
    site.verify();
}

fn write(site: &Site, file: &str, content: &str) {
    let path = site.file("work").join(file);
    std::fs::write(&path, content).unwrap();
    chmod(&path, if content.starts_with("#!") { 0o700 } else { 0o600 });
}

/// Everything is tried anew for each block of commands below the heading.
fn guide(heading: &str, prepare: impl Fn(&Site), programs: &[&Path]) {
    for command in commands(heading) {
        let site = site();
        prepare(&site);
        run(&site, &command, programs);
        agents_have_their_values(&site);
    }
}

const DOTENV: &str = "OPENAI_API_KEY=sk-value-4711\nexport SLACK_WEBHOOK='https://hooks.invalid/a b'\n";

#[test]
fn from_a_dotenv_file() {
    guide("From a .env file", |site| write(site, ".env", DOTENV), &[]);
    // The first of the two ways leaves no file.
    let site = site();
    write(&site, ".env", DOTENV);
    run(&site, &commands("From a .env file")[0], &[]);
    assert!(!site.file("work/.env").exists());
}

#[test]
fn from_dotenvx() {
    let folder = tempfile::tempdir().unwrap();
    let mut npm = Command::new("npm");
    npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", ".", "@dotenvx/dotenvx@2.38.2"]);
    let output = npm.current_dir(folder.path()).output().expect("this test needs npm (Debian: npm)");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let programs = folder.path().join("node_modules/.bin");
    let prepare = |site: &Site| {
        write(site, ".env", &format!("{DOTENV}LOG_LEVEL=debug\n"));
        run(site, "dotenvx encrypt && grep -q encrypted: .env", &[&programs]);
    };
    guide("From dotenvx", prepare, &[&programs]);
}

#[test]
fn from_direnv() {
    let prepare = |site: &Site| {
        write(site, ".envrc", &DOTENV.replace("OPENAI", "export OPENAI"));
        run(site, "direnv allow .", &[]);
    };
    guide("From direnv", prepare, &[]);
}

#[test]
fn from_sops() {
    let prepare = |site: &Site| {
        write(site, "secrets.enc.yaml", DOTENV);
        let stand_in = "#!/bin/sh\n[ \"$1\" = exec-env ] || exit 2\nset -a; . \"./$2\"; exec sh -c \"$3\"\n";
        write(site, "bin/sops", stand_in);
    };
    guide("From sops", prepare, &[]);
}

#[test]
fn from_op_run() {
    let prepare = |site: &Site| {
        write(site, "agent.env", "OPENAI_API_KEY=op://agents/openai/key\nSLACK_WEBHOOK=op://agents/slack/webhook\n");
        write(
            site,
            "bin/op",
            "#!/bin/sh\n[ \"$1 $2 $4\" = 'run --env-file --' ] || exit 2\nset -a; . \"./$3\"; shift 4\n\
             [ \"$OPENAI_API_KEY\" = op://agents/openai/key ] && OPENAI_API_KEY=sk-value-4711\n\
             [ \"$SLACK_WEBHOOK\" = op://agents/slack/webhook ] && SLACK_WEBHOOK='https://hooks.invalid/a b'\n\
             exec \"$@\"\n",
        );
    };
    guide("From 1Password", prepare, &[]);
}

#[test]
fn from_doppler_run() {
    let prepare = |site: &Site| {
        let exports = DOTENV.replace("export ", "");
        write(
            site,
            "bin/doppler",
            &format!(
                "#!/bin/sh\n[ \"$1 $2\" = 'run --' ] || exit 2\nshift 2; set -a; DOPPLER_PROJECT=p\n{exports}exec \"$@\"\n"
            ),
        );
    };
    guide("From doppler run", prepare, &[]);
}

#[test]
fn from_lines_of_a_unit() {
    let unit = "[Service]\nUser=agents\nEnvironment=OPENAI_API_KEY=sk-value-4711\n\
                Environment=SLACK_WEBHOOK='https://hooks.invalid/a b'\nExecStart=/usr/bin/python3 agent.py\n";
    let heading = "From systemd's Environment= lines";
    guide(heading, |site| write(site, "agent.service", unit), &[]);
    // What systemd reads otherwise than a .env file is refused, not guessed at.
    let site = site();
    write(&site, "agent.service", &unit.replace("SLACK_WEBHOOK='https://hooks.invalid/a b'", "\"SLACK_WEBHOOK=a b\""));
    let command = format!("! {{ {}; }}", commands(heading)[0].replace(")\n", ") &&\n").trim());
    let said = run(&site, &command, &[]);
    assert!(said.contains("refused") && site.file("work/agent.env").exists(), "{said}");
}
