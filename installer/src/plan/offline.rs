//! The plan of an installation onto a file, for a machine that is elsewhere.
//!
//! Why not the plan of a machine: there is no disk to select and no NIC to look at; the file is the disk, whatever the config
//! selects, and what depends on the machine is found out when it boots. Table, slots and files are the same.
//! Route in: node config, the file, its size, what the release holds. Route out: [`InstallPlan`], or every reason against it.

use super::{
    ALIGNMENT, InstallPlan, OnFailure, PAGE, PlanError, PlanErrors, Range, ReleaseContents, Target, boot,
    erased, fit, of_config, select, steps,
};
use crate::inventory::{Disk, Firmware};
use sheaf_config::node::NodeConfig;
use std::path::Path;
use uuid::Uuid;

/// Bytes of a sector: what virtual machines show of a file, and what both firmwares start.
const SECTOR: u64 = 512;

/// Plans the disk of the node of `config` as the new file `path` of `size` bytes. `id` is random, one for each disk.
pub fn plan_file(
    config: &NodeConfig,
    path: &Path,
    size: u64,
    release: ReleaseContents<'_>,
    id: Uuid,
) -> Result<InstallPlan, PlanErrors> {
    let disk = file(path, size);
    let install = config.install.as_ref();
    let mut errors = Vec::new();
    let mut refuse = |reason: &str, remedy: &str| {
        errors.push(PlanError::Disk {
            disk: disk.path.clone(),
            reason: reason.into(),
            remedy: remedy.into(),
        });
    };
    if install.is_some_and(|install| install.reinstall.is_some()) {
        refuse("is new, and holds nothing that install.reinstall could keep", "remove it from the config");
    }
    if !size.is_multiple_of(PAGE) {
        refuse("has a size that is not a multiple of 4096 bytes", "give another size, such as 32GiB");
    }
    fit::check_manifest(release.manifest, &mut errors);
    let arguments = &config.system.kernel_arguments;
    boot::check_arguments(release.manifest, arguments, false, &mut errors);
    let images = fit::images(&config.images, release.images, &mut errors);
    let layout = match of_config(&disk, config, id) {
        Ok(layout) => layout,
        Err(error) => {
            errors.push(select::unfit(&disk, error));
            return Err(PlanErrors(errors));
        }
    };
    fit::check_sizes(release.manifest, &images, &disk, &layout, &mut errors);
    if !errors.is_empty() {
        return Err(PlanErrors(errors));
    }
    let ranges = erased(&disk, &layout);
    Ok(InstallPlan {
        release: format!("{} {}", release.manifest.name, release.manifest.version),
        hostname: config.system.hostname.clone(),
        disk: Target { path: disk.path, serial: None, model: None, size, erased: Vec::new(), kept: None },
        data_disks: Vec::new(),
        network: Vec::new(),
        // Of both firmwares, only UEFI has an order of disks that would be changed, and this machine's stays as it is.
        steps: steps(release.manifest, images, &layout, ranges, Firmware::Bios, arguments),
        on_failure: OnFailure {
            erase: vec![Range { offset: 0, length: ALIGNMENT }, layout.tail()],
            keeps_table: false,
        },
        layout,
        then: install.map(|install| install.then).unwrap_or_default(),
    })
}

/// The file as a disk: empty, and nobody else's.
fn file(path: &Path, size: u64) -> Disk {
    Disk {
        path: path.to_owned(),
        links: Vec::new(),
        number: None,
        sequence: None,
        serial: None,
        wwn: None,
        model: None,
        bus: None,
        size,
        sector_size: SECTOR,
        read_only: false,
        removable: false,
        is_medium: false,
        uses: Vec::new(),
        signatures: Vec::new(),
        unreadable: None,
        older: None,
    }
}
