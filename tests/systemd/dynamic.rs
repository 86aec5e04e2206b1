//! A user that systemd makes up for the unit.

use crate::machine::{Machine, wait_for};

#[test]
fn explore() {
    let Some(machine) = Machine::with_instance() else { return };
    let unit = "mentiko-agent@c:one.service";
    machine.drop_in("c:one", "[Service]\nDynamicUser=yes\nUser=agents\nExecStart=/usr/local/bin/mentiko-exec --chain c --agent one --fence require -- /usr/bin/python3 /usr/local/bin/agent.py stay\n");
    machine.ok(&["systemctl", "start", unit]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    println!("{}", machine.journal());
    println!("{}", machine.ok(&["ls", "-laR", "/var/lib", "/var/log"]));
    let text = machine.read("/etc/mentiko/instance.json");
    println!("{text}");
    machine.write("/etc/mentiko/instance.json", &text.replace("/var/log/mentiko", "/var/log/private/mentiko"));
    machine.ok(&["systemctl", "start", unit]);
    assert!(wait_for(|| machine.file("/var/lib/private/mentiko-agents/c:one/seen").exists()), "{}", machine.journal());
    println!("{}", machine.read("/var/lib/private/mentiko-agents/c:one/seen"));
    println!("{}", machine.ok(&["sh", "-c", "cat /var/log/private/mentiko/*"]));
    println!("{}", machine.ok(&["sh", "-c", "cat /proc/$(systemctl show --value -p MainPID mentiko-agent@c:one)/mountinfo"]));
}
