//! Makes the files of a virtual machine in its folder, and removes the folder.
//!
//! A file that has its name is complete: it is made under another name, flushed, and renamed, so that a start that was
//! interrupted at any point continues, and never with half a disk. One that is there already is compared with what it must be.
//! Route in: a [`Guest`], images of its read-only disks. Route out: files under `/data/vms/<uid>`; below `/data/disks` the file the
//! VM asked for; below `/data/state` the folder of what its firmware and TPM keep.

use super::contents::Images;
use super::guest::{Disk, Folder, Format, Guest, Source};
use anyhow::{Context as _, bail};
use sheaf_host::file::write_atomically;
use sheaf_host::qcow2;
use sheaf_host::run::{Command, Run};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Name of a folder that is being removed, before the UID: no VMI has it.
const GONE: &str = ".gone-";
/// Name of a file that is being made, before its own: no disk has it, names of disks begin with a letter or digit.
const UNFINISHED: &str = ".unfinished-";

/// Makes everything `guest` needs.
pub fn make(guest: &Guest, folder: &Folder, images: &Images, run: &dyn Run) -> anyhow::Result<()> {
    fs::create_dir_all(&folder.0).with_context(|| format!("{}: cannot be made", folder.0.display()))?;
    // libvirt makes what is in them, as whom they belong to.
    for lifetime in guest.hardware.lifetimes() {
        let state = folder.state(guest, lifetime);
        fs::create_dir_all(&state).with_context(|| format!("{}: cannot be made", state.display()))?;
    }
    if let Some(kernel) = &guest.hardware.kernel {
        let of = || format!("the kernel of {}/{}", guest.id.namespace, guest.id.vmi);
        copy(&kernel.image, &folder.kernel()).with_context(of)?;
        if let Some(initrd) = &kernel.initrd {
            copy(initrd, &folder.initrd()).with_context(of)?;
        }
    }
    for disk in &guest.disks {
        make_disk(disk, folder, images, run)
            .with_context(|| format!("disk {} of {}/{}", disk.name, guest.id.namespace, guest.id.vmi))?;
    }
    Ok(())
}

fn make_disk(disk: &Disk, folder: &Folder, images: &Images, run: &dyn Run) -> anyhow::Result<()> {
    let (path, format) = folder.disk(disk);
    match &disk.source {
        Source::Seed(_) | Source::Files(_) => {
            let image = images.get(&disk.name).context("its contents were not read")?;
            // Passwords may be in it; libvirt gives it to its VM alone.
            Ok(write_atomically(&path, image, 0o600)?)
        }
        Source::NoMedium { .. } => Ok(()),
        // The node makes it of its own accord, and reports it when it has: it is never made here.
        Source::Device(_) if path.exists() => Ok(()),
        Source::Device(_) => bail!("{} does not exist; is its pool active?", path.display()),
        Source::InPlace { create: None, .. } if path.exists() => inside(&path),
        Source::InPlace { create: None, .. } => {
            bail!("{} does not exist; use type DiskOrCreate with a capacity to have it made", path.display())
        }
        Source::InPlace { create: Some(bytes), .. } if path.exists() => {
            inside(&path)?;
            compare(&path, format, *bytes)
        }
        Source::InPlace { create: Some(bytes), .. } => match format {
            Format::Raw => complete(&path, |path| sparse(path, *bytes)),
            Format::Qcow2 => {
                let create = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]);
                complete(&path, |path| qemu_img(run, create.arg(path).arg(bytes.to_string())))
            }
        },
        // In its own folder: nothing ran on it yet, or the VM would not be started. A half one is made again.
        Source::Overlay { bytes, .. } | Source::DeviceOverlay { bytes, .. } | Source::Empty(bytes)
            if compare(&path, format, *bytes).is_ok() =>
        {
            Ok(())
        }
        Source::Empty(bytes) => complete(&path, |path| sparse(path, *bytes)),
        Source::DeviceOverlay { device, .. } if !device.exists() => {
            bail!("{} does not exist; is its pool active?", device.display())
        }
        Source::DeviceOverlay { device, bytes } => overlay(&path, device, Format::Raw, *bytes, run),
        Source::Overlay { base, format, bytes, linked } => {
            let below = folder.base(disk).unwrap_or_else(|| base.clone());
            if *linked {
                keep(base, &below)?;
            }
            overlay(&path, &below, *format, *bytes, run)
        }
    }
}

fn overlay(path: &Path, base: &Path, format: Format, bytes: u64, run: &dyn Run) -> anyhow::Result<()> {
    let create = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", format.name(), "-b"]);
    let create = create.arg(base);
    complete(path, |path| qemu_img(run, create.arg(path).arg(bytes.to_string())))
}

/// Makes the file `path` by `make` so that it is there whole or not at all.
fn complete(path: &Path, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{} is not the path of a file", path.display());
    };
    let at = |what: &'static str| move || format!("{}: {what}", path.display());
    fs::create_dir_all(folder).with_context(at("its folder cannot be made"))?;
    let unfinished = folder.join(format!("{UNFINISHED}{}", name.display()));
    step("before");
    removed(fs::remove_file(&unfinished)).with_context(at("files of an earlier start cannot be removed"))?;
    make(&unfinished)?;
    step("made");
    let flush = |path: &Path| File::open(path)?.sync_all();
    flush(&unfinished).with_context(at("cannot be flushed to disk"))?;
    step("flushed");
    fs::rename(&unfinished, path).with_context(at("cannot be given its name"))?;
    step("renamed");
    flush(folder).with_context(at("its folder cannot be flushed to disk"))
}

/// Keeps `base` for this VM under the name `link`, of the same file system: it stays when others remove theirs.
fn keep(base: &Path, link: &Path) -> anyhow::Result<()> {
    removed(fs::remove_file(link)).with_context(|| format!("{}: cannot be removed", link.display()))?;
    step("before the link");
    fs::hard_link(base, link).with_context(|| format!("{}: cannot be linked to", base.display()))
}

/// Copies `from` to `to`, again at each try to start: an earlier one may have had another image. A link would not do: libvirt gives
/// a kernel to the user of QEMU, and all VMs of the image would have that one file.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    complete(to, |unfinished| {
        fs::copy(from, unfinished).with_context(|| format!("{}: cannot be copied", from.display()))?;
        Ok(())
    })
}

/// Refuses a file that is not what it must be.
fn compare(path: &Path, format: Format, bytes: u64) -> anyhow::Result<()> {
    let actual = match format {
        Format::Raw => fs::metadata(path).map(|meta| meta.len()).ok(),
        Format::Qcow2 => qcow2::virtual_size(path),
    };
    match actual {
        Some(actual) if actual == bytes => Ok(()),
        Some(actual) => bail!(
            "{} has {actual} bytes instead of {bytes}; move it away; a new one is then created",
            path.display()
        ),
        None => {
            bail!(
                "{} is not a {} image; move it away; a new one is then created",
                path.display(),
                format.name()
            )
        }
    }
}

fn qemu_img(run: &dyn Run, command: Command) -> anyhow::Result<()> {
    run.run(&command)?;
    Ok(())
}

/// A file that is written in place must be at its path: no link to another file of the node.
fn inside(path: &Path) -> anyhow::Result<()> {
    let real = path.canonicalize().with_context(|| format!("{}: cannot be read", path.display()))?;
    if real != path {
        bail!("{} leads to {}; a disk must lie where its path says", path.display(), real.display());
    }
    Ok(())
}

fn sparse(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let make = || {
        let file = File::create_new(path)?;
        step("created");
        file.set_len(bytes)
    };
    make().with_context(|| format!("{}: cannot be made with {bytes} bytes", path.display()))
}

/// Removes the folder of a virtual machine that is gone. From its first step on the folder belongs to no VM: an interrupted
/// removal is finished by [`sweep`].
pub fn remove(folder: &Folder) -> anyhow::Result<()> {
    let at = |path: &Path| format!("{}: cannot be removed", path.display());
    let (Some(vms), Some(uid)) = (folder.0.parent(), folder.0.file_name()) else {
        bail!("{} is not the folder of a VM", folder.0.display());
    };
    let gone = vms.join(format!("{GONE}{}", uid.display()));
    if folder.0.exists() {
        remove_gone(&gone).with_context(|| at(&gone))?;
        step("before");
        fs::rename(&folder.0, &gone).with_context(|| at(&folder.0))?;
        step("renamed");
        File::open(vms).and_then(|vms| vms.sync_all()).with_context(|| at(&folder.0))?;
    }
    remove_gone(&gone).with_context(|| at(&gone))
}

/// Removes what interrupted removals left in `vms`. Once, before anything else is made there.
pub fn sweep(vms: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(vms) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("{}: cannot be read", vms.display()))?,
    };
    for entry in entries {
        let path = entry.with_context(|| format!("{}: cannot be read", vms.display()))?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(GONE.as_bytes())) {
            remove_gone(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

/// Removes a folder, its record last: until then a person can see whose files they were.
fn remove_gone(gone: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let record = Folder(gone.to_owned()).record();
    for entry in entries {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false if entry.path() == record => continue,
            false => fs::remove_file(entry.path())?,
        }
        step("removed one");
    }
    removed(fs::remove_file(record))?;
    step("removed the record");
    fs::remove_dir(gone)
}

/// That there is nothing to remove is no error.
fn removed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// A place where tests pull the plug.
fn step(_name: &str) {
    #[cfg(test)]
    tests::pull_the_plug(_name);
}

#[cfg(test)]
mod tests;
