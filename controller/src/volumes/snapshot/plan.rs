//! Decides what becomes of one VolumeSnapshot of ours.
//!
//! Why here: pure, so that every turn of its life is a test. A snapshot is a LocalVolume of kind Snapshot beside its origin,
//! and a VolumeSnapshotContent for those who ask the cluster; it is finalized until both are dealt with, so nothing leaks
//! whichever is deleted first. Route in: [`Observed`]. Route out: a [`Plan`].

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    jiff::Timestamp,
};
use sheaf_api::{
    Amount,
    names::{SNAPSHOT_ANNOTATION, VOLUME_DRIVER},
    snapshot::{
        CONTENT_FINALIZER, ContentSource, DeletionPolicy, GROUP, SNAPSHOT_FINALIZER, SnapshotError,
        SnapshotReference, VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent,
        VolumeSnapshotContentSpec, VolumeSnapshotContentStatus, VolumeSnapshotStatus,
    },
    storage::{
        LocalVolume, LocalVolumeSpec, StoragePool,
        local_volume::{FINALIZER, Origin, VolumeKind, VolumePhase, VolumeSource},
    },
};

use crate::{
    conditions::seconds,
    events::Event,
    volumes::{
        handle, reclaim,
        room::{self, Room},
    },
};

/// Until a snapshot is reconciled again that waits for something which is not watched: its claim, space.
const WAIT: Duration = Duration::from_secs(10);

/// What a decision is made from.
pub struct Observed<'a> {
    /// The snapshot, of one of our classes or with a content of ours.
    pub snapshot: &'a VolumeSnapshot,
    /// Its class, if it is there.
    pub class: Option<&'a VolumeSnapshotClass>,
    /// The claim it is of.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// What that is bound to.
    pub persistent: Option<&'a PersistentVolume>,
    /// Its content.
    pub content: Option<&'a VolumeSnapshotContent>,
    /// Every pool.
    pub pools: &'a [Arc<StoragePool>],
    /// Every LocalVolume.
    pub volumes: &'a [Arc<LocalVolume>],
    /// The snapshot's own LocalVolume.
    pub volume: Option<&'a LocalVolume>,
    /// The LocalVolume of the claim.
    pub origin: Option<&'a LocalVolume>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer on the snapshot.
    AddFinalizer,
    /// Remove it.
    RemoveFinalizer,
    /// Make the content.
    CreateContent(Box<VolumeSnapshotContent>),
    /// Remove our finalizer from the content.
    ReleaseContent,
    /// Delete the content.
    DeleteContent,
    /// Make the LocalVolume.
    CreateVolume(Box<LocalVolume>),
    /// Do with the LocalVolume what a reclaimed one is done.
    Reclaim(reclaim::plan::Step),
    /// Write the snapshot's whole status.
    WriteStatus(Box<VolumeSnapshotStatus>),
    /// Write the content's whole status.
    WriteContentStatus(Box<VolumeSnapshotContentStatus>),
    /// Record an Event.
    RecordEvent(Event),
}

/// What to do, in order; a step that fails ends the plan. Statuses come first: after the last step there may be no object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// The snapshot's whole status after it.
    pub status: VolumeSnapshotStatus,
    /// The content's whole status after it, if there is a content.
    pub content: Option<VolumeSnapshotContentStatus>,
    /// Reconcile again after this long.
    pub requeue: Option<Duration>,
}

/// Name of a snapshot's LocalVolume.
pub fn name_for(snapshot: &VolumeSnapshot) -> String {
    format!("snap-{}", snapshot.metadata.uid.as_deref().unwrap_or_default())
}

/// Name of a snapshot's content.
pub fn content_name(snapshot: &VolumeSnapshot) -> String {
    format!("snapcontent-{}", snapshot.metadata.uid.as_deref().unwrap_or_default())
}

impl Plan {
    /// The volume that it makes.
    pub fn booked(&self) -> Vec<LocalVolume> {
        let volume = |action: &Action| match action {
            Action::CreateVolume(volume) => Some(LocalVolume::clone(volume)),
            _ => None,
        };
        self.actions.iter().filter_map(volume).collect()
    }
}

/// Decides.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = decide(observed, now);
    let mut writes = Vec::new();
    if observed.snapshot.status.clone().unwrap_or_default() != plan.status {
        writes.push(Action::WriteStatus(Box::new(plan.status.clone())));
    }
    if let (Some(content), Some(status)) = (observed.content, &plan.content)
        && content.status.clone().unwrap_or_default() != *status
    {
        writes.push(Action::WriteContentStatus(Box::new(status.clone())));
    }
    plan.actions.splice(0..0, writes);
    plan
}

fn decide(observed: &Observed, now: Timestamp) -> Plan {
    let meta = &observed.snapshot.metadata;
    let held = meta.finalizers.iter().flatten().any(|held| held == SNAPSHOT_FINALIZER);
    let mut plan = Plan {
        status: observed.snapshot.status.clone().unwrap_or_default(),
        content: observed.content.map(|content| content.status.clone().unwrap_or_default()),
        ..Plan::default()
    };
    let name = name_for(observed.snapshot);
    let volume = observed.volume;
    if meta.deletion_timestamp.is_some() {
        if held {
            plan.actions = end(observed, volume);
            plan.requeue = plan.actions.contains(&Action::Reclaim(reclaim::plan::Step::Wait)).then_some(WAIT);
        }
        return plan;
    }
    if !held {
        plan.actions.push(Action::AddFinalizer);
        return plan;
    }
    match volume {
        Some(volume) => follow(&mut plan, observed, volume, now),
        None if plan.status.creation_time.is_some() => {
            // It was there once, ready or not since: a new one would hold something else.
            wrong(
                &mut plan,
                format!("the LocalVolume {name} is gone, and with it the contents of the snapshot"),
                now,
            );
        }
        None => match origin(observed) {
            Ok(origin) => make(&mut plan, observed, origin, &name, now),
            Err(why) => {
                plan.requeue = Some(WAIT);
                wrong(&mut plan, why, now);
            }
        },
    }
    plan
}

/// The LocalVolume that the snapshot is of; a sentence if there is none.
fn origin<'a>(observed: &'a Observed) -> Result<&'a LocalVolume, String> {
    let source = &observed.snapshot.spec.source;
    let name = source.persistent_volume_claim_name.as_deref().unwrap_or_default();
    let claim = observed.claim.ok_or_else(|| format!("the PersistentVolumeClaim {name} does not exist"))?;
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let (true, Some(persistent)) = (bound, observed.persistent) else {
        return Err(format!("the PersistentVolumeClaim {name} is not bound, so there is nothing in it yet"));
    };
    let handle = handle(persistent)
        .ok_or_else(|| format!("the PersistentVolumeClaim {name} is not of {VOLUME_DRIVER}"))?;
    let is = |volume: &&LocalVolume| volume.metadata.name.as_deref() == Some(handle);
    observed.origin.filter(is).ok_or_else(|| format!("the LocalVolume {handle} does not exist"))
}

fn make(plan: &mut Plan, observed: &Observed, origin: &LocalVolume, name: &str, now: Timestamp) {
    if observed.content.is_none() {
        plan.actions.push(Action::CreateContent(Box::new(content(observed, origin))));
    }
    plan.status.bound_volume_snapshot_content_name = Some(content_name(observed.snapshot));
    plan.status.ready_to_use = Some(false);
    let bytes = room::size(origin);
    let fits = match room::find(observed.pools, &origin.spec.node_name, &origin.spec.pool) {
        None => Err(format!("{} has no pool {}", origin.spec.node_name, origin.spec.pool)),
        Some(pool) => Room::of(pool, observed.volumes).fits(bytes, pool),
    };
    if let Err(why) = fits {
        plan.requeue = Some(WAIT);
        return wrong(
            plan,
            format!("{why}: a snapshot needs room for everything that may still change in its origin"),
            now,
        );
    }
    plan.status.error = None;
    let mut volume = LocalVolume::new(
        name,
        LocalVolumeSpec {
            node_name: origin.spec.node_name.clone(),
            pool: origin.spec.pool.clone(),
            size_bytes: bytes,
            kind: VolumeKind::Snapshot,
            source: VolumeSource {
                volume: Some(Origin { name: origin.metadata.name.clone().unwrap_or_default() }),
                ..VolumeSource::default()
            },
        },
    );
    let meta = &observed.snapshot.metadata;
    let whose = format!(
        "{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    );
    volume.metadata.annotations = Some([(SNAPSHOT_ANNOTATION.into(), whose)].into());
    volume.metadata.finalizers = Some(vec![FINALIZER.into()]);
    plan.actions.push(Action::CreateVolume(Box::new(volume)));
}

fn content(observed: &Observed, origin: &LocalVolume) -> VolumeSnapshotContent {
    let meta = &observed.snapshot.metadata;
    let mut content = VolumeSnapshotContent::new(
        &content_name(observed.snapshot),
        VolumeSnapshotContentSpec {
            volume_snapshot_ref: SnapshotReference {
                api_version: Some(format!("{GROUP}/v1")),
                kind: Some("VolumeSnapshot".into()),
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
                uid: meta.uid.clone(),
            },
            deletion_policy: observed.class.map(|class| class.deletion_policy).unwrap_or_default(),
            driver: VOLUME_DRIVER.into(),
            volume_snapshot_class_name: observed.class.and_then(|class| class.metadata.name.clone()),
            source: ContentSource { volume_handle: origin.metadata.name.clone().unwrap_or_default() },
        },
    );
    content.metadata.finalizers = Some(vec![CONTENT_FINALIZER.into()]);
    content
}

/// There is a LocalVolume: what does its node say?
fn follow(plan: &mut Plan, observed: &Observed, volume: &LocalVolume, now: Timestamp) {
    plan.status.bound_volume_snapshot_content_name = Some(content_name(observed.snapshot));
    let phase = volume.status.as_ref().and_then(|status| status.phase);
    if phase != Some(VolumePhase::Ready) {
        plan.status.ready_to_use = Some(false);
        let failed = matches!(phase, Some(VolumePhase::Pending | VolumePhase::Failed));
        match volume.why().filter(|(_, message)| failed && !message.is_empty()) {
            Some((_, message)) => wrong(plan, format!("{}: {message}", volume.spec.node_name), now),
            None => plan.status.error = None,
        }
        return;
    }
    if plan.status.ready_to_use != Some(true) {
        plan.actions.push(Action::RecordEvent(Event::normal("SnapshotReady", "a claim can be made from it")));
    }
    let bytes = room::size(volume);
    let moment = plan.status.creation_time.get_or_insert_with(|| seconds(now)).clone();
    plan.status.ready_to_use = Some(true);
    plan.status.restore_size = Some(Amount::of_bytes(bytes));
    plan.status.error = None;
    if let Some(status) = &mut plan.content {
        *status = VolumeSnapshotContentStatus {
            snapshot_handle: volume.metadata.name.clone(),
            creation_time: i64::try_from(moment.0.as_nanosecond()).ok(),
            ready_to_use: Some(true),
            restore_size: i64::try_from(bytes).ok(),
            error: None,
        };
    }
}

/// The snapshot is being deleted: the LocalVolume first, then the content, then it.
fn end(observed: &Observed, volume: Option<&LocalVolume>) -> Vec<Action> {
    use reclaim::plan::Step;
    let policy = match (observed.content, observed.class) {
        (Some(content), _) => content.spec.deletion_policy,
        (None, class) => class.map(|class| class.deletion_policy).unwrap_or_default(),
    };
    let finalized = |content: &VolumeSnapshotContent| {
        content.metadata.finalizers.iter().flatten().any(|held| held == CONTENT_FINALIZER)
    };
    let mut actions = Vec::new();
    match (policy, volume) {
        (DeletionPolicy::Delete, Some(volume)) => {
            return reclaim::plan::remove(volume, observed.volumes)
                .into_iter()
                .map(Action::Reclaim)
                .collect();
        }
        (DeletionPolicy::Delete, None) => {
            if let Some(content) = observed.content {
                if content.metadata.deletion_timestamp.is_none() {
                    actions.push(Action::DeleteContent);
                }
                if finalized(content) {
                    actions.push(Action::ReleaseContent);
                }
            }
        }
        (DeletionPolicy::Retain, volume) => {
            actions.extend(volume.map(|_| Action::Reclaim(Step::Retain)));
            if observed.content.is_some_and(finalized) {
                actions.push(Action::ReleaseContent);
            }
        }
    }
    actions.push(Action::RemoveFinalizer);
    actions
}

/// Says what is wrong, once: the time is that of the first report.
fn wrong(plan: &mut Plan, why: String, now: Timestamp) {
    plan.status.ready_to_use = Some(false);
    let message = plan.status.error.as_ref().and_then(|error| error.message.as_deref());
    if message != Some(&why) {
        plan.actions.push(Action::RecordEvent(Event::warning("SnapshotFailed", why.clone())));
        plan.status.error = Some(SnapshotError { time: Some(seconds(now)), message: Some(why) });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::volumes::testing::{GIB, claim, in_phase, persistent, pool, volume};

    struct World {
        snapshot: VolumeSnapshot,
        class: VolumeSnapshotClass,
        claim: Option<PersistentVolumeClaim>,
        content: Option<VolumeSnapshotContent>,
        volumes: Vec<LocalVolume>,
    }

    impl World {
        /// A snapshot of a bound claim of 4 GiB, finalized.
        fn new() -> Self {
            let mut bound = claim(json!({}), json!({}));
            bound.status.as_mut().unwrap().phase = Some("Bound".into());
            Self {
                snapshot: serde_json::from_value(json!({
                    "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                    "metadata": {"name": "monday", "namespace": "shop", "uid": "s-1", "finalizers": [SNAPSHOT_FINALIZER]},
                    "spec": {"source": {"persistentVolumeClaimName": "disk"}},
                }))
                .unwrap(),
                class: serde_json::from_value(crate::volumes::class::snapshot_class()).unwrap(),
                claim: Some(bound),
                content: None,
                volumes: vec![in_phase(volume("pvc-a", "n1", 4 * GIB), "Ready", "Ready")],
            }
        }

        fn plan(&self) -> Plan {
            let (persistent, pools) =
                (persistent("pvc-a", "Bound", "Delete"), [Arc::new(pool("n1", 10 * GIB))]);
            let volumes: Vec<_> = self.volumes.iter().cloned().map(Arc::new).collect();
            let named =
                |name: &str| self.volumes.iter().find(|one| one.metadata.name.as_deref() == Some(name));
            let observed = Observed {
                snapshot: &self.snapshot,
                class: Some(&self.class),
                claim: self.claim.as_ref(),
                persistent: Some(&persistent),
                content: self.content.as_ref(),
                pools: &pools,
                volumes: &volumes,
                volume: named("snap-s-1"),
                origin: named("pvc-a"),
            };
            plan(&observed, Timestamp::UNIX_EPOCH)
        }

        /// The same after the plan was done and the node message `phase`.
        fn made(mut self, phase: &str) -> Self {
            for action in self.plan().actions {
                match action {
                    Action::CreateContent(content) => self.content = Some(*content),
                    Action::CreateVolume(made) => self.volumes.push(in_phase(*made, phase, "OutOfSpace")),
                    _ => {}
                }
            }
            self
        }

        fn deleting(mut self) -> Self {
            self.snapshot.metadata.deletion_timestamp = Some(seconds(Timestamp::UNIX_EPOCH));
            self
        }
    }

    #[test]
    fn a_snapshot_is_finalized_before_anything_is_made() {
        let mut world = World::new();
        world.snapshot.metadata.finalizers = None;
        assert_eq!(world.plan().actions, [Action::AddFinalizer]);
    }

    #[test]
    fn it_becomes_a_volume_beside_its_origin_and_a_content() {
        let plan = World::new().plan();
        let [Action::WriteStatus(_), Action::CreateContent(content), Action::CreateVolume(volume)] =
            plan.actions.as_slice()
        else {
            panic!("{plan:?}")
        };
        assert_eq!(content.spec.source.volume_handle, "pvc-a");
        assert_eq!(volume.metadata.name.as_deref(), Some("snap-s-1"));
        assert_eq!((volume.spec.node_name.as_str(), volume.spec.kind), ("n1", VolumeKind::Snapshot));
        assert_eq!(volume.spec.source.volume.as_ref().unwrap().name, "pvc-a");
        assert_eq!(plan.status.ready_to_use, Some(false));
    }

    #[test]
    fn when_the_node_has_it_it_may_be_used() {
        let plan = World::new().made("Ready").plan();
        assert_eq!(plan.status.ready_to_use, Some(true));
        assert_eq!(plan.status.restore_size.unwrap().as_str(), "4Gi");
        let content = plan.content.unwrap();
        assert_eq!(content.snapshot_handle.as_deref(), Some("snap-s-1"));
        assert_eq!(content.restore_size, Some(4 << 30));
    }

    #[test]
    fn whatever_stands_in_the_way_is_in_its_status_and_reported_once() {
        let mut world = World::new();
        world.claim = None;
        let plan = world.plan();
        let error = plan.status.error.clone().unwrap().message.unwrap();
        assert_eq!(error, "the PersistentVolumeClaim disk does not exist");
        world.snapshot.status = Some(plan.status);
        assert_eq!(world.plan().actions, [], "reported once");

        let mut world = World::new();
        world.volumes.push(volume("pvc-b", "n1", 3 * GIB));
        let error = world.plan().status.error.unwrap().message.unwrap();
        assert!(error.starts_with("pool default of n1 has 3Gi free, and 4Gi are requested"), "{error}");

        let failed = World::new().made("Failed").plan();
        assert_eq!(failed.status.error.unwrap().message.as_deref(), Some("n1: the node's words"));
    }

    #[test]
    fn a_snapshot_that_was_lost_is_never_recreated() {
        let mut world = World::new().made("Ready");
        world.snapshot.status = Some(world.plan().status);
        world.volumes.pop();
        for _ in 0..3 {
            let plan = world.plan();
            assert!(!plan.actions.iter().any(|action| matches!(action, Action::CreateVolume(_))), "{plan:?}");
            assert_eq!(plan.status.ready_to_use, Some(false));
            world.snapshot.status = Some(plan.status);
        }
    }

    #[test]
    fn deleted_it_takes_volume_and_content_with_it_in_order() {
        use reclaim::plan::Step;
        let mut world = World::new().made("Ready").deleting();
        assert_eq!(world.plan().actions, [Action::Reclaim(Step::DeleteVolume)]);
        world.volumes.pop();
        assert_eq!(
            world.plan().actions,
            [Action::DeleteContent, Action::ReleaseContent, Action::RemoveFinalizer]
        );
        world.content = None;
        assert_eq!(world.plan().actions, [Action::RemoveFinalizer]);
    }

    #[test]
    fn a_retained_one_leaves_volume_and_content() {
        use reclaim::plan::Step;
        let mut world = World::new();
        world.class.deletion_policy = DeletionPolicy::Retain;
        let world = world.made("Ready").deleting();
        assert_eq!(
            world.plan().actions,
            [Action::Reclaim(Step::Retain), Action::ReleaseContent, Action::RemoveFinalizer]
        );
    }

    #[test]
    fn a_snapshot_that_is_being_copied_waits_with_its_deletion() {
        let mut world = World::new().made("Ready").deleting();
        let mut copy = volume("pvc-c", "n1", GIB);
        copy.spec.source = serde_json::from_value(json!({"snapshot": {"name": "snap-s-1"}})).unwrap();
        world.volumes.push(copy);
        let plan = world.plan();
        assert_eq!(plan.actions, [Action::Reclaim(reclaim::plan::Step::Wait)]);
        assert_eq!(plan.requeue, Some(WAIT));
    }
}
