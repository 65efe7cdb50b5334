//! What a ClusterUpdate says: its status, and what is new in it as Events. Pure.
//!
//! Why here: how it is said is another matter than what is done. Route in: [`Outcome`] of a decision. Route out: values that
//! the round writes.

use k8s_openapi::jiff::Timestamp;
use sheaf_api::{
    cluster_update::{ClusterUpdate, ClusterUpdateStatus, MOST_NODES, NodePhase, NodeStatus, Phase},
    node_update::NodeUpdate,
};

use super::{
    plan::{Halt, goes_no_further, to_dismiss},
    standing::{Member, Standing, is_restarting, key},
};
use crate::{
    conditions::{clear, set},
    events::Event,
};

/// How many nodes a message names.
const NAMED: usize = 3;
/// The condition while a request of the controller fails.
pub const REQUEST_FAILED: &str = "RequestFailed";

/// What was decided.
pub struct Outcome<'a> {
    /// The nodes that concern the update.
    pub members: &'a [Member<'a>],
    /// Those that are begun now.
    pub turns: &'a [&'a str],
    /// Why no other is.
    pub halt: Option<&'a Halt>,
    /// It is cancelled or being deleted.
    pub is_over: bool,
    /// There was nothing to do.
    pub is_settled: bool,
    /// The time.
    pub now: Timestamp,
}

impl Outcome<'_> {
    fn meant(&self) -> impl Iterator<Item = &Member<'_>> {
        self.members.iter().filter(|member| member.is_meant)
    }

    /// Nodes whose update is being ended.
    fn is_dismissed(&self, member: &Member<'_>) -> bool {
        (self.is_over || !member.is_meant) && (member.is_held || to_dismiss(member).is_some())
    }
}

/// A count as a status has it.
fn count(many: usize) -> u32 {
    u32::try_from(many).unwrap_or(u32::MAX)
}

/// The status of `update`.
pub fn status(update: &ClusterUpdate, outcome: &Outcome<'_>) -> ClusterUpdateStatus {
    let concerned = outcome.members.iter().filter(|member| member.is_meant || outcome.is_dismissed(member));
    let mut nodes: Vec<NodeStatus> = concerned.map(|member| entry(outcome, member)).collect();
    nodes.sort_by(|a, b| (a.phase, &a.name).cmp(&(b.phase, &b.name)));
    let total = outcome.meant().count();
    let updated = outcome.meant().filter(|member| member.standing == Standing::Updated).count();
    let failed = outcome.meant().filter(|member| matches!(member.standing, Standing::Ended(..))).count();
    let is_going = |node: &&NodeStatus| matches!(node.phase, NodePhase::Updating | NodePhase::Failed);
    let going: Vec<&NodeStatus> = nodes.iter().filter(is_going).collect();
    let mut updating: Vec<String> = going.iter().map(|node| node.name.clone()).collect();
    updating.sort();
    let phase = phase(outcome, total, updated, !going.is_empty());
    let message = message(update, outcome, phase, &going, (updated, total));
    nodes.truncate(MOST_NODES);
    let mut status = ClusterUpdateStatus {
        phase: Some(phase),
        message: Some(message),
        total: count(total),
        updated: count(updated),
        remaining: count(total.saturating_sub(updated + failed)),
        failed: count(failed),
        updating_nodes: updating,
        nodes,
        observed_generation: update.metadata.generation,
        conditions: update.status.clone().unwrap_or_default().conditions,
    };
    let truth = if phase == Phase::Updated { "True" } else { "False" };
    set(&mut status.conditions, "Updated", truth, &format!("{phase:?}"), "", outcome.now);
    clear(&mut status.conditions, REQUEST_FAILED);
    status
}

/// The status while a request fails: what was known stays.
pub fn failing(update: &ClusterUpdate, error: &str, now: Timestamp) -> ClusterUpdateStatus {
    let mut status = update.status.clone().unwrap_or_default();
    set(&mut status.conditions, REQUEST_FAILED, "True", "RequestFailed", error, now);
    status
}

/// The line of one node.
fn entry(outcome: &Outcome<'_>, member: &Member<'_>) -> NodeStatus {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (phase, message) = match &member.standing {
        _ if outcome.is_dismissed(member) => (NodePhase::Updating, Some(ending(member))),
        _ if outcome.turns.contains(&member.name) => (NodePhase::Updating, text("is begun")),
        Standing::Updated if !member.is_ready => (NodePhase::Updated, text("is not Ready")),
        Standing::Updated => (NodePhase::Updated, None),
        Standing::Waiting => (NodePhase::Waiting, None),
        Standing::Blocked(why) => (NodePhase::Blocked, text(why)),
        Standing::Updating(Some(phase)) => (NodePhase::Updating, Some(format!("{phase:?}"))),
        Standing::Updating(None) => (NodePhase::Updating, text("has not reported yet")),
        Standing::Failed(why) => (NodePhase::Failed, text(why)),
        Standing::Ended(phase, why) => (*phase, text(why)),
    };
    let request = member.request.as_ref().map(|(request, _)| key(request));
    let is_about_it = !matches!(phase, NodePhase::Waiting | NodePhase::Blocked | NodePhase::Updated);
    NodeStatus { name: member.name.to_owned(), phase, message, request: request.filter(|_| is_about_it) }
}

/// What a node whose update ends is waited for.
fn ending(member: &Member<'_>) -> String {
    let reported = |own: &NodeUpdate| own.status.as_ref().and_then(|status| status.phase);
    match to_dismiss(member) {
        Some(own) if is_restarting(own) => {
            reported(own).map_or_else(String::new, |phase| format!("{phase:?}"))
        }
        Some(own) if goes_no_further(own) => "its NodeUpdate is deleted".into(),
        Some(_) => "has not answered yet that it does not restart".into(),
        None => "is uncordoned".into(),
    }
}

fn phase(outcome: &Outcome<'_>, total: usize, updated: usize, is_going: bool) -> Phase {
    let is_quiet = outcome.is_settled && !is_going;
    match outcome.halt {
        _ if outcome.is_over => Phase::Cancelled,
        Some(Halt::Behind { .. }) => Phase::Pending,
        _ if total == 0 => Phase::Pending,
        Some(Halt::Failed) => Phase::Stopped,
        _ if updated == total && is_quiet => Phase::Updated,
        Some(Halt::Paused) if updated < total => Phase::Paused,
        Some(Halt::Closed(_)) if updated < total && !is_going => Phase::WaitingForWindow,
        _ => Phase::Updating,
    }
}

/// Some names, with what there is to say of each.
fn named(nodes: &[&NodeStatus]) -> String {
    let one = |node: &&NodeStatus| match &node.message {
        Some(message) => format!("{} ({message})", node.name),
        None => node.name.clone(),
    };
    let mut text = nodes.iter().take(NAMED).map(one).collect::<Vec<_>>().join(", ");
    if nodes.len() > NAMED {
        text.push_str(&format!(" and {} more", nodes.len() - NAMED));
    }
    text
}

fn message(
    update: &ClusterUpdate,
    outcome: &Outcome<'_>,
    phase: Phase,
    going: &[&NodeStatus],
    (updated, total): (usize, usize),
) -> String {
    let version = &update.spec.version;
    let still = || match going {
        [] => String::new(),
        going => format!("; still updating: {}", named(going)),
    };
    match (phase, outcome.halt) {
        (Phase::Cancelled, _) if going.is_empty() => {
            format!("cancelled; {updated} of {total} nodes run {version}")
        }
        (Phase::Cancelled, _) => format!("cancelled; waiting for {}", named(going)),
        (Phase::Pending, Some(Halt::Behind { name, phase })) => {
            format!("ClusterUpdate {name} is not finished ({phase:?}); this one begins after it")
        }
        (Phase::Pending, _) if update.spec.node_selector.is_none() => {
            "the cluster has no node of Sheaf".into()
        }
        (Phase::Pending, _) => "no node matches nodeSelector".into(),
        (Phase::Stopped, _) => format!("{}{}", stopped(outcome), still()),
        (Phase::Updated, _) => format!("{updated} of {total} nodes run {version}"),
        (Phase::Paused, _) => format!("paused: no node is begun{}", still()),
        (Phase::WaitingForWindow, Some(Halt::Closed(until))) => format!("no node is begun before {until}"),
        _ => progress(update, outcome, going),
    }
}

/// Which node ended it, why, and what to do.
fn stopped(outcome: &Outcome<'_>) -> String {
    let ended = outcome.meant().filter_map(|member| match &member.standing {
        Standing::Ended(phase, why) => Some((member.name, phase, why)),
        _ => None,
    });
    let ended: Vec<_> = ended.collect();
    let Some((name, phase, why)) = ended.first() else { return String::new() };
    let more = match ended.len() {
        1 => String::new(),
        number => format!(" (and {} more)", number - 1),
    };
    let why = if why.is_empty() { "its agent gives no reason" } else { why };
    format!(
        "{name}{more} ended {phase:?}: {why}; no other node is begun. To try it again, delete NodeUpdate {name}; to give \
         up, set cancelled"
    )
}

/// What is under way, and what keeps the rest.
fn progress(update: &ClusterUpdate, outcome: &Outcome<'_>, going: &[&NodeStatus]) -> String {
    let mut parts = Vec::new();
    if !going.is_empty() {
        parts.push(format!("updating {}", named(going)));
    }
    let obstacles = obstacles(outcome);
    if let Some(first) = obstacles.first() {
        let more = match obstacles.len() {
            1 => String::new(),
            number => format!(" (and {} more, see status.nodes)", number - 1),
        };
        parts.push(format!("{first}{more}"));
    }
    let (plane, others): (Vec<_>, Vec<_>) = outcome.meant().partition(|member| member.is_control_plane);
    let plane_is_done = plane.iter().all(|member| member.standing == Standing::Updated);
    let others_wait = others.iter().any(|member| member.standing == Standing::Waiting);
    match outcome.halt {
        Some(Halt::Closed(until)) => parts.push(format!("no further node is begun before {until}")),
        _ if !going.is_empty() => {}
        _ if !plane_is_done && others_wait => {
            parts.push("other nodes wait for the control plane".into());
        }
        _ if others_wait => parts.push(format!(
            "nodes that are unavailable use up maxUnavailable, which is {}",
            update.spec.max_unavailable
        )),
        _ => {}
    }
    match parts.is_empty() {
        true => format!("nodes that run {} are uncordoned", update.spec.version),
        false => parts.join("; "),
    }
}

/// Nodes that keep the update from its end, each with why, as sentences.
fn obstacles(outcome: &Outcome<'_>) -> Vec<String> {
    let plane_waits =
        outcome.meant().any(|member| member.is_control_plane && member.standing == Standing::Waiting);
    let obstacle = |member: &Member<'_>| {
        let matters = member.is_meant || member.is_control_plane && plane_waits;
        match &member.standing {
            _ if !matters || outcome.is_dismissed(member) || outcome.turns.contains(&member.name) => None,
            Standing::Blocked(why) if member.is_meant => Some(format!("{} {why}", member.name)),
            _ if member.is_meant && member.is_under_way() => None,
            _ if !member.is_ready => Some(format!("{} is not Ready", member.name)),
            _ if !member.is_meant && member.is_unavailable() => {
                Some(format!("{} is being updated by its own NodeUpdate", member.name))
            }
            _ => None,
        }
    };
    outcome.members.iter().filter_map(obstacle).collect()
}

/// What is new in `after`.
pub fn events(update: &ClusterUpdate, after: &ClusterUpdateStatus) -> Vec<Event> {
    let before = update.status.clone().unwrap_or_default();
    let mut events = Vec::new();
    for node in &after.nodes {
        let was = before.nodes.iter().find(|was| was.name == node.name).map(|was| was.phase);
        let why = node.message.as_deref().unwrap_or_default();
        let name = &node.name;
        events.extend(match node.phase {
            phase if was == Some(phase) => None,
            NodePhase::Updated if matches!(was, None | Some(NodePhase::Waiting | NodePhase::Blocked)) => None,
            NodePhase::Updated => {
                Some(Event::normal("NodeUpdated", format!("{name} runs {}", update.spec.version)))
            }
            NodePhase::Failed => {
                Some(Event::warning("NodeFailed", format!("{name}: {why}; the node tries it again")))
            }
            NodePhase::RolledBack => Some(Event::warning("NodeRolledBack", format!("{name}: {why}"))),
            NodePhase::Refused => Some(Event::warning("NodeRefused", format!("{name}: {why}"))),
            NodePhase::Updating | NodePhase::Blocked | NodePhase::Waiting => None,
        });
    }
    let message = after.message.clone().unwrap_or_default();
    events.extend(match after.phase {
        phase if phase == before.phase => None,
        Some(Phase::Stopped) => Some(Event::warning("Stopped", message)),
        Some(phase @ (Phase::WaitingForWindow | Phase::Updating | Phase::Paused)) => {
            Some(Event::normal(&format!("{phase:?}"), message))
        }
        Some(phase @ (Phase::Cancelled | Phase::Updated)) => {
            Some(Event::normal(&format!("{phase:?}"), message))
        }
        Some(Phase::Pending) | None => None,
    });
    events
}
