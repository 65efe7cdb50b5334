//! The machine and the medium as the screens know them. Pure.
//!
//! Route in: an inventory and a release, found by the runner. Route out: which disk may be chosen, and how node.toml
//! names it. The rules are those of [`crate::plan`]: it is asked about each disk.

use crate::inventory::{Disk, Inventory, Nic};
use crate::plan::{InstallPlan, PlanError, ReleaseContents, plan};
use sheaf_config::load::parse_node_config;
use sheaf_config::manifest::Manifest;
use sheaf_config::node::NodeConfig;
use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

/// How many last characters of a serial prove that a disk is meant: what fits on a drive bay's label.
pub const PROOF: usize = 4;

/// Everything a plan needs but the config.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What the machine has.
    pub inventory: Inventory,
    /// The verified manifest of the medium.
    pub manifest: Manifest,
    /// Length in bytes of each disk image on the medium.
    pub images: BTreeMap<String, u64>,
    /// Random, one for each look at the machine.
    pub id: Uuid,
}

impl Machine {
    /// `sheaf 0.1.0`
    pub fn release(&self) -> String {
        format!("{} {}", self.manifest.name, self.manifest.version)
    }

    /// The plan for `config`, or every reason why there is none.
    pub fn plan(&self, config: &NodeConfig) -> Result<InstallPlan, Vec<PlanError>> {
        let contents = ReleaseContents { manifest: &self.manifest, images: &self.images };
        plan(config, &self.inventory, contents, self.id).map_err(|errors| errors.0)
    }

    /// The disk at `path`.
    pub fn disk(&self, path: &Path) -> Option<&Disk> {
        self.inventory.disks.iter().find(|disk| disk.path == path)
    }

    /// The NIC called `name`.
    pub fn nic(&self, name: &str) -> Option<&Nic> {
        self.inventory.nics.iter().find(|nic| nic.name == name)
    }

    /// Why `disk` cannot be chosen at all, whatever is typed.
    pub fn refusal(&self, disk: &Disk) -> Option<String> {
        if disk.is_medium {
            return Some("it is the install medium".into());
        }
        let mut install = super::file::Toml::default();
        install.table("install");
        install.inline("disk", &self.selector(disk));
        if let (Some(serial), true) = (&disk.serial, holds_data(disk)) {
            install.text("wipe", serial);
        }
        let text = format!("version = 1\nsystem.hostname = \"node\"\n{}", install.finish());
        let config = match parse_node_config("node.toml", &text) {
            Ok(config) => config,
            Err(errors) => return errors.problems.first().map(|p| format!("{}; {}", p.what, p.remedy)),
        };
        let errors = self.plan(&config).err()?;
        errors.iter().filter(|error| is_about_disk(error)).map(first_line).next()
    }

    /// How node.toml names `disk`: by what only it has, best its serial.
    pub fn selector(&self, disk: &Disk) -> Vec<(&'static str, String)> {
        let alone = |fact: fn(&Disk) -> &Option<String>| {
            fact(disk).is_some()
                && self.inventory.disks.iter().filter(|other| fact(other) == fact(disk)).count() == 1
        };
        let serial = disk.serial.clone().map(|serial| ("serial", serial));
        if alone(|disk| &disk.serial) {
            return serial.into_iter().collect();
        }
        let by_path = disk.links.iter().find(|link| link.starts_with("/dev/disk/by-path"));
        let other = match &disk.wwn {
            Some(wwn) if alone(|disk| &disk.wwn) => ("wwn", wwn.clone()),
            _ => ("path", by_path.unwrap_or(&disk.path).display().to_string()),
        };
        // A serial that several disks claim still has to be said: it is what a wipe proof is compared with.
        serial.into_iter().chain([other]).collect()
    }
}

/// Whether anything is on `disk` that only a typed serial may erase.
pub fn holds_data(disk: &Disk) -> bool {
    !disk.signatures.is_empty() || disk.unreadable.is_some()
}

/// The serial that `typed` stands for: all of it, or enough of its end. Anything else stays as it was typed, and is
/// refused by the config's own rule.
pub fn proven(typed: &str, disk: &Disk) -> String {
    match &disk.serial {
        Some(serial) if typed.chars().count() >= PROOF && serial.ends_with(typed) => serial.clone(),
        _ => typed.to_owned(),
    }
}

/// Whether `error` is about the disk that was chosen.
pub fn is_about_disk(error: &PlanError) -> bool {
    matches!(error, PlanError::Disk { .. } | PlanError::Selection { .. })
}

/// What an error says next to the answer it is about: without the name of the disk, and before it lists disks.
pub fn first_line(error: &PlanError) -> String {
    match error {
        PlanError::Disk { reason, remedy, .. } => format!("{reason}; {remedy}"),
        error => error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
