//! `--mask`: what leaves the agent, through everything but a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::stat::Mode;
use sha2::{Digest, Sha256};

use crate::common::{Site, output_with_input, text};
use crate::{A, Launched, MASK, number, send_signal, wait_until};

/// One secret of this value, which the agent has as $A.
fn site_with(value: &str) -> Site {
    let site = Site::new().unfenced();
    site.set("A", value);
    site.chain("c", r#"{"secrets": ["A"], "agents": {"one": ["A"]}}"#);
    site
}

fn masked(site: &Site) -> Command {
    let mut command = site.exec("c", "one");
    command.args(["--mask", "--"]);
    command
}

/// What an agent in sh, or in Python, writes.
fn sh(site: &Site, script: &str) -> Output {
    masked(site).args(["sh", "-c", script]).output().unwrap()
}

fn python(site: &Site, script: &str) -> String {
    let prelude = "import os, sys, time\nA = os.environb[b'A']\n";
    let output = masked(site).args(["python3", "-c", &format!("{prelude}{script}")]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn values_in_both_streams_are_replaced_by_their_names() {
    let site = Site::with_two_agents().unfenced();
    let output = sh(&site, r#"echo "out <$A>"; echo "err <$A$A>" >&2; exit 3"#);
    assert_eq!(text(&output.stdout), "out <[A]>\n");
    assert_eq!(text(&output.stderr), "err <[A][A]>\n");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_value_that_is_written_byte_by_byte_never_shows() {
    let site = Site::with_two_agents().unfenced();
    let out = python(
        &site,
        "for byte in b'<' + A + b'>' + A[:-1] + b'|' + A + A:
             os.write(1, bytes([byte])); time.sleep(0.002)",
    );
    assert_eq!(out, format!("<[A]>{}|[A][A]", &A[..A.len() - 1]));
}

#[test]
fn a_value_across_the_boundary_of_a_read_is_found() {
    let site = Site::with_two_agents().unfenced();
    // Written at once, in a pipe that holds more: reads of 64 KiB end anywhere in the value.
    let out = python(
        &site,
        "out = b''
for before in range(65536 - len(A) - 1, 65536 + 2):
    out += b'.' * (before - len(out) % 65536) + A
    out += b'.' * (-len(out) % 65536)
view = memoryview(out)
while view: view = view[os.write(1, view):]",
    );
    assert_eq!(out.matches("[A]").count(), A.len() + 3);
    assert!(!out.contains("value"));
    assert!(out.replace("[A]", "").bytes().all(|byte| byte == b'.'));
}

#[test]
fn common_encodings_of_a_value_are_masked() {
    let site = site_with(r#"pa/ss+wo"rd\k:=~7?%"#);
    // With base64 the characters that hold bits of the neighbors too may stay: at most two of them.
    for (expression, rest) in [
        ("A", 0),
        ("base64.b64encode(A)", 4),
        ("base64.b64encode(b'x' + A)", 4),
        ("base64.b64encode(b'xy' + A)", 4),
        ("base64.b64encode(b'user:' + A + b'@host')", 15),
        ("base64.urlsafe_b64encode(b'xyz' + A)", 8),
        ("urllib.parse.quote(A)", 0),
        ("urllib.parse.quote(A, safe='')", 0),
        ("json.dumps(A.decode())", 2),
        ("json.dumps(A.decode()).replace('/', '\\\\/')", 2),
    ] {
        let script = format!(
            "import base64, json, urllib.parse
text = {expression}
sys.stdout.write(text if isinstance(text, str) else text.decode(errors='replace'))"
        );
        let out = python(&site, &script);
        assert!(out.contains("[A]") && out.len() - 3 <= rest, "{expression}: {out}");
    }
}

#[test]
fn a_short_value_is_not_masked_and_a_warning_says_so() {
    let site = site_with("7bytes7");
    let output = sh(&site, r#"echo "<$A>""#);
    assert_eq!(text(&output.stdout), "<7bytes7>\n");
    let warning = "mentiko-exec: warning: the value of 'A' has less than 8 bytes and is not masked\n";
    assert_eq!(text(&output.stderr), warning);
    let output = sh(&site_with("8-bytes8"), r#"echo "<$A>""#);
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("<[A]>\n".into(), String::new()));
}

#[test]
fn each_stream_keeps_its_order() {
    let site = Site::with_two_agents().unfenced();
    let script = r#"
import os, sys
for number in range(3000):
    os.write(1 + number % 2, b"%d %s\n" % (number, os.environb[b"A"]))"#;
    let output = masked(&site).args(["python3", "-c", script]).output().unwrap();
    for (stream, first) in [(output.stdout, 0), (output.stderr, 1)] {
        let expected: String = (first..3000).step_by(2).map(|number| format!("{number} [A]\n")).collect();
        assert_eq!(text(&stream), expected);
    }
}

#[test]
fn text_that_can_not_begin_a_value_arrives_at_once() {
    let site = Site::with_two_agents().unfenced();
    let mut launched = Launched::agent(&site, MASK, &["sh", "-c", "printf 'ready? '; exec sleep 60"]);
    let mut text = [0; 7];
    let (said, heard) = mpsc::channel();
    let mut output = launched.output.take().unwrap();
    let reader = std::thread::spawn(move || {
        if output.read_exact(&mut text).is_ok() {
            said.send(text).unwrap();
        }
    });
    // The launch itself is in this time too.
    let heard = heard.recv_timeout(Duration::from_secs(5));
    let _ = launched.child.kill();
    reader.join().unwrap();
    assert_eq!(&heard.unwrap(), b"ready? ");
}

#[test]
fn the_beginning_of_a_value_at_the_end_is_passed_on() {
    let site = Site::with_two_agents().unfenced();
    let output = sh(&site, "printf value-of-a-471; printf va >&2");
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("value-of-a-471".into(), "va".into()));
}

#[test]
fn binary_data_passes_unchanged() {
    let site = Site::with_two_agents().unfenced();
    let script = r#"
import hashlib, os, sys
sum = hashlib.sha256()
for _ in range(32):
    block = os.urandom(1 << 20)
    sum.update(block)
    sys.stdout.buffer.write(block)
sys.stdout.flush()
sys.stderr.write(sum.hexdigest())"#;
    let output = masked(&site).args(["python3", "-c", script]).output().unwrap();
    assert_eq!(output.stdout.len(), 32 << 20);
    let digest: String = Sha256::digest(&output.stdout).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, text(&output.stderr));
}

#[test]
fn a_reader_that_goes_away_ends_the_agent() {
    let site = Site::with_two_agents().unfenced();
    let mut launched = Launched::new(masked(&site).args(["yes", "0123456789"]));
    let mut first = [0; 10];
    launched.output.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"0123456789");
    drop(launched.output.take());
    assert_eq!(launched.end().code(), Some(128 + nix::libc::SIGPIPE));
}

#[test]
fn what_outlives_the_agent_does_not_keep_the_wrapper() {
    let site = Site::with_two_agents().unfenced();
    // One that keeps the pipe open, and one that fills it for as long as anybody reads.
    for background in ["sleep 60", "yes"] {
        let script = format!("{background} & echo $! >&3; exit 4");
        let file = tempfile::NamedTempFile::new().unwrap();
        let shell = format!(r#"exec 3> "$FILE"; exec "$0" "$@" --pass-fd 3 -- sh -c '{script}'"#);
        let mut command = Command::new("sh");
        command.args(["-c", &shell, crate::EXEC, "--chain", "c", "--agent", "one", "--mask"]);
        command.env("MENTIKO_INSTANCE", site.path()).env("FILE", file.path()).stdin(Stdio::null());
        let mut launched = Launched::new(&mut command);
        let mut output = launched.output.take().unwrap();
        let reader = std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let status = launched.end();
        let left = number(&std::fs::read_to_string(file.path()).unwrap());
        let _ = send_signal(left, nix::libc::SIGKILL);
        assert_eq!(status.code(), Some(4), "{background}");
        reader.join().unwrap().unwrap();
    }
}

#[test]
fn output_may_go_to_a_file_a_socket_or_nowhere() {
    let site = Site::with_two_agents().unfenced();
    let script = ["sh", "-c", r#"echo "<$A>"; exit 3"#];
    // Appended to where the caller stands, not to the beginning.
    let path = site.file("out");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"before ").unwrap();
    for _ in 0..2 {
        let status = masked(&site).args(script).stdout(file.try_clone().unwrap()).status().unwrap();
        assert_eq!(status.code(), Some(3));
    }
    file.write_all(b"after").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before <[A]>\n<[A]>\nafter");

    let status = masked(&site).args(script).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(3));

    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut command = masked(&site);
    let mut child = command.args(script).stdout(OwnedFd::from(theirs)).spawn().unwrap();
    // The other side is open in it.
    drop(command);
    let mut out = String::new();
    ours.read_to_string(&mut out).unwrap();
    assert_eq!(out, "<[A]>\n");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

/// Opening a named pipe that nobody reads waits for a reader.
#[test]
fn a_named_pipe_without_a_reader_holds_nothing_up() {
    let site = Site::with_two_agents().unfenced();
    let path = site.file("pipe");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let reader = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path).unwrap();
    let writer = File::options().write(true).open(&path).unwrap();
    drop(reader);
    let mut child = masked(&site).args(["sh", "-c", "echo text; exit 3"]).stdout(writer).spawn().unwrap();
    let mut status = None;
    wait_until("the wrapper ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(3));
}

#[test]
fn standard_input_passes_through() {
    let site = Site::with_two_agents().unfenced();
    let input = format!("one\n{A}\ntwo\0three");
    let output = output_with_input(masked(&site).arg("cat"), input.as_bytes());
    assert_eq!(text(&output.stdout), "one\n[A]\ntwo\0three");
}

#[test]
fn values_that_are_delivered_in_files_are_masked_too() {
    let site = Site::with_two_agents().unfenced();
    let mut command = site.exec("c", "one");
    command.args(["--mask", "--deliver", "file", "--", "sh", "-c", r#"cat "$A_FILE"; cat "$A_FILE" | base64 >&2"#]);
    let output = command.output().unwrap();
    assert_eq!(text(&output.stdout), "[A]");
    assert!(text(&output.stderr).starts_with("[A]"), "{}", text(&output.stderr));
}

#[test]
fn a_signal_is_passed_on_while_nobody_reads() {
    let site = Site::with_two_agents().unfenced();
    let script = "echo $$; trap 'exit 5' TERM; yes & wait";
    let mut launched = Launched::agent(&site, MASK, &["sh", "-c", script]);
    let agent = number(&launched.line());
    // Everything in between is full by now, or will be.
    wait_until("the agent waits", || crate::state(agent) == Some('S'));
    launched.send(nix::libc::SIGTERM);
    wait_until("the agent has ended", || crate::is_gone(agent));
    let mut output = launched.output.take().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    assert_eq!(launched.end().code(), Some(5));
    // Its child, which was not told, writes to nobody now.
    reader.join().unwrap().unwrap();
}
