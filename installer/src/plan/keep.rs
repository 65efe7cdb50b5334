//! `reinstall = "keep-data"`: the disk's older installation is replaced, its data partition and its pool stay as they are.
//!
//! Why the same table and the same UUID: the node finds data as the sibling of the boot partition it came from. The
//! table is never taken away, so that an installation that is cut short can be repeated; what boots goes instead: boot
//! code, ESP and slots. Route in: the older installation of the inventory. Route out: its layout and the steps that
//! fit it, or why there is nothing to keep.

use super::{ALIGNMENT, Layout, PlanError, Range, Role, Step};
use crate::inventory::{Disk, Firmware};
use sheaf_config::manifest::Manifest;
use sheaf_config::node::{Image, Install, Reinstall};
use sheaf_host::human;

/// Bytes of the MBR that hold boot code; the table's own follow.
const BOOT_CODE: u64 = 440;

/// Whether the config wants data kept.
pub(super) fn is_asked(install: &Install) -> bool {
    install.reinstall == Some(Reinstall::KeepData)
}

/// The layout of the older installation, when all of it can be kept.
pub(super) fn layout(disk: &Disk, images: &[Image], errors: &mut Vec<PlanError>) -> Option<Layout> {
    let mut refuse = |reason: String, remedy: &str| {
        errors.push(PlanError::Disk { disk: disk.path.clone(), reason, remedy: remedy.into() });
    };
    let Some(older) = &disk.older else {
        refuse(
            "holds no older install of Sheaf whose data could be kept".into(),
            "select the disk that has one, or remove reinstall from [install]",
        );
        return None;
    };
    let layout = match Layout::kept(older, disk.size, disk.sector_size) {
        Ok(layout) => layout,
        Err(reason) => {
            refuse(
                format!("its older install of Sheaf cannot be kept: {reason}"),
                "save its data elsewhere, then install without reinstall",
            );
            return None;
        }
    };
    let mut whole = true;
    let data = layout.partition(Role::Data);
    if !disk.signatures.iter().any(|found| found.kind == "ext4" && in_partition(found.offset, data)) {
        refuse(
            format!("its older install of Sheaf ({}) has no ext4 file system on data", older.id),
            "there is nothing to keep: install without reinstall",
        );
        whole = false;
    }
    if let Some(image) = images.iter().find(|image| image.url.starts_with("medium:")) {
        refuse(
            format!("image \"{}\" is to come from the medium, and data is kept as it is", image.name),
            "give the image an https:// url, which the node fetches when it is missing",
        );
        whole = false;
    }
    whole.then_some(layout)
}

fn in_partition(offset: u64, partition: &super::Partition) -> bool {
    (partition.offset..partition.offset + partition.size).contains(&offset)
}

/// Present contents that go, in words.
pub(super) fn erased(disk: &Disk, layout: &Layout) -> Vec<String> {
    let stays = [Some(layout.partition(Role::Data)), layout.pool()];
    let is_kept = |offset: u64| stays.iter().flatten().any(|partition| in_partition(offset, partition));
    let goes = |found: &&crate::inventory::Signature| {
        !is_kept(found.offset) && !["gpt", "PMBR", "dos"].contains(&found.kind.as_str())
    };
    let mut contents: Vec<String> = Vec::new();
    for found in disk.signatures.iter().filter(goes) {
        let text = format!("{} on {}", found.kind, found.device.display());
        if !contents.contains(&text) {
            contents.push(text);
        }
    }
    contents
}

/// What stays, in words.
pub(super) fn kept(layout: &Layout) -> String {
    let pool =
        layout.pool().map_or(String::new(), |pool| format!(" and pool ({})", human::binary(pool.size)));
    format!("data ({}){pool} of install {}", human::binary(layout.partition(Role::Data).size), layout.id)
}

/// Everything a machine could boot, first what firmware looks at; never the table, never data or pool.
pub(super) fn boot_places(layout: &Layout) -> Vec<Range> {
    let mut ranges = vec![Range { offset: 0, length: BOOT_CODE }];
    let first = [Role::Esp, Role::Bios];
    let others = layout.partitions.iter().map(|partition| partition.role);
    let others = others.filter(|role| !first.contains(role) && !matches!(role, Role::Data | Role::Pool));
    ranges.extend(
        first
            .into_iter()
            .chain(others)
            .map(|role| Range { offset: layout.partition(role).offset, length: ALIGNMENT }),
    );
    ranges
}

/// The steps of a whole installation, but for data.
pub(super) fn steps(
    manifest: &Manifest,
    layout: &Layout,
    firmware: Firmware,
    arguments: &[String],
) -> Vec<Step> {
    let mut steps = super::steps(manifest, Vec::new(), layout, boot_places(layout), firmware, arguments);
    steps.retain(|step| !matches!(step, Step::MakeData { .. }));
    steps.insert(1, Step::CheckData { partition: layout.partition(Role::Data).clone() });
    steps
}
