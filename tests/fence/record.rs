//! What the access record says of the fence, and what is launched where there can be none.

use std::process::Command;

use crate::common::text;
use crate::person::{Person, expect_success};

/// Runs an agent that leaves a mark; status, errors, and whether the mark is there.
fn launch(person: &Person, mut command: Command, options: &[&str]) -> (i32, String, bool) {
    let mark = person.home().join("mark");
    let output = command.args(options).args(["--", "touch"]).arg(&mark).output().unwrap();
    let ran = std::fs::remove_file(mark).is_ok();
    (output.status.code().unwrap(), text(&output.stderr), ran)
}

#[test]
fn the_record_names_the_fence() {
    let person = Person::new();
    for (options, fence) in [
        (&[][..], "namespace"),
        (&["--fence", "auto"], "namespace"),
        (&["--fence", "require"], "namespace"),
        (&["--fence", "off"], "off"),
    ] {
        assert_eq!(launch(&person, person.exec(), options), (0, String::new(), true));
        assert_eq!(person.recorded_fence(), fence, "{options:?}");
    }
    expect_success(&person.mentiko(&["audit", "verify"]).output().unwrap());
}

#[test]
fn landlock_stands_in_where_namespaces_are_refused() {
    let person = Person::with_instance_elsewhere();
    for options in [&[][..], &["--fence", "require"]] {
        assert_eq!(launch(&person, person.exec_without_namespaces(), options), (0, String::new(), true));
        assert_eq!(person.recorded_fence(), "landlock");
    }
    // With namespaces, those are taken.
    assert_eq!(launch(&person, person.exec(), &[]), (0, String::new(), true));
    assert_eq!(person.recorded_fence(), "namespace");
    expect_success(&person.mentiko(&["audit", "verify"]).output().unwrap());
}

/// The log is written before Landlock shuts it off, and can be written after that.
#[test]
fn a_failed_exec_inside_each_fence_is_recorded() {
    let person = Person::with_instance_elsewhere();
    let script = person.home().join("script");
    person.put(&script, "#!/nonexistent/interpreter\n");
    crate::common::chmod(&script, 0o755);
    for (mut command, fence) in [(person.exec(), "namespace"), (person.exec_without_namespaces(), "landlock")] {
        let output = command.arg("--").arg(&script).output().unwrap();
        assert_eq!(output.status.code(), Some(127), "{}", text(&output.stderr));
        let last = person.log().pop().unwrap();
        assert_eq!((&last["event"], &last["fence"]), (&"launch.failed".into(), &fence.into()), "{last}");
        assert!(last["mac"].is_string(), "{last}");
    }
    expect_success(&person.mentiko(&["audit", "verify"]).output().unwrap());
}

#[test]
fn where_no_fence_can_be_had_auto_warns_and_require_refuses() {
    let person = Person::new();
    let (status, errors, ran) = launch(&person, person.exec_without_namespaces(), &[]);
    assert_eq!((status, ran), (0, true));
    assert!(errors.starts_with("mentiko-exec: warning: no fence: "), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains("Landlock can't except the instance from"), "{errors}");
    assert_eq!(person.recorded_fence(), "none");

    let (status, errors, ran) = launch(&person, person.exec_without_namespaces(), &["--fence", "require"]);
    assert_eq!((status, ran), (78, false));
    assert!(errors.starts_with("mentiko-exec: no fence: ") && errors.lines().count() == 1, "{errors}");
    let last = person.accesses().pop().unwrap();
    assert_eq!(last["outcome"], "denied", "{last}");
}

#[test]
fn the_policy_of_the_instance_decides_unless_the_command_line_does() {
    let person = Person::new();
    let launch = |options: &[&str]| {
        let (status, errors, ran) = launch(&person, person.exec_without_namespaces(), options);
        assert_eq!(ran, status == 0, "{errors}");
        (status, person.recorded_fence(), errors.lines().count())
    };
    person.set_policy(r#"{"fence": "require"}"#);
    let (status, _, lines) = launch(&[]);
    assert_eq!((status, lines), (78, 1));
    assert_eq!(launch(&["--fence", "auto"]), (0, "none".into(), 1));
    assert_eq!(launch(&["--fence", "off"]), (0, "off".into(), 0));
    person.set_policy(r#"{"fence": "off"}"#);
    assert_eq!(launch(&[]), (0, "off".into(), 0));
    let (status, _, lines) = launch(&["--fence", "require"]);
    assert_eq!((status, lines), (78, 1));
    person.set_policy("{}");
    assert_eq!(launch(&[]), (0, "none".into(), 1));
}

/// A cover over the agent's working folder would leave it without one.
#[test]
fn an_agent_that_works_in_the_instances_folder_has_no_fence() {
    let person = Person::new();
    let within = |options: &[&str]| {
        let folder = person.folder().join("chains");
        launch(&person, person.exec(), &[&["--chdir", folder.to_str().unwrap()], options].concat())
    };
    let (status, errors, ran) = within(&[]);
    assert_eq!((status, ran), (0, true));
    assert!(errors.contains("give the instance a folder of its own; the agent can reach the vault"), "{errors}");
    assert_eq!((errors.lines().count(), person.recorded_fence()), (1, "none".into()));
    let (status, errors, ran) = within(&["--fence", "require"]);
    assert_eq!((status, ran), (78, false));
    assert!(errors.contains("give the instance a folder of its own"), "{errors}");
}
