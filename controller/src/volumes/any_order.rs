//! Properties of volumes: whatever happens in whatever order, no space is promised twice, nothing that is referred to is
//! deleted, and when things come to rest each claim is bound or its last Event says why not.
//!
//! Why here: it follows from the plans of claims, growth, snapshots, DataVolumes and reclaim together and from the
//! inventory's bookings, and from no single one of them. A small model plays the rest: the API server (finalizers,
//! preconditions), a watch that lags, kube-scheduler and anything else that writes a claim's node, the binder of PersistentVolumes,
//! agents. Route in: random orders of [`Step`]s. Route out: the promises, checked after each.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim},
        storage::v1::StorageClass,
    },
    jiff::Timestamp,
};
use kube::{
    Resource, ResourceExt as _,
    runtime::{reflector::store::Writer, watcher::Event as Change},
};
use proptest::prelude::*;
use serde_json::json;
use sheaf_api::{
    cdi::DataVolume,
    names::SELECTED_NODE_ANNOTATION,
    snapshot::{VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent},
    storage::{
        LocalVolume,
        local_volume::{FINALIZER, Origin, VolumePhase},
    },
};

use super::{
    annotation,
    claim::{self, source},
    class::snapshot_class,
    datavolume, handle,
    inventory::Inventory,
    name_for, reclaim, room, snapshot,
    testing::{GIB, class, in_phase, pool},
};
use crate::conditions::seconds;

const NODES: [&str; 2] = ["n1", "n2"];
/// Bytes of each node's pool.
const POOL: u64 = 10 * GIB;
/// Claims: `a` and `b` are blank, `copy` is of claim `a`, `restored` of the snapshot, `data` of the DataVolume.
const CLAIMS: [&str; 5] = ["a", "b", "copy", "restored", "data"];
/// Sizes that claims ask for.
const SIZES: [&str; 6] = ["1Gi", "4Gi", "6Gi", "11Gi", "1", "16Ei"];

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A tenant creates a claim of this size, or raises it to it.
    Ask(usize, usize),
    /// A tenant deletes a claim.
    DeleteClaim(usize),
    /// kube-scheduler, or a tenant, gives the claim this node.
    Select(usize, usize),
    /// The controller of claims decides about one, and does nothing yet.
    PlanClaim(usize),
    /// It does the first so many actions of what it decided.
    ApplyClaim(usize),
    /// The binder of PersistentVolumes looks at everything.
    Bind,
    /// The node's agent looks at its volumes; what is new becomes this.
    Agent(usize, Outcome),
    /// The controllers of reclaim look at everything.
    Reclaim,
    /// A tenant creates the snapshot of claim `a`.
    Snapshot,
    /// A tenant deletes it.
    DeleteSnapshot,
    /// The controller of snapshots does the first so many actions of its plan.
    ReconcileSnapshot(usize),
    /// A tenant creates the DataVolume, or deletes it.
    Data(bool),
    /// The controller of DataVolumes does the first so many actions of its plan.
    ReconcileData(usize),
    /// The controller's watches show everything up to now.
    Watch,
}

/// What an agent makes of a volume.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Ready,
    Creating,
    OutOfSpace,
    Fails,
}

fn step() -> impl Strategy<Value = Step> {
    // Mostly the same two: orders of events of one claim are what counts.
    let claim = || prop_oneof![4 => 0..2_usize, 1 => 0..CLAIMS.len()];
    let outcome = prop_oneof![
        5 => Just(Outcome::Ready),
        1 => Just(Outcome::Creating),
        1 => Just(Outcome::OutOfSpace),
        1 => Just(Outcome::Fails),
    ];
    prop_oneof![
        4 => (claim(), 0..SIZES.len()).prop_map(|(claim, size)| Step::Ask(claim, size)),
        2 => claim().prop_map(Step::DeleteClaim),
        5 => (claim(), 0..NODES.len()).prop_map(|(claim, node)| Step::Select(claim, node)),
        7 => claim().prop_map(Step::PlanClaim),
        7 => (0..4usize).prop_map(Step::ApplyClaim),
        4 => Just(Step::Bind),
        5 => (0..NODES.len(), outcome).prop_map(|(node, outcome)| Step::Agent(node, outcome)),
        4 => Just(Step::Reclaim),
        1 => Just(Step::Snapshot),
        1 => Just(Step::DeleteSnapshot),
        3 => (0..5usize).prop_map(Step::ReconcileSnapshot),
        1 => any::<bool>().prop_map(Step::Data),
        2 => (0..4usize).prop_map(Step::ReconcileData),
        4 => Just(Step::Watch),
    ]
}

struct World {
    class: StorageClass,
    snapshot_class: VolumeSnapshotClass,
    claims: BTreeMap<String, PersistentVolumeClaim>,
    volumes: BTreeMap<String, LocalVolume>,
    persistents: BTreeMap<String, PersistentVolume>,
    snapshot: Option<VolumeSnapshot>,
    content: Option<VolumeSnapshotContent>,
    data: Option<DataVolume>,
    planned: Option<(PersistentVolumeClaim, Vec<claim::plan::Action>)>,
    inventory: Inventory,
    shown: Writer<LocalVolume>,
    /// The last Event about each claim.
    events: BTreeMap<String, String>,
    numbers: u32,
}

impl World {
    fn new() -> Self {
        let (inventory, mut pools, shown) = Inventory::of_tests();
        let all = NODES.map(|node| pool(node, POOL));
        show(&mut pools, all.iter());
        let mut world = Self {
            class: class(),
            snapshot_class: serde_json::from_value(snapshot_class()).unwrap(),
            claims: BTreeMap::new(),
            volumes: BTreeMap::new(),
            persistents: BTreeMap::new(),
            snapshot: None,
            content: None,
            data: None,
            planned: None,
            inventory,
            shown,
            events: BTreeMap::new(),
            numbers: 0,
        };
        world.watch();
        world
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Ask(claim, size) => self.ask(CLAIMS[claim], SIZES[size]),
            Step::DeleteClaim(claim) => drop(self.claims.remove(CLAIMS[claim])),
            Step::Select(claim, node) => self.select(CLAIMS[claim], Some(NODES[node])),
            Step::PlanClaim(claim) => self.plan_claim(CLAIMS[claim]),
            Step::ApplyClaim(cut) => self.apply_claim(cut),
            Step::Bind => self.bind(),
            Step::Agent(node, outcome) => self.agent(NODES[node], outcome),
            Step::Reclaim => self.reclaim(),
            Step::Snapshot => self.create_snapshot(),
            Step::DeleteSnapshot => {
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.metadata.deletion_timestamp = Some(seconds(Timestamp::UNIX_EPOCH));
                }
                self.sweep();
            }
            Step::ReconcileSnapshot(cut) => self.reconcile_snapshot(cut),
            Step::Data(there) => self.data(there),
            Step::ReconcileData(cut) => drop(self.reconcile_data(cut)),
            Step::Watch => self.watch(),
        }
    }

    fn ask(&mut self, name: &str, size: &str) {
        if let Some(claim) = self.claims.get_mut(name) {
            // The API server refuses to shrink one, and to change one that is not bound.
            let before = room::bytes(claim::plan::requested(claim));
            let bound = claim.spec.as_ref().unwrap().volume_name.is_some();
            let wanted = serde_json::from_value(json!({"requests": {"storage": size}})).unwrap();
            if bound && room::bytes(Some(&quantity(size))) > before {
                claim.spec.as_mut().unwrap().resources = Some(wanted);
                self.touch(name);
            }
            return;
        }
        if name == "data" {
            return; // its DataVolume creates it
        }
        let source = match name {
            "copy" => json!({"kind": "PersistentVolumeClaim", "name": "a"}),
            "restored" => {
                json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "monday"})
            }
            _ => json!(null),
        };
        let claim = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"storageClassName": "sheaf", "accessModes": ["ReadWriteOnce"], "dataSourceRef": source,
                     "resources": {"requests": {"storage": size}}},
        }))
        .unwrap();
        self.create_claim(claim);
    }

    fn create_claim(&mut self, mut claim: PersistentVolumeClaim) {
        let name = claim.name_any();
        if !self.claims.contains_key(&name) {
            claim.metadata.uid = Some(format!("uid-{}", self.number()));
            claim.status = serde_json::from_value(json!({"phase": "Pending"})).unwrap();
            self.events.remove(&name);
            self.claims.insert(name.clone(), claim);
            self.touch(&name);
        }
    }

    /// The claim has changed.
    fn touch(&mut self, name: &str) {
        let version = self.number().to_string();
        if let Some(claim) = self.claims.get_mut(name) {
            claim.metadata.resource_version = Some(version);
        }
    }

    fn select(&mut self, name: &str, node: Option<&str>) {
        let Some(claim) = self.claims.get_mut(name) else { return };
        let annotations = claim.metadata.annotations.get_or_insert_default();
        match node {
            Some(node) => drop(annotations.insert(SELECTED_NODE_ANNOTATION.into(), node.into())),
            None => drop(annotations.remove(SELECTED_NODE_ANNOTATION)),
        }
        self.touch(name);
    }

    /// As `claim::find` finds it on the API server.
    fn find(&self, wanted: &source::Wanted) -> Option<Result<source::Found, String>> {
        match wanted {
            source::Wanted::Anywhere(_) => None,
            source::Wanted::Claim(name) => {
                let origin = self.claims.get(name);
                let bound = origin.and_then(|origin| origin.spec.as_ref()?.volume_name.as_ref());
                let persistent = bound.and_then(|bound| self.persistents.get(bound));
                let volume = persistent.and_then(handle).and_then(|handle| self.volumes.get(handle));
                Some(source::of_claim(name, origin, persistent, volume))
            }
            source::Wanted::Snapshot(name) => {
                let origin = self.snapshot.as_ref();
                let volume = origin.and_then(|origin| self.volumes.get(&snapshot::plan::name_for(origin)));
                Some(source::of_snapshot(name, origin, volume))
            }
        }
    }

    fn plan_claim(&mut self, name: &str) {
        let Some(claim) = self.claims.get(name).cloned() else { return };
        let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
        let persistent = self.persistents.get(&named.unwrap_or_else(|| name_for(&claim)));
        let volume = persistent.and_then(handle).map_or_else(|| name_for(&claim), str::to_owned);
        let own = self.volumes.get(&volume);
        if own.is_none() {
            self.inventory.cancel(&volume);
        }
        let source = source::wanted(&claim).map(|wanted| {
            let found = self.find(&wanted);
            (wanted, found)
        });
        let plan = self.inventory.book(own, |pools, volumes| {
            let (class, claim) = (&self.class, &claim);
            let observed =
                claim::plan::Observed { claim, class, pools, volumes, volume: own, persistent, source };
            let plan = claim::plan::plan(&observed, Timestamp::UNIX_EPOCH)?;
            let booked = plan.booked(own);
            Ok::<_, serde_json::Error>((plan, booked))
        });
        self.planned = Some((claim, plan.unwrap().actions));
    }

    fn apply_claim(&mut self, cut: usize) {
        use claim::plan::Action;
        let Some((planned, actions)) = self.planned.take() else { return };
        let name = planned.name_any();
        for action in actions.into_iter().take(cut) {
            let version = self.claims.get(&name).and_then(|claim| claim.metadata.resource_version.clone());
            let is_same = version == planned.metadata.resource_version;
            match action {
                Action::Pin(_) | Action::Reschedule | Action::WriteStatus(_) if !is_same => return,
                Action::Pin(node) => self.select(&name, Some(&node)),
                Action::Reschedule => self.select(&name, None),
                Action::CreateVolume(volume) => self.create_volume(*volume),
                Action::DeleteVolume { name, uid } => {
                    if self.volumes.get(&name).is_some_and(|volume| volume.uid().as_ref() == Some(&uid)) {
                        self.delete_volume(&name);
                    }
                }
                Action::CreatePersistent(mut persistent) => {
                    persistent.metadata.uid = Some(format!("uid-{}", self.number()));
                    persistent.status = serde_json::from_value(json!({"phase": "Pending"})).unwrap();
                    self.persistents.entry(persistent.name_any()).or_insert(*persistent);
                }
                Action::Grow { name, to } => {
                    if let Some(volume) = self.volumes.get_mut(&name) {
                        volume.spec.size_bytes = to;
                    }
                }
                Action::Capacity { name, bytes } => {
                    if let Some(spec) = self.persistents.get_mut(&name).and_then(|one| one.spec.as_mut()) {
                        spec.capacity = Some([("storage".into(), room::quantity(bytes))].into());
                    }
                }
                Action::Annotate(annotations) => {
                    if let Some(claim) = self.claims.get_mut(&name) {
                        let changes =
                            annotations.into_iter().map(|(name, value)| (name.into(), value.into()));
                        claim.metadata.annotations.get_or_insert_default().extend(changes);
                    }
                    self.touch(&name);
                }
                Action::WriteStatus(status) => {
                    if let Some(claim) = self.claims.get_mut(&name) {
                        claim.status = Some(*status);
                    }
                    self.touch(&name);
                }
                Action::RecordEvent(event) => drop(self.events.insert(name.clone(), event.note)),
            }
        }
    }

    fn create_volume(&mut self, mut volume: LocalVolume) {
        assert_eq!(volume.metadata.finalizers.as_deref(), Some(&[FINALIZER.to_owned()][..]));
        let name = volume.name_any();
        if !self.volumes.contains_key(&name) {
            volume.metadata.uid = Some(format!("uid-{}", self.number()));
            self.volumes.insert(name, volume);
        }
    }

    fn delete_volume(&mut self, name: &str) {
        if let Some(volume) = self.volumes.get_mut(name) {
            volume.metadata.deletion_timestamp = Some(seconds(Timestamp::UNIX_EPOCH));
        }
    }

    /// As the controller of Kubernetes: a PersistentVolume with the claim's UID is its own, and one without its claim is
    /// released.
    fn bind(&mut self) {
        let mut bound = Vec::new();
        for persistent in self.persistents.values_mut() {
            let name = persistent.name_any();
            let spec = persistent.spec.as_ref().unwrap();
            let of = spec.claim_ref.as_ref().unwrap();
            let claim = self.claims.get_mut(of.name.as_deref().unwrap());
            let phase = match claim.filter(|claim| claim.metadata.uid == of.uid) {
                None => "Released",
                Some(claim) => {
                    let spec_of_claim = claim.spec.as_mut().unwrap();
                    if spec_of_claim.volume_name.is_none() && persistent.metadata.deletion_timestamp.is_none()
                    {
                        spec_of_claim.volume_name = Some(name);
                        let status = claim.status.get_or_insert_default();
                        status.phase = Some("Bound".into());
                        status.capacity = spec.capacity.clone();
                        bound.push(claim.name_any());
                    }
                    "Bound"
                }
            };
            persistent.status.get_or_insert_default().phase = Some(phase.into());
        }
        bound.iter().for_each(|name| self.touch(name));
    }

    fn agent(&mut self, node: &str, outcome: Outcome) {
        self.volumes.retain(|_, volume| {
            volume.spec.node_name != node || volume.metadata.deletion_timestamp.is_none()
        });
        for volume in self.volumes.values_mut().filter(|volume| volume.spec.node_name == node) {
            let (phase, reason) = match outcome {
                _ if volume.is_ready() => ("Ready", "Ready"),
                Outcome::Ready => ("Ready", "Ready"),
                Outcome::Creating => ("Creating", "Creating"),
                Outcome::OutOfSpace => ("Pending", "OutOfSpace"),
                Outcome::Fails => ("Failed", "ChecksumMismatch"),
            };
            let grown = in_phase(volume.clone(), phase, reason);
            let waits = volume.is_ready() && !matches!(outcome, Outcome::Ready);
            if !waits {
                *volume = grown;
                volume.status.as_mut().unwrap().size_bytes =
                    (phase == "Ready").then(|| room::extents(volume.spec.size_bytes));
            }
        }
    }

    fn of_volume(&mut self, step: reclaim::plan::Step, name: &str) {
        if step == reclaim::plan::Step::DeleteVolume {
            self.delete_volume(name);
        }
    }

    fn reclaim(&mut self) {
        use reclaim::plan::Step as Of;
        for name in self.persistents.keys().cloned().collect::<Vec<_>>() {
            let persistent = &self.persistents[&name];
            let volume = self.volumes.get(handle(persistent).unwrap());
            for step in reclaim::plan::of_persistent(persistent, volume, &self.inventory.volumes()) {
                let Some(persistent) = self.persistents.get_mut(&name) else { break };
                match step {
                    Of::DeletePersistent => {
                        persistent.metadata.deletion_timestamp = Some(seconds(Timestamp::UNIX_EPOCH));
                    }
                    Of::Release => persistent.metadata.finalizers = None,
                    step => self.of_volume(step, &name),
                }
            }
            self.sweep();
        }
        for name in self.volumes.keys().cloned().collect::<Vec<_>>() {
            let volume = &self.volumes[&name];
            let Some(claim) = annotation(volume, sheaf_api::names::CLAIM_ANNOTATION) else { continue };
            let claim = self.claims.get(super::split(claim).unwrap().1);
            let claimed = claim.is_some_and(|claim| name_for(claim) == name);
            if !claimed && !self.persistents.contains_key(&name) {
                for step in reclaim::plan::of_orphan(volume, claimed, &self.inventory.volumes()) {
                    self.of_volume(step, &name);
                }
            }
        }
    }

    fn create_snapshot(&mut self) {
        if self.snapshot.is_none() {
            let uid = format!("uid-{}", self.number());
            self.snapshot = serde_json::from_value(json!({
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                "metadata": {"name": "monday", "namespace": "shop", "uid": uid},
                "spec": {"source": {"persistentVolumeClaimName": "a"}},
            }))
            .unwrap();
        }
    }

    fn reconcile_snapshot(&mut self, cut: usize) {
        use snapshot::plan::Action;
        let Some(snapshot) = self.snapshot.clone() else { return };
        let claim = self.claims.get("a");
        let bound = claim.and_then(|claim| claim.spec.as_ref()?.volume_name.as_ref());
        let persistent = bound.and_then(|bound| self.persistents.get(bound));
        let name = snapshot::plan::name_for(&snapshot);
        let content =
            self.content.as_ref().filter(|is| is.name_any() == snapshot::plan::content_name(&snapshot));
        let own = self.volumes.get(&name);
        if own.is_none() {
            self.inventory.cancel(&name);
        }
        let plan = self.inventory.book(own, |pools, volumes| {
            let observed = snapshot::plan::Observed {
                snapshot: &snapshot,
                class: Some(&self.snapshot_class),
                claim,
                persistent,
                content,
                pools,
                volumes,
                volume: own,
                origin: persistent.and_then(handle).and_then(|handle| self.volumes.get(handle)),
            };
            let plan = snapshot::plan::plan(&observed, Timestamp::UNIX_EPOCH);
            let booked = plan.booked();
            Ok::<_, ()>((plan, booked))
        });
        for action in plan.unwrap().actions.into_iter().take(cut) {
            let Some(snapshot) = &mut self.snapshot else { return };
            let finalizer = Some(vec![sheaf_api::snapshot::SNAPSHOT_FINALIZER.to_owned()]);
            match action {
                Action::AddFinalizer => snapshot.metadata.finalizers = finalizer,
                Action::RemoveFinalizer => snapshot.metadata.finalizers = None,
                Action::CreateContent(content) => drop(self.content.get_or_insert(*content)),
                Action::ReleaseContent => {
                    with(&mut self.content, |content| content.metadata.finalizers = None)
                }
                Action::DeleteContent => with(&mut self.content, |content| {
                    content.metadata.deletion_timestamp = Some(seconds(Timestamp::UNIX_EPOCH));
                }),
                Action::CreateVolume(volume) => self.create_volume(*volume),
                Action::Reclaim(step) => self.of_volume(step, &name),
                Action::WriteStatus(status) => snapshot.status = Some(*status),
                Action::WriteContentStatus(status) => {
                    with(&mut self.content, |content| content.status = Some(*status));
                }
                Action::RecordEvent(_) => {}
            }
            self.sweep();
        }
    }

    fn data(&mut self, there: bool) {
        if !there {
            self.data = None;
            // The garbage collector deletes its claim.
            self.claims.retain(|_, claim| claim.metadata.owner_references.is_none());
        } else if self.data.is_none() {
            let uid = format!("uid-{}", self.number());
            self.data = serde_json::from_value(json!({
                "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
                "metadata": {"name": "data", "namespace": "shop", "uid": uid},
                "spec": {"source": {"upload": {}}, "storage": {"resources": {"requests": {"storage": "2Gi"}}}},
            }))
            .unwrap();
        }
    }

    /// How many actions its plan had.
    fn reconcile_data(&mut self, cut: usize) -> usize {
        use datavolume::plan::Action;
        let Some(data) = self.data.clone() else { return 0 };
        let claim = self.claims.get("data");
        let observed = datavolume::plan::Observed {
            data: &data,
            claim,
            volume: claim.and_then(|claim| self.volumes.get(&name_for(claim))),
            classes: std::slice::from_ref(&self.class),
            origin: None,
        };
        let plan = datavolume::plan::plan(&observed, Timestamp::UNIX_EPOCH).unwrap();
        let all = plan.actions.len();
        for action in plan.actions.into_iter().take(cut) {
            match action {
                Action::CreateClaim(claim) => self.create_claim(*claim),
                Action::WriteStatus(status) => with(&mut self.data, |data| data.status = Some(*status)),
                Action::RecordEvent(_) => {}
            }
        }
        all
    }

    /// What is being deleted and has no finalizer is gone.
    fn sweep(&mut self) {
        fn is_gone(meta: &kube::core::ObjectMeta) -> bool {
            meta.deletion_timestamp.is_some() && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
        }
        self.persistents.retain(|_, one| !is_gone(one.meta()));
        self.snapshot.take_if(|one| is_gone(one.meta()));
        self.content.take_if(|one| is_gone(one.meta()));
    }

    fn watch(&mut self) {
        show(&mut self.shown, self.volumes.values());
    }

    /// Holds after every step.
    fn check(&self) -> Result<(), TestCaseError> {
        for node in NODES {
            let here = self.volumes.values().filter(|volume| volume.spec.node_name == node);
            let promised = here.map(room::size).fold(0, u64::saturating_add);
            prop_assert!(promised <= POOL, "{promised} bytes are promised on {node}");
        }
        for claim in self.claims.values() {
            let Some(bound) = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref()) else {
                continue;
            };
            let volume = self.volumes.get(bound).filter(|one| one.metadata.deletion_timestamp.is_none());
            prop_assert!(volume.is_some(), "{} is bound to {bound}, which is deleted", claim.name_any());
            let made = volume.and_then(|volume| volume.status.as_ref()?.size_bytes).unwrap_or_default();
            let says = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
            prop_assert!(room::bytes(says) <= made, "{} says more than was made", claim.name_any());
        }
        for persistent in self.persistents.values() {
            let phase = persistent.status.as_ref().and_then(|status| status.phase.as_deref());
            if phase == Some("Released") || persistent.metadata.deletion_timestamp.is_some() {
                continue;
            }
            // Made for a claim that was deleted meanwhile: nothing can be bound to it, and it is reclaimed next.
            let of = persistent.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()?.uid.as_ref());
            if of.is_some() && !self.claims.values().any(|claim| claim.metadata.uid.as_ref() == of) {
                continue;
            }
            let volume = handle(persistent).and_then(|handle| self.volumes.get(handle));
            let is_there = volume.is_some_and(|one| one.metadata.deletion_timestamp.is_none());
            prop_assert!(is_there, "{} refers to a volume that is deleted", persistent.name_any());
        }
        for copy in self
            .volumes
            .values()
            .filter(|copy| !copy.is_ready() && copy.metadata.deletion_timestamp.is_none())
        {
            let source = &copy.spec.source;
            let Some(Origin { name }) = source.volume.as_ref().or(source.snapshot.as_ref()) else { continue };
            let origin = self.volumes.get(name).filter(|one| one.metadata.deletion_timestamp.is_none());
            prop_assert!(origin.is_some(), "{} is made from {name}, which is deleted", copy.name_any());
            prop_assert_eq!(&origin.unwrap().spec.node_name, &copy.spec.node_name);
        }
        let handles: Vec<_> = self.persistents.values().filter_map(handle).collect();
        prop_assert_eq!(handles.len(), handles.iter().collect::<BTreeSet<_>>().len(), "two owners");
        Ok(())
    }

    /// Everybody does all there is to do, again and again.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.watch();
            self.reconcile_data(9);
            for (number, name) in CLAIMS.into_iter().enumerate() {
                let is_free = self
                    .claims
                    .get(name)
                    .is_some_and(|one| annotation(one, SELECTED_NODE_ANNOTATION).is_none());
                if is_free {
                    self.select(name, Some(NODES[number % 2]));
                }
                self.plan_claim(name);
                self.apply_claim(9);
            }
            self.reconcile_snapshot(9);
            NODES.iter().for_each(|node| self.agent(node, Outcome::Ready));
            self.bind();
            self.watch();
            self.reclaim();
        }
    }
}

fn with<T>(object: &mut Option<T>, change: impl FnOnce(&mut T)) {
    if let Some(object) = object {
        change(object);
    }
}

fn quantity(text: &str) -> k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.into())
}

fn show<'a, K>(writer: &mut Writer<K>, all: impl Iterator<Item = &'a K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    writer.apply_watcher_event(&Change::Init);
    all.for_each(|one| writer.apply_watcher_event(&Change::InitApply(one.clone())));
    writer.apply_watcher_event(&Change::InitDone);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    #[test]
    fn no_order_of_events_promises_space_twice_or_deletes_what_is_referred_to(
        steps in proptest::collection::vec(step(), 1..100)
    ) {
        let mut world = World::new();
        for (number, step) in steps.iter().enumerate() {
            world.take(step);
            if let Err(error) = world.check() {
                return Err(TestCaseError::fail(format!("{error} after {:?}", &steps[..=number])));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn after_any_order_of_events_claims_are_bound_or_explained_and_what_nobody_claims_is_gone(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        world.settle();
        world.check()?;
        for (name, claim) in &world.claims {
            let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
            let said = world.events.get(name).is_some_and(|note| !note.is_empty());
            prop_assert!(bound || said, "claim {name} is not bound, and nothing says why");
        }
        prop_assert_eq!(world.reconcile_data(0), 0, "a DataVolume at rest is not written again");
        // What remains belongs to somebody.
        let of_snapshot = world.snapshot.as_ref().map(snapshot::plan::name_for);
        for name in world.volumes.keys() {
            let claimed = world.claims.values().any(|claim| name_for(claim) == *name);
            prop_assert!(claimed || of_snapshot.as_ref() == Some(name), "{name} is nobody's");
        }
        world.claims.clear();
        world.data = None;
        world.take(&Step::DeleteSnapshot);
        world.settle();
        prop_assert!(world.volumes.is_empty() && world.persistents.is_empty(), "{:?}", world.volumes.keys());
        prop_assert!(world.snapshot.is_none() && world.content.is_none());
    }
}

/// The model is worth something only if claims are bound, grown, copied and snapshotted in it.
#[test]
fn in_the_model_claims_are_bound_copied_and_restored() {
    let mut world = World::new();
    [0, 1, 2].into_iter().for_each(|claim| world.take(&Step::Ask(claim, 0)));
    [Step::Snapshot, Step::Data(true)].iter().for_each(|step| world.take(step));
    world.settle();
    world.take(&Step::Ask(3, 0));
    world.take(&Step::Ask(1, 1));
    world.settle();
    let bound = world.claims.values().filter(|claim| claim.spec.as_ref().unwrap().volume_name.is_some());
    assert_eq!(bound.count(), CLAIMS.len(), "{:?}", world.events);
    let grown = world.claims["b"].status.as_ref().unwrap().capacity.as_ref().unwrap()["storage"].0.clone();
    assert_eq!(grown, "4Gi");
    let phase = world.data.unwrap().status.unwrap().phase.unwrap().to_string();
    assert_eq!(phase, "Succeeded");
    assert!(world.snapshot.unwrap().status.unwrap().ready_to_use.unwrap());
    assert!(world.volumes.values().all(|one| one.status.as_ref().unwrap().phase == Some(VolumePhase::Ready)));
}
