//! A user that systemd makes up for the units.

use crate::machine::{Machine, wait_for};

const UNIT: &str = "mentiko-agent@c:one.service";
const DROP_IN: &str = "[Service]\nDynamicUser=yes\nTemporaryFileSystem=\nBindPaths=\n\
    ExecStart=/usr/local/bin/mentiko-exec --chain c --agent one --fence require -- \
    /usr/bin/python3 /usr/local/bin/agent.py stay\n";

#[test]
fn the_logs_folder_is_to_be_named_itself() {
    let Some(machine) = Machine::with_instance() else { return };
    machine.ok(&["userdel", "mentiko"]);
    machine.drop_in("c:one", DROP_IN);
    machine.start(UNIT);
    machine.is_soon(UNIT, "ExecMainStatus", "125");
    let told = "/var/log/mentiko is a symbolic link; name the folder itself in instance.json";
    assert!(machine.journal().contains(told), "{}", machine.journal());
    machine.ok(&["systemctl", "stop", UNIT]);

    machine.ok(&["mkdir", "/var/lib/private/mentiko-agents/c:two"]);
    machine.ok(&["sed", "-i", "s:/var/log/mentiko:/var/log/private/mentiko:", "/etc/mentiko/instance.json"]);
    machine.ok(&["systemctl", "start", UNIT]);
    let seen = "/var/lib/private/mentiko-agents/c:one/seen";
    assert!(wait_for(|| machine.file(seen).exists()), "{}", machine.journal());
    let seen: serde_json::Value = serde_json::from_str(&machine.read(seen)).unwrap();
    assert_eq!(seen["environment"]["A"], "value-of-a-4711");
    assert_eq!(seen["beside"], serde_json::json!(["c:one"]));
    assert!(seen["status"]["Uid"].as_str().unwrap().parse::<u32>().unwrap() >= 61184);

    let properties = ["DynamicUser=yes", "StateDirectory=mentiko", "LogsDirectory=mentiko"];
    let options = properties.map(|property| format!("--property={property}"));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    machine.mentiko(&options, &["secret", "set", "A"], "value-of-a-new");
    machine.mentiko(&options, &["audit", "verify"], "");

    let due = "[Service]\nDynamicUser=yes\nStateDirectory=mentiko\n\
               ExecStart=\nExecStart=/usr/local/bin/mentiko secret list\n";
    machine.write("/etc/systemd/system/mentiko-due.service.d/dynamic.conf", due);
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "start", "mentiko-due.service"]);
    let told = || machine.ok(&["journalctl", "--no-pager", "--output", "cat", "--unit", "mentiko-due.service"]);
    assert!(wait_for(|| told().lines().any(|line| line.starts_with("B "))), "{}", told());
}
