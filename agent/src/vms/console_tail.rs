//! The last lines of a VM's serial console, fit for a status.
//!
//! Route in: the console log. Route out: plain lines, without control sequences.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes read from the end of the log.
const READ: u64 = 4096;

/// Lines kept: a glance, not a log.
const LINES: usize = 10;

/// Last lines of the file `log`; nothing when it is empty.
pub fn read(log: &Path) -> Option<String> {
    let mut file = std::fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(READ))).ok()?;
    let mut bytes = Vec::new();
    file.take(READ).read_to_end(&mut bytes).ok()?;
    of(&bytes)
}

/// Last lines of `bytes`, which a guest printed.
pub fn of(bytes: &[u8]) -> Option<String> {
    let text = plain(&String::from_utf8_lossy(bytes));
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
    (!tail.is_empty()).then_some(tail)
}

/// Without escape sequences and other control characters.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.peek() == Some(&'[') => {
                chars.next();
                // Parameters, up to the final letter.
                while chars.next().is_some_and(|c| !('\x40'..='\x7e').contains(&c)) {}
            }
            '\n' => plain.push('\n'),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_come_without_colours_and_blank_lines() {
        let log = std::env::temp_dir().join(format!("sheaf-tail-{}", std::process::id()));
        let text: String = (0..20).map(|n| format!("\x1b[0;32m line {n}\x1b[0m\r\n\r\n")).collect();
        std::fs::write(&log, text).unwrap();
        let tail = read(&log).unwrap();
        assert_eq!(tail.lines().collect::<Vec<_>>()[..2], [" line 10", " line 11"]);
        assert_eq!(tail.lines().count(), LINES);
        std::fs::remove_file(log).unwrap();
    }
}
