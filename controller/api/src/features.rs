//! Features of the virtual machine that are on or off: ACPI, APIC, SMM, KVM's own and Hyper-V's.
//!
//! Why here: names, meanings and defaults are KubeVirt's. A feature that is named is on unless `enabled: false`; one that is
//! not named is as the machine type has it. Route in: `spec.domain.features` of a VMI. Route out: the agent's domain XML.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Features of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// ACPI. Default: on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acpi: Option<FeatureState>,
    /// APIC. Default: on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apic: Option<Apic>,
    /// System Management Mode; Secure Boot needs it. Default: as the machine type has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smm: Option<FeatureState>,
    /// How the guest sees KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kvm: Option<Kvm>,
    /// Paravirtual spinlocks of KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvspinlock: Option<FeatureState>,
    /// Features of Hyper-V, for Windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hyperv: Option<HyperV>,
    /// All features of Hyper-V that the node has; cannot be combined with hyperv.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hyperv_passthrough: Option<FeatureState>,
}

impl Features {
    /// Whether there is ACPI.
    pub fn has_acpi(&self) -> bool {
        self.acpi.as_ref().is_none_or(FeatureState::is_on)
    }

    /// Whether System Management Mode is asked for.
    pub fn has_smm(&self) -> bool {
        self.smm.as_ref().is_some_and(FeatureState::is_on)
    }
}

/// A feature that is on or off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureState {
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl FeatureState {
    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// APIC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Apic {
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Paravirtual end of interrupt. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_of_interrupt: Option<bool>,
}

/// How the guest sees KVM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Kvm {
    /// Hides KVM from the guest. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<bool>,
}

/// Features of Hyper-V.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HyperV {
    /// The guest does without watchdog timeouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relaxed: Option<FeatureState>,
    /// Paravirtual handling of interrupts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vapic: Option<FeatureState>,
    /// Retries before the guest gives up a spinlock to the hypervisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spinlocks: Option<Spinlocks>,
    /// Index of the virtual processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpindex: Option<FeatureState>,
    /// Time that a virtual processor spent in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<FeatureState>,
    /// Synthetic interrupt controller; sets vpindex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synic: Option<FeatureState>,
    /// Synthetic timers; sets synic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synictimer: Option<SynicTimer>,
    /// Reset by Hyper-V's register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<FeatureState>,
    /// The hypervisor's name that the guest reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendorid: Option<VendorId>,
    /// Frequencies of TSC and APIC in registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequencies: Option<FeatureState>,
    /// Notifications of changes of the TSC's frequency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reenlightenment: Option<FeatureState>,
    /// Paravirtual flush of TLBs; sets vpindex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tlbflush: Option<FeatureState>,
    /// Paravirtual interrupts between processors; sets vpindex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipi: Option<FeatureState>,
    /// Enlightened VMCS, for guests of the guest; sets vapic, and the CPU feature vmx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evmcs: Option<FeatureState>,
}

/// Retries before the guest gives up a spinlock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spinlocks {
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Number of retries. Default: 4096, the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4096, max = 4_294_967_295_u32))]
    pub spinlocks: Option<u32>,
}

/// Synthetic timers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SynicTimer {
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Interrupts of the timers without a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<FeatureState>,
}

/// The hypervisor's name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VendorId {
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The name, at most 12 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[!-+\--~]{1,12}$"))]
    pub vendorid: Option<String>,
}
