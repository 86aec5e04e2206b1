//! The terminal: its modes, its signals, what is drawn on it, and how it gets all of that back.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, Once};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Color as Ink, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{Clear, ClearType as Part, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, raise, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{FlushArg, SetArg, Termios, cfmakeraw, tcflush, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use ratatui::{Frame, Terminal};

use crate::memory::window_size;

const MARK_PASTES: &str = "\x1b[?2004h";
const LEAVE_PASTES: &str = "\x1b[?2004l";
/// Those that end the program or change the terminal under it: they are read, not delivered.
const SIGNALS: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// A terminal in use; as it was before once this is dropped, and before a panic is told of.
pub(super) struct Screen {
    terminal: Terminal<Canvas>,
    tty: File,
    before: Termios,
    signals: SignalFd,
    mask: SigSet,
}

impl Screen {
    /// Takes the terminal, which is open for reading and writing.
    pub(super) fn take(tty: File) -> io::Result<Self> {
        let signals: SigSet = SIGNALS.into_iter().collect();
        let mut mask = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), Some(&mut mask))?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let before = tcgetattr(&tty)?;
        let terminal = Terminal::new(Canvas::on(tty.try_clone()?))?;
        let mut screen = Self { terminal, tty, before, signals, mask };
        on_panic(Some((screen.tty.try_clone()?, screen.before.clone())));
        screen.enter()?;
        Ok(screen)
    }

    fn enter(&mut self) -> io::Result<()> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&self.tty, SetArg::TCSAFLUSH, &raw)?;
        execute!(self.tty, EnterAlternateScreen, Hide, Print(MARK_PASTES), Clear(Part::All))?;
        self.terminal.clear()
    }

    /// What is drawn next is drawn whole.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }

    pub(super) fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(view).map(|_| ())
    }

    /// What is ready for reading when there are keys, and when there are signals.
    pub(super) fn sources(&self) -> [BorrowedFd<'_>; 2] {
        [self.tty.as_fd(), self.signals.as_fd()]
    }

    /// The next signal that came.
    pub(super) fn signal(&mut self) -> io::Result<Option<Signal>> {
        let Some(information) = self.signals.read_signal()? else { return Ok(None) };
        let number = i32::try_from(information.ssi_signo).unwrap_or_default();
        Ok(Signal::try_from(number).ok())
    }

    /// Keys that came in as bytes, into the arena and nowhere else; none where the terminal is gone.
    pub(super) fn read(&self, keys: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(&self.tty, keys)?)
    }

    /// Throws away what was typed and not read yet.
    pub(super) fn forget_keys(&self) {
        let _ = tcflush(&self.tty, FlushArg::TCIFLUSH);
    }

    /// Stops this process until it is continued, as Ctrl-Z stops any other: all of its job for a
    /// key, itself for a signal.
    pub(super) fn suspend(&mut self, job: bool) -> io::Result<()> {
        give_back(&self.tty, &self.before);
        let mut blocked = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), Some(&mut blocked))?;
        let stopped = if job { kill(Pid::from_raw(0), Signal::SIGTSTP) } else { raise(Signal::SIGTSTP) };
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)?;
        stopped?;
        self.resume()
    }

    /// Whoever had the terminal meanwhile may have changed it.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.enter()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        on_panic(None);
        give_back(&self.tty, &self.before);
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None);
    }
}

fn give_back(mut tty: &File, before: &Termios) {
    let _ = execute!(tty, Print(LEAVE_PASTES), SetAttribute(Attribute::Reset), Show, LeaveAlternateScreen);
    let _ = tcsetattr(tty, SetArg::TCSAFLUSH, before);
}

/// What a panic gives back before it is told of. A release ends right after that.
fn on_panic(terminal: Option<(File, Termios)>) {
    static TERMINAL: Mutex<Option<(File, Termios)>> = Mutex::new(None);
    static HOOK: Once = Once::new();
    if let Ok(mut kept) = TERMINAL.lock() {
        *kept = terminal;
    }
    HOOK.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if let Ok(mut kept) = TERMINAL.try_lock()
                && let Some((tty, before)) = kept.take()
            {
                give_back(&tty, &before);
            }
            tell(panic);
        }));
    });
}

/// Draws cells. Not the backend that ratatui has for crossterm: that one asks the terminal where
/// its cursor is, and would take keys for the answer.
struct Canvas {
    out: BufWriter<File>,
}

impl Canvas {
    fn on(tty: File) -> Self {
        Self { out: BufWriter::with_capacity(1 << 14, tty) }
    }
}

impl Backend for Canvas {
    type Error = io::Error;

    fn draw<'c, I: Iterator<Item = (u16, u16, &'c Cell)>>(&mut self, content: I) -> io::Result<()> {
        let mut next = None;
        let mut style = None;
        for (x, y, cell) in content {
            if next != Some((x, y)) {
                queue!(self.out, MoveTo(x, y))?;
            }
            next = Some((x + 1, y));
            if style != Some((cell.fg, cell.modifier)) {
                self.style(cell.fg, cell.modifier)?;
                style = Some((cell.fg, cell.modifier));
            }
            queue!(self.out, Print(cell.symbol()))?;
        }
        queue!(self.out, SetAttribute(Attribute::Reset))
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        execute!(self.out, Hide)
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        execute!(self.out, Show)
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        execute!(self.out, MoveTo(x, y))
    }

    fn clear(&mut self) -> io::Result<()> {
        execute!(self.out, SetAttribute(Attribute::Reset), Clear(Part::All))
    }

    fn clear_region(&mut self, _: ClearType) -> io::Result<()> {
        self.clear()
    }

    fn size(&self) -> io::Result<Size> {
        let size = window_size(self.out.get_ref()).filter(|size| size.ws_col > 0 && size.ws_row > 0);
        Ok(size.map_or(Size::new(80, 24), |size| Size::new(size.ws_col, size.ws_row)))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Canvas {
    fn style(&mut self, color: Color, modifier: Modifier) -> io::Result<()> {
        queue!(self.out, SetAttribute(Attribute::Reset))?;
        let attributes = [
            (Modifier::BOLD, Attribute::Bold),
            (Modifier::DIM, Attribute::Dim),
            (Modifier::REVERSED, Attribute::Reverse),
        ];
        for (_, attribute) in attributes.into_iter().filter(|(wanted, _)| modifier.contains(*wanted)) {
            queue!(self.out, SetAttribute(attribute))?;
        }
        match color {
            Color::Red => queue!(self.out, SetForegroundColor(Ink::DarkRed)),
            Color::Yellow => queue!(self.out, SetForegroundColor(Ink::DarkYellow)),
            Color::Green => queue!(self.out, SetForegroundColor(Ink::DarkGreen)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::{MutexGuard, PoisonError};

    use nix::fcntl::OFlag;
    use nix::sys::termios::LocalFlags;

    /// A process has one screen: so have its tests, one after the other.
    fn alone() -> MutexGuard<'static, ()> {
        static ONE: Mutex<()> = Mutex::new(());
        ONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A terminal of its own, and the side that its emulator would have.
    fn terminal() -> (File, File) {
        let master = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK).unwrap();
        nix::pty::grantpt(&master).unwrap();
        nix::pty::unlockpt(&master).unwrap();
        let path = nix::pty::ptsname_r(&master).unwrap();
        let tty = File::options().read(true).write(true).open(path).unwrap();
        let master = File::from(master.as_fd().try_clone_to_owned().unwrap());
        (tty, master)
    }

    fn echoes(tty: &File) -> bool {
        tcgetattr(tty).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    fn shown(mut master: &File) -> String {
        let mut buffer = [0; 1 << 16];
        let length = master.read(&mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn the_terminal_is_given_back_at_the_end_and_before_a_panic_is_told_of() {
        let _alone = alone();
        let (tty, master) = terminal();
        let screen = Screen::take(tty.try_clone().unwrap()).unwrap();
        assert!(!echoes(&tty));
        assert!(shown(&master).contains("\x1b[?1049h"));
        drop(screen);
        assert!(echoes(&tty));
        assert!(shown(&master).contains("\x1b[?1049l"));

        let screen = Screen::take(tty.try_clone().unwrap()).unwrap();
        assert!(!echoes(&tty));
        let panicked = std::thread::spawn(|| panic!("on purpose")).join();
        assert!(panicked.is_err());
        assert!(echoes(&tty), "the hook gives it back, though the screen is there still");
        let shown = shown(&master);
        assert!(shown.contains("\x1b[?2004l") && shown.contains("\x1b[?25h") && shown.contains("\x1b[?1049l"));
        drop(screen);
    }

    #[test]
    fn cells_are_drawn_where_they_stand() {
        let _alone = alone();
        let (tty, master) = terminal();
        crate::memory::set_window_size(
            &master,
            &nix::pty::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 },
        );
        let mut screen = Screen::take(tty).unwrap();
        shown(&master);
        screen
            .draw(|frame| {
                let style = ratatui::style::Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
                frame.buffer_mut().set_string(3, 2, "due", style);
                assert_eq!(frame.area().as_size(), Size::new(80, 24));
            })
            .unwrap();
        let shown = shown(&master);
        assert!(shown.contains("\x1b[3;4H\x1b[0m\x1b[1m\x1b[38;5;1mdue\x1b[0m"), "{shown:?}");
    }
}
