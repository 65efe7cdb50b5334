//! Tables of what a replica set does, and the property that it never has too many instances.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn set(replicas: i32) -> VirtualMachineInstanceReplicaSet {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceReplicaSet",
        "metadata": {"name": "web", "namespace": "shop", "uid": "set-1"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web", "tier": "front"}, "annotations": {"note": "a"}},
                "spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}},
            },
        },
    }))
    .unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// An instance of the replica set, created `age` seconds before [`at`] 0.
fn instance(name: &str, age: i64, phase: &str, more: Value) -> VirtualMachineInstance {
    let mut vmi = made(&set(1));
    vmi.metadata.name = Some(name.into());
    vmi.metadata.uid = Some(format!("uid-{name}"));
    vmi.metadata.creation_timestamp = Some(crate::conditions::seconds(at(-age)));
    let mut status = json!({"phase": phase});
    if let (Some(status), Some(more)) = (status.as_object_mut(), more.as_object()) {
        status.extend(more.clone());
    }
    vmi.status = serde_json::from_value(status).unwrap();
    vmi
}

fn running(name: &str, age: i64) -> VirtualMachineInstance {
    instance(name, age, "Running", json!({"conditions": [{"type": "Ready", "status": "True"}]}))
}

fn deleted(mut vmi: VirtualMachineInstance) -> VirtualMachineInstance {
    vmi.metadata.deletion_timestamp = Some(crate::conditions::seconds(at(0)));
    vmi
}

/// What the plan does, in words.
fn does(set: &VirtualMachineInstanceReplicaSet, instances: &[VirtualMachineInstance]) -> Vec<String> {
    let words = |action: &Action| match action {
        Action::Create(_) => "create".to_string(),
        Action::Delete { name, .. } => format!("delete {name}"),
        Action::Release(vmi) => format!("release {}", vmi.metadata.name.as_deref().unwrap_or_default()),
    };
    plan(set, instances, at(0)).actions.iter().map(words).collect()
}

#[test]
fn instances_that_are_missing_are_created_from_the_template() {
    let made = plan(&set(2), &[], at(0)).actions;
    assert_eq!(made.len(), 2);
    let Action::Create(vmi) = &made[0] else { panic!("{made:?}") };
    assert_eq!(vmi.metadata.generate_name.as_deref(), Some("web"));
    assert_eq!(vmi.metadata.name, None);
    assert_eq!(vmi.metadata.labels.as_ref().unwrap()["tier"], "front");
    assert_eq!(vmi.metadata.annotations.as_ref().unwrap()["note"], "a");
    let owner = &vmi.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("VirtualMachineInstanceReplicaSet", "set-1"));
    assert_eq!(owner.controller, Some(true));
}

#[test]
fn without_replicas_there_is_one() {
    let mut set = set(0);
    set.spec.replicas = None;
    assert_eq!(does(&set, &[]), ["create"]);
}

#[test]
fn of_too_many_those_that_do_not_run_go_first_then_the_newest() {
    let all = [
        running("old", 90),
        running("new", 30),
        instance("placed", 95, "Scheduled", json!({})),
        instance("unready", 99, "Running", json!({})),
    ];
    assert_eq!(does(&set(3), &all), ["delete placed"]);
    assert_eq!(does(&set(1), &all), ["delete placed", "delete unready", "delete new"]);
    assert_eq!(does(&set(4), &all), Vec::<String>::new());
}

#[test]
fn an_instance_that_is_over_is_deleted_and_replaced_by_one_of_another_name() {
    let all = [running("a", 90), instance("b", 90, "Succeeded", json!({}))];
    assert_eq!(does(&set(2), &all), ["delete b", "create"]);
}

#[test]
fn an_instance_that_ends_soon_after_its_creation_is_replaced_later() {
    let all = [instance("a", 3, "Failed", json!({}))];
    let plan = plan(&set(1), &all, at(0));
    assert_eq!((plan.actions, plan.requeue), (vec![], Some(Duration::from_secs(7))));
    assert_eq!(does(&set(0), &all), ["delete a"]);
    assert_eq!(does(&set(2), &all), ["create"]);
}

#[test]
fn an_instance_that_is_being_deleted_does_not_count_and_is_not_deleted_again() {
    assert_eq!(does(&set(1), &[deleted(running("a", 90))]), ["create"]);
    assert_eq!(does(&set(0), &[deleted(instance("a", 90, "Failed", json!({})))]), Vec::<String>::new());
}

#[test]
fn an_instance_on_a_node_that_does_not_answer_counts_until_somebody_deletes_it() {
    let silent = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "NodeNotReady"}]});
    let all = [instance("a", 900, "Running", silent)];
    assert_eq!(does(&set(1), &all), Vec::<String>::new());
    let (status, _) = status(&set(1), &all, None, at(0));
    assert_eq!((status.replicas, status.ready_replicas), (1, 0));
}

#[test]
fn a_paused_or_deleted_replica_set_does_nothing() {
    let (mut paused, mut deleted) = (set(3), set(3));
    paused.spec.paused = true;
    deleted.metadata.deletion_timestamp = Some(crate::conditions::seconds(at(0)));
    assert_eq!(plan(&paused, &[], at(0)), Plan::default());
    assert_eq!(plan(&deleted, &[], at(0)), Plan::default());
}

#[test]
fn an_instance_of_others_is_not_adopted() {
    let mut foreign = running("a", 90);
    foreign.metadata.owner_references = None;
    assert_eq!(does(&set(1), &[foreign]), ["create"]);
}

#[test]
fn an_instance_that_was_relabelled_is_released_and_replaced() {
    let mut vmi = running("a", 90);
    vmi.metadata.labels = Some([("app".to_string(), "debug".to_string())].into());
    assert_eq!(does(&set(1), &[vmi]), ["release a", "create"]);
}

#[test]
fn the_status_counts_and_says_that_it_is_paused_once() {
    let mut set = set(2);
    set.spec.paused = true;
    let all = [running("a", 90), instance("b", 90, "Scheduling", json!({}))];
    let (after, events) = status(&set, &all, None, at(0));
    assert_eq!((after.replicas, after.ready_replicas), (2, 1));
    assert_eq!(after.label_selector.as_deref(), Some("app=web"));
    assert_eq!(after.conditions[0].type_, "ReplicaPaused");
    assert_eq!(events[0].reason, "SuccessfulPaused");
    set.status = Some(after.clone());
    assert_eq!(status(&set, &all, None, at(5)), (after, vec![]));
    set.spec.paused = false;
    let (after, events) = status(&set, &all, None, at(9));
    assert_eq!((after.conditions.len(), events[0].reason.as_str()), (0, "SuccessfulResumed"));
}

#[test]
fn a_failure_is_a_condition_until_a_pass_succeeds() {
    let mut set = set(1);
    let failure = Failure { reason: "FailedCreate", message: "exceeded quota".into() };
    let (after, events) = status(&set, &[], Some(&failure), at(0));
    assert_eq!(after.conditions[0].type_, "ReplicaFailure");
    assert_eq!(after.conditions[0].message.as_deref(), Some("exceeded quota"));
    assert!(events[0].warning);
    set.status = Some(after);
    assert_eq!(status(&set, &[], None, at(1)).0.conditions, []);
}

/// Something that happens to the model of a namespace.
#[derive(Clone, Debug)]
enum Step {
    /// The controller does the first so many actions of its plan.
    Reconcile(usize),
    /// `kubectl scale`.
    Scale(i32),
    /// `kubectl delete` of the instance at this place.
    Delete(usize),
    /// The node of the instance at this place reports this phase.
    Phase(usize, &'static str),
    /// What was being deleted is gone from its node.
    Gone(usize),
    /// A user changes the labels of the instance at this place.
    Relabel(usize),
    /// So many seconds pass.
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8usize).prop_map(Step::Reconcile),
        2 => (0..6i32).prop_map(Step::Scale),
        2 => (0..8usize).prop_map(Step::Delete),
        3 => (0..8usize, prop_oneof![Just("Running"), Just("Failed"), Just("Succeeded")])
            .prop_map(|(place, phase)| Step::Phase(place, phase)),
        2 => (0..8usize).prop_map(Step::Gone),
        1 => (0..8usize).prop_map(Step::Relabel),
        2 => (0..30i64).prop_map(Step::Pass),
    ]
}

/// Instances that count.
fn counted(set: &VirtualMachineInstanceReplicaSet, all: &[VirtualMachineInstance]) -> usize {
    active(set, all).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_there_are_never_more_instances_than_replicas_beside_those_being_deleted(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let (mut set, mut all, mut now, mut names) = (set(3), Vec::<VirtualMachineInstance>::new(), 0, 0);
        // A scale that lowers the count leaves a surplus until it is deleted.
        let mut most = 3;
        for step in steps {
            match step {
                Step::Reconcile(first) => {
                    let plan = plan(&set, &all, at(now));
                    let complete = first >= plan.actions.len();
                    for action in plan.actions.into_iter().take(first) {
                        match action {
                            Action::Create(vmi) => {
                                names += 1;
                                let mut vmi = *vmi;
                                vmi.metadata.name = Some(format!("web-{names}"));
                                vmi.metadata.uid = Some(format!("uid-{names}"));
                                vmi.metadata.creation_timestamp = Some(crate::conditions::seconds(at(now)));
                                all.push(vmi);
                            }
                            Action::Delete { uid, .. } => {
                                let found = all.iter_mut().find(|vmi| vmi.metadata.uid.as_ref() == Some(&uid));
                                let vmi = found.expect("only what exists is deleted");
                                prop_assert!(vmi.metadata.deletion_timestamp.is_none());
                                vmi.metadata.deletion_timestamp = Some(crate::conditions::seconds(at(now)));
                            }
                            Action::Release(vmi) => {
                                let found = all.iter_mut().find(|one| one.metadata.uid == vmi.metadata.uid);
                                let released = found.expect("only what exists is released");
                                released.metadata.owner_references = None;
                            }
                        }
                    }
                    most = if complete { set.spec.wanted() } else { most.max(set.spec.wanted()) };
                }
                Step::Scale(replicas) => {
                    set.spec.replicas = Some(replicas);
                    most = most.max(set.spec.wanted());
                }
                Step::Delete(place) => {
                    if let Some(vmi) = all.get_mut(place) {
                        vmi.metadata.deletion_timestamp = Some(crate::conditions::seconds(at(now)));
                    }
                }
                Step::Phase(place, phase) => {
                    // A terminal phase never changes.
                    if let Some(vmi) = all.get_mut(place).filter(|vmi| !is_over(vmi)) {
                        vmi.status = serde_json::from_value(json!({"phase": phase})).unwrap();
                    }
                }
                Step::Gone(place) => {
                    if all.get(place).is_some_and(|vmi| vmi.metadata.deletion_timestamp.is_some()) {
                        all.remove(place);
                    }
                }
                Step::Relabel(place) => {
                    if let Some(vmi) = all.get_mut(place) {
                        vmi.metadata.labels = None;
                    }
                }
                Step::Pass(seconds) => now += seconds,
            }
            prop_assert!(counted(&set, &all) <= most, "{} of {most}", counted(&set, &all));
        }
        // Left alone, it ends with exactly as many.
        now += 60;
        let plan = plan(&set, &all, at(now));
        let creates = plan.actions.iter().filter(|action| matches!(action, Action::Create(_))).count();
        let surplus = plan.actions.iter().filter(|action| {
            matches!(action, Action::Delete { uid, .. } if active(&set, &all).any(|vmi| vmi.metadata.uid.as_ref() == Some(uid)))
        }).count();
        prop_assert_eq!(counted(&set, &all) + creates - surplus, set.spec.wanted());
    }
}
