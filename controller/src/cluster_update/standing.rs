//! Where each node stands. Pure.
//!
//! Why here: what is to be done follows from this alone; and only here it is judged whose a NodeUpdate is, and whether its
//! status is about what it asks for now. Route in: what was read from the API server. Route out: a [`Member`] for each node
//! that concerns the update.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use sheaf_api::{
    cluster_update::{ClusterUpdate, NodePhase},
    names::{CORDONED_BY_ANNOTATION, TRUE, VM_NODE_LABEL},
    node_update::{Action, NodeUpdate, NodeUpdateSpec, Phase},
    selector,
};

use crate::{nodes::addresses::is_control_plane, replicas::owns};
use kube::core::SelectorExt as _;

/// What a decision is made from. Nodes are read before NodeUpdates, so that a node that was begun is seen in one of the two.
pub struct Observed<'a> {
    /// The ClusterUpdate.
    pub update: &'a ClusterUpdate,
    /// All of them.
    pub all: &'a [ClusterUpdate],
    /// All Nodes.
    pub nodes: &'a [Node],
    /// All NodeUpdates.
    pub requests: &'a [NodeUpdate],
}

/// Whose a NodeUpdate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Of this ClusterUpdate.
    This,
    /// Of the ClusterUpdate of this name.
    Other(String),
    /// Somebody made it by hand.
    Person,
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs the version, and keeps it.
    Updated,
    /// It is to be begun.
    Waiting,
    /// It is not begun: why, as what follows its name in a sentence.
    Blocked(String),
    /// It is on the way, as far as its agent has reported.
    Updating(Option<Phase>),
    /// A step failed and is tried again.
    Failed(String),
    /// It refused the release, or rolled it back.
    Ended(NodePhase, String),
}

/// A node that concerns the update.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Its name.
    pub name: &'a str,
    /// The Node.
    pub node: &'a Node,
    /// The selector matches it.
    pub is_meant: bool,
    /// It is of the control plane.
    pub is_control_plane: bool,
    /// The Node is Ready.
    pub is_ready: bool,
    /// This ClusterUpdate cordoned it.
    pub is_held: bool,
    /// Its NodeUpdate, with whose it is.
    pub request: Option<(&'a NodeUpdate, Owner)>,
    /// Where it stands.
    pub standing: Standing,
}

impl Member<'_> {
    /// Its NodeUpdate, if it is of this ClusterUpdate.
    pub fn own(&self) -> Option<&NodeUpdate> {
        self.request.as_ref().filter(|(_, owner)| *owner == Owner::This).map(|(request, _)| *request)
    }

    /// Whether it is on the way.
    pub fn is_under_way(&self) -> bool {
        matches!(self.standing, Standing::Updating(_) | Standing::Failed(_))
    }

    /// Whether it takes one of the places of those that may be unavailable: it is not Ready, it may restart at any moment, or
    /// it is cordoned and not about to be uncordoned.
    pub fn is_unavailable(&self) -> bool {
        let is_active = self.request.as_ref().is_some_and(|(request, _)| is_active(request));
        let is_open = self.own().is_some_and(|own| phase(own) != Some(Phase::Updated));
        let is_kept = self.is_held && !matches!(self.standing, Standing::Updated | Standing::Waiting);
        !self.is_ready || is_active || is_open || is_kept
    }
}

/// Longest text that is taken over from what a node reports, in bytes.
const REPORT_MAX: usize = 400;

/// What the node says about where it stands; a node may write as much as it likes.
fn report(request: &NodeUpdate) -> String {
    let text = request.status.as_ref().and_then(|status| status.message.as_deref()).unwrap_or_default();
    text[..text.floor_char_boundary(REPORT_MAX)].to_owned()
}

/// The phase of `request`, if its agent has observed what it asks for now.
pub fn phase(request: &NodeUpdate) -> Option<Phase> {
    let status = request.status.as_ref()?;
    let is_now =
        status.observed_generation.is_some() && status.observed_generation == request.metadata.generation;
    status.phase.filter(|_| is_now)
}

/// Whether the machine restarts or is on trial, whatever its NodeUpdate asks for by now.
pub fn is_restarting(request: &NodeUpdate) -> bool {
    let phase = request.status.as_ref().and_then(|status| status.phase);
    matches!(phase, Some(Phase::Restarting | Phase::OnTrial))
}

/// Whether the node does, or is about to do, what the NodeUpdate asks for: it may restart at any moment.
pub fn is_active(request: &NodeUpdate) -> bool {
    let is_over =
        matches!(phase(request), Some(Phase::Updated | Phase::RolledBack | Phase::Refused | Phase::Staged));
    is_restarting(request) || request.spec.action == Action::Apply && !is_over
}

/// What the NodeUpdate of a node shall ask for.
pub fn wanted(update: &ClusterUpdate, node: &str) -> NodeUpdateSpec {
    NodeUpdateSpec {
        node_name: node.to_owned(),
        version: update.spec.version.clone(),
        source: update.spec.source.clone(),
        channel: update.spec.channel.clone(),
        action: Action::Apply,
        health_timeout_seconds: update.spec.health_timeout_seconds,
    }
}

/// The NodeUpdate as it is now, for `status.nodes[].request`.
pub fn key(request: &NodeUpdate) -> String {
    let meta = &request.metadata;
    format!("{}/{}", meta.uid.as_deref().unwrap_or_default(), meta.generation.unwrap_or_default())
}

/// Whose `request` is.
fn owner(update: &ClusterUpdate, request: &NodeUpdate) -> Owner {
    if owns(update.metadata.uid.as_deref(), request) {
        return Owner::This;
    }
    let mut owners = request.metadata.owner_references.iter().flatten();
    let other = owners.find(|owner| owner.controller == Some(true) && owner.kind == "ClusterUpdate");
    other.map_or(Owner::Person, |owner| Owner::Other(owner.name.clone()))
}

fn is_sheafs(node: &Node) -> bool {
    node.labels().get(VM_NODE_LABEL).is_some_and(|value| value == TRUE)
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|is| is.type_ == "Ready" && is.status == "True")
}

/// Whether the Node reports this version: its agent takes it from os-release (`PRETTY_NAME`).
fn runs(node: &Node, version: &str) -> bool {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.and_then(|info| info.os_image.strip_prefix("Sheaf ")) == Some(version)
}

/// Who cordoned the node, if not a person.
pub fn holder(node: &Node) -> Option<&str> {
    node.annotations().get(CORDONED_BY_ANNOTATION).map(String::as_str)
}

/// Whether the selector of `update` matches. One that cannot be read, which the API server refuses, matches nothing.
fn is_meant(update: &ClusterUpdate, node: &Node) -> bool {
    let Some(wanted) = &update.spec.node_selector else { return is_sheafs(node) };
    selector::of(wanted).is_some_and(|selector| selector.matches(node.labels()))
}

/// All nodes that concern the update: those that are meant, those that it still holds, and every control-plane node, since
/// those are never unavailable two at a time. By name.
pub fn members<'a>(observed: &Observed<'a>) -> Vec<Member<'a>> {
    let mut members: Vec<_> = observed.nodes.iter().filter_map(|node| member(observed, node)).collect();
    members.sort_by_key(|member| member.name);
    members
}

fn member<'a>(observed: &Observed<'a>, node: &'a Node) -> Option<Member<'a>> {
    let update = observed.update;
    let name = node.metadata.name.as_deref()?;
    let request = observed.requests.iter().find(|request| request.metadata.name.as_deref() == Some(name));
    let request = request.map(|request| (request, owner(update, request)));
    let is_held = holder(node).is_some() && holder(node) == update.metadata.name.as_deref();
    let is_own = request.as_ref().is_some_and(|(_, owner)| *owner == Owner::This);
    let (is_meant, is_control_plane) = (is_meant(update, node), is_control_plane(node));
    if !(is_meant || is_held || is_own || is_control_plane && is_sheafs(node)) {
        return None;
    }
    Some(Member {
        name,
        node,
        is_meant,
        is_control_plane,
        is_ready: is_ready(node),
        is_held,
        standing: standing(update, node, request.as_ref()),
        request,
    })
}

fn standing(update: &ClusterUpdate, node: &Node, request: Option<&(&NodeUpdate, Owner)>) -> Standing {
    let version = &update.spec.version;
    let Some((request, owner)) = request else { return unasked(node, version) };
    let is_wanted = request.spec.version == *version;
    match owner {
        Owner::Other(_) if !(is_active(request) || is_wanted && phase(request) == Some(Phase::Updated)) => {
            unasked(node, version)
        }
        Owner::Other(other) if !is_wanted => Standing::Blocked(format!(
            "is being updated to {} by ClusterUpdate {other}",
            request.spec.version
        )),
        Owner::Person if !is_wanted => Standing::Blocked(format!(
            "has a NodeUpdate for {} that was made by hand; delete it, or set its version to {version}",
            request.spec.version
        )),
        Owner::This if !is_wanted => Standing::Blocked(format!(
            "has a NodeUpdate whose version was changed to {} by hand; delete it, or set its version to {version}",
            request.spec.version
        )),
        _ => asked(update, node, request, owner),
    }
}

/// The NodeUpdate asks for the version.
fn asked(update: &ClusterUpdate, node: &Node, request: &NodeUpdate, owner: &Owner) -> Standing {
    let is_by_hand = *owner == Owner::Person;
    let now = match phase(request) {
        Some(Phase::Updated) => return Standing::Updated,
        // It is changed, and the node begins again with what it is changed to.
        _ if *owner == Owner::This && request.spec != wanted(update, &node.name_any()) => {
            return Standing::Updating(None);
        }
        _ if is_by_hand && request.spec.action != Action::Apply && !is_restarting(request) => {
            return Standing::Blocked(format!(
                "has a NodeUpdate with action {:?} that was made by hand; delete it, or set its action to Apply",
                request.spec.action
            ));
        }
        Some(Phase::RolledBack) => Standing::Ended(NodePhase::RolledBack, report(request)),
        Some(Phase::Refused) => Standing::Ended(NodePhase::Refused, report(request)),
        Some(Phase::Failed) => Standing::Failed(report(request)),
        other => Standing::Updating(other),
    };
    // A node that refused the release asks for it again after some minutes, and is on the way for a moment.
    match (&now, ended_before(update, request)) {
        (Standing::Updating(_) | Standing::Failed(_), Some(ended)) => ended,
        _ => now,
    }
}

/// How the node ended with this very NodeUpdate when it was looked at last: that counts until the node is updated or its
/// NodeUpdate is another.
fn ended_before(update: &ClusterUpdate, request: &NodeUpdate) -> Option<Standing> {
    let mut nodes = update.status.iter().flat_map(|status| &status.nodes);
    let before = nodes.find(|node| node.request.as_ref() == Some(&key(request)))?;
    let has_ended = matches!(before.phase, NodePhase::Refused | NodePhase::RolledBack);
    has_ended.then(|| Standing::Ended(before.phase, before.message.clone().unwrap_or_default()))
}

/// Nothing asks the node for the version yet.
fn unasked(node: &Node, version: &str) -> Standing {
    if runs(node, version) {
        return Standing::Updated;
    }
    let blocked = |why: &str| Standing::Blocked(why.to_owned());
    match () {
        () if node.metadata.deletion_timestamp.is_some() => blocked("is being deleted"),
        () if !is_sheafs(node) => blocked(
            "is not a node of Sheaf (it has no label sheaf.dev/vm-node=true); leave it out of nodeSelector",
        ),
        () if !is_ready(node) => blocked("is not Ready"),
        () => Standing::Waiting,
    }
}
