//! Terminals that are read key by key, more than one at a time: a screen with a keyboard and a serial line.
//!
//! Why here: raw mode is an ioctl of the machine's. No terminfo and no controlling terminal: an initrd has neither.
//! Route in: `/dev/tty1`, `/dev/ttyS0`, a pseudo-terminal. Route out: [`Terminal`]; [`crate::fakes::FakeTerminal`] in tests.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::termios::{self, ControlModes, OptionalActions, Termios};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// What a program that draws screens needs of a terminal. Reading and writing may continue at the same time.
pub trait Terminal: Send + Sync {
    /// Bytes that were typed, at most as many as fit; none when nothing came within `patience`.
    fn read(&self, bytes: &mut [u8], patience: Duration) -> io::Result<usize>;
    /// Shows `bytes`, all of them.
    fn write(&self, bytes: &[u8]) -> io::Result<()>;
    /// Columns and rows, where the kernel knows them: a serial line has none.
    fn size(&self) -> Option<(u16, u16)>;
}

/// A terminal of this machine in raw mode; dropping it gives it back as it was.
#[derive(Debug)]
pub struct Tty {
    file: File,
    before: Termios,
}

impl Tty {
    /// Opens the terminal at `path`; a serial line without anyone at its other end does not hold up the opening.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let file =
            File::options().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
        let before = termios::tcgetattr(&file)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Three wires are enough: a line without a carrier signal is read all the same.
        raw.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        termios::tcsetattr(&file, OptionalActions::Now, &raw)?;
        Ok(Self { file, before })
    }
}

impl Terminal for Tty {
    fn read(&self, bytes: &mut [u8], patience: Duration) -> io::Result<usize> {
        let mut ready = [PollFd::new(&self.file, PollFlags::IN)];
        let patience = rustix::event::Timespec {
            tv_sec: patience.as_secs().cast_signed(),
            tv_nsec: patience.subsec_nanos().into(),
        };
        match poll(&mut ready, Some(&patience)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(0),
            other => other?,
        };
        match (&self.file).read(bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()), // it was hung up
            length => Ok(length),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes)
    }

    fn size(&self) -> Option<(u16, u16)> {
        let size = termios::tcgetwinsize(&self.file).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // A terminal that went away needs nothing.
        let _ = termios::tcsetattr(&self.file, OptionalActions::Now, &self.before);
    }
}

/// From now on the kernel writes only what ends the machine to its consoles: a screen that is drawn stays whole.
pub fn quiet_kernel() -> io::Result<()> {
    std::fs::write("/proc/sys/kernel/printk", "1\n")
}
