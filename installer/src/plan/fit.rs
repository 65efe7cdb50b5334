//! The release: whether it is whole, for this machine, and fits the partitions.
//!
//! Why here: a signature says who made a manifest, not that it is sound; every length that is relied on later is
//! checked once. Route in: manifest, images of config and medium, layout. Route out: errors; the images to copy.

use super::{Layout, MediumFile, PlanError, Role};
use crate::inventory::Disk;
use crate::sources::medium::IMAGES;
use sheaf_config::manifest::{Compressed, Manifest};
use sheaf_config::node::Image;
use sheaf_host::human;
use std::collections::BTreeMap;

/// Debian's name of the architecture this program was built for.
pub const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
/// Largest frame in bytes that is decoded in memory: 16 times what builds make.
const MAX_FRAME: u64 = 64 << 20;
/// Share of the ESP that one release may take: two UKIs lie there during an update, and a third after a rollback; the
/// recovery twice while it is replaced.
const ESP_SHARE: u64 = 3;
/// What ext4 itself needs of the data partition, in bytes for each byte of images: 1/16, rounded up generously.
const EXT4_SHARE: u64 = 16;

fn medium(reason: String, remedy: &str) -> PlanError {
    PlanError::Medium { reason, remedy: remedy.into() }
}

const REBUILD: &str = "build the release and its medium again";

pub(super) fn check_manifest(manifest: &Manifest, errors: &mut Vec<PlanError>) {
    if manifest.arch != ARCH {
        errors.push(medium(
            format!("the release is for {}, this machine is {ARCH}", manifest.arch),
            "use the medium for this machine's architecture",
        ));
    }
    let mut version = manifest.version.chars();
    if manifest.version.is_empty() || !version.all(|c| c.is_ascii_alphanumeric() || ".-~^".contains(c)) {
        errors
            .push(medium(format!("\"{}\" is not a version that can name a file", manifest.version), REBUILD));
    }
    let files = [
        &manifest.root.file,
        &manifest.verity.file,
        &manifest.node_uki.file,
        &manifest.installer_uki.file,
        &manifest.boot_loader.file,
        &manifest.bios.boot.file,
        &manifest.bios.core.file,
        &manifest.bios.menu.file,
    ];
    for file in files.into_iter().filter(|file| file.is_empty() || file.contains('/')) {
        errors.push(medium(format!("\"{file}\" is not a file of the manifest's folder"), REBUILD));
    }
    for image in [&manifest.root, &manifest.verity] {
        check_frames(image, errors);
    }
}

fn check_frames(image: &Compressed, errors: &mut Vec<PlanError>) {
    let sum = |part: fn(&sheaf_config::manifest::Frame) -> u64| {
        image.frames.iter().try_fold(0u64, |sum, frame| sum.checked_add(part(frame)))
    };
    if sum(|frame| frame.size) != Some(image.size) || sum(|frame| frame.raw_size) != Some(image.raw_size) {
        errors.push(medium(format!("the frames of {} do not add up to its size", image.file), REBUILD));
    }
    let page = super::PAGE;
    let (last, others) =
        image.frames.split_last().map_or((None, &[][..]), |(last, others)| (Some(last), others));
    let unaligned = others.iter().any(|frame| !frame.raw_size.is_multiple_of(page));
    if unaligned
        || image.frames.iter().chain(last).any(|frame| frame.raw_size > MAX_FRAME || frame.size > MAX_FRAME)
    {
        let limit = human::binary(MAX_FRAME);
        errors.push(medium(
            format!("the frames of {} are not whole pages of at most {limit}", image.file),
            REBUILD,
        ));
    }
}

/// Images that come with the medium: file on it, name on the node.
pub(super) fn images(
    wanted: &[Image],
    present: &BTreeMap<String, u64>,
    errors: &mut Vec<PlanError>,
) -> Vec<(MediumFile, String)> {
    let mut found = Vec::new();
    for image in wanted {
        let Some(path) = image.url.strip_prefix("medium:") else { continue };
        match present.get(path) {
            Some(size) => {
                let file = format!("{IMAGES}/{path}");
                let sha256 = image.sha256.to_lowercase();
                found.push((MediumFile { file, size: *size, sha256 }, image.name.clone()));
            }
            None => {
                let has = present.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let has = if has.is_empty() { "no images".into() } else { has };
                errors.push(medium(
                    format!("image \"{}\" is to come from {path}, but the medium has {has}", image.name),
                    &format!("make the medium with `sheaf iso --image {path}`, or give another url"),
                ));
            }
        }
    }
    found
}

pub(super) fn check_sizes(
    manifest: &Manifest,
    images: &[(MediumFile, String)],
    disk: &Disk,
    layout: &Layout,
    errors: &mut Vec<PlanError>,
) {
    let boot_loader = 2 * manifest.boot_loader.size; // twice: under its own name and the firmware's
    let on_esp =
        manifest.node_uki.size.saturating_add(manifest.installer_uki.size).saturating_add(boot_loader);
    let needs = [
        (manifest.root.raw_size, Role::RootA, 1),
        (manifest.verity.raw_size, Role::VerityA, 1),
        (manifest.bios.core.size, Role::Bios, 1),
        (on_esp, Role::Esp, ESP_SHARE),
    ];
    for (size, role, share) in needs {
        let partition = layout.partition(role);
        if size > partition.size / share {
            errors.push(medium(
                format!(
                    "the release needs {size} bytes of partition {}, which gives it {}",
                    partition.name,
                    partition.size / share
                ),
                "build a smaller release",
            ));
        }
    }
    let total = images.iter().fold(0u64, |sum, (file, _)| sum.saturating_add(file.size));
    let room = layout.partition(Role::Data).size;
    if total.saturating_add(total / EXT4_SHARE) > room {
        errors.push(PlanError::Disk {
            disk: disk.path.clone(),
            reason: format!(
                "the medium's images take {}, its data partition has {}",
                human::binary(total),
                human::binary(room)
            ),
            remedy: "select a larger disk or drop images from node.toml".into(),
        });
    }
}
