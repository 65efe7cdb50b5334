//! Property: whatever happens in whatever order, no VM ever has two live Pods or two live domains.
//!
//! Why here: it follows from the plans of VMs, instances and Pod ends together, and from no single one of them. A small
//! model plays the rest: the API server (finalizers, grace, preconditions), kube-scheduler, both garbage collectors, agents
//! that may be cut off and then act on what they knew, nodes that stop a VM by themselves when their lease is not renewed, if they said
//! so (with what times: [`crate::node_lost`]), a tenant with the rights of `edit`, an administrator who declares out of service only
//! what is powered off. Route in: random orders of [`Step`]s. Route out: the two counts after each.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Node, Pod},
    jiff::Timestamp,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    cluster_config::{ClusterConfigSpec, HighAvailability},
    names::{NODE_LOST_ANNOTATION, OUT_OF_SERVICE_TAINT, STOPS_ALONE_CONDITION, VM_FINALIZER, VMI_FINALIZER},
    restart_elsewhere::{STOP_AFTER, TAKE_OVER_AFTER, is_marked},
};

use crate::{
    conditions::seconds,
    networks::Networks,
    node_lost,
    placeholder::{self, end},
    vm, vmi,
};

/// Names of the two nodes.
const NODES: [&str; 2] = ["n1", "n2"];

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// The VM's controller does the first so many actions of its plan.
    Vm(usize),
    /// The instance's controller decides, and does nothing yet.
    PlanVmi,
    /// It does the first so many actions of what it decided.
    ApplyVmi(usize),
    /// The controller of Pod ends looks at all Pods.
    Ends,
    /// kube-scheduler binds every Pod that has no node.
    Schedule(usize),
    /// A node's agent does what it does; cut off, with what it knew.
    Agent(usize),
    /// A guest powers itself off.
    PowersOff(usize),
    /// A node is cut off from the API server, or no longer.
    Cut(usize, bool),
    /// A node's machine is powered off: its domains end.
    MachineOff(usize),
    /// The controller of nodes that are lost acts, if the lease of this one is old enough.
    Lost(usize),
    /// An administrator declares a node out of service, if its machine is off.
    OutOfService(usize),
    /// An administrator deletes the Node object.
    DeleteNode(usize),
    /// Pods of Nodes that do not exist are failed and forced away; Pods without owner are deleted.
    Collect,
    /// `kubectl delete pod`, with this grace.
    DeletePods(i64),
    /// `kubectl delete vmi`.
    DeleteVmi,
    /// A tenant removes the instance's finalizer.
    StripVmi,
    /// A tenant removes the VM's finalizer, deletes it, and creates one of the same name.
    RecreateVm,
    /// The run strategy changes.
    Strategy(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES.len();
    prop_oneof![
        4 => (0..6usize).prop_map(Step::Vm),
        4 => Just(Step::PlanVmi),
        4 => (0..8usize).prop_map(Step::ApplyVmi),
        3 => Just(Step::Ends),
        3 => node().prop_map(Step::Schedule),
        5 => node().prop_map(Step::Agent),
        1 => node().prop_map(Step::PowersOff),
        2 => (node(), any::<bool>()).prop_map(|(node, cut)| Step::Cut(node, cut)),
        1 => node().prop_map(Step::MachineOff),
        1 => node().prop_map(Step::OutOfService),
        3 => node().prop_map(Step::Lost),
        1 => node().prop_map(Step::DeleteNode),
        2 => Just(Step::Collect),
        2 => prop_oneof![Just(0), Just(180), Just(i64::MAX)].prop_map(Step::DeletePods),
        2 => Just(Step::DeleteVmi),
        1 => Just(Step::StripVmi),
        1 => Just(Step::RecreateVm),
        1 => prop_oneof![Just("Always"), Just("Halted"), Just("RerunOnFailure")].prop_map(Step::Strategy),
    ]
}

/// A machine and its agent.
#[derive(Default)]
struct Machine {
    off: bool,
    cut: bool,
    /// UIDs of Pods whose domains run.
    domains: BTreeSet<String>,
    /// UIDs of Pods that it ever started: never again.
    started: BTreeSet<String>,
    /// UIDs of Pods whose VMs it said to stop without a lease.
    stops: BTreeSet<String>,
    /// When it renewed its lease last, in seconds.
    renewed: i64,
    /// What its agent last received of its Pods.
    known: Vec<Pod>,
    /// Its Node object.
    node: Option<Node>,
}

struct World {
    vm: VirtualMachine,
    vmi: Option<VirtualMachineInstance>,
    planned: Option<(VirtualMachineInstance, Vec<vmi::plan::Action>)>,
    pods: Vec<Pod>,
    machines: BTreeMap<&'static str, Machine>,
    /// UIDs of Pods whose runs were over at some time: a Node that is deleted later starts none of them again.
    over: BTreeSet<String>,
    uids: u32,
    now: i64,
    /// Whether VMs whose nodes are lost start elsewhere.
    armed: HighAvailability,
}

impl World {
    fn new(armed: HighAvailability) -> Self {
        let ready = |name: &str| {
            serde_json::from_value(json!({"metadata": {"name": name},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]}}))
            .unwrap()
        };
        let machine = |name| (name, Machine { node: Some(ready(name)), ..Machine::default() });
        Self {
            vm: virtual_machine("Always", "vm-0"),
            vmi: None,
            planned: None,
            pods: Vec::new(),
            machines: NODES.map(machine).into(),
            over: BTreeSet::new(),
            uids: 0,
            now: 1_800_000_000,
            armed,
        }
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("{:08x}-0000", self.uids)
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    fn node(&self, pod: &Pod) -> Option<&Node> {
        self.machines.get(end::node_of(pod)?)?.node.as_ref()
    }

    fn take(&mut self, step: Step) {
        self.now += 20;
        self.leases();
        match step {
            Step::Vm(cut) => self.reconcile_vm(cut),
            Step::PlanVmi => self.plan_vmi(),
            Step::ApplyVmi(cut) => self.apply_vmi(cut),
            Step::Ends => self.ends(),
            Step::Schedule(node) => {
                for pod in &mut self.pods {
                    let spec = pod.spec.as_mut().unwrap();
                    if spec.node_name.is_none() && pod.metadata.deletion_timestamp.is_none() {
                        spec.node_name = Some(NODES[node].into());
                    }
                }
            }
            Step::Agent(node) => self.agent(NODES[node]),
            Step::PowersOff(node) => self.machine(node).domains.clear(),
            Step::Cut(node, cut) => self.cut(node, cut),
            Step::MachineOff(node) => {
                self.cut(node, true);
                let machine = self.machine(node);
                (machine.off, machine.cut) = (true, true);
                machine.domains.clear();
            }
            Step::Lost(node) => self.lost(NODES[node]),
            Step::OutOfService(node) if self.machine(node).off => {
                let taints = json!([{"key": OUT_OF_SERVICE_TAINT, "effect": "NoExecute"}]);
                let node_object = json!({"metadata": {"name": NODES[node]}, "spec": {"taints": taints}});
                self.machine(node).node = Some(serde_json::from_value(node_object).unwrap());
            }
            Step::OutOfService(_) => {}
            Step::DeleteNode(node) => self.machine(node).node = None,
            Step::Collect => self.collect(),
            Step::DeletePods(grace) => {
                for index in 0..self.pods.len() {
                    self.delete_pod(index, grace);
                }
                self.sweep();
            }
            Step::DeleteVmi => self.delete_vmi(),
            Step::StripVmi => {
                if let Some(vmi) = &mut self.vmi {
                    vmi.metadata.finalizers = None;
                }
                self.sweep();
            }
            Step::RecreateVm => {
                let uid = format!("vm-{}", self.uid());
                self.vm = virtual_machine("Always", &uid);
                // The garbage collector deletes the instance of the VM that is gone.
                self.delete_vmi();
            }
            Step::Strategy(strategy) => {
                self.vm.spec.run_strategy = serde_json::from_value(json!(strategy)).unwrap();
            }
        }
    }

    /// Nodes renew their leases, or stop what they said: by a timer of the machine, whatever their agents do.
    fn leases(&mut self) {
        for machine in self.machines.values_mut() {
            if !machine.cut && !machine.off {
                machine.renewed = self.now;
            } else if self.now - machine.renewed >= seconds_of(STOP_AFTER) {
                machine.domains.retain(|uid| !machine.stops.contains(uid));
            }
        }
    }

    fn lost(&mut self, name: &'static str) {
        if self.now - self.machines[name].renewed < seconds_of(TAKE_OVER_AFTER) {
            return;
        }
        let here: Vec<Pod> =
            self.pods.iter().filter(|pod| end::node_of(pod) == Some(name)).cloned().collect();
        for action in node_lost::plan::plan(self.machines[name].node.as_ref(), &here, self.time()) {
            let node_lost::plan::Action::Mark { name, patch, .. } = action else { continue };
            let pod = self.pods.iter_mut().find(|pod| pod.metadata.name.as_ref() == Some(&name));
            if let Some(pod) = pod.filter(|pod| json!(pod.metadata.uid) == patch["metadata"]["uid"]) {
                let at = patch["metadata"]["annotations"][NODE_LOST_ANNOTATION].as_str().unwrap().to_owned();
                pod.metadata.annotations.get_or_insert_default().insert(NODE_LOST_ANNOTATION.into(), at);
            }
        }
    }

    fn machine(&mut self, node: usize) -> &mut Machine {
        self.machines.get_mut(NODES[node]).unwrap()
    }

    fn cut(&mut self, node: usize, cut: bool) {
        let machine = self.machine(node);
        // A machine that is off does not come back here; its VMs do not either.
        machine.cut = cut || machine.off;
        let ready = if machine.cut { "Unknown" } else { "True" };
        if let Some(node) = &mut machine.node {
            node.status =
                serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": ready}]})).unwrap();
        }
    }

    fn reconcile_vm(&mut self, cut: usize) {
        let plan =
            vm::plan::plan(&crate::instancetype::Sized::plain(&self.vm), self.vmi.as_ref(), &[], self.time());
        for action in plan.actions.into_iter().take(cut) {
            match action {
                vm::plan::Action::AddFinalizer => {
                    self.vm.metadata.finalizers = Some(vec![VM_FINALIZER.into()])
                }
                vm::plan::Action::Start(mut vmi) if self.vmi.is_none() => {
                    vmi.metadata.uid = Some(self.uid());
                    self.vmi = Some(*vmi);
                }
                vm::plan::Action::Stop { uid }
                    if self.vmi.as_ref().and_then(|vmi| vmi.metadata.uid.as_ref()) == Some(&uid) =>
                {
                    self.delete_vmi();
                }
                vm::plan::Action::WriteStatus(status) => self.vm.status = Some(*status),
                _ => {}
            }
        }
    }

    fn plan_vmi(&mut self) {
        let Some(vmi) = self.vmi.clone() else { return };
        let name = placeholder::name(&vmi);
        let (mine, others): (Vec<&Pod>, Vec<&Pod>) =
            self.pods.iter().partition(|pod| pod.metadata.name.as_ref() == Some(&name));
        let earlier: Vec<_> = others.into_iter().map(|pod| (pod.clone(), self.node(pod).cloned())).collect();
        let observed = vmi::plan::Observed {
            vmi: &vmi,
            pod: mine.first().copied(),
            node: mine.first().and_then(|pod| self.node(pod)),
            earlier: &earlier,
            networks: &Ok(Networks::default()),
            config: &ClusterConfigSpec { high_availability: self.armed, ..Default::default() },
            images: &Default::default(),
            volumes: &Default::default(),
            nics: &Default::default(),
        };
        let plan = vmi::plan::plan(&observed, self.time()).unwrap();
        self.planned = Some((vmi, plan.actions));
    }

    fn apply_vmi(&mut self, cut: usize) {
        let Some((planned, actions)) = self.planned.take() else { return };
        for action in actions.into_iter().take(cut) {
            let uid = self.uid();
            let vmi = self.vmi.as_mut().filter(|vmi| vmi.metadata.uid == planned.metadata.uid);
            match action {
                vmi::plan::Action::CreatePod(mut pod) => {
                    if self.pods.iter().all(|other| other.metadata.name != pod.metadata.name) {
                        pod.metadata.uid = Some(uid);
                        self.pods.push(*pod);
                    }
                }
                vmi::plan::Action::DeletePod { uid, .. } => {
                    if let Some(index) =
                        self.pods.iter().position(|pod| pod.metadata.uid.as_ref() == Some(&uid))
                    {
                        self.delete_pod(index, 180);
                        self.sweep();
                    }
                }
                vmi::plan::Action::AddFinalizer => {
                    if let Some(vmi) = vmi {
                        vmi.metadata.finalizers = Some(vec![VMI_FINALIZER.into()]);
                    }
                }
                vmi::plan::Action::RemoveFinalizer => {
                    if let Some(vmi) = vmi {
                        vmi.metadata.finalizers = None;
                    }
                    self.sweep();
                }
                vmi::plan::Action::WriteStatus(status) => {
                    if let Some(vmi) = vmi {
                        vmi.status = Some(*status);
                    }
                }
                vmi::plan::Action::CreateAttachment(_)
                | vmi::plan::Action::MarkDetach { .. }
                | vmi::plan::Action::SetSize { .. }
                | vmi::plan::Action::SetLinks { .. }
                | vmi::plan::Action::ResizePod { .. }
                | vmi::plan::Action::LabelNode(_)
                | vmi::plan::Action::RecordEvent(_) => {}
            }
        }
    }

    fn ends(&mut self) {
        for index in 0..self.pods.len() {
            for action in end::plan(&self.pods[index], self.node(&self.pods[index])) {
                match action {
                    end::Action::DeleteNow => self.delete_pod(index, 0),
                    end::Action::RemoveFinalizer => self.pods[index].metadata.finalizers = None,
                }
            }
        }
        self.sweep();
    }

    /// Starts what is new, ends what is to end, reports both if the API server is reached.
    fn agent(&mut self, name: &'static str) {
        let machine = self.machines.get_mut(name).unwrap();
        if machine.off {
            return;
        }
        if !machine.cut {
            machine.known = self.pods.iter().filter(|pod| end::node_of(pod) == Some(name)).cloned().collect();
            let known: BTreeSet<_> =
                machine.known.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
            machine.domains.retain(|uid| known.contains(uid));
        }
        for pod in &machine.known {
            let uid = pod.metadata.uid.clone().unwrap();
            if pod.metadata.deletion_timestamp.is_none() && machine.started.insert(uid.clone()) {
                machine.domains.insert(uid.clone());
            } else if pod.metadata.deletion_timestamp.is_some() {
                machine.started.insert(uid.clone());
                machine.domains.remove(&uid);
            }
            if machine.domains.contains(&uid) && is_marked(pod) && !machine.cut {
                machine.stops.insert(uid.clone());
            }
            let stops = json!({"type": STOPS_ALONE_CONDITION, "status": "True"});
            let ready = json!({"type": "Ready", "status": "True"});
            let status = match machine.domains.contains(&uid) {
                true if machine.stops.contains(&uid) => {
                    json!({"phase": "Running", "conditions": [ready, stops]})
                }
                true => json!({"phase": "Running", "conditions": [ready]}),
                false => terminated(),
            };
            if let Some(pod) =
                self.pods.iter_mut().find(|pod| pod.metadata.uid.as_ref() == Some(&uid) && !machine.cut)
            {
                pod.status = serde_json::from_value(status).unwrap();
            }
        }
    }

    fn collect(&mut self) {
        for index in 0..self.pods.len() {
            let pod = &self.pods[index];
            let orphan = end::node_of(pod).is_some() && self.node(pod).is_none();
            let owner = pod.metadata.owner_references.iter().flatten().next().map(|owner| owner.uid.clone());
            let owned = self.vmi.as_ref().is_some_and(|vmi| vmi.metadata.uid == owner);
            if orphan {
                let status = self.pods[index].status.get_or_insert_default();
                status.phase = Some("Failed".into());
                self.delete_pod(index, 0);
            } else if !owned {
                self.delete_pod(index, 180);
            }
        }
        self.sweep();
    }

    /// As the API server: a Pod without node or one that has ended has no grace.
    fn delete_pod(&mut self, index: usize, grace: i64) {
        let now = self.time();
        let pod = &mut self.pods[index];
        let ended = matches!(
            pod.status.as_ref().and_then(|status| status.phase.as_deref()),
            Some("Succeeded" | "Failed")
        );
        let grace = if ended || end::node_of(pod).is_none() { 0 } else { grace };
        let before = pod.metadata.deletion_grace_period_seconds.unwrap_or(i64::MAX);
        pod.metadata.deletion_timestamp.get_or_insert_with(|| seconds(now));
        pod.metadata.deletion_grace_period_seconds = Some(grace.min(before));
    }

    fn delete_vmi(&mut self) {
        let now = self.time();
        if let Some(vmi) = &mut self.vmi {
            vmi.metadata.deletion_timestamp.get_or_insert_with(|| seconds(now));
        }
        self.sweep();
    }

    /// Removes what is deleted and held by nothing.
    fn sweep(&mut self) {
        let free = |finalizers: &Option<Vec<String>>| finalizers.as_ref().is_none_or(Vec::is_empty);
        self.pods.retain(|pod| {
            pod.metadata.deletion_timestamp.is_none()
                || !free(&pod.metadata.finalizers)
                || pod.metadata.deletion_grace_period_seconds != Some(0)
        });
        self.vmi = self
            .vmi
            .take()
            .filter(|vmi| vmi.metadata.deletion_timestamp.is_none() || !free(&vmi.metadata.finalizers));
    }

    /// Remembers which runs are over now.
    fn remember(&mut self) {
        let over = self.pods.iter().filter(|pod| end::is_over(pod, self.node(pod)));
        let over: Vec<String> = over.filter_map(|pod| pod.metadata.uid.clone()).collect();
        self.over.extend(over);
    }

    fn live_pods(&self) -> usize {
        let over = |pod: &&Pod| pod.metadata.uid.as_ref().is_some_and(|uid| self.over.contains(uid));
        self.pods.iter().filter(|pod| !over(pod)).count()
    }

    fn live_domains(&self) -> usize {
        self.machines.values().map(|machine| machine.domains.len()).sum()
    }
}

fn seconds_of(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap()
}

fn terminated() -> Value {
    json!({"phase": "Succeeded", "containerStatuses": [{"name": "compute", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}]})
}

fn virtual_machine(strategy: &str, uid: &str) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", "uid": uid, "finalizers": [VM_FINALIZER]},
        "spec": {"runStrategy": strategy, "template": {"spec":
            {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}}}},
    }))
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn no_order_of_events_gives_a_vm_two_live_pods_or_two_live_domains(
        steps in proptest::collection::vec(step(), 1..120),
        armed in any::<bool>(),
    ) {
        let mut world = World::new(if armed { HighAvailability::Armed } else { HighAvailability::Disarmed });
        for (number, step) in steps.iter().enumerate() {
            world.take(step.clone());
            world.remember();
            prop_assert!(world.live_pods() <= 1, "two live Pods after {:?}", &steps[..=number]);
            prop_assert!(world.live_domains() <= 1, "two live domains after {:?}", &steps[..=number]);
        }
    }
}

/// The model is worth something only if VMs run in it and are started again.
#[test]
fn in_the_model_a_vm_runs_moves_to_another_node_when_told_and_runs_again() {
    let mut world = World::new(HighAvailability::Disarmed);
    let settle = |world: &mut World, node: usize| {
        for _ in 0..8 {
            world.take(Step::Vm(9));
            world.take(Step::PlanVmi);
            world.take(Step::ApplyVmi(9));
            world.take(Step::Schedule(node));
            world.take(Step::Agent(node));
            world.take(Step::Ends);
        }
    };
    settle(&mut world, 0);
    assert_eq!(world.machines["n1"].domains.len(), 1);
    world.take(Step::Cut(0, true));
    world.take(Step::DeletePods(0));
    world.take(Step::DeleteNode(0));
    world.take(Step::Collect);
    settle(&mut world, 1);
    assert_eq!((world.machines["n1"].domains.len(), world.machines["n2"].domains.len()), (1, 0));
    world.take(Step::MachineOff(0));
    world.take(Step::OutOfService(0));
    settle(&mut world, 1);
    assert_eq!((world.machines["n1"].domains.len(), world.machines["n2"].domains.len()), (0, 1));
}

/// Without an administrator: the node stops the VM, and then it starts elsewhere.
#[test]
fn in_the_model_a_vm_whose_node_is_cut_off_runs_elsewhere_by_itself() {
    let mut world = World::new(HighAvailability::Armed);
    let settle = |world: &mut World, node: usize| {
        for _ in 0..8 {
            for step in [Step::Vm(9), Step::PlanVmi, Step::ApplyVmi(9), Step::Schedule(node)] {
                world.take(step);
            }
            world.take(Step::Agent(node));
            world.take(Step::Ends);
        }
    };
    settle(&mut world, 0);
    world.take(Step::Cut(0, true));
    world.take(Step::Lost(0));
    assert_eq!(world.machines["n1"].domains.len(), 0, "it is stopped before anything else");
    settle(&mut world, 1);
    assert_eq!(world.machines["n2"].domains.len(), 0, "its time is not over");
    world.take(Step::Lost(0));
    settle(&mut world, 1);
    assert_eq!((world.machines["n1"].domains.len(), world.machines["n2"].domains.len()), (0, 1));
}
