//! NICs of a VM that runs: which interfaces of a changed template its instance takes up, and what waits for a restart.
//!
//! Why here: pure; as KubeVirt's interface hotplug (`pkg/network/vmispec`, `pkg/virt-controller/network`). An interface of a multus
//! network that the template has gained is added to the instance; one that has `state: absent` in the template is removed, and leaves
//! the spec of the instance once the guest has released it; `state: up` and `down` change its link. Everything else about interfaces
//! needs a restart, and is named with the reason. Route in: the spec that the VM wants, its instance. Route out: steps of a JSON
//! patch of the instance; fields.

use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachineInstance,
    devices::{Interface, InterfaceModel},
    vmi::VirtualMachineInstanceSpec,
};

/// The list that the fields are in.
const INTERFACES: &str = "spec.template.spec.domain.devices.interfaces";
/// The list of their networks.
const NETWORKS: &str = "spec.template.spec.networks";

/// Steps of a JSON patch by which the instance follows the VM; none if it has everything already.
pub fn steps(wanted: &VirtualMachineInstanceSpec, vmi: &VirtualMachineInstance) -> Vec<Value> {
    let after = follow(wanted, vmi);
    let (has, gets) = (&vmi.spec.domain.devices, &after.domain.devices);
    let mut steps = Vec::new();
    let set = |path: &str, value: Value| json!({"op": "add", "path": path, "value": value});
    if has.interfaces != gets.interfaces {
        steps.push(set("/spec/domain/devices/interfaces", json!(gets.interfaces)));
    }
    if vmi.spec.networks != after.networks {
        steps.push(set("/spec/networks", json!(after.networks)));
    }
    if has.autoattach_pod_interface != gets.autoattach_pod_interface {
        let path = "/spec/domain/devices/autoattachPodInterface";
        steps.push(match gets.autoattach_pod_interface {
            Some(wanted) => set(path, json!(wanted)),
            None => json!({"op": "remove", "path": path}),
        });
    }
    steps
}

/// The spec of the instance after it followed.
fn follow(wanted: &VirtualMachineInstanceSpec, vmi: &VirtualMachineInstance) -> VirtualMachineInstanceSpec {
    let mut after =
        vmi.spec.without_interfaces(|interface| interface.is_absent() && !is_there(vmi, interface));
    for has in &mut after.domain.devices.interfaces {
        let Some(asked) = wanted.interface(&has.name) else { continue };
        // One that is being removed is added again once it is gone.
        if has.is_absent() || asked.is_absent() && !is_removable(&vmi.spec, has) {
            continue;
        }
        has.state = asked.state;
    }
    for asked in &wanted.domain.devices.interfaces {
        if !asked.is_absent()
            && vmi.spec.interface(&asked.name).is_none()
            && needs_start(asked, wanted, vmi).is_none()
        {
            after.domain.devices.interfaces.push(asked.clone());
            after.networks.extend(wanted.network(&asked.name).cloned());
        }
    }
    let devices = &mut after.domain.devices;
    if !devices.interfaces.is_empty() && devices.autoattach_pod_interface == Some(false) {
        devices.autoattach_pod_interface = None;
    }
    after
}

/// The fields of the template's interfaces and networks that the instance takes up only when the VM is restarted.
pub fn needs_restart(wanted: &VirtualMachineInstanceSpec, vmi: &VirtualMachineInstance) -> Vec<String> {
    let mut fields = Vec::new();
    let of = |name: &str| format!("{INTERFACES}[{name}]");
    for has in vmi.spec.domain.devices.interfaces.iter().filter(|has| !has.is_absent()) {
        let name = &has.name;
        match wanted.interface(name) {
            None => {
                fields.push(format!("{} (set state: absent to remove it while the VM runs)", of(name)));
            }
            Some(asked) if asked.is_absent() => {
                if !is_removable(&vmi.spec, has) {
                    let why =
                        "only an interface with bridge of a multus network is removed while the VM runs";
                    fields.push(format!("{} ({why})", of(name)));
                }
            }
            Some(asked) => {
                if (Interface { state: has.state, ..asked.clone() }) != *has {
                    fields.push(of(name));
                }
                if wanted.network(name) != vmi.spec.network(name) {
                    fields.push(format!("{NETWORKS}[{name}]"));
                }
            }
        }
    }
    for asked in wanted.domain.devices.interfaces.iter().filter(|asked| !asked.is_absent()) {
        let is_new = vmi.spec.interface(&asked.name).is_none_or(Interface::is_absent);
        if let Some(why) = needs_start(asked, wanted, vmi).filter(|_| is_new) {
            fields.push(format!("{} ({why})", of(&asked.name)));
        }
    }
    fields
}

/// Why this interface is not added to the instance while it runs.
fn needs_start(
    asked: &Interface,
    wanted: &VirtualMachineInstanceSpec,
    vmi: &VirtualMachineInstance,
) -> Option<&'static str> {
    let devices = &vmi.spec.domain.devices;
    let is_multus = wanted.network(&asked.name).is_some_and(|network| network.multus.is_some());
    if !is_multus || asked.bridge.is_none() {
        return Some("only an interface with bridge of a multus network is added while the VM runs");
    }
    if asked.model.is_some_and(|model| model != InterfaceModel::Virtio) {
        return Some("only a NIC of the model virtio is added while the VM runs");
    }
    if devices.disable_hotplug == Some(true) {
        return Some("the VM was started with disableHotplug");
    }
    if devices.use_virtio_transitional == Some(true) {
        return Some("no NIC is added to a VM that was started with useVirtioTransitional");
    }
    None
}

/// Whether an interface of the instance can be removed while it runs.
fn is_removable(spec: &VirtualMachineInstanceSpec, interface: &Interface) -> bool {
    interface.sriov.is_none() && spec.network(&interface.name).is_some_and(|network| network.multus.is_some())
}

/// Whether the guest still has the interface, or a Pod is there for it.
fn is_there(vmi: &VirtualMachineInstance, interface: &Interface) -> bool {
    let mut listed = vmi.status.iter().flat_map(|status| &status.interfaces);
    listed.any(|one| one.name.as_deref() == Some(&interface.name))
}

#[cfg(test)]
mod tests {
    use sheaf_api::devices::InterfaceState;

    use super::*;
    use crate::vm::hotplug;

    /// Interfaces of the multus networks of their names, beside the one of the pod network.
    fn spec(lans: &[Value]) -> VirtualMachineInstanceSpec {
        let own = |lan: &Value| json!({"name": lan["name"], "multus": {"networkName": lan["name"]}});
        let interfaces: Vec<Value> =
            [json!({"name": "default", "masquerade": {}})].into_iter().chain(lans.iter().cloned()).collect();
        let networks: Vec<Value> =
            [json!({"name": "default", "pod": {}})].into_iter().chain(lans.iter().map(own)).collect();
        let domain = json!({"memory": {"guest": "1Gi"}, "devices": {"interfaces": interfaces}});
        serde_json::from_value(json!({"domain": domain, "networks": networks})).unwrap()
    }

    fn lan(name: &str) -> Value {
        json!({"name": name, "bridge": {}})
    }

    fn with(mut interface: Value, field: &str, value: Value) -> Value {
        interface[field] = value;
        interface
    }

    /// An instance with `spec` whose guest has `there`.
    fn running(spec: VirtualMachineInstanceSpec, there: &[&str]) -> VirtualMachineInstance {
        let mut vmi = VirtualMachineInstance::new("web", spec);
        vmi.metadata.uid = Some("u".into());
        vmi.metadata.generation = Some(7);
        let there: Vec<Value> = there.iter().map(|name| json!({"name": name})).collect();
        vmi.status = serde_json::from_value(json!({"interfaces": there})).unwrap();
        vmi
    }

    /// The spec of the instance after it followed; nothing if it stays.
    fn followed(
        wanted: &VirtualMachineInstanceSpec,
        vmi: &VirtualMachineInstance,
    ) -> Option<VirtualMachineInstanceSpec> {
        let mut value = serde_json::to_value(vmi).unwrap();
        json_patch::patch(&mut value, &hotplug::follow(wanted, vmi)?).unwrap();
        Some(serde_json::from_value::<VirtualMachineInstance>(value).unwrap().spec)
    }

    fn restart(wanted: &VirtualMachineInstanceSpec, vmi: &VirtualMachineInstance) -> Vec<String> {
        hotplug::needs_restart(wanted, vmi)
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn an_interface_that_the_template_gained_is_added_with_its_network() {
        let wanted = spec(&[lan("a"), lan("b")]);
        let vmi = running(spec(&[lan("a")]), &["default", "a"]);
        assert_eq!(followed(&wanted, &vmi), Some(wanted.clone()));
        assert_eq!(restart(&wanted, &vmi), NOTHING);
        assert_eq!(followed(&wanted, &running(wanted.clone(), &["default", "a", "b"])), None);
    }

    #[test]
    fn an_absent_interface_is_removed_and_leaves_the_instance_once_the_guest_released_it() {
        let absent = with(lan("a"), "state", json!("absent"));
        let wanted = spec(std::slice::from_ref(&absent));
        let mut vmi = running(spec(&[lan("a")]), &["default", "a"]);
        assert_eq!(followed(&wanted, &vmi), Some(wanted.clone()));
        assert_eq!(restart(&wanted, &vmi), NOTHING);
        vmi.spec = wanted.clone();
        assert_eq!(followed(&wanted, &vmi), None, "the guest still has it");
        // It is wanted again meanwhile: it is added once it is gone.
        assert_eq!(followed(&spec(&[lan("a")]), &vmi), None);
        let vmi = running(wanted.clone(), &["default"]);
        assert_eq!(followed(&spec(&[lan("a")]), &vmi), Some(spec(&[])));
        assert_eq!(followed(&wanted, &vmi), Some(spec(&[])));
        let gone = running(spec(&[]), &["default"]);
        assert_eq!(followed(&wanted, &gone), None);
        assert_eq!(restart(&wanted, &gone), NOTHING);
        assert_eq!(followed(&spec(&[lan("a")]), &gone), Some(spec(&[lan("a")])));
    }

    #[test]
    fn a_link_goes_down_and_up_with_the_template() {
        let (up, down) = (spec(&[lan("a")]), spec(&[with(lan("a"), "state", json!("down"))]));
        let vmi = running(up.clone(), &["default", "a"]);
        assert_eq!(followed(&down, &vmi), Some(down.clone()));
        assert_eq!(restart(&down, &vmi), NOTHING);
        assert_eq!(followed(&up, &running(down, &["default", "a"])), Some(up));
        // That of the pod network, too.
        let mut default = spec(&[]);
        default.domain.devices.interfaces[0].state = Some(InterfaceState::Down);
        assert_eq!(followed(&default, &running(spec(&[]), &["default"])), Some(default));
    }

    #[test]
    fn what_is_not_live_is_named_with_the_reason() {
        let there = running(spec(&[lan("a")]), &["default", "a"]);
        let of = |wanted: &VirtualMachineInstanceSpec| {
            assert_eq!(followed(wanted, &there), None, "{wanted:?}");
            restart(wanted, &there)
        };
        let list = "spec.template.spec.domain.devices.interfaces";
        assert_eq!(of(&spec(&[])), [format!("{list}[a] (set state: absent to remove it while the VM runs)")]);
        let e1000 = with(lan("b"), "model", json!("e1000"));
        assert_eq!(
            of(&spec(&[lan("a"), e1000])),
            [format!("{list}[b] (only a NIC of the model virtio is added while the VM runs)")]
        );
        let mut pod = spec(&[lan("a"), lan("b")]);
        pod.networks[2] = serde_json::from_value(json!({"name": "b", "pod": {}})).unwrap();
        let only = "only an interface with bridge of a multus network is added while the VM runs";
        assert_eq!(of(&pod), [format!("{list}[b] ({only})")]);
        let mac = with(lan("a"), "macAddress", json!("02:00:00:00:00:01"));
        assert_eq!(of(&spec(&[mac])), [format!("{list}[a]")]);
        let mut elsewhere = spec(&[lan("a")]);
        elsewhere.networks[1].multus.as_mut().unwrap().network_name = "other".into();
        assert_eq!(of(&elsewhere), ["spec.template.spec.networks[a]"]);
        let mut default = spec(&[lan("a")]);
        default.domain.devices.interfaces[0].state = Some(InterfaceState::Absent);
        let only = "only an interface with bridge of a multus network is removed while the VM runs";
        assert_eq!(of(&default), [format!("{list}[default] ({only})")]);
    }

    #[test]
    fn nothing_is_added_to_a_vm_that_was_started_without_ports_or_for_old_guests() {
        let wanted = spec(&[lan("a")]);
        let with = |field: &str| {
            let mut vmi = serde_json::to_value(running(spec(&[]), &["default"])).unwrap();
            vmi["spec"]["domain"]["devices"][field] = json!(true);
            serde_json::from_value::<VirtualMachineInstance>(vmi).unwrap()
        };
        for (field, why) in [
            ("disableHotplug", "the VM was started with disableHotplug"),
            ("useVirtioTransitional", "no NIC is added to a VM that was started with useVirtioTransitional"),
        ] {
            let vmi = with(field);
            assert_eq!(followed(&wanted, &vmi), None);
            let named = format!("spec.template.spec.domain.devices.interfaces[a] ({why})");
            assert!(restart(&wanted, &vmi).contains(&named), "{:?}", restart(&wanted, &vmi));
        }
    }

    #[test]
    fn a_vm_whose_only_interface_is_removed_is_not_given_the_default_one_and_gets_another_later() {
        let only = |state: Value| -> VirtualMachineInstanceSpec {
            let interface = json!({"name": "a", "bridge": {}, "state": state});
            let domain = json!({"memory": {"guest": "1Gi"}, "devices": {"interfaces": [interface]}});
            let networks = json!([{"name": "a", "multus": {"networkName": "a"}}]);
            serde_json::from_value(json!({"domain": domain, "networks": networks})).unwrap()
        };
        let gone = followed(&only(json!("absent")), &running(only(json!("absent")), &[])).unwrap();
        assert_eq!(gone.domain.devices.autoattach_pod_interface, Some(false));
        assert_eq!((gone.domain.devices.interfaces.len(), gone.networks.len()), (0, 0));
        let vmi = running(gone, &[]);
        assert_eq!(restart(&only(json!("absent")), &vmi), NOTHING);
        assert_eq!(followed(&only(json!("up")), &vmi), Some(only(json!("up"))));
    }
}
