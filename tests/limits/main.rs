//! Launches where something is scarce or comes from elsewhere.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod low;

use std::process::Command;

use common::{Site, chmod, is_root, text};

const EXEC: &str = env!("CARGO_BIN_EXE_mentiko-exec");

fn shell(site: &Site, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("EXEC", EXEC).env("SITE", site.path()).env("MENTIKO_INSTANCE", site.path());
    command
}

#[test]
fn masking_for_which_memory_can_not_be_locked_is_refused_before_the_grant() {
    let site = Site::with_two_agents().unfenced();
    let script = r#"ulimit -l 64; exec "$EXEC" --chain c --agent one --mask -- touch "$SITE/marker""#;
    let output = shell(&site, script).output().unwrap();
    let last = &site.accesses()[0];
    if is_root() {
        // The limit does not bind who has CAP_IPC_LOCK.
        assert_eq!((output.status.code(), &last["outcome"]), (Some(0), &"granted".into()));
        return;
    }
    assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("raise RLIMIT_MEMLOCK"), "{}", text(&output.stderr));
    assert_eq!((site.accesses().len(), &last["outcome"]), (1, &"denied".into()));
    assert!(!site.file("marker").exists());
}

#[test]
fn the_credential_that_is_the_key_is_behind_the_fence() {
    let site = Site::new();
    let credentials = tempfile::tempdir().unwrap();
    let key = credentials.path().join("mentiko");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    chmod(&key, 0o400);
    let instance = site.file("second");
    let made = site
        .mentiko(&["init", "--key", "systemd-credential=mentiko"])
        .arg(&instance)
        .env("CREDENTIALS_DIRECTORY", credentials.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    std::fs::write(instance.join("chains/c.json"), r#"{"secrets": []}"#).unwrap();
    chmod(&instance.join("chains/c.json"), 0o600);
    let read = |fence: &str| {
        let mut command = site.exec("c", "a");
        command.args(["--fence", fence, "--", "cat"]).arg(&key);
        let output =
            command.env("MENTIKO_INSTANCE", &instance).env("CREDENTIALS_DIRECTORY", credentials.path()).output();
        text(&output.unwrap().stdout)
    };
    assert_eq!(read("off"), "0123456789abcdef0123456789abcdef");
    assert_eq!(read("require"), "");
}
