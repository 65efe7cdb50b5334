//! Property: whatever happens in whatever order, a maintenance that was deleted leaves the node as it was, every VM that it
//! stopped runs again, and none was started more often than it was stopped.
//!
//! Why a model: VMs, scheduler and agent are played by their rules in a few lines; `vmi/never_twice.rs` has them in full.
//! Controllers die after any action of a plan. Route in: random orders of [`Step`]s. Route out: what holds after each, and at
//! the end.

use proptest::prelude::*;
use serde_json::{Value, json};
use sheaf_api::status::VirtualMachineStatus;

use super::tests::{maintenance, node, vm};
use super::*;

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// The controller does the first so many actions of its plan.
    Maintain(usize),
    /// The VM controller looks at a VM.
    Machine(usize),
    /// kube-scheduler binds what waits.
    Schedule,
    /// The node's agent: VMs that are to power off have.
    Agent,
    /// An administrator deletes the maintenance.
    End,
    /// So many seconds pass.
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..8usize).prop_map(Step::Maintain),
        4 => (0..VMS.len()).prop_map(Step::Machine),
        2 => Just(Step::Schedule),
        3 => Just(Step::Agent),
        1 => Just(Step::End),
        1 => (1..120_i64).prop_map(Step::Wait),
    ]
}

/// Run strategy, and whether it has disks on the node.
const VMS: [(&str, bool); 4] =
    [("Always", false), ("Always", true), ("RerunOnFailure", true), ("Manual", true)];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Pending,
    Here,
    Elsewhere,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Runs,
    Stopping,
    Over,
}

struct Instance {
    number: u32,
    place: Place,
    state: State,
}

struct Machine {
    strategy: &'static str,
    local: bool,
    requests: Vec<StateChangeRequest>,
    instance: Option<Instance>,
    stops: u32,
    starts: u32,
}

impl Machine {
    fn uid(&self, index: usize) -> Option<String> {
        self.instance.as_ref().map(|instance| format!("vmi-{index}-{}", instance.number))
    }

    /// The VM as it is read.
    fn read(&self, index: usize) -> Vm {
        let stopping = self.instance.as_ref().is_some_and(|instance| instance.state == State::Stopping);
        let more = match stopping {
            true => json!({"deletionTimestamp": "2099-01-01T00:00:00Z"}),
            false => json!({}),
        };
        let mut vm = vm(&index.to_string(), self.strategy, json!({}), more);
        let status =
            VirtualMachineStatus { state_change_requests: self.requests.clone(), ..Default::default() };
        vm.machine.as_mut().unwrap().status = Some(status);
        vm.instance = vm.instance.take().filter(|_| self.instance.is_some()).map(|mut instance| {
            let over = self.instance.as_ref().is_some_and(|instance| instance.state == State::Over);
            let phase: Value = json!({"phase": if over { "Failed" } else { "Running" }});
            instance.status = serde_json::from_value(phase).unwrap();
            instance.metadata.uid = self.uid(index);
            instance
        });
        vm.pod.metadata.uid = self.uid(index);
        vm.claims_here = if self.local { vec!["root".into()] } else { Vec::new() };
        vm
    }

    /// The VM controller, as `vm/plan.rs` has it.
    fn reconcile(&mut self, index: usize) {
        let uid = self.uid(index);
        let over = self.instance.as_ref().is_some_and(|instance| instance.state == State::Over);
        match self.requests.first().cloned() {
            Some(request) if request.action == StateChange::Stop => {
                if request.uid == uid && over {
                    self.instance = None;
                }
                self.requests.remove(0);
            }
            Some(_) => {
                if self.instance.is_none() {
                    self.create();
                }
                self.requests.remove(0);
            }
            None if over && self.strategy != "Manual" => {
                self.instance = None;
                self.create();
            }
            None => {}
        }
    }

    fn create(&mut self) {
        self.starts += 1;
        let instance = Instance { number: self.starts, place: Place::Pending, state: State::Runs };
        self.instance = Some(instance);
    }
}

struct World {
    /// None once it is gone.
    object: Option<NodeMaintenance>,
    node: Node,
    was_cordoned: bool,
    machines: Vec<Machine>,
    now: i64,
}

impl World {
    fn new(was_cordoned: bool, deadline: Option<u32>) -> Self {
        let mut object = maintenance(json!({"deadlineSeconds": deadline}), json!({}));
        object.metadata.finalizers = None;
        let machine = |(strategy, local)| Machine {
            strategy,
            local,
            requests: Vec::new(),
            instance: Some(Instance { number: 0, place: Place::Here, state: State::Runs }),
            stops: 0,
            starts: 0,
        };
        Self {
            object: Some(object),
            node: node(was_cordoned),
            was_cordoned,
            machines: VMS.map(machine).into(),
            now: 1_800_000_000,
        }
    }

    fn observed(&self, object: &NodeMaintenance) -> Observed {
        let all = || self.machines.iter().enumerate();
        let here = |machine: &Machine| {
            let instance = machine.instance.as_ref();
            instance.is_some_and(|one| one.place == Place::Here && one.state != State::Over)
        };
        let of_entry = |entry: &StoppedVm| {
            let index: usize = entry.name.parse().unwrap();
            let Vm { machine, instance, .. } = self.machines[index].read(index);
            Known { entry: entry.clone(), machine, instance }
        };
        Observed {
            maintenance: object.clone(),
            node: Some(self.node.clone()),
            vms: all().filter(|(_, machine)| here(machine)).map(|(index, one)| one.read(index)).collect(),
            known: object.status.iter().flat_map(|status| &status.stopped).map(of_entry).collect(),
            budgets: Vec::new(),
            control_plane: Vec::new(),
        }
    }

    fn apply(&mut self, action: Action) {
        let Some(object) = &mut self.object else { return };
        match action {
            Action::AddFinalizer => object.metadata.finalizers = Some(vec![MAINTENANCE_FINALIZER.into()]),
            Action::RemoveFinalizer => self.object = None,
            Action::WriteStatus(status) => object.status = Some(*status),
            Action::Cordon(cordoned) => self.node = node(cordoned),
            Action::Evict { uid, .. } => {
                assert!(is_cordoned(&self.node), "a VM was stopped that could come back at once");
                for (index, machine) in self.machines.iter_mut().enumerate() {
                    let of = machine.uid(index);
                    if let Some(instance) = machine.instance.as_mut().filter(|_| of.as_ref() == Some(&uid))
                        && instance.state == State::Runs
                    {
                        instance.state = State::Stopping;
                        machine.stops += 1;
                    }
                }
            }
            Action::Start { vm, requests } => {
                let index: usize = vm.metadata.name.unwrap().parse().unwrap();
                let machine = &mut self.machines[index];
                if machine.requests.is_empty() {
                    machine.requests = requests;
                }
            }
            Action::RecordEvent(_) => {}
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Maintain(many) => {
                let Some(object) = self.object.clone() else { return };
                let now = Timestamp::from_second(self.now).unwrap();
                let planned = plan(&self.observed(&object), now);
                planned.actions.into_iter().take(many).for_each(|action| self.apply(action));
            }
            Step::Machine(index) => self.machines[index].reconcile(index),
            Step::Schedule => {
                let cordoned = is_cordoned(&self.node);
                for machine in &mut self.machines {
                    let local = machine.local;
                    if let Some(instance) =
                        machine.instance.as_mut().filter(|one| one.place == Place::Pending)
                    {
                        match (cordoned, local) {
                            (false, _) => instance.place = Place::Here,
                            (true, false) => instance.place = Place::Elsewhere,
                            (true, true) => {}
                        }
                    }
                }
            }
            Step::Agent => {
                let all = self.machines.iter_mut().filter_map(|machine| machine.instance.as_mut());
                all.filter(|one| one.state == State::Stopping).for_each(|one| one.state = State::Over);
            }
            Step::End => {
                if let Some(object) = &mut self.object {
                    let now = Timestamp::from_second(self.now).unwrap();
                    match object.metadata.finalizers {
                        Some(_) => object.metadata.deletion_timestamp = Some(seconds(now)),
                        None => self.object = None,
                    }
                }
            }
            Step::Wait(many) => self.now += many,
        }
        for machine in &self.machines {
            assert!(
                machine.starts <= machine.stops,
                "started {} times for {} stops",
                machine.starts,
                machine.stops
            );
        }
    }

    /// Everything that is left to do is done.
    fn settle(&mut self) {
        for _ in 0..12 {
            self.step(&Step::Maintain(usize::MAX));
            self.step(&Step::Agent);
            (0..VMS.len()).for_each(|index| self.step(&Step::Machine(index)));
            self.step(&Step::Schedule);
        }
    }
}

proptest! {
    #[test]
    fn no_order_of_events_leaves_a_node_cordoned_or_a_vm_stopped_or_starts_one_twice(
        steps in proptest::collection::vec(step(), 0..60),
        was_cordoned in any::<bool>(),
        deadline in proptest::option::of(30..300_u32),
    ) {
        let mut world = World::new(was_cordoned, deadline);
        steps.iter().for_each(|step| world.step(step));
        world.step(&Step::End);
        world.settle();
        prop_assert!(world.object.is_none(), "{:?}", world.object);
        prop_assert_eq!(is_cordoned(&world.node), world.was_cordoned);
        for machine in &world.machines {
            let instance = machine.instance.as_ref().unwrap();
            // One whose node was cordoned before waits until that is undone.
            let waits = was_cordoned && machine.local && machine.stops > 0;
            prop_assert!(instance.state == State::Runs && (waits || instance.place != Place::Pending));
            prop_assert_eq!(machine.starts, machine.stops);
        }
    }

    #[test]
    fn a_node_comes_to_rest_whatever_happened_and_then_no_vm_runs_there(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut world = World::new(false, None);
        steps.iter().filter(|step| !matches!(step, Step::End)).for_each(|step| world.step(step));
        world.settle();
        let status = world.object.unwrap().status.unwrap();
        prop_assert_eq!(status.phase, Some(Phase::InMaintenance));
        let here = |machine: &Machine| machine.instance.as_ref().is_some_and(|one| one.place == Place::Here && one.state == State::Runs);
        prop_assert!(!world.machines.iter().any(here));
    }
}
