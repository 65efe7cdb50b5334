//! Stage `bios`: GRUB for machines without UEFI.
//!
//! The installer puts both images on the disk and tells each where the next lies; the script goes to the EFI system
//! partition. The slot's kernel comes out of its UKI, so nothing here depends on one.
//! Route in: `os-image/image/grub/`. Route out: `boot.img`, `core.img`, `grub.cfg`.

use crate::error::BuildError;
use crate::inputs::Inputs;
use crate::lists;
use crate::source::Source;
use crate::stage::{BuildContext, Made, Spec};
use crate::tools::Tools;
use sheaf_host::run::Command;
use std::fs;

/// GRUB's code in the MBR.
pub const BOOT: &str = "boot.img";
/// GRUB itself.
pub const CORE: &str = "core.img";
/// Its script.
pub const MENU: &str = "grub.cfg";

/// GRUB's images and modules for BIOS, in the tools chroot.
const PLATFORM: &str = "/usr/lib/grub/i386-pc";
/// Where GRUB finds its script: the second partition of the drive that the BIOS started.
const PREFIX: &str = "(,gpt2)/grub";

/// Makes them.
pub fn build(context: &BuildContext<'_>, source: &Source, tools: &Tools) -> Result<Made, BuildError> {
    let (modules, menu) = (source.image("grub/modules"), source.image("grub/node.cfg"));
    let inputs = Inputs::new("bios", 1).digest("tools", &tools.digest).path(&modules)?.path(&menu)?;
    context.stage(Spec { name: "bios", inputs, output_digest_files: &[BOOT, CORE, MENU] }, |stage| {
        let chroot = tools.chroot().write(stage.out, "out");
        let image = Command::new("grub-mkimage")
            .args(["-O", "i386-pc", "-o", &format!("/mnt/out/{CORE}"), "-p", PREFIX])
            .args(lists::read(&modules)?);
        stage.run(&chroot.enter(&image))?;
        stage.run(&chroot.enter(&Command::new("cp").args([&format!("{PLATFORM}/{BOOT}"), "/mnt/out/"])))?;
        stage.run(&Command::new("chmod").arg("0644").args([BOOT, CORE].map(|file| stage.out.join(file))))?;
        fs::copy(&menu, stage.out.join(MENU)).map_err(BuildError::io(&menu))?;
        Ok(())
    })
}
