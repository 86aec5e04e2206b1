//! The sockets through which others could act for the agent. As root, for it takes root to make
//! /run/user/UID.

use std::process::Stdio;

use crate::common::{chmod, is_root, text};
use crate::person::{Person, made};

/// Serves the key to whoever connects: a bus starts anything, such as `cat`.
const SERVER: &str = r#"
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
os.makedirs(os.path.dirname(sys.argv[2]), exist_ok=True)
server.bind(sys.argv[2])
server.listen()
print("ready", flush=True)
while True:
    client, _ = server.accept()
    client.sendall(open(sys.argv[1], "rb").read().hex().encode())
    client.close()
"#;

const CLIENT: &str = r#"
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
print(client.recv(4096).decode())
"#;

/// The folders that /run/user/UID stands for, gone with the test.
struct Runtime(String);

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn doors_are_shut_unless_they_are_kept() {
    if !is_root() {
        eprintln!("skipped: only root can make /run/user/UID");
        return;
    }
    // Not the user of the other tests, which would see the sockets too.
    let person = Person::with(made("mentiko-fence-bus", None), None);
    let runtime = Runtime(format!("/run/user/{}", person.user.uid));
    let _ = std::fs::remove_dir_all(&runtime.0);
    std::fs::create_dir_all(&runtime.0).unwrap();
    chmod(runtime.0.as_ref(), 0o700);
    std::os::unix::fs::chown(&runtime.0, Some(person.user.uid.as_raw()), Some(person.user.gid.as_raw())).unwrap();
    let key: String = std::fs::read(person.key()).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    for (socket, door) in [
        ("bus", "bus"),
        ("systemd/private", "bus"),
        ("docker.sock", "docker"),
        ("podman/podman.sock", "docker"),
        ("containerd/containerd.sock", "docker"),
    ] {
        let path = format!("{}/{socket}", runtime.0);
        let mut server = person.command(&["python3", "-c", SERVER]);
        let mut server = server.arg(person.key()).arg(&path).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(server.stdout.take().unwrap()), &mut ready).unwrap();
        let gets = |options: &[&str]| {
            let client = ["--", "python3", "-c", CLIENT, &path];
            let output = person.exec().args(options).args(client).output().unwrap();
            let fence = person.recorded_fence();
            (text(&output.stdout).contains(&key), fence)
        };
        let other = if door == "bus" { "docker" } else { "bus" };
        let results = [&["--fence", "off"][..], &[], &["--fence-keep", other], &["--fence-keep", door]].map(gets);
        server.kill().unwrap();
        server.wait().unwrap();
        let [off, shut, other, kept] = results;
        assert_eq!(off, (true, "off".into()), "{socket}");
        assert_eq!((shut, other), ((false, "namespace".into()), (false, "namespace".into())), "{socket}");
        assert_eq!(kept, (true, "namespace".into()), "{socket}");
    }
    // Landlock can't shut them, and is not kept from hiding the instance by that.
    let elsewhere = tempfile::tempdir_in("/var/lib").unwrap();
    let person = Person::with(person.user.clone(), Some(elsewhere));
    assert!(std::fs::exists(format!("{}/bus", runtime.0)).unwrap());
    let output = person.exec_without_namespaces().args(["--fence", "require", "--", "true"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(person.recorded_fence(), "landlock");
}
