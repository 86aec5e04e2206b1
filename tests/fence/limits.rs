//! What a fence does not hold off, shown so that docs/threat-model.md stays true; and where its
//! edges are.

use std::path::PathBuf;
use std::process::Command;

use crate::common::{is_root, output_with_input, text};
use crate::person::{Person, expect_success};

/// Runs an agent inside a fence; what it prints, and its errors after that.
fn shell(person: &Person, script: &str) -> String {
    let mut launch = person.exec();
    launch.env("INSTANCE", person.folder()).env("MENTIKO", person.tool("mentiko"));
    launch.env("ATTACK", person.tool("attack.py"));
    let script = format!("cd; mkdir -p x; {script}");
    let output = launch.args(["--fence", "require", "--", "sh", "-c", &script]).output().unwrap();
    text(&output.stdout) + &text(&output.stderr)
}

/// Whoever may write the folder above can move the instance, mounted over or not, and put another
/// in its place. What was moved stays hidden from this agent, but not from the next.
#[test]
fn an_instance_in_the_agents_own_home_can_be_moved_and_forged() {
    let person = Person::new();
    let shown = shell(&person, "unshare -Urm python3 $ATTACK detached-and-moved");
    assert!(shown.starts_with("moved\n") && shown.contains("FileNotFoundError"), "{shown}");

    let loot = "cat ~/away/mentiko/instance.json";
    let chain = r#"{"secrets": ["A"], "agents": {"one": ["A"]}}"#;
    let forge = format!(
        "umask 077; mv .config away; {loot}; $MENTIKO init .config/mentiko &&
         echo value-that-is-forged | $MENTIKO --instance .config/mentiko secret set A &&
         echo '{chain}' >.config/mentiko/chains/c.json && echo forged"
    );
    let shown = shell(&person, &forge);
    assert!(shown.contains("No such file") && shown.contains("\nforged\n") && !shown.contains("\"key\""), "{shown}");
    let shown = shell(&person, &format!("echo $A; {loot}"));
    assert!(shown.starts_with("value-that-is-forged\n") && shown.contains("\"key\""), "{shown}");
}

/// That is why an instance belongs into a folder that the agent's user can't write.
#[test]
fn an_instance_below_a_folder_of_roots_can_not_be_moved() {
    if !is_root() {
        eprintln!("skipped: only root can make such a folder");
        return;
    }
    let person = Person::with_instance_elsewhere();
    let above = person.folder().parent().unwrap().to_owned();
    std::os::unix::fs::chown(&above, Some(0), Some(0)).unwrap();
    crate::common::chmod(&above, 0o755);
    let attack = format!(
        "mv {folder} {above}/away; unshare -Urm python3 $ATTACK detached-and-moved; mv {above} {above}.away",
        folder = person.folder().display(),
        above = above.display(),
    );
    let shown = shell(&person, &attack);
    assert_eq!(shown.matches("Permission denied").count(), 3, "{shown}");
    assert!(person.key().exists());
}

/// A key among the agent's own files can only be hidden as a file; a mount over it goes when the
/// file is replaced.
#[test]
fn a_key_among_the_agents_files_is_hidden_until_it_is_replaced() {
    let person = Person::new();
    let key = person.home().join("my.key");
    let moved = person.command(&["mv", person.key().to_str().unwrap(), key.to_str().unwrap()]).status().unwrap();
    assert!(moved.success());
    let path = person.folder().join("instance.json");
    let configuration = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, configuration.replace("\"instance.key\"", &format!("{key:?}"))).unwrap();
    let script = "wc -c <my.key; touch started; until [ -e go ]; do sleep 0.01; done; wc -c <my.key";
    let launch = person
        .exec()
        .args(["--fence", "require", "--", "sh", "-c", script])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let agent = launch.unwrap();
    while !person.home().join("started").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    expect_success(&person.command(&["sh", "-c", "cp -p my.key new && mv new my.key && touch go"]).output().unwrap());
    assert_eq!(text(&agent.wait_with_output().unwrap().stdout), "0\n32\n");
}

/// What a script writes that is launched where each folder is mounted at another, too.
fn launched_among(mounts: &[(PathBuf, PathBuf)], person: &Person, fence: &str, script: &str) -> String {
    let mut inner = person.exec();
    inner.args(["--fence", fence, "--", "sh", "-c", script]);
    let mut launch = Command::new("unshare");
    let each = r#"while [ "$1" != -- ]; do mount --bind "$1" "$2" && shift 2 || exit; done; shift; exec "$@""#;
    launch.args(["-m", "sh", "-c", each, "sh"]).args(mounts.iter().flat_map(|(from, at)| [from, at])).arg("--");
    launch.arg(inner.get_program()).args(inner.get_args()).current_dir(person.home()).env_clear();
    launch.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    text(&launch.output().unwrap().stdout)
}

/// The same files may be mounted at a second place, or a part of them.
#[test]
fn what_is_mounted_a_second_time_is_hidden_there_too() {
    if !is_root() {
        eprintln!("skipped: only root can mount");
        return;
    }
    let person = Person::new();
    let second = tempfile::tempdir().unwrap();
    let (home, runs) = (second.path().join("all of it"), second.path().join("runs"));
    for folder in [&home, &runs] {
        std::fs::create_dir(folder).unwrap();
    }
    crate::common::chmod(second.path(), 0o755);
    let loot = format!(
        "cat '{0}/.config/mentiko/instance.json' '{1}/pin'; ls '{0}/.config'; echo written >'{0}/f'; cat f",
        home.display(),
        runs.display()
    );
    let mounts = [(person.home(), home), (person.runs(), runs)];
    let launched = |fence: &str| launched_among(&mounts, &person, fence, &loot);
    let shown = launched("off");
    assert!(shown.contains("\"key\"") && shown.contains("pin-of-a-run"), "{shown}");
    assert_eq!(launched("require"), "mentiko\nwritten\n");
}

/// A folder of the instance may be one that was mounted there, and stay open where it comes from.
#[test]
fn what_is_mounted_into_the_instance_is_hidden_where_it_comes_from() {
    if !is_root() {
        eprintln!("skipped: only root can mount");
        return;
    }
    let person = Person::with_instance_elsewhere();
    let origin = tempfile::tempdir_in("/var/lib").unwrap();
    crate::common::chmod(origin.path(), 0o755);
    let chain = origin.path().join("chains/c.json");
    person.put(&chain, &std::fs::read_to_string(person.folder().join("chains/c.json")).unwrap());
    let loot = format!("cat '{0}'; echo '{{}}' >'{0}'; echo done", chain.display());
    let mounts = [(chain.parent().unwrap().to_owned(), person.folder().join("chains"))];
    let launched = |fence: &str| launched_among(&mounts, &person, fence, &loot);
    assert_eq!(launched("require"), "done\n");
    let shown = launched("off");
    assert!(shown.contains("words-of-the-chain"), "{shown}");
    assert_eq!(std::fs::read(&chain).unwrap(), b"{}\n");
}

#[test]
fn definitions_can_not_be_written_from_inside() {
    let person = Person::new();
    let chain = person.folder().join("chains/c.json");
    let before = std::fs::read(&chain).unwrap();
    let script = format!(
        "echo '{{}}' >{0}; echo '{{}}' >{1}/d.json; rm -rf {1}; touch {1}",
        chain.display(),
        person.folder().display()
    );
    let shown = shell(&person, &script);
    assert_eq!(std::fs::read(&chain).unwrap(), before, "{shown}");
    assert!(!person.folder().join("d.json").exists(), "{shown}");
    let mut set = person.mentiko(&["secret", "set", "A"]);
    expect_success(&output_with_input(&mut set, b"another-value"));
}
