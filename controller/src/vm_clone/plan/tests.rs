//! The life of a clone, phase by phase.

use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn clone(source: Value, target: Value) -> VirtualMachineClone {
    serde_json::from_value(json!({
        "apiVersion": "clone.kubevirt.io/v1beta1", "kind": "VirtualMachineClone",
        "metadata": {"name": "copy", "namespace": "shop", "uid": "c1234567"}, "spec": {"source": source, "target": target},
    }))
    .unwrap()
}

fn of_vm() -> VirtualMachineClone {
    let vm = |name| json!({"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": name});
    clone(vm("web"), vm("web2"))
}

fn vm(name: &str) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"runStrategy": "Always", "template": {"spec": {"domain": {"devices": {}}}}},
    }))
    .unwrap()
}

fn content() -> VirtualMachineSnapshotContent {
    serde_json::from_value(json!({
        "apiVersion": "snapshot.kubevirt.io/v1beta1", "kind": "VirtualMachineSnapshotContent", "metadata": {"name": "k"},
        "spec": {"source": {"virtualMachine": vm("web")}},
    }))
    .unwrap()
}

fn with_status<K: serde::Serialize + serde::de::DeserializeOwned>(object: &K, status: Value) -> K {
    let mut value = serde_json::to_value(object).unwrap();
    value["status"] = status;
    serde_json::from_value(value).unwrap()
}

fn observed<'a>(clone: &'a VirtualMachineClone, source: Option<&'a VirtualMachine>) -> Observed<'a> {
    Observed { clone, source, snapshot: None, content: None, restore: None, target: None }
}

#[test]
fn a_vm_is_snapshotted_restored_to_its_target_and_what_that_took_is_deleted() {
    let (mut clone, web, content) = (of_vm(), vm("web"), content());
    let first = plan(&observed(&clone, Some(&web)), NOW);
    let Action::CreateSnapshot(snapshot) = &first.actions[0] else { panic!("{first:?}") };
    assert_eq!(snapshot.metadata.name.as_deref(), Some("tmp-snapshot-c1234567"));
    assert_eq!(snapshot.metadata.owner_references.as_ref().unwrap()[0].name, "copy");
    assert_eq!(snapshot.spec.source, Reference::vm("web"));
    assert_eq!(first.status.phase, Some(ClonePhase::SnapshotInProgress));
    clone.status = Some(first.status.clone());

    let waiting = Observed { snapshot: Some(snapshot), ..observed(&clone, Some(&web)) };
    assert_eq!(plan(&waiting, NOW).actions, []);
    let snapshot = with_status(&**snapshot, json!({"phase": "Succeeded", "readyToUse": true}));
    let ready =
        Observed { snapshot: Some(&snapshot), content: Some(&content), ..observed(&clone, Some(&web)) };
    let second = plan(&ready, NOW);
    let Action::CreateRestore(restore) = &second.actions[0] else { panic!("{second:?}") };
    assert_eq!(restore.spec.target, Reference::vm("web2"));
    assert_eq!(restore.spec.virtual_machine_snapshot_name, "tmp-snapshot-c1234567");
    assert_eq!(second.status.phase, Some(ClonePhase::RestoreInProgress));

    let web2 = vm("web2");
    let half = with_status(&**restore, json!({"complete": false}));
    let half = Observed { restore: Some(&half), target: Some(&web2), ..observed(&clone, Some(&web)) };
    assert_eq!(plan(&half, NOW).status.phase, Some(ClonePhase::CreatingTargetVM));
    let whole = with_status(&**restore, json!({"complete": true}));
    let whole = Observed { restore: Some(&whole), target: Some(&web2), ..observed(&clone, Some(&web)) };
    let third = plan(&whole, NOW);
    assert_eq!(third.status.phase, Some(ClonePhase::Succeeded));
    assert_eq!(third.status.target_name.as_deref(), Some("web2"));

    let done = VirtualMachineClone { status: Some(third.status), ..clone.clone() };
    let left = Observed { clone: &done, snapshot: Some(&snapshot), ..whole };
    let last = plan(&left, NOW);
    assert_eq!(
        last.actions[..2],
        [
            Action::DeleteRestore("tmp-restore-c1234567".into()),
            Action::DeleteSnapshot("tmp-snapshot-c1234567".into())
        ]
    );
    assert_eq!((last.status.snapshot_name, last.status.restore_name), (None, None));
    // As KubeVirt: a clone goes with its VM.
    assert_eq!(plan(&observed(&done, Some(&web)), NOW).actions, [Action::DeleteClone]);
}

#[test]
fn a_clone_of_a_snapshot_leaves_that_snapshot_and_names_its_target_itself() {
    let source =
        json!({"apiGroup": "snapshot.kubevirt.io", "kind": "VirtualMachineSnapshot", "name": "nightly"});
    let clone = clone(source, json!(null));
    assert_eq!(snapshot_name(&clone), "nightly");
    assert_eq!(target_name(&clone, "web"), "web-clone-c1234");
    assert_eq!(target_name(&clone, &"w".repeat(63)).len(), 63);
    let missing = plan(&observed(&clone, None), NOW);
    assert_eq!(
        find(&missing.status.conditions, "Ready").unwrap().message.as_deref(),
        Some("Source doesn't exist: VirtualMachineSnapshot nightly")
    );
    assert_eq!((missing.status.phase, missing.requeue), (None, Some(WAIT)));
    let (snapshot, web) = (snapshot_of(&clone), vm("web-clone-c1234"));
    let status = json!({"phase": "Succeeded", "targetName": "web-clone-c1234", "restoreName": "r", "snapshotName": "nightly"});
    let clone = with_status(&clone, status);
    let done = Observed { snapshot: Some(&snapshot), target: Some(&web), ..observed(&clone, None) };
    assert!(matches!(plan(&done, NOW).actions[..], [Action::WriteStatus(_)]));
}

#[test]
fn a_clone_fails_by_name_when_its_target_exists_its_snapshot_failed_or_its_restore_did() {
    let (clone, web, web2, content) = (of_vm(), vm("web"), vm("web2"), content());
    let why = |observed: &Observed| {
        let plan = plan(observed, NOW);
        assert_eq!(plan.status.phase, Some(ClonePhase::Failed), "{plan:?}");
        find(&plan.status.conditions, "Ready").unwrap().message.clone().unwrap()
    };
    let ready = with_status(&snapshot_of(&clone), json!({"readyToUse": true}));
    let taken = Observed {
        snapshot: Some(&ready),
        content: Some(&content),
        target: Some(&web2),
        ..observed(&clone, Some(&web))
    };
    assert_eq!(why(&taken), "a VirtualMachine web2 exists; name another target");
    let failure = json!([{"type": "Failure", "status": "True", "message": "no room"}]);
    let failed = with_status(&snapshot_of(&clone), json!({"phase": "Failed", "conditions": failure}));
    let failed = Observed { snapshot: Some(&failed), ..observed(&clone, Some(&web)) };
    assert_eq!(why(&failed), "snapshot tmp-snapshot-c1234567 failed: no room");
}
