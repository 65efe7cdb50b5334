//! From each state of a Pod to the phase and conditions of its instance.

use serde_json::{Value, json};

use super::*;
use crate::conditions::find;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn vmi(phase: Option<&str>, deleting: bool) -> VirtualMachineInstance {
    let mut value = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "finalizers": [VMI_FINALIZER]},
        "spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}},
        "status": {"phase": phase},
    });
    if deleting {
        value["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
    }
    serde_json::from_value(value).unwrap()
}

fn pod(node: Option<&str>, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "uid": "p-1"},
        "spec": {"containers": [], "nodeName": node},
        "status": status,
    }))
    .unwrap()
}

fn ready() -> Pod {
    pod(Some("n1"), json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}))
}

fn phase_after(vmi: &VirtualMachineInstance, pods: &[Pod]) -> Option<Phase> {
    plan(vmi, pods, &Networks::default(), now()).unwrap().status.phase
}

#[test]
fn a_new_instance_is_held_before_anything_else() {
    let mut vmi = vmi(None, false);
    vmi.metadata.finalizers = None;
    assert_eq!(plan(&vmi, &[], &Networks::default(), now()).unwrap().actions, [Action::Hold]);
}

#[test]
fn an_instance_without_a_pod_gets_one() {
    let plan = plan(&vmi(None, false), &[], &Networks::default(), now()).unwrap();
    assert!(matches!(plan.actions[0], Action::CreatePod(_)));
    assert_eq!(plan.status.phase, Some(Phase::Scheduling));
}

#[test]
fn a_pod_that_no_node_fits_leaves_its_reason() {
    let pod = pod(
        None,
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient memory."}]}),
    );
    let status = plan(&vmi(Some("Scheduling"), false), &[pod], &Networks::default(), now()).unwrap().status;
    assert_eq!(status.phase, Some(Phase::Scheduling));
    let condition = find(&status.conditions, "PodScheduled").unwrap();
    assert_eq!(condition.reason.as_deref(), Some("Unschedulable"));
    assert_eq!(condition.message.as_deref(), Some("0/1 nodes are available: 1 Insufficient memory."));
}

#[test]
fn a_bound_pod_makes_it_scheduled_and_a_ready_one_running() {
    let bound = pod(Some("n1"), json!({"phase": "Pending"}));
    assert_eq!(phase_after(&vmi(Some("Scheduling"), false), &[bound]), Some(Phase::Scheduled));
    let ready = pod(
        Some("n1"),
        json!({"phase": "Running", "podIPs": [{"ip": "10.0.2.15"}],
        "conditions": [{"type": "Ready", "status": "True"}]}),
    );
    let plan = plan(&vmi(Some("Scheduled"), false), &[ready], &Networks::default(), now()).unwrap();
    assert_eq!(plan.status.phase, Some(Phase::Running));
    assert_eq!(plan.status.node_name.as_deref(), Some("n1"));
    assert_eq!(plan.status.interfaces[0].ip_address.as_deref(), Some("10.0.2.15"));
    assert!(plan.actions.contains(&Action::LabelNode("n1".into())));
}

#[test]
fn a_running_instance_never_goes_back_when_its_node_falls_silent() {
    let silent =
        pod(Some("n1"), json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}));
    let status = plan(&vmi(Some("Running"), false), &[silent], &Networks::default(), now()).unwrap().status;
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!(find(&status.conditions, "Ready").unwrap().status, "False");
}

#[test]
fn the_end_of_the_pod_is_the_end_of_the_instance() {
    let done = pod(Some("n1"), json!({"phase": "Succeeded"}));
    assert_eq!(phase_after(&vmi(Some("Running"), false), &[done]), Some(Phase::Succeeded));
    let failed = pod(
        Some("n1"),
        json!({"phase": "Failed", "reason": "NodeRebooted", "message": "gone with its node"}),
    );
    let status = plan(&vmi(Some("Running"), false), &[failed], &Networks::default(), now()).unwrap().status;
    assert_eq!((status.phase, status.reason.as_deref()), (Some(Phase::Failed), Some("NodeRebooted")));
    assert_eq!(phase_after(&vmi(Some("Running"), false), &[]), Some(Phase::Failed));
}

#[test]
fn a_finished_instance_never_gets_another_pod() {
    for phase in ["Succeeded", "Failed"] {
        let plan = plan(&vmi(Some(phase), false), &[], &Networks::default(), now()).unwrap();
        assert!(plan.actions.is_empty(), "{:?}", plan.actions);
    }
}

#[test]
fn a_deleted_instance_is_let_go_only_when_no_pod_remains() {
    let live = pod(Some("n1"), json!({"phase": "Running"}));
    let deleting = vmi(Some("Running"), true);
    let actions = plan(&deleting, &[live], &Networks::default(), now()).unwrap().actions;
    assert!(actions.contains(&Action::DeletePod { name: "p".into(), uid: "p-1".into() }));
    assert!(!actions.contains(&Action::Release));
    let last = plan(&deleting, &[], &Networks::default(), now()).unwrap();
    assert!(last.actions.contains(&Action::Release));
    assert_eq!(last.status.phase, Some(Phase::Succeeded));
}

#[test]
fn planning_again_on_the_planned_status_changes_nothing() {
    let mut vmi = vmi(Some("Scheduled"), false);
    let first = plan(&vmi, &[ready()], &Networks::default(), now()).unwrap();
    vmi.status = Some(first.status.clone());
    vmi.metadata.labels = Some([(NODE_NAME_LABEL.to_string(), "n1".to_string())].into());
    let later = Timestamp::from_second(1_800_000_500).unwrap();
    assert_eq!(
        plan(&vmi, &[ready()], &Networks::default(), later).unwrap(),
        Plan { actions: vec![], status: first.status }
    );
}

#[test]
fn each_interface_has_the_addresses_that_its_node_saw_and_nothing_of_interfaces_that_it_has_not() {
    let mut vmi = vmi(Some("Running"), false);
    vmi.spec = serde_json::from_value(json!({
        "domain": {"memory": {"guest": "1Gi"}, "devices": {"interfaces": [
            {"name": "out", "masquerade": {}}, {"name": "lan", "bridge": {}}]}},
        "networks": [{"name": "out", "pod": {}}, {"name": "lan", "multus": {"networkName": "lan100"}}],
    }))
    .unwrap();
    let mut pod = ready();
    let seen = json!([
        {"name": "lan", "ipAddresses": ["192.0.2.7", "2001:db8::7"], "infoSource": "domain, dhcp, guest-agent"},
        {"name": "other", "ipAddresses": ["192.0.2.9"]},
    ]);
    pod.metadata.annotations = Some([(INTERFACES_ANNOTATION.to_owned(), seen.to_string())].into());
    let status = plan(&vmi, &[pod], &Networks::default(), now()).unwrap().status;
    let [out, lan] = &status.interfaces[..] else { panic!("{:?}", status.interfaces) };
    assert_eq!((out.name.as_deref(), &out.ip_address), (Some("out"), &None));
    assert_eq!((lan.name.as_deref(), lan.ip_address.as_deref()), (Some("lan"), Some("192.0.2.7")));
    assert_eq!(lan.ip_addresses, ["192.0.2.7", "2001:db8::7"]);
    assert_eq!(lan.info_source.as_deref(), Some("domain, dhcp, guest-agent"));
    assert_eq!(find(&status.conditions, "AgentConnected").unwrap().status, "True");
}

#[test]
fn only_an_instance_that_has_yet_to_get_its_pod_asks_what_its_networks_mean() {
    assert!(wants_pod(&vmi(None, false), &[]) && wants_pod(&vmi(Some("Pending"), false), &[]));
    assert!(!wants_pod(&vmi(Some("Scheduling"), false), &[]));
    assert!(!wants_pod(&vmi(None, true), &[]));
    assert!(!wants_pod(&vmi(None, false), &[ready()]));
}
