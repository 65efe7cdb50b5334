//! A machine's serial line, read while it is being written.
//!
//! Why here: the serial line is what an operator sees of a machine without a screen, so cases wait for what is said
//! there. Route in: the file QEMU appends to. Route out: lines without escape sequences.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How many last lines an error shows.
const SHOWN_LINES: usize = 15;

/// The text of a serial line. A cursor moves forward as lines are waited for.
#[derive(Debug)]
pub struct SerialLog {
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
    lines: Vec<String>,
    cursor: usize,
}

impl SerialLog {
    /// Reads `path`, which need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), offset: 0, partial: Vec::new(), lines: Vec::new(), cursor: 0 }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything said so far.
    pub fn lines(&mut self) -> &[String] {
        self.read();
        &self.lines
    }

    /// The next line after the cursor that `wanted` turns into something; the cursor moves behind it.
    pub fn next<T>(&mut self, mut wanted: impl FnMut(&str) -> Option<T>) -> Option<T> {
        self.read();
        let start = self.cursor;
        let (at, found) = self.lines[start..]
            .iter()
            .enumerate()
            .find_map(|(at, line)| wanted(line).map(|found| (at, found)))?;
        self.cursor = start + at + 1;
        Some(found)
    }

    /// Puts the cursor behind everything said so far.
    pub fn skip_all(&mut self) {
        self.read();
        self.cursor = self.lines.len();
    }

    /// The last lines, for an error.
    pub fn tail(&mut self) -> String {
        self.read();
        let kept: Vec<&str> =
            self.lines.iter().map(String::as_str).filter(|line| !line.trim().is_empty()).collect();
        kept[kept.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    /// A file that cannot be read yet has said nothing.
    fn read(&mut self) {
        let mut fresh = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_to_end(&mut fresh)
        });
        self.offset += read.unwrap_or(0) as u64;
        self.partial.extend(fresh);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.lines.push(plain(&String::from_utf8_lossy(&line)));
        }
    }
}

/// `text` without carriage returns and terminal escape sequences (CSI and OSC).
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                Some(']') => while chars.next().is_some_and(|c| c != '\u{7}' && c != '\\') {},
                _ => {}
            },
            c if c.is_control() && c != '\t' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_come_without_colours_and_the_cursor_passes_each_once() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut serial = SerialLog::new(file.path());
        write!(file, "\u{1b}[0;32m  OK  \u{1b}[0m ready\r\nhalf a li").unwrap();
        let ready = |line: &str| line.contains("ready").then(|| line.to_owned());
        assert_eq!(serial.next(ready).as_deref(), Some("  OK   ready"));
        assert_eq!(serial.next(ready), None);
        writeln!(file, "ne, ready").unwrap();
        assert_eq!(serial.next(ready).as_deref(), Some("half a line, ready"));
    }
}
