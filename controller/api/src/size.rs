//! How large a VM is, and how far it can grow while it runs.
//!
//! Why here: the contract between controller and agent about a size that changes. A Pod's annotation of the VMI never changes; so the
//! controller writes the size that the node is to make into another one, once the Pod's requests are large enough for it, and
//! the node reports in a third what the domain has. Route in: a domain's spec. Route out: annotations
//! [`crate::names::SIZE_ANNOTATION`] and [`crate::names::PLUGGED_ANNOTATION`] of a placeholder Pod.

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Cpu, DomainSpec},
    names::{PLUGGED_ANNOTATION, SIZE_ANNOTATION},
    quantity::Amount,
};

/// Memory is plugged in blocks of so many bytes, as in KubeVirt (pkg/liveupdate/memory): the size of a transparent huge page.
pub const BLOCK: u64 = 2 << 20;

/// The size of a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Memory of the guest, in bytes.
    pub memory: u64,
    /// Sockets of its CPU.
    pub sockets: u32,
}

/// What the node reports of a VM that can grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugged {
    /// What the domain may use: what is set aside for it is never less.
    pub size: Size,
    /// Memory that the guest has taken up, in bytes: less while it is still adding blocks.
    pub taken: u64,
    /// What the domain started with.
    pub boot: Size,
    /// What it can grow to.
    pub most: Size,
}

impl Size {
    /// The size that `domain` asks for.
    pub fn of(domain: &DomainSpec) -> Self {
        let guest = domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
        Self { memory: bytes(guest), sockets: domain.cpu.as_ref().and_then(|cpu| cpu.sockets).unwrap_or(1) }
    }

    /// What a VM that starts with `domain` can grow to: its own size, where it cannot grow. Memory grows up to `maxGuest` in whole
    /// [`BLOCK`]s, and not on huge pages, of which a Pod cannot get more; sockets do not where CPUs are dedicated; both need ACPI.
    pub fn most(domain: &DomainSpec) -> Self {
        let mut most = Self::of(domain);
        if domain.features.as_ref().is_some_and(|features| !features.has_acpi()) {
            return most;
        }
        if let Some(memory) = domain.memory.as_ref().filter(|memory| memory.hugepages.is_none()) {
            let max = bytes(memory.max_guest.as_ref());
            let is_whole = max.is_multiple_of(BLOCK) && most.memory.is_multiple_of(BLOCK);
            if is_whole && most.memory > 0 {
                most.memory = most.memory.max(max);
            }
        }
        let shared = domain.cpu.as_ref().filter(|cpu| !cpu.is_dedicated());
        let sockets = shared.and_then(|cpu| cpu.max_sockets);
        most.sockets = most.sockets.max(sockets.unwrap_or(0));
        most
    }

    /// Whether it is as large as `other` or larger, in each part.
    pub fn covers(self, other: Self) -> bool {
        self.memory >= other.memory && self.sockets >= other.sockets
    }

    /// The larger of both, in each part.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { memory: self.memory.max(other.memory), sockets: self.sockets.max(other.sockets) }
    }

    /// `domain` at this size.
    #[must_use]
    pub fn put(self, domain: &DomainSpec) -> DomainSpec {
        let mut domain = domain.clone();
        domain.memory.get_or_insert_default().guest = Some(Amount::of_bytes(self.memory));
        domain.cpu.get_or_insert_with(Cpu::default).sockets = Some(self.sockets);
        domain
    }

    /// The size that the VM of `pod` is to have, if the controller has written one.
    pub fn wanted(pod: &Pod) -> Option<Self> {
        read(pod, SIZE_ANNOTATION)
    }

    /// The annotation's text.
    pub fn to_annotation(self) -> String {
        // Only maps with keys that are not strings can fail here, and there are none.
        serde_json::to_string(&self).unwrap_or_default()
    }
}

impl Plugged {
    /// What the node reported of the VM of `pod`; nothing for one that cannot grow.
    pub fn of(pod: &Pod) -> Option<Self> {
        read(pod, PLUGGED_ANNOTATION)
    }

    /// The annotation's text.
    pub fn to_annotation(self) -> String {
        // As above.
        serde_json::to_string(&self).unwrap_or_default()
    }
}

fn read<T: for<'de> Deserialize<'de>>(pod: &Pod, annotation: &str) -> Option<T> {
    serde_json::from_str(pod.metadata.annotations.as_ref()?.get(annotation)?).ok()
}

fn bytes(amount: Option<&Amount>) -> u64 {
    amount.and_then(|amount| amount.units().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const GIB: u64 = 1 << 30;

    fn most(domain: Value) -> Size {
        let mut domain = domain;
        domain["devices"] = json!({});
        Size::most(&serde_json::from_value(domain).unwrap())
    }

    #[test]
    fn a_vm_grows_to_max_guest_and_max_sockets() {
        let of = most(
            json!({"memory": {"guest": "1Gi", "maxGuest": "4Gi"}, "cpu": {"sockets": 2, "maxSockets": 8}}),
        );
        assert_eq!(of, Size { memory: 4 * GIB, sockets: 8 });
        assert_eq!(most(json!({"memory": {"guest": "1Gi"}})), Size { memory: GIB, sockets: 1 });
    }

    #[test]
    fn memory_on_huge_pages_or_of_odd_size_does_not_grow_and_nothing_does_without_acpi() {
        let memory = |memory: Value| most(json!({ "memory": memory })).memory;
        assert_eq!(memory(json!({"guest": "1Gi", "maxGuest": "4Gi", "hugepages": {"pageSize": "2Mi"}})), GIB);
        assert_eq!(memory(json!({"guest": "1025Mi", "maxGuest": "4Gi"})), 1025 << 20);
        assert_eq!(memory(json!({"guest": "1Gi", "maxGuest": "4097Mi"})), GIB);
        let off = json!({"acpi": {"enabled": false}});
        let of = most(
            json!({"memory": {"guest": "1Gi", "maxGuest": "4Gi"}, "cpu": {"maxSockets": 2}, "features": off}),
        );
        assert_eq!(of, Size { memory: GIB, sockets: 1 });
    }

    #[test]
    fn a_vm_with_dedicated_cpus_gets_no_more_of_them_and_its_memory_grows() {
        let cpu = json!({"sockets": 2, "maxSockets": 8, "dedicatedCpuPlacement": true});
        let of = most(json!({"memory": {"guest": "1Gi", "maxGuest": "4Gi"}, "cpu": cpu}));
        assert_eq!(of, Size { memory: 4 * GIB, sockets: 2 });
    }

    #[test]
    fn a_size_and_a_report_come_back_from_their_annotations() {
        let size = Size { memory: GIB, sockets: 2 };
        let plugged = Plugged { size, taken: GIB, boot: size, most: size };
        let annotations =
            json!({(SIZE_ANNOTATION): size.to_annotation(), (PLUGGED_ANNOTATION): plugged.to_annotation()});
        let pod = serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap();
        assert_eq!((Size::wanted(&pod), Plugged::of(&pod)), (Some(size), Some(plugged)));
        assert_eq!((Size::wanted(&Pod::default()), Plugged::of(&Pod::default())), (None, None));
    }

    #[test]
    fn a_domain_is_put_to_a_size_and_keeps_the_rest() {
        let domain =
            json!({"memory": {"guest": "1Gi", "maxGuest": "4Gi"}, "cpu": {"cores": 2}, "devices": {}});
        let put = Size { memory: 2 * GIB, sockets: 3 }.put(&serde_json::from_value(domain).unwrap());
        let expected = json!({"memory": {"guest": "2Gi", "maxGuest": "4Gi"}, "cpu": {"cores": 2, "sockets": 3}, "devices": {}});
        assert_eq!(serde_json::to_value(put).unwrap(), expected);
    }
}
