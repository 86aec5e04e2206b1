//! What the agent sees once the wrapper has become it, and what `mentiko` shows of the instance.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{EXEC, IS_STATIC, Site, chmod, output_with_input, text};
use nix::sys::signal::Signal;
use serde_json::Value;

const MENTIKO: &str = env!("CARGO_BIN_EXE_mentiko");

/// The values of [`Site::with_two_agents`].
const A: &str = "value-of-a-4711";
const B: &str = "value-of-b-0815";

/// What a command that must succeed wrote to standard output.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// What a shell script prints that runs as agent `one` of chain `c`.
fn printed_by_agent(site: &Site, options: &[&str], script: &str) -> String {
    printed(site.exec("c", "one").args(options).args(["--", "sh", "-c", script]))
}

/// A shell with `$EXEC` and the instance at hand, to start the wrapper in a state of its own.
fn shell(site: &Site, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-euc", script]).env_clear().stdin(Stdio::null()).env("EXEC", EXEC).env("MENTIKO", MENTIKO);
    command
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("MENTIKO_INSTANCE", site.path())
        .env("SITE", site.path());
    command
}

/// The agent's environment, where no name may stand twice.
fn environment(command: &mut Command) -> BTreeMap<String, String> {
    let text = printed(command.args(["--", "env"]));
    let mut variables = BTreeMap::new();
    for line in text.lines() {
        let (name, value) = line.split_once('=').unwrap();
        let before = variables.insert(name.to_owned(), value.to_owned());
        assert_eq!(before, None, "{name} stands twice");
    }
    variables
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

// The process.

#[test]
fn the_agent_is_the_process_that_was_started() {
    let site = Site::with_two_agents().unfenced();
    let mut command = site.exec("c", "one");
    // The fields after the name in parentheses: state, parent, process group, session.
    command.args(["--", "sh", "-c", "cat /proc/$$/stat; :"]).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id();
    let stat = text(&child.wait_with_output().unwrap().stdout);
    assert_eq!(stat.split(' ').next().unwrap(), pid.to_string());
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(fields[1], std::process::id().to_string());
    assert_eq!(fields[2], nix::unistd::getpgrp().to_string());
    assert_eq!(fields[3], nix::unistd::getsid(None).unwrap().to_string());
    let record = &site.accesses()[0];
    assert_eq!((&record["pid"], &record["command"]), (&pid.into(), &"sh".into()));
}

#[test]
fn nobody_but_the_agent_is_left() {
    let site = Site::with_two_agents().unfenced();
    let children = printed_by_agent(&site, &[], "cat /proc/$$/task/$$/children; :");
    // `cat` itself is the only one.
    assert_eq!(children.split_whitespace().count(), 1, "{children}");
}

#[test]
fn standard_input_output_and_error_are_passed_through() {
    let site = Site::with_two_agents().unfenced();
    let mut command = site.exec("c", "one");
    command.args(["--", "sh", "-c", "read -r line; echo \"out $line\"; echo \"err $line\" >&2; cat"]);
    let output = output_with_input(&mut command, b"first\nsecond\0third");
    assert_eq!(text(&output.stdout), "out first\nsecond\0third");
    assert_eq!(text(&output.stderr), "err first\n");
}

#[test]
fn the_agents_exit_is_its_own() {
    let site = Site::with_two_agents().unfenced();
    let status = |script: &str| site.exec("c", "one").args(["--", "sh", "-c", script]).status().unwrap();
    assert_eq!(status("exit 0").code(), Some(0));
    assert_eq!(status("exit 3").code(), Some(3));
    // Also one that the wrapper uses for itself.
    assert_eq!(status("exit 77").code(), Some(77));
    assert_eq!(status("kill -KILL $$").signal(), Some(9));
    assert_eq!(status("kill -TERM $$").signal(), Some(15));
}

#[test]
fn the_working_folder_and_the_arguments_are_the_callers() {
    let site = Site::with_two_agents().unfenced();
    let folder = site.path().canonicalize().unwrap();
    let mut command = site.exec("c", "one");
    command
        .current_dir(&folder)
        .args(["--", "sh", "-c", "pwd; printf '<%s>' \"$0\" \"$@\"", "zero", "", "a b", "--", "*"]);
    assert_eq!(printed(&mut command), format!("{}\n<zero><><a b><--><*>", shown(&folder)));
}

#[test]
fn signals_are_as_the_caller_left_them() {
    let site = Site::with_two_agents().unfenced();
    let lines = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status";
    for prefix in [
        "",
        "trap '' PIPE;",
        "trap '' PIPE HUP USR1;",
        "set -- env --ignore-signal=CHLD --ignore-signal=SEGV --ignore-signal=PIPE;",
        "set -- env --block-signal=USR1 --block-signal=TERM --block-signal=PIPE;",
        "set -- env --block-signal --ignore-signal=PIPE;",
    ] {
        // SIGRTMIN of glibc; musl keeps it for itself, and lets it through from the start.
        let masked = |text: String| if IS_STATIC { text.replace("fffffffe7", "fffffffc7") } else { text };
        let run =
            |wrapper: &str| masked(printed(&mut shell(&site, &format!("{prefix} exec \"$@\" {wrapper} {lines}"))));
        assert_eq!(run("\"$EXEC\" --chain c --agent one --"), run("env --"), "{prefix}");
    }
    let pipe_is_ignored = |prefix: &str| {
        let status = printed(&mut shell(&site, &format!("{prefix} exec \"$EXEC\" --chain c --agent one -- {lines}")));
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap() & 1 << (Signal::SIGPIPE as i32 - 1) != 0
    };
    assert!(!pipe_is_ignored(""));
    assert!(pipe_is_ignored("trap '' PIPE;"));
}

#[test]
fn an_agent_dies_of_a_broken_pipe_as_without_the_wrapper() {
    let site = Site::with_two_agents().unfenced();
    // Were SIGPIPE left ignored, `yes` would complain and exit with 1.
    let script = r#"{ "$EXEC" --chain c --agent one -- yes; echo "$?" > "$SITE/status"; } | head -n 1"#;
    let output = shell(&site, &format!("set +e; {script}")).output().unwrap();
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("y\n", ""));
    assert_eq!(std::fs::read_to_string(site.file("status")).unwrap(), "141\n");
}

#[test]
fn closed_standard_descriptors_are_empty_for_the_agent_and_nothing_of_ours() {
    let site = Site::with_two_agents().unfenced();
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        // What the agent sees goes to a file, for there may be no output.
        let agent = r#"{ echo "$A"; for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done; } > "$SITE/seen""#;
        let script = format!("exec \"$EXEC\" --chain c --agent one -- sh -c '{agent}' {closed}");
        let status = shell(&site, &script).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{closed}: {status}");
        let seen = std::fs::read_to_string(site.file("seen")).unwrap();
        let lines: Vec<&str> = seen.lines().collect();
        let [value, input, output, error] = lines[..] else { panic!("{closed}: {seen}") };
        assert_eq!((value, input, error), (A, "/dev/null", "/dev/null"), "{closed}");
        // Where the shell that looks has its output at that moment.
        assert_eq!(output, shown(&site.file("seen")), "{closed}");
    }
    // A refusal has its status whether or not it can be read.
    let script = "\"$EXEC\" --chain c --agent three -- true <&- >&- 2>&-";
    assert_eq!(shell(&site, script).status().unwrap().code(), Some(77));
}

#[test]
fn the_agent_writes_no_core_files_unless_it_may() {
    let site = Site::with_two_agents().unfenced();
    let limits = "ulimit -Sc; ulimit -Hc";
    assert_eq!(printed_by_agent(&site, &[], limits), "0\n0\n");
    for soft in ["$(ulimit -Hc)", "0"] {
        let script = |wrapper: &str| format!("ulimit -Sc {soft}; exec {wrapper} sh -c '{limits}'");
        let before = printed(&mut shell(&site, &script("")));
        let after = printed(&mut shell(&site, &script("\"$EXEC\" --chain c --agent one --allow-core --")));
        assert_eq!(after, before);
    }
}

#[test]
fn the_wrapper_gives_no_powers_and_takes_none() {
    for program in [EXEC, MENTIKO] {
        assert_eq!(std::fs::metadata(program).unwrap().permissions().mode() & 0o6000, 0, "{program}");
    }
    let site = Site::with_two_agents().unfenced();
    let lines = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/self/status";
    let without = printed(&mut shell(&site, lines));
    assert_eq!(printed(&mut shell(&site, &format!("exec \"$EXEC\" --chain c --agent one -- {lines}"))), without);
}

// The environment.

#[test]
fn an_agent_sees_its_secret_and_no_other_whatever_the_caller_exported() {
    let site = Site::with_two_agents().unfenced();
    let mut command = site.exec("c", "one");
    command.env("A", "stale-a").env("B", "stale-b").env("PLAIN", "kept").env("EMPTY", "").env("_UNDERSCORE", "kept");
    let variables = environment(&mut command);
    assert_eq!(variables["A"], A);
    assert!(!variables.contains_key("B"));
    assert_eq!([&variables["PLAIN"], &variables["EMPTY"], &variables["_UNDERSCORE"]], ["kept", "", "kept"]);
    let mut names: Vec<&str> = variables.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected = ["A", "EMPTY", "MENTIKO_AGENT", "MENTIKO_CHAIN", "MENTIKO_RUN_ID", "PATH", "PLAIN", "_UNDERSCORE"];
    assert_eq!(names, expected);
    // Nor anywhere else in what the agent was started with.
    let started =
        printed(site.exec("c", "one").env("B", B).args(["--", "cat", "/proc/self/environ", "/proc/self/cmdline"]));
    assert!(started.contains(A) && !started.contains(B));
}

#[test]
fn variables_that_the_chain_fills_for_another_agent_are_taken_out() {
    let site = Site::with_two_agents().unfenced();
    site.set("C", "value-of-c");
    let definition = r#"{"secrets": ["A", "B", "C"], "agents": {
        "one": {"env": {"MINE": "A"}}, "two": {"env": {"THEIRS": "C", "_THEIRS": "B"}}}}"#;
    site.chain("c", definition);
    let variables = environment(
        site.exec("c", "one").env("THEIRS", "stale").env("_THEIRS", "stale").env("MINE", "stale").env("A", "x"),
    );
    assert_eq!(variables["MINE"], A);
    for name in ["THEIRS", "_THEIRS", "A", "B"] {
        assert!(!variables.contains_key(name), "{name}");
    }
    let variables = environment(site.exec("c", "two").env("THEIRS", "stale").env("MINE", "stale"));
    assert_eq!((variables["THEIRS"].as_str(), variables["_THEIRS"].as_str()), ("value-of-c", B));
    assert!(!variables.contains_key("MINE"));
}

#[test]
fn a_secret_whose_name_is_no_variable_is_delivered_by_a_map() {
    let site = Site::with_two_agents().unfenced();
    site.set("slack/marketing", "value-of-slack");
    for definition in [
        r#"{"agent": "one", "env": {"WEBHOOK": "slack/marketing"}}"#,
        r#"{"secrets": ["A", "slack/marketing"], "agents": {"one": {"env": {"WEBHOOK": "slack/marketing"}}}}"#,
        r#"{"secrets": ["slack/marketing"], "agents": [{"agent": "one", "env": {"WEBHOOK": "slack/marketing"}}]}"#,
    ] {
        site.chain("c", definition);
        assert_eq!(environment(&mut site.exec("c", "one"))["WEBHOOK"], "value-of-slack", "{definition}");
    }
}

#[test]
fn one_secret_may_fill_several_variables() {
    let site = Site::with_two_agents().unfenced();
    site.chain("c", r#"{"secrets": ["A"], "agents": {"one": {"env": {"X": "A", "Y": "A"}}}}"#);
    let variables = environment(&mut site.exec("c", "one"));
    assert_eq!((variables["X"].as_str(), variables["Y"].as_str()), (A, A));
}

#[test]
fn the_wrappers_own_variables_are_new() {
    let site = Site::with_two_agents().unfenced();
    let mut command = site.exec("c", "one");
    command.env("MENTIKO_CHAIN", "stale").env("MENTIKO_AGENT", "stale").env("MENTIKO_WHATEVER", "stale");
    let variables = environment(&mut command);
    assert_eq!((variables["MENTIKO_CHAIN"].as_str(), variables["MENTIKO_AGENT"].as_str()), ("c", "one"));
    let ours = variables.keys().filter(|name| name.starts_with("MENTIKO_")).count();
    assert_eq!(ours, 3, "{:?}", variables.keys());
}

/// A UUID of version 7 and variant 2 (RFC 9562, sections 4.1 and 5.7).
fn is_uuid_v7(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12]
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        && text.as_bytes()[14] == b'7'
        && b"89ab".contains(&text.as_bytes()[19])
}

#[test]
fn the_run_is_the_named_one_else_the_callers_else_a_new_one() {
    let site = Site::with_two_agents().unfenced();
    let run = |command: &mut Command| environment(command)["MENTIKO_RUN_ID"].clone();
    assert_eq!(run(site.exec("c", "one").env("MENTIKO_RUN_ID", "outer").args(["--run-id", "inner.1"])), "inner.1");
    assert_eq!(run(site.exec("c", "one").env("MENTIKO_RUN_ID", "outer")), "outer");
    let (first, second) = (run(&mut site.exec("c", "one")), run(site.exec("c", "one").env("MENTIKO_RUN_ID", "")));
    assert!(is_uuid_v7(&first) && is_uuid_v7(&second), "{first} {second}");
    assert!(first < second, "version 7 is in the order of time");
    let recorded: Vec<Value> = site.accesses().iter().map(|record| record["run"].clone()).collect();
    assert_eq!(recorded, ["inner.1", "outer", &first, &second].map(Value::from));
}

/// Not a test of its own: becomes the wrapper, with an environment that [`Command`] can't make.
#[test]
fn exec_with_duplicates() {
    let Some(site) = std::env::var_os("LAUNCH_TEST_SITE") else { return };
    let c_string = |text: &[u8]| CString::new(text).unwrap();
    let seen = Path::new(&site).join("seen");
    let seen = seen.as_os_str().as_bytes();
    let agent: [&[u8]; 9] = [b"", b"--chain", b"c", b"--agent", b"one", b"--", b"cp", b"/proc/self/environ", seen];
    let path = [b"PATH=", std::env::var_os("PATH").unwrap().as_bytes()].concat();
    let instance = [b"MENTIKO_INSTANCE=", site.as_bytes()].concat();
    let variables: [&[u8]; 12] = [
        &path, &instance, b"A=stale-1", b"TWICE=1", b"B=stale-2", b"A=stale-3", b"TWICE=2", b"B=stale-4", b"no-equals",
        b"MENTIKO_AGENT=x", b"MENTIKO_AGENT=y", b"PATH=/nowhere",
    ];
    let Err(errno) = nix::unistd::execve(&c_string(EXEC.as_bytes()), &agent.map(c_string), &variables.map(c_string));
    panic!("{errno}");
}

#[test]
fn no_variable_passes_twice() {
    let site = Site::with_two_agents().unfenced();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "exec_with_duplicates"]).env("LAUNCH_TEST_SITE", site.path());
    printed(&mut command);
    let seen = std::fs::read(site.file("seen")).unwrap();
    let assignments: Vec<String> = seen.split(|&byte| byte == 0).map(text).filter(|text| !text.is_empty()).collect();
    let of = |name: &str| -> Vec<&str> {
        assignments.iter().map(String::as_str).filter(|text| text.split('=').next() == Some(name)).collect()
    };
    assert_eq!(of("A"), [format!("A={A}")]);
    assert_eq!(of("TWICE"), ["TWICE=1"]);
    assert_eq!(of("B"), [""; 0]);
    assert_eq!(of("MENTIKO_AGENT"), ["MENTIKO_AGENT=one"]);
    assert_eq!(of("PATH").len(), 1);
    assert!(!text(&seen).contains("stale"));
}

#[test]
fn a_clean_environment_starts_from_a_few_names() {
    let site = Site::with_two_agents().unfenced();
    let caller = |options: &[&str]| {
        let mut command = site.exec("c", "one");
        for name in ["HOME", "LANG", "LC_TIME", "TERM", "PLAIN", "KEPT", "LANGUAGE", "LD_LIBRARY_PATH"] {
            command.env(name, format!("of-{name}"));
        }
        command.args(options);
        environment(&mut command).into_keys().collect::<Vec<_>>().join(" ")
    };
    let ours = "MENTIKO_AGENT MENTIKO_CHAIN MENTIKO_RUN_ID";
    assert_eq!(caller(&["--clean-env"]), format!("A HOME LANG LC_TIME {ours} PATH TERM"));
    // What is kept and isn't there is no fault; the agent's own secret may be named too.
    let keep = ["--clean-env", "--keep", "KEPT", "--keep", "ABSENT", "--keep", "A"];
    assert_eq!(caller(&keep), format!("A HOME KEPT LANG LC_TIME {ours} PATH TERM"));
}

// Where the command is looked for.

#[test]
fn chdir_changes_the_folder_and_not_what_other_paths_mean() {
    let site = Site::with_two_agents().unfenced();
    let parent = site.path().parent().unwrap().canonicalize().unwrap();
    let name = site.path().file_name().unwrap();
    std::fs::create_dir(site.file("work")).unwrap();
    std::fs::write(site.file("work/tool"), "#!/bin/sh\npwd\nprintf '%s\\n' \"$A\"\n").unwrap();
    chmod(&site.file("work/tool"), 0o755);
    let expected = format!("{}\n{A}\n", shown(&parent.join(name).join("work")));
    let work = Path::new(name).join("work");

    // A relative command is the one in the new folder.
    let mut command = site.exec("c", "one");
    command.current_dir(&parent).arg("--instance").arg(name).arg("--chdir").arg(&work).args(["--", "./tool"]);
    assert_eq!(printed(command.env_remove("MENTIKO_INSTANCE")), expected);
    let mut command = site.exec("c", "one");
    command.current_dir(&parent).env("MENTIKO_INSTANCE", name).arg("--chdir").arg(&work).args(["--", "./tool"]);
    assert_eq!(printed(&mut command), expected);
    // So is one by a relative element of PATH.
    let mut command = site.exec("c", "one");
    command.current_dir(&parent).env("PATH", "../work:/usr/bin:/bin").arg("--chdir").arg(&work).args(["--", "tool"]);
    assert_eq!(printed(&mut command), expected);
}

#[test]
fn the_current_folder_is_not_searched_for_commands() {
    let site = Site::with_two_agents().unfenced();
    for name in ["tool", "true"] {
        std::fs::write(site.file(name), "#!/bin/sh\necho from the current folder\n").unwrap();
        chmod(&site.file(name), 0o755);
    }
    // Not the caller's: it may name folders that this user can't search, which is another refusal.
    let path = "/usr/local/bin:/usr/bin:/bin";
    for path in [format!(":{path}"), format!("{path}:"), format!("/nonexistent::{path}")] {
        let launch = |command: &str| {
            site.exec("c", "one").env("PATH", &path).current_dir(site.path()).args(["--", command]).output().unwrap()
        };
        let output = launch("tool");
        assert_eq!(output.status.code(), Some(127), "{path}");
        assert_eq!(text(&output.stderr), "mentiko-exec: 'tool': command not found\n");
        assert_eq!(text(&launch("true").stdout), "", "{path}");
    }
    assert_eq!(printed(site.exec("c", "one").env_remove("PATH").args(["--", "echo", "found"])), "found\n");
}

#[test]
fn a_script_without_an_interpreter_line_runs_in_the_shell() {
    let site = Site::with_two_agents().unfenced();
    let script = site.file("script");
    std::fs::write(&script, "printf '<%s>' \"$A\" \"$@\"\n").unwrap();
    chmod(&script, 0o755);
    assert_eq!(printed(site.exec("c", "one").arg("--").arg(&script).args(["x", "y z"])), format!("<{A}><x><y z>"));
    let records = site.accesses();
    assert_eq!((records.len(), &records[0]["outcome"]), (1, &"granted".into()));
}

// Descriptors.

/// The agent's descriptors, seen from a process of its own: looking opens one more.
const LIST: &str = "ls /proc/$$/fd; :";

#[test]
fn descriptors_pass_by_name_only() {
    let site = Site::with_two_agents().unfenced();
    std::fs::write(site.file("input"), "content").unwrap();
    let launch = |options: &str, agent: &str| {
        let redirections = r#"3< "$SITE/input" 4< "$SITE/input" 7< "$SITE/input" 9< /dev/null"#;
        let script = format!("exec \"$EXEC\" --chain c --agent one {options} -- sh -c '{agent}' {redirections}");
        printed(&mut shell(&site, &script))
    };
    assert_eq!(launch("", LIST), "0\n1\n2\n");
    assert_eq!(launch("--pass-fd 7", LIST), "0\n1\n2\n7\n");
    assert_eq!(launch("--pass-fd 7 --pass-fd 3 --pass-fd 7 --pass-fd 1", LIST), "0\n1\n2\n3\n7\n");
    assert_eq!(launch("--pass-fd 7", "cat <&7"), "content");
}

#[test]
fn descriptors_of_systemd_pass_to_the_process_they_are_meant_for() {
    let site = Site::with_two_agents().unfenced();
    let launch = |pid: &str, count: &str| {
        let agent = format!("echo $LISTEN_FDS $LISTEN_FDNAMES; {LIST}");
        let variables = format!("export LISTEN_PID={pid} LISTEN_FDS={count} LISTEN_FDNAMES=web");
        let wrapper = format!("exec \"$EXEC\" --chain c --agent one -- sh -c '{agent}'");
        printed(&mut shell(&site, &format!("{variables}; {wrapper} 3< /dev/null 4< /dev/null 5< /dev/null")))
    };
    assert_eq!(launch("$$", "1"), "1 web\n0\n1\n2\n3\n");
    assert_eq!(launch("$$", "2"), "2 web\n0\n1\n2\n3\n4\n");
    assert_eq!(launch("1", "1"), "1 web\n0\n1\n2\n");
    // A wrong number passes nothing that the wrapper opened itself.
    assert_eq!(launch("$$", "-1"), "-1 web\n0\n1\n2\n");
    assert_eq!(launch("$$", "6"), "6 web\n0\n1\n2\n3\n4\n5\n");
}

#[test]
fn a_value_in_a_file_is_sealed_and_private() {
    let site = Site::with_two_agents().unfenced();
    let by_file = |script: &str| printed_by_agent(&site, &["--deliver", "file"], script);
    assert_eq!(by_file("cat \"$A_FILE\"; cat \"$A_FILE\""), format!("{A}{A}"));
    let variables =
        environment(site.exec("c", "one").env("A", "stale").env("A_FILE", "stale").args(["--deliver", "file"]));
    assert!(!variables.contains_key("A"));
    assert!(variables["A_FILE"].starts_with("/proc/self/fd/"), "{}", variables["A_FILE"]);
    assert!(variables.values().all(|value| !value.contains(A)));
    assert_eq!(by_file("stat -L -c %a \"$A_FILE\""), "400\n");
    // It and no other: in particular not the vault or the log.
    let fds = by_file(&format!("echo \"${{A_FILE##*/}}\"; {LIST}"));
    let fds: Vec<&str> = fds.lines().collect();
    assert_eq!(fds[1..], ["0", "1", "2", fds[0]]);
    // By its path and by its descriptor, to change and to cut.
    let attempts = r#"
        exec 2> /dev/null
        (echo x >> "$A_FILE") && echo appended
        (echo x > "$A_FILE") && echo replaced
        (eval "echo x >&${A_FILE##*/}") && echo written
        (truncate -s 0 "$A_FILE") && echo cut
        (truncate -s 100 "$A_FILE") && echo grown
        cat "$A_FILE""#;
    assert_eq!(by_file(attempts), A);
    let records = site.accesses();
    assert!(records.iter().all(|record| record["outcome"] == "granted" && record["secret"] == "A"));
}

// Deciding without doing.

#[test]
fn a_dry_run_prints_names_and_does_nothing() {
    let site = Site::with_two_agents().unfenced();
    site.chain("c", r#"{"secrets": ["A", "B"], "agents": {"one": {"env": {"X": "A", "Y": "B"}}, "none": []}}"#);
    let log = site.log();
    let dry = |agent: &str| {
        let mut command = site.exec("c", agent);
        command.args(["--dry-run", "--", "touch"]).arg(site.file("marker")).output().unwrap()
    };
    let granted = dry("one");
    let expected = "granted to agent 'one' of chain 'c':\n  X <- A (version 1)\n  Y <- B (version 1)\n";
    assert_eq!((granted.status.code(), text(&granted.stdout).as_str()), (Some(0), expected));
    assert_eq!(text(&granted.stderr), "");
    assert_eq!(text(&dry("none").stdout), "granted to agent 'none' of chain 'c':\n");
    let denied = dry("three");
    let path = shown(&site.file("chains/c.json"));
    let message = format!("mentiko-exec: chain 'c' has no agent 'three' ({path}); agents: none, one\n");
    assert_eq!((denied.status.code(), text(&denied.stderr)), (Some(77), message));
    assert_eq!(text(&denied.stdout), "");
    assert!(!site.file("marker").exists());
    assert_eq!(site.log(), log, "a dry run is on no record");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = site.exec("c", "one");
    let output = command.args(["--dry-run", "--", "true"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(output.wait_with_output().unwrap().status.code(), Some(125));
}

// Forms of a definition.

#[test]
fn the_step_form_stands_alone_or_in_an_array() {
    let site = Site::with_two_agents().unfenced();
    let step = r#"{"agent": "one", "env": ["A"], "prompt": "Write.", "schedule": "@daily", "timeout": 30}"#;
    for definition in [step.to_owned(), format!(r#"{{"chain": "c", "secrets": ["A", "B"], "agents": [{step}]}}"#)] {
        site.chain("c", &definition);
        let variables = environment(site.exec("c", "one").env("B", "stale"));
        assert_eq!(variables["A"], A);
        assert!(!variables.contains_key("B"));
        assert_eq!(site.exec("c", "two").args(["--", "true"]).output().unwrap().status.code(), Some(77));
    }
}

#[test]
fn without_agents_each_gets_the_chains_list() {
    let site = Site::with_two_agents().unfenced();
    site.set("C", "value-of-c");
    site.chain("c", r#"{"secrets": ["A", "B"]}"#);
    for agent in ["one", "anybody"] {
        let variables = environment(site.exec("c", agent).env("C", "stale"));
        assert_eq!((variables["A"].as_str(), variables["B"].as_str()), (A, B));
        assert!(!variables.contains_key("C"));
    }
    site.chain("c", r#"{"secrets": ["A", "B"], "agents": {}}"#);
    assert_eq!(site.exec("c", "one").args(["--", "true"]).output().unwrap().status.code(), Some(77));
}

#[test]
fn an_agent_without_secrets_runs_and_is_on_record() {
    let site = Site::with_two_agents().unfenced();
    site.chain("c", r#"{"secrets": ["A", "B"], "agents": {"one": []}}"#);
    let variables = environment(site.exec("c", "one").env("A", "stale"));
    assert!(!variables.contains_key("A"));
    let record = site.log().pop().unwrap();
    assert_eq!((&record["event"], &record["agent"]), (&"agent.start".into(), &"one".into()));
    assert!(record["mac"].is_string());
}

#[test]
fn each_launch_gets_the_current_version() {
    let site = Site::with_two_agents().unfenced();
    site.set("A", "the-second-value");
    assert_eq!(printed_by_agent(&site, &[], "echo $A"), "the-second-value\n");
    assert_eq!(site.accesses()[0]["version"], 2);
}

// Sources of the key.

/// Makes a second instance below the site with the shell line `init`, stores a secret there and
/// launches: each line may use `$SECOND`. Gives back the last output.
fn launched_with_key(site: &Site, init: &str, options: &str) -> Output {
    let script = format!(
        r#"export MENTIKO_INSTANCE="$SITE/second"
        umask 077
        {init} > "$SITE/said"
        printf %s value-of-k | "$MENTIKO" secret set K {options} >> "$SITE/said"
        echo '{{"secrets": ["K"]}}' > "$SITE/second/chains/k.json"
        exec "$EXEC" --chain k --agent one {options} -- sh -c 'env; {LIST}'"#
    );
    shell(site, &script).output().unwrap()
}

fn arrived(output: &Output) -> String {
    let out = text(&output.stdout);
    assert!(output.status.success(), "{}{}", out, text(&output.stderr));
    assert!(out.lines().any(|line| line == "K=value-of-k"), "{out}");
    assert!(out.ends_with("\n0\n1\n2\n"), "no descriptor of the key is left open: {out}");
    out
}

/// 32 bytes as a key, among them a newline at the end, a NUL and no text.
fn key_bytes() -> Vec<u8> {
    (0..31).map(|at| at * 7).chain([b'\n']).collect()
}

#[test]
fn the_key_may_come_from_a_file() {
    let site = Site::new().unfenced();
    arrived(&launched_with_key(&site, r#""$MENTIKO" init "$SITE/second""#, ""));
    let key = site.file("second/instance.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
    let bytes = std::fs::read(&key).unwrap();
    assert_eq!(bytes.len(), 32);
    // The same key in hexadecimal digits, in either case, with a newline or not.
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    for text in [digits.clone(), format!("{digits}\n"), digits.to_uppercase()] {
        std::fs::write(&key, text).unwrap();
        let mut command = site.exec("k", "one");
        assert_eq!(
            printed(command.env("MENTIKO_INSTANCE", site.file("second")).args(["--", "printenv", "K"])),
            "value-of-k\n"
        );
    }
}

#[test]
fn the_key_may_come_from_a_command() {
    let site = Site::new().unfenced();
    std::fs::write(site.file("key"), key_bytes()).unwrap();
    let init = r#""$MENTIKO" init "$SITE/second" --key command -- cat "$SITE/key""#;
    arrived(&launched_with_key(&site, init, ""));
    assert!(!site.file("second/instance.key").exists());
    let launch = |prefix: &str| {
        let script = format!("{prefix} \"$EXEC\" --chain k --agent one -- printenv K");
        shell(&site, &script).env("MENTIKO_INSTANCE", site.file("second")).output().unwrap()
    };
    assert_eq!(text(&launch("").stdout), "value-of-k\n");
    std::fs::remove_file(site.file("key")).unwrap();
    let failed = launch("");
    assert_eq!(failed.status.code(), Some(78));
    let said = text(&failed.stderr);
    let line = said.lines().last().unwrap();
    // With its whole path, as it was found by `mentiko init`.
    assert!(line.starts_with("mentiko-exec: no instance key: the key command '/"), "{line}");
    assert!(line.ends_with("/cat' failed (exit status: 1)"), "{line}");
}

#[test]
fn a_caller_that_ignores_the_end_of_children_may_have_a_key_command() {
    let site = Site::new().unfenced();
    std::fs::write(site.file("key"), key_bytes()).unwrap();
    let init = r#""$MENTIKO" init "$SITE/second" --key command -- cat "$SITE/key""#;
    arrived(&launched_with_key(&site, init, ""));
    // The kernel reaps the command before the wrapper can.
    let script = r#"exec env --ignore-signal=CHLD "$EXEC" --chain k --agent one -- printenv K"#;
    let mut command = shell(&site, script);
    assert_eq!(printed(command.env("MENTIKO_INSTANCE", site.file("second"))), "value-of-k\n");
}

#[test]
fn the_key_may_be_a_credential_of_systemd() {
    let site = Site::new().unfenced();
    let credentials = site.file("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("mentiko"), key_bytes()).unwrap();
    // As systemd lays it out: an ACL's mask shows as group bits.
    chmod(&credentials.join("mentiko"), 0o440);
    let init = r#"export CREDENTIALS_DIRECTORY="$SITE/credentials"
        "$MENTIKO" init "$SITE/second" --key systemd-credential=mentiko"#;
    arrived(&launched_with_key(&site, init, ""));
    let launch = |change: &dyn Fn(&mut Command)| {
        let mut command = site.exec("k", "one");
        command.env("MENTIKO_INSTANCE", site.file("second")).env("CREDENTIALS_DIRECTORY", &credentials);
        change(&mut command);
        command.args(["--", "true"]).output().unwrap()
    };
    assert!(launch(&|_| {}).status.success());
    let without = launch(&|command| {
        command.env_remove("CREDENTIALS_DIRECTORY");
    });
    assert_eq!(without.status.code(), Some(78));
    let fault = "no instance key: CREDENTIALS_DIRECTORY is not set; add LoadCredentialEncrypted=mentiko to the unit";
    assert_eq!(text(&without.stderr), format!("mentiko-exec: {fault}\n"));
    chmod(&credentials.join("mentiko"), 0o444);
    assert_eq!(launch(&|_| {}).status.code(), Some(78));
}

#[test]
fn the_agent_is_not_told_where_the_credential_is() {
    let site = Site::new().unfenced();
    std::fs::create_dir(site.file("credentials")).unwrap();
    std::fs::write(site.file("credentials/mentiko"), key_bytes()).unwrap();
    chmod(&site.file("credentials/mentiko"), 0o400);
    let init = r#"export CREDENTIALS_DIRECTORY="$SITE/credentials"
        "$MENTIKO" init "$SITE/second" --key systemd-credential=mentiko"#;
    let output = arrived(&launched_with_key(&site, init, ""));
    assert!(!output.contains("CREDENTIALS_DIRECTORY"), "{output}");
    // Credentials that are not the instance's key are the agent's own business.
    let site = Site::with_two_agents().unfenced();
    let variables = environment(site.exec("c", "one").env("CREDENTIALS_DIRECTORY", "/elsewhere"));
    assert_eq!(variables["CREDENTIALS_DIRECTORY"], "/elsewhere");
}

#[test]
fn the_key_may_be_a_passphrase() {
    let site = Site::new().unfenced();
    std::fs::write(site.file("passphrase"), "correct horse battery staple\n").unwrap();
    std::fs::write(site.file("wrong"), "correct horse battery stable\n").unwrap();
    let init = r#"exec 3< "$SITE/passphrase"; "$MENTIKO" init "$SITE/second" --key passphrase --passphrase-fd 3"#;
    // Each reader opens the file for itself: an offset that is shared stands at its end.
    let script = format!(
        r#"export MENTIKO_INSTANCE="$SITE/second"
        umask 077
        {init} > /dev/null
        printf %s value-of-k | "$MENTIKO" secret set K --passphrase-fd 3 3< "$SITE/passphrase" > /dev/null
        echo '{{"secrets": ["K"]}}' > "$SITE/second/chains/k.json"
        exec "$EXEC" --chain k --agent one --passphrase-fd 3 -- sh -c 'env; {LIST}' 3< "$SITE/passphrase""#
    );
    arrived(&shell(&site, &script).output().unwrap());
    let launch = |descriptor: &str| {
        let script =
            format!("exec \"$EXEC\" --chain k --agent one --passphrase-fd {descriptor} -- touch \"$SITE/marker\"");
        shell(&site, &script).env("MENTIKO_INSTANCE", site.file("second")).output().unwrap()
    };
    let wrong = launch(r#"3 3< "$SITE/wrong""#);
    assert_eq!(wrong.status.code(), Some(78));
    let line = text(&wrong.stderr);
    assert!(line.ends_with("the passphrase is wrong, or its key slot of the vault is damaged\n"), "{line}");
    assert_eq!(line.lines().count(), 1);
    assert!(!line.contains("horse"));
    let empty = launch("3 3< /dev/null");
    assert_eq!(text(&empty.stderr), "mentiko-exec: no instance key: the passphrase is empty\n");
    assert_eq!(empty.status.code(), Some(78));
    let standard = launch("0");
    assert_eq!(text(&standard.stderr), "mentiko-exec: --passphrase-fd 0: use a descriptor above 2\n");
    assert_eq!(standard.status.code(), Some(125));
    assert!(!site.file("marker").exists());
}

// The terminal.

/// A program on a terminal of its own, as its session's leader.
struct Terminal {
    master: nix::pty::PtyMaster,
    slave: PathBuf,
    child: Child,
    seen: String,
}

impl Terminal {
    fn run(program: &str, arguments: &[&str], instance: &Path) -> Self {
        use nix::fcntl::OFlag;
        let master = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        nix::pty::grantpt(&master).unwrap();
        nix::pty::unlockpt(&master).unwrap();
        let slave = PathBuf::from(nix::pty::ptsname_r(&master).unwrap());
        let open = || {
            let file = File::options().read(true).write(true).open(&slave).unwrap();
            Stdio::from(file)
        };
        // Opened by a process that is no session's leader, the terminal is nobody's until setsid takes it.
        let mut command = Command::new("setsid");
        command.args(["--ctty", program]).args(arguments).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("MENTIKO_INSTANCE", instance);
        let child = command.stdin(open()).stdout(open()).stderr(open()).spawn().unwrap();
        nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        Self { master, slave, child, seen: String::new() }
    }

    /// Reads until this was shown once more, or the program has ended.
    fn wait_for(&mut self, text: &str) {
        let from = self.seen.len();
        self.read_while(|seen| !seen[from..].contains(text));
        assert!(self.seen[from..].contains(text), "{:?} without {text:?}", self.seen);
    }

    fn read_while(&mut self, goes_on: impl Fn(&str) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        let mut buffer = [0; 4096];
        while goes_on(&self.seen) {
            match self.master.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < end, "nothing more within 30 seconds: {:?}", self.seen);
                    std::thread::sleep(Duration::from_millis(5));
                }
                // EIO: nobody has the other side open.
                Err(_) => return,
            }
        }
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Whether the terminal shows what is typed.
    fn echoes(&self) -> bool {
        let slave = File::options().read(true).write(true).open(&self.slave).unwrap();
        let flags = nix::sys::termios::tcgetattr(slave.as_fd()).unwrap().local_flags;
        flags.contains(nix::sys::termios::LocalFlags::ECHO)
    }

    /// The exit status and all that was shown.
    fn end(mut self) -> (Option<i32>, String) {
        // Looking keeps the other side open, so the terminal can be asked after the program's end.
        let _slave = File::options().read(true).write(true).open(&self.slave).unwrap();
        let status = self.child.wait().unwrap();
        assert!(self.echoes(), "the terminal was left without echo");
        drop(_slave);
        self.read_while(|_| true);
        (status.code(), self.seen)
    }
}

#[test]
fn a_value_is_asked_for_twice_without_echo() {
    let site = Site::with_two_agents().unfenced();
    let mut terminal = Terminal::run(MENTIKO, &["secret", "set", "TYPED"], site.path());
    terminal.wait_for("Value of TYPED: ");
    assert!(!terminal.echoes());
    // A slip that is taken back, and a line that is begun anew.
    terminal.types("rubbish\u{15}typed-valuX\u{7f}e\r");
    terminal.wait_for("The same again: ");
    assert!(!terminal.echoes());
    terminal.types("typed-value\n");
    let (status, seen) = terminal.end();
    assert_eq!(seen, "Value of TYPED: \r\nThe same again: \r\nstored TYPED version 1, scope all\r\n");
    assert_eq!(status, Some(0));
    site.chain("t", r#"{"secrets": ["TYPED"]}"#);
    assert_eq!(printed(site.exec("t", "one").args(["--", "printenv", "TYPED"])), "typed-value\n");
}

#[test]
fn a_value_that_is_typed_differently_or_not_at_all_is_not_stored() {
    let site = Site::with_two_agents().unfenced();
    for (first, second, line) in [
        ("typed-value\r", "typed-valve\r", "mentiko: the two differ; nothing was stored"),
        ("\r", "\r", "mentiko: the value of 'TYPED' is empty; nothing was stored"),
        ("typed-va\u{3}", "", "mentiko: cancelled; nothing was changed"),
    ] {
        let mut terminal = Terminal::run(MENTIKO, &["secret", "set", "TYPED"], site.path());
        terminal.wait_for("Value of TYPED: ");
        terminal.types(first);
        if !second.is_empty() {
            terminal.wait_for("The same again: ");
            terminal.types(second);
        }
        let (status, seen) = terminal.end();
        assert_eq!(status, Some(1), "{seen}");
        assert_eq!(seen.lines().last(), Some(line));
        assert!(!seen.contains("typed"), "{seen}");
    }
    assert!(!printed(&mut site.mentiko(&["secret", "list"])).contains("TYPED"));
}

#[test]
fn a_passphrase_is_asked_for_without_echo() {
    let site = Site::new().unfenced();
    let second = shown(&site.file("second"));
    let mut terminal = Terminal::run(MENTIKO, &["init", &second, "--key", "passphrase"], site.path());
    terminal.wait_for("New passphrase: ");
    terminal.types("typed-passphrase\r");
    terminal.wait_for("The same again: ");
    terminal.types("typed-passphrase\r");
    let (status, seen) = terminal.end();
    assert!(status == Some(0) && !seen.contains("typed"), "{seen}");

    std::fs::write(site.file("second/chains/k.json"), r#"{"secrets": []}"#).unwrap();
    chmod(&site.file("second/chains/k.json"), 0o600);
    let agent = ["--chain", "k", "--agent", "one", "--", "echo", "agent ran"];
    for (typed, expected, last) in [
        ("typed-passphrase\r", Some(0), "agent ran"),
        ("typed-phasspraze\r", Some(78), "the passphrase is wrong, or its key slot of the vault is damaged"),
    ] {
        let mut terminal = Terminal::run(EXEC, &agent, Path::new(&second));
        terminal.wait_for("Passphrase: ");
        terminal.types(typed);
        let (status, seen) = terminal.end();
        assert_eq!(status, expected, "{seen}");
        assert!(seen.trim_end().ends_with(last) && !seen.contains("typed"), "{seen}");
    }
}

#[test]
fn without_a_terminal_nothing_waits_for_an_answer() {
    let site = Site::new().unfenced();
    let mut command = Command::new("setsid");
    command.args(["--wait", MENTIKO, "init"]).arg(site.file("second")).args(["--key", "passphrase"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = text(&output.stderr);
    assert!(
        line.starts_with("mentiko: ") && line.contains("there is no terminal") && line.lines().count() == 1,
        "{line}"
    );
    assert!(!site.file("second/instance.json").exists());
}

// `mentiko`: metadata comes out, values don't.

/// Everything that a command shows, in which no value may stand.
fn without_values(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let all = text(&output.stdout) + &text(&output.stderr);
    assert!([A, B, "another-value"].iter().all(|value| !all.contains(value)), "{all}");
    (output.status.code(), all)
}

#[test]
fn secrets_are_described_and_never_shown() {
    let site = Site::with_two_agents().unfenced();
    let options = ["--scope", "c,d", "--rotate-every", "30d", "--note", "from the console"];
    assert!(site.set_with("A", &options, b"another-value").status.success());
    let run = |arguments: &[&str]| {
        let (status, all) = without_values(&mut site.mentiko(arguments));
        assert_eq!(status, Some(0), "{arguments:?}: {all}");
        all
    };
    let list = run(&["secret", "list"]);
    let words: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["SECRET", "SCOPE", "VERSION", "ROTATE", "DUE", "CHANGED", "NOTE"]);
    assert_eq!(words[1][..4], ["A", "c,d", "2", "30d"]);
    assert_eq!(words[2][..5], ["B", "all", "1", "-", "-"]);

    let list: Value = serde_json::from_str(&run(&["secret", "list", "--json"])).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let show: Value = serde_json::from_str(&run(&["secret", "show", "A", "--json"])).unwrap();
    assert_eq!(show, list[0]);
    assert_eq!((&show["name"], &show["version"], &show["note"]), (&"A".into(), &2.into(), &"from the console".into()));
    assert_eq!(show["scope"], serde_json::json!(["c", "d"]));
    assert_eq!(list[1]["scope"], Value::Null);
    let states: Vec<&Value> = show["versions"].as_array().unwrap().iter().map(|version| &version["state"]).collect();
    assert_eq!(states.len(), 2);
    assert!(states.contains(&&"current".into()));
    let show = run(&["secret", "show", "A"]);
    assert!(show.starts_with("A\n  scope    c,d\n  rotate   30d\n  due      "), "{show}");

    assert_eq!(run(&["secret", "scope", "A", "all"]), "A: scope all\n");
    let warned = run(&["secret", "scope", "A", "c,d"]);
    let warning = format!("mentiko: there is no chain 'd' yet ({})\n", shown_chain(&site, "d"));
    assert_eq!(warned, format!("A: scope c,d\n{warning}"));
    // Without a terminal nobody can be asked.
    let (status, all) = without_values(&mut site.mentiko(&["secret", "remove", "B"]));
    assert_eq!(
        (status, all.as_str()),
        (Some(1), "mentiko: nothing was removed; say --yes to remove without being asked\n")
    );
    assert_eq!(run(&["secret", "remove", "B", "--yes"]), "removed B\n");
    let (status, all) = without_values(&mut site.mentiko(&["secret", "show", "B"]));
    assert_eq!((status, all.as_str()), (Some(1), "mentiko: there is no secret 'B'; 'mentiko secret list' shows all\n"));
    let (status, _) = without_values(&mut site.mentiko(&["secret", "remove", "B", "--yes"]));
    assert_eq!(status, Some(1));

    let events: Vec<(Value, Value)> =
        site.log().iter().rev().take(3).map(|record| (record["event"].clone(), record["secret"].clone())).collect();
    let expected = [("secret.remove", "B"), ("secret.scope", "A"), ("secret.scope", "A")];
    assert_eq!(events, expected.map(|(event, secret)| (event.into(), secret.into())));
    site.verify();
}

#[test]
fn chains_are_listed_and_shown_with_what_a_launch_would_say() {
    let site = Site::with_two_agents().unfenced();
    assert!(site.set_with("NARROW", &["--scope", "other"], b"another-value").status.success());
    let definition = r#"{"secrets": ["A", "GONE", "NARROW"], "agents": {
        "one": ["A"], "two": {"env": {"X": "B", "Y": "GONE", "Z": "NARROW"}}}}"#;
    site.chain("d", definition);
    site.chain("any", r#"{"secrets": ["A"]}"#);
    let run = |arguments: &[&str]| {
        let (status, all) = without_values(&mut site.mentiko(arguments));
        assert_eq!(status, Some(0), "{arguments:?}: {all}");
        all
    };
    let list: Value = serde_json::from_str(&run(&["chain", "list", "--json"])).unwrap();
    let chains: Vec<&str> = list.as_array().unwrap().iter().map(|chain| chain["chain"].as_str().unwrap()).collect();
    assert_eq!(chains, ["any", "c", "d"]);
    assert_eq!((&list[0]["agents"], &list[2]["agents"]), (&Value::Null, &serde_json::json!(["one", "two"])));
    assert_eq!(list[2]["secrets"], serde_json::json!(["A", "GONE", "NARROW"]));
    let table = run(&["chain", "list"]);
    assert!(table.lines().next().unwrap().starts_with("CHAIN"), "{table}");

    let shown: Value = serde_json::from_str(&run(&["chain", "show", "d", "--json"])).unwrap();
    let rows: Vec<Vec<&str>> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|row| ["agent", "variable", "secret", "state"].map(|field| row[field].as_str().unwrap()).to_vec())
        .collect();
    let expected = [
        ["one", "A", "A", "granted"],
        ["two", "X", "B", "denied: not in the chain's list"],
        ["two", "Y", "GONE", "denied: not in the vault"],
        ["two", "Z", "NARROW", "denied: out of scope"],
    ];
    assert_eq!(rows, expected);
    assert!(run(&["chain", "show", "any"]).contains("(any)"));
    let (status, all) = without_values(&mut site.mentiko(&["chain", "show", "nope"]));
    assert_eq!(all, format!("mentiko: no chain 'nope' ({})\n", shown_chain(&site, "nope")));
    assert_eq!(status, Some(1));
}

fn shown_chain(site: &Site, name: &str) -> String {
    shown(&site.file(&format!("chains/{name}.json")))
}

#[test]
fn check_finds_what_is_wrong_with_a_definition() {
    let site = Site::with_two_agents().unfenced();
    let path = shown_chain(&site, "c");
    let check = |definition: &str| {
        site.chain("c", definition);
        let by_all = without_values(&mut site.mentiko(&["chain", "check"]));
        assert_eq!(without_values(&mut site.mentiko(&["chain", "check", &path])), by_all);
        by_all
    };
    assert_eq!(check(r#"{"secrets": ["A"], "agents": {"one": ["A"]}}"#), (Some(0), format!("{path}: ok\n")));
    for (definition, fault) in [
        (
            r#"{"secrets": ["A"], "agents": {"one": ["A"]}, "secert": ["B"]}"#,
            "unknown field 'secert'; did you mean 'secrets'?",
        ),
        (
            r#"{"secrets": ["A", "GONE"], "agents": {"one": ["GONE"]}}"#,
            "agent 'one', secret 'GONE': denied: not in the vault",
        ),
        (r#"{"secrets": ["A"], "agents": {"one": ["B"]}}"#, "agent 'one', secret 'B': denied: not in the chain's list"),
        (
            r#"{"secrets": ["A"], "agents": {"one": ["A"]}, "headers": {"key": "value-of-b-0815"}}"#,
            "the value of secret 'B' stands in it; rotate it, and name it instead",
        ),
        (r#"{"secrets": ["A"], "secrets": ["B"]}"#, "the key \"secrets\" stands twice at line 1 column 28"),
        (r#"{"secrets": "A"}"#, "'secrets' is a string, not a list of secrets"),
    ] {
        assert_eq!(check(definition), (Some(1), format!("{path}: {fault}\n")), "{definition}");
    }
}

#[test]
fn a_definition_elsewhere_is_checked_for_its_form() {
    let site = Site::with_two_agents().unfenced();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipeline.json");
    std::fs::write(&path, r#"{"secrets": ["A"], "agents": {"one": ["A"]}}"#).unwrap();
    let mut command = site.mentiko(&["chain", "check"]);
    command.arg(&path).env("MENTIKO_INSTANCE", folder.path().join("nowhere"));
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), format!("{}: ok\n", shown(&path))));
    let note = text(&output.stderr);
    assert!(note.starts_with("mentiko: only the form is checked, not against a vault: no instance at "), "{note}");
}
