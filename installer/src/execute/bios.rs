//! GRUB for machines that start by BIOS: its core in the partition `bios`, its first sector in the MBR.
//!
//! Why both firmwares on every disk: a board may be replaced, or its firmware reset, without installing again.
//! The BIOS runs the MBR's code, which reads GRUB's core by its place on the disk; the places are written into both
//! here, as grub-install does. Route in: boot.img and core.img of the medium. Route out: the core on the disk, read
//! back; the code for the MBR, which [`super::table`] writes last.

use super::{Env, StepError};
use crate::plan::{MediumFile, Partition};
use sheaf_host::disk::{Buffer, Hold};
use std::fs;

/// Length of a BIOS sector in bytes.
const SECTOR: u64 = 512;
/// Length of the MBR's code in bytes; the disk's signature and the table follow.
pub(super) const CODE: usize = 440;

/// Of boot.img (GRUB's `GRUB_BOOT_MACHINE_KERNEL_SECTOR`): sector of the core, 8 bytes.
const KERNEL_SECTOR: usize = 0x5c;
/// Of boot.img (`GRUB_BOOT_MACHINE_BOOT_DRIVE`): 0xff means the drive that the BIOS says.
const BOOT_DRIVE: usize = 0x64;
/// Of boot.img (`GRUB_BOOT_MACHINE_DRIVE_CHECK`): a jump, without which a BIOS that says nonsense is corrected.
const DRIVE_CHECK: usize = 0x66;
/// Of core.img (`GRUB_BOOT_MACHINE_LIST_SIZE` before the end of its first sector): where the rest lies, as sector (8
/// bytes) and count (2 bytes).
const BLOCK_LIST: usize = 0x1f4;

/// Puts the core into its partition and reads it back.
pub(super) fn write_core(env: &Env<'_>, partition: &Partition, file: &MediumFile) -> Result<(), StepError> {
    let core = read(env, file)?;
    let core = core_at(&core, partition.offset / SECTOR)
        .filter(|core| core.len() as u64 <= partition.size)
        .ok_or_else(|| damaged(file, "it is not a core.img of GRUB that fits its partition"))?;
    // Whole pages: a direct transfer wants them.
    let mut page = Buffer::zeroed(core.len().next_multiple_of(4096));
    page[..core.len()].copy_from_slice(&core);
    env.disk.hold(Hold::Alone)?;
    env.disk.write_at(partition.offset, &page)?;
    env.disk.sync()?;
    let mut back = Buffer::zeroed(page.len());
    env.disk.read_at(partition.offset, &mut back)?;
    match back[..] == page[..] {
        true => Ok(()),
        false => {
            Err(StepError::ReadBack { disk: env.disk.path().to_owned(), what: "GRUB's core".to_owned() })
        }
    }
}

/// The MBR's code, which starts the core in `partition`.
pub(super) fn boot_code(
    env: &Env<'_>,
    partition: &Partition,
    file: &MediumFile,
) -> Result<[u8; CODE], StepError> {
    let boot = read(env, file)?;
    boot_for(&boot, partition.offset / SECTOR).ok_or_else(|| damaged(file, "it is not a boot.img of GRUB"))
}

fn read(env: &Env<'_>, file: &MediumFile) -> Result<Vec<u8>, StepError> {
    fs::read(env.medium.join(&file.file))
        .map_err(|source| StepError::MediumRead { file: file.file.clone(), source })
}

fn damaged(file: &MediumFile, what: &str) -> StepError {
    StepError::MediumDamaged { file: file.file.clone(), what: what.into() }
}

/// `core` as it lies on a disk from sector `first`.
fn core_at(core: &[u8], first: u64) -> Option<Vec<u8>> {
    let sectors = (core.len() as u64).div_ceil(SECTOR).checked_sub(1).filter(|rest| *rest > 0)?;
    let mut core = core.to_vec();
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(first + 1).to_le_bytes());
    core[BLOCK_LIST + 8..BLOCK_LIST + 10].copy_from_slice(&u16::try_from(sectors).ok()?.to_le_bytes());
    Some(core)
}

/// The code of `boot` for a core from sector `first`.
fn boot_for(boot: &[u8], first: u64) -> Option<[u8; CODE]> {
    let mut code: [u8; CODE] = boot.get(..CODE)?.try_into().ok()?;
    code[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&first.to_le_bytes());
    code[BOOT_DRIVE] = 0xff;
    // Two no-ops: not every BIOS leaves the drive's number where it belongs, and this disk is no floppy.
    code[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mbr_names_the_first_sector_of_the_core_and_the_core_that_of_its_rest() {
        let code = boot_for(&[0xcc; 512], 2048).unwrap();
        assert_eq!(code[KERNEL_SECTOR..KERNEL_SECTOR + 8], 2048u64.to_le_bytes());
        assert_eq!(
            (code[0x63], code[0x64], code[0x65], code[0x66], code[0x67], code[0x68]),
            (0, 0xff, 0xcc, 0x90, 0x90, 0xcc)
        );
        let core = core_at(&[0xcc; 512 * 3 + 1], 2048).unwrap();
        assert_eq!(core[BLOCK_LIST..BLOCK_LIST + 10], [1, 8, 0, 0, 0, 0, 0, 0, 3, 0]);
        assert_eq!((core.len(), core[BLOCK_LIST + 10]), (512 * 3 + 1, 0xcc));
    }

    #[test]
    fn files_that_are_too_short_are_refused() {
        assert_eq!(boot_for(&[0; 439], 2048), None);
        assert_eq!(core_at(&[0; 512], 2048), None);
    }
}
