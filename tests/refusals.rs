//! Each refusal: its exit status, its one line, its record in the log, and that nothing was run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{Site, chmod, is_root, log_text, output_with_input, text};
use serde_json::Value;

/// The values of [`Site::with_two_agents`]: none may ever be seen here.
const VALUES: [&str; 2] = ["value-of-a-4711", "value-of-b-0815"];

/// A launch that was refused, checked for what every refusal has in common.
struct Refused {
    status: i32,
    /// The line on standard error, without its newline.
    line: String,
}

impl Refused {
    fn is(&self, status: i32, message: &str) {
        assert_eq!((self.status, self.line.as_str()), (status, format!("mentiko-exec: {message}").as_str()));
    }
}

/// Runs `mentiko-exec --chain CHAIN --agent AGENT OPTIONS -- touch MARKER`, which must be refused.
fn refused(site: &Site, chain: &str, agent: &str, options: &[&str]) -> Refused {
    let marker = site.file("marker");
    let mut command = site.exec(chain, agent);
    command.args(options).args(["--", "touch"]).arg(&marker);
    let refused = refused_by(site, &mut command);
    assert!(!marker.exists(), "the command was run");
    refused
}

/// Runs this command line as it is, which must be refused.
fn refused_by(site: &Site, command: &mut Command) -> Refused {
    let output = command.output().unwrap();
    let (out, line) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(out, "");
    shows_no_value(&line);
    shows_no_value(&raw_log(site));
    let line = one_line(&line, "mentiko-exec: ");
    Refused { status: output.status.code().unwrap(), line }
}

/// The text without its newline, which must be its only one.
fn one_line(text: &str, start: &str) -> String {
    assert!(text.starts_with(start) && text.ends_with('\n') && text.lines().count() == 1, "{text:?}");
    text.trim_end_matches('\n').to_owned()
}

fn shows_no_value(text: &str) {
    assert!(VALUES.iter().all(|value| !text.contains(value)), "{text}");
}

/// The log as it stands in the files, or nothing where there is none.
fn raw_log(site: &Site) -> String {
    let audit = site.file("audit");
    if audit.exists() { log_text(&audit) } else { String::new() }
}

/// The denials of the log, as secret and reason. Nothing else may have been recorded of accesses.
fn denials(site: &Site) -> Vec<(Option<String>, String)> {
    let accesses = site.accesses();
    assert!(accesses.iter().all(|record| record["outcome"] == "denied"), "{accesses:?}");
    let word = |record: &Value, field: &str| record[field].as_str().map(str::to_owned);
    accesses.iter().map(|record| (word(record, "secret"), word(record, "reason").unwrap())).collect()
}

/// The log must hold exactly one denial, of this secret, for this reason, with a MAC.
fn one_denial(site: &Site, secret: Option<&str>, reason: &str) {
    assert_eq!(denials(site), [(secret.map(str::to_owned), reason.to_owned())]);
    assert!(site.accesses()[0]["mac"].is_string(), "the key was there, so there is a MAC");
    site.verify();
}

/// The same where the key or the vault could not be had: without a MAC.
fn one_denial_without_mac(site: &Site, reason: &str) {
    assert_eq!(denials(site), [(None, reason.to_owned())]);
    assert!(site.accesses()[0]["mac"].is_null());
}

/// No access is on record at all.
fn no_record(site: &Site) {
    assert_eq!(denials(site), []);
}

/// A launch that is refused for the whole of it: the reason in the log is the message.
fn refused_as_a_whole(site: &Site, status: i32, message: &str) {
    refused(site, "c", "one", &[]).is(status, message);
    one_denial(site, None, message);
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

// The policy: 77.

#[test]
fn an_unknown_chain() {
    let site = Site::with_two_agents().unfenced();
    let message = format!("no chain 'nope' ({})", shown(&site.file("chains/nope.json")));
    refused(&site, "nope", "one", &[]).is(77, &message);
    one_denial(&site, None, "unknown chain");
    let record = &site.accesses()[0];
    assert_eq!(
        (&record["chain"], &record["agent"], &record["command"]),
        (&"nope".into(), &"one".into(), &"touch".into())
    );
}

#[test]
fn an_unknown_agent() {
    let site = Site::with_two_agents().unfenced();
    let path = shown(&site.file("chains/c.json"));
    refused(&site, "c", "three", &[]).is(77, &format!("chain 'c' has no agent 'three' ({path}); agents: one, two"));
    one_denial(&site, None, "agent not in chain");
}

#[test]
fn a_secret_that_the_agent_names_and_the_chain_does_not() {
    let site = Site::with_two_agents().unfenced();
    site.chain("c", r#"{"secrets": ["A"], "agents": {"one": ["A", "B"]}}"#);
    let path = shown(&site.file("chains/c.json"));
    refused(&site, "c", "one", &[]).is(77, &format!("secret 'B' is not in the list of chain 'c' ({path}: secrets)"));
    one_denial(&site, Some("B"), "secret not in chain");
}

#[test]
fn keeping_a_secret_of_another_agent() {
    let site = Site::with_two_agents().unfenced();
    let path = shown(&site.file("chains/c.json"));
    let message = format!("secret 'B' is not granted to agent 'one' of chain 'c' ({path})");
    refused(&site, "c", "one", &["--keep", "B"]).is(77, &message);
    one_denial(&site, Some("B"), "secret not granted to agent");
}

#[test]
fn keeping_a_secret_that_the_chain_does_not_list() {
    let site = Site::with_two_agents().unfenced();
    site.set("STRAY", "value-of-stray");
    let path = shown(&site.file("chains/c.json"));
    let message = format!("secret 'STRAY' is not in the list of chain 'c' ({path}: secrets)");
    refused(&site, "c", "one", &["--clean-env", "--keep", "STRAY"]).is(77, &message);
    one_denial(&site, Some("STRAY"), "secret not in chain");
}

#[test]
fn a_secret_that_is_out_of_scope() {
    let site = Site::with_two_agents().unfenced();
    assert!(site.mentiko(&["secret", "scope", "A", "other"]).output().unwrap().status.success());
    let message = "secret 'A' is out of scope for chain 'c'; widen it with 'mentiko secret scope A ...'";
    refused(&site, "c", "one", &[]).is(77, message);
    one_denial(&site, Some("A"), "chain out of scope");
}

#[test]
fn a_secret_that_is_not_in_the_vault() {
    let site = Site::with_two_agents().unfenced();
    site.chain("c", r#"{"secrets": ["GONE"], "agents": {"one": ["GONE"]}}"#);
    let message = "secret 'GONE' is not in the vault; store it with 'mentiko secret set GONE'";
    refused(&site, "c", "one", &[]).is(77, message);
    one_denial(&site, Some("GONE"), "secret not in vault");
}

#[test]
fn several_secrets_at_once_have_a_record_each() {
    let site = Site::with_two_agents().unfenced();
    site.set_with("NARROW", &["--scope", "other"], b"value-of-narrow");
    let definition = r#"{"secrets": ["A", "GONE", "NARROW"], "agents": {"one": ["A", "B", "GONE", "NARROW"]}}"#;
    site.chain("c", definition);
    let path = shown(&site.file("chains/c.json"));
    let message = format!("secret 'B' is not in the list of chain 'c' ({path}: secrets) (and 2 more)");
    refused(&site, "c", "one", &[]).is(77, &message);
    let expected = [("B", "secret not in chain"), ("GONE", "secret not in vault"), ("NARROW", "chain out of scope")];
    assert_eq!(denials(&site), expected.map(|(secret, reason)| (Some(secret.to_owned()), reason.to_owned())));
    assert!(site.accesses().iter().all(|record| record["mac"].is_string()));
    site.verify();
}

// The key: 78. Without it the records have no MAC.

const WRONG_KEY: &str = "the instance key opens no key slot of the vault: it is another instance's key, or the slot is \
                         damaged";

#[test]
fn a_wrong_key() {
    let site = Site::with_two_agents().unfenced();
    let key = std::fs::read(site.file("instance.key")).unwrap();
    std::fs::write(site.file("instance.key"), [0x5a; 32]).unwrap();
    let message = format!("{}: {WRONG_KEY}", shown(&site.file("vault")));
    refused(&site, "c", "one", &[]).is(78, &message);
    one_denial_without_mac(&site, &message);
    // The next line that has a MAC covers the one without.
    std::fs::write(site.file("instance.key"), key).unwrap();
    assert!(site.verify().contains("the last 1 records have no MAC"));
    assert!(site.exec("c", "one").args(["--", "true"]).status().unwrap().success());
    assert!(!site.verify().contains("no MAC"));
}

#[test]
fn no_key() {
    let site = Site::with_two_agents().unfenced();
    std::fs::remove_file(site.file("instance.key")).unwrap();
    let message = format!("can't open {}: No such file or directory (os error 2)", shown(&site.file("instance.key")));
    refused(&site, "c", "one", &[]).is(78, &message);
    one_denial_without_mac(&site, &message);
}

#[test]
fn a_key_that_others_can_read() {
    let site = Site::with_two_agents().unfenced();
    let key = site.file("instance.key");
    chmod(&key, 0o644);
    let key = shown(&key);
    let message = format!("{key} has mode 0644: others have access to the key; chmod 600 {key}");
    refused(&site, "c", "one", &[]).is(78, &message);
    one_denial_without_mac(&site, &message);
}

#[test]
fn a_key_of_31_bytes() {
    let site = Site::with_two_agents().unfenced();
    let key = site.file("instance.key");
    std::fs::write(&key, [0x5a; 31]).unwrap();
    let message = format!("no instance key: {} holds neither 32 bytes nor 64 hexadecimal digits", shown(&key));
    refused(&site, "c", "one", &[]).is(78, &message);
    one_denial_without_mac(&site, &message);
}

// Files that somebody else could have put there: 78.

#[test]
fn a_chain_file_that_others_can_write() {
    let site = Site::with_two_agents().unfenced();
    let path = site.file("chains/c.json");
    chmod(&path, 0o666);
    let path = shown(&path);
    refused_as_a_whole(&site, 78, &format!("{path} has mode 0666: others can write it; chmod go-w {path}"));
}

#[test]
fn a_folder_of_chains_that_others_can_write() {
    let site = Site::with_two_agents().unfenced();
    let path = site.file("chains");
    chmod(&path, 0o777);
    let path = shown(&path);
    refused_as_a_whole(&site, 78, &format!("{path} has mode 0777: others can replace files in it; chmod go-w {path}"));
}

#[test]
fn a_chain_file_that_is_a_link() {
    let site = Site::with_two_agents().unfenced();
    let path = site.file("chains/c.json");
    std::fs::rename(&path, site.file("elsewhere.json")).unwrap();
    symlink(site.file("elsewhere.json"), &path).unwrap();
    refused_as_a_whole(&site, 78, &format!("{} is a symbolic link; name the file itself", shown(&path)));
}

#[test]
fn a_vault_that_is_a_link() {
    let site = Site::with_two_agents().unfenced();
    let path = site.file("vault");
    std::fs::rename(&path, site.file("elsewhere")).unwrap();
    symlink(site.file("elsewhere"), &path).unwrap();
    let message = format!("{} is a symbolic link; name the file itself", shown(&path));
    refused(&site, "c", "one", &[]).is(78, &message);
    one_denial_without_mac(&site, &message);
}

#[test]
fn a_vault_that_others_can_write() {
    let site = Site::with_two_agents().unfenced();
    let path = site.file("vault");
    chmod(&path, 0o622);
    let path = shown(&path);
    let message = format!("{path} has mode 0622: others can write it; chmod go-w {path}");
    refused(&site, "c", "one", &[]).is(78, &message);
    one_denial_without_mac(&site, &message);
}

// Texts that do not say what they should: 78.

/// Changes instance.json. What it says of the log can't be trusted then, so nothing is recorded.
fn refused_with_configuration(edit: impl FnOnce(&str) -> String, message: &str) {
    let site = Site::with_two_agents().unfenced();
    let path = site.file("instance.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, edit(&text)).unwrap();
    refused(&site, "c", "one", &[]).is(78, &format!("{}: {message}", shown(&path)));
    no_record(&site);
}

#[test]
fn an_unknown_field_of_the_configuration() {
    let message = "unknown field 'rusn'; known: version, instance, key, vault, chains, audit, runs, policy";
    refused_with_configuration(|text| text.replace("\"runs\":", "\"rusn\":"), message);
}

#[test]
fn a_key_that_stands_twice_in_the_configuration() {
    let edit = |text: &str| text.replacen('{', "{\"audit\": \"/elsewhere\",", 1);
    let text = "the key \"audit\" stands twice at line 10 column 9";
    refused_with_configuration(edit, text);
}

#[test]
fn no_instance() {
    let site = Site::with_two_agents().unfenced();
    let folder = site.file("nowhere");
    let message = format!("no instance at {}: run 'mentiko init', or name one with --instance DIR", shown(&folder));
    refused(&site, "c", "one", &["--instance", &shown(&folder)]).is(78, &message);
    no_record(&site);
}

#[test]
fn a_key_that_stands_twice_in_a_chain() {
    let site = Site::with_two_agents().unfenced();
    site.chain("c", r#"{"secrets": ["A"], "secrets": ["A", "B"], "agents": {"one": ["A"]}}"#);
    let path = shown(&site.file("chains/c.json"));
    refused_as_a_whole(&site, 78, &format!("{path}: the key \"secrets\" stands twice at line 1 column 28"));
}

#[test]
fn an_agent_that_stands_twice_in_a_chain() {
    let site = Site::with_two_agents().unfenced();
    site.chain("c", r#"{"secrets": ["A", "B"], "agents": {"one": ["A"], "one": ["A", "B"]}}"#);
    let path = shown(&site.file("chains/c.json"));
    refused_as_a_whole(&site, 78, &format!("{path}: the key \"one\" stands twice at line 1 column 54"));
}

#[test]
fn a_chain_that_holds_a_credential_which_is_not_shown() {
    let site = Site::with_two_agents().unfenced();
    let credential = "sk-proj-1234567890abcdefghijklmnop";
    let definition = r#"{"secrets": ["A"], "agents": {"one": ["A"]}, "prompt": "use CREDENTIAL for it"}"#;
    site.chain("c", &definition.replace("CREDENTIAL", credential));
    let path = shown(&site.file("chains/c.json"));
    let message = "a text in it looks like a credential; store it with 'mentiko secret set' and name it here";
    refused_as_a_whole(&site, 78, &format!("{path}: {message}"));
    assert!(!raw_log(&site).contains(credential));
}

#[test]
fn a_variable_that_changes_how_programs_load() {
    let site = Site::with_two_agents().unfenced();
    site.chain("c", r#"{"secrets": ["A"], "agents": {"one": {"env": {"LD_PRELOAD": "A"}}}}"#);
    let path = shown(&site.file("chains/c.json"));
    let message =
        "agents.one.env.LD_PRELOAD: 'LD_PRELOAD' can't be set from a secret: it changes how programs load or run";
    refused_as_a_whole(&site, 78, &format!("{path}: {message}"));
}

#[test]
fn a_misspelled_field_that_would_widen_the_grant() {
    let site = Site::with_two_agents().unfenced();
    site.chain("c", r#"{"secrets": ["A", "B"], "agnets": {"one": ["A"]}}"#);
    let path = shown(&site.file("chains/c.json"));
    refused_as_a_whole(&site, 78, &format!("{path}: unknown field 'agnets'; did you mean 'agents'?"));
}

#[test]
fn a_run_of_the_caller_that_is_no_name() {
    let site = Site::with_two_agents().unfenced();
    let marker = site.file("marker");
    let mut command = site.exec("c", "one");
    command.env("MENTIKO_RUN_ID", "a\nb").args(["--", "touch"]).arg(&marker);
    let rule = "use letters, digits and ._-, 1 to 128 of them, a letter or digit first";
    refused_by(&site, &mut command).is(78, &format!("MENTIKO_RUN_ID: 'a\\nb' is no name of a run: {rule}"));
    assert!(!marker.exists());
    no_record(&site);
}

// The command: 126 and 127, before any secret is opened where that can be told.

/// Tries to launch this command, which can't be executed.
fn refused_command(site: &Site, command: &Path, status: i32, message: &str) {
    refused_by(site, site.exec("c", "one").arg("--").arg(command)).is(status, message);
}

#[test]
fn a_command_that_is_not_there() {
    let site = Site::with_two_agents().unfenced();
    let message = "'no-such-command-4711': command not found";
    let mut command = site.exec("c", "one");
    // Not the caller's: it may name folders that this user can't search, which is another refusal.
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").args(["--", "no-such-command-4711"]);
    refused_by(&site, &mut command).is(127, message);
    one_denial(&site, None, message);
}

#[test]
fn a_path_that_is_not_there() {
    let site = Site::with_two_agents().unfenced();
    let path = site.file("absent");
    let message = format!("'{}': command not found", shown(&path));
    refused_command(&site, &path, 127, &message);
    one_denial(&site, None, &message);
}

/// A script that leaves the marker.
fn script(site: &Site, first_line: &str, mode: u32) -> PathBuf {
    let path = site.file("script");
    std::fs::write(&path, format!("{first_line}\ntouch {}\n", shown(&site.file("marker")))).unwrap();
    chmod(&path, mode);
    path
}

#[test]
fn a_command_that_is_not_executable() {
    let site = Site::with_two_agents().unfenced();
    let path = script(&site, "#!/bin/sh", 0o644);
    let message = format!("'{}' is not executable; chmod +x it", shown(&path));
    refused_command(&site, &path, 126, &message);
    one_denial(&site, None, &message);
    assert!(!site.file("marker").exists());
}

#[test]
fn a_folder_as_command() {
    let site = Site::with_two_agents().unfenced();
    let message = format!("'{}' is a folder", shown(&site.file("chains")));
    refused_command(&site, &site.file("chains"), 126, &message);
    one_denial(&site, None, &message);
}

#[test]
fn a_command_whose_interpreter_is_missing_has_its_grant_taken_back_in_the_log() {
    let site = Site::with_two_agents().unfenced();
    let path = script(&site, "#!/nonexistent/interpreter", 0o755);
    let message = format!("can't execute '{}': its interpreter is missing", shown(&path));
    refused_command(&site, &path, 127, &message);
    assert!(!site.file("marker").exists());
    let log = site.log();
    let [.., access, failed] = &log[..] else { panic!("too few records") };
    let word = |record: &Value, field: &str| record[field].as_str().map(str::to_owned);
    let fields = |record| ["event", "outcome", "secret", "reason"].map(|field| word(record, field));
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(fields(access), [some("secret.access"), some("granted"), some("A"), None]);
    assert_eq!(fields(failed), [some("launch.failed"), some("failed"), None, some(&message)]);
    assert!(failed["mac"].is_string());
    assert_eq!((&access["pid"], &access["run"]), (&failed["pid"], &failed["run"]));
    site.verify();
}

#[test]
fn a_folder_to_change_to_that_is_not_there() {
    let site = Site::with_two_agents().unfenced();
    let folder = shown(&site.file("absent"));
    let message = format!("--chdir: can't change to {folder}: No such file or directory (os error 2)");
    refused(&site, "c", "one", &["--chdir", &folder]).is(125, &message);
    one_denial(&site, None, &message);
}

// The command line: 125. No instance is looked at yet, so there is no log.

#[test]
fn a_run_that_is_no_name() {
    let site = Site::with_two_agents().unfenced();
    let rule = "use letters, digits and ._-, 1 to 128 of them, a letter or digit first";
    let message = format!("invalid value '../x' for '--run-id <ID>': '../x' is no name of a run: {rule}; see --help");
    refused(&site, "c", "one", &["--run-id", "../x"]).is(125, &message);
    no_record(&site);
}

#[test]
fn a_descriptor_that_is_not_open() {
    let site = Site::with_two_agents().unfenced();
    refused(&site, "c", "one", &["--pass-fd", "99"]).is(125, "descriptor 99 is not open");
    refused(&site, "c", "one", &["--passphrase-fd", "98"]).is(125, "descriptor 98 is not open");
    no_record(&site);
}

#[test]
fn no_command() {
    let site = Site::with_two_agents().unfenced();
    let message = "the following required arguments were not provided: <COMMAND>...; see --help";
    refused_by(&site, &mut site.exec("c", "one")).is(125, message);
    no_record(&site);
}

#[test]
fn a_name_that_would_write_to_the_terminal_is_shown_escaped() {
    let site = Site::with_two_agents().unfenced();
    let rule = "use letters, digits and ._-, 1 to 128 of them, a letter or digit first";
    let refused = refused(&site, "\u{1b}[2J", "one", &[]);
    assert!(!refused.line.contains(char::is_control), "{:?}", refused.line);
    let message = format!("'\\u{{1b}}[2J' is no name of a chain: {rule}; see --help");
    assert!(refused.status == 125 && refused.line.ends_with(&message), "{}", refused.line);
    no_record(&site);
}

#[test]
fn an_unknown_option() {
    let site = Site::with_two_agents().unfenced();
    refused(&site, "c", "one", &["--no-such-option"])
        .is(125, "unexpected argument '--no-such-option' found; see --help");
    no_record(&site);
}

// The vault: 125.

#[test]
fn a_vault_that_was_cut_within_its_header() {
    let site = Site::with_two_agents().unfenced();
    let path = site.file("vault");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
    let fault = "the vault is damaged: it is too short for a header; restore it from a backup";
    let message = format!("{}: {fault}", shown(&path));
    refused(&site, "c", "one", &[]).is(125, &message);
    one_denial_without_mac(&site, &message);
}

#[test]
fn a_vault_that_was_cut_within_its_records() {
    let site = Site::with_two_agents().unfenced();
    let path = site.file("vault");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    // The ledger of a vault without approvals has 34 bytes, and comes last.
    file.set_len(file.metadata().unwrap().len() - 34 - 1).unwrap();
    let fault = "the vault is damaged: the place of bucket 0; restore it from a backup";
    let message = format!("{}: {fault}", shown(&path));
    refused(&site, "c", "one", &[]).is(125, &message);
    // The log is checked under the keys that the ledger tells of.
    std::fs::write(&path, whole).unwrap();
    one_denial(&site, None, &message);
}

// The log: no record, no launch.

const UNRECORDED: &str = "without its record nothing is launched";

#[test]
fn a_log_whose_folder_is_missing() {
    let site = Site::with_two_agents().unfenced();
    let folder = site.file("audit");
    std::fs::remove_dir_all(&folder).unwrap();
    let fault = format!("access log: can't open {}: No such file or directory (os error 2)", shown(&folder));
    refused(&site, "c", "one", &[]).is(125, &format!("{fault}; {UNRECORDED}"));
    refused(&site, "c", "three", &[]).is(125, &format!("{fault}; {UNRECORDED}"));
}

#[test]
fn a_segment_of_the_log_that_is_a_link() {
    let site = Site::with_two_agents().unfenced();
    let segment = site.segment();
    std::fs::rename(&segment, site.file("elsewhere")).unwrap();
    symlink(site.file("elsewhere"), &segment).unwrap();
    let message = format!("access log: {} is a symbolic link; name the file itself; {UNRECORDED}", shown(&segment));
    refused(&site, "c", "one", &[]).is(125, &message);
    no_record(&site);
}

/// Runs a shell script where it may mount: as root in a mount namespace of its own, else in a user
/// namespace too. `None` where this machine allows neither.
fn where_mounting_is_allowed(site: &Site, script: &str) -> Output {
    let namespaces = if is_root() { "-m" } else { "-Urm" };
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args([namespaces, "sh", "-uc", script]).stdin(Stdio::null()).env("SITE", site.path());
        command.env("EXEC", common::EXEC).env("MENTIKO", env!("CARGO_BIN_EXE_mentiko"));
        command.env("MENTIKO_INSTANCE", site.path()).output().unwrap()
    };
    let attempt = unshare("mount -t tmpfs none \"$SITE/runs\"");
    assert!(attempt.status.success(), "this test must be allowed to mount a tmpfs: {}", text(&attempt.stderr));
    unshare(script)
}

#[test]
fn a_log_that_is_read_only() {
    let site = Site::with_two_agents().unfenced();
    let segment = site.segment();
    let script = r#"
        mount --bind "$SITE/audit" "$SITE/audit" && mount -o remount,bind,ro "$SITE/audit" || exit 1
        "$EXEC" --chain c --agent one -- touch "$SITE/marker"
        echo "$?"
        "$EXEC" --chain nope --agent one -- touch "$SITE/marker"
        echo "$?"
        echo value-of-a-new | "$MENTIKO" secret set A
        echo "$?""#;
    let output = where_mounting_is_allowed(&site, script);
    assert_eq!(text(&output.stdout), "125\n77\n1\n", "{}", text(&output.stderr));
    let fault = format!("access log: can't open {}: Read-only file system (os error 30)", shown(&segment));
    let chain = shown(&site.file("chains/nope.json"));
    let expected = [
        format!("mentiko-exec: {fault}; {UNRECORDED}"),
        format!("mentiko-exec: no chain 'nope' ({chain}); and the refusal could not be recorded: {fault}"),
        format!("mentiko: {fault}"),
    ];
    assert_eq!(text(&output.stderr).lines().collect::<Vec<_>>(), expected);
    assert!(!site.file("marker").exists());
    no_record(&site);
    // The change that could not be recorded was not made either.
    let agent = site.exec("c", "one").args(["--", "printenv", "A"]).output().unwrap();
    assert_eq!(text(&agent.stdout).trim(), VALUES[0]);
}

#[test]
fn a_log_that_this_user_may_not_write() {
    if is_root() {
        // Root may write whatever the mode says; the test before this one covers root.
        return;
    }
    let site = Site::with_two_agents().unfenced();
    let segment = site.segment();
    chmod(&segment, 0o400);
    let fault = format!("access log: can't open {}: Permission denied (os error 13)", shown(&segment));
    refused(&site, "c", "one", &[]).is(125, &format!("{fault}; {UNRECORDED}"));
    no_record(&site);
    std::fs::remove_file(&segment).unwrap();
    chmod(&site.file("audit"), 0o500);
    refused(&site, "c", "one", &[]).is(125, &format!("{fault}; {UNRECORDED}"));
    chmod(&site.file("audit"), 0o700);
}

#[test]
fn a_full_disk_refuses_the_launch_and_leaves_a_log_that_verifies() {
    let site = Site::with_two_agents().unfenced();
    // A page that the log has already takes a few more records: launches go on until one is refused.
    let script = r#"
        mkdir "$SITE/saved" && cp -p "$SITE"/audit/* "$SITE/saved" || exit 1
        mount -t tmpfs -o size=64k,mode=0700 none "$SITE/audit" && cp -p "$SITE"/saved/* "$SITE/audit" || exit 1
        cat /dev/zero > "$SITE/audit/filler" 2> /dev/null
        ran=0
        while "$EXEC" --chain c --agent one -- touch "$SITE/marker.$ran" 2> "$SITE/line.1"; do
            ran=$((ran + 1))
            [ "$ran" -lt 50 ] || exit 1
        done
        "$EXEC" --chain c --agent one -- touch "$SITE/marker.$ran" 2> "$SITE/line.2"
        first=$?
        "$EXEC" --chain nope --agent one -- touch "$SITE/marker.$ran" 2> "$SITE/line.3"
        echo "$ran $first $?"
        "$MENTIKO" audit verify || exit 1
        rm "$SITE/audit/filler"
        "$EXEC" --chain c --agent one -- touch "$SITE/marker.last" || exit 1
        "$MENTIKO" audit verify || exit 1
        rm "$SITE"/saved/* && cp "$SITE"/audit/* "$SITE/saved""#;
    let output = where_mounting_is_allowed(&site, script);
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{error}");
    let lines: Vec<&str> = out.lines().collect();
    let [first, full, freed] = lines[..] else { panic!("{out}{error}") };
    let (ran, statuses) = first.split_once(' ').unwrap();
    assert_eq!(statuses, "125 77");
    assert!(!site.file(&format!("marker.{ran}")).exists(), "the command was run");

    let segment = site.segment();
    let fault = format!("access log: can't write {}: No space left on device (os error 28)", shown(&segment));
    let chain = shown(&site.file("chains/nope.json"));
    let refusal = format!("no chain 'nope' ({chain}); and the refusal could not be recorded: {fault}");
    for (name, message) in [
        ("line.1", format!("{fault}; {UNRECORDED}")),
        ("line.2", format!("{fault}; {UNRECORDED}")),
        ("line.3", refusal),
    ] {
        let line = std::fs::read_to_string(site.file(name)).unwrap();
        assert_eq!(one_line(&line, "mentiko-exec: "), format!("mentiko-exec: {message}"));
    }

    // As many grants as agents that ran, and no rest of a line.
    let ran: usize = ran.parse().unwrap();
    let log = std::fs::read_to_string(site.file("saved").join(segment.file_name().unwrap())).unwrap();
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let granted = records.iter().filter(|record| record["outcome"] == "granted").count();
    assert_eq!(granted, ran + 1);
    assert!(records.iter().all(|record| record["event"] != "log.recovered" && record["outcome"] != "denied"));
    assert!(full.starts_with("the log verifies: ") && !full.contains("unfinished"), "{full}");
    assert!(freed.starts_with(&format!("the log verifies: {} records", records.len())), "{freed}");
    shows_no_value(&log);
}

// Where the line itself can't be written.

#[test]
fn a_refusal_whose_line_nobody_can_read_keeps_its_status() {
    let site = Site::with_two_agents().unfenced();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let launch = |agent: &str| site.exec("c", agent).args(["--", "true"]).stderr(full()).status().unwrap();
    assert_eq!(launch("three").code(), Some(77));
    one_denial(&site, None, "agent not in chain");
    let mut command = site.mentiko(&["secret", "show", "ABSENT"]);
    assert_eq!(command.stderr(full()).status().unwrap().code(), Some(1));
}

// What the vault does not take: `mentiko secret set`, exit 1.

/// Tries to store this, which must be refused; gives the one line without `mentiko: `.
fn not_stored(site: &Site, name: &str, value: &[u8]) -> String {
    let vault = std::fs::read(site.file("vault")).unwrap();
    let records = site.log().len();
    let output = site.set_with(name, &[], value);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert_eq!(std::fs::read(site.file("vault")).unwrap(), vault, "nothing was stored");
    assert_eq!(site.log().len(), records, "nothing was recorded");
    one_line(&text(&output.stderr), "mentiko: ")["mentiko: ".len()..].to_owned()
}

#[test]
fn values_that_no_environment_can_carry() {
    let site = Site::with_two_agents().unfenced();
    let nul = "the value of 'A' holds a NUL byte, which no environment can carry; store it in base64, for example; \
               nothing was stored";
    assert_eq!(not_stored(&site, "A", b"secret-before-nul\0after"), nul);
    let long = "the value of 'A' is longer than 131000 bytes; nothing was stored";
    for length in [131_001, 131_002, 1_000_000] {
        assert_eq!(not_stored(&site, "A", &vec![b'x'; length]), long, "{length}");
    }
    let empty = "the value of 'A' is empty; nothing was stored";
    assert_eq!(not_stored(&site, "A", b""), empty);
    assert_eq!(not_stored(&site, "A", b"\n"), empty);
}

#[test]
fn names_that_belong_to_the_system() {
    let site = Site::with_two_agents().unfenced();
    for name in ["PATH", "LD_PRELOAD", "HOME", "MENTIKO_RUN_ID"] {
        let message = format!("'{name}' can't be a secret: it is the name of a variable that belongs to the system");
        assert_eq!(not_stored(&site, name, b"value"), message);
    }
}

#[test]
fn names_that_are_none() {
    let site = Site::with_two_agents().unfenced();
    let records = site.log().len();
    for name in ["a b", "../x", "_A", "a/", "slack/"] {
        let output = site.set_with(name, &[], b"value-of-nothing");
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{name:?}");
        let rule = "use letters, digits and ._-/, 1 to 128 of them, a letter or digit first";
        let line = format!("invalid value '{name}' for '<NAME>': '{name}' is no name of a secret: {rule}");
        assert_eq!(error, format!("mentiko: {line}; see --help\n"));
        assert!(!error.contains("value-of-nothing"), "{error}");
    }
    assert_eq!(site.log().len(), records);
}

/// Every byte counts: none is repeated at a distance where a wrong offset would go unnoticed.
fn long_value() -> Vec<u8> {
    (0..131_000u32).map(|at| b'!' + (at % 89) as u8).collect()
}

#[test]
fn the_longest_value_arrives_whole() {
    let site = Site::with_two_agents().unfenced();
    let value = long_value();
    assert!(site.set_with("A", &[], &value).status.success());
    let output = site.exec("c", "one").args(["--", "printenv", "A"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stdout.strip_suffix(b"\n") == Some(&value), "{} bytes", output.stdout.len());
    // A final newline is no part of a value, and not counted.
    let mut with_newline = value.clone();
    with_newline.push(b'\n');
    assert!(site.set_with("A", &[], &with_newline).status.success());
}

#[test]
fn a_value_that_does_not_fit_beside_its_variable_is_delivered_in_a_file() {
    let site = Site::with_two_agents().unfenced();
    let value = long_value();
    assert!(site.set_with("A", &[], &value).status.success());
    let variable = "V".repeat(100);
    site.chain("c", &format!(r#"{{"secrets": ["A"], "agents": {{"one": {{"env": {{"{variable}": "A"}}}}}}}}"#));
    let message = format!("secret 'A' is too long for variable '{variable}'; use --deliver file");
    let output = site.exec("c", "one").args(["--", "touch"]).arg(site.file("marker")).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(one_line(&text(&output.stderr), "mentiko-exec: "), format!("mentiko-exec: {message}"));
    assert!(!site.file("marker").exists());
    assert_eq!(denials(&site)[0].1, message);

    let script = format!("cat \"${variable}_FILE\"");
    let output = site.exec("c", "one").args(["--deliver", "file", "--", "sh", "-c", &script]).output().unwrap();
    assert!(output.status.success() && output.stdout == value, "{}", text(&output.stderr));
}

#[test]
fn the_denial_of_a_value_that_does_not_fit_names_its_secret() {
    let site = Site::with_two_agents().unfenced();
    assert!(site.set_with("A", &[], &long_value()).status.success());
    let variable = "V".repeat(100);
    site.chain("c", &format!(r#"{{"secrets": ["A"], "agents": {{"one": {{"env": {{"{variable}": "A"}}}}}}}}"#));
    assert_eq!(site.exec("c", "one").args(["--", "true"]).output().unwrap().status.code(), Some(78));
    one_denial(&site, Some("A"), &format!("secret 'A' is too long for variable '{variable}'; use --deliver file"));
}

#[test]
fn a_value_comes_from_standard_input_whatever_that_is() {
    let site = Site::with_two_agents().unfenced();
    let value_now = || text(&site.exec("c", "one").args(["--", "printenv", "A"]).output().unwrap().stdout);
    // A socket, as some callers make for their children's input, can't be opened by its name.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut &ours, b"from-a-socket").unwrap();
    drop(ours);
    let mut command = site.mentiko(&["secret", "set", "A"]);
    let output = command.stdin(std::os::fd::OwnedFd::from(theirs)).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(value_now(), "from-a-socket\n");
    // A file of which somebody else has read the beginning.
    std::fs::write(site.file("input"), "user\nfrom-a-file\n").unwrap();
    let script = r#"read -r user && exec "$0" secret set A"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_mentiko")]).env("MENTIKO_INSTANCE", site.path());
    let output = command.stdin(std::fs::File::open(site.file("input")).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(value_now(), "from-a-file\n");
    // Two lines are one value.
    let output = output_with_input(&mut site.mentiko(&["secret", "set", "A"]), b"two\nlines\n\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(value_now(), "two\nlines\n\n");
}
