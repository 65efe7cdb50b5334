//! Decides what one claim of ours needs next: a node, a volume, its binding, more space.
//!
//! Why here: pure, so that every turn of a claim's life is a test; that nothing is promised twice follows from the
//! caller's booking. The scheduler chooses the node of a new volume and is sent back when it does not fit there; a copy
//! is bound to its origin's node from the start. Route in: [`Seen`]. Route out: a [`Plan`].

use std::time::Duration;

use k8s_openapi::{
    api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus},
        storage::v1::StorageClass,
    },
    jiff::Timestamp,
};
use sheaf_api::{
    names::{IMMEDIATE_ANNOTATION, SELECTED_NODE_ANNOTATION, TRUE, VOLUME_DRIVER},
    storage::{
        LocalVolume, StoragePool,
        local_volume::{VolumePhase, VolumeSource},
    },
};

use super::{
    grow, made,
    source::{Found, Wanted},
};
use crate::{
    tell::News,
    volumes::{
        annotation, name_for, pool_of,
        room::{self, Room},
    },
};

/// Until a claim is looked at again that waits for something which is not watched: space, an origin.
const WAIT: Duration = Duration::from_secs(15);
/// A claim's reason in Events when there can be no volume; Kubernetes' own provisioner has the same.
const FAILED: &str = "ProvisioningFailed";

/// What a decision is made from.
pub struct Seen<'a> {
    /// The claim.
    pub claim: &'a PersistentVolumeClaim,
    /// Its class, one of ours.
    pub class: &'a StorageClass,
    /// Every pool.
    pub pools: &'a [StoragePool],
    /// Every LocalVolume.
    pub volumes: &'a [LocalVolume],
    /// Its PersistentVolume.
    pub persistent: Option<&'a PersistentVolume>,
    /// What is in it at first: as it is asked for, and for a copy the origin. A sentence if it can not be had.
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
    /// Tell people.
    Tell(News),
}

/// What to do, in order, the claim's status after it, and when to look again without a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// The status, if it changes.
    pub status: Option<PersistentVolumeClaimStatus>,
    /// Look again after this long.
    pub again: Option<Duration>,
}

impl Plan {
    /// There can be no volume as things are.
    fn refuse(mut self, why: impl Into<String>) -> Self {
        self.actions.push(Action::Tell(News::warning(FAILED, why)));
        self.again = Some(WAIT);
        self
    }
}

/// Decides.
pub fn plan(seen: &Seen, now: Timestamp) -> Result<Plan, serde_json::Error> {
    let claim = seen.claim;
    if claim.metadata.deletion_timestamp.is_some() {
        return Ok(Plan::default()); // [`crate::volumes::reclaim`] follows
    }
    let volume_name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if !volume_name.is_empty() {
        return Ok(grow::plan(seen, now));
    }
    if let Some(why) = refused(seen) {
        return Ok(Plan::default().refuse(why));
    }
    let (wanted, found) = match &seen.source {
        Ok((wanted, found)) => (wanted, found),
        Err(why) => return Ok(Plan::default().refuse(why)),
    };
    let asked = room::bytes(requested(claim));
    let (source, pinned) = match (wanted, found) {
        (Wanted::Anywhere(source), _) => (source.clone(), None),
        (_, Some(Ok(origin))) => {
            if origin.pool != pool_of(seen.class) {
                let why = format!(
                    "what is to be copied lies in pool {}, and StorageClass {} takes from pool {}",
                    origin.pool,
                    seen.class.metadata.name.as_deref().unwrap_or_default(),
                    pool_of(seen.class)
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
        (_, None) => return Ok(Plan { again: Some(WAIT), ..Plan::default() }),
    };
    let selected = annotation(claim, SELECTED_NODE_ANNOTATION);
    match (selected, pinned) {
        (Some(node), Some(origin)) if node != origin => Ok(pin(origin)),
        (None, Some(origin)) => Ok(pin(origin)),
        (None, None) if annotation(claim, IMMEDIATE_ANNOTATION) == Some(TRUE) => Ok(at_once(seen, asked)),
        (None, None) => Ok(Plan::default()), // the scheduler's turn
        (Some(node), _) => place(seen, node, asked, source, pinned.is_some()),
    }
}

fn pin(node: &str) -> Plan {
    Plan { actions: vec![Action::Pin(node.into())], ..Plan::default() }
}

/// Nobody uses it yet, and it is wanted all the same: where there is most room.
fn at_once(seen: &Seen, asked: u64) -> Plan {
    let of_class = seen.pools.iter().filter(|pool| pool.spec.pool == pool_of(seen.class));
    let rooms = of_class.map(|pool| (Room::of(pool, seen.volumes).left, pool.spec.node_name.as_str()));
    match rooms.max() {
        Some((left, node)) if left >= room::extents(asked) => pin(node),
        _ => {
            let asked = room::quantity(room::extents(asked)).0;
            Plan::default()
                .refuse(format!("no node has {asked} left to promise in its pool {}", pool_of(seen.class)))
        }
    }
}

/// On `node`, which was chosen: is there a volume, is it the right one, is it ready?
fn place(
    seen: &Seen,
    node: &str,
    asked: u64,
    source: VolumeSource,
    pinned: bool,
) -> Result<Plan, serde_json::Error> {
    let mut plan = Plan::default();
    let name = name_for(seen.claim);
    let Some(volume) = seen.volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(&name))
    else {
        return Ok(make(seen, node, asked, source, pinned));
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
        Some(VolumePhase::Ready) if seen.persistent.is_none() => {
            let persistent = made::persistent(seen.claim, seen.class, volume)?;
            plan.actions.push(Action::CreatePersistent(Box::new(persistent)));
            let note = format!("made volume {name} on {node}");
            plan.actions.push(Action::Tell(News::normal("ProvisioningSucceeded", note)));
        }
        Some(VolumePhase::Pending | VolumePhase::Failed) if elsewhere && !pinned => {
            plan.actions.push(delete(volume));
            plan.actions.push(Action::Reschedule);
            let said = why.map(|(_, message)| message).unwrap_or_default();
            plan = plan.refuse(format!("{node} can not hold the volume: {said}"));
        }
        Some(VolumePhase::Pending | VolumePhase::Failed) => {
            if let Some((_, said)) = why.filter(|(_, said)| !said.is_empty()) {
                let note = format!("volume {name} on {node}: {said}");
                plan.actions.push(Action::Tell(News::warning(FAILED, note)));
            }
        }
        _ => {}
    }
    Ok(plan)
}

/// There is no volume yet: may there be one?
fn make(seen: &Seen, node: &str, asked: u64, source: VolumeSource, pinned: bool) -> Plan {
    let mut plan = Plan::default();
    let bytes = room::extents(asked);
    let fits = match room::find(seen.pools, node, pool_of(seen.class)) {
        None => Err(format!("{node} has no pool {}", pool_of(seen.class))),
        Some(pool) => Room::of(pool, seen.volumes).fits(bytes, pool),
    };
    match fits {
        Ok(()) => {
            let volume = made::volume(seen.claim, seen.class, node, bytes, source);
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
fn refused(seen: &Seen) -> Option<String> {
    let spec = seen.claim.spec.clone().unwrap_or_default();
    let modes = spec.access_modes.unwrap_or_default();
    let class = seen.class.metadata.name.as_deref().unwrap_or_default();
    if let Some(mode) =
        modes.iter().find(|mode| !matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"))
    {
        return Some(format!(
            "accessModes has {mode}, and a volume of {VOLUME_DRIVER} lies on one node: use ReadWriteOnce"
        ));
    }
    if spec.selector.is_some() {
        return Some(format!(
            "selector chooses among volumes that exist, and StorageClass {class} makes them: remove it"
        ));
    }
    if seen.class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer") {
        return Some(format!(
            "StorageClass {class} has volumeBindingMode Immediate, and {VOLUME_DRIVER} makes volumes where they are used: \
             make the class anew with WaitForFirstConsumer"
        ));
    }
    (room::bytes(requested(seen.claim)) == 0).then(|| "resources.requests.storage is zero".to_string())
}

/// How large the claim asks to be.
pub fn requested(
    claim: &PersistentVolumeClaim,
) -> Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

#[cfg(test)]
mod tests;
