//! GRUB on a medium, for machines that start by BIOS.
//!
//! Why GRUB: a BIOS can run neither a UKI nor read FAT; GRUB does both jobs with Debian's own modules, and takes kernel
//! and initrd out of the very UKI that UEFI runs, so a medium carries them once.
//! Route in: the installer's UKI as the manifest describes it. Route out: [`Bios`], and the parts of the command lines
//! that [`mod@crate::write`] puts together.

use crate::plan::{BOOT_PROGRAM, ESP};
use sheaf_config::grub;
use sheaf_config::manifest::Uki;
use sheaf_host::run::Command;

/// GRUB's images and modules for BIOS, in the tools chroot.
const PLATFORM: &str = "/usr/lib/grub/i386-pc";
/// Folder of GRUB on the medium.
const FOLDER: &str = "/boot/grub";
/// What a BIOS starts, on the medium.
const IMAGE: &str = "eltorito.img";
/// Name of the script that GRUB runs first, at work.
pub const EARLY: &str = "early.cfg";
/// Name of the script that starts the installer, at work.
pub const MENU: &str = "menu.cfg";

/// Modules of its image: both kinds of media, the UKI in the EFI system partition, screen and serial line.
const MODULES: &str = "biosdisk iso9660 part_gpt part_msdos fat normal configfile search loopback linux serial terminal echo sleep reboot";

/// What GRUB reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bios {
    /// Finds the medium.
    pub early: String,
    /// Starts the installer.
    pub menu: String,
    /// Path of the menu on the medium. It names the release, so that no other medium in the machine is taken for it.
    pub path: String,
}

/// Says what GRUB does with `uki`; `serial` names this very release.
pub fn plan(uki: &Uki, serial: &str) -> Bios {
    let path = format!("{FOLDER}/{serial}.cfg");
    let load = grub::load(uki, &format!("(esp){BOOT_PROGRAM}"), "");
    Bios {
        early: format!(
            "search --no-floppy --set=root --file {path}\nset prefix=($root){FOLDER}\nconfigfile {path}\n"
        ),
        menu: format!(
            "# Starts the installer on BIOS, out of the file that UEFI runs.\n\
             if serial --unit=0 --speed=115200; then\n\
             \x20   terminal_input console serial\n\
             \x20   terminal_output console serial\n\
             fi\n\
             echo \"Sheaf installer: loading\"\n\
             loopback esp /{ESP}\n\
             {load}\
             boot\n\
             echo \"This medium cannot be started: it may be damaged. Write it again, or try another port. Restarting in 60 s.\"\n\
             sleep 60\n\
             reboot\n"
        ),
        path,
    }
}

/// Makes GRUB's image out of [`EARLY`].
pub fn commands() -> [Command; 2] {
    let image = Command::new("grub-mkimage")
        .args(["-O", "i386-pc", "-o", "/mnt/work/core.img", "-p", FOLDER])
        .args(["-c", &format!("/mnt/work/{EARLY}")])
        .args(MODULES.split_whitespace());
    // What a BIOS loads from a CD: a sector that loads the rest.
    let join = format!("cat {PLATFORM}/cdboot.img /mnt/work/core.img > /mnt/work/{IMAGE}");
    [image, Command::new("sh").args(["-c", &join])]
}

/// Names the image for CDs (El Torito) and for sticks (the MBR's code).
pub fn xorriso_options() -> Vec<String> {
    let image = format!("{}/{IMAGE}", FOLDER.trim_start_matches('/'));
    let hybrid = format!("{PLATFORM}/boot_hybrid.img");
    let options = ["--grub2-mbr", &hybrid, "-b", &image, "-no-emul-boot", "-boot-load-size", "4"];
    options.into_iter().chain(["-boot-info-table", "--grub2-boot-info"]).map(str::to_owned).collect()
}

/// Its files on the medium.
pub fn grafts(bios: &Bios) -> [String; 2] {
    [format!("{FOLDER}/{IMAGE}=/mnt/work/{IMAGE}"), format!("{}=/mnt/work/{MENU}", bios.path)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_config::manifest::Section;

    #[test]
    fn grub_starts_the_file_that_uefi_runs_and_only_of_its_own_medium() {
        let uki = Uki {
            file: "installer.efi".into(),
            size: 4096,
            sha256: "00".into(),
            linux: Section { offset: 1024, size: 512 },
            initrd: Section { offset: 2048, size: 700 },
            command_line: "quiet console=ttyS0,115200".into(),
        };
        let bios = plan(&uki, "cafe0123");
        assert_eq!(bios.path, "/boot/grub/cafe0123.cfg");
        assert!(bios.early.starts_with("search --no-floppy --set=root --file /boot/grub/cafe0123.cfg\n"));
        let load = "loopback esp /efi.img\nloopback uki (esp)/EFI/BOOT/BOOTX64.EFI\n\
                    linux (uki)2+1 quiet console=ttyS0,115200\ninitrd (uki)4+2\nboot\n";
        assert!(bios.menu.contains(load), "{}", bios.menu);
    }
}
