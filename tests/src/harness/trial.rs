//! Programs that are tried on a node before an image is built of them.
//!
//! Why here: an image, an installation and a boot take minutes, a new agent on a restored node some seconds. Only for
//! anyone who writes the programs: `make test` and CI never set `SHEAF_TRY`.
//! Route in: `SHEAF_TRY=FOLDER`, laid out as the node's root (`usr/bin/sheaf-agent`). Route out: each file lies over the
//! node's own until its next boot, and the units whose programs were tried have been started again.

use super::Case;
use anyhow::{Context as _, Result};
use sheaf_machine::{Disk, Machine, ext4};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SERIAL: &str = "TRIAL";
/// Copying some ten MB and starting two units, emulated.
const DEADLINE: Duration = Duration::from_secs(120);
/// Runs in the node. Programs are covered by bind mounts (the root cannot be written); units are added where systemd
/// looks first.
const SCRIPT: &str = r#"set -e
disk=/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_TRIAL
for _ in $(seq 50); do [ -e $disk ] && break; udevadm settle; done
mkdir -p /run/trial && mount -t ext4 -o ro $disk /run/trial
cd /run/trial
find . -path ./lost+found -prune -o -type f -print | while read -r file; do
  case $file in
    ./usr/lib/systemd/system/*)
      to=/run/systemd/system/${file#./usr/lib/systemd/system/}
      mkdir -p "${to%/*}" && cp "$file" "$to" ;;
    *) mount --bind "$file" "/${file#./}" ;;
  esac
done
systemctl daemon-reload
/usr/lib/systemd/systemd-sysctl
systemctl restart sheaf-agent sheaf-controller"#;

impl Case {
    /// Tries the programs of `SHEAF_TRY`, when it is set, on `machine`.
    pub(super) fn try_programs(&self, machine: &mut Machine) -> Result<()> {
        let Some(folder) = std::env::var_os("SHEAF_TRY").map(PathBuf::from) else { return Ok(()) };
        let image = self.work().join("trial.ext4");
        self.image_of(&folder, &image).with_context(|| format!("SHEAF_TRY={}", folder.display()))?;
        machine.plug(&Disk::raw(image, SERIAL), None)?;
        let said = machine.shell().run(SCRIPT, DEADLINE)?;
        eprintln!("trying {} {said}", folder.display());
        Ok(())
    }

    fn image_of(&self, folder: &Path, image: &Path) -> Result<()> {
        const SIZE: u64 = 1 << 30; // sparse
        std::fs::File::create(image)?.set_len(SIZE)?;
        Ok(ext4::make(&self.tools, image, "trial", Some(folder))?)
    }

    /// Makes an empty file system in the file `image`: somebody else's, for a node.
    pub fn format_ext4(&self, image: &Path) -> Result<()> {
        Ok(ext4::make(&self.tools, image, "theirs", None)?)
    }
}
