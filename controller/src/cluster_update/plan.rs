//! Which node is begun, followed, stopped and uncordoned. Pure.
//!
//! Why here: every rule about who may restart when is in this file, so that each is a test. What the objects say is all that is
//! known: a controller that died between any two actions is followed by one that decides the same. Route in: [`Observed`], the
//! time. Route out: a list of [`Action`]s, and the status.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::apis::meta::v1::OwnerReference, jiff::Timestamp};
use kube::{Resource as _, ResourceExt as _, api::ObjectMeta};
use sheaf_api::{
    cluster_update::{ClusterUpdate, ClusterUpdateStatus, Phase},
    names::CLUSTER_UPDATE_FINALIZER,
    node_update::{Action as Goes, NodeUpdate, Phase as Reported},
};

use super::{
    report,
    standing::{Member, Observed, Standing, holder, is_restarting, members, phase, wanted},
    window,
};
use crate::{nodes::is_cordoned, object::has_finalizer, replicas::owns};

/// Between two looks while nodes are on the way. No watch: a node writes how far its steps are many times a minute, and each
/// look lists all nodes.
const BUSY: Duration = Duration::from_secs(5);
/// Between two looks while nothing is: somebody resumes it, deletes a NodeUpdate, or a node becomes Ready.
const CALM: Duration = Duration::from_secs(30);
/// After actions: to look at what came of them.
const AGAIN: Duration = Duration::from_secs(1);

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Be asked before the ClusterUpdate is gone.
    AddFinalizer,
    /// Let it be gone.
    RemoveFinalizer,
    /// Cordon the Node, and note on it who did.
    Cordon(Box<Node>),
    /// Uncordon the Node, and remove the note.
    Uncordon(Box<Node>),
    /// Create the NodeUpdate.
    Create(Box<NodeUpdate>),
    /// Give the NodeUpdate this spec and this owner, if it is as it was read.
    Change {
        /// As it was read.
        before: Box<NodeUpdate>,
        /// As it shall be.
        after: Box<NodeUpdate>,
    },
    /// Have the node go no further than to judge the release: its answer says whether it restarts.
    Hold(Box<NodeUpdate>),
    /// Delete the NodeUpdate, if it is as it was read.
    Delete(Box<NodeUpdate>),
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In order; one that fails ends the plan.
    pub actions: Vec<Action>,
    /// The status once they are done.
    pub status: ClusterUpdateStatus,
    /// Look again after this long.
    pub requeue: Option<Duration>,
}

/// Why no further node is begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Another ClusterUpdate is not finished.
    Behind {
        /// Its name.
        name: String,
        /// Where it stands.
        phase: Phase,
    },
    /// A node ended without the release.
    Failed,
    /// `spec.paused`.
    Paused,
    /// The window is closed until this time.
    Closed(Timestamp),
}

/// Decides.
pub fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let update = observed.update;
    let is_deleted = update.metadata.deletion_timestamp.is_some();
    if is_finished(update) && !is_deleted {
        let status = update.status.clone().unwrap_or_default();
        return Plan { actions: Vec::new(), status, requeue: None };
    }
    let members = members(observed);
    if !is_deleted && !has_finalizer(update, CLUSTER_UPDATE_FINALIZER) {
        // Nothing is cordoned before somebody is bound to uncordon it.
        let status = update.status.clone().unwrap_or_default();
        return Plan { actions: vec![Action::AddFinalizer], status, requeue: Some(AGAIN) };
    }
    let is_over = is_deleted || update.spec.cancelled;
    let mut actions = Vec::new();
    for member in &members {
        match is_over || !member.is_meant {
            true => actions.extend(dismiss(member)),
            false => actions.extend(follow(update, member)),
        }
    }
    let halt = halt(observed, &members, now);
    let turns = match is_over || halt.is_some() {
        true => Vec::new(),
        false => turns(update, &members),
    };
    for member in members.iter().filter(|member| member.is_meant && !is_over) {
        // It was cordoned, and then the controller died or its turn passed.
        let is_unused = member.is_held && matches!(member.standing, Standing::Waiting | Standing::Blocked(_));
        if is_unused && member.own().is_none() && !turns.contains(&member.name) {
            actions.push(Action::Uncordon(Box::new(member.node.clone())));
        }
    }
    for member in members.iter().filter(|member| turns.contains(&member.name)) {
        actions.extend(begin(update, member));
    }
    let is_free = !members.iter().any(|member| member.is_held || to_dismiss(member).is_some());
    if is_deleted && is_free && has_finalizer(update, CLUSTER_UPDATE_FINALIZER) {
        actions.push(Action::RemoveFinalizer);
    }
    let outcome = report::Outcome {
        members: &members,
        turns: &turns,
        halt: halt.as_ref(),
        is_over,
        is_settled: actions.is_empty(),
        now,
    };
    let status = report::status(update, &outcome);
    let requeue = requeue(&actions, &status, halt.as_ref(), now);
    Plan { actions, status, requeue }
}

/// Whether nothing follows any more, whatever becomes of the nodes: an update that came to its end would otherwise bring
/// back its release to a node that a later one has updated.
fn is_finished(update: &ClusterUpdate) -> bool {
    update.status.as_ref().is_some_and(is_final)
}

fn is_final(status: &ClusterUpdateStatus) -> bool {
    match status.phase {
        Some(Phase::Updated) => true,
        Some(Phase::Cancelled) => status.updating_nodes.is_empty(),
        _ => false,
    }
}

fn requeue(
    actions: &[Action],
    status: &ClusterUpdateStatus,
    halt: Option<&Halt>,
    now: Timestamp,
) -> Option<Duration> {
    if !actions.is_empty() {
        return Some(AGAIN);
    }
    if is_final(status) {
        return None;
    }
    if !status.updating_nodes.is_empty() {
        return Some(BUSY);
    }
    match halt {
        Some(Halt::Closed(until)) => {
            let left = until.duration_since(now).unsigned_abs();
            Some(left.clamp(AGAIN, CALM))
        }
        Some(Halt::Behind { .. }) => Some(BUSY),
        _ => Some(CALM),
    }
}

/// Why no further node is begun, the gravest first.
fn halt(observed: &Observed<'_>, members: &[Member<'_>], now: Timestamp) -> Option<Halt> {
    let update = observed.update;
    if let Some(first) = first(observed).filter(|first| first.metadata.uid != update.metadata.uid) {
        let phase = first.status.as_ref().and_then(|status| status.phase).unwrap_or(Phase::Pending);
        return Some(Halt::Behind { name: first.name_any(), phase });
    }
    let has_failed = |member: &Member<'_>| member.is_meant && matches!(member.standing, Standing::Ended(..));
    if members.iter().any(has_failed) {
        return Some(Halt::Failed);
    }
    if update.spec.paused {
        return Some(Halt::Paused);
    }
    let closed = update.spec.window.as_ref().filter(|window| !window::is_open(window, now));
    closed.map(|window| Halt::Closed(window::opens(window, now)))
}

/// The ClusterUpdate whose turn it is: the one that has begun, else the oldest.
fn first<'a>(observed: &Observed<'a>) -> Option<&'a ClusterUpdate> {
    let has_begun = |update: &ClusterUpdate| {
        let holds = observed.nodes.iter().any(|node| holder(node) == update.metadata.name.as_deref());
        let asks = observed.requests.iter().any(|request| owns(update.metadata.uid.as_deref(), request));
        let phase = update.status.as_ref().and_then(|status| status.phase);
        holds || asks || !matches!(phase, None | Some(Phase::Pending))
    };
    let age = |update: &ClusterUpdate| update.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let open = observed.all.iter().filter(|update| !is_finished(update));
    open.min_by_key(|update| (!has_begun(update), age(update), update.name_any()))
}

/// The nodes to begin: control-plane nodes first and one at a time, then others; none beyond what may be unavailable.
fn turns<'a>(update: &ClusterUpdate, members: &[Member<'a>]) -> Vec<&'a str> {
    let (plane, others): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.is_control_plane);
    let unavailable = |of: &[&Member<'_>]| of.iter().filter(|member| member.is_unavailable()).count();
    let is_meant = |member: &&&Member<'_>| member.is_meant;
    if !plane.iter().filter(is_meant).all(|member| member.standing == Standing::Updated) {
        return next(&plane, 1_usize.saturating_sub(unavailable(&plane)));
    }
    let most = usize::try_from(update.spec.max_unavailable.max(1)).unwrap_or(usize::MAX);
    next(&others, most.saturating_sub(unavailable(&others)))
}

/// So many of those that wait: first those that are cordoned for it already, then by name.
fn next<'a>(of: &[&Member<'a>], places: usize) -> Vec<&'a str> {
    let is_waiting = |member: &&&Member<'_>| member.is_meant && member.standing == Standing::Waiting;
    let mut waiting: Vec<_> = of.iter().filter(is_waiting).collect();
    waiting.sort_by_key(|member| (!member.is_held, member.name));
    waiting.into_iter().take(places).map(|member| member.name).collect()
}

/// What begins a node.
fn begin(update: &ClusterUpdate, member: &Member<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    // One that a person cordoned stays as it is. What another ClusterUpdate left cordoned is taken over.
    let is_by_hand = is_cordoned(member.node) && holder(member.node).is_none();
    if !(is_by_hand || member.is_held && is_cordoned(member.node)) {
        actions.push(Action::Cordon(Box::new(member.node.clone())));
    }
    let made = made(update, member.name);
    actions.push(match &member.request {
        Some((before, _)) => Action::Change { before: Box::new((*before).clone()), after: Box::new(made) },
        None => Action::Create(Box::new(made)),
    });
    actions
}

/// The NodeUpdate of a node.
fn made(update: &ClusterUpdate, node: &str) -> NodeUpdate {
    let owner = OwnerReference {
        api_version: ClusterUpdate::api_version(&()).into_owned(),
        kind: ClusterUpdate::kind(&()).into_owned(),
        name: update.name_any(),
        uid: update.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        // Not blocking: `kubectl delete --cascade=foreground` would delete the NodeUpdates of nodes that restart.
        block_owner_deletion: None,
    };
    NodeUpdate {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: wanted(update, node),
        status: None,
    }
}

/// What a node that is meant needs besides its turn.
fn follow(update: &ClusterUpdate, member: &Member<'_>) -> Option<Action> {
    match member.standing {
        Standing::Updated if member.is_held => Some(Action::Uncordon(Box::new(member.node.clone()))),
        Standing::Updating(_) => {
            let before = member.own().filter(|own| own.spec != wanted(update, member.name))?;
            let after = made(update, member.name);
            Some(Action::Change { before: Box::new(before.clone()), after: Box::new(after) })
        }
        _ => None,
    }
}

/// The NodeUpdate of a node whose update is to end, if there is one.
pub fn to_dismiss<'a>(member: &'a Member<'_>) -> Option<&'a NodeUpdate> {
    member.own().filter(|own| phase(own) != Some(Reported::Updated))
}

/// Whether the node has answered that its machine does not restart for this NodeUpdate.
pub fn goes_no_further(own: &NodeUpdate) -> bool {
    let is_held = own.spec.action == Goes::Check && phase(own).is_some();
    !is_restarting(own) && (is_held || phase(own) == Some(Reported::RolledBack))
}

/// What ends the update of a node: nothing while its machine restarts or is on trial. Its NodeUpdate is deleted only when the
/// node has answered that it goes no further; until then it may be about to restart.
fn dismiss(member: &Member<'_>) -> Option<Action> {
    match to_dismiss(member) {
        None => member.is_held.then(|| Action::Uncordon(Box::new(member.node.clone()))),
        Some(own) if goes_no_further(own) => Some(Action::Delete(Box::new(own.clone()))),
        Some(own) if is_restarting(own) || own.spec.action == Goes::Check => None,
        Some(own) => Some(Action::Hold(Box::new(own.clone()))),
    }
}

#[cfg(test)]
mod tests;
