//! What follows from a choice. Pure.
//!
//! Why the order is safe: a slot is passed over by both boot loaders before its first byte changes, and has tries again when all
//! of it was read back. A power cut in between starts the recovery again. Route in: [`Observed`], a choice, the manifest of the
//! release that is installed. Route out: steps.

use super::{Observed, SLOTS};
use sheaf_config::manifest::{Manifest, STATE};
use sheaf_release::boot::{Slot, TRIES, counted};
use sheaf_release::records::reset::Mark;
use sheaf_release::version::compare;
use std::fmt;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Set GRUB's variables.
    Environment(Vec<(String, String)>),
    /// Give a UKI another name.
    Rename {
        /// Its name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// Remove a UKI.
    Remove(String),
    /// Write hash tree and root of the release into the slot, and read both back.
    WriteSlot(Slot),
    /// Write GRUB's script of the slot.
    WriteEntry(Slot),
    /// Write the UKI under this name.
    WriteUki(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(_) => f.write_str("set GRUB's variables"),
            Self::Rename { from, to } => write!(f, "rename {from} to {to}"),
            Self::Remove(name) => write!(f, "remove {name}"),
            Self::WriteSlot(slot) => {
                write!(f, "write the release into slot {} and read it back", slot.name())
            }
            Self::WriteEntry(slot) => write!(f, "write GRUB's script of slot {}", slot.name()),
            Self::WriteUki(name) => write!(f, "write {name}"),
        }
    }
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing to start.
    #[error("slot {0} has no release that could be started; install one (m or u)")]
    Empty(&'static str),
    /// The release is older than the node permits.
    #[error(
        "{version} is older than {oldest}, the oldest version that this node may run; take {oldest} or a newer one"
    )]
    Old {
        /// The release's.
        version: String,
        /// The node's.
        oldest: String,
    },
    /// The release cannot read what is on the state partition.
    #[error(
        "{version} reads formats {oldest} to {newest} of the state partition, and this recovery was made for format {here}; \
         take the release that ran last, or one of its series"
    )]
    State {
        /// The release's.
        version: String,
        /// Of the release.
        oldest: u32,
        /// Of the release.
        newest: u32,
        /// Of the recovery.
        here: u32,
    },
    /// It is for other machines.
    #[error("the release is for {0}, this machine is {1}; take the release for this machine")]
    Arch(String, &'static str),
    /// Pools are known by the node's name.
    #[error(
        "the node's name cannot be read from node.toml, so its pools are not known; reset it without them (f), and erase them \
         afterwards"
    )]
    Unnamed,
    /// Something else was typed.
    #[error("{typed:?} was typed instead of {name:?}; nothing is changed")]
    OtherName {
        /// What was to be typed.
        name: String,
        /// What was.
        typed: String,
    },
    /// It has no place.
    #[error("the release needs {needs} bytes of {partition}, which has {has}; take a smaller release")]
    Size {
        /// Which.
        partition: &'static str,
        /// Bytes of the image.
        needs: u64,
        /// Bytes of the partition.
        has: u64,
    },
}

/// GRUB's variables that start `slot` with `left` tries, and the other one never.
fn environment(slot: Slot, left: u32) -> Step {
    let (name, other) = (slot.name(), slot.other().name());
    Step::Environment(vec![
        ("order".to_owned(), format!("{name} {other}")),
        (format!("{name}_left"), left.to_string()),
        (format!("{other}_left"), "0".to_owned()),
    ])
}

/// systemd-boot passes over all UKIs but that of `version`.
fn used_up(observed: &Observed, version: &str) -> Vec<Step> {
    let others = observed.ukis.iter().filter(|uki| uki.version != version && uki.left != Some(0));
    others.map(|uki| Step::Rename { from: uki.file.clone(), to: counted(&uki.version, 0) }).collect()
}

/// Starts `slot` once more, for as many tries as a new release gets; the other slot is passed over meanwhile. The release is
/// judged by its own health gate, as any that is on trial.
pub fn again(observed: &Observed, slot: Slot) -> Result<Vec<Step>, Refusal> {
    let state = observed.slot(slot);
    let uki = state.uki.as_ref().ok_or(Refusal::Empty(slot.name()))?;
    let mut steps = used_up(observed, &uki.version);
    let to = counted(&uki.version, TRIES);
    if uki.file != to {
        steps.push(Step::Rename { from: uki.file.clone(), to });
    }
    steps.push(environment(slot, TRIES));
    Ok(steps)
}

/// The slot that a release of `version` goes into: the one that has it already, else an empty one, else that of the older
/// release.
pub fn target(observed: &Observed, version: &str) -> Slot {
    let [a, b] = &observed.slots;
    let holds = |slot: Slot| observed.slot(slot).version.as_deref() == Some(version);
    if let Some(slot) = SLOTS.into_iter().find(|slot| holds(*slot)) {
        return slot;
    }
    match (&a.version, &b.version) {
        (_, None) => Slot::B,
        (None, _) => Slot::A,
        (Some(a), Some(b)) if compare(a, b).is_lt() => Slot::A,
        _ => Slot::B,
    }
}

/// Whether the release of `manifest` may be installed. `room` are the bytes of root and hash tree of its slot.
pub fn judge(
    observed: &Observed,
    manifest: &Manifest,
    arch: &'static str,
    room: (u64, u64),
) -> Result<(), Refusal> {
    let version = manifest.version.clone();
    if manifest.arch != arch {
        return Err(Refusal::Arch(manifest.arch.clone(), arch));
    }
    if let Some(oldest) = observed.oldest.as_ref().filter(|oldest| compare(&version, oldest).is_lt()) {
        return Err(Refusal::Old { version, oldest: oldest.clone() });
    }
    let theirs = &manifest.terms.state;
    if !theirs.can_read(&STATE) {
        let (oldest, newest) = theirs.reads;
        return Err(Refusal::State { version, oldest, newest, here: STATE.writes });
    }
    for (partition, image, has) in [("root", &manifest.root, room.0), ("verity", &manifest.verity, room.1)] {
        if image.raw_size > has {
            return Err(Refusal::Size { partition, needs: image.raw_size, has });
        }
    }
    Ok(())
}

/// Installs a release of `version` into `slot`, and starts it.
pub fn install(observed: &Observed, version: &str, slot: Slot) -> Vec<Step> {
    let former = observed.slot(slot).version.as_deref();
    let gone =
        observed.ukis.iter().filter(|uki| uki.version == version || Some(uki.version.as_str()) == former);
    let gone: Vec<_> = gone.map(|uki| uki.file.clone()).collect();
    let kept = Observed {
        ukis: observed.ukis.iter().filter(|uki| !gone.contains(&uki.file)).cloned().collect(),
        ..observed.clone()
    };
    let disarm = std::iter::once(environment(slot, 0)).chain(gone.into_iter().map(Step::Remove));
    let write = [
        Step::WriteSlot(slot),
        Step::WriteEntry(slot),
        Step::WriteUki(counted(version, TRIES)),
        environment(slot, TRIES),
    ];
    disarm.chain(used_up(&kept, version)).chain(write).collect()
}

/// What is typed to confirm a reset: the node's name.
fn confirmation(observed: &Observed) -> &str {
    observed.node.as_deref().unwrap_or("reset")
}

/// What a reset does, and what to type.
pub fn warning(observed: &Observed, pools: bool) -> Result<Vec<String>, Refusal> {
    if pools && observed.node.is_none() {
        return Err(Refusal::Unnamed);
    }
    let pools = if pools { "Its pools with all volumes of VMs are erased" } else { "Its pools are kept" };
    let config = match &observed.config {
        Some(_) => "node.toml is kept: the node takes part in its cluster again by a new token",
        None => "node.toml cannot be read and is lost: the node then has no cluster, and an address by DHCP",
    };
    Ok(vec![
        "When a slot starts, everything in state and data is erased: the node's keys, etcd, logs, images, disks and files of VMs.".into(),
        format!("{pools}. {config}."),
        "What the cluster has of this node stays there until it is removed by a NodeRemoval.".into(),
        format!("Type {} and Enter; Escape to go back:", confirmation(observed)),
    ])
}

/// The mark of a reset of the installation `install`, when `typed` confirms it.
pub fn reset(observed: &Observed, install: String, pools: bool, typed: &str) -> Result<Mark, Refusal> {
    let name = confirmation(observed);
    if typed.trim() != name {
        return Err(Refusal::OtherName { name: name.to_owned(), typed: typed.to_owned() });
    }
    let node = observed.node.clone().unwrap_or_default();
    Ok(Mark { install, node, pools, config: observed.config.clone() })
}
