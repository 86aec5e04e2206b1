//! Names of environment variables that a grant may set.

use super::name::checked_text;

checked_text!(
    /// A variable that a definition may fill with a secret.
    VariableName, String, check
);

/// `[A-Za-z_][A-Za-z0-9_]*` (POSIX.1-2017, 8.1), at most 128, and not [`is_reserved`].
fn check(text: &str) -> Result<(), String> {
    let shown: String = text.chars().take(40).collect();
    let shown = shown.escape_debug();
    let is_first = |first: char| first.is_ascii_alphabetic() || first == '_';
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !text.starts_with(is_first) || !text.bytes().all(is_inner) || text.len() > 128 {
        return Err(format!("'{shown}' can't be a variable: use letters, digits and _, no digit first"));
    }
    match is_reserved(text) {
        true => Err(format!("'{shown}' can't be set from a secret: it changes how programs load or run")),
        false => Ok(()),
    }
}

/// Whether the name belongs to the system: it changes how programs load, run or find their user,
/// or is the wrapper's or systemd's own. No secret may have such a name, and no grant may set it.
pub fn is_reserved(name: &str) -> bool {
    // Both lists are in order, for the search.
    NAMES.binary_search(&name).is_ok() || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

const PREFIXES: &[&str] = &[
    "BASH_FUNC_", "DYLD_", "GIT_CONFIG", "LC_", "LD_", "LISTEN_", "MALLOC_", "MENTIKO_", "NPM_CONFIG_", "PYTHON",
    "WATCHDOG_", "XDG_", "npm_config_",
];

const NAMES: &[&str] = &[
    "BASHOPTS", "BASH_ENV", "BASH_LOADABLES_PATH", "BROWSER", "BUNDLE_GEMFILE", "CDPATH", "CLASSPATH",
    "CONFIGURATION_DIRECTORY", "CREDENTIALS_DIRECTORY", "CURL_CA_BUNDLE", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY",
    "EDITOR", "ENV", "FPATH", "GCONV_PATH", "GEM_HOME", "GEM_PATH", "GETCONF_DIR", "GIO_MODULE_DIR", "GIT_ASKPASS",
    "GIT_EDITOR", "GIT_EXEC_PATH", "GIT_EXTERNAL_DIFF", "GIT_PAGER", "GIT_PROXY_COMMAND", "GIT_SSH", "GIT_SSH_COMMAND",
    "GIT_TEMPLATE_DIR", "GLIBC_TUNABLES", "GLOBIGNORE", "GOROOT", "HOME", "HOSTALIASES", "HOSTNAME", "IFS",
    "INVOCATION_ID", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "JOURNAL_STREAM", "LANG", "LANGUAGE", "LESSCLOSE",
    "LESSOPEN", "LOCALDOMAIN", "LOCPATH", "LOGNAME", "LOGS_DIRECTORY", "LUA_CPATH", "LUA_INIT", "LUA_PATH", "MAIL",
    "MANPAGER", "NIX_PATH", "NLSPATH", "NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "NODE_PATH",
    "NODE_TLS_REJECT_UNAUTHORIZED", "NOTIFY_SOCKET", "OLDPWD", "OPENSSL_CONF", "OPENSSL_ENGINES", "OPENSSL_MODULES",
    "PAGER", "PATH", "PERL5DB", "PERL5LIB", "PERL5OPT", "PERLLIB", "PHPRC", "PHP_INI_SCAN_DIR", "POSIXLY_CORRECT",
    "PROMPT_COMMAND", "PS4", "PWD", "REQUESTS_CA_BUNDLE", "RES_OPTIONS", "RUBYLIB", "RUBYOPT", "RUNTIME_DIRECTORY",
    "RUSTC_WRAPPER", "SHELL", "SHELLOPTS", "SHLVL", "SSH_ASKPASS", "SSH_AUTH_SOCK", "SSL_CERT_DIR", "SSL_CERT_FILE",
    "STATE_DIRECTORY", "TERM", "TERMCAP", "TERMINFO", "TERMINFO_DIRS", "TMPDIR", "TZ", "TZDIR", "USER", "VISUAL",
    "ZDOTDIR", "_", "_JAVA_OPTIONS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order() {
        assert!(NAMES.is_sorted());
    }

    #[test]
    fn the_schema_of_definitions_has_the_same_lists() {
        let schema: serde_json::Value = serde_json::from_str(include_str!("../../docs/schema/chain.json")).unwrap();
        let refused = &schema["$defs"]["variable"]["not"]["anyOf"];
        assert_eq!(refused[0]["pattern"], format!("^({})", PREFIXES.join("|")));
        assert_eq!(refused[1]["enum"], serde_json::json!(NAMES));
    }

    #[test]
    fn names_that_change_how_programs_run_are_refused() {
        for name in [
            "LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "IFS", "BASH_ENV", "ENV", "PYTHONPATH", "PYTHONSTARTUP",
            "NODE_OPTIONS", "PERL5OPT", "RUBYOPT", "GIT_SSH_COMMAND", "GCONV_PATH", "MENTIKO_RUN_ID", "HOME", "LC_ALL",
            "GLIBC_TUNABLES", "NOTIFY_SOCKET", "BASH_FUNC_ls", "_",
        ] {
            assert!(name.parse::<VariableName>().is_err(), "{name}");
        }
    }

    #[test]
    fn ordinary_names_are_taken_and_malformed_ones_refused() {
        for name in ["OPENAI_API_KEY", "_X", "a", "x1", "ENVIRONMENT", "PATHS", "HTTPS_PROXY", &"V".repeat(128)] {
            assert!(name.parse::<VariableName>().is_ok(), "{name}");
        }
        for name in ["", "1A", "A-B", "A=B", "A B", "é", "A\n", "a/b", "A\u{0}", &"V".repeat(129)] {
            assert!(name.parse::<VariableName>().is_err(), "{name}");
        }
    }
}
