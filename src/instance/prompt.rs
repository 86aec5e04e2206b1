//! Asking for a secret on the terminal: not shown, not buffered anywhere but in the arena.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};

use super::Error;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

/// Asks on /dev/tty and reads one line into `buffer`; returns its length.
///
/// The terminal is read byte by byte: its own line editing would stop at 4,095 bytes (termios(3)),
/// and a String in between would leave copies.
pub fn ask(prompt: &str, buffer: &mut [u8]) -> Result<usize, Error> {
    let failed = |error: io::Error| Error::file("use", "/dev/tty", error);
    let tty = File::options().read(true).write(true).open("/dev/tty").map_err(Error::NoTerminal)?;
    let raw = Quiet::start(&tty).map_err(failed)?;
    (&tty).write_all(prompt.as_bytes()).map_err(failed)?;
    let answer = read_line(&tty, buffer).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof => Error::Cancelled,
        _ => failed(error),
    });
    drop(raw);
    (&tty).write_all(b"\n").map_err(failed)?;
    answer
}

fn read_line(mut tty: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    loop {
        let mut byte = [0u8];
        let got = tty.read(&mut byte)?;
        let [byte] = byte;
        match byte {
            _ if got == 0 => return Ok(length),
            b'\r' | b'\n' => return Ok(length),
            CTRL_C => return Err(io::Error::new(io::ErrorKind::Interrupted, "cancelled")),
            CTRL_D if length == 0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cancelled")),
            CTRL_D => return Ok(length),
            BACKSPACE | DELETE => length = previous_character(buffer, length),
            CTRL_U => length = 0,
            _ => {
                let place = buffer
                    .get_mut(length)
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the answer is too long"))?;
                *place = byte;
                length += 1;
            }
        }
    }
}

/// One UTF-8 character back: continuation bytes are 10xxxxxx.
pub(crate) fn previous_character(buffer: &[u8], mut length: usize) -> usize {
    while length > 0 {
        length -= 1;
        if buffer.get(length).is_none_or(|byte| byte & 0xC0 != 0x80) {
            break;
        }
    }
    length
}

/// A terminal without echo; as it was again when this is dropped, also on the way out by a signal.
struct Quiet<'a> {
    tty: &'a File,
    before: Termios,
    mask: SigSet,
}

impl<'a> Quiet<'a> {
    fn start(tty: &'a File) -> io::Result<Self> {
        // These would end the program and leave the terminal without echo. They come when the
        // answer is in; Ctrl-C arrives as a byte meanwhile.
        let mut block = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP] {
            block.add(signal);
        }
        let mut mask = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&block), Some(&mut mask))?;
        let before = tcgetattr(tty.as_fd())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::IEXTEN);
        for (index, value) in [(SpecialCharacterIndices::VMIN, 1), (SpecialCharacterIndices::VTIME, 0)] {
            if let Some(place) = quiet.control_chars.get_mut(index as usize) {
                *place = value;
            }
        }
        tcsetattr(tty.as_fd(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self { tty, before, mask })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.tty.as_fd(), SetArg::TCSAFLUSH, &self.before);
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backspace_takes_a_whole_character() {
        let text = "aé€".as_bytes();
        assert_eq!(previous_character(text, 6), 3);
        assert_eq!(previous_character(text, 3), 1);
        assert_eq!(previous_character(text, 1), 0);
        assert_eq!(previous_character(text, 0), 0);
    }
}
