//! Taking a value in: from a descriptor, standard input or the terminal, never as an argument.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::RawFd;

use super::Error;
use crate::instance::{MAX_PASSPHRASE, ask, read_secret, without_newline};
use crate::memory::{Arena, adopt, equal};
use crate::vault::MAX_VALUE;

/// Reads a value into the arena and checks it. One final newline is not part of it.
pub(super) fn read<'a>(name: &str, fd: Option<RawFd>, arena: &'a Arena) -> Result<&'a mut [u8], Error> {
    // Room for a final newline.
    let buffer = arena.alloc(MAX_VALUE + 1)?;
    let length = match fd {
        Some(fd) => {
            let fd = adopt(fd).map_err(|_| format!("--value-fd {fd}: no such open descriptor above 2"))?;
            read_secret(&mut File::from(fd), buffer)
        }
        None if std::io::stdin().is_terminal() => return typed(name, buffer, arena),
        None => read_secret(&mut Unbuffered, buffer),
    };
    let length = length.map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            Error::Other(format!("the value of '{name}' {}; nothing was stored", too_long()))
        }
        _ => Error::Other(format!("can't read the value of '{name}': {error}")),
    })?;
    let length = without_newline(buffer, length);
    check(name, buffer, length)
}

/// Standard input without the buffer of std::io::Stdin, which would keep a copy.
struct Unbuffered;

impl Read for Unbuffered {
    fn read(&mut self, place: &mut [u8]) -> std::io::Result<usize> {
        Ok(nix::unistd::read(std::io::stdin(), place)?)
    }
}

/// Asks twice, for nobody sees what is typed.
fn typed<'a>(name: &str, buffer: &'a mut [u8], arena: &'a Arena) -> Result<&'a mut [u8], Error> {
    let again = arena.alloc(MAX_VALUE + 1)?;
    let first = ask(&format!("Value of {name}: "), buffer)?;
    let second = ask("The same again: ", again)?;
    let same = equal(buffer.get(..first).unwrap_or_default(), again.get(..second).unwrap_or_default());
    match same {
        true => check(name, buffer, first),
        false => Err(Error::Other("the two differ; nothing was stored".into())),
    }
}

/// A passphrase that is to open something from now on: asked twice, or read from a descriptor.
pub(super) fn new_passphrase(fd: Option<RawFd>, arena: &Arena) -> Result<&[u8], Error> {
    let first = arena.alloc(MAX_PASSPHRASE + 1)?;
    let length = match fd {
        Some(fd) => {
            let fd = adopt(fd).map_err(|_| format!("--new-passphrase-fd {fd}: no such open descriptor above 2"))?;
            let length = read_secret(&mut File::from(fd), first);
            let length = length.map_err(|error| format!("can't read the new passphrase: {error}"))?;
            without_newline(first, length)
        }
        None => {
            let again = arena.alloc(MAX_PASSPHRASE + 1)?;
            let length = ask("New passphrase: ", first)?;
            let second = ask("The same again: ", again)?;
            if !equal(first.get(..length).unwrap_or_default(), again.get(..second).unwrap_or_default()) {
                return Err(Error::Other("the two differ; nothing was changed".into()));
            }
            length
        }
    };
    match first.get(..length) {
        None | Some([]) => Err(Error::Other("the passphrase is empty".into())),
        Some(passphrase) if length <= MAX_PASSPHRASE => Ok(passphrase),
        Some(_) => Err(Error::Other(format!("the passphrase is longer than {MAX_PASSPHRASE} bytes"))),
    }
}

/// Whether these bytes can be a value.
pub(super) fn check<'a>(name: &str, buffer: &'a mut [u8], length: usize) -> Result<&'a mut [u8], Error> {
    let value = buffer.get_mut(..length).unwrap_or_default();
    match fault_of(value) {
        None => Ok(value),
        Some(fault) => Err(Error::Other(format!("the value of '{name}' {fault}; nothing was stored"))),
    }
}

/// Why a value can't be stored.
pub(super) fn fault_of(value: &[u8]) -> Option<String> {
    match value {
        [] => Some("is empty".into()),
        _ if value.len() > MAX_VALUE => Some(too_long()),
        _ if value.contains(&0) => {
            Some("holds a NUL byte, which no environment can carry; store it in base64, for example".into())
        }
        _ => None,
    }
}

fn too_long() -> String {
    format!("is longer than {MAX_VALUE} bytes")
}
