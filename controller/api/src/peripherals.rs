//! Devices of a VM beside disks and NICs: TPM, watchdog, tablet.
//!
//! Why here: names, meanings and defaults are KubeVirt's. Route in: `spec.domain.devices` of a VMI. Route out: the agent's
//! domain XML, and the folder in which the state of a persistent TPM outlives an instance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::words::words;

/// A TPM 2.0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tpm {
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Keeps what is in the TPM between two instances, on the node that the VM runs on. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
}

impl Tpm {
    /// Whether there is one.
    pub fn is_on(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    /// Whether there is one whose state outlives an instance.
    pub fn is_persistent(&self) -> bool {
        self.is_on() && self.persistent.unwrap_or(false)
    }
}

/// A watchdog.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Watchdog {
    /// Its name.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,63}$"))]
    pub name: String,
    /// Intel 6300ESB. The default, and the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub i6300esb: Option<I6300Esb>,
}

impl Watchdog {
    /// What happens when the guest does not answer.
    pub fn action(&self) -> WatchdogAction {
        self.i6300esb.as_ref().and_then(|esb| esb.action).unwrap_or(WatchdogAction::Reset)
    }
}

/// Intel 6300ESB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct I6300Esb {
    /// What happens when the guest does not answer. Default: reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<WatchdogAction>,
}

words! {
    /// What a watchdog does.
    WatchdogAction {
        /// Ends QEMU at once.
        Poweroff = "poweroff",
        /// Presses the reset button.
        Reset = "reset",
        /// Presses the power button.
        Shutdown = "shutdown",
    }
}

/// An input device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Input {
    /// Its name.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,63}$"))]
    pub name: String,
    /// tablet: a pointer at absolute positions, which a VNC viewer needs.
    #[serde(rename = "type")]
    pub type_: InputType,
    /// Default: usb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<InputBus>,
}

words! {
    /// Kind of an input device.
    InputType {
        /// A pointer at absolute positions.
        Tablet = "tablet",
    }
}

words! {
    /// What an input device is attached to.
    InputBus {
        /// USB.
        Usb = "usb",
        /// virtio-input.
        Virtio = "virtio",
    }
}
