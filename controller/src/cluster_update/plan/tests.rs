//! Each rule of an update of a cluster, with what it says.

use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};
use sheaf_api::{
    cluster_update::NodePhase,
    names::{CONTROL_PLANE_ROLE_LABEL, CORDONED_BY_ANNOTATION, TRUE, VM_NODE_LABEL},
};

use super::*;

/// Saturday.
const NOW: &str = "2026-12-05T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A cluster as the API server has it.
struct Scene {
    update: ClusterUpdate,
    others: Vec<ClusterUpdate>,
    nodes: Vec<Node>,
    requests: Vec<NodeUpdate>,
    now: Timestamp,
}

fn update(name: &str, spec: Value) -> ClusterUpdate {
    serde_json::from_value(json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "ClusterUpdate",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1, "creationTimestamp": NOW,
                     "finalizers": [CLUSTER_UPDATE_FINALIZER]},
        "spec": spec,
    }))
    .unwrap()
}

/// Node `name`, of the control plane if it begins with c; Ready.
fn node(name: &str) -> Node {
    let mut labels = json!({VM_NODE_LABEL: TRUE, "name": name});
    if name.starts_with('c') {
        labels[CONTROL_PLANE_ROLE_LABEL] = json!("");
    }
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": labels}, "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}],
                   "nodeInfo": {"machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "",
                    "osImage": "Sheaf 0.1.0", "containerRuntimeVersion": "", "kubeletVersion": "",
                    "kubeProxyVersion": "", "operatingSystem": "", "architecture": ""}},
    }))
    .unwrap()
}

/// A NodeUpdate that a person made.
fn by_hand(name: &str, version: &str, action: &str) -> NodeUpdate {
    serde_json::from_value(json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeUpdate",
        "metadata": {"name": name, "uid": format!("of-{name}"), "generation": 1},
        "spec": {"nodeName": name, "version": version, "action": action},
    }))
    .unwrap()
}

impl Scene {
    fn new(names: &[&str]) -> Self {
        Self {
            update: update("fall", json!({"version": "0.2.0"})),
            others: Vec::new(),
            nodes: names.iter().map(|name| node(name)).collect(),
            requests: Vec::new(),
            now: at(NOW),
        }
    }

    fn plan(&self) -> Plan {
        let mut all = self.others.clone();
        all.push(self.update.clone());
        let observed =
            Observed { update: &self.update, all: &all, nodes: &self.nodes, requests: &self.requests };
        plan(&observed, self.now)
    }

    /// What is done, in words.
    fn does(&self) -> Vec<String> {
        let words = |action: &Action| match action {
            Action::AddFinalizer => "add the finalizer".to_owned(),
            Action::RemoveFinalizer => "remove the finalizer".to_owned(),
            Action::Cordon(node) => format!("cordon {}", node.name_any()),
            Action::Uncordon(node) => format!("uncordon {}", node.name_any()),
            Action::Create(request) => format!("create {} {}", request.name_any(), request.spec.version),
            Action::Change { after, .. } => format!("change {} {}", after.name_any(), after.spec.version),
            Action::Hold(request) => format!("hold {}", request.name_any()),
            Action::Delete(request) => format!("delete {}", request.name_any()),
        };
        self.plan().actions.iter().map(words).collect()
    }

    fn says(&self) -> (Phase, String) {
        let status = self.plan().status;
        (status.phase.unwrap(), status.message.unwrap_or_default())
    }

    /// The node was begun, and reports this phase.
    fn begun(&mut self, name: &str, phase: &str, message: &str) {
        self.hold(name, "fall");
        let mut request = made(&self.update, name);
        request.metadata.uid = Some(format!("of-{name}"));
        request.metadata.generation = Some(1);
        self.requests.retain(|one| one.name_any() != name);
        self.requests.push(request);
        self.reports(name, phase, message);
    }

    fn reports(&mut self, name: &str, phase: &str, message: &str) {
        let request = self.requests.iter_mut().find(|one| one.name_any() == name).unwrap();
        let generation = request.metadata.generation;
        let status = json!({"phase": phase, "message": message, "observedGeneration": generation});
        request.status = serde_json::from_value(status).unwrap();
    }

    fn of(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.name_any() == name).unwrap()
    }

    fn hold(&mut self, name: &str, by: &str) {
        let node = self.of(name);
        node.spec.get_or_insert_default().unschedulable = Some(true);
        node.annotations_mut().insert(CORDONED_BY_ANNOTATION.into(), by.into());
    }

    /// Its update is over, and it is uncordoned.
    fn done(&mut self, name: &str) {
        self.begun(name, "Updated", "");
        let node = self.of(name);
        node.spec = None;
        node.metadata.annotations = None;
    }

    fn away(&mut self, name: &str) {
        let status = self.of(name).status.get_or_insert_default();
        status.conditions.get_or_insert_default()[0].status = "Unknown".into();
    }

    fn spec(&mut self, change: impl FnOnce(&mut sheaf_api::cluster_update::ClusterUpdateSpec)) {
        change(&mut self.update.spec);
    }

    /// What was decided is written.
    fn write(&mut self) {
        self.update.status = Some(self.plan().status);
    }
}

fn said(phase: Phase, message: &str) -> (Phase, String) {
    (phase, message.to_owned())
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_finalizer_comes_before_the_first_node() {
    let mut scene = Scene::new(&["w1"]);
    scene.update.metadata.finalizers = None;
    assert_eq!(scene.does(), ["add the finalizer"]);
}

#[test]
fn control_plane_nodes_come_first_and_one_at_a_time_whatever_may_be_unavailable() {
    let mut scene = Scene::new(&["w1", "c2", "c1", "w2"]);
    scene.spec(|spec| spec.max_unavailable = 3);
    assert_eq!(scene.does(), ["cordon c1", "create c1 0.2.0"]);
    assert_eq!(scene.says(), said(Phase::Updating, "updating c1 (is begun)"));
    scene.begun("c1", "Staging", "");
    assert_eq!(scene.does(), NOTHING);
    assert_eq!(scene.says(), said(Phase::Updating, "updating c1 (Staging)"));
    scene.begun("c1", "Updated", "");
    assert_eq!(scene.does(), ["uncordon c1", "cordon c2", "create c2 0.2.0"]);
    scene.done("c1");
    scene.done("c2");
    assert_eq!(scene.does(), ["cordon w1", "create w1 0.2.0", "cordon w2", "create w2 0.2.0"]);
    assert_eq!(scene.plan().status.updating_nodes, ["w1", "w2"]);
}

#[test]
fn no_control_plane_node_is_begun_while_another_is_not_ready_even_one_that_is_not_meant() {
    let mut scene = Scene::new(&["c1", "c2", "w1"]);
    scene.away("c2");
    assert_eq!(scene.does(), NOTHING);
    let message = "c2 is not Ready; other nodes wait for the control plane";
    assert_eq!(scene.says(), said(Phase::Updating, message));
    scene.spec(|spec| {
        spec.node_selector = serde_json::from_value(json!({"matchLabels": {"name": "c1"}})).unwrap();
    });
    assert_eq!(scene.does(), NOTHING);
    assert_eq!(scene.says(), said(Phase::Updating, "c2 is not Ready"));
    assert_eq!(scene.plan().status.total, 1);
}

#[test]
fn other_nodes_are_begun_by_name_up_to_max_unavailable_and_those_that_are_away_count() {
    let mut scene = Scene::new(&["w4", "w2", "w3", "w1"]);
    scene.spec(|spec| spec.max_unavailable = 2);
    assert_eq!(scene.does(), ["cordon w1", "create w1 0.2.0", "cordon w2", "create w2 0.2.0"]);
    scene.away("w1");
    assert_eq!(scene.does(), ["cordon w2", "create w2 0.2.0"]);
    assert_eq!(scene.says(), said(Phase::Updating, "updating w2 (is begun); w1 is not Ready"));
    scene.away("w3");
    assert_eq!(scene.does(), NOTHING);
    let message = "w1 is not Ready (and 1 more, see status.nodes); nodes that are unavailable use up \
                   maxUnavailable, which is 2";
    assert_eq!(scene.says(), said(Phase::Updating, message));
}

#[test]
fn a_node_that_runs_the_version_is_skipped_and_one_that_was_cordoned_by_hand_stays_cordoned() {
    let mut scene = Scene::new(&["w1", "w2"]);
    scene.of("w1").status.as_mut().unwrap().node_info.as_mut().unwrap().os_image = "Sheaf 0.2.0".into();
    scene.of("w2").spec.get_or_insert_default().unschedulable = Some(true);
    assert_eq!(scene.does(), ["create w2 0.2.0"]);
    let status = scene.plan().status;
    assert_eq!((status.total, status.updated, status.remaining, status.failed), (2, 1, 1, 0));
    scene.begun("w2", "Updated", "");
    scene.of("w2").metadata.annotations = None;
    assert_eq!(scene.does(), NOTHING);
    assert_eq!(scene.says(), said(Phase::Updated, "2 of 2 nodes run 0.2.0"));
}

#[test]
fn a_status_that_is_about_an_earlier_request_does_not_count() {
    let mut scene = Scene::new(&["w1", "w2"]);
    scene.begun("w1", "Updated", "");
    scene.requests[0].metadata.generation = Some(2);
    assert_eq!(scene.does(), NOTHING);
    assert_eq!(scene.says(), said(Phase::Updating, "updating w1 (has not reported yet)"));
}

#[test]
fn it_stops_at_the_first_node_that_ended_without_the_release_and_follows_the_others_to_their_end() {
    for phase in ["RolledBack", "Refused"] {
        let mut scene = Scene::new(&["w1", "w2", "w3"]);
        scene.spec(|spec| spec.max_unavailable = 2);
        scene.begun("w1", phase, "0.2.0 is not signed");
        scene.begun("w2", "OnTrial", "");
        assert_eq!(scene.does(), NOTHING);
        let why = format!(
            "w1 ended {phase}: 0.2.0 is not signed; no other node is begun. To try it again, delete NodeUpdate w1; to \
             give up, set cancelled"
        );
        assert_eq!(scene.says(), said(Phase::Stopped, &format!("{why}; still updating: w2 (OnTrial)")));
        scene.begun("w2", "Updated", "");
        assert_eq!(scene.does(), ["uncordon w2"]);
        scene.done("w2");
        assert_eq!((scene.does(), scene.says()), (Vec::new(), said(Phase::Stopped, &why)));
        let status = scene.plan().status;
        assert_eq!((status.total, status.updated, status.remaining, status.failed), (3, 1, 1, 1));
        // Its NodeUpdate is deleted by hand: it is tried again.
        scene.requests.retain(|request| request.name_any() != "w1");
        assert_eq!(scene.does()[0], "create w1 0.2.0");
    }
}

#[test]
fn a_node_that_refused_and_asks_again_still_counts_as_failed() {
    let mut scene = Scene::new(&["w1", "w2", "w3"]);
    scene.spec(|spec| spec.max_unavailable = 2);
    scene.begun("w1", "Refused", "the signature does not match");
    scene.write();
    scene.reports("w1", "Checking", "fetch and judge release 0.2.0");
    assert_eq!(scene.does(), NOTHING);
    assert_eq!(scene.says().0, Phase::Stopped);
    scene.reports("w1", "Updated", "");
    assert_eq!(scene.does()[..2], ["uncordon w1", "cordon w2"]);
}

#[test]
fn a_step_that_failed_is_reported_and_waited_for() {
    let mut scene = Scene::new(&["w1", "w2"]);
    scene.begun("w1", "Failed", "https://a.example: connection refused");
    assert_eq!(scene.does(), NOTHING);
    let message = "updating w1 (https://a.example: connection refused)";
    assert_eq!(scene.says(), said(Phase::Updating, message));
    assert_eq!(scene.plan().status.nodes[0].phase, NodePhase::Failed);
    assert_eq!(scene.plan().status.remaining, 2);
}

#[test]
fn a_node_update_that_a_person_made_is_never_overwritten_and_is_named() {
    let mut scene = Scene::new(&["w1", "w2"]);
    scene.requests.push(by_hand("w1", "0.1.5", "Apply"));
    scene.reports("w1", "Updated", "");
    assert_eq!(scene.does(), ["cordon w2", "create w2 0.2.0"]);
    scene.done("w2");
    let message =
        "w1 has a NodeUpdate for 0.1.5 that was made by hand; delete it, or set its version to 0.2.0";
    assert_eq!((scene.does(), scene.says()), (Vec::new(), said(Phase::Updating, message)));

    scene.requests[0] = by_hand("w1", "0.2.0", "Stage");
    let message =
        "w1 has a NodeUpdate with action Stage that was made by hand; delete it, or set its action to Apply";
    assert_eq!((scene.does(), scene.says()), (Vec::new(), said(Phase::Updating, message)));

    // One that asks for the same is followed.
    scene.requests[0] = by_hand("w1", "0.2.0", "Apply");
    assert_eq!(scene.says(), said(Phase::Updating, "updating w1 (has not reported yet)"));
    scene.reports("w1", "Updated", "");
    assert_eq!((scene.does(), scene.says().0), (Vec::new(), Phase::Updated));

    scene.begun("w1", "Staging", "");
    scene.requests.last_mut().unwrap().spec.version = "0.3.0".into();
    let message = "w1 has a NodeUpdate whose version was changed to 0.3.0 by hand; delete it, or set its version to 0.2.0";
    assert_eq!((scene.does(), scene.says()), (Vec::new(), said(Phase::Updating, message)));
}

#[test]
fn a_node_of_another_kind_is_named_only_if_the_selector_asks_for_it() {
    let mut scene = Scene::new(&["w1"]);
    scene.of("w1").labels_mut().remove(VM_NODE_LABEL);
    assert_eq!(scene.says(), said(Phase::Pending, "the cluster has no node of Sheaf"));
    scene.spec(|spec| {
        spec.node_selector = serde_json::from_value(json!({"matchLabels": {"name": "w1"}})).unwrap();
    });
    let message =
        "w1 is not a node of Sheaf (it has no label sheaf.dev/vm-node=true); leave it out of nodeSelector";
    assert_eq!((scene.does(), scene.says()), (Vec::new(), said(Phase::Updating, message)));
    scene.spec(|spec| {
        spec.node_selector = serde_json::from_value(json!({"matchLabels": {"name": "w9"}})).unwrap();
    });
    assert_eq!(scene.says(), said(Phase::Pending, "no node matches nodeSelector"));
}

#[test]
fn paused_begins_no_node_and_follows_those_that_were_begun() {
    let mut scene = Scene::new(&["w1", "w2"]);
    scene.begun("w1", "Restarting", "");
    scene.spec(|spec| spec.paused = true);
    assert_eq!(scene.does(), NOTHING);
    let message = "paused: no node is begun; still updating: w1 (Restarting)";
    assert_eq!(scene.says(), said(Phase::Paused, message));
    scene.begun("w1", "Updated", "");
    assert_eq!(scene.does(), ["uncordon w1"]);
    scene.done("w1");
    assert_eq!((scene.does(), scene.says()), (Vec::new(), said(Phase::Paused, "paused: no node is begun")));
    scene.done("w2");
    assert_eq!(scene.says().0, Phase::Updated, "with nothing left there is nothing to resume");
}

#[test]
fn a_node_that_was_cordoned_when_the_controller_died_is_begun_or_uncordoned() {
    let mut scene = Scene::new(&["w1", "w2"]);
    scene.hold("w2", "fall");
    assert_eq!(scene.does(), ["create w2 0.2.0"], "before w1, which is not cordoned");
    scene.spec(|spec| spec.paused = true);
    assert_eq!(scene.does(), ["uncordon w2"]);
    // What a ClusterUpdate that is no more has left is taken over.
    scene.spec(|spec| spec.paused = false);
    scene.hold("w1", "spring");
    scene.of("w2").spec = None;
    scene.of("w2").metadata.annotations = None;
    assert_eq!(scene.does(), ["cordon w1", "create w1 0.2.0"]);
}

#[test]
fn nodes_are_begun_in_the_window_only() {
    let mut scene = Scene::new(&["w1", "w2"]);
    scene.spec(|spec| {
        spec.window =
            serde_json::from_value(json!({"days": ["Saturday"], "from": "22:00", "until": "02:00"})).unwrap();
    });
    assert_eq!(scene.does(), NOTHING);
    let message = "no node is begun before 2026-12-05T22:00:00Z";
    assert_eq!(scene.says(), said(Phase::WaitingForWindow, message));
    assert_eq!(scene.plan().requeue, Some(CALM));
    scene.now = at("2026-12-05T21:59:50Z");
    assert_eq!(scene.plan().requeue, Some(Duration::from_secs(10)));
    scene.now = at("2026-12-05T22:00:00Z");
    assert_eq!(scene.does(), ["cordon w1", "create w1 0.2.0"]);
    scene.begun("w1", "OnTrial", "");
    scene.now += SignedDuration::from_hours(4);
    assert_eq!(scene.does(), NOTHING);
    let message = "updating w1 (OnTrial); no further node is begun before 2026-12-12T22:00:00Z";
    assert_eq!(scene.says(), said(Phase::Updating, message));
}

#[test]
fn cancelled_stops_nodes_that_do_not_restart_and_waits_for_those_that_do() {
    let mut scene = Scene::new(&["w1", "w2", "w3", "w4"]);
    scene.spec(|spec| (spec.max_unavailable, spec.cancelled) = (3, true));
    scene.begun("w1", "Staging", "");
    scene.begun("w2", "Restarting", "");
    scene.begun("w3", "RolledBack", "0.2.0 was rolled back");
    scene.hold("w4", "fall");
    assert_eq!(scene.does(), ["hold w1", "delete w3", "uncordon w4"]);
    let message = "cancelled; waiting for w1 (has not answered yet that it does not restart), w2 (Restarting), w3 (its \
                   NodeUpdate is deleted) and 1 more";
    assert_eq!(scene.says(), said(Phase::Cancelled, message));
    // It is held, and has not answered: it may be about to restart.
    scene.requests.retain(|request| request.name_any() != "w3");
    let of_w1 = scene.requests.iter_mut().find(|request| request.name_any() == "w1").unwrap();
    of_w1.spec.action = Goes::Check;
    of_w1.metadata.generation = Some(2);
    assert_eq!(scene.does(), ["uncordon w3", "uncordon w4"]);
    scene.reports("w1", "Restarting", "");
    assert_eq!(scene.does()[..1], ["uncordon w3"]);
    scene.reports("w1", "Checked", "");
    assert_eq!(scene.does()[..1], ["delete w1"]);
    scene.requests.retain(|request| request.name_any() != "w1");
    scene.reports("w2", "Updated", "");
    assert_eq!(scene.does(), ["uncordon w1", "uncordon w2", "uncordon w3", "uncordon w4"]);
    for name in ["w1", "w2", "w3", "w4"] {
        scene.of(name).metadata.annotations = None;
        scene.of(name).spec = None;
    }
    let message = "cancelled; 1 of 4 nodes run 0.2.0";
    assert_eq!((scene.does(), scene.says()), (Vec::new(), said(Phase::Cancelled, message)));
    assert_eq!(scene.plan().requeue, None);
}

#[test]
fn a_deleted_update_is_cancelled_and_goes_when_it_holds_no_node() {
    let mut scene = Scene::new(&["w1"]);
    scene.begun("w1", "OnTrial", "");
    scene.update.metadata.deletion_timestamp = Some(crate::conditions::seconds(at(NOW)));
    assert_eq!(scene.does(), NOTHING);
    assert_eq!(scene.says(), said(Phase::Cancelled, "cancelled; waiting for w1 (OnTrial)"));
    scene.reports("w1", "Updated", "");
    assert_eq!(scene.does(), ["uncordon w1"]);
    scene.done("w1");
    assert_eq!(scene.does(), ["remove the finalizer"]);
}

#[test]
fn a_node_that_the_selector_left_is_treated_as_cancelled_and_no_longer_stops_the_others() {
    let mut scene = Scene::new(&["w1", "w2"]);
    scene.begun("w1", "Refused", "no");
    scene.spec(|spec| {
        spec.node_selector = serde_json::from_value(json!({"matchLabels": {"name": "w2"}})).unwrap();
    });
    assert_eq!(scene.does(), ["hold w1"], "and w2 waits for its place");
    scene.requests.clear();
    assert_eq!(scene.does(), ["uncordon w1", "cordon w2", "create w2 0.2.0"]);
}

#[test]
fn of_two_updates_the_one_that_has_begun_goes_first_and_the_other_says_for_which_it_waits() {
    let mut scene = Scene::new(&["w1", "w2"]);
    scene.others.push(update("spring", json!({"version": "0.1.5"})));
    assert_eq!(scene.does(), ["cordon w1", "create w1 0.2.0"], "of the same age, by name");
    scene.others[0].metadata.creation_timestamp =
        Some(crate::conditions::seconds(at("2026-12-01T00:00:00Z")));
    let message = "ClusterUpdate spring is not finished (Pending); this one begins after it";
    assert_eq!((scene.does(), scene.says()), (Vec::new(), said(Phase::Pending, message)));
    scene.others[0].status = serde_json::from_value(json!({"phase": "Stopped"})).unwrap();
    let message = "ClusterUpdate spring is not finished (Stopped); this one begins after it";
    assert_eq!(scene.says(), said(Phase::Pending, message));
    scene.others[0].status = serde_json::from_value(json!({"phase": "Updated"})).unwrap();
    assert_eq!(scene.does(), ["cordon w1", "create w1 0.2.0"]);
    // An older one that comes later does not go first.
    scene.others[0].status = None;
    scene.begun("w1", "Staging", "");
    assert_eq!(scene.says().0, Phase::Updating);
}

#[test]
fn what_a_finished_update_made_is_taken_over_by_the_next() {
    let mut scene = Scene::new(&["w1"]);
    let spring = update("spring", json!({"version": "0.1.0"}));
    let mut of_spring = made(&spring, "w1");
    of_spring.metadata.generation = Some(1);
    scene.requests.push(of_spring);
    scene.reports("w1", "Updated", "");
    assert_eq!(scene.does(), ["cordon w1", "change w1 0.2.0"]);
    let Action::Change { after, .. } = scene.plan().actions[1].clone() else { panic!("a change") };
    assert!(owns(Some("uid-fall"), &*after));
    scene.reports("w1", "OnTrial", "");
    let message = "w1 is being updated to 0.1.0 by ClusterUpdate spring";
    assert_eq!((scene.does(), scene.says()), (Vec::new(), said(Phase::Updating, message)));
}

#[test]
fn nothing_follows_once_all_nodes_are_updated_whatever_joins_or_changes() {
    let mut scene = Scene::new(&["w1"]);
    scene.done("w1");
    scene.write();
    assert_eq!(scene.plan().requeue, None);
    scene.nodes.push(node("w2"));
    assert_eq!((scene.does(), scene.says()), (Vec::new(), said(Phase::Updated, "1 of 1 nodes run 0.2.0")));
}

#[test]
fn a_changed_source_is_another_try_for_nodes_on_the_way_and_for_one_that_ended() {
    let mut scene = Scene::new(&["w1", "w2"]);
    scene.begun("w1", "Refused", "no");
    scene.write();
    scene.spec(|spec| spec.health_timeout_seconds = 1200);
    assert_eq!(scene.does(), ["change w1 0.2.0"]);
    assert_eq!(scene.says(), said(Phase::Updating, "updating w1 (has not reported yet)"));
    scene.done("w2");
    scene.requests.last_mut().unwrap().spec.health_timeout_seconds = 60;
    assert_eq!(scene.does(), ["change w1 0.2.0"], "w2 is updated");
}

#[test]
fn a_status_lists_the_nodes_that_need_attention_and_takes_over_no_endless_report() {
    let names: Vec<String> = (100..250).map(|number| format!("w{number}")).collect();
    let mut scene = Scene::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    scene.begun("w249", "RolledBack", &"ä".repeat(100_000));
    let status = scene.plan().status;
    assert_eq!((status.nodes.len(), status.total, status.remaining), (100, 150, 149));
    assert_eq!((status.nodes[0].name.as_str(), status.nodes[0].phase), ("w249", NodePhase::RolledBack));
    assert!(status.message.is_some_and(|message| message.len() < 600));
}

#[test]
fn events_tell_of_nodes_and_phases_once() {
    let mut scene = Scene::new(&["w1", "w2"]);
    let told = |scene: &Scene| -> Vec<String> {
        let events = report::events(&scene.update, &scene.plan().status);
        events.into_iter().map(|event| format!("{} {}", event.reason, event.note)).collect()
    };
    assert_eq!(told(&scene), ["Updating updating w1 (is begun)"]);
    scene.begun("w1", "Staging", "");
    scene.write();
    assert_eq!(told(&scene), NOTHING);
    scene.begun("w1", "Failed", "connection refused");
    assert_eq!(told(&scene), ["NodeFailed w1: connection refused; the node tries it again"]);
    scene.done("w1");
    assert_eq!(told(&scene), ["NodeUpdated w1 runs 0.2.0"]);
    scene.write();
    scene.begun("w2", "RolledBack", "not healthy");
    let events = told(&scene);
    assert_eq!(events[0], "NodeRolledBack w2: not healthy");
    assert!(
        events[1].starts_with("Stopped w2 ended RolledBack: not healthy; no other node is begun"),
        "{events:?}"
    );
}

#[test]
fn a_request_that_fails_is_a_condition_until_the_next_round() {
    let mut scene = Scene::new(&["w1"]);
    scene.begun("w1", "Staging", "");
    scene.update.status = Some(report::failing(&scene.update, "cordoning a node: forbidden", scene.now));
    let failing = scene.update.status.clone().unwrap().conditions;
    assert_eq!(failing[0].message.as_deref(), Some("cordoning a node: forbidden"));
    let after = scene.plan().status.conditions;
    assert_eq!(after.iter().map(|one| one.type_.as_str()).collect::<Vec<_>>(), ["Updated"]);
}
