//! Records of a few sectors that the agent, the recovery and the initrd of a node leave for one another.
//!
//! Why a partition and no file system: the initrd reads and writes them before it mounts anything, with `dd`; one sector is written
//! whole or not at all; and they outlast the state partition. `sig-a` is one MiB of zeros since the installation; its first half is
//! left to the signature of a root. Route in: the UUID of an installation. Route out: where the partition is, what is in it.
//! docs/decisions/0047 and 0048 say why.

pub mod boots;
pub mod reset;

use std::path::{Path, PathBuf};

/// Number of the partition, `sig-a`.
pub const PARTITION: u8 = 7;
/// Number of the state partition.
pub const STATE: u8 = 9;
/// Number of the data partition.
pub const DATA: u8 = 10;

/// Where partition `number` of the installation `install` is; `devices` is `/dev/disk/by-partuuid`. None for what is no UUID: names
/// of partitions are that of the installation with their number as the last byte.
pub fn partition(devices: &Path, install: &str, number: u8) -> Option<PathBuf> {
    let is_uuid = install.len() == 36 && install.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let stem = install.get(..34).filter(|_| is_uuid)?.to_lowercase();
    Some(devices.join(format!("{stem}{number:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_by_the_installation_and_their_number() {
        let of = |install| partition(Path::new("/by"), install, DATA);
        let data = Path::new("/by/6b1f7a3e-93c2-4d55-8f10-01234567890a");
        assert_eq!(of("6B1F7A3E-93C2-4D55-8F10-012345678900").as_deref(), Some(data));
        for wrong in ["", "6b1f", "../../../etc/passwd/0123456789012345678"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
