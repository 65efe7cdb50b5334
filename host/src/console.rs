//! Screens and serial lines that a program without a terminal of its own speaks to.
//!
//! Route in: `/dev/tty1`, `/dev/ttyS0`. Route out: a [`Console`] to write to and what suits it.

use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// One screen, serial line or file.
pub struct Console {
    out: Box<dyn Write + Send>,
    rewritable: bool,
}

impl Console {
    /// Opens the console at `path`; a serial line without anyone at its other end does not hold up the opening.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = File::options().write(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
        let rewritable = file.is_terminal() && is_screen(path);
        Ok(Self { out: Box::new(file), rewritable })
    }

    /// Standard output of this program.
    pub fn stdout() -> Self {
        Self { rewritable: io::stdout().is_terminal(), out: Box::new(io::stdout()) }
    }

    /// A console that is kept elsewhere: tests, logs.
    pub fn of(out: Box<dyn Write + Send>, rewritable: bool) -> Self {
        Self { out, rewritable }
    }

    /// Whether a line can be written over: a screen, where a log of a serial line would fill with repetition.
    pub fn rewritable(&self) -> bool {
        self.rewritable
    }

    /// Says `text`. A console that went away is no reason to stop what we do.
    pub fn say(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// Virtual consoles are `tty` and a number; everything else that is a terminal may be a recorded serial line.
fn is_screen(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("tty").is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_console_is_a_screen_and_a_serial_line_is_not() {
        assert!(is_screen(Path::new("/dev/tty1")));
        assert!(!is_screen(Path::new("/dev/ttyS0")));
        assert!(!is_screen(Path::new("/dev/hvc0")));
    }
}
