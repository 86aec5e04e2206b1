use crate::common::is_root;
use crate::machine::Machine;

#[test]
fn boots() {
    if !is_root() { return; }
    let machine = Machine::boot();
    println!("{}", machine.ok(&["systemctl", "list-units"]));
    println!("{}", machine.ok(&["systemd-run", "--pipe", "--wait", "id"]));
    println!("{}", machine.journal());
}
