//! Makes the files of a virtual machine in its folder, and removes the folder.
//!
//! Every file is made only where it is missing: a start that was interrupted goes on. Route in: a [`Guest`], texts
//! of its Secrets. Route out: files under `/data/vms/<uid>`; for `/data/disks` the file the VM asked for.

use super::guest::{Disk, Folder, Format, Guest, Seed, Source};
use super::seed::{self, Texts};
use anyhow::{Context as _, bail};
use sheaf_host::file::write_atomically;
use sheaf_host::run::{Command, Run};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

/// Makes everything `guest` needs. `texts` holds the texts of each seed by the name of its disk.
pub fn make(
    guest: &Guest,
    folder: &Folder,
    texts: &BTreeMap<String, Texts>,
    run: &dyn Run,
) -> anyhow::Result<()> {
    fs::create_dir_all(&folder.0).with_context(|| format!("{}: can not be made", folder.0.display()))?;
    for disk in &guest.disks {
        make_disk(guest, disk, folder, texts.get(&disk.name), run)
            .with_context(|| format!("disk {} of {}/{}", disk.name, guest.id.namespace, guest.id.vmi))?;
    }
    Ok(())
}

fn make_disk(
    guest: &Guest,
    disk: &Disk,
    folder: &Folder,
    texts: Option<&Texts>,
    run: &dyn Run,
) -> anyhow::Result<()> {
    let (path, _) = folder.disk(disk);
    match &disk.source {
        Source::Seed(seed) => make_seed(guest, seed, &path, texts),
        _ if path.exists() => inside(&disk.source, &path),
        Source::Overlay { base, format, grown_to } => {
            let create =
                Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-F", format.name(), "-b"]);
            let create = create.arg(base).arg(&path);
            let create = match grown_to {
                Some(bytes) => create.arg(bytes.to_string()),
                None => create,
            };
            run.run(&create)?;
            Ok(())
        }
        // The node makes it of its own accord, and says so when it has: it is never made here.
        Source::Device(_) => bail!("{} is not there; is its pool active?", path.display()),
        Source::Empty(bytes) => sparse(&path, *bytes),
        Source::InPlace { create: None, .. } => {
            bail!("{} does not exist; use type DiskOrCreate with a capacity to have it made", path.display())
        }
        Source::InPlace { create: Some(bytes), format, .. } => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)
                    .with_context(|| format!("{}: can not be made", parent.display()))?;
            }
            match format {
                Format::Raw => sparse(&path, *bytes),
                Format::Qcow2 => {
                    let create = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]);
                    run.run(&create.arg(&path).arg(bytes.to_string()))?;
                    Ok(())
                }
            }
        }
    }
}

/// A file that is written in place must be what its path says: no link to another file of the node.
fn inside(source: &Source, path: &Path) -> anyhow::Result<()> {
    if let Source::InPlace { .. } = source {
        let real = path.canonicalize().with_context(|| format!("{}: can not be read", path.display()))?;
        if real != path {
            bail!("{} leads to {}; a disk must lie where its path says", path.display(), real.display());
        }
    }
    Ok(())
}

fn sparse(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let make = || File::create_new(path)?.set_len(bytes);
    make().with_context(|| format!("{}: can not be made with {bytes} bytes", path.display()))
}

fn make_seed(guest: &Guest, seed: &Seed, path: &Path, texts: Option<&Texts>) -> anyhow::Result<()> {
    let none = Texts::default();
    let image = seed::image(&guest.id, seed, texts.unwrap_or(&none));
    // Passwords may be in it; libvirt gives it to its VM alone.
    Ok(write_atomically(path, &image, 0o600)?)
}

/// Removes the folder of a virtual machine that is gone.
pub fn remove(folder: &Folder) -> anyhow::Result<()> {
    match fs::remove_dir_all(&folder.0) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: can not be removed", folder.0.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::guest::Nic;
    use crate::vms::testing::identity;
    use sheaf_host::fakes::FakeRun;
    use std::path::PathBuf;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("sheaf-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir.canonicalize().unwrap()
    }

    fn guest(source: Source) -> Guest {
        use crate::vms::guest::CpuModel;
        let disk = Disk {
            name: "root".into(),
            cdrom: false,
            bus: sheaf_api::devices::DiskBus::Virtio,
            source,
            boot_order: None,
            serial: None,
            cache: None,
        };
        Guest {
            id: identity("p1"),
            uuid: String::new(),
            grace_seconds: 30,
            memory: 1 << 26,
            topology: (1, 1, 1),
            cpu: CpuModel::HostModel,
            machine: "q35".into(),
            disks: vec![disk],
            interfaces: Vec::<Nic>::new(),
            rng: false,
            graphics: false,
            serial: true,
        }
    }

    #[test]
    fn an_overlay_names_the_format_of_its_base_and_is_made_once() {
        let dir = folder("overlay");
        let base = "/data/images/debian".into();
        let guest = guest(Source::Overlay { base, format: Format::Raw, grown_to: Some(1 << 30) });
        let (folder, run) = (Folder::of(&dir, "v-1"), FakeRun::default());
        make(&guest, &folder, &BTreeMap::new(), &run).unwrap();
        let overlay = folder.0.join("root.qcow2");
        let path = overlay.display();
        assert_eq!(
            run.asked(),
            [format!("qemu-img create -q -f qcow2 -F raw -b /data/images/debian {path} 1073741824")]
        );
        File::create(overlay).unwrap();
        make(&guest, &folder, &BTreeMap::new(), &run).unwrap();
        assert_eq!(run.asked().len(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_empty_disk_is_as_large_as_asked_and_takes_no_room() {
        use std::os::unix::fs::MetadataExt;
        let dir = folder("empty");
        let folder = Folder::of(&dir, "v-1");
        make(&guest(Source::Empty(1 << 30)), &folder, &BTreeMap::new(), &FakeRun::default()).unwrap();
        let meta = folder.0.join("root.raw").metadata().unwrap();
        assert_eq!((meta.len(), meta.blocks()), (1 << 30, 0));
        remove(&folder).unwrap();
        assert!(!folder.0.exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_disk_that_must_exist_and_does_not_is_named_with_the_remedy() {
        let dir = folder("missing");
        let guest = guest(Source::InPlace { path: dir.join("db.raw"), format: Format::Raw, create: None });
        let error =
            make(&guest, &Folder::of(&dir, "v-1"), &BTreeMap::new(), &FakeRun::default()).unwrap_err();
        assert!(
            format!("{error:#}").ends_with("use type DiskOrCreate with a capacity to have it made"),
            "{error:#}"
        );
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_disk_that_became_a_link_to_another_file_is_refused() {
        let dir = folder("link");
        std::os::unix::fs::symlink("/etc/hostname", dir.join("db.raw")).unwrap();
        let guest = guest(Source::InPlace { path: dir.join("db.raw"), format: Format::Raw, create: None });
        let error =
            make(&guest, &Folder::of(&dir, "v-1"), &BTreeMap::new(), &FakeRun::default()).unwrap_err();
        assert!(format!("{error:#}").contains("a disk must lie where its path says"), "{error:#}");
        fs::remove_dir_all(dir).unwrap();
    }
}
