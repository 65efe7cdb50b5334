//! The mark by which a node resets itself at its next start, before anything mounts its state.
//!
//! Why a mark: a node that runs cannot erase what it runs on, and a power cut in the middle must find the order again. It is written
//! whole and with its checksum, so that a torn one is none, and removed when everything is done. It holds node.toml, if that is kept:
//! the state partition is overwritten meanwhile. Route in: who asks (`sheaf-agent reset`, the recovery, an agent whose node leaves).
//! Route out: [`Mark`], for `sheaf-agent reset-at-boot`.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sheaf_host::disk::{Disk, DiskError};
use std::path::PathBuf;

/// Where it is in the partition, in bytes; the initrd reads from there (`os-image/image/dracut/node/90sheaf/sheaf-state.sh`).
pub const OFFSET: u64 = 512 << 10;
/// Bytes that are set aside for it. A node.toml has a few KiB.
pub const LONGEST: usize = 256 << 10;
/// Its first line begins with this; length and SHA-256 of what follows the line come next.
const HEAD: &str = "SHEAF-RESET 1 ";
/// Whole blocks are written, so that nothing of a former mark is left behind a shorter one.
const BLOCK: usize = 4096;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// UUID of the installation: one that an older installation left behind does not count.
    pub install: String,
    /// The node's name; its pools are those that carry it.
    pub node: String,
    /// Its pools are erased, too.
    pub pools: bool,
    /// node.toml as it is kept; none: it is erased.
    pub config: Option<String>,
}

/// Why a mark is not there, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The partition.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It has no room for node.toml.
    #[error(
        "node.toml has {0} bytes, and a reset keeps {LONGEST} at most; make it shorter, or do not keep it"
    )]
    TooLong(usize),
    /// The disk does not keep what is written.
    #[error("{}: the mark differs from what was written when it is read back; the boot disk may be failing", .0.display())]
    ReadBack(PathBuf),
}

/// Marks the node on `disk`, the partition of records: it is reset at its next start. On the disk when this returns.
pub fn write(disk: &dyn Disk, mark: &Mark) -> Result<(), MarkError> {
    let text = serde_json::json!(mark).to_string();
    let mut bytes =
        format!("{HEAD}{} {}\n{text}", text.len(), hex::encode(Sha256::digest(&text))).into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    if bytes.len() > LONGEST {
        return Err(MarkError::TooLong(mark.config.as_ref().map_or(0, String::len)));
    }
    disk.write_at(OFFSET, &bytes)?;
    disk.sync()?;
    match read(disk)?.as_ref() == Some(mark) {
        true => Ok(()),
        false => Err(MarkError::ReadBack(disk.path().to_owned())),
    }
}

/// The mark on `disk`; none where there is none, or one that was not written to its end.
pub fn read(disk: &dyn Disk) -> Result<Option<Mark>, DiskError> {
    let mut bytes = vec![0; LONGEST];
    disk.read_at(OFFSET, &mut bytes)?;
    Ok(parse(&bytes))
}

fn parse(bytes: &[u8]) -> Option<Mark> {
    let rest = bytes.strip_prefix(HEAD.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (length, hash) = std::str::from_utf8(&rest[..end]).ok()?.split_once(' ')?;
    let text = rest.get(end + 1..)?.get(..length.parse().ok()?)?;
    (hex::encode(Sha256::digest(text)) == hash).then(|| serde_json::from_slice(text).ok())?
}

/// Removes the mark: first what it says, which may hold secrets of node.toml, then that it is one.
pub fn clear(disk: &dyn Disk) -> Result<(), DiskError> {
    let zeros = vec![0; LONGEST - BLOCK];
    disk.write_at(OFFSET + BLOCK as u64, &zeros)?;
    disk.sync()?;
    disk.write_at(OFFSET, &zeros[..BLOCK])?;
    disk.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::disk::RawDisk;
    use sheaf_host::fakes::{Fault, Faults};

    fn mark(config: Option<&str>) -> Mark {
        let config = config.map(str::to_owned);
        Mark { install: "6b1f7a3e".into(), node: "n1".into(), pools: true, config }
    }

    fn partition() -> (tempfile::NamedTempFile, Box<RawDisk>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let disk = RawDisk::open(file.path()).unwrap();
        (file, Box::new(disk))
    }

    #[test]
    fn a_mark_is_read_back_with_its_node_toml_and_nothing_of_it_is_left_when_it_is_removed() {
        let (file, disk) = partition();
        assert_eq!(read(&*disk).unwrap(), None);
        let long = "# ".repeat(40_000);
        for mark in [mark(Some(&long)), mark(Some("version = 1\n")), mark(None)] {
            write(&*disk, &mark).unwrap();
            assert_eq!(read(&*disk).unwrap(), Some(mark));
        }
        write(&*disk, &mark(Some(&long))).unwrap();
        clear(&*disk).unwrap();
        assert_eq!(read(&*disk).unwrap(), None);
        assert!(std::fs::read(file.path()).unwrap().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_the_initrd_looks_for_is_at_the_beginning_of_a_line() {
        let (file, disk) = partition();
        write(&*disk, &mark(None)).unwrap();
        // dd bs=4096 skip=128 count=1
        assert!(std::fs::read(file.path()).unwrap()[128 * 4096..].starts_with(b"SHEAF-RESET "));
    }

    #[test]
    fn a_mark_that_was_not_written_to_its_end_is_none() {
        let text = "# ".repeat(40_000);
        let (_file, disk) = partition();
        let faults = Faults::at(0, Fault::NoSpace);
        let torn = faults.disk(disk);
        write(&*torn, &mark(Some(&text))).unwrap_err();
        assert!(faults.was_hit());
        assert_eq!(read(&*torn).unwrap(), None);
    }

    #[test]
    fn a_mark_that_is_half_removed_is_none() {
        let (file, disk) = partition();
        write(&*disk, &mark(Some(&"# ".repeat(40_000)))).unwrap();
        // The first write, the flush after it, the second write.
        for call in [1, 2] {
            let faults = Faults::at(call, Fault::Io);
            let disk = faults.disk(Box::new(RawDisk::open(file.path()).unwrap()));
            clear(&*disk).unwrap_err();
            assert_eq!(read(&*disk).unwrap(), None, "{call}");
        }
    }

    #[test]
    fn a_node_toml_that_has_no_room_is_refused_with_what_to_do() {
        let (_file, disk) = partition();
        let error = write(&*disk, &mark(Some(&"x".repeat(LONGEST)))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node.toml has 262144 bytes, and a reset keeps 262144 at most; make it shorter, or do not keep it"
        );
        assert_eq!(read(&*disk).unwrap(), None);
    }

    #[test]
    fn whatever_else_is_in_the_partition_is_no_mark() {
        let text = serde_json::json!(mark(None)).to_string();
        let hash = hex::encode(Sha256::digest(&text));
        assert_eq!(parse(format!("{HEAD}{} {hash}\n{text}", text.len()).as_bytes()), Some(mark(None)));
        for wrong in [
            String::new(),
            HEAD.to_owned(),
            format!("{HEAD}{} {hash}\n", text.len()),
            format!("{HEAD}99999999999999999999999 {hash}\n{text}"),
            format!("{HEAD}{} {hash}\n{}", text.len(), text.replace("n1", "n2")),
            format!("{HEAD}2 {}\n{{}}", hex::encode(Sha256::digest("{}"))),
            format!("SHEAF-RESET 2 {} {hash}\n{text}", text.len()),
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
