//! What a claim asks for in each situation, rule by rule.

use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::json;

use super::*;
use crate::volumes::testing::{GIB, UID, claim, class, in_phase, persistent, placed, pool, volume};

fn blank() -> Result<(Wanted, Option<Result<Found, String>>), String> {
    let blank = VolumeSource { blank: Some(Default::default()), ..Default::default() };
    Ok((Wanted::Anywhere(Box::new(blank)), None))
}

fn copy_of(name: &str, node: &str, bytes: u64) -> Result<(Wanted, Option<Result<Found, String>>), String> {
    let source = serde_json::from_value(json!({"volume": {"name": name}})).unwrap();
    let found = Found { source, node: node.into(), pool: "default".into(), bytes };
    Ok((Wanted::Claim("origin".into()), Some(Ok(found))))
}

struct World {
    claim: PersistentVolumeClaim,
    class: StorageClass,
    pools: Vec<StoragePool>,
    volumes: Vec<LocalVolume>,
    persistent: Option<PersistentVolume>,
}

impl World {
    /// A claim of 4 GiB that the scheduler put on n1, whose pool has 10.
    fn new() -> Self {
        Self {
            claim: placed("n1", json!({})),
            class: class(),
            pools: vec![pool("n1", 10 * GIB), pool("n2", 10 * GIB)],
            volumes: Vec::new(),
            persistent: None,
        }
    }

    fn plan(&self, source: Result<(Wanted, Option<Result<Found, String>>), String>) -> Plan {
        let pools: Vec<_> = self.pools.iter().cloned().map(Arc::new).collect();
        let volumes: Vec<_> = self.volumes.iter().cloned().map(Arc::new).collect();
        let observed = Observed {
            claim: &self.claim,
            class: &self.class,
            pools: &pools,
            volumes: &volumes,
            volume: self
                .volumes
                .iter()
                .find(|one| one.metadata.name.as_deref() == Some(&format!("pvc-{UID}"))),
            persistent: self.persistent.as_ref(),
            source,
        };
        plan(&observed, Timestamp::UNIX_EPOCH).unwrap()
    }

    /// Its own volume, in `phase`.
    fn with_volume(mut self, node: &str, phase: &str, reason: &str) -> Self {
        self.volumes.push(in_phase(volume(&format!("pvc-{UID}"), node, 4 * GIB), phase, reason));
        self
    }

    fn bound(mut self, request: &str) -> Self {
        let name = format!("pvc-{UID}");
        self.claim =
            claim(json!({}), json!({"volumeName": name, "resources": {"requests": {"storage": request}}}));
        self.claim.status =
            serde_json::from_value(json!({"phase": "Bound", "capacity": {"storage": "4Gi"}})).unwrap();
        self.persistent = Some(persistent(&name, "Bound", "Delete"));
        self
    }
}

/// The status that the plan writes.
fn status(plan: &Plan) -> Option<PersistentVolumeClaimStatus> {
    plan.actions.iter().find_map(|action| match action {
        Action::WriteStatus(status) => Some(PersistentVolumeClaimStatus::clone(status)),
        _ => None,
    })
}

fn events(plan: &Plan) -> Vec<&str> {
    let mut notes = Vec::new();
    for action in &plan.actions {
        if let Action::RecordEvent(event) = action {
            notes.push(event.note.as_str());
        }
    }
    notes
}

#[test]
fn nothing_is_made_before_the_scheduler_chose() {
    let mut world = World::new();
    world.claim = claim(json!({}), json!({}));
    assert_eq!(world.plan(blank()), Plan::default());
}

#[test]
fn a_claim_that_fits_becomes_a_volume_on_the_chosen_node() {
    let plan = World::new().plan(blank());
    let [Action::CreateVolume(volume)] = plan.actions.as_slice() else { panic!("{plan:?}") };
    assert_eq!(volume.metadata.name.as_deref(), Some("pvc-11112222-3333-4444-5555-666677778888"));
    assert_eq!(volume.metadata.annotations.as_ref().unwrap()["sheaf.dev/claim"], "shop/disk");
    assert_eq!((volume.spec.node_name.as_str(), volume.spec.size_bytes), ("n1", 4 * GIB));
    assert_eq!(volume.metadata.finalizers.as_ref().unwrap(), &["sheaf.dev/local-volume"]);
}

#[test]
fn a_claim_that_does_not_fit_goes_back_to_the_scheduler_with_the_reason() {
    let mut world = World::new();
    world.volumes.push(volume("pvc-other", "n1", 7 * GIB));
    let plan = world.plan(blank());
    assert_eq!(plan.actions[0], Action::Reschedule);
    assert_eq!(
        events(&plan),
        ["pool default of n1 has 3Gi free, and 4Gi are requested; the scheduler looks for another node"]
    );
    world.pools.clear();
    assert_eq!(
        events(&world.plan(blank())),
        ["n1 has no pool default; the scheduler looks for another node"]
    );
}

#[test]
fn a_ready_volume_is_bound_to_its_claim_and_to_its_node_once() {
    let mut world = World::new().with_volume("n1", "Ready", "Ready");
    let plan = world.plan(blank());
    let [Action::CreatePersistent(made), Action::RecordEvent(_)] = plan.actions.as_slice() else {
        panic!("{plan:?}")
    };
    let made = serde_json::to_value(made).unwrap();
    assert_eq!(made["spec"]["csi"]["volumeHandle"], made["metadata"]["name"]);
    assert_eq!(made["spec"]["claimRef"]["uid"], UID);
    assert_eq!(made["spec"]["capacity"]["storage"], "4Gi");
    let terms = &made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0];
    assert_eq!(terms, &json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}));
    assert_eq!(made["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"], "lvm.sheaf.dev");
    world.persistent = Some(persistent(&format!("pvc-{UID}"), "Pending", "Delete"));
    assert_eq!(world.plan(blank()), Plan::default());
}

#[test]
fn a_node_that_is_out_of_space_loses_the_claim_and_any_other_failure_stays_and_is_told() {
    let plan = World::new().with_volume("n1", "Pending", "OutOfSpace").plan(blank());
    assert!(matches!(plan.actions[0], Action::DeleteVolume { .. }));
    assert_eq!(plan.actions[1], Action::Reschedule);
    let plan = World::new().with_volume("n1", "Failed", "ChecksumMismatch").plan(blank());
    assert_eq!(events(&plan).len(), plan.actions.len());
    assert_eq!(events(&plan), [format!("volume pvc-{UID} on n1: the node's words")]);
}

#[test]
fn a_volume_on_a_node_that_is_no_longer_chosen_is_removed_first() {
    let plan = World::new().with_volume("n2", "Creating", "Creating").plan(blank());
    assert!(matches!(plan.actions.as_slice(), [Action::DeleteVolume { .. }]), "{plan:?}");
}

#[test]
fn a_volume_that_a_persistent_volume_refers_to_stays_whatever_node_the_claim_says_since() {
    for (phase, reason) in [("Ready", "Ready"), ("Pending", "OutOfSpace"), ("Failed", "Lost")] {
        let mut world = World::new().with_volume("n2", phase, reason);
        world.persistent = Some(persistent(&format!("pvc-{UID}"), "Pending", "Delete"));
        assert_eq!(world.plan(blank()), Plan::default(), "{phase}");
    }
}

#[test]
fn a_copy_is_bound_to_its_origins_node_whatever_the_scheduler_chose() {
    let mut world = World::new();
    assert_eq!(world.plan(copy_of("pvc-a", "n2", GIB)).actions, [Action::Pin("n2".into())]);
    world.claim = claim(json!({}), json!({}));
    assert_eq!(world.plan(copy_of("pvc-a", "n2", GIB)).actions, [Action::Pin("n2".into())]);
    world.claim = placed("n2", json!({}));
    let plan = world.plan(copy_of("pvc-a", "n2", GIB));
    let [Action::CreateVolume(made)] = plan.actions.as_slice() else { panic!("{plan:?}") };
    assert_eq!(made.spec.source.volume.as_ref().unwrap().name, "pvc-a");
}

#[test]
fn a_copy_that_does_not_fit_or_is_too_small_waits_and_says_why() {
    let mut world = World::new();
    assert_eq!(
        events(&world.plan(copy_of("pvc-a", "n1", 5 * GIB))),
        ["a copy is at least as large as its origin: 5Gi"]
    );
    world.volumes.push(volume("pvc-other", "n1", 7 * GIB));
    let plan = world.plan(copy_of("pvc-a", "n1", GIB));
    assert_eq!(plan.actions.len(), 1, "it must keep its node: {plan:?}");
    assert!(events(&plan)[0].ends_with("4Gi are requested; a copy can be made on no other node"));
    let missing = Ok((Wanted::Claim("a".into()), Some(Err("it does not exist".into()))));
    assert_eq!(events(&World::new().plan(missing)), ["it does not exist"]);
}

#[test]
fn a_claim_that_is_wanted_at_once_goes_where_there_is_most_room() {
    let mut world = World::new();
    world.claim = claim(
        json!({"annotations": {"cdi.kubevirt.io/storage.bind.immediate.requested": "true"}}),
        json!({}),
    );
    world.volumes.push(volume("pvc-other", "n1", GIB));
    assert_eq!(world.plan(blank()).actions, [Action::Pin("n2".into())]);
    world.volumes.push(volume("pvc-more", "n1", 8 * GIB));
    world.volumes.push(volume("pvc-most", "n2", 8 * GIB));
    assert_eq!(events(&world.plan(blank())), ["no node has 4Gi free in its pool default"]);
}

#[test]
fn what_can_never_be_is_told_and_nothing_is_made() {
    let of = |spec| {
        let mut world = World::new();
        world.claim = placed("n1", spec);
        let plan = world.plan(blank());
        assert_eq!(plan.actions.len(), 1);
        events(&plan)[0].to_string()
    };
    assert_eq!(
        of(json!({"accessModes": ["ReadWriteMany"]})),
        "accessModes has ReadWriteMany; volumes of lvm.sheaf.dev are on one node: use ReadWriteOnce"
    );
    assert_eq!(
        of(json!({"selector": {"matchLabels": {"a": "b"}}})),
        "selector selects an existing volume, and StorageClass sheaf provisions a new one: remove it"
    );
    let mut world = World::new();
    world.class.volume_binding_mode = Some("Immediate".into());
    assert!(events(&world.plan(blank()))[0].contains("recreate the class with WaitForFirstConsumer"));
    let refused = Err("annotation sheaf.dev/source: nonsense".to_string());
    assert_eq!(events(&World::new().plan(refused)), ["annotation sheaf.dev/source: nonsense"]);
}

#[test]
fn a_bound_claim_grows_step_by_step_and_never_says_more_than_the_node_made() {
    let mut world = World::new().with_volume("n1", "Ready", "Ready").bound("6Gi");
    let grow = world.plan(blank());
    assert_eq!(grow.actions[0], Action::Grow { name: format!("pvc-{UID}"), to: 6 * GIB });
    assert_eq!(status(&grow).unwrap().conditions.unwrap()[0].type_, "Resizing");
    assert_eq!(grow.booked(world.volumes.first())[0].spec.size_bytes, 6 * GIB);

    world.volumes[0].spec.size_bytes = 6 * GIB; // asked, not made
    let waits = world.plan(blank());
    assert!(matches!(waits.actions.as_slice(), [Action::WriteStatus(_)]), "{waits:?}");
    assert_eq!(status(&waits).unwrap().capacity.unwrap()["storage"].0, "4Gi");

    world.volumes[0].status.as_mut().unwrap().size_bytes = Some(6 * GIB);
    let done = world.plan(blank());
    assert_eq!(done.actions[0], Action::Capacity { name: format!("pvc-{UID}"), bytes: 6 * GIB });
    let status = status(&done).unwrap();
    assert_eq!(status.capacity.unwrap()["storage"].0, "6Gi");
    assert_eq!(status.conditions, None);
}

#[test]
fn a_claim_that_can_not_grow_says_so_and_a_claim_that_need_not_is_left_alone() {
    let mut world = World::new().with_volume("n1", "Ready", "Ready").bound("4Gi");
    assert_eq!(world.plan(blank()), Plan::default());
    world.volumes.push(volume("pvc-other", "n1", 5 * GIB));
    let mut world = World { persistent: None, ..world }.bound("6Gi");
    let plan = world.plan(blank());
    assert!(events(&plan)[0].ends_with("pool default of n1 has 1Gi free, and 2Gi are requested"));
    let conditions = status(&plan).unwrap().conditions.unwrap();
    assert_eq!(
        (conditions[0].type_.as_str(), conditions[0].status.as_str()),
        ("ControllerResizeError", "True")
    );
    world.claim.status = status(&plan);
    assert_eq!(status(&world.plan(blank())), None, "written once");
}

#[test]
fn a_claim_that_is_being_deleted_gets_nothing_more() {
    let mut world = World::new();
    world.claim.metadata.deletion_timestamp = Some(crate::conditions::seconds(Timestamp::UNIX_EPOCH));
    assert_eq!(world.plan(blank()), Plan::default());
}
