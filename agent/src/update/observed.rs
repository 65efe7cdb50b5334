//! Everything that an update is planned from, at one moment.
//!
//! Why here: the plan, the report and the tests of both speak of these. Route in: filled by [`super::observe`]. Route out:
//! questions about it, answered without I/O.

use super::loaders;
use super::records::{Fetched, Outcome, Place, Request, Saved, Seen, Slots, Trial};
use sheaf_api::node_update::{Action, SlotStatus};
use sheaf_config::manifest::{Manifest, StateFormat};
use sheaf_release::boot::{Slot, TRIES, UkiName};

/// What an administrator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which spec of which object.
    pub request: Request,
    /// The version that shall run.
    pub version: String,
    /// Where it is taken from.
    pub source: Option<Place>,
    /// The channel that it must be of.
    pub channel: Option<String>,
    /// How far the node goes.
    pub action: Action,
    /// Seconds for the health gate.
    pub timeout: u32,
    /// No snapshot of etcd is taken before the restart.
    pub without_snapshot: bool,
    /// It was asked for on this node, not by a NodeUpdate.
    pub is_local: bool,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its slot.
    pub slot: Slot,
    /// Its version.
    pub version: String,
    /// Name of the release, `sheaf`.
    pub name: String,
    /// The kernel's identifier of this boot.
    pub boot_id: String,
    /// Whether the firmware is UEFI: which of the two counters was used.
    pub is_uefi: bool,
    /// Version of Kubernetes, `1.37.0`.
    pub kubernetes: String,
    /// Formats of `/state`.
    pub state: StateFormat,
}

/// What the EFI system partition says to the boot loaders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Esp {
    /// Our UKIs.
    pub ukis: Vec<UkiName>,
    /// Temporary files beside them, of a write that was cut short.
    pub leftovers: Vec<String>,
    /// Variables of GRUB.
    pub environment: Vec<(String, String)>,
    /// Boot loaders and recovery.
    pub files: loaders::Files,
}

/// A release in the updater's folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its manifest, whose signature was verified.
    pub manifest: Manifest,
    /// For whom, and whether it is in the slot.
    pub fetched: Fetched,
    /// Boot loaders and recovery that were fetched with it.
    pub files: Vec<loaders::File>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// What runs.
    pub running: Running,
    /// What would be started.
    pub esp: Esp,
    /// Bytes of the other slot's partitions: root, verity.
    pub room: (u64, u64),
    /// The release that was fetched.
    pub kept: Option<Kept>,
    /// The trial under way.
    pub trial: Option<Trial>,
    /// How the last update ended.
    pub outcome: Option<Outcome>,
    /// The newest version that passed.
    pub floor: Option<String>,
    /// The oldest version that may be started on purpose.
    pub oldest: Option<String>,
    /// The newest manifest that was taken.
    pub seen: Option<Seen>,
    /// Seconds since 1970, once the clock is synchronised.
    pub clock: Option<u64>,
    /// Kernel arguments of the node config.
    pub arguments: Vec<String>,
    /// The node has an etcd.
    pub has_etcd: bool,
    /// The snapshot of it that was taken last for an update.
    pub snapshot: Option<Saved>,
}

impl Esp {
    /// GRUB's variable `name`.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Tries that GRUB gives `slot`; none for one that is known to be good.
    pub fn grub_left(&self, slot: Slot) -> Option<u32> {
        self.variable(&format!("{}_left", slot.name()))?.parse().ok()
    }

    /// Whether GRUB begins with `slot`.
    pub fn grub_prefers(&self, slot: Slot) -> bool {
        self.variable("order").is_some_and(|order| order.split(' ').next() == Some(slot.name()))
    }
}

impl Observed {
    /// The UKI of the running release.
    pub fn running_uki(&self) -> Option<&UkiName> {
        self.esp.ukis.iter().find(|uki| uki.version == self.running.version)
    }

    /// The other UKIs.
    pub fn other_ukis(&self) -> impl Iterator<Item = &UkiName> {
        self.esp.ukis.iter().filter(|uki| uki.version != self.running.version)
    }

    /// Tries that are left to the running release while it is on trial; none once it is known to be good.
    pub fn tries_left(&self) -> Option<u32> {
        let by_name = self.running_uki().and_then(|uki| uki.left);
        let by_grub = self.esp.grub_left(self.running.slot);
        match self.running.is_uefi {
            true => by_name.or(by_grub),
            false => by_grub.or(by_name),
        }
    }

    /// The slots, as the status shows them.
    pub fn slots(&self) -> Slots {
        let slot = |slot: Slot, version: &str, left| SlotStatus {
            slot: slot.name().into(),
            version: version.to_owned(),
            tries_left: left,
        };
        let Running { slot: running, version, .. } = &self.running;
        let other = self.other_ukis().next().map(|uki| slot(running.other(), &uki.version, uki.left));
        let staged = self.kept.as_ref().filter(|kept| kept.fetched.staged);
        Slots {
            running: slot(*running, version, self.tries_left()),
            other,
            floor: self.floor.clone(),
            staged: staged.map(|kept| kept.manifest.version.clone()),
            snapshot: self.snapshot.as_ref().map(|saved| saved.name.clone()),
            loader: self.esp.files.loader.clone(),
            has_recovery: self.esp.files.has_recovery,
        }
    }

    /// Version of the release in the other slot that was found good.
    pub fn good_other(&self) -> Option<&str> {
        self.other_ukis().find(|uki| uki.left.is_none()).map(|uki| uki.version.as_str())
    }

    /// Whether the boot loader of this machine has given the release of `trial`, which does not run, a try.
    pub fn was_tried(&self, trial: &Trial) -> bool {
        let other = self.running.slot.other();
        match self.running.is_uefi {
            true => {
                let left = self.other_ukis().find(|uki| uki.version == trial.version).map(|uki| uki.left);
                left.is_some_and(|left| left.is_none_or(|left| left < TRIES))
            }
            false => {
                self.esp.grub_prefers(other) && self.esp.grub_left(other).is_some_and(|left| left < TRIES)
            }
        }
    }
}
