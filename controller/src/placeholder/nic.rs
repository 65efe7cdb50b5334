//! The attachment Pod of a NIC that is added to a VM that runs.
//!
//! Why here: the requests of a placeholder Pod for ports of bridges cannot be changed. This Pod asks for the port, on the node that the
//! VM is on, so that kube-scheduler counts it and the node has the bridge; and it carries what the network means, because a node
//! trusts no definition. It belongs to the placeholder Pod, and its finalizer stays until the node reported that the domain has no
//! such NIC ([`super::end`]). At the VM's next start the interface is in the placeholder Pod, and there is no such Pod. Route in: the
//! instance, its placeholder Pod, an interface with what its network means. Route out: a Pod.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use sheaf_api::{
    VirtualMachineInstance,
    attachment::NicAttachment,
    devices::Interface,
    names::{HOTPLUG_NIC, NIC_CONTAINER, NIC_IMAGE, bridge_resource, vlan_resource},
};
use uuid::Uuid;

use super::{attachment::composed, idle, suffix};
use crate::networks::Networks;

/// Name of the Pod: always the same for an interface of an instance, so that it cannot be made twice.
pub fn name(vmi: &VirtualMachineInstance, interface: &str) -> String {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match interface.bytes().all(inner) {
        true => format!("hp-nic-{}-{interface}", suffix(vmi)),
        // The name of an interface may have what the name of a Pod may not. No such name has a dot.
        false => {
            let id =
                Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("https://sheaf.dev/nic/{interface}").as_bytes());
            format!("hp-nic-{}.{}", suffix(vmi), id.simple())
        }
    }
}

/// What the Pod is to carry; nothing if `networks` does not say what the interface is connected to.
pub fn of(
    vmi: &VirtualMachineInstance,
    launcher: &Pod,
    interface: &Interface,
    networks: &Networks,
) -> Option<NicAttachment> {
    Some(NicAttachment {
        vmi: vmi.metadata.name.clone().unwrap_or_default(),
        pod_uid: launcher.metadata.uid.clone().unwrap_or_default(),
        // Its link is told with those of all others.
        interface: Interface { state: None, ..interface.clone() },
        network: networks.attachments.get(&interface.name)?.clone(),
        addresses: networks.addresses.get(&interface.name).cloned(),
    })
}

/// The Pod that carries `attachment`, on the node of `launcher`.
pub fn pod(
    vmi: &VirtualMachineInstance,
    launcher: &Pod,
    attachment: &NicAttachment,
) -> Result<Pod, serde_json::Error> {
    let network = &attachment.network;
    let mut spec = idle::spec(NIC_CONTAINER, NIC_IMAGE, &[]);
    let has_vlans = network.has_vlans().then(|| vlan_resource(&network.bridge));
    for resource in [bridge_resource(&network.bridge)].into_iter().chain(has_vlans) {
        for side in ["requests", "limits"] {
            spec["containers"][0]["resources"][side][&resource] = json!("1");
        }
    }
    let name = name(vmi, &attachment.interface.name);
    composed(vmi, launcher, (&name, HOTPLUG_NIC), attachment.to_annotation(), spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmi() -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "web", "namespace": "shop", "uid": "0f9a1c52-1111-2222-3333-444455556666"},
            "spec": {"domain": {"devices": {}}},
        }))
        .unwrap()
    }

    #[test]
    fn the_pod_asks_for_a_port_on_the_node_of_the_vm_and_carries_what_the_network_means() {
        let launcher: Pod = serde_json::from_value(json!({
            "metadata": {"name": "virt-launcher-web-0f9a1c52", "uid": "p"}, "spec": {"nodeName": "n1", "containers": []},
        }))
        .unwrap();
        let interface: Interface =
            serde_json::from_value(json!({"name": "lan", "bridge": {}, "state": "down"})).unwrap();
        let network =
            sheaf_api::network::Attachment { bridge: "br1".into(), vlan: Some(100), trunk: Vec::new() };
        let networks = Networks {
            attachments: [("lan".to_owned(), network.clone())].into(),
            addresses: [("lan".to_owned(), vec!["192.0.2.7".parse().unwrap()])].into(),
            ..Networks::default()
        };
        let attachment = of(&vmi(), &launcher, &interface, &networks).unwrap();
        let made = pod(&vmi(), &launcher, &attachment).unwrap();
        assert_eq!(made.metadata.name.as_deref(), Some("hp-nic-0f9a1c52-lan"));
        assert_eq!(made.metadata.labels.as_ref().unwrap()["kubevirt.io"], "hotplug-nic");
        let carried = NicAttachment::of(&made).unwrap();
        assert_eq!((carried.network, carried.interface.state), (network, None));
        assert_eq!(carried.addresses.map(|all| all.len()), Some(1));
        let spec = serde_json::to_value(made.spec.unwrap()).unwrap();
        let asked =
            json!({"cpu": "0", "memory": "0", "bridge.sheaf.dev/br1": "1", "vlan.bridge.sheaf.dev/br1": "1"});
        let resources = &spec["containers"][0]["resources"];
        assert_eq!((&resources["requests"], &resources["limits"]), (&asked, &asked));
        let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchFields"][0]["values"], json!(["n1"]));
        assert_eq!(of(&vmi(), &launcher, &interface, &Networks::default()), None);
    }

    #[test]
    fn names_of_interfaces_that_no_pod_can_have_are_told_apart() {
        let names = ["lan", "Lan", "lan_1", "LAN"].map(|interface| name(&vmi(), interface));
        assert!(names[1].starts_with("hp-nic-0f9a1c52."), "{names:?}");
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), 4, "{names:?}");
        assert!(names.iter().all(|name| name.len() < 64 && *name == name.to_lowercase()), "{names:?}");
    }
}
