//! The partition table: what lies where on the boot disk.
//!
//! Why so large: no update ever rewrites this table, so slots and the boot partition have room to grow for years.
//! Route in: size and sector size of a disk, the UUID of this installation. Route out: [`Layout`].

use super::Range;
use crate::inventory::{Older, with_number};
use serde::Serialize;
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Start of every partition in bytes: suits the pages of flash and the stripes of arrays.
pub const ALIGNMENT: u64 = MIB;
/// Smallest disk in bytes: what is sold as 16 GB.
pub const MIN_DISK: u64 = 16_000_000_000;
/// Bounds of the state partition in bytes: logs and etcd need the one, nothing of it needs more than the other.
const STATE: (u64, u64) = (2 * GIB, 32 * GIB);
/// Bounds of the data partition in bytes, where the config names no size: room for one small image and a VM's disk, and
/// for a shelf of images; volumes are in the pool.
const DATA: (u64, u64) = (GIB, 64 * GIB);
/// Smallest partition for the pool in bytes: with less there is none, and data has it.
const MIN_POOL: u64 = GIB;
/// Attribute bit by which systemd leaves a partition alone when it mounts by itself.
const NO_AUTO: u64 = 1 << 63;

const BIOS_BOOT: Uuid = Uuid::from_u128(0x21686148_6449_6e6f_744e_656564454649);
const EFI_SYSTEM: Uuid = Uuid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
const ROOT_VERITY: Uuid = Uuid::from_u128(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5);
const ROOT: Uuid = Uuid::from_u128(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
const ROOT_SIGNATURE: Uuid = Uuid::from_u128(0x41092b05_9fc8_4523_994f_2def0408b176);
const LVM: Uuid = Uuid::from_u128(0xe6d6d379_f507_44c2_a23c_238f2a3df928);
const LINUX: Uuid = Uuid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);

/// Partitions, numbered from 1 in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // the names say it
pub enum Role {
    Bios = 1,
    Esp,
    VerityA,
    VerityB,
    RootA,
    RootB,
    SigA,
    SigB,
    State,
    Data,
    /// The pool `default`, which the agent makes; not on every disk.
    Pool,
}

/// Role, name, type, attributes and length in bytes of those with a fixed length.
const FIXED: [(Role, &str, Uuid, u64, u64); 8] = [
    (Role::Bios, "bios", BIOS_BOOT, 0, MIB),
    (Role::Esp, "esp", EFI_SYSTEM, 0, 2 * GIB),
    (Role::VerityA, "verity-a", ROOT_VERITY, NO_AUTO, 64 * MIB),
    (Role::VerityB, "verity-b", ROOT_VERITY, NO_AUTO, 64 * MIB),
    (Role::RootA, "root-a", ROOT, NO_AUTO, 4 * GIB),
    (Role::RootB, "root-b", ROOT, NO_AUTO, 4 * GIB),
    (Role::SigA, "sig-a", ROOT_SIGNATURE, NO_AUTO, MIB),
    (Role::SigB, "sig-b", ROOT_SIGNATURE, NO_AUTO, MIB),
];

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// Its number.
    pub number: u8,
    /// Its name in the table.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Uuid,
    /// Its own UUID: that of the installation, the last byte replaced by its number.
    pub uuid: Uuid,
    /// Attribute bits.
    pub attributes: u64,
    /// First byte on the disk.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
}

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layout {
    /// UUID of the disk: that of the installation, the last byte 0.
    pub id: Uuid,
    /// Length of the disk in bytes.
    pub disk_size: u64,
    /// Length of a sector in bytes.
    pub sector_size: u64,
    /// All partitions by number.
    pub partitions: Vec<Partition>,
}

/// Why a disk cannot hold the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// Smaller than [`MIN_DISK`].
    TooSmall,
    /// Its sectors are of a size that no disk of today has.
    SectorSize(u64),
    /// The state partition leaves no room for data: the largest that does, in bytes.
    State(u64),
    /// There is no room for a data partition of the size asked for: the largest that there is room for, in bytes.
    Data(u64),
}

impl Layout {
    /// The table of a disk of `disk_size` bytes with sectors of `sector_size` bytes.
    pub fn of(disk_size: u64, sector_size: u64, id: Uuid) -> Result<Self, LayoutError> {
        Self::with_sizes(disk_size, sector_size, id, None, None)
    }

    /// The same, with a state partition of `state` bytes, and one for data of `data` bytes.
    pub fn with_sizes(
        disk_size: u64,
        sector_size: u64,
        id: Uuid,
        state: Option<u64>,
        data: Option<u64>,
    ) -> Result<Self, LayoutError> {
        if sector_size != 512 && sector_size != 4096 {
            return Err(LayoutError::SectorSize(sector_size));
        }
        if disk_size < MIN_DISK {
            return Err(LayoutError::TooSmall);
        }
        let mut layout = Self { id: with_number(id, 0), disk_size, sector_size, partitions: Vec::new() };
        for (role, name, kind, attributes, size) in FIXED {
            layout.append(role, name, kind, attributes, size);
        }
        let left = layout.tail().offset - layout.end();
        let largest = left.saturating_sub(data.unwrap_or(DATA.0)) / ALIGNMENT * ALIGNMENT;
        if state.is_some_and(|state| state > largest) {
            return Err(LayoutError::State(largest));
        }
        let state = state.unwrap_or((left / 4).clamp(STATE.0, STATE.1) / ALIGNMENT * ALIGNMENT);
        layout.append(Role::State, "state", LINUX, 0, state);
        let left = left - state;
        if data.is_some_and(|data| data > left) {
            return Err(LayoutError::Data(left));
        }
        let data = data.unwrap_or((left / 4).clamp(DATA.0, DATA.1) / ALIGNMENT * ALIGNMENT);
        let pool = left - data;
        if pool < MIN_POOL {
            layout.append(Role::Data, "data", LINUX, 0, left);
        } else {
            layout.append(Role::Data, "data", LINUX, 0, data);
            layout.append(Role::Pool, "pool", LVM, 0, pool);
        }
        Ok(layout)
    }

    /// The table of an older installation, kept as it is; or what differs from a table of today.
    pub fn kept(older: &Older, disk_size: u64, sector_size: u64) -> Result<Self, String> {
        let mut layout = Self { id: older.id, disk_size, sector_size, partitions: Vec::new() };
        let fixed =
            FIXED.map(|(role, name, kind, attributes, size)| (role, name, kind, attributes, Some(size)));
        let rest = [
            (Role::State, "state", LINUX, 0, None),
            (Role::Data, "data", LINUX, 0, None),
            // Not in tables of before there were pools, nor on small disks.
            (Role::Pool, "pool", LVM, 0, None),
        ];
        let all = fixed.len() + rest.len();
        if older.partitions.len() != all && older.partitions.len() != all - 1 {
            return Err(format!(
                "it has {} partitions instead of {} or {all}",
                older.partitions.len(),
                all - 1
            ));
        }
        for ((role, name, kind, attributes, size), old) in
            fixed.into_iter().chain(rest).zip(&older.partitions)
        {
            if (old.number, old.name.as_str(), old.kind) != (role as u8, name, kind) {
                return Err(format!("its partition {} is not {name}", old.number));
            }
            if size.is_some_and(|size| size != old.size) || old.offset != layout.end() {
                return Err(format!("its partition {name} has another place or size"));
            }
            layout.append(role, name, kind, attributes, old.size);
        }
        match layout.end() <= layout.tail().offset {
            true => Ok(layout),
            false => Err("its last partition reaches into the end of the disk".into()),
        }
    }

    fn append(&mut self, role: Role, name: &str, kind: Uuid, attributes: u64, size: u64) {
        let number = role as u8;
        let partition = Partition {
            role,
            number,
            name: name.into(),
            kind,
            uuid: with_number(self.id, number),
            attributes,
            offset: self.end(),
            size,
        };
        self.partitions.push(partition);
    }

    /// Where the next partition would start.
    fn end(&self) -> u64 {
        self.partitions.last().map_or(ALIGNMENT, |last| last.offset + last.size)
    }

    /// The end of the disk that no partition uses: at least 1 MiB, for the backup table and for metadata that
    /// volume managers and arrays keep there.
    pub fn tail(&self) -> Range {
        let offset = (self.disk_size - ALIGNMENT) / ALIGNMENT * ALIGNMENT;
        Range { offset, length: self.disk_size - offset }
    }

    /// The partition of `role`; that of the pool is asked for by [`Layout::pool`].
    pub fn partition(&self, role: Role) -> &Partition {
        &self.partitions[role as usize - 1]
    }

    /// The partition of the pool, if there is one.
    pub fn pool(&self) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.role == Role::Pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x6b1f7a3e_93c2_4d55_8f10_0123456789ff);

    fn sizes(disk: u64, sector: u64) -> Vec<(String, u64)> {
        let layout = Layout::of(disk, sector, ID).unwrap();
        layout.partitions.iter().map(|p| (p.name.clone(), p.size / MIB)).collect()
    }

    #[test]
    fn the_smallest_disk_gets_two_gib_of_state_one_of_data_and_the_rest_as_pool() {
        let sizes = sizes(MIN_DISK, 512);
        assert_eq!(sizes[8..], [("state".into(), 2048), ("data".into(), 1024), ("pool".into(), 1813)]);
    }

    #[test]
    fn a_large_disk_gets_no_more_than_32_gib_of_state() {
        assert_eq!(
            sizes(4_000_787_030_016, 4096)[8..10],
            [("state".into(), 32 * 1024), ("data".into(), 64 * 1024)]
        );
    }

    #[test]
    fn a_data_partition_can_be_given_a_size_and_has_all_where_less_than_one_gib_would_be_left() {
        let layout = Layout::with_sizes(64 << 30, 512, ID, None, Some(20 << 30)).unwrap();
        assert_eq!(layout.partition(Role::Data).size, 20 << 30);
        assert_eq!(layout.pool().unwrap().kind.to_string(), "e6d6d379-f507-44c2-a23c-238f2a3df928");
        let left = layout.partition(Role::Data).size + layout.pool().unwrap().size;
        let all = Layout::with_sizes(64 << 30, 512, ID, None, Some(left - GIB + MIB)).unwrap();
        assert_eq!((all.partition(Role::Data).size, all.pool()), (left, None));
        assert_eq!(
            Layout::with_sizes(64 << 30, 512, ID, None, Some(left + MIB)),
            Err(LayoutError::Data(left))
        );
    }

    #[test]
    fn a_disk_between_gets_a_quarter_of_what_is_left() {
        assert_eq!(sizes(64 << 30, 512)[8], ("state".into(), (64 * 1024 - 1 - 10371 - 1) / 4));
    }

    #[test]
    fn a_state_partition_can_be_given_a_size_that_leaves_room_for_data() {
        let layout = Layout::with_sizes(64 << 30, 512, ID, Some(20 << 30), None).unwrap();
        assert_eq!(layout.partition(Role::State).size, 20 << 30);
        let left = (64 * 1024 - 1 - 10371 - 1) * MIB;
        assert_eq!(
            Layout::with_sizes(64 << 30, 512, ID, Some(60 << 30), None),
            Err(LayoutError::State(left - GIB))
        );
    }

    #[test]
    fn partitions_are_aligned_touch_each_other_and_leave_both_ends_free() {
        for (disk, sector) in [(MIN_DISK, 512), (MIN_DISK + 4096 * 77, 4096), (500_107_862_016, 512)] {
            let layout = Layout::of(disk, sector, ID).unwrap();
            let mut end = ALIGNMENT;
            for partition in &layout.partitions {
                assert_eq!(partition.offset, end);
                assert!(partition.offset.is_multiple_of(ALIGNMENT) && partition.size > 0);
                end += partition.size;
            }
            assert_eq!(end, layout.tail().offset);
            assert!(layout.tail().length >= ALIGNMENT);
            assert_eq!(layout.tail().offset + layout.tail().length, disk);
        }
    }

    #[test]
    fn every_uuid_ends_in_the_number_of_its_partition() {
        let layout = Layout::of(MIN_DISK, 512, ID).unwrap();
        assert_eq!(layout.id.to_string(), "6b1f7a3e-93c2-4d55-8f10-012345678900");
        assert_eq!(layout.partition(Role::Esp).uuid.to_string(), "6b1f7a3e-93c2-4d55-8f10-012345678902");
        assert_eq!(layout.partition(Role::Data).uuid.to_string(), "6b1f7a3e-93c2-4d55-8f10-01234567890a");
    }

    #[test]
    fn slots_are_not_mounted_by_themselves() {
        let layout = Layout::of(MIN_DISK, 512, ID).unwrap();
        let marked: Vec<_> =
            layout.partitions.iter().filter(|p| p.attributes == NO_AUTO).map(|p| p.number).collect();
        assert_eq!(marked, [3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn small_disks_and_odd_sectors_are_refused() {
        assert_eq!(Layout::of(MIN_DISK - 512, 512, ID), Err(LayoutError::TooSmall));
        assert_eq!(Layout::of(MIN_DISK, 520, ID), Err(LayoutError::SectorSize(520)));
    }
}
