//! An ISO from which the guest is installed by hand: it asks on the screen, and is answered by keyboard.
//!
//! Why here: an installation by display and keyboard needs an installer that is small enough for two emulations and needs no
//! network. Debian's needs a mirror and an hour. This one boots from a CD by BIOS, asks for a disk and a name, copies the guest's
//! disk onto it and adds a partition: the acts of an installer. Route in: the guest's disk, from which kernel and RAM disk are taken.
//! Route out: an ISO; kernel, RAM disk, a second RAM disk with the installer, the disk's image compressed.

use super::cpio::Cpio;
use super::{GuestError, fresh_folder, grub, program, read, write};
use crate::Tools;
use sheaf_host::run::Command;
use std::path::Path;

const INITTAB: &str = "::sysinit:/etc/installer-rc\ntty1::respawn:/etc/installer\n";
const INSTALLER: &str = include_str!("../../guest/installer");
const RC: &str = include_str!("../../guest/installer-rc");
/// In text mode: characters are read off the screen.
const GRUB_CFG: &str = "set gfxpayload=text\nlinux /vmlinuz console=tty0 vga=normal quiet panic=10\n\
    initrd /initrd /installer.img\nboot\n";
/// What the image of a CD runs first.
const EARLY: &str = "search --no-floppy --set=root --file /installer.img\nset prefix=($root)/boot/grub\n\
    configfile /boot/grub/grub.cfg\n";
const MODULES: &str = "biosdisk iso9660 normal configfile search linux terminal echo reboot";
/// Where the guest's partition begins, in bytes.
const PARTITION_START: u64 = 1 << 20;

/// Makes the ISO at `out`; `calibration` are the lines that the installer shows first.
pub fn build(
    tools: &Tools,
    disk: &Path,
    calibration: &[&str],
    work: &Path,
    out: &Path,
) -> Result<(), GuestError> {
    let root = work.join("medium");
    fresh_folder(&root)?;
    std::fs::create_dir_all(root.join("boot/grub")).map_err(|source| GuestError::File {
        step: "its folder cannot be made",
        path: root.clone(),
        source,
    })?;
    // Kernel and RAM disk, out of the disk's file system.
    let bytes = read(disk, "the guest's disk")?;
    let partition = work.join("partition.img");
    let start = usize::try_from(PARTITION_START).unwrap_or(usize::MAX).min(bytes.len());
    write(&partition, &bytes[start..], "the guest's partition")?;
    for file in ["vmlinuz", "initrd"] {
        let dump = format!("dump /{file} {}", root.join(file).display());
        let debugfs = tools.command("usr/sbin/debugfs").args(["-R", &dump]).arg(&partition);
        program("its boot files cannot be read", &debugfs)?;
    }
    let mut cpio = Cpio::default();
    cpio.folder("etc");
    cpio.file("etc/inittab", 0o644, INITTAB.as_bytes());
    cpio.file("etc/installer-rc", 0o755, RC.as_bytes());
    cpio.file("etc/installer", 0o755, INSTALLER.as_bytes());
    cpio.file("etc/calibration", 0o644, format!("{}\n", calibration.join("\n")).as_bytes());
    // Where the rest of a disk begins.
    cpio.file("etc/guest-sectors", 0o644, format!("{}\n", bytes.len() / 512).as_bytes());
    write(&root.join("installer.img"), &cpio.finish(), "the installer")?;
    let packed = root.join("guest.gz");
    let gzip = Command::new("sh").args(["-c", "gzip -9 -n < \"$0\" > \"$1\""]).arg(disk).arg(&packed);
    program("its disk cannot be compressed", &gzip)?;

    write(&root.join("boot/grub/grub.cfg"), GRUB_CFG.as_bytes(), "GRUB's settings")?;
    let (early, core) = (work.join("early.cfg"), work.join("core.img"));
    write(&early, EARLY.as_bytes(), "GRUB's first settings")?;
    grub::link(tools, "/boot/grub", Some(&early), MODULES, &core)?;
    // What a BIOS loads from a CD: a sector that loads the rest.
    let mut image = read(&tools.file("usr/lib/grub/i386-pc/cdboot.img"), "GRUB's first sector")?;
    image.extend(read(&core, "GRUB")?);
    write(&root.join("boot/grub/eltorito.img"), &image, "GRUB's image")?;
    let xorriso = tools
        .command("usr/bin/xorriso")
        .args(["-as", "mkisofs", "-quiet", "-V", "GUEST-INSTALLER", "-J", "-r"])
        .args(["-b", "boot/grub/eltorito.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"])
        .args(["--grub2-boot-info", "-o"])
        .arg(out)
        .arg(&root);
    program("the ISO cannot be written", &xorriso)
}
