//! The life of a restore, turn by turn.

use serde_json::{Value, json};
use sheaf_api::{
    status::Phase,
    vm_snapshot::{
        SnapshotPhase,
        restore::{LAST_RESTORE_ANNOTATION, TargetReadinessPolicy},
    },
};

use super::*;

const NOW: i64 = 1_800_000_000; // 2027-01-15T08:00:00Z

fn at(after: i64) -> Timestamp {
    Timestamp::from_second(NOW + after).unwrap()
}

fn time(after: i64) -> Value {
    json!(seconds(at(after)))
}

/// The spec of a VM with a DataVolume of its own and a claim.
fn spec(hostname: &str) -> Value {
    json!({
        "runStrategy": "Manual",
        "dataVolumeTemplates": [{"metadata": {"name": "web-root"}, "spec": {
            "source": {"http": {"url": "https://mirror.example/disk.qcow2"}},
            "storage": {"resources": {"requests": {"storage": "4Gi"}}}}}],
        "template": {"spec": {"hostname": hostname, "domain": {"devices": {}}, "volumes": [
            {"name": "root", "dataVolume": {"name": "web-root"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "web-data"}},
        ]}},
    })
}

/// Everything that a decision is made from.
#[derive(Clone, Debug)]
struct World {
    restore: VirtualMachineRestore,
    vm: Option<VirtualMachine>,
    vmi: Option<VirtualMachineInstance>,
    snapshot: Option<VirtualMachineSnapshot>,
    content: Option<VirtualMachineSnapshotContent>,
    volumes: Vec<VolumeSnapshot>,
    claims: Vec<PersistentVolumeClaim>,
    data_volumes: Vec<DataVolume>,
    /// What was put back, and where.
    loaded: Vec<String>,
}

impl World {
    /// A VM that changed since its snapshot, and a new restore of it.
    fn new() -> Self {
        let backup = |volume: &str, claim: &str, owner: Value| {
            json!({"volumeName": volume, "volumeSnapshotName": format!("snap-{volume}"), "persistentVolumeClaim": {
                "metadata": {"name": claim, "labels": {"disk": volume}, "ownerReferences": owner,
                             "annotations": {"pv.kubernetes.io/bind-completed": "yes", "note": "kept"}},
                "spec": {"storageClassName": "sheaf", "accessModes": ["ReadWriteOnce"],
                         "resources": {"requests": {"storage": "4Gi"}}, "volumeMode": "Block"}}})
        };
        let vm =
            json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "web", "uid": "vm-1"}]);
        let volume = |name: &str| {
            serde_json::from_value(json!({
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                "metadata": {"name": format!("snap-{name}")}, "spec": {"source": {"persistentVolumeClaimName": "x"}},
                "status": {"readyToUse": true, "restoreSize": "5Gi"},
            }))
            .unwrap()
        };
        Self {
            restore: serde_json::from_value(json!({
                "apiVersion": "snapshot.kubevirt.io/v1beta1", "kind": "VirtualMachineRestore",
                "metadata": {"name": "back", "namespace": "shop", "uid": "r-1", "creationTimestamp": time(0),
                             "finalizers": [FINALIZER]},
                "spec": {"target": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"},
                         "virtualMachineSnapshotName": "nightly"},
            }))
            .unwrap(),
            vm: Some(
                serde_json::from_value(json!({
                    "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
                    "metadata": {"name": "web", "namespace": "shop", "uid": "vm-1", "resourceVersion": "7"},
                    "spec": spec("changed"),
                }))
                .unwrap(),
            ),
            vmi: None,
            snapshot: Some(
                serde_json::from_value(json!({
                    "apiVersion": "snapshot.kubevirt.io/v1beta1", "kind": "VirtualMachineSnapshot",
                    "metadata": {"name": "nightly", "uid": "s-1"},
                    "spec": {"source": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"}},
                    "status": {"phase": "Succeeded", "readyToUse": true, "sourceUID": "vm-1"},
                }))
                .unwrap(),
            ),
            content: Some(
                serde_json::from_value(json!({
                    "apiVersion": "snapshot.kubevirt.io/v1beta1", "kind": "VirtualMachineSnapshotContent",
                    "metadata": {"name": "vmsnapshot-content-s-1"},
                    "spec": {"source": {"virtualMachine": {
                                "metadata": {"name": "web", "namespace": "shop", "uid": "vm-1", "labels": {"team": "a"}},
                                "spec": spec("as-it-was")}},
                             "volumeBackups": [backup("root", "web-root", json!([])), backup("data", "web-data", vm)]},
                }))
                .unwrap(),
            ),
            volumes: vec![volume("root"), volume("data")],
            claims: Vec::new(),
            data_volumes: Vec::new(),
            loaded: Vec::new(),
        }
    }

    /// The same, of a VM with a persistent TPM and an instancetype, whose snapshot has both.
    fn with_the_rest(mut self) -> Self {
        let content = self.content.as_mut().unwrap();
        content.metadata.annotations = Some([(STATE_ANNOTATION.to_owned(), "n1".to_owned())].into());
        let saved = content.spec.source.virtual_machine.as_mut().unwrap();
        saved.spec.template.spec.domain.devices.tpm =
            Some(serde_json::from_value(json!({"persistent": true})).unwrap());
        saved.spec.instancetype = Some(serde_json::from_value(json!({"name": "u1.small"})).unwrap());
        saved.revisions = serde_json::from_value(json!([{"of": "instancetype", "name": "u1.small",
            "kind": "VirtualMachineClusterInstancetype", "revisionName": "web-u1.small-u-1", "data": {"spec": {}}}]))
        .unwrap();
        self
    }

    /// The same, to a VM that does not exist.
    fn to_another(name: &str) -> Self {
        let mut world = Self { vm: None, ..Self::new() };
        world.restore.spec.target.name = name.into();
        world
    }

    fn plan(&self, after: i64) -> Plan {
        // As the controller reads them: by the names in the status.
        let status = self.status();
        let mut claims = self.claims.clone();
        claims.retain(|claim| {
            status
                .restores
                .iter()
                .any(|one| Some(&one.persistent_volume_claim) == claim.metadata.name.as_ref())
        });
        let mut data_volumes = self.data_volumes.clone();
        data_volumes.retain(|data| {
            let restored = status.restores.iter().any(|one| one.data_volume_name == data.metadata.name);
            restored
                || status.deleted_data_volumes.iter().any(|name| Some(name) == data.metadata.name.as_ref())
        });
        let observed = Observed {
            restore: &self.restore,
            vm: self.vm.as_ref(),
            vmi: self.vmi.as_ref(),
            snapshot: self.snapshot.as_ref(),
            content: self.content.as_ref(),
            volumes: &self.volumes,
            claims: &claims,
            data_volumes: &data_volumes,
            holder_exists: true,
        };
        plan(&observed, at(after))
    }

    /// Does what the plan says; its words, in order.
    fn turn(&mut self, after: i64) -> Vec<String> {
        let mut words = Vec::new();
        for action in self.plan(after).actions {
            let word = word(&action);
            self.apply(action);
            if word != "status" && word != "event" {
                words.push(word);
            }
        }
        words
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Lock | Action::Unlock => {
                let holder = (action == Action::Lock).then(|| "back".to_owned());
                self.vm.as_mut().unwrap().status.get_or_insert_default().restore_in_progress = holder;
            }
            Action::Own(owner) => self.restore.metadata.owner_references = Some(vec![owner]),
            // What exists is not created again.
            Action::CreateClaim(claim) if self.has_claim(&claim.metadata) => {}
            Action::CreateDisk(data) if self.has_claim(&data.metadata) => {}
            Action::CreateClaim(claim) => self.claims.push(*claim),
            Action::CreateDisk(mut data) => {
                data.metadata.uid = Some("d-new".into());
                self.claims.push(claim_of(&data));
                self.data_volumes.push(*data);
            }
            Action::CreateMachine(mut vm) => {
                vm.metadata.uid = Some("vm-2".into());
                for data in disks::missing(&vm, &[]) {
                    self.claims.push(claim_of(&data));
                    self.data_volumes.push(data);
                }
                self.vm = Some(*vm);
            }
            Action::LoadState { node, uuid } => {
                assert_eq!(
                    Lock::Restore.holder(self.vm.as_ref().unwrap()),
                    Some("back"),
                    "it must not start"
                );
                self.loaded.push(format!("{uuid} on {node}"));
            }
            Action::PlaceState(node) => {
                self.vm.as_mut().unwrap().status.get_or_insert_default().state_node = Some(node);
            }
            Action::ReplaceMachine(vm) => {
                let status = self.vm.take().unwrap().status;
                self.vm = Some(VirtualMachine { status, ..*vm });
            }
            Action::Give { claim, owner } => {
                let claim = self.claims.iter_mut().find(|one| one.metadata.name.as_ref() == Some(&claim));
                claim.unwrap().metadata.owner_references = Some(owner.into_iter().collect());
            }
            Action::DeleteDisk { name, .. } => {
                self.data_volumes.retain(|data| data.metadata.name.as_ref() != Some(&name));
            }
            Action::WriteStatus(status) => self.restore.status = Some(*status),
            _ => {}
        }
    }

    fn has_claim(&self, meta: &kube::api::ObjectMeta) -> bool {
        self.claims.iter().any(|claim| claim.metadata.name == meta.name)
    }

    fn bind(&mut self) {
        for claim in &mut self.claims {
            claim.status.get_or_insert_default().phase = Some("Bound".into());
        }
    }

    fn status(&self) -> VirtualMachineRestoreStatus {
        self.restore.status.clone().unwrap_or_default()
    }

    fn runs(&mut self) {
        self.vmi = Some(
            serde_json::from_value(json!({
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "web", "uid": "i-1"},
                "spec": {"domain": {"devices": {}}}, "status": {"phase": "Running"},
            }))
            .unwrap(),
        );
    }
}

/// The claim that a DataVolume becomes.
fn claim_of(data: &DataVolume) -> PersistentVolumeClaim {
    PersistentVolumeClaim { metadata: data.metadata.clone(), ..PersistentVolumeClaim::default() }
}

fn word(action: &Action) -> String {
    let name = |meta: &kube::api::ObjectMeta| meta.name.clone().unwrap_or_default();
    match action {
        Action::AddFinalizer => "add finalizer".into(),
        Action::RemoveFinalizer => "remove finalizer".into(),
        Action::Own(_) => "own".into(),
        Action::Lock => "lock".into(),
        Action::Unlock => "unlock".into(),
        Action::Stop => "stop".into(),
        Action::CreateClaim(claim) => format!("create claim {}", name(&claim.metadata)),
        Action::CreateDisk(data) => format!("create disk {}", name(&data.metadata)),
        Action::CreateMachine(vm) => format!("create {}", name(&vm.metadata)),
        Action::ReplaceMachine(vm) => format!("replace {}", name(&vm.metadata)),
        Action::CreateRevision(revision) => format!("create revision {}", name(&revision.metadata)),
        Action::LoadState { node, .. } => format!("load state on {node}"),
        Action::PlaceState(node) => format!("place state on {node}"),
        Action::Give { claim, owner } => match owner {
            Some(owner) => format!("give {claim} to {}", owner.name),
            None => format!("give {claim} to nobody"),
        },
        Action::DeleteDisk { name, .. } => format!("delete disk {name}"),
        Action::WriteStatus(_) => "status".into(),
        Action::RecordEvent(_) => "event".into(),
    }
}

const MADE: [&str; 2] = ["create claim restore-r-1-data", "create disk restore-r-1-root"];

fn message(plan: &Plan, of: &str) -> String {
    find(&plan.status.conditions, of).and_then(|one| one.message.clone()).unwrap_or_default()
}

#[test]
fn a_vm_is_changed_only_when_its_new_claims_are_bound_and_its_old_disks_go_last() {
    let mut world = World::new();
    let old = disks::missing(world.vm.as_ref().unwrap(), &[]);
    assert_eq!(world.turn(0), [&["own", "lock"][..], &MADE].concat());
    assert_eq!(world.plan(1).actions, [], "they are not bound");
    assert!(!machine::is_restored(&world.restore, world.vm.as_ref().unwrap()));
    world.bind();
    assert_eq!(world.turn(2), ["replace web"]);
    assert_eq!(world.status().deleted_data_volumes, ["web-root"]);
    let vm = world.vm.clone().unwrap();
    let spec = serde_json::to_value(&vm.spec).unwrap();
    assert_eq!(spec["template"]["spec"]["hostname"], "as-it-was");
    assert_eq!(spec["template"]["spec"]["volumes"][0]["dataVolume"]["name"], "restore-r-1-root");
    assert_eq!(
        spec["template"]["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"],
        "restore-r-1-data"
    );
    let template = &spec["dataVolumeTemplates"][0];
    assert_eq!(template["metadata"]["name"], "restore-r-1-root");
    assert_eq!(template["spec"]["source"], json!({"snapshot": {"name": "snap-root"}}));
    assert_eq!(template["spec"]["storage"]["resources"]["requests"]["storage"], "5Gi");
    assert_eq!(vm.metadata.resource_version.as_deref(), Some("7"), "only if it is as it was read");
    // What it had, as the controller finds it now.
    world.data_volumes.extend(old);
    assert_eq!(world.turn(3), ["give restore-r-1-data to web", "delete disk web-root", "unlock"]);
    let status = world.status();
    assert_eq!(status.complete, Some(true));
    assert_eq!(status.restores[0].data_volume_name.as_deref(), Some("restore-r-1-root"));
    assert_eq!(world.plan(4).actions, []);
}

#[test]
fn wherever_controllers_die_the_vm_is_restored_and_released_and_has_its_claims() {
    let starts = [World::new(), World::to_another("copy")];
    let with_the_rest = starts.clone().map(World::with_the_rest);
    for start in starts.into_iter().chain(with_the_rest) {
        for (first, second) in (0..16).flat_map(|first| (0..8).map(move |more| (first, first + more))) {
            let mut world = start.clone();
            if let Some(vm) = &world.vm {
                world.data_volumes = disks::missing(vm, &[]);
            }
            let mut step = 0;
            for turn in 0..10 {
                for action in world.plan(turn).actions {
                    step += 1;
                    // Here one dies; the next begins with what there is.
                    if step == first || step == second {
                        break;
                    }
                    world.apply(action);
                }
                world.bind();
            }
            let what = format!("dying before steps {first} and {second}: {world:?}");
            let vm = world.vm.as_ref().expect(&what);
            assert_eq!(world.status().complete, Some(true), "{what}");
            assert!(machine::is_restored(&world.restore, vm), "{what}");
            assert_eq!(Lock::Restore.holder(vm), None, "{what}");
            let has_state = vm.spec.template.spec.keeps_state();
            assert_eq!(!world.loaded.is_empty(), has_state, "{what}");
            let node = vm.status.as_ref().and_then(|status| status.state_node.as_deref());
            assert_eq!(node.is_some(), has_state, "{what}");
            let owners =
                world.claims.iter().flat_map(|claim| claim.metadata.owner_references.iter().flatten());
            assert!(owners.map(|owner| owner.kind.as_str()).all(|kind| kind == "VirtualMachine"), "{what}");
            let names: Vec<_> =
                world.data_volumes.iter().filter_map(|data| data.metadata.name.as_deref()).collect();
            assert_eq!(names, ["restore-r-1-root"], "{what}");
            assert_eq!(world.plan(20).actions, [], "{what}");
        }
    }
}

#[test]
fn a_restored_claim_is_the_restores_until_the_vm_has_it_and_keeps_what_users_wrote() {
    let mut world = World::new();
    world.restore.spec.volume_restore_overrides = serde_json::from_value(
        json!([{"volumeName": "data", "restoreName": "mine", "labels": {"new": "x"}}]),
    )
    .unwrap();
    world.turn(0);
    let claim = serde_json::to_value(&world.claims[0]).unwrap();
    assert_eq!(claim["metadata"]["name"], "mine");
    assert_eq!(claim["metadata"]["ownerReferences"][0]["uid"], "r-1");
    assert_eq!(claim["metadata"]["labels"]["disk"], "data");
    assert_eq!(claim["metadata"]["labels"]["new"], "x");
    assert_eq!(claim["metadata"]["annotations"]["note"], "kept");
    assert_eq!(claim["metadata"]["annotations"]["restore.kubevirt.io/name"], "back");
    assert!(claim["metadata"]["annotations"].get("pv.kubernetes.io/bind-completed").is_none());
    assert_eq!(claim["spec"]["dataSource"]["name"], "snap-data");
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "5Gi", "as large as what is in it");
}

#[test]
fn a_vm_that_does_not_exist_is_created_halted_and_makes_its_disks_itself() {
    let mut world = World::to_another("copy");
    world.restore.spec.patches =
        vec![r#"{"op":"replace","path":"/spec/template/spec/hostname","value":"copy"}"#.into()];
    assert_eq!(world.turn(0), [MADE[0]]);
    world.bind();
    assert_eq!(world.turn(1), ["create copy"]);
    let vm = world.vm.clone().unwrap();
    assert_eq!(vm.spec.run_strategy, Some(sheaf_api::RunStrategy::Halted));
    assert_eq!(vm.spec.template.spec.hostname.as_deref(), Some("copy"));
    assert_eq!(vm.metadata.labels.unwrap()["team"], "a");
    assert!(vm.spec.template.spec.domain.firmware.is_none(), "another VM has another UUID");
    assert_eq!(world.turn(2), ["own"], "its disk is not bound");
    world.bind();
    assert_eq!(world.turn(3), ["give restore-r-1-data to copy"]);
    assert_eq!(world.status().complete, Some(true));
}

#[test]
fn a_vm_that_was_deleted_comes_back_with_its_uuid() {
    let mut world = World::to_another("web");
    world.turn(0);
    world.bind();
    world.turn(1);
    let firmware = world.vm.unwrap().spec.template.spec.domain.firmware.unwrap();
    let was = crate::resolve::resolve(&Default::default(), "vm-1").domain.firmware.unwrap();
    assert_eq!(firmware.uuid, was.uuid);
}

#[test]
fn claims_stay_with_nobody_when_that_is_asked_for() {
    let mut world = World::new();
    world.restore.spec.volume_ownership_policy = Some(VolumeOwnershipPolicy::None);
    world.turn(0);
    world.bind();
    world.turn(1);
    assert_eq!(world.turn(2)[0], "give restore-r-1-data to nobody");
}

#[test]
fn while_the_vm_runs_the_policy_says_what_happens() {
    let mut world = World::new();
    world.runs();
    let words =
        |world: &World, after| -> Vec<String> { world.plan(after).actions.iter().map(word).collect() };
    assert_eq!(words(&world, 0), ["own", "event", "status"]);
    assert!(message(&world.plan(0), "Progressing").starts_with("Waiting for target VM to be powered off"));
    assert_eq!(
        message(&world.plan(301), "Failure"),
        "Restore target failed to be ready within 5m0s. Please power off the target VM before attempting restore"
    );
    world.restore.spec.target_readiness_policy = Some(TargetReadinessPolicy::WaitEventually);
    assert_eq!(message(&world.plan(301), "Failure"), "");
    world.restore.spec.target_readiness_policy = Some(TargetReadinessPolicy::FailImmediate);
    assert_eq!(
        message(&world.plan(0), "Failure"),
        "Restore target VMI must be powered off before restore operation"
    );
    world.restore.spec.target_readiness_policy = Some(TargetReadinessPolicy::StopTarget);
    assert_eq!(words(&world, 0), ["own", "stop", "event", "status"]);
    let mut over = world.clone();
    over.vmi.as_mut().unwrap().status.as_mut().unwrap().phase = Some(Phase::Succeeded);
    assert!(words(&over, 0).contains(&"lock".to_owned()), "one that is over has no disks any more");
    // It was started just before it was reserved.
    world.apply(Action::Lock);
    assert!(words(&world, 0).contains(&"unlock".to_owned()));
}

#[test]
fn it_waits_for_its_snapshot_and_does_not_touch_another_vm() {
    let why = |world: &World| {
        let mut again = world.clone();
        again.turn(0);
        assert_eq!(again.plan(9).actions, [], "nothing new to say");
        let plan = world.plan(0);
        let changes = |action: &Action| {
            !matches!(action, Action::Own(_) | Action::WriteStatus(_) | Action::RecordEvent(_))
        };
        assert!(!plan.actions.iter().any(changes), "{plan:?}");
        message(&plan, "Progressing")
    };
    let mut world = World::new();
    world.snapshot.as_mut().unwrap().status.as_mut().unwrap().ready_to_use = Some(false);
    assert_eq!(why(&world), "VMSnapshot nightly not ready");
    world.snapshot.as_mut().unwrap().status.as_mut().unwrap().phase = Some(SnapshotPhase::Failed);
    assert_eq!(why(&world), "VMSnapshot nightly failed and is invalid to use");
    world.snapshot = None;
    assert_eq!(why(&world), "VMSnapshot nightly does not exist");
    let mut world = World::new();
    world.vm.as_mut().unwrap().metadata.uid = Some("vm-9".into());
    assert_eq!(
        why(&world),
        "restore source and restore target are different but restore target already exists"
    );
    let mut world = World::new();
    world.vm.as_mut().unwrap().status.get_or_insert_default().restore_in_progress = Some("other".into());
    assert_eq!(why(&world), "vm restore other in progress");
}

#[test]
fn a_claim_of_that_name_which_is_not_the_restores_is_not_taken_for_it() {
    let mut world = World::new();
    world.turn(0);
    world.bind();
    world.claims[0].metadata.annotations.as_mut().unwrap().remove(LAST_RESTORE_ANNOTATION);
    let plan = world.plan(1);
    assert_eq!(
        message(&plan, "Failure"),
        "a PersistentVolumeClaim restore-r-1-data exists and is not of this restore; set another restoreName, or none"
    );
    world.turn(1);
    assert_eq!(world.turn(2), ["unlock"]);
}

#[test]
fn a_vm_gets_its_size_before_it_is_changed_and_what_its_tpm_kept_before_it_may_start() {
    let mut world = World::new().with_the_rest();
    world.turn(0);
    world.bind();
    assert_eq!(world.turn(1), ["create revision web-u1.small-u-1", "replace web"]);
    let matcher = world.vm.as_ref().unwrap().spec.instancetype.clone().unwrap();
    assert_eq!(matcher.revision_name.as_deref(), Some("web-u1.small-u-1"));
    let last = world.turn(2);
    let rest = ["create revision web-u1.small-u-1", "load state on n1", "place state on n1"];
    assert_eq!(last[..3], rest);
    assert_eq!(last.last().unwrap(), "unlock");
    let was = crate::resolve::resolve(&Default::default(), "vm-1").domain.firmware.unwrap();
    assert_eq!(world.loaded, [format!("{} on n1", was.uuid.unwrap())]);
}

#[test]
fn another_vm_gets_a_copy_of_what_the_tpm_kept_under_its_own_uuid_and_a_revision_of_its_own() {
    let mut world = World::to_another("copy").with_the_rest();
    world.turn(0);
    world.bind();
    assert_eq!(world.turn(1), ["create copy"]);
    world.bind();
    assert_eq!(world.turn(2), ["own", "lock"], "nobody may start it now");
    let last = world.turn(3);
    assert_eq!(last[..3], ["create revision copy-u1.small-u-1", "load state on n1", "place state on n1"]);
    let own = crate::resolve::resolve(&Default::default(), "vm-2").domain.firmware.unwrap();
    assert_eq!(world.loaded, [format!("{} on n1", own.uuid.unwrap())]);
    assert_eq!(world.status().complete, Some(true));

    // It was started before it was reserved.
    let mut world = World::to_another("copy").with_the_rest();
    for turn in 0..3 {
        world.turn(turn);
        world.bind();
    }
    world.runs();
    assert_eq!(world.turn(3), [""; 0]);
    assert_eq!(message(&world.plan(3), "Progressing"), "Waiting for target VM to be powered off");
}

#[test]
fn a_snapshot_that_is_deleted_before_its_state_is_restored_fails_its_restore() {
    let mut world = World::new().with_the_rest();
    world.turn(0);
    world.bind();
    world.turn(1);
    world.content = None;
    assert_eq!(
        message(&world.plan(2), "Failure"),
        "the content of the snapshot was deleted before UEFI variables and TPM were restored"
    );
}

#[test]
fn what_a_snapshot_of_an_earlier_release_does_not_have_is_not_restored_to_another_vm() {
    let mut world = World::to_another("copy");
    let saved = world.content.as_mut().unwrap().spec.source.virtual_machine.as_mut().unwrap();
    saved.spec.template.spec.domain.devices.tpm =
        Some(serde_json::from_value(json!({"persistent": true})).unwrap());
    assert!(message(&world.plan(0), "Failure").contains("persistent TPM"));
}

#[test]
fn a_patch_that_cannot_be_applied_is_named() {
    for (patch, why) in [
        (r#"{"op":"replace","path":"/metadata/name","value":"x"}"#, "can be changed"),
        (r#"{"op":"remove","path":"/spec/nothing"}"#, "spec.patches[0]"),
        (r#"{"op":"add","path":"/spec/typo","value":1}"#, "spec.typo: unknown field"),
        ("nonsense", "spec.patches[0] nonsense"),
    ] {
        let mut world = World::to_another("copy");
        world.restore.spec.patches = vec![patch.into()];
        let failure = message(&world.plan(0), "Failure");
        assert!(failure.contains(why), "{patch}: {failure}");
    }
}

#[test]
fn a_restore_that_is_deleted_half_way_takes_its_disks_with_it_and_releases_the_vm() {
    let mut world = World::new();
    world.turn(0);
    world.turn(1);
    world.restore.metadata.deletion_timestamp = serde_json::from_value(time(2)).unwrap();
    let mut done = world.clone();
    assert_eq!(world.turn(2), ["delete disk restore-r-1-root", "unlock", "remove finalizer"]);
    // The VM has them already.
    done.restore.metadata.deletion_timestamp = None;
    done.bind();
    done.turn(3);
    done.restore.metadata.deletion_timestamp = serde_json::from_value(time(4)).unwrap();
    assert_eq!(done.turn(4), ["unlock", "remove finalizer"]);
}
