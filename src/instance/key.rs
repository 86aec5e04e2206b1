//! The instance key: 32 bytes from a file, a systemd credential or a command; or a passphrase.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Access, Error, ask, open_trusted};
use crate::memory::{self, Arena};

/// The longest passphrase that is read: 1 KiB.
pub const MAX_PASSPHRASE: usize = 1024;
/// Bytes of a recovery key: 160 bits.
pub const RECOVERY_KEY: usize = 20;

/// Where instance.json says that the key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file of mode 0600.
    File(PathBuf),
    /// A name below `$CREDENTIALS_DIRECTORY` (systemd.exec(5)).
    SystemdCredential(String),
    /// Its standard output is the key.
    Command(Vec<String>),
    /// Asked on the terminal, or read from the descriptor of `--passphrase-fd`.
    Passphrase,
}

/// Key material in the arena, before the vault says whether it is right.
#[derive(Clone, Copy)]
pub enum InstanceKey<'a> {
    /// 32 bytes of entropy: opens slots of kind 1.
    Bytes(&'a [u8; 32]),
    /// A passphrase: opens slots of kind 2, through Argon2id.
    Passphrase(&'a [u8]),
    /// What a recovery code stands for: opens slots of kind 3.
    #[cfg_attr(not(feature = "admin"), allow(dead_code))] // A launch is given none.
    Recovery(&'a [u8; RECOVERY_KEY]),
}

impl std::fmt::Debug for InstanceKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[instance key]")
    }
}

impl KeySource {
    /// Whether the key can be had without asking anybody or running anything.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::File(_) | Self::SystemdCredential(_))
    }

    /// Brings the key into the arena. `passphrase` is the descriptor of `--passphrase-fd`.
    pub fn read<'a>(&self, passphrase: Option<File>, arena: &'a Arena) -> Result<InstanceKey<'a>, Error> {
        match self {
            Self::File(path) => key_file(path, Access::OwnerOnly, arena),
            Self::SystemdCredential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    Error::Key(format!(
                        "CREDENTIALS_DIRECTORY is not set; add LoadCredentialEncrypted={name} to the unit"
                    ))
                })?;
                key_file(&Path::new(&folder).join(name), Access::Credential, arena)
            }
            Self::Command(argv) => command(argv, arena),
            Self::Passphrase => {
                let buffer = arena.alloc(MAX_PASSPHRASE)?;
                let length = match passphrase {
                    Some(mut file) => {
                        let length = read_secret(&mut file, buffer)
                            .map_err(|error| Error::Key(format!("can't read the passphrase: {error}")))?;
                        without_newline(buffer, length)
                    }
                    None => ask("Passphrase: ", buffer)?,
                };
                match buffer.get(..length) {
                    Some(passphrase) if length > 0 => Ok(InstanceKey::Passphrase(passphrase)),
                    _ => Err(Error::Key("the passphrase is empty".into())),
                }
            }
        }
    }
}

fn key_file<'a>(path: &Path, access: Access, arena: &'a Arena) -> Result<InstanceKey<'a>, Error> {
    let mut file = open_trusted(path, access)?;
    read_key(&mut file, &path.display().to_string(), arena)
}

fn command<'a>(argv: &[String], arena: &'a Arena) -> Result<InstanceKey<'a>, Error> {
    let (program, arguments) = argv.split_first().ok_or_else(|| Error::Key("key.command is empty".into()))?;
    // Standard input is the agent's, and not the key command's to consume.
    let failed = |error: std::io::Error| Error::Key(format!("can't run the key command '{program}': {error}"));
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let key = match child.stdout.take() {
        Some(mut output) => read_key(&mut output, &format!("the key command '{program}'"), arena),
        None => Err(Error::Key("the key command has no output".into())),
    };
    match child.wait() {
        Ok(status) if !status.success() => Err(Error::Key(format!("the key command '{program}' failed ({status})"))),
        Ok(_) => key,
        // Where the caller ignores SIGCHLD, the kernel reaped it; the key shows whether it is whole.
        Err(error) if error.raw_os_error() == Some(nix::libc::ECHILD) => key,
        Err(error) => Err(failed(error)),
    }
}

/// 32 raw bytes, or 64 hexadecimal digits with at most one newline: what commands print.
pub fn read_key<'a>(source: &mut impl Read, name: &str, arena: &'a Arena) -> Result<InstanceKey<'a>, Error> {
    let buffer = arena.alloc(66)?;
    let length = read_secret(source, buffer).map_err(|error| Error::Key(format!("can't read {name}: {error}")))?;
    let key = arena.key()?;
    let text = buffer.get(..without_newline(buffer, length)).unwrap_or_default();
    let good = match (length, text.len()) {
        (32, _) => {
            key.copy_from_slice(buffer.get(..32).unwrap_or_default());
            true
        }
        (_, 64) => base16ct::mixed::decode(text, key).is_ok(),
        _ => false,
    };
    memory::wipe(buffer);
    match good {
        true => Ok(InstanceKey::Bytes(key)),
        false => Err(Error::Key(format!("{name} holds neither 32 bytes nor 64 hexadecimal digits"))),
    }
}

/// Reads to the end, into `buffer` and nowhere else; an error if it does not fit.
pub fn read_secret(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    loop {
        let rest = buffer.get_mut(length..).unwrap_or_default();
        if rest.is_empty() {
            let mut one = [0u8];
            return match source.read(&mut one)? {
                0 => Ok(length),
                _ => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is too long")),
            };
        }
        match source.read(rest) {
            Ok(0) => return Ok(length),
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The length without one final newline, which commands and editors add.
pub fn without_newline(buffer: &[u8], length: usize) -> usize {
    match buffer.get(..length) {
        Some([.., b'\n']) => length - 1,
        _ => length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(input: &[u8]) -> Result<[u8; 32], String> {
        let arena = Arena::new().unwrap();
        match read_key(&mut &input[..], "key", &arena) {
            Ok(InstanceKey::Bytes(key)) => Ok(*key),
            Ok(_) => unreachable!(),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn raw_bytes_and_hexadecimal_digits_are_taken() {
        assert_eq!(key(&[7; 32]), Ok([7; 32]));
        // A raw key may well end in the byte of a newline.
        assert_eq!(key(&[b'\n'; 32]), Ok([b'\n'; 32]));
        let digits = "0aF1".repeat(16);
        let mut expected = [0u8; 32];
        expected.chunks_exact_mut(2).for_each(|pair| pair.copy_from_slice(&[0x0a, 0xf1]));
        assert_eq!(key(digits.as_bytes()), Ok(expected));
        assert_eq!(key(format!("{digits}\n").as_bytes()), Ok(expected));
    }

    #[test]
    fn other_lengths_and_digits_are_refused_without_being_shown() {
        for input in [&b""[..], &[1; 31], &[1; 33], b"secret-looking-text", "g".repeat(64).as_bytes(), &[b'a'; 67]] {
            let error = key(input).unwrap_err();
            assert!(!error.contains("secret-looking"), "{error}");
        }
    }
}
