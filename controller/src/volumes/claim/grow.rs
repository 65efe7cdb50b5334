//! Decides how a bound claim grows: LocalVolume first, then PersistentVolume, then the claim says so.
//!
//! Why here: each step waits for the one before, and no size is claimed that the node has not made. Route in: the claim and
//! what it is bound to. Route out: a [`Plan`] of the claim's controller.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaimCondition, PersistentVolumeClaimStatus},
    jiff::Timestamp,
};
use sheaf_api::storage::{LocalVolume, local_volume::RESIZED};

use super::plan::{Action, Observed, Plan, requested};
use crate::{
    conditions::seconds,
    events::Event,
    volumes::{
        handle,
        room::{self, Room},
    },
};

/// Until it is checked again whether there is space.
const WAIT: Duration = Duration::from_secs(15);
/// A claim's condition while it grows.
const RESIZING: &str = "Resizing";
/// A claim's condition while it cannot.
const ERROR: &str = "ControllerResizeError";

/// Decides.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let bound = observed.claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let (true, Some(persistent)) = (bound, observed.persistent) else { return plan };
    let handle = handle(persistent);
    let of_claim = |volume: &&LocalVolume| handle.is_some() && volume.metadata.name.as_deref() == handle;
    let Some(volume) = observed.volume.filter(of_claim) else { return plan };
    let name = volume.metadata.name.clone().unwrap_or_default();
    let before = observed.claim.status.clone().unwrap_or_default();
    let mut status = before.clone();

    let want = room::extents(room::bytes(requested(observed.claim)));
    let made = volume.status.as_ref().and_then(|status| status.size_bytes).unwrap_or_default();
    if room::extents(volume.spec.size_bytes) < want {
        let more = want.saturating_sub(room::size(volume));
        let fits = match room::find(observed.pools, &volume.spec.node_name, &volume.spec.pool) {
            None => Err(format!("{} has no pool {}", volume.spec.node_name, volume.spec.pool)),
            Some(pool) => Room::of(pool, observed.volumes).fits(more, pool),
        };
        match fits {
            Ok(()) => {
                plan.actions.push(Action::Grow { name, to: want });
                clear(&mut status, ERROR);
                set(&mut status, RESIZING, "", now);
            }
            Err(why) => {
                let note = format!("{name} does not grow: {why}");
                clear(&mut status, RESIZING);
                set(&mut status, ERROR, &note, now);
                plan.actions.push(Action::RecordEvent(Event::warning("VolumeResizeFailed", note)));
                plan.requeue = Some(WAIT);
            }
        }
    } else if made < want {
        let message = volume.status.iter().flat_map(|status| &status.conditions);
        let message = message.filter(|condition| condition.type_ == RESIZED && condition.status == "False");
        let message = message.filter_map(|condition| condition.message.clone()).next().unwrap_or_default();
        clear(&mut status, ERROR);
        set(&mut status, RESIZING, &message, now);
    } else {
        let capacity = persistent.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
        let published = room::bytes(capacity.and_then(|capacity| capacity.get("storage")));
        if published < made {
            let name = persistent.metadata.name.clone().unwrap_or_default();
            plan.actions.push(Action::Capacity { name, bytes: made });
            let note = format!("the volume has {} now", room::quantity(made).0);
            plan.actions.push(Action::RecordEvent(Event::normal("VolumeResizeSuccessful", note)));
        }
        let capacity = status.capacity.get_or_insert_default();
        if room::bytes(capacity.get("storage")) < made.max(published) {
            capacity.insert("storage".into(), room::quantity(made.max(published)));
        }
        clear(&mut status, RESIZING);
        clear(&mut status, ERROR);
    }
    if status != before {
        plan.actions.push(Action::WriteStatus(Box::new(status)));
    }
    plan
}

fn set(status: &mut PersistentVolumeClaimStatus, type_: &str, message: &str, now: Timestamp) {
    let message = (!message.is_empty()).then(|| message.to_string());
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(condition) => condition.message = message,
        None => conditions.push(PersistentVolumeClaimCondition {
            type_: type_.into(),
            status: "True".into(),
            last_transition_time: Some(seconds(now)),
            message,
            ..PersistentVolumeClaimCondition::default()
        }),
    }
}

fn clear(status: &mut PersistentVolumeClaimStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}
