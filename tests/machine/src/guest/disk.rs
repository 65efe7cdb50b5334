//! The guest's raw disk: GRUB before the first partition, one ext4 partition with kernel and RAM disk.
//!
//! Route in: boot files. Route out: a file that any BIOS boots. Only files are written: no loop device, no mount.

use super::rootfs::BootFiles;
use super::{GuestError, fresh_folder, grub, program, read, write};
use crate::Tools;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What GRUB does.
pub(super) const GRUB_CFG: &str = include_str!("../../guest/grub.cfg");

const SECTOR: u64 = 512;
/// The partition begins here, as everywhere since disks have 4 KiB sectors.
const PARTITION_START: u64 = 1 << 20;
/// Kernel 12 MB, RAM disk 4 MB, journal 4 MB, and room for a test to write.
const PARTITION_SIZE: u64 = 47 << 20;

/// `grub-mkimage` reads the modules it links; `early.cfg` finds the settings on the partition.
const MODULES: &str =
    "biosdisk part_msdos ext2 normal configfile linux serial terminal echo test reboot halt";

pub(super) fn build(tools: &Tools, work: &Path, files: &BootFiles, out: &Path) -> Result<(), GuestError> {
    let root = work.join("disk");
    fresh_folder(&root.join("grub"))?;
    write(&root.join("vmlinuz"), &files.kernel, "kernel")?;
    write(&root.join("initrd"), &files.initrd, "RAM disk")?;
    write(&root.join("grub/grub.cfg"), GRUB_CFG.as_bytes(), "GRUB's settings")?;
    let core = work.join("core.img");
    grub::link(tools, "(hd0,msdos1)/grub", None, MODULES, &core)?;
    let partition = work.join("partition.img");
    let partition_file = std::fs::File::create(&partition).and_then(|file| file.set_len(PARTITION_SIZE));
    partition_file.map_err(|source| GuestError::File {
        step: "partition",
        path: partition.clone(),
        source,
    })?;
    // Without features that GRUB 2.12 cannot read.
    let mkfs = tools
        .command("usr/sbin/mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-L", "guest", "-O", "^64bit,^metadata_csum_seed,^orphan_file"])
        .args(["-J", "size=4", "-E", "root_owner=0:0", "-d"])
        .arg(&root)
        .arg(&partition)
        .env("MKE2FS_CONFIG", tools.file("etc/mke2fs.conf"));
    program("its file system cannot be made", &mkfs)?;

    let mut boot = read(&tools.file("usr/lib/grub/i386-pc/boot.img"), "GRUB's first sector")?;
    let mut core = read(&core, "GRUB")?;
    prepare(&mut boot, &mut core);
    let temporary = out.with_extension("new");
    let assembled = || -> io::Result<()> {
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let disk = std::fs::File::create(&temporary)?;
        disk.set_len(PARTITION_START + PARTITION_SIZE)?;
        disk.write_all_at(&boot, 0)?;
        disk.write_all_at(&core, SECTOR)?;
        copy_sparsely(&std::fs::read(&partition)?, &disk, PARTITION_START)?;
        std::fs::rename(&temporary, out)
    };
    assembled().map_err(|source| GuestError::File {
        step: "it cannot be written",
        path: out.to_owned(),
        source,
    })
}

/// Writes what `grub-bios-setup` would: where the rest of GRUB lies, and a partition table.
fn prepare(boot: &mut [u8], core: &mut Vec<u8>) {
    core.resize(core.len().next_multiple_of(SECTOR as usize), 0);
    let sectors = (core.len() as u64 / SECTOR) as u16;
    boot[0x5c..0x64].copy_from_slice(&1u64.to_le_bytes()); // core.img's first sector
    boot[0x64] = 0xff; // boot drive: the one BIOS names
    boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]); // trust that name
    core[0x1f4..0x1fc].copy_from_slice(&2u64.to_le_bytes()); // the rest of core.img
    core[0x1fc..0x1fe].copy_from_slice(&(sectors - 1).to_le_bytes());
    // One active Linux partition, where GRUB has code for floppy disks; CHS fields say "use LBA".
    boot[0x1be..0x1fe].fill(0);
    let entry = &mut boot[0x1be..0x1ce];
    entry.copy_from_slice(&[0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    entry[8..12].copy_from_slice(&((PARTITION_START / SECTOR) as u32).to_le_bytes());
    entry[12..16].copy_from_slice(&((PARTITION_SIZE / SECTOR) as u32).to_le_bytes());
    boot[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
}

/// Blocks of zeros stay holes.
fn copy_sparsely(bytes: &[u8], disk: &std::fs::File, start: u64) -> io::Result<()> {
    const BLOCK: usize = 4096;
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        if block.iter().any(|&byte| byte != 0) {
            disk.write_all_at(block, start + (index * BLOCK) as u64)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sector_names_the_rest_of_grub_and_an_active_partition() {
        let (mut boot, mut core) = (vec![7; 512], vec![0; 1300]);
        prepare(&mut boot, &mut core);
        assert_eq!(core.len(), 1536);
        assert_eq!(core[0x1fc..0x1fe], [2, 0], "two sectors follow core.img's first");
        assert_eq!((boot[0x1be], boot[0x1c2]), (0x80, 0x83));
        assert_eq!(boot[0x1c6..0x1ca], 2048u32.to_le_bytes());
        assert!(boot[0x1ce..0x1fe].iter().all(|&byte| byte == 0), "no other partition");
        assert_eq!(boot[0x1fe..], [0x55, 0xaa]);
    }
}
