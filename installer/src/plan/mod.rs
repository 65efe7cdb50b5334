//! What an installation will do, decided before anything is touched.
//!
//! Why a value: it can be printed (`--dry-run`), compared in tests, and carried out without further decisions.
//! Route in: node config, inventory, what the medium holds, one random UUID. Route out: [`InstallPlan`], or every
//! reason at once why there is none.

mod boot;
mod fit;
mod keep;
mod layout;
mod network;
mod offline;
mod select;
mod show;

pub(crate) use select::contents;

pub use fit::ARCH;
pub use layout::{ALIGNMENT, Layout, LayoutError, MIN_DISK, Partition, Role};
pub use network::BridgePorts;
pub use offline::plan_file;

use crate::inventory::{Firmware, Inventory};
use serde::Serialize;
use sheaf_config::manifest::{Compressed, Frame, Manifest, Plain};
use sheaf_config::node::{NodeConfig, Then};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use uuid::Uuid;

/// One installation, ready to be carried out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InstallPlan {
    /// Name and version of the release, `sheaf 0.1.0`.
    pub release: String,
    /// Name of the node.
    pub hostname: String,
    /// The disk that is written.
    pub disk: Target,
    /// Disks that are left empty besides.
    pub data_disks: Vec<PathBuf>,
    /// Its partition table.
    pub layout: Layout,
    /// Which NICs the bridges get.
    pub network: Vec<BridgePorts>,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// What becomes of the disk when a step fails that wrote to it.
    pub on_failure: OnFailure,
    /// What follows.
    pub then: Then,
}

/// How a disk is left that an installation was not completed on: it boots nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OnFailure {
    /// Overwritten with zeros, each even when another cannot be written.
    pub erase: Vec<Range>,
    /// Whether the partition table, and with it the data, stays.
    pub keeps_table: bool,
}

/// The one disk of an installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Target {
    /// Node in /dev.
    pub path: PathBuf,
    /// Serial number.
    pub serial: Option<String>,
    /// Model name.
    pub model: Option<String>,
    /// Length in bytes.
    pub size: u64,
    /// Present contents that are erased: kind and device.
    pub erased: Vec<String>,
    /// Present contents that stay.
    pub kept: Option<String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Step {
    /// Read every file of the medium that will be used and compare it with the manifest. Nothing is written.
    CheckMedium {
        /// Images of slots.
        payloads: Vec<Payload>,
        /// Files as they are, below the medium's folder.
        files: Vec<MediumFile>,
    },
    /// Make sure that the data partition which is to stay holds the file system that belongs there. Nothing is
    /// written.
    CheckData {
        /// Its partition.
        partition: Partition,
    },
    /// Overwrite with zeros whatever could be taken for a table, a file system or a volume.
    Erase {
        /// Places on the disk.
        ranges: Vec<Range>,
    },
    /// Overwrite with zeros what could be taken for contents of a disk that is not installed on.
    EmptyDisk {
        /// The disk.
        path: PathBuf,
        /// Present contents, in words.
        erased: Vec<String>,
        /// Places on it.
        ranges: Vec<Range>,
    },
    /// Decode an image into its partition.
    WriteImage {
        /// The image.
        payload: Payload,
        /// First byte on the disk.
        offset: u64,
    },
    /// Read an image back from the disk and compare its hash.
    VerifyImage {
        /// The image.
        payload: Payload,
        /// First byte on the disk.
        offset: u64,
    },
    /// Make the EFI system partition and read its files back.
    MakeEsp {
        /// Its partition.
        partition: Partition,
        /// Sector size of the disk in bytes.
        sector_size: u64,
        /// File on the medium, path on the partition.
        files: Vec<(MediumFile, String)>,
        /// Text files: path on the partition, contents.
        texts: Vec<(String, String)>,
        /// Kernel arguments besides the UKI's own.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        arguments: Vec<String>,
    },
    /// Make the state partition with the node config in it.
    MakeState {
        /// Its partition.
        partition: Partition,
    },
    /// Make the data partition with the medium's disk images in it.
    MakeData {
        /// Its partition.
        partition: Partition,
        /// File on the medium, name in the node's image folder.
        images: Vec<(MediumFile, String)>,
    },
    /// Put GRUB's core, for BIOS, into its partition and read it back.
    WriteBios {
        /// Its partition.
        partition: Partition,
        /// File on the medium.
        core: MediumFile,
    },
    /// Write the backup table, the primary table and the MBR, in this order, and read them back.
    WriteTable {
        /// File on the medium with the MBR's code; none for disks that no BIOS starts.
        boot: Option<MediumFile>,
    },
    /// Make the disk the firmware's first choice.
    PreferDisk {
        /// Partition of the boot loader.
        esp: Partition,
        /// Sector size of the disk in bytes.
        sector_size: u64,
        /// The boot loader's path on it.
        loader: String,
    },
}

/// A file of the medium that is used as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MediumFile {
    /// Path below the medium's folder.
    pub file: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// An image of the medium that is decoded while it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Payload {
    /// Path below the medium's folder.
    pub file: String,
    /// Length on the medium in bytes.
    pub size: u64,
    /// Length on the disk in bytes.
    pub raw_size: u64,
    /// SHA-256 of what is on the disk, hex.
    pub raw_sha256: String,
    /// Its frames; too many to show.
    #[serde(skip)]
    pub frames: Vec<Frame>,
}

/// Bytes on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// What a plan needs to know of the medium.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseContents<'a> {
    /// Its verified manifest.
    pub manifest: &'a Manifest,
    /// Length in bytes of each disk image on it, by its path in the images folder.
    pub images: &'a BTreeMap<String, u64>,
}

/// Every reason why there is no plan, at once.
#[derive(Debug)]
pub struct PlanErrors(pub Vec<PlanError>);

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for PlanErrors {}

/// One reason.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The machine's firmware cannot start the disk.
    #[error(
        "{}: has sectors of 4096 bytes and this machine was started by BIOS, which cannot boot such a disk; \
         switch the firmware to UEFI (CSM off) and boot the medium again, or select a disk with sectors of 512 bytes",
        .disk.display()
    )]
    Bios {
        /// The disk.
        disk: PathBuf,
    },
    /// The config says nothing about installing.
    #[error(
        "node.toml: [install] is missing, so no disk may be written; add it with disk = {{ serial = \"…\" }}\n{disks}"
    )]
    NoInstall {
        /// The machine's disks.
        disks: String,
    },
    /// Not exactly one disk fits.
    #[error("node.toml: {key}: {found} {selector}; {remedy}\n{disks}")]
    Selection {
        /// Where the selector stands.
        key: String,
        /// "no disk has" or "2 disks have".
        found: String,
        /// The selector as it was given.
        selector: String,
        /// What to write.
        remedy: String,
        /// Every disk, and why it fits or does not.
        disks: String,
    },
    /// The disk that fits cannot be used.
    #[error("{}: {reason}; {remedy}", .disk.display())]
    Disk {
        /// The disk.
        disk: PathBuf,
        /// Why not.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A link cannot get its NICs.
    #[error("node.toml: {link}: {reason}; {remedy}")]
    Network {
        /// The link, `network.bridge "br0"`.
        link: String,
        /// Why not.
        reason: String,
        /// What to write.
        remedy: String,
    },
    /// Kernel arguments cannot be given.
    #[error("node.toml: system.kernel-arguments: {reason}; {remedy}")]
    Arguments {
        /// Why not.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The release contradicts itself or does not fit.
    #[error("medium: {reason}; {remedy}")]
    Medium {
        /// What does not fit.
        reason: String,
        /// What to do.
        remedy: String,
    },
}

/// Decides everything. `id` is random, one for each installation.
pub fn plan(
    config: &NodeConfig,
    inventory: &Inventory,
    release: ReleaseContents<'_>,
    id: Uuid,
) -> Result<InstallPlan, PlanErrors> {
    let mut errors = Vec::new();
    let disk = select::disk(config.install.as_ref(), &inventory.disks, &mut errors);
    let data_disks = select::data_disks(config.install.as_ref(), disk, &inventory.disks, &mut errors);
    let network = network::resolve(&config.network.links, &inventory.nics, &mut errors);
    fit::check_manifest(release.manifest, &mut errors);
    let arguments = &config.system.kernel_arguments;
    boot::check_arguments(release.manifest, arguments, inventory.secure_boot, &mut errors);
    let images = fit::images(&config.images, release.images, &mut errors);
    let keeps = config.install.as_ref().is_some_and(keep::is_asked);
    let layout = disk.and_then(|disk| match keeps {
        true => Some((disk, keep::layout(disk, &config.images, &mut errors)?)),
        false => match of_config(disk, config, id) {
            Ok(layout) => Some((disk, layout)),
            Err(error) => {
                errors.push(select::unfit(disk, error));
                None
            }
        },
    });
    if let Some((disk, layout)) = &layout {
        fit::check_sizes(release.manifest, &images, disk, layout, &mut errors);
        boot::check(inventory.firmware, disk, layout, &mut errors);
    }
    match (layout, &config.install) {
        (Some((disk, layout)), Some(install)) if errors.is_empty() => Ok(InstallPlan {
            release: format!("{} {}", release.manifest.name, release.manifest.version),
            hostname: config.system.hostname.clone(),
            disk: Target {
                path: disk.path.clone(),
                serial: disk.serial.clone(),
                model: disk.model.clone(),
                size: disk.size,
                erased: match keeps {
                    true => keep::erased(disk, &layout),
                    false => select::contents(disk),
                },
                kept: keeps.then(|| keep::kept(&layout)),
            },
            steps: {
                let mut steps = match keeps {
                    true => keep::steps(release.manifest, &layout, inventory.firmware, arguments),
                    false => steps(
                        release.manifest,
                        images,
                        &layout,
                        erased(disk, &layout),
                        inventory.firmware,
                        arguments,
                    ),
                };
                empty(&data_disks, &mut steps);
                steps
            },
            on_failure: match keeps {
                true => OnFailure { erase: keep::boot_places(&layout), keeps_table: true },
                // Both copies of the table and the MBR.
                false => OnFailure {
                    erase: vec![Range { offset: 0, length: ALIGNMENT }, layout.tail()],
                    keeps_table: false,
                },
            },
            data_disks: data_disks.iter().map(|disk| disk.path.clone()).collect(),
            layout,
            network,
            then: install.then,
        }),
        _ => Err(PlanErrors(errors)),
    }
}

fn of_config(disk: &crate::inventory::Disk, config: &NodeConfig, id: Uuid) -> Result<Layout, LayoutError> {
    let install = config.install.as_ref();
    let state = install.and_then(|install| install.state_size).map(|size| size.0);
    let data = install.and_then(|install| install.data_size).map(|size| size.0);
    Layout::with_sizes(disk.size, disk.sector_size, id, state, data)
}

/// Disks of pools are emptied when everything else is on the disk and was read back: an installation that fails
/// before has not cost them anything.
fn empty(disks: &[&crate::inventory::Disk], steps: &mut Vec<Step>) {
    let table = steps.iter().position(|step| matches!(step, Step::WriteTable { .. })).unwrap_or(steps.len());
    for disk in disks.iter().rev().filter(|disk| !disk.signatures.is_empty()) {
        let tail = (disk.size.saturating_sub(ALIGNMENT)) / PAGE * PAGE;
        let ends = [
            Range { offset: 0, length: ALIGNMENT.min(disk.size) },
            Range { offset: tail, length: disk.size - tail },
        ];
        let ranges = with_signatures(disk, ends.to_vec());
        let erased = select::contents(disk);
        steps.insert(table, Step::EmptyDisk { path: disk.path.clone(), erased, ranges });
    }
}

fn steps(
    manifest: &Manifest,
    images: Vec<(MediumFile, String)>,
    layout: &Layout,
    erased: Vec<Range>,
    firmware: Firmware,
    arguments: &[String],
) -> Vec<Step> {
    let root = payload(&manifest.root);
    let verity = payload(&manifest.verity);
    let at = |role| layout.partition(role).offset;
    let esp = boot::files(manifest);
    let (core, boot) = boot::bios(manifest, layout).unzip();
    let mut files: Vec<MediumFile> = esp.iter().chain(&images).map(|(file, _)| file.clone()).collect();
    files.extend(core.iter().chain(&boot).cloned());
    files.dedup();
    let mut steps = vec![
        Step::CheckMedium { payloads: vec![root.clone(), verity.clone()], files },
        Step::Erase { ranges: erased },
        Step::WriteImage { payload: root.clone(), offset: at(Role::RootA) },
        Step::WriteImage { payload: verity.clone(), offset: at(Role::VerityA) },
        Step::VerifyImage { payload: root, offset: at(Role::RootA) },
        Step::VerifyImage { payload: verity, offset: at(Role::VerityA) },
        Step::MakeEsp {
            partition: layout.partition(Role::Esp).clone(),
            sector_size: layout.sector_size,
            files: esp,
            texts: boot::texts(manifest, layout, arguments),
            arguments: arguments.to_vec(),
        },
        Step::MakeState { partition: layout.partition(Role::State).clone() },
        Step::MakeData { partition: layout.partition(Role::Data).clone(), images },
    ];
    steps.extend(core.map(|core| Step::WriteBios { partition: layout.partition(Role::Bios).clone(), core }));
    steps.push(Step::WriteTable { boot });
    steps.extend(boot::prefer(firmware, layout));
    steps
}

/// Both ends of the disk, the start of every partition (an older slot or volume may lie there) and the place of
/// every signature that was found.
fn erased(disk: &crate::inventory::Disk, layout: &Layout) -> Vec<Range> {
    let starts = layout.partitions.iter().map(|partition| partition.offset);
    let mut ranges = vec![Range { offset: 0, length: ALIGNMENT }];
    ranges.extend(starts.map(|offset| Range { offset, length: ALIGNMENT }));
    ranges.push(layout.tail());
    with_signatures(disk, ranges)
}

/// `ranges`, and the place of every signature of `disk` that they do not cover.
fn with_signatures(disk: &crate::inventory::Disk, mut ranges: Vec<Range>) -> Vec<Range> {
    for signature in &disk.signatures {
        // One page holds any magic number; pages already erased are not listed twice.
        let offset = signature.offset / PAGE * PAGE;
        let covered = |range: &Range| offset >= range.offset && offset + PAGE <= range.offset + range.length;
        if !ranges.iter().any(covered) && offset + PAGE <= disk.size {
            ranges.push(Range { offset, length: PAGE });
        }
    }
    ranges
}

/// Bytes of the smallest write that suits every sector size.
const PAGE: u64 = 4096;

fn plain(plain: &Plain) -> MediumFile {
    MediumFile { file: plain.file.clone(), size: plain.size, sha256: plain.sha256.clone() }
}

fn payload(image: &Compressed) -> Payload {
    Payload {
        file: image.file.clone(),
        size: image.size,
        raw_size: image.raw_size,
        raw_sha256: image.raw_sha256.clone(),
        frames: image.frames.clone(),
    }
}
