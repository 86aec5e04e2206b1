//! An agent in a unit of the template.

use serde_json::Value;

use crate::common::chmod;
use crate::machine::{Machine, SEALED_KEY, wait_for};

const UNIT: &str = "mentiko-agent@c:one.service";

/// The line of a drop-in that runs the agent of the tests.
fn command(agent: &str, options: &str, task: &str) -> String {
    let launch = format!("/usr/local/bin/mentiko-exec --chain c --agent {agent} {options}");
    format!("[Service]\nExecStart={launch} -- /usr/bin/python3 /usr/local/bin/agent.py {task}\n")
}

/// What the agent of an instance wrote down.
fn seen(machine: &Machine, instance: &str) -> Value {
    let path = format!("/var/lib/mentiko-agents/{instance}/seen");
    let written = wait_for(|| machine.file(&path).exists());
    assert!(written, "{}", machine.journal());
    let seen = serde_json::from_str(&machine.read(&path)).unwrap();
    std::fs::remove_file(machine.file(&path)).unwrap();
    seen
}

/// The program that a unit's main process runs.
fn main_program(machine: &Machine, unit: &str) -> (String, String) {
    let pid = machine.show(unit, "MainPID");
    let program = machine.ok(&["readlink", &format!("/proc/{pid}/exe")]);
    let program = program.trim_end().rsplit('/').next().unwrap().to_owned();
    (pid, program)
}

#[test]
fn it_has_its_grant_behind_its_fence_and_is_the_units_main_process() {
    let Some(machine) = Machine::with_instance() else { return };
    let no_jit = "MemoryDenyWriteExecute=yes\n";
    machine.drop_in("c:two", &(command("two", "--fence require", "stay") + no_jit));
    machine.ok(&["systemctl", "start", "mentiko-agent@c:two.service"]);
    let (other, _) = main_program(&machine, "mentiko-agent@c:two.service");
    assert_eq!(seen(&machine, "c:two")["environment"]["B"], "value-of-b-0815");

    let key = format!("/run/credentials/{UNIT}/mentiko-key");
    let others = format!("/proc/{other}/environ");
    let paths = ["/etc/mentiko/instance.json", "/var/lib/mentiko/vault", &key, &others];
    machine.drop_in("c:one", &command("one", "--fence require", &format!("stay {}", paths.join(" "))));
    machine.ok(&["systemctl", "start", UNIT]);
    let seen = seen(&machine, "c:one");
    let environment = &seen["environment"];
    assert_eq!(environment["A"], "value-of-a-4711");
    assert_eq!(environment["MENTIKO_FENCE"], "namespace");
    for name in ["B", "CREDENTIALS_DIRECTORY", "MENTIKO_INSTANCE"] {
        assert!(environment[name].is_null(), "{name}");
    }
    let reached: Vec<&str> = paths.iter().map(|path| seen["reached"][path].as_str().unwrap()).collect();
    let nothing = "No such file or directory";
    assert_eq!(reached, [nothing, nothing, "empty", nothing]);
    assert_eq!(seen["beside"], serde_json::json!(["c:one"]));
    let status = ["NoNewPrivs", "Seccomp", "CapEff"].map(|name| seen["status"][name].as_str().unwrap());
    assert_eq!(status, ["1", "2", "0000000000000000"]);

    let (pid, program) = main_program(&machine, UNIT);
    assert!(program.starts_with("python3"), "{program}");
    assert_eq!(seen["pid"].to_string(), pid);
    let accesses = machine.accesses();
    let record = accesses.last().unwrap();
    assert_eq!((&record["fence"], &record["memory"]), (&"namespace".into(), &"secretmem".into()));
    assert_eq!((&record["pid"], &record["secret"]), (&seen["pid"], &"A".into()));
    machine.mentiko(&[], &["audit", "verify"], "");
}

#[test]
fn it_is_stopped_and_gets_the_new_value_when_it_is_restarted() {
    let Some(machine) = Machine::with_instance() else { return };
    machine.drop_in("c:one", &command("one", "--fence require", "stay"));
    machine.ok(&["systemctl", "start", UNIT]);
    let first = seen(&machine, "c:one");
    machine.set("A", "value-of-a-new");
    assert_eq!(machine.show(UNIT, "MainPID"), first["pid"].to_string());
    machine.ok(&["systemctl", "restart", UNIT]);
    let second = seen(&machine, "c:one");
    assert_eq!(second["environment"]["A"], "value-of-a-new");
    assert_ne!(first["environment"]["MENTIKO_RUN_ID"], second["environment"]["MENTIKO_RUN_ID"]);
    let versions: Vec<Value> = machine.accesses().iter().map(|record| record["version"].clone()).collect();
    assert_eq!(versions, [1, 2]);
    machine.ok(&["systemctl", "stop", UNIT]);
    assert_eq!(
        (machine.show(UNIT, "ActiveState"), machine.show(UNIT, "Result")),
        ("inactive".into(), "success".into())
    );
    let pid = second["pid"].to_string();
    assert!(!machine.run(&["kill", "-0", &pid]).status.success(), "{pid} still runs");
}

#[test]
fn it_says_itself_when_it_is_ready() {
    let Some(machine) = Machine::with_instance() else { return };
    let notify = "Type=notify\nNotifyAccess=main\n";
    machine.drop_in("c:one", &(command("one", "--fence require", "get-ready") + notify));
    machine.ok(&["systemctl", "start", "--no-block", UNIT]);
    let seen = seen(&machine, "c:one");
    assert_eq!(machine.show(UNIT, "ActiveState"), "activating");
    machine.write("/var/lib/mentiko-agents/c:one/go", "");
    machine.is_soon(UNIT, "ActiveState", "active");
    assert_eq!(machine.show(UNIT, "StatusText"), "reading");
    assert_eq!(machine.show(UNIT, "MainPID"), seen["pid"].to_string());
    machine.ok(&["systemctl", "stop", UNIT]);

    // A supervised agent is not the main process.
    let notify = "Type=notify\nNotifyAccess=all\nKillMode=mixed\nSuccessExitStatus=143\n";
    machine.drop_in("c:one", &(command("one", "--fence require --supervise", "get-ready") + notify));
    machine.ok(&["systemctl", "start", UNIT]);
    assert_eq!(main_program(&machine, UNIT).1, "mentiko-exec");
    machine.ok(&["systemctl", "stop", UNIT]);
    assert_eq!(machine.show(UNIT, "Result"), "success");
}

#[test]
fn a_refusal_is_told_by_its_status_and_not_tried_again() {
    let Some(machine) = Machine::with_instance() else { return };
    let unit = "mentiko-agent@c:three.service";
    let quick = "RestartSec=0\n";
    let ends = |status: &str| {
        machine.is_soon(unit, "ActiveState", "failed");
        let shown = ["SubState", "Result", "ExecMainStatus", "NRestarts"].map(|name| machine.show(unit, name));
        assert_eq!(shown, ["failed", "exit-code", status, "0"], "{}", machine.journal());
        machine.ok(&["systemctl", "reset-failed", unit]);
    };

    machine.drop_in("c:three", &(command("three", "--fence require", "stay") + quick));
    machine.start(unit);
    machine.is_soon(unit, "ActiveState", "failed");
    let shown = String::from_utf8(machine.run(&["systemctl", "status", unit]).stdout).unwrap();
    assert!(shown.contains("status=77/NOPERM") && shown.contains("three"), "{shown}");
    ends("77");
    let record = machine.accesses().pop().unwrap();
    assert_eq!((&record["outcome"], &record["agent"]), (&"denied".into(), &"three".into()));

    // Who waits is told.
    machine.drop_in("c:three", &(command("three", "--fence require", "stay") + quick + "Type=notify\n"));
    assert!(!machine.run(&["systemctl", "start", unit]).status.success());
    ends("77");

    // A fault of the configuration.
    machine.drop_in("c:three", &(command("one", "--fence require", "stay") + quick));
    let configuration = machine.file("/etc/mentiko/instance.json");
    chmod(&configuration, 0o666);
    machine.start(unit);
    ends("78");
    chmod(&configuration, 0o644);

    // An agent that fails is tried again.
    machine.drop_in("c:three", &(command("one", "--fence require", "fail") + quick));
    machine.start(unit);
    assert!(wait_for(|| machine.show(unit, "NRestarts").parse::<u32>().unwrap() > 0), "{}", machine.journal());
}

#[test]
fn what_the_hardening_leaves_out_shows() {
    let Some(machine) = Machine::with_instance() else { return };
    // Without a drop-in there is nothing to run.
    assert!(!machine.run(&["systemctl", "start", UNIT]).status.success());
    assert_eq!(machine.show(UNIT, "LoadState"), "bad-setting");

    // Landlock can't except the key below /run, and so nothing stands in for the namespaces.
    let none = "RestrictNamespaces=\nRestrictNamespaces=yes\n";
    machine.drop_in("c:one", &(command("one", "--fence require", "stay") + none));
    machine.start(UNIT);
    machine.is_soon(UNIT, "ExecMainStatus", "78");
    assert!(machine.journal().contains("no fence: user namespaces are refused"), "{}", machine.journal());
    machine.drop_in("c:one", &(command("one", "", "stay") + none));
    machine.ok(&["systemctl", "start", UNIT]);
    assert_eq!(seen(&machine, "c:one")["environment"]["A"], "value-of-a-4711");
    let record = machine.accesses().pop().unwrap();
    assert_eq!((&record["fence"], &record["memory"]), (&"none".into(), &"secretmem".into()));
    machine.ok(&["systemctl", "stop", UNIT]);

    machine.drop_in("c:one", &(command("one", "--fence require", "stay") + "SystemCallFilter=~memfd_secret\n"));
    machine.ok(&["systemctl", "start", UNIT]);
    assert_eq!(seen(&machine, "c:one")["environment"]["A"], "value-of-a-4711");
    assert_eq!(machine.accesses().pop().unwrap()["memory"], "mlock");
    machine.ok(&["systemctl", "stop", UNIT]);

    std::fs::remove_file(machine.file(SEALED_KEY)).unwrap();
    let launches = machine.accesses().len();
    assert!(!machine.run(&["systemctl", "start", UNIT]).status.success());
    assert_eq!(machine.show(UNIT, "ExecMainStatus"), "243");
    assert_eq!(machine.accesses().len(), launches);
}
