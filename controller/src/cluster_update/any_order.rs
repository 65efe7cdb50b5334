//! Properties of updates of a cluster: whatever happens in whatever order, and wherever the controller dies, no more nodes are
//! begun than may be unavailable, none after a failure, none is left cordoned, and none that restarts loses its NodeUpdate.
//!
//! Why here: it follows from the plan, the requests' conditions and what an agent does with its NodeUpdate together. A small
//! model plays the rest: the API server (generations, preconditions, finalizers), agents whose reports lag or are lost, people.
//! A decision is made in one step and carried out in a later one, up to any of its actions. Route in: random orders of
//! [`Step`]s. Route out: the promises, checked at each.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1::Node, jiff::Timestamp};
use kube::ResourceExt as _;
use proptest::prelude::*;
use serde_json::json;
use sheaf_api::{
    cluster_update::{ClusterUpdate, ClusterUpdateStatus, Phase as Whole},
    names::{
        CLUSTER_UPDATE_FINALIZER, CONTROL_PLANE_ROLE_LABEL, CORDONED_BY_ANNOTATION, TRUE, VM_NODE_LABEL,
    },
    node_update::{Action as Goes, NodeUpdate, NodeUpdateStatus, Phase},
};

use super::{
    plan::{Action, Plan, plan},
    standing::{Observed, holder, phase},
};
use crate::{conditions::seconds, nodes::is_cordoned, replicas::owns};

const NODES: [&str; 6] = ["c1", "c2", "w1", "w2", "w3", "w4"];
/// The first so many are of the control plane.
const PLANE: usize = 2;
/// What runs at first.
const OLD: &str = "0.1.0";
/// Two updates: their names and versions.
const UPDATES: [(&str, &str); 2] = [("spring", "0.2.0"), ("fall", "0.3.0")];
/// What people ask for.
const BY_HAND: [&str; 3] = [OLD, "0.2.0", "0.9.0"];

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// An administrator creates the update.
    Create(usize),
    /// … pauses or resumes it.
    Pause(usize, bool),
    /// … cancels it.
    Cancel(usize),
    /// … deletes it.
    Delete(usize),
    /// … lets so many nodes be unavailable.
    Most(usize, u32),
    /// … includes the node, or leaves it out.
    Label(usize, bool),
    /// … cordons the node.
    Cordon(usize),
    /// … makes a NodeUpdate by hand.
    Ask(usize, usize),
    /// … deletes the NodeUpdate of a node that ended without the release, or one that was made by hand.
    Retry(usize),
    /// The time goes on by some hours.
    Hours(i64),
    /// The node is Ready, or not.
    Ready(usize, bool),
    /// The node's agent does one thing, well or not, and reports it or does not.
    Agent(usize, bool, bool),
    /// The controller decides about an update, and does nothing yet.
    Plan(usize),
    /// It does the first so many actions; after the last it writes the status.
    Apply(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES.len();
    let update = || prop_oneof![4 => Just(0_usize), 1 => Just(1_usize)];
    prop_oneof![
        2 => update().prop_map(Step::Create),
        2 => (update(), any::<bool>()).prop_map(|(update, is)| Step::Pause(update, is)),
        1 => update().prop_map(Step::Cancel),
        1 => update().prop_map(Step::Delete),
        1 => (update(), 1..4_u32).prop_map(|(update, most)| Step::Most(update, most)),
        1 => (node(), any::<bool>()).prop_map(|(node, is)| Step::Label(node, is)),
        1 => node().prop_map(Step::Cordon),
        1 => (node(), 0..BY_HAND.len()).prop_map(|(node, version)| Step::Ask(node, version)),
        1 => node().prop_map(Step::Retry),
        1 => (0..30_i64).prop_map(Step::Hours),
        2 => (node(), any::<bool>()).prop_map(|(node, is)| Step::Ready(node, is)),
        24 => (node(), prop::bool::weighted(0.9), prop::bool::weighted(0.8))
            .prop_map(|(node, good, reports)| Step::Agent(node, good, reports)),
        16 => update().prop_map(Step::Plan),
        16 => (0..6_usize).prop_map(Step::Apply),
    ]
}

/// What an agent is at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Doing {
    Idle,
    Checking(String),
    Staging(String),
    /// The version, and the request.
    Restarting(String, String),
    /// The former version and the request.
    OnTrial(String, String),
}

/// An agent: as `agent/src/update/plan.rs`, in few words.
struct Agent {
    running: String,
    doing: Doing,
    fetched: Option<String>,
    staged: Option<String>,
    refused: Option<String>,
    failed: Option<String>,
    rolled_back: Option<String>,
}

/// A request: the UID, generation and version of a NodeUpdate.
fn request_of(request: &NodeUpdate) -> String {
    format!("{}/{:?}/{}", request.uid().unwrap(), request.metadata.generation, request.spec.version)
}

impl Agent {
    fn new() -> Self {
        Self {
            running: OLD.into(),
            doing: Doing::Idle,
            fetched: None,
            staged: None,
            refused: None,
            failed: None,
            rolled_back: None,
        }
    }

    fn restarts(&self) -> bool {
        matches!(self.doing, Doing::Restarting(..) | Doing::OnTrial(..))
    }

    fn advance(&mut self, wanted: Option<&NodeUpdate>, is_good: bool) {
        match std::mem::replace(&mut self.doing, Doing::Idle) {
            Doing::Restarting(version, key) => {
                let from = std::mem::replace(&mut self.running, version);
                self.doing = Doing::OnTrial(from, key);
            }
            Doing::OnTrial(..) if is_good => self.staged = None,
            Doing::OnTrial(from, key) => {
                self.running = from;
                self.staged = None;
                self.rolled_back = Some(key);
            }
            Doing::Checking(key) if is_good => self.fetched = Some(key),
            Doing::Checking(key) => self.refused = Some(key),
            Doing::Staging(version) if is_good => self.staged = Some(version),
            Doing::Staging(_) => self.failed = self.fetched.clone(),
            Doing::Idle => self.begin(wanted, is_good),
        }
    }

    fn begin(&mut self, wanted: Option<&NodeUpdate>, is_good: bool) {
        let Some(wanted) = wanted else { return };
        let (key, version) = (Some(request_of(wanted)), wanted.spec.version.clone());
        if self.refused == key || self.failed == key {
            if is_good {
                (self.refused, self.failed, self.fetched) = (None, None, None);
            }
            return;
        }
        if version == self.running || self.rolled_back == key {
            return;
        }
        let is_staged = self.staged.as_ref() == Some(&version);
        self.doing = match wanted.spec.action {
            _ if !is_staged && self.fetched != key => Doing::Checking(request_of(wanted)),
            Goes::Check => Doing::Idle,
            _ if !is_staged => Doing::Staging(version),
            Goes::Apply => Doing::Restarting(version, request_of(wanted)),
            Goes::Stage => Doing::Idle,
        };
    }

    fn phase(&self, wanted: &NodeUpdate) -> Phase {
        let key = Some(request_of(wanted));
        match self.doing {
            Doing::Checking(_) => Phase::Checking,
            Doing::Staging(_) => Phase::Staging,
            Doing::Restarting(..) => Phase::Restarting,
            Doing::OnTrial(..) => Phase::OnTrial,
            Doing::Idle if self.refused == key => Phase::Refused,
            Doing::Idle if self.failed == key => Phase::Failed,
            Doing::Idle if self.running == wanted.spec.version => Phase::Updated,
            Doing::Idle if self.rolled_back == key => Phase::RolledBack,
            Doing::Idle if wanted.spec.action == Goes::Check => Phase::Checked,
            Doing::Idle => Phase::Staged,
        }
    }
}

struct World {
    updates: BTreeMap<String, ClusterUpdate>,
    nodes: BTreeMap<String, Node>,
    requests: BTreeMap<String, NodeUpdate>,
    agents: BTreeMap<String, Agent>,
    /// Nodes that a person cordoned.
    by_hand: BTreeSet<String>,
    /// The most nodes that an administrator ever let be unavailable.
    most: u32,
    /// Of which update, by name and UID.
    planned: Option<(String, Option<String>, Plan)>,
    now: Timestamp,
    numbers: i64,
}

impl World {
    fn new() -> Self {
        let node = |(number, name): (usize, &&str)| -> Node {
            let mut labels = json!({VM_NODE_LABEL: TRUE, "meant": TRUE});
            if number < PLANE {
                labels[CONTROL_PLANE_ROLE_LABEL] = json!("");
            }
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": labels},
                "spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }))
            .unwrap()
        };
        Self {
            updates: BTreeMap::new(),
            nodes: NODES.iter().enumerate().map(|one| (one.1.to_string(), node(one))).collect(),
            requests: BTreeMap::new(),
            agents: NODES.iter().map(|name| (name.to_string(), Agent::new())).collect(),
            by_hand: BTreeSet::new(),
            most: 1,
            planned: None,
            now: "2026-12-05T01:00:00Z".parse().unwrap(),
            numbers: 0,
        }
    }

    fn number(&mut self) -> i64 {
        self.numbers += 1;
        self.numbers
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Create(update) => self.create(update),
            Step::Pause(update, is) => self.with(update, |update| update.spec.paused = is),
            Step::Cancel(update) => self.with(update, |update| update.spec.cancelled = true),
            Step::Delete(update) => {
                let now = self.now;
                self.with(update, |update| update.metadata.deletion_timestamp = Some(seconds(now)));
                self.sweep();
            }
            Step::Most(update, most) => {
                self.most = self.most.max(most);
                self.with(update, |update| update.spec.max_unavailable = most);
            }
            Step::Label(node, is) => {
                let labels = self.node(node).metadata.labels.get_or_insert_default();
                labels.insert("meant".into(), if is { TRUE.into() } else { "false".into() });
            }
            Step::Cordon(node) if !is_cordoned(self.node(node)) => {
                self.node(node).spec.get_or_insert_default().unschedulable = Some(true);
                // What an update has noted on a node that a person uncordoned would be read as its own.
                let annotations = self.node(node).metadata.annotations.get_or_insert_default();
                if !annotations.contains_key(CORDONED_BY_ANNOTATION) {
                    self.by_hand.insert(NODES[node].into());
                }
            }
            Step::Cordon(_) => {}
            Step::Ask(node, version) => self.ask(NODES[node], BY_HAND[version]),
            Step::Retry(node) => {
                let name = NODES[node];
                let restarts = self.agents[name].restarts();
                let Some(request) = self.requests.get(name) else { return Ok(()) };
                let is_by_hand = request.metadata.owner_references.is_none();
                let has_ended = matches!(phase(request), Some(Phase::RolledBack | Phase::Refused));
                if (has_ended || is_by_hand) && !restarts {
                    self.requests.remove(name);
                }
            }
            Step::Hours(hours) => {
                self.now = Timestamp::from_second(self.now.as_second() + hours * 3600).unwrap();
            }
            Step::Ready(node, is) => {
                let is = is && !matches!(self.agents[NODES[node]].doing, Doing::Restarting(..));
                self.ready(NODES[node], is);
            }
            Step::Agent(node, is_good, reports) => self.agent(NODES[node], is_good, reports),
            Step::Plan(update) => return self.plan(UPDATES[update].0),
            Step::Apply(cut) => return self.apply(cut),
        }
        Ok(())
    }

    fn node(&mut self, node: usize) -> &mut Node {
        self.nodes.get_mut(NODES[node]).unwrap()
    }

    fn ready(&mut self, name: &str, is: bool) {
        let status = self.nodes.get_mut(name).unwrap().status.get_or_insert_default();
        status.conditions.get_or_insert_default()[0].status = if is { "True" } else { "Unknown" }.into();
    }

    fn create(&mut self, update: usize) {
        let (name, version) = UPDATES[update];
        if self.updates.contains_key(name) {
            return;
        }
        let (uid, time) = (format!("uid-{}", self.number()), seconds(self.now));
        let made = json!({
            "apiVersion": "sheaf.dev/v1alpha1", "kind": "ClusterUpdate",
            "metadata": {"name": name, "uid": uid, "generation": 1, "creationTimestamp": time},
            "spec": {"version": version, "nodeSelector": {"matchLabels": {"meant": TRUE}},
                     "window": {"from": "00:00", "until": "12:00"}},
        });
        self.updates.insert(name.into(), serde_json::from_value(made).unwrap());
    }

    /// Changes the spec, unless it is being deleted or the API server refuses it.
    fn with(&mut self, update: usize, change: impl FnOnce(&mut ClusterUpdate)) {
        let Some(update) = self.updates.get_mut(UPDATES[update].0) else { return };
        let phase = update.status.as_ref().and_then(|status| status.phase);
        let before = update.spec.clone();
        change(update);
        if phase == Some(Whole::Updated) {
            update.spec = before;
        }
        *update.metadata.generation.get_or_insert_default() += 1;
    }

    fn ask(&mut self, name: &str, version: &str) {
        if self.requests.contains_key(name) {
            return;
        }
        let spec = json!({"nodeName": name, "version": version});
        let mut request = NodeUpdate::new(name, serde_json::from_value(spec).unwrap());
        request.metadata.uid = Some(format!("uid-{}", self.number()));
        request.metadata.generation = Some(1);
        self.requests.insert(name.into(), request);
        self.touch(name);
    }

    fn touch(&mut self, name: &str) {
        let version = self.number().to_string();
        if let Some(request) = self.requests.get_mut(name) {
            request.metadata.resource_version = Some(version);
        }
    }

    fn agent(&mut self, name: &str, is_good: bool, reports: bool) {
        let wanted = self.requests.get(name).cloned();
        let agent = self.agents.get_mut(name).unwrap();
        agent.advance(wanted.as_ref(), is_good);
        let image = format!("Sheaf {}", agent.running);
        let is_down = matches!(agent.doing, Doing::Restarting(..));
        let reported = wanted.as_ref().map(|wanted| NodeUpdateStatus {
            phase: Some(agent.phase(wanted)),
            message: Some("as the model has it".into()),
            observed_generation: wanted.metadata.generation,
            ..NodeUpdateStatus::default()
        });
        self.ready(name, !is_down);
        let status = self.nodes.get_mut(name).unwrap().status.get_or_insert_default();
        status.node_info.get_or_insert_default().os_image = image;
        if let Some(request) = self.requests.get_mut(name).filter(|_| reports) {
            request.status = reported;
            self.touch(name);
        }
    }

    fn decide(&self, name: &str) -> Option<Plan> {
        let update = self.updates.get(name)?;
        let all: Vec<_> = self.updates.values().cloned().collect();
        let nodes: Vec<_> = self.nodes.values().cloned().collect();
        let requests: Vec<_> = self.requests.values().cloned().collect();
        let observed = Observed { update, all: &all, nodes: &nodes, requests: &requests };
        Some(plan(&observed, self.now))
    }

    fn plan(&mut self, name: &str) -> Result<(), TestCaseError> {
        let Some(plan) = self.decide(name) else { return Ok(()) };
        let update = &self.updates[name];
        let begins = plan.actions.iter().any(|action| match action {
            Action::Cordon(_) | Action::Create(_) => true,
            // Of a node that is on the way already, the spec alone.
            Action::Change { before, .. } => !owns(update.metadata.uid.as_deref(), &**before),
            _ => false,
        });
        if begins {
            self.may_begin(name)?;
        }
        let is_said = plan.status.message.as_ref().is_some_and(|message| !message.is_empty());
        prop_assert!(plan.status.phase.is_none() || is_said, "{:?} without a word", plan.status.phase);
        self.planned = Some((name.into(), update.metadata.uid.clone(), plan));
        Ok(())
    }

    /// The rules of what is begun, said once more.
    fn may_begin(&self, name: &str) -> Result<(), TestCaseError> {
        let update = &self.updates[name];
        prop_assert!(!update.spec.paused, "begun while paused");
        prop_assert!(!update.spec.cancelled, "begun while cancelled");
        prop_assert!(update.metadata.deletion_timestamp.is_none(), "begun while deleted");
        prop_assert!(update.finalizers().contains(&CLUSTER_UPDATE_FINALIZER.to_owned()));
        let hour = self.now.as_second().rem_euclid(86400) / 3600;
        prop_assert!(hour < 12, "begun outside the window");
        for (node, request) in &self.requests {
            let is_meant = self.nodes[node].labels()["meant"] == TRUE;
            let is_its = request.spec.version == update.spec.version
                && (owns(update.metadata.uid.as_deref(), request)
                    || request.metadata.owner_references.is_none());
            let has_ended = matches!(phase(request), Some(Phase::RolledBack | Phase::Refused));
            let is_as_asked = request.spec.action == Goes::Apply;
            prop_assert!(!(is_meant && is_its && has_ended && is_as_asked), "begun after {node} ended");
        }
        for (other, _) in UPDATES.iter().filter(|(other, _)| *other != name) {
            let holds = self.nodes.values().any(|node| holder(node) == Some(other));
            let is_open = self.updates.contains_key(*other);
            prop_assert!(!(holds && is_open), "begun while {other} holds nodes");
        }
        Ok(())
    }

    fn apply(&mut self, cut: usize) -> Result<(), TestCaseError> {
        let Some((name, uid, plan)) = self.planned.take() else { return Ok(()) };
        if self.updates.get(&name).is_none_or(|update| update.metadata.uid != uid) {
            return Ok(()); // a decision that begins a node holds the finalizer: only others are too late
        }
        for action in plan.actions.iter().take(cut) {
            if !self.carry_out(&name, action)? {
                return Ok(()); // refused, as by the API server
            }
            self.check()?;
        }
        if cut >= plan.actions.len() && self.updates.contains_key(&name) {
            if plan.status.phase == Some(Whole::Updated) && plan.actions.is_empty() {
                let holds = self.nodes.values().any(|node| holder(node) == Some(&name));
                prop_assert!(!holds, "{name} is Updated, and a node is cordoned");
            }
            self.updates.get_mut(&name).unwrap().status = Some(plan.status);
        }
        Ok(())
    }

    /// False if a precondition does not hold.
    fn carry_out(&mut self, name: &str, action: &Action) -> Result<bool, TestCaseError> {
        let Some(update) = self.updates.get(name) else { return Ok(false) };
        let uid = update.metadata.uid.clone();
        match action {
            Action::AddFinalizer | Action::RemoveFinalizer => {
                let list = (*action == Action::AddFinalizer).then(|| vec![CLUSTER_UPDATE_FINALIZER.into()]);
                if *action == Action::AddFinalizer && update.metadata.deletion_timestamp.is_some() {
                    return Ok(false);
                }
                self.updates.get_mut(name).unwrap().metadata.finalizers = list;
                self.sweep();
            }
            Action::Cordon(read) | Action::Uncordon(read) => {
                let node = self.nodes.get_mut(&read.name_any()).unwrap();
                let is_same = is_cordoned(node) == is_cordoned(read) && holder(node) == holder(read);
                if !is_same {
                    return Ok(false);
                }
                let cordons = matches!(action, Action::Cordon(_));
                node.spec.get_or_insert_default().unschedulable = cordons.then_some(true);
                let annotations = node.metadata.annotations.get_or_insert_default();
                match cordons {
                    true => drop(annotations.insert(CORDONED_BY_ANNOTATION.into(), name.into())),
                    false => drop(annotations.remove(CORDONED_BY_ANNOTATION)),
                }
                let restarts = self.agents[&read.name_any()].restarts();
                let own = self.requests.get(&read.name_any()).filter(|own| owns(uid.as_deref(), *own));
                prop_assert!(
                    cordons || !restarts || own.is_none(),
                    "{} is uncordoned and restarts",
                    read.name_any()
                );
            }
            Action::Create(made) => {
                if self.requests.contains_key(&made.name_any()) {
                    return Ok(false);
                }
                let mut made = (**made).clone();
                made.metadata.uid = Some(format!("uid-{}", self.number()));
                made.metadata.generation = Some(1);
                let name = made.name_any();
                self.requests.insert(name.clone(), made);
                self.touch(&name);
            }
            Action::Change { before, after } => {
                if !self.is_unchanged(before) {
                    return Ok(false);
                }
                let is_by_hand = before.metadata.owner_references.is_none();
                prop_assert!(!is_by_hand, "{} was made by hand", before.name_any());
                let request = self.requests.get_mut(&before.name_any()).unwrap();
                let is_same = request.spec == after.spec;
                request.spec = after.spec.clone();
                request.metadata.owner_references.clone_from(&after.metadata.owner_references);
                *request.metadata.generation.get_or_insert_default() += i64::from(!is_same);
                self.touch(&before.name_any());
            }
            Action::Hold(read) => {
                if !self.is_unchanged(read) {
                    return Ok(false);
                }
                let request = self.requests.get_mut(&read.name_any()).unwrap();
                request.spec.action = Goes::Check;
                *request.metadata.generation.get_or_insert_default() += 1;
                self.touch(&read.name_any());
            }
            Action::Delete(read) => {
                let now = self.requests.get(&read.name_any());
                if now.and_then(|now| now.resource_version()) != read.resource_version() {
                    return Ok(false);
                }
                prop_assert!(owns(uid.as_deref(), &**read), "{} is not its own", read.name_any());
                let restarts = self.agents[&read.name_any()].restarts();
                prop_assert!(!restarts, "{} restarts, and its NodeUpdate is deleted", read.name_any());
                self.requests.remove(&read.name_any());
            }
        }
        Ok(true)
    }

    fn is_unchanged(&self, read: &NodeUpdate) -> bool {
        self.requests
            .get(&read.name_any())
            .is_some_and(|now| now.uid() == read.uid() && now.metadata.generation == read.metadata.generation)
    }

    /// What is deleted and held by nothing is gone, and what it owned goes with it.
    fn sweep(&mut self) {
        let is_gone = |update: &ClusterUpdate| {
            update.metadata.deletion_timestamp.is_some() && update.finalizers().is_empty()
        };
        let gone: Vec<_> = self
            .updates
            .values()
            .filter(|update| is_gone(update))
            .filter_map(|update| update.uid())
            .collect();
        self.updates.retain(|_, update| !is_gone(update));
        self.requests.retain(|_, request| !gone.iter().any(|uid| owns(Some(uid), request)));
    }

    /// Holds after every step.
    fn check(&self) -> Result<(), TestCaseError> {
        let is_under_way = |name: &&&str| {
            let request = self.requests.get(**name).filter(|request| {
                request.metadata.owner_references.is_some() && phase(request) != Some(Phase::Updated)
            });
            let goes = request.is_some_and(|request| {
                request.spec.action == Goes::Apply
                    && !matches!(phase(request), Some(Phase::RolledBack | Phase::Refused))
            });
            goes || holder(&self.nodes[**name]).is_some()
                || request.is_some() && self.agents[**name].restarts()
        };
        let plane = NODES[..PLANE].iter().filter(is_under_way).count();
        prop_assert!(plane <= 1, "{plane} control-plane nodes at once");
        let others = NODES[PLANE..].iter().filter(is_under_way).count();
        prop_assert!(others <= self.most as usize, "{others} nodes at once, and {} may be", self.most);
        for name in &self.by_hand {
            prop_assert!(is_cordoned(&self.nodes[name]), "{name} was cordoned by hand and is uncordoned");
        }
        Ok(())
    }

    /// Everybody does all there is to do, and well; nodes are Ready, and it is the time for it.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        self.now =
            Timestamp::from_second(self.now.as_second().div_euclid(86400) * 86400 + 86400 + 3600).unwrap();
        for (update, _) in UPDATES.iter().enumerate() {
            self.take(&Step::Pause(update, false))?;
        }
        self.planned = None;
        for _ in 0..120 {
            for (name, _) in UPDATES {
                self.plan(name)?;
                self.apply(usize::MAX)?;
            }
            NODES.iter().for_each(|name| self.agent(name, true, true));
            self.check()?;
        }
        Ok(())
    }

    fn status(&self, name: &str) -> ClusterUpdateStatus {
        self.updates.get(name).and_then(|update| update.status.clone()).unwrap_or_default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn no_order_of_events_takes_down_more_than_may_be_or_goes_on_after_a_failure(
        steps in proptest::collection::vec(step(), 1..250)
    ) {
        let mut world = World::new();
        for (number, step) in steps.iter().enumerate() {
            if let Err(error) = world.take(step).and_then(|()| world.check()) {
                return Err(TestCaseError::fail(format!("{error} after {:?}", &steps[..=number])));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn after_any_order_of_events_nothing_is_left_cordoned_but_a_node_that_failed(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step)?;
        }
        world.settle()?;
        for (name, node) in &world.nodes {
            let Some(holder) = holder(node) else { continue };
            let status = world.status(holder);
            prop_assert_eq!(status.phase, Some(Whole::Stopped), "{} holds {}", holder, name);
            let ended = world.requests.get(name).and_then(phase);
            prop_assert!(matches!(ended, Some(Phase::RolledBack | Phase::Refused)), "{name}: {ended:?}");
        }
        for (name, version) in UPDATES {
            let Some(update) = world.updates.get(name) else { continue };
            prop_assert!(update.metadata.deletion_timestamp.is_none(), "{name} is not gone");
            let status = world.status(name);
            let blocked = status.message.as_deref().unwrap_or_default().contains("made by hand");
            let behind = status.phase == Some(Whole::Pending);
            let ended = matches!(status.phase, Some(Whole::Updated | Whole::Cancelled | Whole::Stopped));
            prop_assert!(ended || blocked || behind, "{name} {version}: {status:?}");
            prop_assert_eq!(world.decide(name).unwrap().actions, [], "{} is at rest", name);
        }
        // Cancelling uncordons the rest.
        for update in 0..UPDATES.len() {
            world.take(&Step::Delete(update))?;
        }
        world.settle()?;
        prop_assert!(world.updates.is_empty(), "{:?}", world.updates.keys());
        prop_assert!(world.nodes.values().all(|node| holder(node).is_none()));
    }
}

/// The model is worth something only if clusters are updated in it, and stopped.
#[test]
fn in_the_model_a_cluster_is_updated_twice_and_a_release_that_fails_stops_it() {
    let mut world = World::new();
    world.take(&Step::Create(0)).unwrap();
    world.settle().unwrap();
    assert_eq!(world.status("spring").phase, Some(Whole::Updated));
    assert!(world.agents.values().all(|agent| agent.running == "0.2.0"));
    world.take(&Step::Create(1)).unwrap();
    for _ in 0..40 {
        world.plan("fall").unwrap();
        world.apply(usize::MAX).unwrap();
        NODES.iter().for_each(|name| world.agent(name, *name != "w2", true));
        world.check().unwrap();
    }
    // A release that w2 refuses whatever it is asked.
    let status = world.status("fall");
    assert_eq!((status.phase, status.updated, status.failed), (Some(Whole::Stopped), 3, 1), "{status:?}");
    let running: Vec<_> = world.agents.values().map(|agent| agent.running.as_str()).collect();
    assert_eq!(running, ["0.3.0", "0.3.0", "0.3.0", "0.2.0", "0.2.0", "0.2.0"]);
    let held: Vec<_> =
        world.nodes.values().filter(|node| is_cordoned(node)).map(|node| node.name_any()).collect();
    assert_eq!(held, ["w2"]);
}
