//! Property: whatever happens in whatever order, nothing that is lost is deleted before it was confirmed, no VM runs twice, a
//! removal that was deleted in time leaves the node as it was, and one that may end leaves nothing of the node.
//!
//! Why a model: machine, agent, NodeMaintenance, VMs, scheduler and node lifecycle are played by their rules in a few lines. The
//! administrator says that a machine is switched off only when it is, and nothing else of what he says is true. Controllers die after
//! any action of a plan. Route in: random orders of [`Step`]s. Route out: what holds after each, and at the end.

use proptest::prelude::*;
use sheaf_api::{names::LEFT_CONDITION, node_removal::NodeRemoval};

use super::tests::{maintenance, node, observed, pod};
use super::*;
use crate::{
    node_removal::{
        losses::name_of_volume,
        observed::{Identity, Kind},
    },
    replicas::owns,
    volumes::testing::{GIB, volume},
};

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// The controller does the first so many actions of its plan.
    Remove(usize),
    /// The controller of NodeMaintenances.
    Maintain,
    /// The node's agent, if it runs and reaches the API server.
    Agent,
    /// VM controller, finalizers of Pods and kube-scheduler.
    Machines,
    /// The machine loses its power.
    PowerOff,
    /// It loses its network, and runs on.
    Cut,
    /// It runs, and has its network.
    Return,
    /// An administrator says that it is switched off, if it is, or takes that back.
    Say(bool),
    /// An administrator confirms what the status lists.
    Accept,
    /// A volume is made on the node.
    Volume,
    /// An administrator deletes the removal.
    Cancel,
    /// So many seconds pass.
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6usize).prop_map(Step::Remove),
        3 => Just(Step::Maintain),
        4 => Just(Step::Agent),
        4 => Just(Step::Machines),
        1 => Just(Step::PowerOff),
        1 => Just(Step::Cut),
        1 => Just(Step::Return),
        1 => any::<bool>().prop_map(Step::Say),
        2 => Just(Step::Accept),
        1 => Just(Step::Volume),
        1 => Just(Step::Cancel),
        3 => (1..400_i64).prop_map(Step::Wait),
    ]
}

/// VMs of the model.
const VMS: usize = 2;
/// Seconds after which node lifecycle calls a node Unknown.
const UNKNOWN_AFTER: i64 = 50;
/// Seconds until the API server has read the record of names again.
const POLICY_AFTER: i64 = 2;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Pending,
    Here,
    Elsewhere,
}

struct Machine {
    /// Where its Pod is bound, and whether that is being deleted.
    pod: Option<(Place, bool)>,
    /// Its domain runs on the node.
    domain: bool,
}

struct World {
    removal: Option<NodeRemoval>,
    node: Option<Node>,
    /// Its phase.
    maintenance: Option<NodeMaintenance>,
    /// The machine.
    has_power: bool,
    has_network: bool,
    /// Its agent has a key.
    has_key: bool,
    reported: i64,
    identity: Identity,
    revoked_at: i64,
    machines: Vec<Machine>,
    volumes: Vec<LocalVolume>,
    leftovers: Vec<Leftover>,
    made: u32,
    now: i64,
}

fn leftover() -> Leftover {
    Leftover { kind: Kind::BlockDevice, name: "n1.a".into(), uid: "b".into() }
}

impl World {
    fn new() -> Self {
        let mut removal = observed(serde_json::json!({}), serde_json::json!({})).removal;
        removal.metadata.finalizers = None;
        removal.status = None;
        let runs = || Machine { pod: Some((Place::Here, false)), domain: true };
        Self {
            removal: Some(removal),
            node: Some(node("True", false, false)),
            maintenance: None,
            has_power: true,
            has_network: true,
            has_key: true,
            reported: 1_800_000_000,
            identity: Identity::Key,
            revoked_at: 0,
            machines: (0..VMS).map(|_| runs()).collect(),
            volumes: vec![volume("pvc-0", "n1", GIB)],
            leftovers: vec![leftover()],
            made: 0,
            now: 1_800_000_000,
        }
    }

    fn observed(&self, removal: &NodeRemoval) -> Observed {
        let here = |machine: &Machine| machine.pod.is_some_and(|(place, _)| place == Place::Here);
        let read = |index: usize| {
            let mut pod = pod(&index.to_string());
            let deleting = self.machines[index].pod.is_some_and(|(_, deleting)| deleting);
            pod.metadata.deletion_timestamp = deleting.then(|| seconds(self.time()));
            pod
        };
        Observed {
            node: self.node.clone(),
            renewed: Timestamp::from_second(self.reported).ok(),
            maintenance: self.maintenance.clone(),
            pods: (0..VMS).filter(|index| here(&self.machines[*index])).map(read).collect(),
            volumes: self.volumes.clone(),
            leftovers: self.leftovers.clone(),
            identity: self.identity,
            removal: removal.clone(),
            ..observed(serde_json::json!({}), serde_json::json!({}))
        }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    /// Nothing of the node may be deleted, or its identity revoked, before it is written that there is no way back.
    fn began(&self) -> bool {
        self.removal.as_ref().and_then(|removal| removal.status.as_ref()?.removing.clone()).is_some()
    }

    fn apply(&mut self, action: Action) {
        let began = self.began();
        let Some(removal) = &mut self.removal else { return };
        match action {
            Action::AddFinalizer => removal.metadata.finalizers = Some(vec![REMOVAL_FINALIZER.into()]),
            Action::RemoveFinalizer => {
                removal.metadata.finalizers = None;
                if removal.metadata.deletion_timestamp.is_some() {
                    self.removal = None;
                }
            }
            Action::WriteStatus(status) => removal.status = Some(*status),
            Action::CreateMaintenance(made) => {
                let own = owns(Some("r-1"), &*made);
                self.maintenance.get_or_insert_with(|| maintenance("Draining", own));
            }
            Action::DeleteMaintenance(_) => {
                if let Some(found) = &mut self.maintenance {
                    found.metadata.deletion_timestamp = Some(seconds(Timestamp::UNIX_EPOCH));
                }
            }
            Action::OutOfService(is_out) => {
                assert!(
                    !is_out || removal.spec.powered_off,
                    "declared out of service before an administrator confirmed that it is off"
                );
                self.taint(is_out);
            }
            Action::DeletePod { name, .. } => {
                let index: usize = name.parse().unwrap();
                if let Some((_, deleting)) = &mut self.machines[index].pod {
                    *deleting = true;
                }
            }
            Action::Revoke => {
                assert!(began, "revoked too early");
                (self.identity, self.revoked_at) = (Identity::Removed, self.now);
            }
            Action::DeleteVolume(gone) => {
                let name = name_of_volume(&gone);
                assert!(removal.spec.accept_loss.contains(&name), "{name} was lost and not confirmed");
                assert!(began, "deleted too early");
                self.volumes.retain(|volume| volume.metadata.name != gone.metadata.name);
            }
            Action::Delete(_) => {
                assert!(began, "deleted too early");
                self.leftovers.clear();
            }
            Action::DeleteNode(uid) => {
                assert!(began && self.volumes.is_empty(), "the Node went before what it has");
                self.node = self.node.take().filter(|node| node.metadata.uid.as_ref() != Some(&uid));
            }
            Action::ClaimEvent { .. }
            | Action::DeleteInstance { .. }
            | Action::ForgetState(_)
            | Action::RecordEvent(_) => {}
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut String, &mut bool, &mut bool)) {
        let Some(before) = self.node.take() else { return };
        let conditions = before.status.as_ref().unwrap().conditions.clone().unwrap();
        let ready = conditions.iter().find(|found| found.type_ == "Ready").unwrap();
        let (mut word, mut cordoned, mut taint) =
            (ready.status.clone(), is_cordoned(&before), has_taint(&before));
        change(&mut word, &mut cordoned, &mut taint);
        let mut after = node(&word, cordoned, taint);
        after.metadata.uid = before.metadata.uid.clone();
        let mut list = conditions.clone();
        for condition in list.iter_mut().filter(|found| found.type_ == "Ready" && found.status != word) {
            condition.status = word.clone();
            condition.last_transition_time = Some(seconds(self.time()));
        }
        after.status.as_mut().unwrap().conditions = Some(list);
        self.node = Some(after);
    }

    fn taint(&mut self, is_out: bool) {
        self.change(|_, _, taint| *taint = is_out);
    }

    fn agent_acts(&self) -> bool {
        let refused = self.identity == Identity::Removed && self.now >= self.revoked_at + POLICY_AFTER;
        self.has_power && self.has_network && self.has_key && !refused
    }

    fn agent(&mut self) {
        if !self.agent_acts() {
            return;
        }
        self.reported = self.now;
        if self.node.is_none() {
            self.made += 1;
            let mut again = node("True", false, false);
            again.metadata.uid = Some(format!("node-1-{}", self.made));
            self.node = Some(again);
        }
        self.change(|ready, _, _| *ready = "True".into());
        if self.leftovers.is_empty() {
            self.leftovers.push(leftover());
        }
        for machine in &mut self.machines {
            match machine.pod {
                Some((Place::Here, false)) => machine.domain = true,
                Some((Place::Here, true)) => (machine.domain, machine.pod) = (false, None),
                _ => machine.domain = false,
            }
        }
        let status = self.removal.as_ref().and_then(|removal| removal.status.clone()).unwrap_or_default();
        let node = self.node.as_mut().unwrap();
        if status.phase == Some(Phase::Removing) && status.node_uid == node.metadata.uid {
            let left = serde_json::json!({"type": LEFT_CONDITION, "status": "True"});
            let conditions = node.status.as_mut().unwrap().conditions.as_mut().unwrap();
            conditions.push(serde_json::from_value(left).unwrap());
            self.has_key = false;
            assert!(self.machines.iter().all(|machine| !machine.domain), "it leaves with VMs");
        }
    }

    fn maintain(&mut self) {
        let Some(mut found) = self.maintenance.take() else { return };
        if found.metadata.deletion_timestamp.is_some() {
            self.change(|_, cordoned, _| *cordoned = false);
            return;
        }
        self.change(|_, cordoned, _| *cordoned = true);
        let mut is_empty = true;
        for (place, deleting) in self.machines.iter_mut().filter_map(|machine| machine.pod.as_mut()) {
            if *place == Place::Here {
                (*deleting, is_empty) = (true, false);
            }
        }
        let phase = if is_empty { Drain::InMaintenance } else { Drain::Draining };
        found.status.as_mut().unwrap().phase = Some(phase);
        self.maintenance = Some(found);
    }

    fn machines(&mut self) {
        let out = self.node.as_ref().is_some_and(end::is_out_of_service);
        let takes = self.node.as_ref().is_some_and(|node| {
            let ready = !matches!(standing(Some(node), None, self.time()), Standing::Silent(_));
            ready && !is_cordoned(node) && !has_taint(node)
        });
        for machine in &mut self.machines {
            match machine.pod {
                // The rule of decision 15.
                Some((Place::Here, true)) if out => machine.pod = None,
                Some((Place::Pending, _)) => {
                    machine.pod = Some((if takes { Place::Here } else { Place::Elsewhere }, false));
                }
                None => machine.pod = Some((Place::Pending, false)),
                Some(_) => {}
            }
        }
    }

    fn lifecycle(&mut self) {
        if self.now - self.reported >= UNKNOWN_AFTER {
            self.change(|ready, _, _| *ready = "Unknown".into());
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Remove(many) => {
                let Some(removal) = self.removal.clone() else { return };
                let planned = plan(&self.observed(&removal), self.time());
                planned.actions.into_iter().take(many).for_each(|action| self.apply(action));
            }
            Step::Maintain => self.maintain(),
            Step::Agent => self.agent(),
            Step::Machines => self.machines(),
            Step::PowerOff => {
                self.has_power = false;
                self.machines.iter_mut().for_each(|machine| machine.domain = false);
            }
            Step::Cut => self.has_network = false,
            // A machine that was declared to be off stays off.
            Step::Return => {
                let said = self.removal.as_ref().is_some_and(|removal| removal.spec.powered_off);
                self.has_power |= !said;
                self.has_network = true;
            }
            Step::Say(off) => {
                let is_off = !self.has_power;
                if let Some(removal) = &mut self.removal {
                    removal.spec.powered_off = off && is_off;
                }
            }
            Step::Accept => {
                if let Some(removal) = &mut self.removal {
                    let losses = removal.status.iter().flat_map(|status| &status.losses);
                    removal.spec.accept_loss = losses.map(|loss| loss.name.clone()).collect();
                }
            }
            // The controller of claims makes none where no pool is reported, and pools go before the Node.
            Step::Volume if self.node.is_none() => {}
            Step::Volume => {
                self.made += 1;
                self.volumes.push(volume(&format!("pvc-{}", self.made), "n1", GIB));
            }
            Step::Cancel => {
                if let Some(removal) = &mut self.removal {
                    match removal.metadata.finalizers {
                        Some(_) => removal.metadata.deletion_timestamp = Some(seconds(Timestamp::UNIX_EPOCH)),
                        None => self.removal = None,
                    }
                }
            }
            Step::Wait(many) => self.now += many,
        }
        self.lifecycle();
        for machine in &self.machines {
            let elsewhere = machine.pod.is_some_and(|(place, _)| place == Place::Elsewhere);
            assert!(!(machine.domain && elsewhere), "a VM runs twice");
        }
    }

    /// Everything that is left to do is done, as long as it takes.
    fn settle(&mut self) {
        for _ in 0..12 {
            self.step(&Step::Remove(usize::MAX));
            self.step(&Step::Accept);
            self.step(&Step::Maintain);
            self.step(&Step::Agent);
            self.step(&Step::Machines);
            self.step(&Step::Wait(40));
        }
    }

    fn phase(&self) -> Option<Phase> {
        self.removal.as_ref()?.status.as_ref()?.phase
    }
}

proptest! {
    #[test]
    fn no_order_of_events_deletes_what_was_not_confirmed_or_runs_a_vm_twice_and_every_removal_ends(
        steps in proptest::collection::vec(step(), 0..80),
        ends_off in any::<bool>(),
    ) {
        let mut world = World::new();
        steps.iter().filter(|step| !matches!(step, Step::Cancel)).for_each(|step| world.step(step));
        match ends_off {
            true => [Step::PowerOff, Step::Wait(400), Step::Say(true)].iter().for_each(|step| world.step(step)),
            false => [Step::Say(false), Step::Return].iter().for_each(|step| world.step(step)),
        }
        for _ in 0..3 {
            world.settle();
        }
        prop_assert_eq!(world.phase(), Some(Phase::Removed), "{:?}", world.removal);
        prop_assert!(world.node.is_none() && world.leftovers.is_empty() && world.volumes.is_empty());
        prop_assert!(world.maintenance.is_none());
        prop_assert_eq!(world.identity, Identity::Removed);
        let elsewhere = |machine: &Machine| machine.pod == Some((Place::Elsewhere, false));
        prop_assert!(world.machines.iter().all(elsewhere), "a VM does not run");
    }

    #[test]
    fn a_removal_that_is_cancelled_before_the_node_leaves_restores_it_and_a_later_one_ends(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut world = World::new();
        let ends = |step: &&Step| !matches!(step, Step::Volume | Step::PowerOff | Step::Cut);
        steps.iter().filter(ends).for_each(|step| world.step(step));
        let began = world.began() || world.phase() == Some(Phase::Removed);
        world.step(&Step::Cancel);
        for _ in 0..3 {
            world.settle();
        }
        prop_assert!(world.removal.is_none(), "{:?}", world.removal);
        prop_assert!(world.maintenance.is_none());
        if began || world.identity == Identity::Removed {
            prop_assert!(world.node.is_none());
        } else {
            let node = world.node.as_ref().unwrap();
            prop_assert!(!is_cordoned(node) && !has_taint(node));
            prop_assert_eq!((world.volumes.len(), world.leftovers.len()), (1, 1));
        }
    }
}
