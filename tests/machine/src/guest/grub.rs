//! GRUB for a BIOS, linked from the tools chroot's modules.
//!
//! Why here: the disk and the medium of a guest differ in where GRUB finds its settings, and in nothing else of this.
//! Route in: prefix, first settings, modules. Route out: a core image.

use super::{GuestError, program};
use crate::Tools;
use sheaf_host::run::Command;
use std::path::Path;

/// Links `core`; `early` are settings that it runs before those of `prefix`. `modules` are separated by spaces.
pub(super) fn link(
    tools: &Tools,
    prefix: &str,
    early: Option<&Path>,
    modules: &str,
    core: &Path,
) -> Result<(), GuestError> {
    let mut mkimage: Command = tools
        .command("usr/bin/grub-mkimage")
        .arg("-d")
        .arg(tools.file("usr/lib/grub/i386-pc"))
        .args(["-O", "i386-pc", "-p", prefix]);
    if let Some(early) = early {
        mkimage = mkimage.arg("-c").arg(early);
    }
    program("GRUB cannot be linked", &mkimage.arg("-o").arg(core).args(modules.split_whitespace()))
}
