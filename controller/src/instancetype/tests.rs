//! VMs put together of templates, instancetypes and preferences.

use super::*;
use serde_json::{Value, json};

fn vm(spec: Value) -> VirtualMachine {
    let mut vm: Value = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
        "spec": {"runStrategy": "Always", "instancetype": {"name": "u1.small"}, "template": {"spec": {"domain": {"devices": {}}}}},
    });
    if let (Some(whole), Some(more)) = (vm["spec"].as_object_mut(), spec.as_object()) {
        whole.extend(more.clone());
    }
    serde_json::from_value(vm).unwrap()
}

fn sized(vm: &VirtualMachine, instancetype: Value, preference: Value) -> Sized {
    fn found<S: serde::de::DeserializeOwned>(value: Value) -> Found<S> {
        Found { spec: serde_json::from_value(value).unwrap(), ..Found::default() }
    }
    together(vm, found(instancetype), found(preference))
}

fn small() -> Value {
    json!({"cpu": {"guest": 4}, "memory": {"guest": "2Gi"}, "nodeSelector": {"zone": "a"}, "annotations": {"size": "small"}})
}

fn domain(sized: &Sized) -> Value {
    assert_eq!(sized.problem, None);
    serde_json::to_value(&sized.vm.spec.template.spec.domain).unwrap()
}

#[test]
fn cpu_memory_and_selector_come_from_the_instancetype_and_the_topology_from_the_preference() {
    let of = |preference| sized(&vm(json!({})), small(), preference);
    let plain = of(Value::Null);
    assert_eq!(domain(&plain)["cpu"], json!({"sockets": 4, "cores": 1, "threads": 1}));
    assert_eq!(domain(&plain)["memory"], json!({"guest": "2Gi"}));
    assert_eq!(plain.vm.spec.template.spec.node_selector["zone"], "a");
    assert_eq!(plain.vm.spec.template.metadata.unwrap().annotations["size"], "small");
    for (topology, expected) in [
        (json!("cores"), [1, 4, 1]),
        (json!("preferThreads"), [1, 1, 4]),
        (json!("spread"), [2, 2, 1]),
        (json!("any"), [4, 1, 1]),
    ] {
        let cpu = domain(&of(json!({"cpu": {"preferredCPUTopology": topology}})))["cpu"].clone();
        assert_eq!(
            [&cpu["sockets"], &cpu["cores"], &cpu["threads"]],
            expected.map(Value::from).each_ref(),
            "{topology}"
        );
    }
}

#[test]
fn a_template_that_says_itself_how_large_it_is_conflicts_and_every_field_is_named() {
    let own = vm(json!({"template": {"spec": {"domain": {
        "cpu": {"cores": 2}, "memory": {"guest": "1Gi"}, "resources": {"limits": {"cpu": "2"}}, "devices": {}},
        "nodeSelector": {"zone": "b"}}}}));
    let problem = sized(&own, small(), Value::Null).problem.unwrap();
    assert_eq!(problem.reason, "VMFieldsConflict");
    for field in
        ["nodeSelector.zone", "domain.resources.limits.cpu", "domain.cpu.cores", "domain.memory.guest"]
    {
        assert!(problem.message.contains(&format!("spec.template.spec.{field}")), "{}", problem.message);
    }
}

#[test]
fn a_preference_fills_in_what_is_open_and_changes_nothing_that_is_said() {
    let own = vm(json!({"template": {"spec": {"domain": {"devices": {
        "disks": [{"name": "a"}, {"name": "b", "disk": {"bus": "scsi"}}, {"name": "c", "cdrom": {}}],
        "interfaces": [{"name": "n", "bridge": {}}, {"name": "m"}], "rng": {}},
        "features": {"hyperv": {"relaxed": {"enabled": false}}}}, "networks": [{"name": "m", "pod": {}}]}}}));
    let preference = json!({
        "devices": {"preferredDiskBus": "sata", "preferredCdromBus": "scsi", "preferredInterfaceModel": "e1000e",
                    "preferredInterfaceMasquerade": {}, "preferredTPM": {}},
        "features": {"preferredHyperv": {"relaxed": {}, "vapic": {}}, "preferredSmm": {}},
        "firmware": {"preferredEfi": {"secureBoot": true}},
        "clock": {"preferredClockOffset": {"utc": {}}, "preferredTimer": {"hpet": {"present": false}}},
        "machine": {"preferredMachineType": "pc-q35-10.0"},
    });
    let domain = domain(&sized(&own, small(), preference));
    let disks = &domain["devices"]["disks"];
    assert_eq!(disks[0]["disk"]["bus"], "sata");
    assert_eq!(disks[1]["disk"]["bus"], "scsi");
    assert_eq!(disks[2]["cdrom"]["bus"], "scsi");
    let interfaces = &domain["devices"]["interfaces"];
    assert_eq!((&interfaces[0]["model"], &interfaces[0]["masquerade"]), (&json!("e1000e"), &Value::Null));
    assert_eq!(interfaces[1]["masquerade"], json!({}));
    assert_eq!(domain["features"]["hyperv"], json!({"relaxed": {"enabled": false}, "vapic": {}}));
    assert_eq!(domain["firmware"]["bootloader"], json!({"efi": {"secureBoot": true}}));
    assert_eq!((&domain["devices"]["tpm"], &domain["machine"]["type"]), (&json!({}), &json!("pc-q35-10.0")));
    assert_eq!(domain["clock"], json!({"utc": {}, "timer": {"hpet": {"present": false}}}));
}

#[test]
fn a_vm_that_is_too_small_for_its_preference_is_told_so() {
    let of = |requirements: Value| {
        let preference = json!({"requirements": requirements});
        sized(&vm(json!({})), small(), preference).problem.map(|problem| problem.message)
    };
    let cpu = of(json!({"cpu": {"guest": 8}})).unwrap();
    assert_eq!(cpu, "insufficient CPU resources of 4 vCPU provided, preference requires 8 vCPU");
    let memory = of(json!({"memory": {"guest": "4Gi"}})).unwrap();
    assert_eq!(memory, "insufficient Memory resources of 2Gi provided, preference requires 4Gi");
    assert_eq!(of(json!({"cpu": {"guest": 4}, "memory": {"guest": "2Gi"}})), None);
}

#[test]
fn memory_that_virtctl_sets_in_case_nothing_is_inferred_is_no_conflict() {
    let own = vm(json!({
        "instancetype": {"inferFromVolume": "root", "inferFromVolumeFailurePolicy": "Ignore"},
        "template": {"spec": {"domain": {"memory": {"guest": "512Mi"}, "devices": {}}}}}));
    assert_eq!(domain(&sized(&own, small(), Value::Null))["memory"], json!({"guest": "2Gi"}));
    // Nothing was inferred: the template counts.
    assert_eq!(domain(&sized(&own, Value::Null, Value::Null))["memory"], json!({"guest": "512Mi"}));
}

#[test]
fn what_is_shown_expanded_names_neither() {
    let shown = shown(&sized(&vm(json!({})), small(), Value::Null)).unwrap();
    assert_eq!((shown.spec.instancetype, shown.spec.preference), (None, None));
    assert_eq!(shown.spec.template.spec.domain.memory.unwrap().guest.unwrap().as_str(), "2Gi");
}
