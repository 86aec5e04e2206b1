//! An agent in a unit of the template.

use crate::common::is_root;
use crate::machine::{Machine, wait_for};

const UNIT: &str = "mentiko-agent@c:one.service";
const HOME: &str = "/var/lib/mentiko-agents/c:one";

/// `None` for ordinary users, for whom no systemd can be started.
fn machine() -> Option<Machine> {
    if !is_root() {
        eprintln!("skipped: only root can start a systemd of its own");
        return None;
    }
    Some(Machine::with_instance())
}

/// The drop-in of an agent that runs this.
fn command(agent: &str, script: &str, lines: &str) -> String {
    let launch = format!("/usr/local/bin/mentiko-exec --chain c --agent {agent} --fence require");
    format!("[Service]\nExecStart={launch} -- /usr/bin/python3 -c \"{script}\"\n{lines}\n")
}

/// Writes down what it sees, then stays.
const LOOKS: &str = "import os, time, json; \
    seen = dict(os.environ); \
    seen['status'] = open('/proc/self/status').read(); \
    seen['pid'] = str(os.getpid()); \
    open('seen.tmp', 'w').write(json.dumps(seen)); \
    os.rename('seen.tmp', 'seen'); \
    time.sleep(600)";

#[test]
fn boots() {
    let Some(machine) = machine() else { return };
    machine.drop_in("c:one", &command("one", LOOKS, ""));
    machine.ok(&["systemctl", "start", UNIT]);
    let seen = wait_for(|| machine.file(HOME).join("seen").exists());
    println!("{seen} {}", machine.read(&format!("{HOME}/seen")));
    println!("{}", machine.ok(&["systemctl", "show", UNIT]));
    println!("{}", machine.ok(&["systemctl", "status", UNIT]));
    println!("{:#?}", machine.accesses());
    println!("{}", machine.journal());
}
