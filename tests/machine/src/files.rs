//! Disks and UEFI variables of machines, as files.
//!
//! Route in: the tools chroot's qemu-img. Route out: qcow2 files; overlays leave what they stand on untouched.

use crate::Tools;
use sheaf_host::run::{Run, RunError, System};
use std::path::Path;

/// An empty disk of `size` (`64G`).
pub fn blank(tools: &Tools, path: &Path, size: &str) -> Result<(), RunError> {
    let qemu_img = tools.command("usr/bin/qemu-img").args(["create", "-q", "-f", "qcow2"]);
    System.run(&qemu_img.arg(path).arg(size)).map(drop)
}

/// A disk that begins as `base` is and writes elsewhere. `base` may be named relative to `path`'s folder.
pub fn overlay(tools: &Tools, base: &Path, path: &Path) -> Result<(), RunError> {
    let qemu_img =
        tools.command("usr/bin/qemu-img").args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
    System.run(&qemu_img.arg(base).arg(path)).map(drop)
}

/// UEFI variables of a machine that was never switched on.
pub fn uefi_variables(tools: &Tools, path: &Path) -> Result<(), RunError> {
    let qemu_img = tools.command("usr/bin/qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]);
    System.run(&qemu_img.arg(tools.file("usr/share/OVMF/OVMF_VARS_4M.fd")).arg(path)).map(drop)
}

/// UEFI variables of a machine whose operator entered `url` for its next start. `work` is for what is between.
pub fn uefi_variables_of_url(tools: &Tools, work: &Path, path: &Path, url: &str) -> std::io::Result<()> {
    let mut vars = std::fs::read(tools.file("usr/share/OVMF/OVMF_VARS_4M.fd"))?;
    crate::nvram::boot_url_next(&mut vars, url)?;
    let raw = work.join("url-vars.raw");
    std::fs::write(&raw, vars)?;
    let qemu_img = tools.command("usr/bin/qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]);
    System.run(&qemu_img.arg(raw).arg(path)).map(drop).map_err(std::io::Error::other)
}

/// Writes the first MiB of the qcow2 file `disk` to `out`, as a machine sees it.
pub fn first_mib(tools: &Tools, disk: &Path, out: &Path) -> Result<(), RunError> {
    let mut input = std::ffi::OsString::from("if=");
    input.push(disk);
    let mut output = std::ffi::OsString::from("of=");
    output.push(out);
    let qemu_img =
        tools.command("usr/bin/qemu-img").args(["dd", "-f", "qcow2", "-O", "raw", "bs=1M", "count=1"]);
    System.run(&qemu_img.arg(input).arg(output)).map(drop)
}
