//! Decides how a bound claim grows: LocalVolume first, then PersistentVolume, then the claim says so.
//!
//! Why here: each step waits for the one before, and no size is claimed that the node has not made. Route in: the claim and
//! what it is bound to. Route out: a [`Plan`] of the claim's controller.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaimCondition, PersistentVolumeClaimStatus},
    jiff::Timestamp,
};
use sheaf_api::storage::local_volume::RESIZED;

use super::plan::{Action, Plan, Seen, requested};
use crate::{
    conditions::seconds,
    tell::News,
    volumes::{
        handle,
        room::{self, Room},
    },
};

/// Until it is looked at again whether there is space.
const WAIT: Duration = Duration::from_secs(15);
/// A claim's condition while it grows.
const RESIZING: &str = "Resizing";
/// A claim's condition while it can not.
const ERROR: &str = "ControllerResizeError";

/// Decides.
pub fn plan(seen: &Seen, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let bound = seen.claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let (true, Some(persistent)) = (bound, seen.persistent) else { return plan };
    let volume = handle(persistent).and_then(|handle| {
        seen.volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(handle))
    });
    let Some(volume) = volume else { return plan };
    let name = volume.metadata.name.clone().unwrap_or_default();
    let before = seen.claim.status.clone().unwrap_or_default();
    let mut status = before.clone();

    let want = room::extents(room::bytes(requested(seen.claim)));
    let made = volume.status.as_ref().and_then(|status| status.size_bytes).unwrap_or_default();
    if room::extents(volume.spec.size_bytes) < want {
        let more = want.saturating_sub(room::size(volume));
        let fits = match room::find(seen.pools, &volume.spec.node_name, &volume.spec.pool) {
            None => Err(format!("{} has no pool {}", volume.spec.node_name, volume.spec.pool)),
            Some(pool) => Room::of(pool, seen.volumes).fits(more, pool),
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
                plan.actions.push(Action::Tell(News::warning("VolumeResizeFailed", note)));
                plan.again = Some(WAIT);
            }
        }
    } else if made < want {
        let said = volume.status.iter().flat_map(|status| &status.conditions);
        let said = said.filter(|condition| condition.type_ == RESIZED && condition.status == "False");
        let said = said.filter_map(|condition| condition.message.clone()).next().unwrap_or_default();
        clear(&mut status, ERROR);
        set(&mut status, RESIZING, &said, now);
    } else {
        let capacity = persistent.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
        let told = room::bytes(capacity.and_then(|capacity| capacity.get("storage")));
        if told < made {
            let name = persistent.metadata.name.clone().unwrap_or_default();
            plan.actions.push(Action::Capacity { name, bytes: made });
            let note = format!("the volume has {} now", room::quantity(made).0);
            plan.actions.push(Action::Tell(News::normal("VolumeResizeSuccessful", note)));
        }
        let capacity = status.capacity.get_or_insert_default();
        if room::bytes(capacity.get("storage")) < made.max(told) {
            capacity.insert("storage".into(), room::quantity(made.max(told)));
        }
        clear(&mut status, RESIZING);
        clear(&mut status, ERROR);
    }
    plan.status = (status != before).then_some(status);
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
