//! Decides what one claim of ours needs next: a node, a volume, its binding, more space.
//!
//! Why here: pure, so that every turn of a claim's life is a test; that nothing is promised twice follows from the
//! caller's booking. The scheduler chooses the node of a new volume and is sent back when it does not fit there; a copy
//! is bound to its origin's node from the start. Route in: [`Observed`]. Route out: a [`Plan`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus},
        storage::v1::StorageClass,
    },
    jiff::Timestamp,
};
use sheaf_api::{
    names::{IMMEDIATE_ANNOTATION, SELECTED_NODE_ANNOTATION, VOLUME_DRIVER},
    storage::{
        LocalVolume, StoragePool,
        local_volume::{VolumePhase, VolumeSource},
    },
};

use super::{
    grow, made,
    source::{Found, Wanted},
    upload,
};
use crate::{
    events::Event,
    volumes::{
        annotation, name_for, pool_of,
        room::{self, Room},
    },
};

/// Until a claim is reconciled again that waits for something which is not watched: space, an origin.
const WAIT: Duration = Duration::from_secs(15);
/// A claim's reason in Events when there can be no volume; Kubernetes' own provisioner has the same.
const FAILED: &str = "ProvisioningFailed";
/// The same when an image that was sent is not taken: another may follow. CDI's.
const UPLOAD_FAILED: &str = "UploadFailed";

/// What a decision is made from.
pub struct Observed<'a> {
    /// The claim.
    pub claim: &'a PersistentVolumeClaim,
    /// Its class, one of ours.
    pub class: &'a StorageClass,
    /// Every pool.
    pub pools: &'a [Arc<StoragePool>],
    /// Every LocalVolume.
    pub volumes: &'a [Arc<LocalVolume>],
    /// The claim's own LocalVolume.
    pub volume: Option<&'a LocalVolume>,
    /// Its PersistentVolume.
    pub persistent: Option<&'a PersistentVolume>,
    /// What is in it at first: as it is asked for, and for a copy the origin. A sentence if it cannot be had.
    pub source: Result<(Wanted, Option<Result<Found, String>>), String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Bind the claim to this node.
    Pin(String),
    /// Give it back to the scheduler.
    Reschedule,
    /// Make the LocalVolume.
    CreateVolume(Box<LocalVolume>),
    /// Delete the LocalVolume, if it still is the one with this UID.
    DeleteVolume {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Make the PersistentVolume.
    CreatePersistent(Box<PersistentVolume>),
    /// Raise the size of the LocalVolume.
    Grow {
        /// Its name.
        name: String,
        /// Bytes.
        to: u64,
    },
    /// Say how large the PersistentVolume is.
    Capacity {
        /// Its name.
        name: String,
        /// Bytes.
        bytes: u64,
    },
    /// Write these annotations of the claim.
    Annotate(BTreeMap<&'static str, &'static str>),
    /// Write the claim's status.
    WriteStatus(Box<PersistentVolumeClaimStatus>),
    /// Record an Event.
    RecordEvent(Event),
}

/// What to do, in order; a step that fails ends the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// Reconcile again after this long.
    pub requeue: Option<Duration>,
}

impl Plan {
    /// There can be no volume as things are.
    fn refuse(mut self, why: impl Into<String>) -> Self {
        self.actions.push(Action::RecordEvent(Event::warning(FAILED, why)));
        self.requeue = Some(WAIT);
        self
    }

    /// The volumes that it makes or grows, as they are to become; `own` is the claim's.
    pub fn booked(&self, own: Option<&LocalVolume>) -> Vec<LocalVolume> {
        let volume = |action: &Action| match action {
            Action::CreateVolume(volume) => Some(LocalVolume::clone(volume)),
            Action::Grow { to, .. } => own.cloned().map(|mut own| {
                own.spec.size_bytes = *to;
                own
            }),
            _ => None,
        };
        self.actions.iter().filter_map(volume).collect()
    }
}

/// Decides.
pub fn plan(observed: &Observed, now: Timestamp) -> Result<Plan, serde_json::Error> {
    if observed.claim.metadata.deletion_timestamp.is_some() {
        return Ok(Plan::default()); // [`crate::volumes::reclaim`] follows
    }
    let mut plan = next(observed, now)?;
    let annotations = upload::changes(observed.claim, observed.volume);
    if !annotations.is_empty() {
        plan.actions.push(Action::Annotate(annotations));
    }
    Ok(plan)
}

/// What brings the claim to its volume.
fn next(observed: &Observed, now: Timestamp) -> Result<Plan, serde_json::Error> {
    let claim = observed.claim;
    let volume_name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if !volume_name.is_empty() {
        return Ok(grow::plan(observed, now));
    }
    if observed.persistent.is_some() {
        // It refers to the claim and its volume already, whatever the claim's node says since: binding them is Kubernetes'.
        return Ok(Plan::default());
    }
    if let Some(why) = refused(observed) {
        return Ok(Plan::default().refuse(why));
    }
    let (wanted, found) = match &observed.source {
        Ok((wanted, found)) => (wanted, found),
        Err(why) => return Ok(Plan::default().refuse(why)),
    };
    let asked = room::bytes(requested(claim));
    let (source, pinned) = match (wanted, found) {
        (Wanted::Anywhere(source), _) => (VolumeSource::clone(source), None),
        (_, Some(Ok(origin))) => {
            if origin.pool != pool_of(observed.class) {
                let why = format!(
                    "the source of the copy is in pool {}, and StorageClass {} uses pool {}",
                    origin.pool,
                    observed.class.metadata.name.as_deref().unwrap_or_default(),
                    pool_of(observed.class)
                );
                return Ok(Plan::default().refuse(why));
            }
            if room::extents(asked) < origin.bytes {
                let least = room::quantity(origin.bytes).0;
                return Ok(
                    Plan::default().refuse(format!("a copy is at least as large as its origin: {least}"))
                );
            }
            (origin.source.clone(), Some(origin.node.as_str()))
        }
        (_, Some(Err(why))) => return Ok(Plan::default().refuse(why)),
        (_, None) => return Ok(Plan { requeue: Some(WAIT), ..Plan::default() }),
    };
    let selected = annotation(claim, SELECTED_NODE_ANNOTATION);
    match (selected, pinned) {
        (Some(node), Some(origin)) if node != origin => Ok(pin(origin)),
        (None, Some(origin)) => Ok(pin(origin)),
        (None, None) if annotation(claim, IMMEDIATE_ANNOTATION).is_some() => Ok(at_once(observed, asked)),
        (None, None) => Ok(Plan::default()), // the scheduler's turn
        (Some(node), _) => place(observed, node, asked, source, pinned.is_some()),
    }
}

fn pin(node: &str) -> Plan {
    Plan { actions: vec![Action::Pin(node.into())], ..Plan::default() }
}

/// It is wanted before anything uses it: on the node with most free space.
fn at_once(observed: &Observed, asked: u64) -> Plan {
    let of_class = observed.pools.iter().filter(|pool| pool.spec.pool == pool_of(observed.class));
    let rooms = of_class.map(|pool| (Room::of(pool, observed.volumes).left, pool.spec.node_name.as_str()));
    match rooms.max() {
        Some((left, node)) if left >= room::extents(asked) => pin(node),
        _ => {
            let asked = room::quantity(room::extents(asked)).0;
            Plan::default()
                .refuse(format!("no node has {asked} free in its pool {}", pool_of(observed.class)))
        }
    }
}

/// On `node`, which was chosen: is there a volume, is it the right one, is it ready?
fn place(
    observed: &Observed,
    node: &str,
    asked: u64,
    source: VolumeSource,
    pinned: bool,
) -> Result<Plan, serde_json::Error> {
    let mut plan = Plan::default();
    let name = name_for(observed.claim);
    let Some(volume) = observed.volume else {
        return Ok(make(observed, node, asked, source, pinned));
    };
    if volume.metadata.deletion_timestamp.is_some() {
        return Ok(plan); // its going is a change
    }
    let delete = |volume: &LocalVolume| Action::DeleteVolume {
        name: name.clone(),
        uid: volume.metadata.uid.clone().unwrap_or_default(),
    };
    if volume.spec.node_name != node {
        plan.actions.push(delete(volume));
        return Ok(plan);
    }
    let phase = volume.status.as_ref().and_then(|status| status.phase);
    let why = volume.why();
    let elsewhere = why.is_some_and(|(reason, _)| reason.is_for_another_node());
    match phase {
        Some(VolumePhase::Ready) => {
            let persistent = made::persistent(observed.claim, observed.class, volume)?;
            plan.actions.push(Action::CreatePersistent(Box::new(persistent)));
            let note = format!("made volume {name} on {node}");
            plan.actions.push(Action::RecordEvent(Event::normal("ProvisioningSucceeded", note)));
        }
        Some(VolumePhase::Pending | VolumePhase::Failed) if elsewhere && !pinned => {
            plan.actions.push(delete(volume));
            plan.actions.push(Action::Reschedule);
            let message = why.map(|(_, message)| message).unwrap_or_default();
            plan = plan.refuse(format!("{node} cannot hold the volume: {message}"));
        }
        Some(VolumePhase::Pending | VolumePhase::Failed) => {
            if let Some((_, message)) = why.filter(|(_, message)| !message.is_empty()) {
                let note = format!("volume {name} on {node}: {message}");
                // virtctl takes no further upload of a claim with an Event of the other reason.
                let reason = if volume.spec.source.upload.is_some() { UPLOAD_FAILED } else { FAILED };
                plan.actions.push(Action::RecordEvent(Event::warning(reason, note)));
            }
        }
        _ => {}
    }
    Ok(plan)
}

/// There is no volume yet: is one made?
fn make(observed: &Observed, node: &str, asked: u64, source: VolumeSource, pinned: bool) -> Plan {
    let mut plan = Plan::default();
    let bytes = room::extents(asked);
    let fits = match room::find(observed.pools, node, pool_of(observed.class)) {
        None => Err(format!("{node} has no pool {}", pool_of(observed.class))),
        Some(pool) => Room::of(pool, observed.volumes).fits(bytes, pool),
    };
    match fits {
        Ok(()) => {
            let volume = made::volume(observed.claim, observed.class, node, bytes, source);
            plan.actions.push(Action::CreateVolume(Box::new(volume)));
            plan
        }
        Err(why) if pinned => plan.refuse(format!("{why}; a copy can be made on no other node")),
        Err(why) => {
            plan.actions.push(Action::Reschedule);
            plan.refuse(format!("{why}; the scheduler looks for another node"))
        }
    }
}

/// Why there can be no volume for such a claim at all.
fn refused(observed: &Observed) -> Option<String> {
    let spec = observed.claim.spec.clone().unwrap_or_default();
    let modes = spec.access_modes.unwrap_or_default();
    let class = observed.class.metadata.name.as_deref().unwrap_or_default();
    if let Some(mode) =
        modes.iter().find(|mode| !matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"))
    {
        return Some(format!(
            "accessModes has {mode}; volumes of {VOLUME_DRIVER} are on one node: use ReadWriteOnce"
        ));
    }
    if spec.selector.is_some() {
        return Some(format!(
            "selector selects an existing volume, and StorageClass {class} provisions a new one: remove it"
        ));
    }
    if observed.class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer") {
        return Some(format!(
            "StorageClass {class} has volumeBindingMode Immediate, and {VOLUME_DRIVER} provisions volumes on the nodes that use them: \
             recreate the class with WaitForFirstConsumer"
        ));
    }
    (room::bytes(requested(observed.claim)) == 0).then(|| "resources.requests.storage is zero".to_string())
}

/// How large the claim asks to be.
pub fn requested(
    claim: &PersistentVolumeClaim,
) -> Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

#[cfg(test)]
mod tests;
