//! The life of a snapshot, turn by turn.

use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000; // 2027-01-15T08:00:00Z

fn at(after: i64) -> Timestamp {
    Timestamp::from_second(NOW + after).unwrap()
}

fn time(after: i64) -> Value {
    json!(seconds(at(after)))
}

/// Everything that a decision is made from.
#[derive(Clone, Debug)]
struct World {
    snapshot: VirtualMachineSnapshot,
    vm: Option<VirtualMachine>,
    vmi: Option<VirtualMachineInstance>,
    claims: Vec<PersistentVolumeClaim>,
    content: Option<VirtualMachineSnapshotContent>,
    volumes: Vec<VolumeSnapshot>,
    holder_exists: bool,
    /// Whether the guest is frozen.
    frozen: bool,
    /// The snapshot's finalizer is removed.
    gone: bool,
}

impl World {
    /// A VM with a claim, a DataVolume and cloud-init that is stopped, and a new snapshot of it.
    fn new() -> Self {
        let claim = |name: &str| {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "shop", "uid": format!("claim-{name}")},
                "spec": {"storageClassName": "sheaf", "resources": {"requests": {"storage": "4Gi"}}},
                "status": {"phase": "Bound"},
            }))
            .unwrap()
        };
        Self {
            snapshot: serde_json::from_value(json!({
                "apiVersion": "snapshot.kubevirt.io/v1beta1", "kind": "VirtualMachineSnapshot",
                "metadata": {"name": "nightly", "namespace": "shop", "uid": "s-1", "creationTimestamp": time(0),
                             "finalizers": [SNAPSHOT_FINALIZER]},
                "spec": {"source": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"}},
            }))
            .unwrap(),
            vm: Some(
                serde_json::from_value(json!({
                    "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
                    "metadata": {"name": "web", "namespace": "shop", "uid": "vm-1", "labels": {"team": "a"}},
                    "spec": {"runStrategy": "Manual", "template": {"spec": {"domain": {"devices": {}}, "volumes": [
                        {"name": "root", "dataVolume": {"name": "web-root"}},
                        {"name": "data", "persistentVolumeClaim": {"claimName": "web-data"}},
                        {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config"}},
                    ]}}},
                }))
                .unwrap(),
            ),
            vmi: None,
            claims: vec![claim("web-root"), claim("web-data")],
            content: None,
            volumes: Vec::new(),
            holder_exists: false,
            frozen: false,
            gone: false,
        }
    }

    /// Its VM runs, with these conditions.
    fn running(conditions: &[&str]) -> Self {
        let conditions: Vec<_> =
            conditions.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
        let vmi = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "web", "uid": "i-1"},
            "spec": {"domain": {"devices": {}}}, "status": {"phase": "Running", "conditions": conditions},
        }))
        .unwrap();
        Self { vmi: Some(vmi), ..Self::new() }
    }

    fn plan(&self, after: i64) -> Plan {
        let observed = Observed {
            snapshot: &self.snapshot,
            vm: self.vm.as_ref(),
            vmi: self.vmi.as_ref(),
            claims: &self.claims,
            revisions: &[],
            content: self.content.as_ref(),
            volumes: &self.volumes,
            holder_exists: self.holder_exists,
            class: Some("sheaf"),
        };
        plan(&observed, at(after))
    }

    /// Does what the plan says, but for the guest; its words, in order. `until` breaks it off before that one.
    fn turn_until(&mut self, after: i64, until: &str) -> Vec<&'static str> {
        let mut words = Vec::new();
        for action in self.plan(after).actions {
            let word = word(&action);
            if word == until {
                break;
            }
            self.apply(action);
            if !["status", "content status", "event"].contains(&word) {
                words.push(word);
            }
        }
        words
    }

    fn turn(&mut self, after: i64) -> Vec<&'static str> {
        self.turn_until(after, "")
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Lock | Action::Unlock => {
                let holder = (action == Action::Lock).then(|| "nightly".to_owned());
                let vm = self.vm.as_mut().unwrap();
                vm.status.get_or_insert_default().snapshot_in_progress = holder;
            }
            Action::CreateContent(mut content) => {
                content.metadata.uid = Some("content-1".into());
                self.content = Some(*content);
            }
            Action::ReleaseContent => {
                self.content = None;
                self.volumes.clear();
            }
            Action::Freeze(_) => {
                assert!(
                    self.content.as_ref().is_some_and(|content| Frozen::of(content).is_some()),
                    "marked first"
                );
                assert!(!self.frozen, "a frozen guest refuses to be frozen");
                self.frozen = true;
            }
            Action::Thaw { .. } => self.frozen = false,
            Action::RemoveFinalizer => self.gone = true,
            Action::Mark(frozen) => {
                let annotations = self.content.as_mut().unwrap().metadata.annotations.get_or_insert_default();
                annotations.insert("sheaf.dev/frozen".into(), frozen.text());
            }
            Action::Unmark => {
                assert!(!self.frozen, "thawed first");
                let annotations = self.content.as_mut().unwrap().metadata.annotations.as_mut();
                annotations.unwrap().remove("sheaf.dev/frozen");
            }
            Action::CreateVolume(volume) => self.volumes.push(*volume),
            Action::DeleteVolume { name, .. } => {
                self.volumes.retain(|volume| volume.metadata.name.as_ref() != Some(&name));
            }
            Action::WriteStatus(status) => self.snapshot.status = Some(*status),
            Action::WriteContentStatus(status) => self.content.as_mut().unwrap().status = Some(*status),
            _ => {}
        }
    }

    /// The node has taken all volumes.
    fn taken(&mut self, after: i64) {
        for volume in &mut self.volumes {
            volume.status =
                serde_json::from_value(json!({"creationTime": time(after), "readyToUse": true})).unwrap();
        }
    }

    fn status(&self) -> VirtualMachineSnapshotStatus {
        self.snapshot.status.clone().unwrap_or_default()
    }

    fn delete(&mut self) {
        self.snapshot.metadata.deletion_timestamp = serde_json::from_value(time(0)).unwrap();
    }
}

fn word(action: &Action) -> &'static str {
    match action {
        Action::AddFinalizer => "add finalizer",
        Action::RemoveFinalizer => "remove finalizer",
        Action::Lock => "lock",
        Action::Unlock => "unlock",
        Action::CreateContent(_) => "create content",
        Action::DeleteContent => "delete content",
        Action::ReleaseContent => "release content",
        Action::Mark(_) => "mark",
        Action::Freeze(_) => "freeze",
        Action::Thaw { must: true } => "thaw",
        Action::Thaw { must: false } => "try to thaw",
        Action::Unmark => "unmark",
        Action::SaveState { .. } => "save state",
        Action::DropState(_) => "drop state",
        Action::CreateVolume(_) => "take volume",
        Action::DeleteVolume { .. } => "delete volume",
        Action::WriteContentStatus(_) => "content status",
        Action::WriteStatus(_) => "status",
        Action::RecordEvent(_) => "event",
    }
}

const FROZEN: [&str; 4] = ["mark", "freeze", "take volume", "take volume"];

#[test]
fn a_snapshot_of_a_stopped_vm_takes_its_claims_and_names_what_is_not_in_it() {
    let mut world = World::new();
    assert_eq!(world.turn(0), ["lock", "create content"]);
    assert_eq!(world.turn(1), ["take volume", "take volume"]);
    assert_eq!(world.turn(2), [""; 0]);
    assert_eq!(world.plan(3).actions, [], "nothing new to say");
    assert_eq!(world.status().phase, Some(SnapshotPhase::InProgress));
    world.taken(3);
    assert_eq!(world.turn(4), ["unlock"]);
    let status = world.status();
    assert_eq!((status.phase, status.ready_to_use), (Some(SnapshotPhase::Succeeded), Some(true)));
    assert_eq!(status.indications, []);
    let volumes = status.snapshot_volumes.unwrap();
    assert_eq!(
        (volumes.included_volumes, volumes.excluded_volumes),
        (vec!["root".into(), "data".into()], vec!["seed".into()])
    );
    assert_eq!(world.turn(5), [""; 0]);
    assert_eq!(world.plan(5).requeue, None);
    let first = world.volumes[0].metadata.clone();
    assert_eq!(first.name.as_deref(), Some("vmsnapshot-s-1-volume-root"));
    assert_eq!(first.owner_references.unwrap()[0].uid, "content-1");
}

#[test]
fn a_guest_with_an_agent_is_frozen_before_and_thawed_after_its_volumes_are_taken() {
    let mut world = World::running(&["AgentConnected"]);
    world.turn(0);
    assert_eq!(world.turn(1), FROZEN);
    assert!(world.plan(1).actions.iter().all(|action| !matches!(action, Action::Thaw { .. })), "not yet");
    world.taken(3);
    assert_eq!(world.turn(4), ["thaw", "unmark", "unlock"]);
    assert_eq!(world.status().indications, [Indication::Online, Indication::GuestAgent]);
    assert_eq!(world.turn(5), [""; 0]);
}

#[test]
fn a_guest_without_an_agent_and_one_that_stands_still_are_not_asked() {
    for (conditions, indication) in
        [(&[][..], Indication::NoGuestAgent), (&["AgentConnected", "Paused"][..], Indication::Paused)]
    {
        let mut world = World::running(conditions);
        world.turn(0);
        assert_eq!(world.turn(1), ["take volume", "take volume"]);
        world.taken(2);
        assert_eq!(world.turn(3), ["unlock"]);
        assert_eq!(world.status().indications, [Indication::Online, indication]);
    }
}

#[test]
fn a_snapshot_of_a_running_vm_is_thawed_even_when_it_fails_or_is_deleted() {
    let mut late = World::running(&["AgentConnected"]);
    late.turn(0);
    late.turn(1);
    let mut deleted = late.clone();
    let all = ["try to thaw", "unmark", "delete content", "release content", "unlock"];
    assert_eq!(late.turn(300), all);
    assert_eq!(late.status().phase, Some(SnapshotPhase::Failed));
    let failure = find(&late.status().conditions, "Failure").cloned().unwrap();
    assert_eq!(failure.message.as_deref(), Some("snapshot deadline exceeded"));
    assert_eq!(late.turn(301), [""; 0]);
    deleted.delete();
    assert_eq!(deleted.turn(5), [&all[..], &["remove finalizer"]].concat());
}

#[test]
fn a_successor_thaws_what_its_predecessor_froze_and_takes_all_volumes_of_one_moment() {
    let mut before = World::running(&["AgentConnected"]);
    before.turn(0);
    // After the mark, and perhaps the freeze.
    let mut world = before.clone();
    world.turn_until(1, "take volume");
    assert_eq!(world.turn(2), [&["thaw", "unmark"], &FROZEN[..]].concat());
    // Between two volumes.
    let mut world = before.clone();
    world.turn(1);
    world.volumes.pop();
    let mut dying = world.clone();
    assert_eq!(world.turn(2), ["thaw", "unmark", "delete volume"]);
    assert_eq!(world.turn(3), FROZEN);
    // The one that was taken is not gone yet.
    dying.volumes[0].metadata.deletion_timestamp = serde_json::from_value(time(2)).unwrap();
    assert_eq!(dying.turn(3), ["thaw", "unmark"]);
    assert_eq!(dying.turn(4), [""; 0]);
    // Thawed, but not noted.
    let mut world = before;
    world.turn(1);
    world.taken(2);
    world.turn_until(3, "unmark");
    assert_eq!(world.turn(4), ["thaw", "unmark", "unlock"]);
    assert_eq!(world.status().phase, Some(SnapshotPhase::Succeeded));
}

/// How a life goes on after its second turn.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Taken,
    Deleted,
    Late,
}

#[test]
fn wherever_controllers_die_the_guest_is_thawed_the_vm_released_and_nothing_is_left_half_done() {
    for then in [Then::Taken, Then::Deleted, Then::Late] {
        for (first, second) in (0..20).flat_map(|first| (0..8).map(move |second| (first, first + second))) {
            let mut world = World::running(&["AgentConnected"]);
            let mut step = 0;
            for turn in 0..12 {
                match then {
                    Then::Taken => world.taken(turn),
                    Then::Deleted if turn > 2 => world.delete(),
                    _ => {}
                }
                let after = if then == Then::Late && turn > 2 { 300 + turn } else { turn };
                for action in world.plan(after).actions {
                    step += 1;
                    // Here one dies; the next begins with what there is.
                    if step == first || step == second || world.gone {
                        break;
                    }
                    world.apply(action);
                }
            }
            let what = format!("{then:?}, dying before steps {first} and {second}: {world:?}");
            let status = world.vm.clone().unwrap().status.unwrap_or_default();
            assert!(!world.frozen && status.snapshot_in_progress.is_none(), "{what}");
            match then {
                Then::Taken => assert_eq!(world.status().phase, Some(SnapshotPhase::Succeeded), "{what}"),
                Then::Deleted => assert!(world.gone && world.content.is_none(), "{what}"),
                Then::Late => {
                    assert_eq!(world.status().phase, Some(SnapshotPhase::Failed), "{what}");
                    assert!(world.content.is_none() && world.volumes.is_empty(), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_guest_is_frozen_for_a_minute_at_most_and_a_volume_that_was_taken_later_is_told() {
    let mut world = World::running(&["AgentConnected"]);
    world.turn(0);
    assert!(world.plan(1).actions.contains(&Action::Freeze(60)));
    assert!(world.plan(290).actions.contains(&Action::Freeze(10)), "not beyond the deadline");
    world.turn(1);
    world.taken(62);
    world.turn(63);
    let told = world.status().source_indications;
    assert_eq!(told.last().unwrap().indication, Indication::QuiesceTimeout);
    assert_eq!(world.status().phase, Some(SnapshotPhase::Succeeded));
}

#[test]
fn a_guest_does_not_stay_frozen_for_a_volume_that_cannot_be_taken() {
    let mut world = World::running(&["AgentConnected"]);
    world.turn(0);
    world.turn(1);
    world.volumes[1].status = serde_json::from_value(json!({"error": {"message": "no room"}})).unwrap();
    assert_eq!(world.turn(2), ["thaw", "unmark"]);
    let status = world.status();
    let progress = find(&status.conditions, "Progressing").unwrap();
    let why = "VolumeSnapshot vmsnapshot-s-1-volume-data: no room";
    assert_eq!((progress.status.as_str(), progress.message.as_deref()), ("False", Some(why)));
    assert_eq!(status.indications.last(), Some(&Indication::QuiesceTimeout));
    assert_eq!(world.plan(4).actions, [], "nothing new to say");
    let mut late = world.clone();
    late.turn(300);
    let failure = find(&late.status().conditions, "Failure").cloned().unwrap();
    assert_eq!(failure.message, Some(format!("snapshot deadline exceeded: {why}")));
    world.taken(5);
    assert_eq!(world.turn(6), ["unlock"]);
    assert_eq!((world.status().phase, world.status().error), (Some(SnapshotPhase::Succeeded), None));
    assert_eq!(world.status().indications.len(), 3);
}

#[test]
fn an_instance_that_ended_meanwhile_is_not_thawed() {
    let mut world = World::running(&["AgentConnected"]);
    world.turn(0);
    world.turn(1);
    world.vmi.as_mut().unwrap().metadata.uid = Some("i-2".into());
    world.frozen = false;
    world.taken(2);
    assert_eq!(world.turn(3), ["unmark", "unlock"]);
}

#[test]
fn it_waits_for_the_vm_its_claims_and_another_snapshot_and_says_so() {
    let message = |world: &World| {
        let plan = world.plan(1);
        assert!(!plan.actions.contains(&Action::Lock), "{plan:?}");
        assert_eq!(plan.requeue, Some(WAIT));
        find(&plan.status.conditions, "Progressing").unwrap().message.clone().unwrap()
    };
    let mut world = World::new();
    world.claims.pop();
    assert_eq!(message(&world), "Source not locked: the PersistentVolumeClaim web-data does not exist");
    let mut world = World::new();
    world.claims[0].status.as_mut().unwrap().phase = Some("Pending".into());
    assert_eq!(
        message(&world),
        "Source not locked: the PersistentVolumeClaim web-root is not bound, so there is nothing in it yet"
    );
    let mut world = World::new();
    world.vm.as_mut().unwrap().status.get_or_insert_default().snapshot_in_progress = Some("weekly".into());
    world.holder_exists = true;
    assert_eq!(message(&world), "Source not locked: snapshot weekly in progress");
    world.holder_exists = false;
    assert_eq!(world.turn(1), ["lock", "create content"], "of one that is gone");
    let mut world = World::new();
    world.vm = None;
    assert_eq!(message(&world), "Source does not exist");
}

#[test]
fn a_vm_that_runs_is_kept_as_it_was_started_with_the_volumes_that_it_has_now() {
    let mut world = World::running(&[]);
    let mut started = world.vm.clone().unwrap().spec;
    started.template.spec.hostname = Some("old".into());
    started.template.spec.volumes.clear();
    let text = serde_json::to_string(&started).unwrap();
    world.vmi.as_mut().unwrap().metadata.annotations = Some([("sheaf.dev/vm-spec".into(), text)].into());
    world.turn(0);
    let kept = world.content.unwrap().spec.source.virtual_machine.unwrap();
    assert_eq!(kept.spec.template.spec.hostname.as_deref(), Some("old"));
    assert_eq!(kept.spec.template.spec.volumes.len(), 3);
    assert_eq!(kept.metadata.labels.unwrap()["team"], "a");
}

#[test]
fn what_firmware_and_tpm_keep_is_copied_on_its_node_before_the_disks_while_the_guest_is_frozen() {
    let tpm = || Some(serde_json::from_value(json!({"persistent": true})).unwrap());
    let mut world = World::running(&["AgentConnected"]);
    world.vm.as_mut().unwrap().spec.template.spec.domain.devices.tpm = tpm();
    let vmi = world.vmi.as_mut().unwrap();
    vmi.spec.domain.devices.tpm = tpm();
    vmi.status.as_mut().unwrap().node_name = Some("n1".into());
    world.turn(0);
    let plan = world.plan(1);
    let uuid = crate::resolve::resolve(&Default::default(), "vm-1").domain.firmware.unwrap().uuid.unwrap();
    assert!(plan.actions.contains(&Action::SaveState { node: "n1".into(), uuid }), "{plan:?}");
    assert_eq!(world.turn(1), ["mark", "freeze", "save state", "take volume", "take volume"]);
    world.taken(2);
    assert_eq!(world.turn(3), ["thaw", "unmark", "unlock"]);
    assert_eq!(world.status().phase, Some(SnapshotPhase::Succeeded));
    world.delete();
    assert_eq!(world.turn(4), ["delete content", "drop state", "release content", "remove finalizer"]);
}

#[test]
fn a_vm_that_keeps_state_and_has_no_disk_or_never_ran_has_what_there_is() {
    let mut world = World::new();
    let vm = world.vm.as_mut().unwrap();
    vm.spec.template.spec.domain.devices.tpm =
        Some(serde_json::from_value(json!({"persistent": true})).unwrap());
    vm.spec.template.spec.volumes.clear();
    let mut ran = world.clone();
    world.turn(0);
    let noted = world.content.as_ref().unwrap().metadata.annotations.as_ref().unwrap();
    assert_eq!(noted["sheaf.dev/firmware-state"], "", "there is none, and it is known");
    assert_eq!(world.turn(1), ["unlock"]);

    ran.vm.as_mut().unwrap().status.get_or_insert_default().state_node = Some("n1".into());
    ran.turn(0);
    assert_eq!(ran.turn(1), ["save state", "unlock"]);
    assert_eq!(ran.status().phase, Some(SnapshotPhase::Succeeded));
}

#[test]
fn the_instancetype_is_kept_as_the_vm_has_it() {
    let mut world = World::new();
    world.vm.as_mut().unwrap().spec.instancetype =
        Some(serde_json::from_value(json!({"name": "u1.small"})).unwrap());
    let small = SavedRevision {
        of: sheaf_api::vm_snapshot::content::RevisionOf::Instancetype,
        name: "u1.small".into(),
        kind: "VirtualMachineClusterInstancetype".into(),
        revision_name: "web-u1.small-u-1".into(),
        labels: Default::default(),
        data: json!({"spec": {"cpu": {"guest": 1}}}),
    };
    let large = SavedRevision { name: "u1.large".into(), ..small.clone() };
    let made =
        content::content(&world.snapshot, world.vm.as_ref().unwrap(), None, &[], &[small.clone(), large]);
    assert_eq!(made.spec.source.virtual_machine.unwrap().revisions, [small]);
}

#[test]
fn a_retained_content_outlives_its_snapshot_only_if_it_is_complete() {
    let mut world = World::new();
    world.snapshot.spec.deletion_policy = Some(DeletionPolicy::Retain);
    world.turn(0);
    world.turn(1);
    let mut half = world.clone();
    half.delete();
    assert_eq!(half.turn(2), ["delete content", "release content", "unlock", "remove finalizer"]);
    world.taken(2);
    world.turn(3);
    world.delete();
    assert_eq!(world.turn(4), ["release content", "remove finalizer"]);
}

#[test]
fn a_snapshot_that_lost_a_volume_is_not_ready_any_more() {
    let mut world = World::new();
    world.turn(0);
    world.turn(1);
    world.taken(2);
    world.turn(3);
    world.volumes.remove(0);
    world.turn(4);
    let status = world.status();
    assert_eq!((status.phase, status.ready_to_use), (Some(SnapshotPhase::Succeeded), Some(false)));
    let why = status.error.unwrap().message.unwrap();
    assert_eq!(why, "VolumeSnapshots (vmsnapshot-s-1-volume-root) missing");
    assert_eq!(world.plan(5).actions, []);
}

#[test]
fn a_deadline_of_zero_is_none() {
    let mut world = World::new();
    world.snapshot.spec.failure_deadline = Some("0s".into());
    world.vm = None;
    assert_eq!(world.plan(1_000_000).status.phase, Some(SnapshotPhase::InProgress));
    world.snapshot.spec.failure_deadline = Some("1m30s".into());
    assert_eq!(world.plan(89).status.phase, Some(SnapshotPhase::InProgress));
    assert_eq!(world.plan(90).status.phase, Some(SnapshotPhase::Failed));
}
