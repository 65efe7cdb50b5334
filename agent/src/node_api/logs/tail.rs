//! Reads a console's log from some line on, block by block.
//!
//! Why here: the files' side of a log. virtlogd renames a full `console.log` to `console.log.0` and so on; older files come
//! first, and a file that is renamed while it is read is read to its end. Never more than a block is in memory. Route in: the
//! path and a number of lines. Route out: blocks.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Bytes of a block.
const BLOCK: usize = 32 << 10;
/// Most renamed files that are read: `max_backups` of virtlogd.conf.
const MOST_RENAMED: u32 = 3;

/// A log that is being read.
pub struct Tail {
    path: PathBuf,
    files: VecDeque<File>,
}

impl Tail {
    /// At the beginning of the last `lines` lines, or of everything.
    pub fn open(path: PathBuf, lines: Option<u64>) -> io::Result<Self> {
        let mut files = VecDeque::from([File::open(&path)?]);
        for number in 0..MOST_RENAMED {
            match File::open(renamed(&path, number)) {
                Ok(file) => files.push_front(file),
                Err(_) => break,
            }
        }
        if let Some(lines) = lines {
            keep_last(&mut files, lines)?;
        }
        Ok(Self { path, files })
    }

    /// The next block; `None` at the end, which may move.
    pub fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let is_last = self.files.len() == 1;
            let Some(file) = self.files.front_mut() else { return Ok(None) };
            let mut block = vec![0; BLOCK];
            let length = file.read(&mut block)?;
            if length > 0 {
                block.truncate(length);
                return Ok(Some(block));
            }
            // The last one stays, for what is still to come, unless it was renamed.
            if is_last {
                let held = file.metadata()?;
                match File::open(&self.path) {
                    Ok(now) if now.metadata()?.ino() != held.ino() => self.files.push_back(now),
                    _ => return Ok(None),
                }
                // Once more: something may have been written before it was renamed.
                continue;
            }
            self.files.pop_front();
        }
    }
}

fn renamed(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Moves to the beginning of the last `lines` lines; a last line without its end counts.
fn keep_last(files: &mut VecDeque<File>, lines: u64) -> io::Result<()> {
    // Ends of lines that must be passed, read backwards. The very last byte ends no further line.
    let mut wanted = lines.saturating_add(1);
    let mut is_last_byte = true;
    for index in (0..files.len()).rev() {
        let Some(file) = files.get_mut(index) else { break };
        let mut end = file.metadata()?.len();
        while end > 0 {
            let start = end.saturating_sub(BLOCK as u64);
            let mut block = vec![0; usize::try_from(end - start).unwrap_or(BLOCK)];
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut block)?;
            for (at, byte) in block.iter().enumerate().rev() {
                if is_last_byte {
                    is_last_byte = false;
                    if *byte != b'\n' {
                        wanted = wanted.saturating_sub(1);
                    }
                }
                if *byte == b'\n' {
                    wanted = wanted.saturating_sub(1);
                }
                if wanted == 0 {
                    file.seek(SeekFrom::Start(start + at as u64 + 1))?;
                    files.drain(..index);
                    return Ok(());
                }
            }
            end = start;
        }
        file.rewind()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("sheaf-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn all(tail: &mut Tail) -> String {
        let mut text = Vec::new();
        while let Some(block) = tail.next().unwrap() {
            text.extend(block);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_last_lines_are_counted_over_renamed_files_and_with_an_unfinished_line() {
        let dir = folder("lines");
        let log = dir.join("console.log");
        std::fs::write(dir.join("console.log.0"), "one\ntwo\n").unwrap();
        std::fs::write(&log, "three\nfour").unwrap();
        let last = |lines| all(&mut Tail::open(log.clone(), lines).unwrap());
        assert_eq!(last(None), "one\ntwo\nthree\nfour");
        assert_eq!(last(Some(0)), "");
        assert_eq!(last(Some(1)), "four");
        assert_eq!(last(Some(2)), "three\nfour");
        assert_eq!(last(Some(3)), "two\nthree\nfour");
        assert_eq!(last(Some(99)), "one\ntwo\nthree\nfour");
        std::fs::write(&log, "three\nfour\n").unwrap();
        assert_eq!(last(Some(1)), "four\n");
        std::fs::write(&log, format!("{}\nend\n", "x".repeat(BLOCK * 2))).unwrap();
        assert_eq!(last(Some(1)), "end\n");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_log_that_is_renamed_while_it_is_followed_goes_on_in_the_new_file() {
        let dir = folder("renamed");
        let log = dir.join("console.log");
        std::fs::write(&log, "old").unwrap();
        let mut tail = Tail::open(log.clone(), None).unwrap();
        assert_eq!(all(&mut tail), "old");
        let mut old = File::options().append(true).open(&log).unwrap();
        std::io::Write::write_all(&mut old, b"er").unwrap();
        std::fs::rename(&log, dir.join("console.log.0")).unwrap();
        assert_eq!(all(&mut tail), "er");
        std::fs::write(&log, "new").unwrap();
        assert_eq!(all(&mut tail), "new");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
