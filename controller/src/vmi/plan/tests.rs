//! From each state of a Pod to the phase and conditions of its instance.

use serde_json::{Value, json};
use sheaf_api::names::{INTERFACES_ANNOTATION, OUT_OF_SERVICE_TAINT};

use super::*;
use crate::conditions::find;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() // 2027-01-15T08:00:00Z
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
        "spec": {"containers": [], "nodeName": node, "runtimeClassName": "sheaf-vm"},
        "status": status,
    }))
    .unwrap()
}

fn ready() -> Pod {
    pod(Some("n1"), json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}))
}

/// A Pod whose node reports that the domain is gone.
fn ended(phase: &str, reason: Option<&str>) -> Pod {
    pod(
        Some("n1"),
        json!({"phase": phase, "reason": reason, "containerStatuses": [{"name": "compute", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}]}),
    )
}

/// The plan for an instance with this Pod.
fn plan_with(
    vmi: &VirtualMachineInstance,
    pod: Option<&Pod>,
    node: Option<&Node>,
    earlier: &[(Pod, Option<Node>)],
) -> Plan {
    let (networks, config) = (Ok(Networks::default()), ClusterConfigSpec::default());
    plan(
        &Observed {
            vmi,
            pod,
            node,
            earlier,
            networks: &networks,
            config: &config,
            images: &Default::default(),
            volumes: &Default::default(),
            nics: &Default::default(),
        },
        now(),
    )
    .unwrap()
}

fn actions(vmi: &VirtualMachineInstance, pod: Option<&Pod>) -> Vec<Action> {
    plan_with(vmi, pod, None, &[]).actions
}

/// The status after a plan.
fn after(vmi: &VirtualMachineInstance, plan: &Plan) -> VirtualMachineInstanceStatus {
    let written = plan.actions.iter().find_map(|action| match action {
        Action::WriteStatus(status) => Some(VirtualMachineInstanceStatus::clone(status)),
        _ => None,
    });
    written.or_else(|| vmi.status.clone()).unwrap_or_default()
}

fn status(vmi: &VirtualMachineInstance, pod: Option<&Pod>) -> VirtualMachineInstanceStatus {
    after(vmi, &plan_with(vmi, pod, None, &[]))
}

fn reason(status: &VirtualMachineInstanceStatus, type_: &str) -> Option<String> {
    find(&status.conditions, type_).and_then(|condition| condition.reason.clone())
}

#[test]
fn a_new_instance_gets_its_finalizer_before_anything_else() {
    let mut vmi = vmi(None, false);
    vmi.metadata.finalizers = None;
    assert_eq!(actions(&vmi, None), [Action::AddFinalizer]);
}

#[test]
fn an_instance_without_a_pod_gets_one_and_its_status_says_so_only_then() {
    let vmi = vmi(None, false);
    let actions = actions(&vmi, None);
    assert!(
        matches!(actions.as_slice(), [Action::CreatePod(_), Action::WriteStatus(_), Action::RecordEvent(_)]),
        "{actions:?}"
    );
    assert_eq!(status(&vmi, None).phase, Some(Phase::Scheduling));
}

#[test]
fn no_pod_is_made_while_one_of_an_earlier_instance_may_run() {
    let vmi = vmi(None, false);
    let mut earlier = [(ready(), None)];
    earlier[0].0.metadata.deletion_timestamp = Some(seconds(now()));
    let waits = plan_with(&vmi, None, None, &earlier);
    assert!(!waits.actions.iter().any(|action| matches!(action, Action::CreatePod(_))), "{waits:?}");
    assert_eq!(reason(&after(&vmi, &waits), "Synchronized").as_deref(), Some("PreviousRunPresent"));
    assert!(waits.requeue.is_some());
    earlier[0].0 = ended("Succeeded", None);
    assert!(matches!(plan_with(&vmi, None, None, &earlier).actions[0], Action::CreatePod(_)));
}

#[test]
fn a_pod_of_somebody_else_in_its_place_is_named_and_nothing_is_made() {
    let mut foreign = ready();
    foreign.spec.as_mut().unwrap().runtime_class_name = None;
    let vmi = vmi(None, false);
    let plan = plan_with(&vmi, Some(&foreign), None, &[]);
    assert!(matches!(plan.actions.as_slice(), [Action::WriteStatus(_), Action::RecordEvent(_)]), "{plan:?}");
    assert_eq!(reason(&after(&vmi, &plan), "Synchronized").as_deref(), Some("PodNameTaken"));
}

#[test]
fn networks_that_mean_nothing_are_said_and_no_pod_is_made() {
    let vmi = vmi(None, false);
    let networks = Err(Unresolved { reason: "NetworkNotFound", message: "there is none".into() });
    let config = ClusterConfigSpec::default();
    let observed = Observed {
        vmi: &vmi,
        pod: None,
        node: None,
        earlier: &[],
        networks: &networks,
        config: &config,
        images: &Default::default(),
        volumes: &Default::default(),
        nics: &Default::default(),
    };
    let plan = plan(&observed, now()).unwrap();
    let status = after(&vmi, &plan);
    assert_eq!(status.phase, Some(Phase::Pending));
    assert_eq!(reason(&status, "Synchronized").as_deref(), Some("NetworkNotFound"));
    assert!(matches!(plan.actions.as_slice(), [Action::WriteStatus(_), Action::RecordEvent(_)]), "{plan:?}");
}

#[test]
fn a_pod_that_no_node_fits_leaves_its_reason() {
    let pod = pod(
        None,
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient memory."}]}),
    );
    let status = status(&vmi(Some("Scheduling"), false), Some(&pod));
    assert_eq!(status.phase, Some(Phase::Scheduling));
    let condition = find(&status.conditions, "PodScheduled").unwrap();
    assert_eq!(condition.reason.as_deref(), Some("Unschedulable"));
    assert_eq!(condition.message.as_deref(), Some("0/1 nodes are available: 1 Insufficient memory."));
}

#[test]
fn a_bound_pod_makes_it_scheduled_and_a_ready_one_running() {
    let bound = pod(Some("n1"), json!({"phase": "Pending"}));
    assert_eq!(status(&vmi(Some("Scheduling"), false), Some(&bound)).phase, Some(Phase::Scheduled));
    let ready = pod(
        Some("n1"),
        json!({"phase": "Running", "podIPs": [{"ip": "10.0.2.15"}],
        "conditions": [{"type": "Ready", "status": "True"}]}),
    );
    let vmi = vmi(Some("Scheduled"), false);
    let plan = plan_with(&vmi, Some(&ready), None, &[]);
    let status = after(&vmi, &plan);
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!(status.node_name.as_deref(), Some("n1"));
    assert_eq!(status.interfaces[0].ip_address.as_deref(), Some("10.0.2.15"));
    assert!(plan.actions.contains(&Action::LabelNode("n1".into())));
}

#[test]
fn what_the_node_reports_of_credentials_is_a_condition_of_the_instance_while_it_is_reported() {
    let with = |condition: Value| {
        let mut pod = ready();
        let conditions = json!([{"type": "Ready", "status": "True"}, condition]);
        pod.status.as_mut().unwrap().conditions = serde_json::from_value(conditions).unwrap();
        find(&status(&vmi(Some("Running"), false), Some(&pod)).conditions, CREDENTIALS).cloned()
    };
    let offline =
        json!({"type": CREDENTIALS_CONDITION, "status": "False", "message": "Guest agent is offline"});
    let condition = with(offline).unwrap();
    assert_eq!(
        (condition.status.as_str(), condition.message.as_deref()),
        ("False", Some("Guest agent is offline"))
    );
    assert_eq!(with(json!({"type": CREDENTIALS_CONDITION, "status": "True"})).unwrap().status, "True");
    assert_eq!(with(json!({"type": "PodScheduled", "status": "True"})), None);
}

#[test]
fn a_running_instance_never_goes_back_when_its_node_falls_silent() {
    let silent =
        pod(Some("n1"), json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}));
    let status = status(&vmi(Some("Running"), false), Some(&silent));
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!(find(&status.conditions, "Ready").unwrap().status, "False");
}

#[test]
fn the_nodes_word_that_the_domain_is_gone_is_the_end_of_the_instance() {
    let running = vmi(Some("Running"), false);
    assert_eq!(status(&running, Some(&ended("Succeeded", None))).phase, Some(Phase::Succeeded));
    let failed = status(&running, Some(&ended("Failed", Some("NodeRebooted"))));
    assert_eq!((failed.phase, failed.reason.as_deref()), (Some(Phase::Failed), Some("NodeRebooted")));
    assert_eq!(status(&running, None).phase, Some(Phase::Failed));
}

#[test]
fn a_pod_that_others_failed_or_forced_away_is_no_end_and_people_are_told_what_to_do() {
    let mut collected = pod(Some("n1"), json!({"phase": "Failed", "reason": "Orphaned"}));
    collected.metadata.deletion_timestamp = Some(seconds(now()));
    let vmi = vmi(Some("Running"), false);
    let plan = plan_with(&vmi, Some(&collected), None, &[]);
    let status = after(&vmi, &plan);
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!(status.active_pods.len(), 1);
    let ready = find(&status.conditions, "Ready").unwrap();
    assert_eq!(ready.reason.as_deref(), Some(NODE_SILENT));
    let message = ready.message.as_deref().unwrap();
    assert!(message.contains("n1") && message.contains(OUT_OF_SERVICE_TAINT), "{message}");
    assert!(plan.actions.iter().any(|action| matches!(action, Action::RecordEvent(event) if event.warning)));

    // A deletion that the node has time for is none of that yet.
    let mut stopping = ready_pod_deleted_at(1_800_000_100);
    assert_eq!(reason(&self::status(&vmi, Some(&stopping)), "Ready").as_deref(), Some("PodTerminating"));
    assert_eq!(plan_with(&vmi, Some(&stopping), None, &[]).requeue, Some(Duration::from_secs(160)));
    stopping = ready_pod_deleted_at(1_800_000_000 - REPORTED_WITHIN);
    assert_eq!(reason(&self::status(&vmi, Some(&stopping)), "Ready").as_deref(), Some(NODE_SILENT));
}

fn ready_pod_deleted_at(second: i64) -> Pod {
    let mut pod = ready();
    pod.metadata.deletion_timestamp = Some(seconds(Timestamp::from_second(second).unwrap()));
    pod
}

#[test]
fn a_node_that_an_administrator_declared_out_of_service_ends_its_instances() {
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1"},
        "spec": {"taints": [{"key": OUT_OF_SERVICE_TAINT, "effect": "NoExecute"}]}}))
    .unwrap();
    let vmi = vmi(Some("Running"), false);
    let status = after(&vmi, &plan_with(&vmi, Some(&ready()), Some(&node), &[]));
    assert_eq!((status.phase, status.reason.as_deref()), (Some(Phase::Failed), Some("NodeOutOfService")));
    assert!(status.active_pods.is_empty());
}

#[test]
fn a_finished_instance_never_gets_another_pod() {
    for phase in ["Succeeded", "Failed"] {
        let actions = actions(&vmi(Some(phase), false), None);
        assert!(actions.iter().all(|action| matches!(action, Action::WriteStatus(_))), "{actions:?}");
    }
}

#[test]
fn a_deleted_instance_loses_its_finalizer_last_and_only_when_no_pod_remains() {
    let live = pod(Some("n1"), json!({"phase": "Running"}));
    let deleting = vmi(Some("Running"), true);
    let first = actions(&deleting, Some(&live));
    assert!(first.contains(&Action::DeletePod { name: "p".into(), uid: "p-1".into() }));
    assert!(!first.contains(&Action::RemoveFinalizer));
    assert_eq!(actions(&deleting, None).last(), Some(&Action::RemoveFinalizer));
    assert_eq!(status(&deleting, None).phase, Some(Phase::Succeeded));
}

#[test]
fn planning_again_on_the_planned_status_changes_nothing() {
    let mut vmi = vmi(Some("Scheduled"), false);
    vmi.status = Some(status(&vmi, Some(&ready())));
    vmi.metadata.labels = Some([(NODE_NAME_LABEL.to_string(), "n1".to_string())].into());
    assert_eq!(plan_with(&vmi, Some(&ready()), None, &[]), Plan::default());
}

#[test]
fn each_interface_has_the_addresses_that_its_node_reported_and_none_that_cannot_be_a_guests() {
    let mut vmi = vmi(Some("Running"), false);
    vmi.spec = serde_json::from_value(json!({
        "domain": {"memory": {"guest": "1Gi"}, "devices": {"interfaces": [
            {"name": "out", "masquerade": {}}, {"name": "lan", "bridge": {}}]}},
        "networks": [{"name": "out", "pod": {}}, {"name": "lan", "multus": {"networkName": "lan100"}}],
    }))
    .unwrap();
    let mut pod = ready();
    let reported = json!([
        {"name": "lan", "ipAddresses": ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "0.0.0.0", "224.0.0.1",
            "192.0.2.7", "2001:db8::7"], "infoSource": "domain, dhcp, guest-agent"},
        {"name": "other", "ipAddresses": ["192.0.2.9"]},
    ]);
    pod.metadata.annotations = Some([(INTERFACES_ANNOTATION.to_owned(), reported.to_string())].into());
    let reported = status(&vmi, Some(&pod));
    let [out, lan] = &reported.interfaces[..] else { panic!("{:?}", reported.interfaces) };
    assert_eq!((out.name.as_deref(), &out.ip_address), (Some("out"), &None));
    assert_eq!((lan.name.as_deref(), lan.ip_address.as_deref()), (Some("lan"), Some("192.0.2.7")));
    assert_eq!(lan.ip_addresses, ["192.0.2.7", "2001:db8::7"]);
    assert_eq!(lan.info_source.as_deref(), Some("domain, dhcp, guest-agent, multus-status"));
    assert_eq!((lan.link_state.as_deref(), out.link_state.as_deref()), (Some("up"), None));
    assert_eq!(find(&reported.conditions, "AgentConnected").unwrap().status, "True");

    let many: Vec<String> = (1..200).map(|host| format!("192.0.2.{host}")).collect();
    let many = json!([{"name": "lan", "ipAddresses": many}]);
    pod.metadata.annotations = Some([(INTERFACES_ANNOTATION.to_owned(), many.to_string())].into());
    assert_eq!(status(&vmi, Some(&pod)).interfaces[1].ip_addresses.len(), MOST_ADDRESSES);
}

#[test]
fn only_an_instance_that_has_yet_to_get_its_pod_asks_what_its_networks_mean() {
    assert!(wants_pod(&vmi(None, false), None) && wants_pod(&vmi(Some("Pending"), false), None));
    assert!(!wants_pod(&vmi(Some("Scheduling"), false), None));
    assert!(!wants_pod(&vmi(None, true), None));
    assert!(!wants_pod(&vmi(None, false), Some(&ready())));
}

proptest::proptest! {
    #[test]
    fn no_time_of_deletion_and_no_clock_makes_the_plan_panic(
        deleted in 0i64..250_000_000_000, clock in 0i64..250_000_000_000,
        text in ".{0,200}",
    ) {
        let (Ok(deleted), Ok(clock)) = (Timestamp::from_second(deleted), Timestamp::from_second(clock)) else {
            return Ok(());
        };
        let mut pod = ready();
        pod.metadata.deletion_timestamp = Some(seconds(deleted));
        pod.metadata.annotations = Some([(INTERFACES_ANNOTATION.to_owned(), text)].into());
        let vmi = vmi(Some("Running"), true);
        let (networks, config) = (Ok(Networks::default()), ClusterConfigSpec::default());
        let observed = Observed { vmi: &vmi, pod: Some(&pod), node: None, earlier: &[], networks: &networks, config: &config, images: &Default::default(), volumes: &Default::default(), nics: &Default::default() };
        plan(&observed, clock).unwrap();
    }
}

/// As `kubectl drain` leaves it: evicted, and its guest obeyed the power button.
fn evicted(phase: &str) -> Pod {
    let mut pod = ended(phase, None);
    let condition = json!([{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting"}]);
    pod.status.as_mut().unwrap().conditions = serde_json::from_value(condition).unwrap();
    pod.metadata.deletion_timestamp = Some(seconds(now()));
    pod
}

#[test]
fn a_vm_that_was_evicted_has_failed_so_that_rerun_on_failure_starts_it_elsewhere() {
    for phase in ["Succeeded", "Failed"] {
        let plan = plan_with(&vmi(Some("Running"), false), Some(&evicted(phase)), None, &[]);
        let status = plan
            .actions
            .iter()
            .find_map(|action| match action {
                Action::WriteStatus(status) => Some(status),
                _ => None,
            })
            .unwrap();
        assert_eq!(
            (status.phase, status.reason.as_deref()),
            (Some(Phase::Failed), Some("Evicted")),
            "{phase}"
        );
        let ready = find(&status.conditions, "Ready").unwrap();
        let message = "the VM was stopped on its node: Eviction API: evicting";
        assert_eq!((ready.reason.as_deref(), ready.message.as_deref()), (Some("Evicted"), Some(message)));
    }
    // While it powers off, it runs.
    let mut on_its_way = evicted("Running");
    on_its_way.status.as_mut().unwrap().container_statuses = None;
    let plan = plan_with(&vmi(Some("Running"), false), Some(&on_its_way), None, &[]);
    let failed = |action: &Action| matches!(action, Action::WriteStatus(status) if status.phase == Some(Phase::Failed));
    assert!(!plan.actions.iter().any(failed), "{plan:?}");
}
