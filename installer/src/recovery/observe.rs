//! Looks at the disk: what the boot loaders are left with, and what the agent wrote down.
//!
//! Route in: the mounted EFI system partition, the mounted state partition. Route out: [`Observed`].

use super::{Observed, SLOTS, SlotState};
use sheaf_config::grub;
use sheaf_config::load::parse_node_config;
use sheaf_host::esp::{BootFiles, EspError};
use sheaf_release::boot::{self, ENVIRONMENT, Slot, UKIS, UkiName};
use sheaf_release::records;
use std::fs;
use std::path::{Path, PathBuf};

/// Why the disk is not known.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The boot loader did not say where it is.
    #[error(
        "the boot loader gave no kernel argument sheaf.esp, so the node's disk is not known; start the install medium to \
         install the node again"
    )]
    NoDisk,
    /// The EFI system partition cannot be read.
    #[error("the EFI system partition cannot be read; start the install medium to install the node again")]
    Esp(#[from] EspError),
}

/// Partitions of the installation, below `/dev/disk/by-partuuid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions {
    folder: PathBuf,
    /// UUID of the EFI system partition without its last two digits, the number.
    stem: String,
}

impl Partitions {
    /// Those of the installation whose EFI system partition has the PARTUUID `esp`, in `folder`.
    pub fn of(folder: &Path, esp: Option<&str>) -> Result<Self, ObserveError> {
        let esp = esp.filter(|esp| esp.len() == 36 && esp.chars().all(|c| c.is_ascii_hexdigit() || c == '-'));
        let stem = esp.and_then(|esp| esp.get(..34)).ok_or(ObserveError::NoDisk)?;
        Ok(Self { folder: folder.to_owned(), stem: stem.to_lowercase() })
    }

    fn number(&self, number: u8) -> PathBuf {
        self.folder.join(format!("{}{number:02x}", self.stem))
    }

    /// The EFI system partition.
    pub fn esp(&self) -> PathBuf {
        self.number(2)
    }

    /// The state partition.
    pub fn state(&self) -> PathBuf {
        self.number(records::STATE)
    }

    /// The partition of records.
    pub fn records(&self) -> PathBuf {
        self.number(records::PARTITION)
    }

    /// UUID of the installation.
    pub fn install(&self) -> String {
        format!("{}00", self.stem)
    }

    /// Root and hash tree of `slot`.
    pub fn slot(&self, slot: Slot) -> (PathBuf, PathBuf) {
        match slot {
            Slot::A => (self.number(5), self.number(3)),
            Slot::B => (self.number(6), self.number(4)),
        }
    }
}

/// Slots and UKIs, from the EFI system partition.
pub fn esp(files: &dyn BootFiles, is_uefi: bool) -> Result<([SlotState; 2], Vec<UkiName>), ObserveError> {
    let ukis: Vec<UkiName> = files.list(UKIS)?.iter().filter_map(|name| UkiName::parse(name)).collect();
    let environment = files.read(ENVIRONMENT)?.unwrap_or_default();
    let variables = grub::variables(&String::from_utf8_lossy(&environment));
    let mut slots = Vec::new();
    for slot in SLOTS {
        let entry = files.read(&slot.entry())?;
        let version = entry.and_then(|entry| boot::version_of_entry(&String::from_utf8_lossy(&entry)));
        let uki = ukis.iter().find(|uki| Some(&uki.version) == version.as_ref()).cloned();
        let name = format!("{}_left", slot.name());
        let by_grub = variables.iter().find(|(of, _)| *of == name).and_then(|(_, left)| left.parse().ok());
        let tries = if is_uefi { uki.as_ref().and_then(|uki| uki.left) } else { by_grub };
        slots.push(SlotState { slot, version, uki, tries });
    }
    let [a, b] = <[SlotState; 2]>::try_from(slots).unwrap_or_else(|_| SLOTS.map(empty));
    Ok(([a, b], ukis))
}

fn empty(slot: Slot) -> SlotState {
    SlotState { slot, version: None, uki: None, tries: None }
}

/// Why releases were given up: what the agent keeps in `update` of the state partition (agent/src/update/records.rs).
pub fn reasons(update: &Path) -> Vec<String> {
    let read = |name: &str| -> Option<serde_json::Value> {
        serde_json::from_slice(&fs::read(update.join(name)).ok()?).ok()
    };
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let mut reasons = Vec::new();
    if let Some(trial) = read("trial.json") {
        let version = text(&trial["version"]).unwrap_or_default();
        let all = trial["reasons"].as_array().into_iter().flatten().filter_map(text);
        reasons.extend(all.map(|reason| format!("{version} was on trial: {reason}")));
    }
    if let Some(outcome) = read("outcome.json") {
        let version = text(&outcome["version"]).unwrap_or_default();
        reasons.extend(text(&outcome["reason"]).map(|reason| format!("{version} was rolled back: {reason}")));
    }
    let given_up = fs::read_to_string(update.join("given-up")).unwrap_or_default();
    reasons.extend(Some(given_up.trim().to_owned()).filter(|line| !line.is_empty()));
    reasons
}

/// Everything but a reset that was asked for. `state` is the mounted state partition, or why there is none.
pub fn observe(
    files: &dyn BootFiles,
    is_uefi: bool,
    state: Result<&Path, String>,
) -> Result<Observed, ObserveError> {
    let (slots, ukis) = esp(files, is_uefi)?;
    let (state, problem) = match state {
        Ok(state) => (Some(state), None),
        Err(why) => (None, Some(why)),
    };
    let update = state.map(|state| state.join("update"));
    let oldest = update.as_ref().and_then(|update| fs::read_to_string(update.join("oldest")).ok());
    // What node.toml says is the agent's to judge; here only what the boot loaders need of it counts.
    let text = state.and_then(|state| fs::read_to_string(state.join("node.toml")).ok());
    let config = text.as_ref().and_then(|text| parse_node_config("node.toml", text).ok());
    Ok(Observed {
        is_uefi,
        slots,
        ukis,
        reasons: update.as_deref().map(reasons).unwrap_or_default(),
        oldest: oldest.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        node: config.as_ref().map(|config| config.system.hostname.clone()),
        arguments: config.map(|config| config.system.kernel_arguments).unwrap_or_default(),
        state: problem,
        config: text,
        reset: None,
    })
}
