//! What follows once there is no way back: the node leaves, loses its identity, and what is left of it is deleted.
//!
//! Why here: the order counts. The agent first, so that it does not create again what is deleted; the identity next; what hangs on the
//! Node before the Node, which proves that its VMs have ended; the NodeMaintenance after it, because its end uncordons the Node. Pure.
//! Route in: [`Observed`], the status so far. Route out: the status, and steps.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use sheaf_api::{
    names::{CLAIM_ANNOTATION, LEFT_CONDITION},
    node_removal::{Loss, NodeRemovalStatus, Phase},
};

use super::{Action, declare, is_blocked, set};
use crate::{
    conditions::seconds,
    events::Event,
    node_removal::{
        checks::{bound_since, is_accepted, unconfirmed},
        losses::{has_state, name_of_machine, name_of_volume},
        observed::{Identity, Observed},
        standing::{Standing, standing},
    },
    volumes,
};

/// Seconds that a node has to leave by itself. Its agent needs a few; one that hangs is removed all the same.
pub(super) const LEAVE_WITHIN: i64 = 120;
/// Seconds after the loss of its identity, until the API server surely refuses what a node writes: it watches the record. Nothing is
/// deleted before, or an agent that still runs would create it again.
pub(super) const REFUSED_AFTER: i64 = 10;

/// The node leaves, and what is left of it is deleted.
pub(super) fn remove(o: &Observed, status: &mut NodeRemovalStatus, now: Timestamp) -> Vec<Action> {
    let losses = o.losses();
    let is_new = |loss: &&Loss| !status.losses.iter().any(|known| known.name == loss.name);
    let added: Vec<Loss> = losses.iter().filter(is_new).cloned().collect();
    status.losses.extend(added);
    let passed = |since: &Time| now.as_second().saturating_sub(since.0.as_second());
    let standing = standing(o.node.as_ref(), o.renewed, now);
    if status.revoked.is_none() {
        if o.removal.spec.wipe.is_some() && status.erasing.is_none() && reported_leaving(o) {
            status.erasing = Some(seconds(now));
        }
        let is_late = status.removing.as_ref().is_some_and(|since| passed(since) >= LEAVE_WITHIN);
        if standing == Standing::Reports && !is_late && !has_left(o) {
            set(status, Phase::Removing, format!("{} is leaving: its agent forgets its keys", o.name()));
            return Vec::new();
        }
        if o.identity != Identity::Removed {
            set(status, Phase::Removing, format!("the identity of {} is being revoked", o.name()));
            return vec![Action::Revoke];
        }
        status.revoked = Some(seconds(now));
    }
    if o.identity != Identity::Removed {
        // Whatever has this name from now on may be another machine.
        set(
            status,
            Phase::Removed,
            format!("the name {} was released before everything of the former node was deleted", o.name()),
        );
        return vec![Action::RemoveFinalizer];
    }
    if status.revoked.as_ref().is_some_and(|since| passed(since) < REFUSED_AFTER) {
        set(status, Phase::Removing, format!("{} has no identity any more", o.name()));
        return Vec::new();
    }
    if !o.pods.is_empty() {
        if standing != Standing::Reports
            && o.removal.spec.powered_off
            && let Err(steps) = declare(o, status)
        {
            return steps;
        }
        is_blocked(status, Phase::Removing, bound_since(o).into_iter().collect());
        return Vec::new();
    }
    // The node cannot come back, so an image that another node has deleted since is no reason to stop here.
    let kept: Vec<Loss> = losses.into_iter().filter(|loss| !loss.name.starts_with("Image/")).collect();
    let is_open = is_blocked(status, Phase::Removing, unconfirmed(o, &kept));
    let mut steps = confirmed(o);
    if is_open {
        return steps;
    }
    set(status, Phase::Removing, format!("what is left of {} is being deleted", o.name()));
    steps.extend(o.leftovers.iter().cloned().map(Action::Delete));
    if !steps.is_empty() {
        return steps;
    }
    if let Some(node) = &o.node {
        return vec![Action::DeleteNode(node.metadata.uid.clone().unwrap_or_default())];
    }
    // After the Node: its end uncordons it, and asks for the start of VMs that do not start by themselves.
    if let Some(found) = &o.maintenance {
        let open = Some(found).filter(|found| found.metadata.deletion_timestamp.is_none());
        return open
            .and_then(|found| found.metadata.uid.clone())
            .map(Action::DeleteMaintenance)
            .into_iter()
            .collect();
    }
    let erased = match (&o.removal.spec.wipe, &status.erasing) {
        (None, _) => "",
        (Some(_), Some(_)) => ". It erases itself; its screen shows when that is done",
        (Some(_), None) => {
            ". It did not leave in time, so it is not erased: erase its disks before they leave the house"
        }
    };
    set(
        status,
        Phase::Removed,
        format!(
            "nothing of {0} is left; its name is free for another machine after `sheaf-agent node release {0}`{erased}",
            o.name()
        ),
    );
    vec![Action::RemoveFinalizer]
}

/// What is lost and was confirmed, and what was being deleted and waits for its node.
fn confirmed(o: &Observed) -> Vec<Action> {
    let mut steps = Vec::new();
    for volume in &o.volumes {
        let is_leaving = volume.metadata.deletion_timestamp.is_some();
        if !is_leaving && !is_accepted(o, &name_of_volume(volume)) {
            continue;
        }
        let claim = volumes::annotation(volume, CLAIM_ANNOTATION).and_then(volumes::split);
        if let Some((namespace, name)) = claim.filter(|_| !is_leaving) {
            let note = format!(
                "its volume was on node {} only, which was removed: delete the claim, and restore its contents from a backup",
                o.name()
            );
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            steps.push(Action::ClaimEvent { namespace, name, event: Event::warning("VolumeLost", note) });
        }
        steps.push(Action::DeleteVolume(Box::new(volume.clone())));
    }
    let stateful = o.machines.iter().filter(|machine| has_state(o.name(), machine));
    steps.extend(stateful.filter(|machine| is_accepted(o, &name_of_machine(machine))).map(|machine| {
        let ended = o.ended.iter().find(|ended| {
            (&ended.metadata.namespace, &ended.metadata.name)
                == (&machine.metadata.namespace, &machine.metadata.name)
        });
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        // The controller of VMs takes the node of the last run from it.
        match ended.map(|ended| &ended.metadata) {
            Some(meta) => Action::DeleteInstance {
                namespace: text(&meta.namespace),
                name: text(&meta.name),
                uid: text(&meta.uid),
            },
            None => Action::ForgetState(Box::new(machine.clone())),
        }
    }));
    steps
}

/// Whether the node's agent reported that it has left, or another Node has the name.
fn has_left(o: &Observed) -> bool {
    o.node.is_none() || reported_leaving(o)
}

/// Whether the node's agent reported that it has left.
fn reported_leaving(o: &Observed) -> bool {
    let conditions = o
        .node
        .iter()
        .flat_map(|node| node.status.iter())
        .flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|found| found.type_ == LEFT_CONDITION && found.status == "True")
}
