//! Launches with too little of something, or on a kernel without something: what is left still holds, or one line says
//! what is missing. The table of docs/reliability.md tells the same.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use nix::libc;
use serde_json::Value;

use crate::common::{IS_STATIC, Site, is_root, text};

/// The agent's, once it found what it was granted.
const RAN: i32 = 42;
const AGENT: &str = r#"test "$A" = value-of-a-4711 && exit 42; exit 43"#;

/// How a launch ends.
enum End<'a> {
    /// The agent runs: what the record says of memory and fence, and a part of the one warning, if there is one.
    Runs(&'a str, &'a str, &'a str),
    /// Nothing runs: the status, and a part of the one line.
    Refused(i32, &'a str),
}
use End::{Refused, Runs};

/// `mentiko-exec` with these options, executed by what sets the limit.
fn launch(site: &Site, limit: &[&str], options: &[&str]) -> Output {
    let launch = site.exec("c", "one");
    let words: Vec<&str> = limit.iter().copied().chain(launch.get_program().to_str()).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(launch.get_args()).args(options).args(["--", "sh", "-c", AGENT]);
    command.env("MENTIKO_INSTANCE", site.path()).stdin(std::process::Stdio::null());
    command.output().unwrap()
}

fn expect(site: &Site, limit: &[&str], options: &[&str], end: End<'_>) {
    let before = site.log().len();
    let output = launch(site, limit, options);
    check(&output, &site.log().split_off(before), &format!("{limit:?} {options:?}"), end);
    goes_on(site);
}

fn check(output: &Output, new: &[Value], context: &str, end: End<'_>) {
    let stderr = text(&output.stderr);
    let context = format!("{context}: {stderr}{new:#?}");
    let granted = new.iter().find(|record| record["outcome"] == "granted");
    assert!(!stderr.contains("value-of-a"), "{context}");
    match end {
        Runs(memory, fence, warning) => {
            assert_eq!(output.status.code(), Some(RAN), "{context}");
            let record = granted.unwrap_or_else(|| panic!("no record: {context}"));
            assert_eq!((&record["memory"], &record["fence"]), (&memory.into(), &fence.into()), "{context}");
            let is_said = !warning.is_empty();
            assert!(stderr.lines().count() == usize::from(is_said) && stderr.contains(warning), "{context}");
        }
        Refused(status, why) => {
            assert_eq!(output.status.code(), Some(status), "{context}");
            assert!(stderr.lines().count() == 1 && stderr.starts_with("mentiko-exec: "), "{context}");
            assert!(stderr.contains(why), "{context}");
            assert!(granted.is_none() || new.last().unwrap()["event"] == "launch.failed", "{context}");
        }
    }
}

/// Nothing is lost, and without the limit all is well.
fn goes_on(site: &Site) {
    site.verify();
    let output = launch(site, &["env"], &["--fence", "off"]);
    assert_eq!(output.status.code(), Some(RAN), "{}", text(&output.stderr));
}

/// What stands around an agent where nothing is scarce, and what is said about it.
fn whole_fence<'a>() -> End<'a> {
    match is_root() {
        true => Runs("secretmem", "mount", "the agent runs as root"),
        false => Runs("secretmem", "namespace", ""),
    }
}

fn filtered<'a>(refused: &[&'a str]) -> Vec<&'a str> {
    [&["python3", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/filter.py")], refused, &["--"]].concat()
}

/// bubblewrap takes root's powers away unless it is told not to.
fn in_a_box<'a>(mounts: &[&'a str]) -> Vec<&'a str> {
    let powers: &[&str] = if is_root() { &["--cap-add", "ALL"] } else { &[] };
    [&["bwrap"], powers, mounts, &["--"]].concat()
}

#[test]
fn without_memory_to_lock_nothing_is_launched() {
    let site = Site::with_two_agents();
    // Root's power to lock any amount is no part of the limit.
    let powerless: &[&str] = match is_root() {
        true => &["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"],
        false => &["env"],
    };
    for options in [&["--fence", "off"][..], &["--mask"]] {
        let limit = [powerless, &["prlimit", "--memlock=0:0"]].concat();
        expect(&site, &limit, options, Refused(125, "raise RLIMIT_MEMLOCK"));
    }
    if is_root() {
        expect(&site, &["prlimit", "--memlock=0:0"], &["--fence", "require"], whole_fence());
    }
}

#[test]
fn with_few_descriptors_a_launch_happens_or_says_so() {
    let site = Site::with_two_agents();
    for mode in [&["--fence", "off"][..], &["--fence", "require"], &["--supervise"], &["--mask"]] {
        let mut least = None;
        for number in 3..=16 {
            let limit = format!("--nofile={number}:{number}");
            let before = site.log().len();
            let output = launch(&site, &["prlimit", &limit], mode);
            let stderr = text(&output.stderr);
            let runs = output.status.code() == Some(RAN);
            let by_the_loader = output.status.code() == Some(127) && stderr.contains("loading shared libraries");
            assert!(runs || least.is_none(), "{number} are not enough where fewer are: {stderr}");
            if runs {
                least = least.or(Some(number));
            } else if !by_the_loader {
                // EMFILE, as nix and glibc say it, or musl.
                let of_musl = "No file descriptors available";
                let is_of_musl = IS_STATIC && stderr.contains(of_musl);
                let why = if is_of_musl { of_musl } else { "Too many open files" };
                let end = Refused(output.status.code().unwrap(), why);
                assert!([78, 125].contains(&output.status.code().unwrap()), "{stderr}");
                check(&output, &site.log().split_off(before), &limit, end);
            }
            goes_on(&site);
        }
        println!("{mode:?}: {} descriptors are enough", least.unwrap());
    }
}

#[test]
fn without_another_process_there_is_no_supervisor() {
    let site = Site::with_two_agents().unfenced();
    let limit = ["prlimit", "--nproc=0:0"];
    expect(&site, &limit, &[], Runs("secretmem", "off", ""));
    expect(&site, &limit, &["--fence", "require"], whole_fence());
    let without_secretmem = [&limit[..], &filtered(&["memfd_secret=ENOSYS"])].concat();
    if is_root() {
        // Whom the limit does not bind.
        expect(&site, &limit, &["--supervise"], Runs("secretmem", "off", ""));
        expect(&site, &without_secretmem, &[], Runs("mlock", "off", ""));
    } else {
        expect(&site, &limit, &["--supervise"], Refused(125, "can't supervise: EAGAIN"));
        expect(&site, &limit, &["--mask"], Refused(125, "can't supervise: EAGAIN"));
        expect(&site, &without_secretmem, &[], Refused(125, "can't start the helper that wipes memory"));
    }
}

/// What fails before `main` fails in the loader, the C library or Rust's runtime, and opens nothing.
#[test]
fn in_a_small_address_space_a_launch_happens_or_nothing_is_opened() {
    let site = Site::with_two_agents().unfenced();
    let (mut ran, mut refused, mut died) = (0, 0, 0);
    // The program's own size, with its libraries, is somewhere in between.
    for size in (1_000_000..12_000_000).step_by(65_536) {
        let limit = format!("--as={size}");
        let before = site.log().len();
        let output = launch(&site, &["prlimit", "--core=0", &limit], &[]);
        let new = site.log().split_off(before);
        match output.status.code() {
            Some(RAN) => {
                check(&output, &new, &limit, Runs("secretmem", "off", ""));
                ran += 1;
            }
            Some(125) => {
                check(&output, &new, &limit, Refused(125, "memory"));
                refused += 1;
            }
            code => {
                let is_dead = output
                    .status
                    .signal()
                    .is_some_and(|signal| [libc::SIGSEGV, libc::SIGABRT, libc::SIGKILL].contains(&signal));
                // Where the wrapper itself needs no loader, what it executes does.
                let loader_failed = text(&output.stderr).starts_with("sh: error while loading");
                let is_granted = new.last().is_some_and(|record| record["outcome"] == "granted");
                let agent_died = IS_STATIC && is_granted && (loader_failed || is_dead);
                let by_the_loader = code == Some(127) && (ran == 0 || agent_died);
                assert!(by_the_loader || is_dead, "{limit}: {:?} {}", output.status, text(&output.stderr));
                assert!(new.is_empty() || agent_died, "{limit}: {}", text(&output.stderr));
                died += 1;
            }
        }
    }
    println!("address space: {died} too small to begin, {refused} refused, {ran} ran");
    assert!(ran > 0 && died > 0);
    goes_on(&site);
}

#[test]
fn where_no_file_may_grow_nothing_is_recorded_and_nothing_launched() {
    let site = Site::with_two_agents();
    for options in [&["--fence", "off"][..], &["--fence", "auto"]] {
        expect(&site, &["prlimit", "--fsize=0:0"], options, Refused(125, "File too large"));
    }
}

#[test]
fn without_proc_there_is_no_fence_and_the_record_lacks_when_the_process_began() {
    let site = Site::with_two_agents();
    let bare = in_a_box(&["--dev-bind", "/", "/", "--tmpfs", "/proc"]);
    expect(&site, &bare, &["--fence", "off"], Runs("secretmem", "off", ""));
    let output = launch(&site, &bare, &["--fence", "off"]);
    assert_eq!(output.status.code(), Some(RAN));
    assert_eq!(site.accesses().pop().unwrap()["start"], Value::Null);
    let why = "no fence: can't read /proc/self/mountinfo";
    expect(&site, &bare, &["--fence", "auto"], Runs("secretmem", "none", why));
    expect(&site, &bare, &["--fence", "require"], Refused(78, why));
    expect(&site, &bare, &["--fence", "off", "--mask"], Runs("secretmem", "off", ""));
    // Descriptors can be closed neither by the call nor by the list.
    let nor_close_range = [&bare[..], &filtered(&["close_range=ENOSYS"])].concat();
    expect(&site, &nor_close_range, &["--fence", "off"], Refused(125, "can't close descriptors: ENOSYS"));
}

#[test]
fn without_dev_a_launch_happens() {
    let site = Site::with_two_agents();
    let bare = in_a_box(&["--bind", "/", "/", "--tmpfs", "/dev"]);
    expect(&site, &bare, &["--fence", "off"], Runs("secretmem", "off", ""));
    expect(&site, &bare, &["--fence", "require"], whole_fence());
    expect(&site, &bare, &["--fence", "off", "--mask"], Runs("secretmem", "off", ""));
    let nor_getrandom = [&bare[..], &filtered(&["getrandom=ENOSYS"])].concat();
    // The new run's name is the first thing to be random, before there is a run to record.
    expect(&site, &nor_getrandom, &["--fence", "off"], Refused(125, "random"));
}

/// Rust's runtime opens /dev/null in their place before `main`, and ends by SIGABRT where it can't.
#[test]
fn without_dev_and_standard_descriptors_nothing_begins() {
    let site = Site::with_two_agents();
    let closed = ["sh", "-c", r#"exec "$@" <&- >&- 2>&-"#, "sh"];
    let output = launch(&site, &closed, &["--fence", "off"]);
    assert_eq!(output.status.code(), Some(RAN), "with /dev");
    let before = site.log().len();
    let bare = in_a_box(&["--bind", "/", "/", "--tmpfs", "/dev"]);
    let output = launch(&site, &[&bare[..], &closed].concat(), &["--fence", "off"]);
    assert_eq!((output.status.code(), site.log().len()), (Some(128 + libc::SIGABRT), before));
    // A refusal that nobody can be told keeps its status.
    let absent = ["sh", "-c", r#"PATH=/nonexistent exec "$@" <&- >&- 2>&-"#, "sh"];
    assert_eq!(launch(&site, &absent, &["--fence", "off"]).status.code(), Some(127));
    goes_on(&site);
}

#[test]
fn on_read_only_files_a_launch_needs_a_log_that_can_be_written() {
    let site = Site::with_two_agents();
    let (audit, runs) = (site.file("audit"), site.file("runs"));
    let (audit, runs) = (audit.to_str().unwrap(), runs.to_str().unwrap());
    let read_only = ["--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--dev-bind", "/proc", "/proc"];
    let boxed = |writable: &[&'static str]| -> Vec<String> {
        let writable = writable.iter().flat_map(|&name| {
            let path = if name == "audit" { audit } else { runs };
            ["--bind", path, path]
        });
        let mounts: Vec<&str> = read_only.into_iter().chain(writable).collect();
        in_a_box(&mounts).into_iter().map(str::to_owned).collect()
    };
    let try_it = |writable: &[&'static str], fence: &str, end: End<'_>| {
        let limit = boxed(writable);
        expect(&site, &limit.iter().map(String::as_str).collect::<Vec<_>>(), &["--fence", fence], end);
    };
    let read_only = "Read-only file system";
    try_it(&[], "off", Refused(125, read_only));
    try_it(&[], "require", Refused(125, "without its record nothing is launched"));
    // Without a fence the run may go on, and needs its pins.
    try_it(&["audit"], "off", Refused(125, read_only));
    assert_eq!(site.accesses().into_iter().rev().nth(1).unwrap()["outcome"], "denied");
    try_it(&["audit"], "require", whole_fence());
    try_it(&["audit", "runs"], "off", Runs("secretmem", "off", ""));
}

#[test]
fn on_a_full_disk_nothing_is_launched_unless_the_log_is_elsewhere() {
    let site = Site::with_two_agents();
    let full = site.file("full");
    std::fs::create_dir(&full).unwrap();
    crate::common::chmod(&full, 0o700);
    let full = full.to_str().unwrap();
    // $1 of instance.json's paths is elsewhere. A new month's segment needs a page of its own.
    let script = r##"
        cp -a instance.json instance.key chains audit runs vault full/
        mv full/audit/access-* full/audit/access-2020-01.jsonl
        test -z "$1" || sed -i "s#\"audit\": \"audit\"#\"audit\": \"$1\"#" full/instance.json
        shift
        dd if=/dev/zero of=full/fill bs=4096 2>/dev/null
        "$@"
        echo "status $?"
        rm full/fill
        mentiko --instance full audit verify >/dev/null && echo verified
        "$@" 2>/dev/null
        echo "status $?""##;
    let shared = site.file("audit");
    let place = in_a_box(&["--dev-bind", "/", "/", "--size", "262144", "--tmpfs", full, "--chdir"]);
    let place: Vec<&str> =
        place[..place.len() - 1].iter().copied().chain([site.path().to_str().unwrap(), "--"]).collect();
    for (log, fence, first) in [
        ("", "off", Refused(125, "No space left on device")),
        ("", "require", Refused(125, "No space left on device")),
        (shared.to_str().unwrap(), "off", Refused(125, "No space left on device")),
        (shared.to_str().unwrap(), "require", whole_fence()),
    ] {
        let launch = site.exec("c", "one");
        let mut command = Command::new(place[0]);
        command.args(&place[1..]).args(["sh", "-c", script, "sh", log]).arg(launch.get_program());
        command.args(launch.get_args()).args(["--instance", full, "--fence", fence, "--", "sh", "-c", AGENT]);
        let programs = std::path::Path::new(env!("CARGO_BIN_EXE_mentiko")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let output = command.env("PATH", path).output().unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let status = match first {
            Refused(status, why) => {
                assert!(stderr.lines().count() == 1 && stderr.contains(why), "{log} {fence}: {stderr}");
                status
            }
            Runs(..) => RAN,
        };
        assert_eq!(stdout, format!("status {status}\nverified\nstatus {RAN}\n"), "{log} {fence}: {stderr}");
    }
    goes_on(&site);
}

#[test]
fn without_secretmem_pages_are_locked_and_the_record_says_so() {
    let site = Site::with_two_agents();
    for error in ["ENOSYS", "EPERM"] {
        let refused = format!("memfd_secret={error}");
        expect(&site, &filtered(&[&refused]), &["--fence", "off"], Runs("mlock", "off", ""));
        expect(&site, &filtered(&[&refused]), &["--fence", "off", "--mask"], Runs("mlock", "off", ""));
        let nor_locked = format!("mlock={error}");
        let why = "can't lock 16384 bytes of memory";
        expect(&site, &filtered(&[&refused, &nor_locked]), &["--fence", "off"], Refused(125, why));
        // With secretmem nothing else is locked.
        expect(&site, &filtered(&[&nor_locked]), &["--fence", "off"], Runs("secretmem", "off", ""));
    }
}

#[test]
fn without_namespaces_and_landlock_there_is_no_fence_and_that_is_said() {
    // No folder above is one that an agent works in: Landlock can do it.
    let site = Site::below(std::path::Path::new("/dev/shm"));
    site.set("A", "value-of-a-4711");
    site.chain("c", r#"{"secrets": ["A"], "agents": {"one": ["A"]}}"#);
    let refusal =
        if is_root() { "no fence: mount namespaces are refused" } else { "no fence: user namespaces are refused" };
    for error in ["ENOSYS", "EPERM"] {
        let (unshare, landlock) = (format!("unshare={error}"), format!("landlock_create_ruleset={error}"));
        expect(&site, &filtered(&[&landlock]), &["--fence", "require"], whole_fence());
        let neither = filtered(&[&unshare, &landlock]);
        expect(&site, &neither, &["--fence", "auto"], Runs("secretmem", "none", refusal));
        expect(&site, &neither, &["--fence", "require"], Refused(78, refusal));
        let (auto, require) = match is_root() {
            true => (Runs("secretmem", "none", refusal), Refused(78, refusal)),
            false => (Runs("secretmem", "landlock", ""), Runs("secretmem", "landlock", "")),
        };
        expect(&site, &filtered(&[&unshare]), &["--fence", "auto"], auto);
        expect(&site, &filtered(&[&unshare]), &["--fence", "require"], require);
    }
}

#[test]
fn without_what_protects_the_process_nothing_is_launched() {
    let site = Site::with_two_agents();
    for error in ["ENOSYS", "EPERM"] {
        let refused = format!("prctl={error}");
        let why = "can't make the process undumpable";
        expect(&site, &filtered(&[&refused]), &["--fence", "off"], Refused(125, why));
        let mut no_child = vec![format!("clone={error}"), "clone3=ENOSYS".into()];
        // The C library of the static file calls it, where the processor's kernel has it.
        no_child.extend(cfg!(target_arch = "x86_64").then(|| format!("fork={error}")));
        let no_child: Vec<&str> = no_child.iter().map(String::as_str).collect();
        expect(&site, &filtered(&no_child), &["--mask"], Refused(125, "can't supervise: "));
    }
}

#[test]
fn what_has_a_second_way_goes_on_without_the_first() {
    let site = Site::with_two_agents();
    for error in ["ENOSYS", "EPERM"] {
        // Descriptors by the list in /proc; randomness from /dev/urandom.
        for call in ["close_range", "getrandom"] {
            let refused = format!("{call}={error}");
            expect(&site, &filtered(&[&refused]), &["--fence", "off"], Runs("secretmem", "off", ""));
            expect(&site, &filtered(&[&refused]), &["--fence", "require"], whole_fence());
        }
    }
}
