//! The kernel refuses each call of a launch, one at a time, with each error that the call is likely to meet.
//!
//! strace(1) answers in the kernel's place: the call is not made. At every point either the agent runs, with its
//! grants and nothing else and with its record, or it does not, and then one line and a status of ours say why; and
//! nothing is lost. The usual run tries the first error of each call; `MENTIKO_FAULTS=all` (`tests/faults`) tries all
//! of them, and prints the table of docs/reliability.md.

use std::collections::BTreeMap;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::libc;
use serde_json::Value;

use crate::common::{Site, chmod, is_root, text};
use crate::trace::{Trace, variables};
use crate::tracer::{self, Asked, Change};

const FORK: &[&str] = &["EAGAIN", "ENOMEM", "EPERM", "ENOSYS"];
const OPEN: &[&str] = &[
    "EACCES", "EINTR", "EIO", "ELOOP", "EMFILE", "ENFILE", "ENODEV", "ENOENT", "ENOMEM", "ENOSPC", "ENXIO", "EDQUOT",
    "EPERM", "EROFS",
];

/// What a call may be answered, by its manual page, and by a filter of seccomp(2) that does not know it: the first is
/// what the usual run tries. A call without errors can't fail, and no filter in use refuses it.
const ERRORS: &[(&str, &[&str])] = &[
    ("access", &["EACCES", "EIO", "ELOOP", "ENOENT", "ENOMEM", "ENOTDIR", "EROFS"]),
    ("arch_prctl", &["EPERM", "EINVAL"]),
    ("brk", &["ENOMEM"]),
    ("clone", FORK),
    ("clone3", FORK),
    ("close", &["EIO", "EINTR", "ENOSPC", "EDQUOT"]),
    ("close_range", &["ENOSYS", "EPERM", "EINVAL", "EMFILE", "ENOMEM"]),
    ("connect", &["ECONNREFUSED", "EACCES", "EAGAIN", "EINTR", "ENOENT"]),
    ("dup2", &["EMFILE", "EBUSY", "EINTR"]),
    ("dup3", &["EMFILE", "EBUSY", "EINTR"]),
    (
        "execve",
        &[
            "ENOENT", "EACCES", "E2BIG", "EAGAIN", "EINVAL", "EIO", "EISDIR", "ELIBBAD", "ELOOP", "EMFILE",
            "ENAMETOOLONG", "ENFILE", "ENOEXEC", "ENOMEM", "ENOTDIR", "EPERM", "ETXTBSY",
        ],
    ),
    ("exit_group", &[]),
    ("faccessat2", &["ENOSYS", "EACCES", "EIO", "ELOOP", "ENOENT", "ENOMEM", "ENOTDIR", "EPERM"]),
    ("fcntl", &["EMFILE", "EACCES", "EAGAIN", "EINTR", "EINVAL", "EPERM", "ENOMEM"]),
    ("fdatasync", &["EIO", "ENOSPC", "EDQUOT", "EROFS", "EINTR"]),
    ("flock", &["ENOLCK", "EINTR", "EINVAL", "EAGAIN", "ENOSYS"]),
    ("fork", FORK),
    ("fstat", &["EIO", "ENOMEM", "EOVERFLOW"]),
    ("fsync", &["EIO", "ENOSPC", "EDQUOT", "EROFS", "EINTR"]),
    ("ftruncate", &["EINVAL", "EFBIG", "EINTR", "EIO", "EPERM", "EROFS"]),
    ("futex", &["EINVAL"]),
    ("getcwd", &["ENOENT", "EACCES", "ENOMEM", "ERANGE"]),
    // Not ENOENT, which means a removed folder and is no error to the C library: nothing could be made in that folder.
    ("getdents64", &["EIO", "EINVAL", "ENOSYS"]),
    ("getegid", &[]),
    ("geteuid", &[]),
    ("getgid", &[]),
    ("getgroups", &["EINVAL", "EPERM"]),
    ("getpid", &[]),
    ("getppid", &[]),
    ("getrandom", &["ENOSYS", "EINTR", "EAGAIN", "EPERM"]),
    ("getresgid", &["EFAULT", "EPERM"]),
    ("getresuid", &["EFAULT", "EPERM"]),
    ("getsid", &["EPERM"]),
    ("gettid", &[]),
    ("getuid", &[]),
    ("ioctl", &["ENOTTY", "EINTR", "EIO", "EPERM"]),
    ("landlock_add_rule", &["ENOMEM", "EINVAL", "EOPNOTSUPP", "EPERM"]),
    ("landlock_create_ruleset", &["ENOSYS", "EOPNOTSUPP", "E2BIG", "ENOMEM", "EMFILE", "EPERM"]),
    ("landlock_restrict_self", &["EPERM", "E2BIG", "EOPNOTSUPP", "ENOMEM"]),
    ("lseek", &["EINVAL", "ESPIPE", "EOVERFLOW", "EIO"]),
    ("madvise", &["EINVAL", "EAGAIN", "ENOMEM", "EPERM"]),
    ("memfd_secret", &["ENOSYS", "EMFILE", "ENFILE", "ENOMEM", "EPERM"]),
    ("mlock", &["ENOMEM", "EPERM", "EAGAIN", "ENOSYS"]),
    ("mmap", &["ENOMEM", "EACCES", "EAGAIN", "ENFILE", "EPERM"]),
    ("mount", &["EPERM", "EACCES", "EBUSY", "EINVAL", "ELOOP", "ENODEV", "ENOENT", "ENOMEM", "ENOTDIR", "ENOSPC"]),
    ("mprotect", &["ENOMEM", "EACCES"]),
    ("munlock", &["ENOMEM", "EPERM"]),
    ("munmap", &["ENOMEM", "EINVAL"]),
    ("newfstatat", &["ENOENT", "EACCES", "EIO", "ELOOP", "ENOMEM", "ENOTDIR", "EOVERFLOW"]),
    ("open", OPEN),
    ("openat", OPEN),
    ("pipe2", &["EMFILE", "ENFILE", "ENOMEM"]),
    ("poll", &["EINTR", "EAGAIN", "EINVAL", "ENOMEM"]),
    ("ppoll", &["EINTR", "EAGAIN", "EINVAL", "ENOMEM"]),
    ("prctl", &["EPERM", "EINVAL", "ENOSYS"]),
    ("pread64", &["EIO", "EINTR", "EAGAIN", "EISDIR", "ENOMEM"]),
    ("prlimit64", &["EPERM", "EINVAL", "ENOSYS"]),
    ("pwrite64", &["EIO", "EINTR", "EAGAIN", "EDQUOT", "EFBIG", "ENOSPC", "EPERM"]),
    ("read", &["EIO", "EINTR", "EAGAIN", "EISDIR", "ENOMEM"]),
    ("readlink", &["EACCES", "EIO", "ELOOP", "ENOENT", "ENOMEM", "ENOTDIR"]),
    ("readlinkat", &["EACCES", "EIO", "ELOOP", "ENOENT", "ENOMEM", "ENOTDIR"]),
    ("rseq", &["ENOSYS", "EINVAL", "EPERM"]),
    ("rt_sigaction", &["EINVAL", "EPERM"]),
    ("rt_sigprocmask", &["EINVAL", "EPERM"]),
    ("sched_getaffinity", &["ENOSYS", "EINVAL", "EPERM"]),
    ("set_robust_list", &["ENOSYS"]),
    ("set_tid_address", &[]),
    ("setgroups", &["EPERM", "EINVAL", "ENOMEM"]),
    ("setresgid", &["EPERM", "EAGAIN", "EINVAL"]),
    ("setresuid", &["EPERM", "EAGAIN", "EINVAL"]),
    ("setsid", &["EPERM"]),
    ("setuid", &["EAGAIN", "EINVAL", "EPERM"]),
    ("sigaltstack", &["ENOMEM", "EPERM"]),
    ("signalfd4", &["EMFILE", "ENFILE", "ENODEV", "ENOMEM", "EINVAL", "ENOSYS"]),
    ("socket", &["EMFILE", "EACCES", "EAFNOSUPPORT", "EINVAL", "ENFILE", "ENOMEM"]),
    ("stat", &["EACCES", "EIO", "ELOOP", "ENOENT", "ENOMEM", "ENOTDIR", "EOVERFLOW"]),
    ("statx", &["EACCES", "EIO", "ELOOP", "ENOENT", "ENOMEM", "ENOSYS", "ENOTDIR", "EPERM"]),
    ("uname", &["ENOSYS", "EPERM"]),
    ("unlinkat", &["EACCES", "EIO", "ENOENT", "EROFS"]),
    ("unshare", &["EPERM", "EINVAL", "ENOMEM", "ENOSPC", "EUSERS", "ENOSYS"]),
    ("wait4", &["EINTR", "ECHILD"]),
    ("write", &["EIO", "EINTR", "EAGAIN", "EDQUOT", "EFBIG", "ENOSPC", "EPERM", "EPIPE"]),
];

#[test]
fn without_a_fence() {
    strike_each_call(Scene::new("exec, no fence", &["--fence", "off"]), &[]);
}

#[test]
fn where_there_is_no_secretmem() {
    let options = ["--fence", "off"];
    strike_each_call(Scene::new("exec, no fence, locked memory", &options), &["memfd_secret:error=ENOSYS"]);
}

#[test]
fn where_descriptors_are_closed_by_a_list() {
    strike_each_call(Scene::new("exec, no fence, no close_range", &["--fence", "off"]), &["close_range:error=ENOSYS"]);
}

#[test]
fn with_a_fence_that_must_stand() {
    strike_each_call(Scene::new("exec, fence required", &["--fence", "require"]), &[]);
}

#[test]
fn with_a_fence_where_one_can_be_had() {
    strike_each_call(Scene::new("exec, fence if possible", &["--fence", "auto"]), &[]);
}

#[test]
fn where_root_is_given_up() {
    if !is_root() {
        return eprintln!("skipped: only root can run an agent as another user");
    }
    strike_each_call(Scene::new("exec, no fence, --user", &["--fence", "off", "--user", "daemon"]), &[]);
}

#[test]
fn in_a_supervisor_that_masks() {
    strike_each_call(Scene::new("supervisor, masking", &["--fence", "off", "--mask"]), &[]);
}

/// The signal that the agent has ended is taken, and then asking what became of it fails: nothing else will wake the
/// supervisor.
#[test]
fn in_a_supervisor_that_asks_what_became_of_its_agent() {
    for option in ["--supervise", "--mask"] {
        let scene = Scene::new("supervisor, an agent that takes its time", &["--fence", "off", option]);
        let file = |name: &str| scene.out.path().join(name);
        std::fs::write(file("wait"), "").unwrap();
        for error in errors_of("wait4") {
            // How often it asks before the end depends on how the agent's output comes.
            let outcome = |number: usize| {
                let run = scene.run(&[&format!("wait4:error={error}:when={number}")]).unwrap();
                scene.judge(&run, Place::Later).unwrap()
            };
            let last = (2..).find(|number| outcome(*number) == Outcome::NotReached).unwrap();
            assert!(last > 2, "{option}, {error}: it never asked");
            let _ = std::fs::remove_file(file("late"));
            let run = scene.run(&[&format!("wait4:error={error}:when=1+")]).unwrap();
            let said = text(&run.output.stderr);
            assert_eq!(run.output.status.code(), Some(125), "{option}, {error}: {said}");
            assert!(said.contains("what became of the agent is not known: "), "{option}, {error}: {said}");
            let events: Vec<&str> = run.events.iter().map(|event| event["event"].as_str().unwrap()).collect();
            assert_eq!(events, ["secret.access"], "{option}, {error}: an end that is not known is not on record");
            std::thread::sleep(std::time::Duration::from_millis(1500));
            assert!(!file("late").exists(), "{option}, {error}: the agent runs on");
            scene.goes_on().unwrap();
        }
    }
}

/// Its parent tells what became of it.
#[cfg(target_arch = "x86_64")] // See Change::Error.
#[test]
fn in_the_child_that_becomes_a_masked_agent() {
    strike_in(Scene::new("supervised child, masked", &["--fence", "off", "--mask"]), 1, |_| true);
}

/// strace(1) leaves open what it says could not be closed, as no kernel does: who waits for the end of a pipe would wait
/// for ever.
#[cfg(target_arch = "x86_64")]
#[test]
fn in_a_supervisor_that_closes() {
    strike_in(Scene::new("supervisor, masking, close", &["--fence", "off", "--mask"]), 0, |name| name == "close");
}

/// Strikes the calls of these names in one of a launch's processes.
#[cfg(target_arch = "x86_64")]
fn strike_in(scene: Scene, process: usize, is_struck: fn(&str) -> bool) {
    let names = scene.names();
    let (mut calls, mut main, mut end) = (Vec::new(), None, false);
    tracer::run(&mut scene.launch(), |asked| {
        if asked.process == process && !end {
            if process == 0 && asked.number == libc::SYS_prctl {
                main = main.or(Some(asked.place));
            }
            calls.push((asked.place, asked.number));
            end = asked.number == libc::SYS_execve;
        }
        None
    });
    calls.retain(|(_, number)| is_struck(&names[number]));
    let mut table = Table::new(&scene, calls.len());
    for &(place, number) in &calls {
        let name = &names[&number];
        for error in errors_of(name).iter().take(errors_at_once()) {
            let errno = errno_of(error);
            let fault = format!("{name}:error={error}");
            let run = scene.run_changed(&fault, |asked| {
                let is_it = (asked.process, asked.place, asked.number) == (process, place, number);
                is_it.then_some(Change::Error(errno))
            });
            let point = if Some(place) < main { Place::BeforeMain } else { Place::Later };
            table.enter(&format!("{fault}, call {place}"), run.and_then(|run| scene.judge(&run, point)));
        }
    }
    table.close();
}

/// The kernel does a part of what it is asked for.
#[test]
fn by_halves() {
    let scene = Scene::new("exec, no fence, short reads and writes", &["--fence", "off"]);
    let length_of = |asked: &Asked| match asked.number {
        libc::SYS_read | libc::SYS_pread64 | libc::SYS_write | libc::SYS_pwrite64 => Some(2),
        libc::SYS_getrandom => Some(1),
        _ => None,
    };
    let (mut calls, mut main) = (Vec::new(), None);
    tracer::run(&mut scene.launch(), |asked| {
        if asked.number == libc::SYS_prctl && main.is_none() {
            main = Some(asked.place);
        }
        if let Some(at) = length_of(asked).filter(|&at| asked.arguments[at] > 1) {
            calls.push((asked.place, at, asked.arguments[at]));
        }
        None
    });
    let mut table = Table::new(&scene, calls.len());
    for &(place, at, length) in &calls {
        // Of what is asked for then: a record with a shorter process ID is shorter.
        let parts: [fn(u64) -> u64; 3] = [|_| 1, |length| length / 2, |length| length - 1];
        for part in parts {
            let run = scene.run_changed("", |asked| {
                (asked.place == place).then(|| Change::Argument(at, part(asked.arguments[at])))
            });
            let judged = run.and_then(|run| {
                match scene.judge(&run, if Some(place) < main { Place::BeforeMain } else { Place::Later })? {
                    Outcome::Refused(_) => Err(format!("refused: {}", text(&run.output.stderr))),
                    outcome => Ok(outcome),
                }
            });
            table.enter(&format!("call {place}: {} of {length} bytes", part(length)), judged);
        }
    }
    table.close();
}

fn strike_each_call(scene: Scene, always: &[&str]) {
    let calls = scene.calls(always);
    let mut table = Table::new(&scene, calls.len());
    // See in_a_supervisor_that_closes.
    let is_true = |point: &Point<'_>| match &*point.call.name {
        "close" => !scene.supervises(),
        // It can't fail, and systemd's part of the C library's look-up of groups aborts if it does.
        "rt_sigprocmask" => !scene.options.contains(&"--user"),
        _ => true,
    };
    for point in points(&calls).into_iter().filter(is_true) {
        let fault = point.fault();
        let faults = [always, &[&*fault]].concat();
        table.enter(&fault, scene.run(&faults).and_then(|run| scene.judge(&run, point.place)));
    }
    table.close();
}

/// Which of the calls a fault is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The dynamic loader's, the C library's or the Rust runtime's, before `main`: no key is read, no file of the
    /// instance opened, and nothing of ours can answer.
    BeforeMain,
    /// Before there is a log to record the refusal in.
    BeforeTheLog,
    /// Later: every refusal is on record, or says why it is not.
    Later,
}

/// One call of the launch.
#[derive(Debug)]
struct Call {
    name: String,
    /// Which of the calls of this name it is, from 1.
    number: usize,
    place: Place,
}

/// One call and one error.
#[derive(Debug)]
struct Point<'c> {
    call: &'c Call,
    error: &'static str,
    place: Place,
}

impl Point<'_> {
    fn fault(&self) -> String {
        format!("{}:error={}:when={}", self.call.name, self.error, self.call.number)
    }
}

fn points<'a>(calls: &'a [Call]) -> Vec<Point<'a>> {
    let some = errors_at_once();
    let of = |call: &'a Call| {
        errors_of(&call.name).iter().take(some).map(move |error| Point { call, error, place: call.place })
    };
    calls.iter().flat_map(of).collect()
}

fn errors_of(name: &str) -> &'static [&'static str] {
    let found = ERRORS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("{name} is not in the table: which errors may it meet?")).1
}

/// How many errors of a call are tried.
fn errors_at_once() -> usize {
    match std::env::var_os("MENTIKO_FAULTS").is_some_and(|what| what == "all") {
        true => usize::MAX,
        false => 1,
    }
}

/// What came of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Ran,
    Refused(i32),
    EndedBeforeMain,
    /// The launch did not come to the call, as may be where two processes work at once.
    NotReached,
}

/// An instance, an agent that shows what it got, and what they are like when nothing fails.
struct Scene {
    mode: &'static str,
    options: Vec<&'static str>,
    site: Site,
    /// Apart from the instance's folder and from each other, for a fence covers folders.
    parts: tempfile::TempDir,
    out: tempfile::TempDir,
    script: PathBuf,
    segment: PathBuf,
    log: Vec<u8>,
    vault: Vec<u8>,
    usual: Option<Seen>,
}

/// What an agent found, and what was said.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    environment: Vec<String>,
    descriptors: String,
    status: String,
    stderr: String,
}

/// One launch that was disturbed, and its new records.
struct Run {
    output: Output,
    events: Vec<Value>,
    fault: String,
    reached: bool,
}

const VALUES: [&str; 2] = ["value-of-a-4711", "value-of-b-0815"];
/// The agent's own, which is none of the wrapper's.
const STATUS: i32 = 42;

impl Scene {
    fn new(mode: &'static str, options: &[&'static str]) -> Self {
        let (site, out) = (Site::with_two_agents(), tempfile::tempdir().unwrap());
        let segment_name = site.segment().file_name().unwrap().to_owned();
        let parts = taken_apart(&site);
        let (script, shown) = (out.path().join("agent"), out.path().display());
        let segment = parts.path().join("audit").join(segment_name);
        let covered = [site.file("instance.key"), parts.path().join("safe/vault"), segment.clone()];
        let covered = covered.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        let agent = format!(
            "#!/bin/sh\n\
             tr '\\0' '\\n' </proc/$$/environ >{shown}/environment\n\
             ls /proc/$$/fd >{shown}/descriptors\n\
             {{ grep -E '^(Sig(Blk|Ign)|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status; ulimit -c; }} >{shown}/status\n\
             cat {covered} {parts}/runs/* {parts}/chains/* >{shown}/covered 2>/dev/null\n\
             echo \"got $A\"\n\
             if test -e {shown}/wait; then exec >&- 2>&-; sleep 1; echo >{shown}/late; fi\n\
             exit {STATUS}\n",
            parts = parts.path().display()
        );
        // Another user is to write there.
        chmod(out.path(), 0o777);
        std::fs::write(&script, agent).unwrap();
        chmod(&script, 0o755);
        let (log, vault) = (std::fs::read(&segment).unwrap(), std::fs::read(parts.path().join("safe/vault")).unwrap());
        let mut scene =
            Self { mode, options: options.to_vec(), site, parts, out, script, segment, log, vault, usual: None };
        let output = scene.launch().output().unwrap();
        assert_eq!(output.status.code(), Some(STATUS), "{}", text(&output.stderr));
        let usual = scene.seen(&output);
        assert!(usual.environment.contains(&format!("A={}", VALUES[0])), "{usual:?}");
        scene.usual = Some(usual);
        scene
    }

    fn launch(&self) -> Command {
        let mut launch = self.site.exec("c", "one");
        launch.args(&self.options).arg("--").arg(&self.script);
        with_a_careless_caller(&mut launch);
        launch
    }

    /// The calls of the first process, from its own execve(2), which is the caller's, to the agent's.
    fn calls(&self, always: &[&str]) -> Vec<Call> {
        let mut launch = self.site.exec("c", "one");
        let trace = Trace::of(launch.args(&self.options), always, &[self.script.to_str().unwrap()]);
        assert_eq!(trace.output.status.code(), Some(STATUS), "{}", trace.complaint());
        let first = trace.lines[0].split(' ').next().unwrap();
        let lines: Vec<&str> =
            trace.lines.iter().filter_map(|line| line.strip_prefix(first).map(str::trim_start)).collect();
        let at = |what: &str| lines.iter().position(|line| line.contains(what)).unwrap();
        let (main, site) = (at("prctl(PR_SET_DUMPABLE"), at("/chains\""));
        let place = |at| match at {
            _ if at < main => Place::BeforeMain,
            _ if at < site => Place::BeforeTheLog,
            _ => Place::Later,
        };
        let (mut calls, mut counts) = (Vec::new(), BTreeMap::new());
        for (at, line) in lines.iter().enumerate() {
            let Some((name, _)) = line.split_once('(').filter(|(name, _)| is_a_name(name)) else { continue };
            // strace's own, which it does not count.
            if at == 0 {
                continue;
            }
            let number: &mut usize = counts.entry(name).or_default();
            *number += 1;
            calls.push(Call { name: name.into(), number: *number, place: place(at) });
            // A supervisor never becomes the agent.
            if name == "execve" {
                break;
            }
        }
        calls
    }

    /// One launch that meets this fault. Not with Trace, whose help for an ordinary user is about a call, too.
    fn run(&self, faults: &[&str]) -> Result<Run, String> {
        self.reset();
        let launch = self.launch();
        let file = tempfile::NamedTempFile::new().unwrap();
        // What is stopped in the midst is killed with strace: it would hold the pipes open that are read here.
        let mut strace = Command::new("timeout");
        strace.args(["-s", "KILL", "10", "strace", "-o"]).arg(file.path());
        strace.args(faults.iter().map(|fault| format!("--inject={fault}"))).arg("--").arg(launch.get_program());
        strace.args(launch.get_args()).stdin(Stdio::null()).env_clear().envs(variables(&launch));
        with_a_careless_caller(&mut strace);
        let output = strace.output().unwrap();
        let trace = text(&std::fs::read(file.path()).unwrap());
        let fault = faults.last().unwrap();
        let (call, _) = fault.split_once(':').unwrap();
        let reached = trace.lines().any(|line| line.starts_with(call) && line.contains("(INJECTED)"));
        Ok(Run { output, events: self.new_events()?, fault: (*fault).into(), reached })
    }

    /// One launch of which a call is changed.
    fn run_changed(&self, fault: &str, mut change: impl FnMut(&Asked) -> Option<Change>) -> Result<Run, String> {
        self.reset();
        let mut reached = false;
        let output = tracer::run(&mut self.launch(), |asked| {
            let change = change(asked);
            reached |= change.is_some();
            change
        });
        Ok(Run { output, events: self.new_events()?, fault: fault.into(), reached })
    }

    /// The names of the calls that a launch makes, by their numbers.
    #[cfg(target_arch = "x86_64")]
    fn names(&self) -> BTreeMap<i64, String> {
        let launch = self.launch();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-n", "-o"]).arg(file.path()).arg("--").arg(launch.get_program()).args(launch.get_args());
        assert_eq!(strace.env_clear().envs(variables(&launch)).output().unwrap().status.code(), Some(STATUS));
        let trace = text(&std::fs::read(file.path()).unwrap());
        let named = trace.lines().filter_map(|line| {
            let (number, rest) = line.split_once('[')?.1.split_once(']')?;
            let (name, _) = rest.trim_start().split_once('(').filter(|(name, _)| is_a_name(name))?;
            Some((number.trim().parse().ok()?, name.to_owned()))
        });
        named.collect()
    }

    /// The records that a launch added; whatever stood there before still does.
    fn new_events(&self) -> Result<Vec<Value>, String> {
        let log = std::fs::read(&self.segment).unwrap();
        let added = log.strip_prefix(&*self.log).ok_or("the log has lost a record")?;
        let lines = text(added);
        lines.lines().map(|line| serde_json::from_str(line).map_err(|_| format!("a torn line: {line}"))).collect()
    }

    fn judge(&self, run: &Run, place: Place) -> Result<Outcome, String> {
        let (stdout, stderr) = (text(&run.output.stdout), text(&run.output.stderr));
        let outcome = self.outcome(run, place);
        let context = |why: &str| {
            let events: Vec<String> = run.events.iter().map(|event| format!("{}", event["event"])).collect();
            format!("{why} (status {:?}, events {events:?}, stderr {stderr:?})", run.output.status)
        };
        let judged = outcome.map_err(|why| context(&why))?;
        if VALUES.iter().any(|value| stderr.contains(value)) {
            return Err(context("stderr shows a value"));
        }
        if self.masks() && stdout.contains(VALUES[0]) {
            return Err(context("stdout shows a value"));
        }
        self.goes_on().map_err(|why| context(&why))?;
        Ok(judged)
    }

    fn outcome(&self, run: &Run, place: Place) -> Result<Outcome, String> {
        let status = run.output.status;
        if !run.reached {
            return Ok(Outcome::NotReached);
        }
        if self.agent_ran() {
            self.check_agent(run, place)?;
            return match status.code() {
                Some(STATUS) => Ok(Outcome::Ran),
                _ => Err("the agent ran, and its status was lost".into()),
            };
        }
        let died = status.signal().is_some() || status.code().is_some_and(|code| code > 128);
        if place == Place::BeforeMain && run.events.is_empty() && (died || status.code() == Some(127)) {
            return Ok(Outcome::EndedBeforeMain);
        }
        let Some(code @ (77 | 78 | 125 | 126 | 127)) = status.code() else {
            return Err("no agent ran, and the status is none of ours".into());
        };
        self.check_refusal(run, place)?;
        Ok(Outcome::Refused(code))
    }

    fn agent_ran(&self) -> bool {
        self.out.path().join("environment").exists()
    }

    /// The agent is what it is when nothing fails, and has its record.
    fn check_agent(&self, run: &Run, place: Place) -> Result<(), String> {
        let (seen, usual) = (self.seen(&run.output), self.usual.as_ref().unwrap());
        let record = run.events.first().ok_or("the agent ran without a record")?;
        let names: Vec<&str> = run.events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        let unrecorded_end = seen.stderr.contains("the agent's end could not be recorded");
        match names[..] {
            ["secret.access"] if !self.supervises() || unrecorded_end => {}
            ["secret.access", "agent.end"] if self.supervises() && run.events[1]["status"] == STATUS => {}
            _ => return Err("the agent ran, and these are not its records".into()),
        }
        let unsynced = ["fdatasync:", "fsync:"].iter().any(|call| run.fault.starts_with(call));
        if unsynced && !run.fault.contains("EINTR") && !unrecorded_end {
            return Err("the agent ran, and its record may be on no disk".into());
        }
        let said = |field: &str| record[field].as_str().unwrap_or_default();
        if (said("outcome"), said("secret"), said("agent")) != ("granted", "A", "one") {
            return Err(format!("not the record of this agent's grant: {record}"));
        }
        let fence = seen.environment.iter().find_map(|line| line.strip_prefix("MENTIKO_FENCE="));
        let stands = !["off", "none"].contains(&said("fence"));
        if fence != stands.then(|| said("fence")) {
            return Err(format!("the record says fence {}, the agent {fence:?}", said("fence")));
        }
        if stands && !std::fs::read(self.out.path().join("covered")).unwrap().is_empty() {
            return Err(format!(
                "the fence is said to be {}, and the agent can read what is to be covered",
                said("fence")
            ));
        }
        let is_this = |option: &str| self.options.contains(&option);
        let warns = seen.stderr.lines().count() == 1 && seen.stderr.contains("warning: no fence: ");
        match said("fence") {
            "none" if !is_this("auto") || !warns => return Err("no fence, and no warning of it".into()),
            "off" if !is_this("off") => return Err("the fence was left out".into()),
            _ => {}
        }
        let is_the_fences = |line: &&String| !line.starts_with("MENTIKO_FENCE=");
        let without_fence = |seen: &Seen| seen.environment.iter().filter(is_the_fences).cloned().collect::<Vec<_>>();
        if without_fence(&seen) != without_fence(usual) {
            return Err(format!("another environment: {:?}", seen.environment));
        }
        if seen.descriptors != usual.descriptors {
            return Err(format!("other descriptors: {}", seen.descriptors));
        }
        let status = |text: &str| match said("fence") {
            "none" => text.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            _ => text.to_owned(),
        };
        if place > Place::BeforeMain && status(&seen.status) != status(&usual.status) {
            return Err(format!("another state: {:?}, not {:?}", seen.status, usual.status));
        }
        let unsaid = run.fault.starts_with("write:") && seen.stderr.is_empty();
        if seen.stderr != usual.stderr && said("fence") != "none" && !unrecorded_end && !unsaid {
            return Err("something else was said".into());
        }
        Ok(())
    }

    /// One line says why, and the log does not say that an agent ran.
    fn check_refusal(&self, run: &Run, place: Place) -> Result<(), String> {
        let stderr = text(&run.output.stderr);
        // Warnings are said right before execve(2), which may still fail.
        let usual = &self.usual.as_ref().unwrap().stderr;
        let reason = stderr.strip_prefix(&**usual).unwrap_or(&stderr);
        if reason.lines().count() != 1 || !reason.starts_with("mentiko-exec: ") || !reason.ends_with('\n') {
            return Err("not one line of ours".into());
        }
        let unrecorded = stderr.contains("could not be recorded") || stderr.contains("without its record");
        let names: Vec<(&str, &str)> = run
            .events
            .iter()
            .map(|event| (event["event"].as_str().unwrap(), event["outcome"].as_str().unwrap()))
            .collect();
        match names[..] {
            [("secret.access", "denied")] | [("secret.access", "granted"), ("launch.failed", "failed")] => Ok(()),
            [] | [("secret.access", "granted")] if unrecorded => Ok(()),
            [] if place < Place::Later => Ok(()),
            [] => Err("the refusal is not on record".into()),
            _ => Err("the log tells something else".into()),
        }
    }

    /// The vault is as it was, the log verifies, and the next launch works.
    fn goes_on(&self) -> Result<(), String> {
        if std::fs::read(self.parts.path().join("safe/vault")).unwrap() != self.vault {
            return Err("the vault was changed".into());
        }
        let verified = self.site.mentiko(&["audit", "verify"]).output().unwrap();
        if !verified.status.success() {
            return Err(format!("the log does not verify: {}{}", text(&verified.stdout), text(&verified.stderr)));
        }
        self.clear();
        let next = self.launch().output().unwrap();
        match next.status.code() {
            Some(STATUS) if Some(&self.seen(&next)) == self.usual.as_ref() => Ok(()),
            _ => Err(format!("the next launch failed: {}", text(&next.stderr))),
        }
    }

    fn masks(&self) -> bool {
        self.options.contains(&"--mask")
    }

    fn supervises(&self) -> bool {
        self.masks() || self.options.contains(&"--supervise")
    }

    fn seen(&self, output: &Output) -> Seen {
        let read = |name: &str| text(&std::fs::read(self.out.path().join(name)).unwrap());
        let environment = read("environment");
        let mut environment: Vec<String> = environment.lines().map(str::to_owned).collect();
        environment.retain(|line| !line.starts_with("MENTIKO_RUN_ID="));
        Seen {
            environment,
            descriptors: read("descriptors"),
            status: read("status").lines().map(without_real_time_signals).collect(),
            stderr: text(&output.stderr),
        }
    }

    /// Removes what the agent left.
    fn clear(&self) {
        for name in ["environment", "descriptors", "status", "covered"] {
            let _ = std::fs::remove_file(self.out.path().join(name));
        }
    }

    /// As before the first launch; what a refused one must not leave is told by the log.
    fn reset(&self) {
        self.clear();
        std::fs::write(&self.segment, &self.log).unwrap();
        for run in std::fs::read_dir(self.parts.path().join("runs")).unwrap() {
            std::fs::remove_file(run.unwrap().path()).unwrap();
        }
    }
}

/// Moves each of an instance's folders to a place of its own.
fn taken_apart(site: &Site) -> tempfile::TempDir {
    let parts = tempfile::tempdir().unwrap();
    let path = site.file("instance.json");
    let mut configuration: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for name in ["chains", "audit", "runs", "safe"] {
        let folder = parts.path().join(name);
        if name == "safe" {
            std::fs::create_dir(&folder).unwrap();
            std::fs::rename(site.file("vault"), folder.join("vault")).unwrap();
            configuration["vault"] = folder.join("vault").to_str().into();
        } else {
            std::fs::rename(site.file(name), &folder).unwrap();
            configuration[name] = folder.to_str().into();
        }
        chmod(&folder, 0o700);
    }
    std::fs::write(path, configuration.to_string()).unwrap();
    parts
}

/// Who leaves a descriptor open that is not the agent's.
fn with_a_careless_caller(command: &mut Command) {
    let open = || {
        // SAFETY: one dup2(2); nothing of ours has that number here.
        Errno::result(unsafe { libc::dup2(0, 7) })?;
        Ok(())
    };
    // SAFETY: one dup2(2), between fork and exec.
    unsafe { command.pre_exec(open) };
}

/// Signals 32 and 33 belong to the C library: who runs the tests may have left them ignored, and strace(1) resets one.
fn without_real_time_signals(line: &str) -> String {
    match line.strip_prefix("SigIgn:\t").map(|mask| u64::from_str_radix(mask, 16).unwrap()) {
        Some(mask) => format!("SigIgn:\t{:x}\n", mask & 0x7fff_ffff),
        None => format!("{line}\n"),
    }
}

#[cfg(target_arch = "x86_64")]
fn errno_of(name: &str) -> Errno {
    let mut known = (1..134).map(Errno::from_raw);
    known.find(|errno| format!("{errno:?}") == name).unwrap_or_else(|| panic!("{name} is no error"))
}

fn is_a_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// What was tried in one mode, and what came of it.
struct Table {
    mode: String,
    calls: usize,
    counts: BTreeMap<Outcome, usize>,
    findings: Vec<String>,
}

impl Table {
    fn new(scene: &Scene, calls: usize) -> Self {
        let user = if is_root() { "root" } else { "an ordinary user" };
        let mode = format!("{}, as {user}", scene.mode);
        Self { mode, calls, counts: BTreeMap::new(), findings: Vec::new() }
    }

    fn enter(&mut self, fault: &str, outcome: Result<Outcome, String>) {
        match outcome {
            Ok(outcome) => *self.counts.entry(outcome).or_default() += 1,
            Err(finding) => self.findings.push(format!("{fault}: {finding}")),
        }
    }

    fn close(self) {
        let count = |wanted: Outcome| self.counts.get(&wanted).copied().unwrap_or_default();
        let refused = [77, 78, 125, 126, 127].map(|status| count(Outcome::Refused(status)).to_string());
        let points = self.counts.iter().filter(|(outcome, _)| **outcome != Outcome::NotReached).map(|(_, n)| n);
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            self.mode,
            self.calls,
            points.sum::<usize>() + self.findings.len(),
            count(Outcome::Ran),
            refused.join(" | "),
            count(Outcome::EndedBeforeMain),
        );
        assert!(self.findings.is_empty(), "{}: {}\n{}", self.mode, self.findings.len(), self.findings.join("\n"));
    }
}
