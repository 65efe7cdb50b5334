//! How many boots in a row began and were not found to work: a kernel that dies after its initrd leaves no other trace.
//!
//! Why here: the initrd counts (`os-image/image/dracut/node/90sheaf/count-boot.sh`) before the root is mounted, and gives the release
//! up at [`MOST`]; the agent forgets the count. One sector, which a disk writes whole. Route in: the partition of records. Route out:
//! [`Boots`].

use sheaf_host::disk::{Disk, DiskError};

/// Where the sector is in the partition, in bytes.
pub const OFFSET: u64 = (1 << 20) - 4096;
/// So many boots of a release in a row are not found to work before it is given up: as many as the boot loaders give a new one.
pub const MOST: u32 = crate::boot::TRIES;
/// Bytes of a sector.
const SECTOR: usize = 512;
/// It begins with this; root hash of the release and count come next.
const HEAD: &str = "SHEAF-BOOTS 1 ";

/// The count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boots {
    /// Root hash of the release that was started.
    pub root_hash: String,
    /// Boots of it in a row, this one included.
    pub count: u32,
}

/// The count on `disk`, the partition of records; none where nothing is counted.
pub fn read(disk: &dyn Disk) -> Result<Option<Boots>, DiskError> {
    let mut sector = [0; SECTOR];
    disk.read_at(OFFSET, &mut sector)?;
    Ok(parse(&sector))
}

fn parse(sector: &[u8]) -> Option<Boots> {
    let text = sector.strip_prefix(HEAD.as_bytes())?.split(|byte| *byte == b'\n').next()?;
    let (root_hash, count) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    let is_hash = !root_hash.is_empty() && root_hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let count = count.parse().ok().filter(|_| is_hash)?;
    Some(Boots { root_hash: root_hash.to_owned(), count })
}

/// Forgets the count: this boot works. Nothing is written where nothing is counted.
pub fn clear(disk: &dyn Disk) -> Result<(), DiskError> {
    let mut sector = [0; SECTOR];
    disk.read_at(OFFSET, &mut sector)?;
    if sector == [0; SECTOR] {
        return Ok(());
    }
    disk.write_at(OFFSET, &[0; SECTOR])?;
    disk.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::disk::RawDisk;
    use sheaf_host::fakes::Faults;

    #[test]
    fn a_count_is_read_and_forgotten_by_one_write_and_only_if_there_is_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![0; 1 << 20];
        let text = format!("{HEAD}00ff 2\n{}", "#".repeat(100));
        bytes[OFFSET as usize..][..text.len()].copy_from_slice(text.as_bytes());
        std::fs::write(file.path(), &bytes).unwrap();
        let faults = Faults::default();
        let disk = faults.disk(Box::new(RawDisk::open(file.path()).unwrap()));
        assert_eq!(read(&*disk).unwrap(), Some(Boots { root_hash: "00ff".into(), count: 2 }));
        clear(&*disk).unwrap();
        assert_eq!(read(&*disk).unwrap(), None);
        clear(&*disk).unwrap();
        let calls = faults.calls();
        assert_eq!(calls.iter().filter(|call| call.starts_with("write ")).count(), 1, "{calls:?}");
    }

    #[test]
    fn whatever_else_is_in_the_sector_is_no_count() {
        assert_eq!(parse(b"SHEAF-BOOTS 1 0a 3\n###").unwrap().count, 3);
        for wrong in [
            "",
            "SHEAF-BOOTS 1 ",
            "SHEAF-BOOTS 1 0a\n",
            "SHEAF-BOOTS 1 x 3\n",
            "SHEAF-BOOTS 1 0a -1\n",
            "SHEAF-BOOTS 2 0a 3\n",
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
