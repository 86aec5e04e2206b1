//! `--user`: root's launch as an account.

use std::process::{Command, Output};

use crate::common::{Site, chmod, is_root, text};
use crate::person::{Person, account};

/// Root's instance, whose key and vault the account can't read; `None` for ordinary users.
fn site() -> Option<Site> {
    if !is_root() {
        eprintln!("skipped: only root can run an agent as another user");
        return None;
    }
    Some(Site::with_two_agents())
}

fn as_user(site: &Site, options: &[&str], command: &[&str]) -> Output {
    let user = account().name;
    let mut launch = site.exec("c", "one");
    launch.args(["--user", &user, "--chdir", "/"]).args(options).arg("--").args(command);
    launch.output().unwrap()
}

/// The lines of /proc/self/status that say what a process may do.
fn powers(output: &Output) -> Vec<String> {
    let names = ["Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:"];
    let shown = text(&output.stdout);
    let lines = shown.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    let lines: Vec<String> = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines.len(), 9, "{shown}{}", text(&output.stderr));
    lines
}

fn logged_in(script: &str) -> Output {
    Command::new("su").args(["-s", "/bin/sh", &account().name, "-c", script]).output().unwrap()
}

#[test]
fn the_agent_has_the_powers_of_a_login_and_no_others() {
    let Some(site) = site() else { return };
    let login = powers(&logged_in("cat /proc/self/status"));
    let of_agent = |options: &[&str]| powers(&as_user(&site, options, &["cat", "/proc/self/status"]));
    assert!(login.contains(&"NoNewPrivs: 0".into()) && login.contains(&"CapEff: 0000000000000000".into()), "{login:?}");
    assert_eq!(of_agent(&["--fence", "off"]), login);
    let locked: Vec<String> = login.iter().map(|line| line.replace("NoNewPrivs: 0", "NoNewPrivs: 1")).collect();
    assert_eq!(of_agent(&["--fence", "off", "--no-new-privs"]), locked);
    assert_eq!(of_agent(&[]), locked);
    assert_eq!(site.accesses().pop().unwrap()["fence"], "mount");
    // The supplementary groups too.
    let id = text(&as_user(&site, &[], &["id"]).stdout);
    assert_eq!(id, text(&logged_in("id").stdout));
    assert!(id.contains("(mentiko-extra)"), "{id}");
}

#[test]
fn root_can_not_be_had_back() {
    let Some(site) = site() else { return };
    let script = "
import os
calls = {'setuid': [0], 'seteuid': [0], 'setresuid': [0, 0, 0], 'setgid': [0], 'setgroups': [[0]], 'setreuid': [0, 0]}
for name, arguments in calls.items():
    try:
        getattr(os, name)(*arguments)
        print(name)
    except PermissionError:
        pass
print(os.getresuid() == (os.getuid(),) * 3 and os.getuid() != 0 and os.getresgid() == (os.getgid(),) * 3)
";
    for fence in ["off", "require"] {
        let output = as_user(&site, &["--fence", fence], &["/usr/bin/python3", "-c", script]);
        assert_eq!(text(&output.stdout), "True\n", "{}", text(&output.stderr));
    }
}

#[test]
fn the_instance_is_unreadable_by_its_files_owners_alone() {
    let Some(site) = site() else { return };
    // Open as far as the owner of the files allows, so that these alone are shown to hold.
    chmod(site.path(), 0o755);
    for name in ["instance.key", "vault", "audit"] {
        for (fence, fault) in [("off", "Permission denied"), ("require", "No such file")] {
            let path = site.file(name);
            let output = as_user(&site, &["--fence", fence], &["cat", path.to_str().unwrap()]);
            assert!(output.stdout.is_empty() && !output.status.success());
            let errors = text(&output.stderr);
            assert!(errors.contains(fault), "{name} ({fence}): {errors}");
        }
    }
}

#[test]
fn the_environment_names_the_user() {
    let Some(site) = site() else { return };
    let user = account();
    let mut launch = site.exec("c", "one");
    launch.envs([("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("SHELL", "/bin/other")]);
    let output = launch.args(["--user", &user.uid.to_string(), "--", "env"]).output().unwrap();
    let shown = text(&output.stdout);
    let lines: Vec<&str> = shown.lines().collect();
    for line in [
        format!("HOME={}", user.dir.display()),
        format!("USER={}", user.name),
        format!("LOGNAME={}", user.name),
        format!("SHELL={}", user.shell.display()),
        "A=value-of-a-4711".into(),
        "MENTIKO_FENCE=mount".into(),
    ] {
        let name = line.split_inclusive('=').next().unwrap();
        let same: Vec<_> = lines.iter().filter(|line| line.starts_with(name)).collect();
        assert_eq!(same, [&line.as_str()], "{shown}");
    }
}

#[test]
fn the_group_can_be_named() {
    let Some(site) = site() else { return };
    let extra = nix::unistd::Group::from_name("mentiko-extra").unwrap().unwrap().gid.to_string();
    for group in ["mentiko-extra", &extra] {
        let output = as_user(&site, &["--group", group], &["sh", "-c", "id -u; id -g; id -rg"]);
        assert_eq!(text(&output.stdout), format!("{}\n{extra}\n{extra}\n", account().uid), "{}", text(&output.stderr));
    }
}

#[test]
fn accounts_that_can_not_be_used_are_refused() {
    let refused = |mut launch: Command, told: &str| {
        let output = launch.args(["--", "echo", "ran"]).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(78), String::new()));
        let errors = text(&output.stderr);
        assert!(errors.contains(told) && errors.lines().count() == 1, "{errors}");
    };
    let person = Person::new();
    let mut launch = person.exec();
    launch.args(["--user", &person.user.name]);
    refused(launch, "only root can run an agent as another user");
    let Some(site) = site() else { return };
    for (options, told) in [
        (&["--user", "nobody-of-this-name"][..], "there is no user 'nobody-of-this-name'"),
        (&["--user", "4000000000"], "there is no user '4000000000'"),
        (&["--user", "root"], "gives nothing up"),
        (&["--user", "0"], "gives nothing up"),
        (&["--user", &person.user.name, "--group", "no-such-group"], "there is no group 'no-such-group'"),
    ] {
        let mut launch = site.exec("c", "one");
        launch.args(options);
        refused(launch, told);
    }
}

#[test]
fn a_failed_exec_after_root_was_given_up_is_recorded() {
    let Some(site) = site() else { return };
    let folder = tempfile::tempdir().unwrap();
    chmod(folder.path(), 0o755);
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/nonexistent/interpreter\n").unwrap();
    chmod(&script, 0o755);
    for fence in ["off", "require"] {
        let output = as_user(&site, &["--fence", fence], &[script.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(127), "{}", text(&output.stderr));
        let last = site.log().pop().unwrap();
        assert_eq!((&last["event"], &last["outcome"]), (&"launch.failed".into(), &"failed".into()), "{last}");
        assert!(last["mac"].is_string(), "{last}");
    }
    site.verify();
}

/// Root can undo what root's own mount namespace hides.
#[test]
fn an_agent_that_is_root_is_warned_about() {
    let Some(site) = site() else { return };
    let script = format!("umount {0} && cat {0}/instance.json", site.path().display());
    let output = site.exec("c", "one").args(["--", "sh", "-c", &script]).output().unwrap();
    let told = "mentiko-exec: warning: the agent runs as root, which can undo the fence; give it a user with --user\n";
    assert_eq!(text(&output.stderr), told);
    assert!(text(&output.stdout).contains("instance.key"));
    assert_eq!(site.accesses().pop().unwrap()["fence"], "mount");
}
