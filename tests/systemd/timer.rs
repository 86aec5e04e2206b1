//! The timer that says what is due.

use crate::machine::{Machine, wait_for};

const SERVICE: &str = "mentiko-due.service";
const TIMER: &str = "mentiko-due.timer";

/// A drop-in for the service: another command, which ends so.
fn ends_with(machine: &Machine, status: u8) {
    let command = format!("/bin/sh -c 'echo A is due; exit {status}'");
    machine.write(
        "/etc/systemd/system/mentiko-due.service.d/command.conf",
        &format!("[Service]\nExecStart=\nExecStart={command}\n"),
    );
    machine.ok(&["systemctl", "daemon-reload"]);
}

#[test]
fn it_fires_and_a_reminder_is_no_failure() {
    let Some(machine) = Machine::with_instance() else { return };
    ends_with(&machine, 1);
    machine.write(
        "/etc/systemd/system/mentiko-due.timer.d/soon.conf",
        "[Timer]\nOnCalendar=\nOnActiveSec=100ms\nAccuracySec=1ms\nRandomizedDelaySec=0\n",
    );
    machine.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(machine.show(SERVICE, "ExecMainStatus"), "0");
    machine.ok(&["systemctl", "start", TIMER]);
    machine.is_soon(SERVICE, "ExecMainStatus", "1");
    machine.is_soon(SERVICE, "ActiveState", "inactive");
    assert_eq!(machine.show(SERVICE, "Result"), "success");
    let told = || machine.ok(&["journalctl", "--no-pager", "--output", "cat", "--unit", SERVICE]);
    assert!(wait_for(|| told().lines().any(|line| line == "A is due")), "{}", told());

    ends_with(&machine, 2);
    assert!(!machine.run(&["systemctl", "start", SERVICE]).status.success());
    assert_eq!(machine.show(SERVICE, "Result"), "exit-code");
}

#[test]
fn it_tells_what_is_due() {
    let Some(machine) = Machine::with_instance() else { return };
    machine.mentiko(&[], &["secret", "schedule", "B", "1d"], "");
    machine.ok(&["systemctl", "start", SERVICE]);
    let told = || machine.ok(&["journalctl", "--no-pager", "--output", "cat", "--unit", SERVICE]);
    assert!(wait_for(|| told().lines().any(|line| line.starts_with("B "))), "{}", told());
    assert!(!told().lines().any(|line| line.starts_with("A ")), "{}", told());
}
