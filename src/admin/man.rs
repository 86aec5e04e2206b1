//! `mentiko man DIR`, for packagers: the manual pages. Those of section 1 say what the command
//! line says; those of section 5 are written by hand, in docs/man/.

use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::{Arg, Command};

use super::Error;
use super::complete::Program;
use crate::instance;

/// Of the pages, for their last lines; changed with the version.
const DATE: &str = "2026-11-25";

/// What stands at the end of a page beyond what the command line says.
const SECTIONS: &[(&str, &str)] = &[
    ("mentiko", include_str!("../../docs/man/mentiko.1.sections")),
    ("mentiko-exec", include_str!("../../docs/man/mentiko-exec.1.sections")),
];

const BY_HAND: &[(&str, &str)] = &[
    ("mentiko-chain.5", include_str!("../../docs/man/mentiko-chain.5")),
    ("mentiko-instance.5", include_str!("../../docs/man/mentiko-instance.5")),
];

#[derive(clap::Args, Debug)]
#[command(after_help = "Example: mentiko man ~/.local/share/man")]
pub(super) struct Arguments {
    /// Where man1 and man5 are or are to be; pages of the same names are replaced
    dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let (commands, formats) = (arguments.dir.join("man1"), arguments.dir.join("man5"));
    for folder in [&commands, &formats] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(|error| instance::Error::file("create", folder, error))?;
    }
    let mut pages = Vec::new();
    for program in [Program::Mentiko, Program::MentikoExec] {
        add_pages(&program.command(), program.name(), &mut pages)?;
    }
    for (name, text) in &pages {
        write(&commands.join(format!("{name}.1")), text)?;
    }
    for (file, text) in BY_HAND {
        write(&formats.join(file), text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &[u8]) -> Result<(), Error> {
    Ok(std::fs::write(path, text).map_err(|error| instance::Error::file("write", path, error))?)
}

/// The page of a command, and those of its commands.
fn add_pages(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), Error> {
    pages.push((name.to_owned(), page(command, name)?));
    for sub in shown_commands(command) {
        add_pages(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str) -> Result<Vec<u8>, Error> {
    let mut page = Vec::new();
    let (version, about) = (env!("CARGO_PKG_VERSION"), text(command.get_about()));
    writeln!(page, ".TH {} 1 {DATE} \"mentiko-exec {version}\" \"User Commands\"", name.to_uppercase())?;
    writeln!(page, ".SH NAME\n{} \\- {about}", escaped(name))?;
    let usage = command.clone().render_usage().to_string();
    writeln!(page, ".SH SYNOPSIS\n{}", escaped(usage.trim_start_matches("Usage: ")))?;
    writeln!(page, ".SH DESCRIPTION\n{about}.")?;
    let after = AfterHelp::of(command);
    for note in &after.notes {
        writeln!(page, ".PP\n{}", escaped(note))?;
    }
    let commands: Vec<&Command> = shown_commands(command).collect();
    if !commands.is_empty() {
        writeln!(page, ".SH COMMANDS")?;
    }
    for sub in commands {
        let (sub, about) = (escaped(sub.get_name()), text(sub.get_about()));
        writeln!(page, ".TP\n.BR {}\\-{sub} (1)\n{about}", escaped(name))?;
    }
    writeln!(page, ".SH OPTIONS")?;
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        write_argument(&mut page, argument)?;
    }
    let sections = SECTIONS.iter().find(|(of, _)| *of == name);
    if let (Some(status), None) = (after.exit_status, sections) {
        writeln!(page, ".SH EXIT STATUS\n{}", escaped(&status))?;
    }
    writeln!(page, ".SH EXAMPLES\n.nf\n{}\n.fi", escaped(&after.examples.join("\n")))?;
    match sections {
        Some((_, text)) => write!(page, "{text}")?,
        None => writeln!(page, ".SH SEE ALSO\n.BR mentiko (1)")?,
    }
    Ok(page)
}

fn shown_commands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
}

/// An option or a positional argument, with the values that it takes where they are few.
fn write_argument(page: &mut Vec<u8>, argument: &Arg) -> Result<(), Error> {
    let value = argument.get_value_names().into_iter().flatten().next().filter(|_| takes_value(argument));
    let value = value.map(|name| escaped(name)).unwrap_or_default();
    let shown = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!(".BR \\-{short} \", \" \\-\\-{}", escaped(long)),
        (None, Some(long)) if value.is_empty() => format!(".B \\-\\-{}", escaped(long)),
        (None, Some(long)) => format!(".BI \"\\-\\-{} \" {value}", escaped(long)),
        _ => format!(".I {value}"),
    };
    writeln!(page, ".TP\n{shown}\n{}", text(argument.get_long_help().or(argument.get_help())))?;
    let default = argument.get_default_values().first().filter(|_| takes_value(argument));
    if let Some(default) = default {
        writeln!(page, "[default: {}]", escaped(&default.to_string_lossy()))?;
    }
    let possible = if takes_value(argument) { argument.get_possible_values() } else { Vec::new() };
    if possible.is_empty() {
        return Ok(());
    }
    writeln!(page, ".RS")?;
    for value in possible {
        writeln!(page, ".TP\n.B {}\n{}", escaped(value.get_name()), text(value.get_help()))?;
    }
    Ok(writeln!(page, ".RE")?)
}

fn takes_value(argument: &Arg) -> bool {
    argument.get_action().takes_values()
}

fn text(styled: Option<&StyledStr>) -> String {
    escaped(&styled.map(ToString::to_string).unwrap_or_default())
}

/// The text below a command's help, taken apart.
#[derive(Default)]
struct AfterHelp {
    notes: Vec<String>,
    exit_status: Option<String>,
    examples: Vec<String>,
}

impl AfterHelp {
    fn of(command: &Command) -> Self {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut found = Self::default();
        for paragraph in text.split("\n\n") {
            let lines: Vec<&str> = paragraph.lines().collect();
            let at = lines.iter().position(|line| line.starts_with("Example")).unwrap_or(lines.len());
            let (rest, examples) = lines.split_at(at);
            let examples = examples.iter().map(|line| line.trim_start_matches("Examples:"));
            let examples = examples.map(|line| line.trim_start_matches("Example:").trim().to_owned());
            found.examples.extend(examples.filter(|line| !line.is_empty()));
            match rest.join("\n") {
                rest if rest.is_empty() => {}
                rest => match rest.strip_prefix("Exit status: ") {
                    Some(status) => found.exit_status = Some(status.to_owned()),
                    None => found.notes.push(rest),
                },
            }
        }
        found
    }
}

/// Text for roff: no escape, no request, and a dash that can be copied.
fn escaped(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}
