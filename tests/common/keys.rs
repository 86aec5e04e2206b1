//! Commands about keys, with secrets on descriptors of their own.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::process::{Command, Output};

use super::common::{Site, text};

/// The same command with text on a descriptor of its own.
pub fn with_fd(command: &Command, fd: u32, content: &[u8]) -> Command {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let path = file.into_temp_path().keep().unwrap();
    let mut shell = Command::new("sh");
    let script = format!(r#"exec "$@" {fd}<"$INPUT""#);
    shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args()).env("INPUT", path);
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell.stdin(std::process::Stdio::null());
    shell
}

pub fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The one line with which the command must fail.
pub fn refused(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(status.code(), Some(1), "{}{}", text(&stdout), text(&stderr));
    assert_eq!(text(&stderr).lines().count(), 1, "{}", text(&stderr));
    text(&stderr)
}

/// Adds a recovery code and reads it off the screen.
pub fn recovery_code(site: &Site) -> String {
    let shown = done(&mut site.mentiko(&["key", "add", "--recovery"]));
    let is_code = |line: &&str| line.len() == 47 && line.split('-').count() == 8;
    shown.lines().find(is_code).unwrap_or_else(|| panic!("no code: {shown}")).to_owned()
}

pub fn with_code(site: &Site, code: &str, arguments: &[&str]) -> Command {
    let arguments = [&["--recovery-code-fd", "9"], arguments].concat();
    with_fd(&site.mentiko(&arguments), 9, code.as_bytes())
}

/// What the agents of `Site::with_two_agents` get.
pub fn values(site: &Site) -> [String; 2] {
    [("one", "A"), ("two", "B")].map(|(agent, name)| {
        let output = site.exec("c", agent).args(["--", "printenv", name]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim_end().to_owned()
    })
}

pub fn assert_whole(site: &Site) {
    assert_eq!(values(site), ["value-of-a-4711", "value-of-b-0815"]);
    site.verify();
}
