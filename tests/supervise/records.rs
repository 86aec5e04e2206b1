//! What a supervised launch leaves on record, hands to its agent and reaps.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{Site, chmod, text};
use crate::{EXEC, EXEC_MODE, Launched, MASK, SUPERVISE, number, state, wait_until};

fn events(site: &Site, event: &str) -> Vec<Value> {
    site.log().into_iter().filter(|record| record["event"] == event).collect()
}

/// The wrapper, started by a shell in a state of its own.
fn shell(site: &Site, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-euc", script]).env_clear().env("EXEC", EXEC).stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("MENTIKO_INSTANCE", site.path());
    command
}

#[test]
fn the_agents_end_is_on_record_with_its_own_number() {
    for (options, script, status) in [
        (SUPERVISE, "echo $$; sleep 0.2; exit 7", 7),
        (MASK, "echo $$; sleep 0.2; exit 7", 7),
        (SUPERVISE, "echo $$; sleep 0.2; kill -USR1 $$", 138),
        (MASK, "echo $$; sleep 0.2; kill -USR1 $$", 138),
    ] {
        let site = Site::with_two_agents().unfenced();
        let mut launched = Launched::agent(&site, options, &["sh", "-c", script]);
        let (wrapper, agent) = (launched.pid(), number(&launched.line()));
        assert_ne!(wrapper, agent);
        assert_eq!(launched.end().code(), Some(status));
        let (accesses, ends) = (site.accesses(), events(&site, "agent.end"));
        assert_eq!((accesses.len(), ends.len()), (1, 1));
        let (access, end) = (&accesses[0], &ends[0]);
        for record in [access, end] {
            assert_eq!(record["pid"], agent.as_raw());
        }
        assert_eq!(end["outcome"], "done");
        assert_eq!(end["status"], status);
        let milliseconds = end["milliseconds"].as_u64().unwrap();
        // Counted from when the supervisor goes on, which may be a little after the agent does.
        assert!((100..20_000).contains(&milliseconds), "{milliseconds}");
        for field in ["start", "chain", "agent", "run", "command", "host", "uid"] {
            assert_eq!(access[field], end[field], "{field}");
            assert!(!end[field].is_null(), "{field}");
        }
        assert!(end["mac"].is_string());
        site.verify();
    }
}

#[test]
fn without_a_supervisor_no_end_is_on_record() {
    let site = Site::with_two_agents().unfenced();
    assert!(site.exec("c", "one").args(["--", "true"]).status().unwrap().success());
    assert_eq!(events(&site, "agent.end").len(), 0);
}

#[test]
fn an_agent_that_could_not_be_executed_has_no_end() {
    for options in [EXEC_MODE, SUPERVISE, MASK] {
        let site = Site::with_two_agents().unfenced();
        let script = site.file("script");
        std::fs::write(&script, "#!/nowhere/at/all\n").unwrap();
        chmod(&script, 0o755);
        let output = site.exec("c", "one").args(options).arg("--").arg(&script).output().unwrap();
        assert_eq!(output.status.code(), Some(127), "{options:?}");
        let line = text(&output.stderr);
        assert!(line.ends_with("its interpreter is missing\n") && line.lines().count() == 1, "{options:?} {line}");
        let outcomes: Vec<Value> = site.accesses().iter().map(|record| record["outcome"].clone()).collect();
        assert_eq!(outcomes, ["granted"], "{options:?}");
        assert_eq!(events(&site, "launch.failed").len(), 1, "{options:?}");
        assert_eq!(events(&site, "agent.end").len(), 0, "{options:?}");
        site.verify();
    }
}

#[test]
fn without_a_record_no_agent_runs() {
    for options in [SUPERVISE, MASK] {
        let site = Site::with_two_agents().unfenced();
        let segment = site.segment();
        std::fs::remove_file(&segment).unwrap();
        std::fs::create_dir(&segment).unwrap();
        let marker = site.file("marker");
        let output = site.exec("c", "one").args(options).arg("--").arg("touch").arg(&marker).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{options:?}");
        let line = text(&output.stderr);
        assert!(line.contains("without its record nothing is launched") && line.lines().count() == 1, "{line}");
        assert!(!marker.exists());
    }
}

#[test]
fn a_denial_is_on_record_once() {
    for options in [SUPERVISE, MASK] {
        let site = Site::with_two_agents().unfenced();
        let output = site.exec("c", "three").args(options).args(["--", "true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(77), "{options:?}");
        let outcomes: Vec<Value> = site.accesses().iter().map(|record| record["outcome"].clone()).collect();
        assert_eq!(outcomes, ["denied"], "{options:?}");
        assert_eq!(events(&site, "agent.end").len(), 0);
        site.verify();
    }
}

/// A refusal by the agent's side of the fork: its record needs the key, which lies in the arena that
/// both sides share and the other wipes when it goes on.
#[test]
fn a_refusal_after_the_fork_is_on_record_once_with_its_mac() {
    let site = Site::with_two_agents();
    // Behind the fence there is no command.
    let command = site.file("command");
    std::fs::copy("/bin/sh", &command).unwrap();
    chmod(&command, 0o755);
    for options in [SUPERVISE, MASK] {
        for _ in 0..10 {
            let mut exec = site.exec("c", "one");
            exec.args(options).args(["--fence", "require", "--"]).arg(&command).args(["-c", "exit 3"]);
            let output = exec.output().unwrap();
            assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
            assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
        }
    }
    let accesses = site.accesses();
    assert_eq!(accesses.len(), 20);
    for record in accesses {
        assert_eq!(record["outcome"], "denied");
        assert!(record["mac"].is_string());
    }
    assert_eq!(events(&site, "agent.end").len(), 0);
    site.verify();
}

#[test]
fn orphans_of_the_agent_are_reaped_while_it_runs() {
    let site = Site::with_two_agents().unfenced();
    for options in [SUPERVISE, MASK] {
        // Each inner shell ends at once, and leaves its child behind.
        let script = "for _ in 1 2 3; do sh -c 'sleep 0.1 > /dev/null & echo $!'; done; exec sleep 60";
        let mut launched = Launched::agent(&site, options, &["sh", "-c", script]);
        let orphans = [(); 3].map(|()| number(&launched.line()));
        wait_until("the orphans are gone, not even zombies", || orphans.iter().all(|&orphan| state(orphan).is_none()));
        assert_eq!(launched.child.try_wait().unwrap(), None);
        launched.send(nix::libc::SIGTERM);
        assert_eq!(launched.end().code(), Some(143));
    }
}

/// With SIGCHLD ignored the kernel reaps children itself, and their status is lost.
#[test]
fn a_caller_that_ignores_the_end_of_children_gets_the_status_all_the_same() {
    let site = Site::with_two_agents().unfenced();
    for option in ["--supervise", "--mask"] {
        let script = r#"exec env --ignore-signal=CHLD "$EXEC" --chain c --agent one "$0" -- sh -c '
            exit 5'"#;
        let output = shell(&site, script).arg(option).output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{option}");
        assert_eq!(events(&site, "agent.end").last().unwrap()["status"], 5);
    }
}

#[test]
fn signals_are_as_the_caller_left_them() {
    let site = Site::with_two_agents().unfenced();
    let lines = |prefix: &str, option: &str| {
        let script = format!(
            r#"exec env {prefix} "$EXEC" --chain c --agent one $0 -- grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status"#
        );
        text(&shell(&site, &script).arg(option).output().unwrap().stdout)
    };
    for prefix in [
        "",
        "--ignore-signal=CHLD",
        "--ignore-signal=PIPE --ignore-signal=HUP",
        "--block-signal=TERM --block-signal=CHLD",
    ] {
        // Options of the wrapper that change nothing here stand for exec mode.
        let expected = lines(prefix, "--no-new-privs");
        assert_eq!(expected.lines().count(), 3);
        for option in ["--supervise", "--mask"] {
            assert_eq!(lines(prefix, option), expected, "{prefix} {option}");
        }
    }
}

#[test]
fn no_descriptor_of_the_wrapper_or_the_caller_reaches_the_agent() {
    let site = Site::with_two_agents().unfenced();
    for option in ["--supervise", "--mask"] {
        let script = r#"exec 5< /dev/null 9> /dev/null; exec "$EXEC" --chain c --agent one "$0" -- sh -c '
            ls /proc/$$/fd; :'"#;
        let output = shell(&site, script).arg(option).output().unwrap();
        assert_eq!(text(&output.stdout), "0\n1\n2\n", "{option}");
        let script = script.replace("\"$0\"", "\"$0\" --pass-fd 5");
        let output = shell(&site, &script).arg(option).output().unwrap();
        assert_eq!(text(&output.stdout), "0\n1\n2\n5\n", "{option}");
    }
}

/// sd_listen_fds(3) takes descriptors only where LISTEN_PID is the process's own number.
#[test]
fn sockets_of_systemd_are_the_supervised_agents() {
    let site = Site::with_two_agents().unfenced();
    for option in ["--supervise", "--mask"] {
        let script = r#"exec 3< /dev/null; export LISTEN_PID=$$ LISTEN_FDS=1
            exec "$EXEC" --chain c --agent one "$0" -- sh -c 'echo $$; echo $LISTEN_PID $LISTEN_FDS; ls /proc/$$/fd; :'"#;
        let output = text(&shell(&site, script).arg(option).output().unwrap().stdout);
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[1], format!("{} 1", lines[0]));
        assert_eq!(lines[2..], ["0", "1", "2", "3"]);
    }
}
