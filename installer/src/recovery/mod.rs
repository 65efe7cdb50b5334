//! The recovery: the installer, started from the disk of a node none of whose slots can be started any more.
//!
//! Why the installer: it is in every release, it has the keys, the network and the consoles, and it needs nothing of the slots.
//! docs/decisions/0044-recovery.md says what it does not do: it answers nothing on the network.
//! [`observe()`] → [`plan`] → [`apply`]. Route in: the kernel arguments `sheaf.recovery` and `sheaf.esp`, keys that somebody
//! presses. Route out: a text that says what is wrong; a slot that has its tries again, or another release in it.

pub mod apply;
mod observe;
pub mod plan;

pub use observe::{ObserveError, Partitions, esp, observe, reasons};

use sheaf_release::boot::{Slot, UkiName};
use sheaf_release::records::reset::Mark;

/// Both slots.
pub const SLOTS: [Slot; 2] = [Slot::A, Slot::B];

/// One slot, as far as the boot loaders know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Which.
    pub slot: Slot,
    /// Version of its release; none for one that was never written.
    pub version: Option<String>,
    /// Its UKI.
    pub uki: Option<UkiName>,
    /// Tries that the boot loader of this machine gives it; none for a release that is known to be good.
    pub tries: Option<u32>,
}

/// What is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The machine was started by UEFI.
    pub is_uefi: bool,
    /// Slots A and B.
    pub slots: [SlotState; 2],
    /// All UKIs of slots.
    pub ukis: Vec<UkiName>,
    /// Why releases were given up, as the agent wrote it down.
    pub reasons: Vec<String>,
    /// The oldest version that the node may run.
    pub oldest: Option<String>,
    /// The node's own kernel arguments.
    pub arguments: Vec<String>,
    /// Why the state partition could not be read.
    pub state: Option<String>,
    /// node.toml, as far as it can be read.
    pub config: Option<String>,
    /// Name of the node.
    pub node: Option<String>,
    /// A reset that was asked for and is not done.
    pub reset: Option<Mark>,
}

impl Observed {
    /// The slot `slot`.
    pub fn slot(&self, slot: Slot) -> &SlotState {
        &self.slots[usize::from(slot == Slot::B)]
    }

    /// Whether the boot loader of this machine would start a slot: somebody chose the recovery in its menu.
    pub fn starts(&self) -> bool {
        self.slots.iter().any(|state| state.uki.is_some() && state.tries != Some(0))
    }

    /// What is wrong, for people: a line for each slot, and what the agent wrote down.
    pub fn report(&self) -> Vec<String> {
        let can = if self.starts() {
            "A slot of this disk can be started."
        } else {
            "No slot of this disk can be started."
        };
        let mut lines =
            vec!["SHEAF RECOVERY".to_owned(), format!("{can} node.toml, state and data are as they were.")];
        for state in &self.slots {
            let name = state.slot.name();
            lines.push(match (&state.version, &state.uki, state.tries) {
                (None, ..) => format!("  slot {name}: empty"),
                (Some(version), None, _) => format!("  slot {name}: {version}, its kernel image is missing"),
                (Some(version), Some(_), Some(0)) => format!("  slot {name}: {version}, no try left"),
                (Some(version), Some(_), Some(1)) => format!("  slot {name}: {version}, 1 try left"),
                (Some(version), Some(_), Some(left)) => {
                    format!("  slot {name}: {version}, {left} tries left")
                }
                (Some(version), Some(_), None) => format!("  slot {name}: {version}, found good before"),
            });
        }
        lines.extend(self.reasons.iter().map(|reason| format!("  {reason}")));
        lines.extend(self.state.iter().map(|why| format!("  the state partition cannot be read: {why}")));
        lines.extend(self.reset.iter().map(|mark| {
            let pools = if mark.pools { " with its pools" } else { "" };
            format!(
                "  a reset of this node{pools} is asked for: it is done when a slot starts (k withdraws it)"
            )
        }));
        lines
    }
}

/// What somebody may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Start this slot again, with new tries.
    Again(Slot),
    /// Install a release from a medium into a slot.
    Medium,
    /// The same from a web server.
    Url,
    /// Reset the node when a slot starts.
    Reset {
        /// Erase its pools, too.
        pools: bool,
    },
    /// Withdraw a reset that was asked for.
    Keep,
    /// Restart the machine.
    Restart,
    /// Switch it off.
    PowerOff,
}

impl Choice {
    /// All of them: key, choice, in words.
    pub const ALL: [(u8, Self, &str); 9] = [
        (b'a', Self::Again(Slot::A), "start slot a again, three times at most"),
        (b'b', Self::Again(Slot::B), "start slot b again, three times at most"),
        (b'm', Self::Medium, "install a release from a medium into a slot; attach the medium first"),
        (b'u', Self::Url, "install a release from a web server into a slot"),
        (
            b'f',
            Self::Reset { pools: false },
            "reset this node: erase state and data; node.toml and pools are kept",
        ),
        (b'w', Self::Reset { pools: true }, "reset this node and erase its pools; node.toml is kept"),
        (b'k', Self::Keep, "withdraw a reset that was asked for"),
        (b'r', Self::Restart, "restart the machine"),
        (b'p', Self::PowerOff, "switch the machine off"),
    ];

    /// The choice of `key`.
    pub fn of(key: u8) -> Option<Self> {
        let key = key.to_ascii_lowercase();
        Self::ALL.iter().find(|(of, ..)| *of == key).map(|(_, choice, _)| *choice)
    }
}

#[cfg(test)]
mod tests;
