//! Tables of what a pool does.

use serde_json::{Value, json};

use super::*;
use crate::{conditions::seconds, vm_pool::machine::made};

fn pool(replicas: i32, more: Value) -> VirtualMachinePool {
    let mut spec = json!({
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "virtualMachineTemplate": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "runStrategy": "Always",
                "template": {"spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}}},
            },
        },
    });
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    serde_json::from_value(json!({
        "apiVersion": "pool.kubevirt.io/v1beta1", "kind": "VirtualMachinePool",
        "metadata": {"name": "web", "namespace": "shop", "uid": "pool-1", "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

/// The pool after a change of what its template says of instances.
fn with_more_memory(pool: &VirtualMachinePool) -> VirtualMachinePool {
    let mut pool = pool.clone();
    pool.metadata.generation = Some(2);
    let template = &mut pool.spec.virtual_machine_template.spec.template;
    template.spec.domain.memory = serde_json::from_value(json!({"guest": "128Mi"})).unwrap();
    pool
}

fn machine(pool: &VirtualMachinePool, ordinal: usize, revision: &str) -> VirtualMachine {
    let mut vm = made(pool, ordinal, revision);
    vm.metadata.uid = Some(format!("vm-{ordinal}"));
    vm.metadata.creation_timestamp = Some(seconds(at(ordinal)));
    vm.status = serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": "True"}]})).unwrap();
    vm
}

fn instance(vm: &VirtualMachine, ready: &str) -> VirtualMachineInstance {
    let labels = vm.spec.template.metadata.clone().unwrap_or_default().labels;
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": vm.metadata.name, "uid": format!("run-of-{}", vm.metadata.uid.as_ref().unwrap()),
                     "labels": labels, "ownerReferences": [{
                         "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": vm.metadata.name,
                         "uid": vm.metadata.uid, "controller": true}]},
        "spec": {"domain": {"devices": {}}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    }))
    .unwrap()
}

fn revision(pool: &VirtualMachinePool) -> ControllerRevision {
    Revisions::of(pool, &[]).made()
}

fn at(second: usize) -> Timestamp {
    Timestamp::from_second(1_000_000 + i64::try_from(second).unwrap()).unwrap()
}

/// What the plan does, in words.
fn does(
    pool: &VirtualMachinePool,
    machines: &[VirtualMachine],
    instances: &[VirtualMachineInstance],
    revisions: &[ControllerRevision],
) -> Vec<String> {
    let name = |vm: &VirtualMachine| vm.metadata.name.clone().unwrap_or_default();
    let words = |action: Action| match action {
        Action::KeepRevision(kept) => format!("keep {}", kept.metadata.name.unwrap_or_default()),
        Action::Create(vm) => format!("create {}", name(&vm)),
        Action::Change(vm) => format!("change {}", name(&vm)),
        Action::Restart { name, .. } => format!("restart {name}"),
        Action::Delete { name, .. } => format!("delete {name}"),
        Action::Release(vm) => format!("release {}", name(&vm)),
        Action::Forget(name) => format!("forget {name}"),
    };
    plan(&Observed { pool, machines, instances, revisions }).into_iter().map(words).collect()
}

fn machines(pool: &VirtualMachinePool, ordinals: &[usize]) -> Vec<VirtualMachine> {
    ordinals.iter().map(|ordinal| machine(pool, *ordinal, "web-1")).collect()
}

#[test]
fn the_template_is_kept_before_the_first_vm_is_made_from_it() {
    let pool = pool(2, json!({}));
    assert_eq!(does(&pool, &[], &[], &[]), ["keep web-1", "create web-0", "create web-1"]);
    assert_eq!(does(&pool, &[], &[], &[revision(&pool)]), ["create web-0", "create web-1"]);
}

#[test]
fn a_new_vm_has_the_lowest_number_that_no_vm_has_whoever_owns_it() {
    let pool = pool(3, json!({}));
    let mut all = machines(&pool, &[0, 2]);
    all[0].metadata.owner_references = None;
    assert_eq!(does(&pool, &all, &[], &[revision(&pool)]), ["create web-1", "create web-3"]);
}

#[test]
fn a_vm_that_is_being_deleted_is_replaced_when_it_is_gone() {
    let pool = pool(2, json!({}));
    let mut all = machines(&pool, &[0, 1]);
    all[1].metadata.deletion_timestamp = Some(seconds(at(9)));
    assert_eq!(does(&pool, &all, &[], &[revision(&pool)]), Vec::<String>::new());
    assert_eq!(does(&pool, &all[..1], &[], &[revision(&pool)]), ["create web-1"]);
}

#[test]
fn of_too_many_the_highest_number_is_deleted_or_as_the_strategy_says() {
    let of = |strategy: Value| {
        let pool = pool(2, strategy);
        does(&pool, &machines(&pool, &[10, 0, 2]), &[], &[revision(&pool)])
    };
    let sorted = |policy: &str| {
        of(json!({"scaleInStrategy": {"proactive": {"selectionPolicy": {"sortPolicy": policy}}}}))
    };
    assert_eq!(of(json!({})), ["delete web-10"]);
    assert_eq!(sorted("DescendingOrder"), ["delete web-10"]);
    assert_eq!(sorted("AscendingOrder"), ["delete web-0"]);
    assert_eq!(sorted("Newest"), ["delete web-10"]);
    assert_eq!(sorted("Oldest"), ["delete web-0"]);
    assert_eq!(of(json!({"scaleInStrategy": {"unmanaged": {}}})), Vec::<String>::new());
    assert_eq!(of(json!({"scaleInStrategy": {"opportunistic": {}}})), Vec::<String>::new());
}

#[test]
fn those_being_deleted_are_part_of_the_surplus() {
    let pool = pool(1, json!({}));
    let mut all = machines(&pool, &[0, 1, 2]);
    all[1].metadata.deletion_timestamp = Some(seconds(at(9)));
    assert_eq!(does(&pool, &all, &[], &[revision(&pool)]), ["delete web-2"]);
}

#[test]
fn a_changed_template_is_written_to_vms_before_instances_are_restarted() {
    let before = pool(2, json!({}));
    let after = with_more_memory(&before);
    let old = machines(&before, &[0, 1]);
    let runs: Vec<_> = old.iter().map(|vm| instance(vm, "True")).collect();
    assert_eq!(
        does(&after, &old, &runs, &[revision(&before)]),
        ["keep web-2", "change web-1", "change web-0"]
    );
    let new: Vec<_> = [0, 1].iter().map(|ordinal| machine(&after, *ordinal, "web-2")).collect();
    let kept = [revision(&before), revision(&after)];
    assert_eq!(does(&after, &new, &runs, &kept), ["restart web-1", "restart web-0"]);
    let runs: Vec<_> = new.iter().map(|vm| instance(vm, "True")).collect();
    assert_eq!(does(&after, &new, &runs, &kept), ["forget web-1"]);
    assert_eq!(does(&after, &new, &runs, &kept[1..]), Vec::<String>::new());
}

#[test]
fn no_more_instances_are_restarted_than_may_be_unavailable() {
    let before = pool(4, json!({"maxUnavailable": "50%"}));
    let after = with_more_memory(&before);
    let kept = [revision(&before), revision(&after)];
    let runs: Vec<_> = machines(&before, &[0, 1, 2, 3]).iter().map(|vm| instance(vm, "True")).collect();
    let mut new: Vec<_> = (0..4).map(|ordinal| machine(&after, ordinal, "web-2")).collect();
    assert_eq!(does(&after, &new, &runs, &kept), ["restart web-3", "restart web-2"]);
    // One restart is requested and not done: it counts.
    new[3].status = serde_json::from_value(json!({"stateChangeRequests": [{"action": "Start"}]})).unwrap();
    assert_eq!(does(&after, &new, &runs, &kept), ["restart web-2"]);
    // One that is not Ready is unavailable already: its restart is free.
    let mut runs = runs;
    runs[0] = instance(&machine(&before, 0, "web-1"), "False");
    assert_eq!(does(&after, &new, &runs, &kept), ["restart web-0"]);
}

#[test]
fn a_stopped_vm_delays_no_update() {
    let before = pool(2, json!({"maxUnavailable": 1}));
    let after = with_more_memory(&before);
    let mut new: Vec<_> = [0, 1].iter().map(|ordinal| machine(&after, *ordinal, "web-2")).collect();
    new[1].spec.run_strategy = Some(RunStrategy::Halted);
    let runs = [instance(&machine(&before, 0, "web-1"), "True")];
    let kept = [revision(&before), revision(&after)];
    assert_eq!(does(&after, &new, &runs, &kept), ["restart web-0"]);
}

#[test]
fn an_opportunistic_update_restarts_nothing_and_an_unmanaged_one_changes_nothing() {
    let of = |strategy: &str| {
        let before = pool(1, json!({"updateStrategy": {strategy: {}}}));
        let after = with_more_memory(&before);
        let old = machines(&before, &[0]);
        let runs = [instance(&old[0], "True")];
        let kept = [revision(&before), revision(&after)];
        let first = does(&after, &old, &runs, &kept);
        (first, does(&after, &[machine(&after, 0, "web-2")], &runs, &kept))
    };
    assert_eq!(of("opportunistic"), (vec!["change web-0".to_string()], vec![]));
    assert_eq!(of("unmanaged"), (vec![], vec![]));
}

#[test]
fn a_change_of_replicas_is_no_change_of_the_template() {
    let before = pool(1, json!({}));
    let mut after = pool(2, json!({}));
    after.metadata.generation = Some(2);
    let all = machines(&before, &[0]);
    assert_eq!(does(&after, &all, &[], &[revision(&before)]), ["create web-1"]);
}

#[test]
fn a_relabelled_vm_is_released_and_the_next_has_another_number() {
    let pool = pool(1, json!({}));
    let mut all = machines(&pool, &[0]);
    all[0].metadata.labels = None;
    assert_eq!(does(&pool, &all, &[], &[revision(&pool)]), ["release web-0", "create web-1"]);
}

#[test]
fn a_paused_pool_does_nothing_and_says_so() {
    let pool = pool(3, json!({"paused": true}));
    assert_eq!(does(&pool, &[], &[], &[]), Vec::<String>::new());
    let observed = Observed { pool: &pool, machines: &machines(&pool, &[0]), instances: &[], revisions: &[] };
    let (status, events) = status(&observed, None, at(0));
    assert_eq!((status.replicas, status.ready_replicas), (1, 1));
    assert_eq!(status.conditions[0].type_, "ReplicaPaused");
    assert_eq!(events[0].reason, "SuccessfulPaused");
}
