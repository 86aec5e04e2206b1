//! Shell completions: the scripts, and the hidden command that they ask what fits.
//!
//! The shells know nothing of the commands. They hand over the words so far and get candidates, or
//! hear that their own files, users or commands belong there. So `mentiko-exec` is completed
//! without a line of this in it.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, Command, CommandFactory, ValueEnum};

use super::{Cli, Common, Error, context, query};
use crate::launch;
use crate::policy::{AgentName, ChainName, Definition, Scope, SecretName};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    mentiko completions bash > ~/.local/share/bash-completion/completions/mentiko\n  \
    mentiko completions bash --for mentiko-exec > ~/.local/share/bash-completion/completions/mentiko-exec\n  \
    mentiko completions fish > ~/.config/fish/completions/mentiko.fish")]
pub(super) struct Completions {
    /// The shell; zsh's goes to a file _mentiko in a folder of $fpath
    #[arg(value_enum)]
    shell: Shell,
    /// The program to complete
    #[arg(long = "for", value_enum, default_value_t = Program::Mentiko)]
    program: Program,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// A program of this package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Program {
    Mentiko,
    MentikoExec,
}

impl Program {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mentiko => "mentiko",
            Self::MentikoExec => "mentiko-exec",
        }
    }

    /// Its command line, with the options that its commands share in each of them.
    pub(super) fn command(self) -> Command {
        let mut command = match self {
            Self::Mentiko => Cli::command(),
            Self::MentikoExec => launch::Arguments::command(),
        };
        command.build();
        command
    }
}

pub(super) fn print_script(arguments: &Completions) -> Result<ExitCode, Error> {
    let script = match arguments.shell {
        Shell::Bash => include_str!("complete/script.bash"),
        Shell::Zsh => include_str!("complete/script.zsh"),
        Shell::Fish => include_str!("complete/script.fish"),
    };
    let name = arguments.program.name();
    let script = script.replace("FUNCTION", &name.replace('-', "_")).replace("PROGRAM", name);
    std::io::stdout().write_all(script.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

#[derive(clap::Args, Debug)]
pub(super) struct Complete {
    /// The program whose words they are
    #[arg(long = "for", value_enum)]
    program: Program,
    /// The words after its name; the last is the one to complete
    #[arg(last = true)]
    words: Vec<String>,
}

/// Prints what kind of thing fits, then a line for each candidate: the word, a tab, what it means.
pub(super) fn print_candidates(arguments: &Complete) -> Result<ExitCode, Error> {
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    let (fits, seen) = look_at(&arguments.program.command(), &words);
    let mut out = std::io::stdout();
    match fits {
        Fits::Shells(what) => writeln!(out, "{what}")?,
        Fits::Words(words) => write_words(&mut out, words)?,
        Fits::Names { kind, prefix, typed } => {
            let (before, last) = match kind {
                // The last of a list.
                Kind::Scope => typed.rsplit_once(',').map_or(("", typed), |(done, last)| (&typed[..=done.len()], last)),
                _ => ("", typed),
            };
            let names = names(kind, &seen).into_iter().filter(|name| name.starts_with(last));
            write_words(&mut out, names.map(|name| (format!("{prefix}{before}{name}"), String::new())).collect())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_words(out: &mut impl Write, words: Vec<(String, String)>) -> Result<(), Error> {
    writeln!(out, "words")?;
    for (word, help) in words {
        writeln!(out, "{word}\t{help}")?;
    }
    Ok(())
}

/// What fits in the place of the last word.
enum Fits<'w> {
    /// `files`, `folders`, `users`, `groups` or `command N`, which the shell knows best. N is where
    /// the command begins among the words, from 0.
    Shells(String),
    /// These, with what they mean.
    Words(Vec<(String, String)>),
    /// Names that begin with what is typed.
    Names { kind: Kind, prefix: String, typed: &'w str },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Secret,
    Chain,
    Agent,
    Scope,
}

/// What the words before say of the names that fit.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
struct Seen {
    instance: Option<PathBuf>,
    chain: Option<String>,
}

impl Seen {
    fn note(&mut self, argument: &Arg, value: &str) {
        match argument.get_id().as_str() {
            "instance" => self.instance = Some(value.into()),
            "chain" => self.chain = Some(value.into()),
            _ => {}
        }
    }
}

/// Follows the words through the command line.
fn look_at<'w>(root: &Command, words: &[&'w str]) -> (Fits<'w>, Seen) {
    let (mut command, mut seen) = (root, Seen::default());
    let (mut open, mut position): (Option<&Arg>, usize) = (None, 0);
    let Some((&last, before)) = words.split_last() else { return (Fits::Words(Vec::new()), seen) };
    let mut options_ended = false;
    for (at, &word) in before.iter().enumerate() {
        if let Some(argument) = open {
            // bash splits `--chain=c` into three words.
            if word != "=" {
                seen.note(argument, word);
                open = None;
            }
        } else if word == "--" && !options_ended {
            options_ended = true;
            if takes_command(command) {
                return (Fits::Shells(format!("command {}", at + 1)), seen);
            }
        } else if word.starts_with("--") && !options_ended {
            let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            match (option(command, name), value) {
                (Some(argument), Some(value)) => seen.note(argument, value),
                (argument, None) => open = argument.filter(|argument| argument.get_action().takes_values()),
                (None, _) => {}
            }
        } else if word.starts_with('-') && !options_ended {
        } else if let Some(sub) = command.find_subcommand(word) {
            (command, position) = (sub, 0);
        } else if takes_command(command) && is_trailing(command, position) {
            return (Fits::Shells(format!("command {at}")), seen);
        } else {
            if let Some(argument) = positional(command, position) {
                seen.note(argument, word);
            }
            position += 1;
        }
    }
    (fitting(command, open, position, options_ended, last, words.len() - 1), seen)
}

fn fitting<'w>(
    command: &Command,
    open: Option<&Arg>,
    position: usize,
    options_ended: bool,
    last: &'w str,
    at: usize,
) -> Fits<'w> {
    if let Some(argument) = open {
        return value(argument, "", if last == "=" { "" } else { last });
    }
    if last.starts_with('-') && !options_ended {
        return match last.split_once('=') {
            Some((name, typed)) => option(command, name)
                .map_or(Fits::Words(Vec::new()), |argument| value(argument, &format!("{name}="), typed)),
            None => Fits::Words(options(command, last)),
        };
    }
    if command.has_subcommands() {
        let subs = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name().starts_with(last));
        return Fits::Words(subs.map(|sub| (sub.get_name().to_owned(), line(sub.get_about()))).collect());
    }
    match positional(command, position) {
        // Before the command, options come first.
        Some(argument) if argument.is_trailing_var_arg_set() => match last {
            "" => Fits::Words(options(command, "")),
            _ => Fits::Shells(format!("command {at}")),
        },
        Some(argument) => value(argument, "", last),
        None => Fits::Words(options(command, last)),
    }
}

fn takes_command(command: &Command) -> bool {
    command.get_positionals().any(|argument| argument.is_trailing_var_arg_set() || argument.is_last_set())
}

fn is_trailing(command: &Command, position: usize) -> bool {
    positional(command, position).is_some_and(Arg::is_trailing_var_arg_set)
}

/// The argument in that place; one that takes many stays the last.
fn positional(command: &Command, position: usize) -> Option<&Arg> {
    let places: Vec<&Arg> = command.get_positionals().filter(|argument| !argument.is_last_set()).collect();
    let takes_many = places.last().filter(|last| matches!(last.get_action(), ArgAction::Append));
    places.get(position).or(takes_many).copied()
}

fn option<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command.get_opts().find(|argument| argument.get_long() == name.strip_prefix("--"))
}

fn options(command: &Command, typed: &str) -> Vec<(String, String)> {
    let shown = command.get_arguments().filter(|argument| !argument.is_positional() && !argument.is_hide_set());
    let named = shown.filter_map(|argument| Some((format!("--{}", argument.get_long()?), line(argument.get_help()))));
    named.filter(|(name, _)| name.starts_with(typed)).collect()
}

fn line(text: Option<&clap::builder::StyledStr>) -> String {
    text.map_or_else(String::new, |text| text.to_string().lines().next().unwrap_or_default().to_owned())
}

fn value<'w>(argument: &Arg, prefix: &str, typed: &'w str) -> Fits<'w> {
    let possible = argument.get_possible_values();
    if !possible.is_empty() {
        let fitting = possible.iter().filter(|value| value.get_name().starts_with(typed));
        return Fits::Words(
            fitting.map(|value| (format!("{prefix}{}", value.get_name()), line(value.get_help()))).collect(),
        );
    }
    if let Some(kind) = kind_of(argument) {
        return Fits::Names { kind, prefix: prefix.to_owned(), typed };
    }
    let named = argument.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
    Fits::Shells(match (argument.get_id().as_str(), named) {
        (_, Some("DIR")) | ("dir", _) => "folders".into(),
        ("user", _) => "users".into(),
        ("group", _) => "groups".into(),
        _ if argument.get_value_parser().type_id() == TypeId::of::<PathBuf>() => "files".into(),
        _ => return Fits::Words(Vec::new()),
    })
}

/// By type, and by name where any text may be asked for.
fn kind_of(argument: &Arg) -> Option<Kind> {
    let parsed = argument.get_value_parser().type_id();
    let is = |id| parsed == id;
    match argument.get_id().as_str() {
        _ if is(TypeId::of::<SecretName>()) => Some(Kind::Secret),
        _ if is(TypeId::of::<ChainName>()) => Some(Kind::Chain),
        _ if is(TypeId::of::<AgentName>()) => Some(Kind::Agent),
        _ if is(TypeId::of::<Scope>()) => Some(Kind::Scope),
        "secret" => Some(Kind::Secret),
        "name" if argument.is_positional() => Some(Kind::Secret),
        "chain" => Some(Kind::Chain),
        "agent" => Some(Kind::Agent),
        _ => None,
    }
}

/// The names of the instance. Where there is none, or it can't be read, there are none: a shell's
/// prompt is no place to say so.
fn names(kind: Kind, seen: &Seen) -> BTreeSet<String> {
    let common =
        Common { instance: seen.instance.clone(), passphrase_fd: None, recovery_code: false, recovery_code_fd: None };
    let Ok(instance) = context::instance(&common) else { return BTreeSet::new() };
    match kind {
        Kind::Secret => query::known_names(&common, &instance).1,
        Kind::Chain => query::chain_names(&instance),
        Kind::Scope => query::chain_names(&instance).into_iter().chain(["all".to_owned()]).collect(),
        Kind::Agent => {
            let chains = query::chain_names(&instance).into_iter();
            let wanted = chains.filter(|chain| seen.chain.as_ref().is_none_or(|wanted| wanted == chain));
            let definitions = wanted.filter_map(|chain| Definition::open(&instance.chains, &chain.parse().ok()?).ok());
            definitions.flat_map(|definition| agents(&definition)).collect()
        }
    }
}

fn agents(definition: &Definition) -> Vec<String> {
    definition.agents().map_or_else(Vec::new, |agents| agents.keys().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fits after these words: a kind of the shell's, a kind of name, or the words.
    fn fits(program: Program, words: &[&str]) -> (String, Seen) {
        let command = program.command();
        let (fits, seen) = look_at(&command, words);
        let shown = match fits {
            Fits::Shells(what) => what,
            Fits::Words(words) => words.into_iter().map(|(word, _)| word).collect::<Vec<_>>().join(" "),
            Fits::Names { kind, prefix, typed } => format!("{kind:?} {prefix}{typed}"),
        };
        (shown, seen)
    }

    #[test]
    fn words_are_followed_through_the_command_line() {
        for (words, expected) in [
            (&["sec"][..], "secret"),
            (&["secret", "li"], "list"),
            (&["--instance", "/i", "chain", "sh"], "show"),
            (&["secret", "list", "--js"], "--json"),
            (&["secret", "show", "O"], "Secret O"),
            (&["secret", "show", "--", "O"], "Secret O"),
            (&["exposure", ""], "Secret "),
            (&["secret", "scope", "A", "c,d"], "Scope c,d"),
            (&["secret", "set", "A", "--scope=c"], "Scope --scope=c"),
            (&["audit", "query", "--agent", "r"], "Agent r"),
            (&["chain", "show", ""], "Chain "),
            (&["chain", "check", "a.json", ""], "files"),
            (&["init", ""], "folders"),
            (&["completions", "z"], "zsh"),
            (&["secret", "set", "A", "--note", ""], ""),
            (&["no-such-command", ""], fits(Program::Mentiko, &[""]).0.as_str()),
            (&["comp"], "completions"),
        ] {
            assert_eq!(fits(Program::Mentiko, words).0, expected, "{words:?}");
        }
    }

    #[test]
    fn the_wrappers_words_end_where_the_agents_command_begins() {
        for (words, expected) in [
            (&["--chain", "c"][..], "Chain c"),
            (&["--fence", "r"], "require"),
            (&["--fence", "=", "r"], "require"),
            (&["--fence=r"], "--fence=require"),
            (&["--chdir", "x"], "folders"),
            (&["--user", "x"], "users"),
            (&["--cha"], "--chain"),
            (&["--chain", "c", "--", ""], "command 3"),
            (&["--chain", "c", "--", "python", "--ch"], "command 3"),
            (&["--chain", "c", "pyth"], "command 2"),
            (&["--quiet", "python", "--chain", ""], "command 1"),
        ] {
            assert_eq!(fits(Program::MentikoExec, words).0, expected, "{words:?}");
        }
    }

    #[test]
    fn agents_are_those_of_the_chain_that_was_named() {
        let named = Seen { instance: Some("/i".into()), chain: Some("c".into()) };
        for words in [
            &["--instance", "/i", "--chain", "c", "--agent", ""][..],
            &["--instance=/i", "--chain=c", "--agent", ""],
            &["--instance", "=", "/i", "--chain", "=", "c", "--agent", "=", ""],
        ] {
            assert_eq!(fits(Program::MentikoExec, words), ("Agent ".into(), named.clone()), "{words:?}");
        }
    }
}
