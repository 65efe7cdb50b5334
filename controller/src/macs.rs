//! The MACs of all VMs of the cluster: no two that run have the same.
//!
//! Why here: two guests with one MAC take each other's packets; only the cluster half sees all namespaces. The index is the
//! watch's own store; what was promised since its last event is kept beside it. There is one leader, so what it promises
//! holds; a new leader knows from the store which instances have Pods. Route in: an instance that is to get its Pod. Route
//! out: its MACs are its own, or why not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::runtime::reflector::Store;
use sheaf_api::{VirtualMachineInstance, status::Phase};

use crate::{networks::Unresolved, resolve};

/// The index.
pub struct Index {
    instances: Store<VirtualMachineInstance>,
    reserved: Mutex<Reserved>,
}

/// UID of the instance that a MAC was promised to, by MAC.
type Reserved = BTreeMap<String, String>;

impl Index {
    /// An index over the instances of a watch.
    pub fn new(instances: Store<VirtualMachineInstance>) -> Self {
        Self { instances, reserved: Mutex::default() }
    }

    /// Reserves all MACs of `vmi`, or none.
    pub fn reserve(&self, vmi: &VirtualMachineInstance) -> Result<(), Unresolved> {
        // Under one lock: two instances that are reconciled at once do not both find a MAC free.
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        reserve(&mut reserved, vmi, &self.instances.state())
    }
}

fn reserve(
    reserved: &mut Reserved,
    vmi: &VirtualMachineInstance,
    known: &[Arc<VirtualMachineInstance>],
) -> Result<(), Unresolved> {
    let own = uid(vmi);
    let others: Vec<_> = known.iter().filter(|other| uid(other) != own && !is_over(other)).collect();
    reserved.retain(|_, holder| holder == own || others.iter().any(|other| uid(other) == holder));
    let macs = resolve::macs(&vmi.spec, own);
    for (interface, mac) in &macs {
        let holder = match reserved.get(mac) {
            Some(holder) if holder == own => continue,
            Some(holder) => others.iter().find(|other| uid(other) == holder),
            None => others.iter().find(|other| {
                let comes_first = has_pod(other) || age(other) < age(vmi);
                comes_first && resolve::macs(&other.spec, uid(other)).iter().any(|(_, theirs)| theirs == mac)
            }),
        };
        if let Some(holder) = holder {
            // Names of another namespace are not for everybody to read.
            let whose = match holder.metadata.namespace == vmi.metadata.namespace {
                true => format!("VM {}", holder.metadata.name.as_deref().unwrap_or_default()),
                false => "a VM of another namespace".to_owned(),
            };
            return Err(Unresolved {
                reason: "MacAddressInUse",
                message: format!(
                    "interface {interface}: {whose} has its macAddress {mac}; choose another, or leave it out"
                ),
            });
        }
    }
    reserved.extend(macs.into_iter().map(|(_, mac)| (mac, own.to_owned())));
    Ok(())
}

fn uid(vmi: &VirtualMachineInstance) -> &str {
    vmi.metadata.uid.as_deref().unwrap_or_default()
}

fn phase(vmi: &VirtualMachineInstance) -> Option<Phase> {
    vmi.status.as_ref().and_then(|status| status.phase)
}

fn is_over(vmi: &VirtualMachineInstance) -> bool {
    phase(vmi).is_some_and(Phase::is_final)
}

fn has_pod(vmi: &VirtualMachineInstance) -> bool {
    phase(vmi).is_some_and(|phase| phase >= Phase::Scheduling)
}

/// The earlier instance comes first; of two made in one second, the one whose UID does.
fn age(vmi: &VirtualMachineInstance) -> (Option<String>, &str) {
    (vmi.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()), uid(vmi))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vmi(uid: &str, second: u8, phase: Option<&str>, mac: Option<&str>) -> Arc<VirtualMachineInstance> {
        let vmi = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": format!("vm-{uid}"), "namespace": "shop", "uid": uid,
                         "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")},
            "spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {"interfaces": [
                {"name": "lan", "bridge": {}, "macAddress": mac}]}}, "networks": [{"name": "lan", "pod": {}}]},
            "status": {"phase": phase},
        });
        Arc::new(serde_json::from_value(vmi).unwrap())
    }

    const MAC: Option<&str> = Some("52-54-00-AB-CD-EF");
    const SAME: Option<&str> = Some("52:54:00:ab:cd:ef");

    #[test]
    fn of_two_vms_with_one_mac_the_earlier_gets_its_pod_and_the_other_is_told() {
        let (first, second) = (vmi("b", 1, None, MAC), vmi("a", 2, None, SAME));
        let known = [first.clone(), second.clone(), vmi("c", 0, Some("Running"), None)];
        let mut reserved = Reserved::new();
        let refused = reserve(&mut reserved, &second, &known).unwrap_err();
        assert_eq!(refused.reason, "MacAddressInUse");
        assert_eq!(
            refused.message,
            "interface lan: VM vm-b has its macAddress 52:54:00:ab:cd:ef; choose another, or leave it out"
        );
        reserve(&mut reserved, &first, &known).unwrap();
        reserve(&mut reserved, &first, &known).expect("again, for the same");
        assert!(reserve(&mut reserved, &second, &known).is_err());
    }

    #[test]
    fn a_mac_is_free_again_when_its_vm_is_over_or_gone() {
        let second = vmi("b", 2, None, MAC);
        for known in [vec![vmi("a", 1, Some("Succeeded"), SAME), second.clone()], vec![second.clone()]] {
            let mut reserved: Reserved = [("52:54:00:ab:cd:ef".to_owned(), "a".to_owned())].into();
            reserve(&mut reserved, &second, &known).unwrap();
            assert_eq!(reserved["52:54:00:ab:cd:ef"], "b");
        }
    }

    #[test]
    fn a_promise_holds_also_against_an_earlier_vm_and_nothing_is_said_of_other_namespaces() {
        let (early, late) = (vmi("a", 1, None, MAC), vmi("b", 2, None, SAME));
        let mut reserved = Reserved::new();
        // The store had not seen the earlier one.
        reserve(&mut reserved, &late, std::slice::from_ref(&late)).unwrap();
        assert!(reserve(&mut reserved, &early, &[early.clone(), late.clone()]).is_err());
        // A new leader knows it from the phase.
        let mut elsewhere = VirtualMachineInstance::clone(&vmi("b", 2, Some("Scheduling"), SAME));
        elsewhere.metadata.namespace = Some("bank".into());
        let known = [early.clone(), Arc::new(elsewhere)];
        let refused = reserve(&mut Reserved::new(), &early, &known).unwrap_err();
        assert!(refused.message.contains("a VM of another namespace") && !refused.message.contains("vm-b"));
    }
}
