//! Any text as the name of a variable, secret, chain, agent, run, scope or schedule: taken as the
//! documentation says and no otherwise.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mentiko_exec::policy::{AgentName, ChainName, RunId, Scope, SecretName, VariableName, is_reserved};
use mentiko_exec::text::printable;
use mentiko_exec::vault::Rotation;

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`, for a secret with `/` inside.
fn is_name(text: &str, slash: bool) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || (slash && c == '/');
    (1..=128).contains(&text.chars().count())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(inner)
        && !text.ends_with('/')
}

/// `[A-Za-z_][A-Za-z0-9_]*`
fn is_variable(text: &str) -> bool {
    (1..=128).contains(&text.chars().count())
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Some that must be refused whatever else is, from the design.
fn is_dangerous(text: &str) -> bool {
    let names = [
        "PATH", "IFS", "BASH_ENV", "ENV", "PYTHONPATH", "PYTHONSTARTUP", "NODE_OPTIONS", "PERL5OPT", "RUBYOPT",
        "GIT_SSH_COMMAND", "GCONV_PATH",
    ];
    text.starts_with("LD_") || text.starts_with("MENTIKO_") || names.contains(&text)
}

fn shown(error: &str) {
    assert!(!printable(error).contains(char::is_control));
}

fuzz_target!(|text: &str| {
    assert_eq!(text.parse::<ChainName>().is_ok(), is_name(text, false));
    assert_eq!(text.parse::<AgentName>().is_ok(), is_name(text, false));
    assert_eq!(text.parse::<RunId>().is_ok(), is_name(text, false));
    assert_eq!(text.parse::<SecretName>().is_ok(), is_name(text, true));
    if let Err(error) = text.parse::<SecretName>() {
        shown(&error.to_string());
    }
    match text.parse::<VariableName>() {
        Ok(name) => {
            assert!(is_variable(text) && !is_dangerous(text) && !is_reserved(text));
            assert_eq!(name.as_str(), text);
        }
        Err(error) => {
            assert!(!is_variable(text) || is_reserved(text));
            shown(&error);
        }
    }
    assert!(!is_dangerous(text) || is_reserved(text));
    match text.parse::<Scope>() {
        Ok(Scope::All) => assert_eq!(text, "all"),
        Ok(Scope::Chains(chains)) => {
            assert!(!chains.is_empty());
            for part in text.split(',') {
                assert!(chains.iter().any(|chain| chain.as_str() == part.trim()));
            }
        }
        Err(_) => assert!(text.split(',').any(|part| !is_name(part.trim(), false))),
    }
    if let Ok(rotation) = text.parse::<Rotation>() {
        assert_eq!(rotation.to_string().parse(), Ok(rotation));
    }
});
