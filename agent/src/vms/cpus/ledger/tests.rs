//! A node with VMs that have processors to themselves, and with VMs that share the rest, in any order of events.
//!
//! Why here: a processor that is given twice makes both VMs slow, and nothing shows why. The node in here carries out what the
//! plan says as libvirt would, through the XML that it is given; its agent is killed and restarted, its records are lost, its
//! starts fail. kube-scheduler binds no Pod for which there is no room.

use super::*;
use crate::vms::domain_xml::{DomainType, render};
use crate::vms::facts::{Facts, Resources};
use crate::vms::guest::{Folder, Guest};
use crate::vms::plan::{Action, Memory, plan, rfc3339};
use crate::vms::record::{Record, Started};
use crate::vms::report;
use crate::vms::testing::facts;
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};
use sheaf_host::cpus::CpuReport as _;
use sheaf_host::fakes::FakeCpus;
use sheaf_host::libvirt::read_domain;
use std::path::Path;
use std::sync::Arc;

const NOW: i64 = 1_800_000_000;

/// A node of 16 processors in two cells, of which core 0 is reserved.
struct Node {
    pods: BTreeMap<String, Arc<Pod>>,
    domains: Vec<Domain>,
    records: BTreeMap<String, Record>,
    facts: Facts,
    memory: Memory,
    now: i64,
}

/// What becomes of a start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    Succeeds,
    Fails,
    /// The agent is killed once the record is written.
    KilledBefore,
    /// The agent is killed once QEMU runs.
    KilledAfter,
}

impl Node {
    fn new() -> Self {
        let topology = FakeCpus::of(2, 4, 2).topology().unwrap();
        let reserved = CpuSet::parse("0,8").unwrap();
        let all =
            Resources { cpu: 14_000, memory: 1 << 36, pods: 250, storage: 1 << 36, ..Resources::default() };
        let facts = Facts { allocatable: Some(all), cpus: Some(NodeCpus { topology, reserved }), ..facts() };
        let (pods, records) = (BTreeMap::new(), BTreeMap::new());
        Self { pods, domains: Vec::new(), records, facts, memory: Memory::default(), now: NOW }
    }

    fn observed(&self) -> Observed<'_> {
        let Self { pods, domains, records, facts, memory, now } = self;
        Observed { pods, domains, records, facts, memory, now: *now }
    }

    /// Thousandths of processors that the scheduler counts.
    fn requested(&self) -> u64 {
        let alive = self.pods.values().filter(|pod| !report::is_terminal(pod));
        alive.map(|pod| crate::vms::admission::needs(pod, &self.facts).cpu).sum()
    }

    /// Binds VM `number` with `cpu`, if there is room.
    fn bind(&mut self, number: u8, cpu: Value) {
        let uid = format!("p{number}");
        let vmi = format!("0b0e6d2c-6a4e-4c9f-9a53-0000000000{number:02}");
        let spec = json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"autoattachPodInterface": false}, "cpu": cpu}});
        let annotation =
            json!({"name": format!("vm{number}"), "namespace": "default", "uid": vmi, "spec": spec})
                .to_string();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": format!("virt-launcher-{number}"), "namespace": "default", "uid": uid,
                         "annotations": {"sheaf.dev/vmi": annotation}},
            "spec": {"runtimeClassName": "sheaf-vm", "restartPolicy": "Never", "terminationGracePeriodSeconds": 60,
                     "containers": [{"name": "compute", "image": "sheaf.dev/virtual-machine",
                                     "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}}}]},
            "status": {"phase": "Pending"},
        }))
        .unwrap();
        let fits = self.requested() + crate::vms::admission::needs(&pod, &self.facts).cpu <= 14_000;
        let is_new = !self.pods.contains_key(&uid) && !self.records.contains_key(&uid);
        if fits && is_new && self.domains.iter().all(|domain| domain.tags[TAG_POD_UID] != uid) {
            self.pods.insert(uid, Arc::new(pod));
        }
    }

    fn bind_own(&mut self, number: u8, cpus: u32, emulator: bool) {
        let isolated =
            json!({"cores": cpus, "dedicatedCpuPlacement": true, "isolateEmulatorThread": emulator});
        self.bind(number, isolated);
    }

    fn round(&mut self, start: Start) {
        self.remember();
        let actions = plan(&self.observed()).actions;
        for (uid, action) in actions {
            match action {
                Action::Start(guest) => {
                    self.start(&uid, &guest, start);
                    if matches!(start, Start::KilledBefore | Start::KilledAfter) {
                        self.memory = Memory::default();
                        return;
                    }
                }
                Action::Pin { uuid, cpus } => {
                    let domain = self.domains.iter_mut().find(|domain| domain.uuid == uuid).unwrap();
                    domain.pins.emulator = Some(cpus.clone());
                    domain.pins.vcpus = (0..domain.cpus.most).map(|vcpu| (vcpu, cpus.clone())).collect();
                }
                Action::Report(report) => {
                    let pod = Arc::make_mut(self.pods.get_mut(&uid).unwrap());
                    let patch = report.patch(pod, None, &rfc3339(self.now));
                    pod.status = serde_json::from_value(patch["status"].clone()).unwrap();
                }
                Action::Adopt(record) => drop(self.records.insert(uid, record)),
                Action::DeletePod => drop(self.pods.remove(&uid)),
                Action::RemoveFolder(record) => drop(self.records.remove(&record.pod_uid)),
                Action::ConfirmGone(id) => {
                    if !self.pods.contains_key(&id.pod_uid) {
                        self.memory.gone.insert(id.pod_uid);
                    }
                }
                Action::PressPowerButton(uuid) | Action::Destroy(uuid) => {
                    self.domains.retain(|domain| domain.uuid != uuid);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// As the controller does before it plans.
    fn remember(&mut self) {
        let is_alive = |uid: &String| self.domains.iter().any(|domain| domain.tags[TAG_POD_UID] == *uid);
        let recorded = self.records.iter().filter(|(_, record)| record.started.is_some()).map(|(uid, _)| uid);
        let reported = self.pods.iter().filter(|(_, pod)| report::was_started(pod)).map(|(uid, _)| uid);
        for uid in recorded.chain(reported) {
            match is_alive(uid) {
                true => drop(self.memory.missing.remove(uid)),
                false => drop(self.memory.missing.entry(uid.clone()).or_insert(self.now)),
            }
        }
    }

    fn start(&mut self, uid: &str, guest: &Guest, start: Start) {
        let cpus = guest.placement.own();
        let mut record = Record { cpus, ..Record::made(&guest.id) };
        self.records.insert(uid.to_owned(), record.clone());
        if matches!(start, Start::Fails | Start::KilledBefore) {
            return;
        }
        let xml = render(guest, &Folder::of(Path::new("/data/vms"), &guest.id.vmi_uid), DomainType::Kvm);
        self.domains.push(read_domain(&xml).unwrap());
        if start == Start::Succeeds {
            let boot_id = self.facts.boot_id.clone();
            record.started = Some(Started { boot_id, uuid: guest.uuid.clone(), at: rfc3339(self.now) });
            self.records.insert(uid.to_owned(), record);
        }
    }

    fn rounds(&mut self) {
        for _ in 0..8 {
            self.now += 20;
            self.round(Start::Succeeds);
        }
    }

    fn delete(&mut self, uid: &str) {
        let at = json!({"deletionTimestamp": rfc3339(self.now + 60), "deletionGracePeriodSeconds": 60});
        let meta: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta =
            serde_json::from_value(at).unwrap();
        if let Some(pod) = self.pods.get_mut(uid) {
            let pod = Arc::make_mut(pod);
            pod.metadata.deletion_timestamp = meta.deletion_timestamp;
            pod.metadata.deletion_grace_period_seconds = meta.deletion_grace_period_seconds;
        }
    }

    fn domain(&self, number: u8) -> &Domain {
        let uid = format!("p{number}");
        self.domains.iter().find(|domain| domain.tags[TAG_POD_UID] == uid).unwrap()
    }

    fn own(&self, number: u8) -> String {
        own(self.domain(number)).unwrap().to_string()
    }

    /// No processor is of two VMs, none that is reserved is of one.
    fn check(&self) -> Result<(), String> {
        let mut taken = CpuSet::parse("0,8").unwrap();
        for cpus in self.domains.iter().filter_map(own) {
            if !taken.common(&cpus).is_empty() {
                return Err(format!("{cpus} of {taken}"));
            }
            taken = taken.with(&cpus);
        }
        Ok(())
    }
}

#[test]
fn vms_have_full_cores_to_themselves_and_the_others_run_on_the_rest() {
    let mut node = Node::new();
    node.bind(1, json!({"cores": 2}));
    node.rounds();
    assert!(node.domain(1).pins.are(&CpuSet::parse("0-15").unwrap(), 2));
    node.bind_own(2, 4, false);
    node.bind_own(3, 2, true);
    node.rounds();
    assert_eq!((node.own(2), node.own(3)), ("1-2,9-10".into(), "4-5,12".into()));
    assert!(
        node.domain(1).pins.are(&CpuSet::parse("0,3,6-8,11,13-15").unwrap(), 2),
        "{:?}",
        node.domain(1).pins
    );
    node.delete("p2");
    node.rounds();
    assert!(node.domain(1).pins.are(&CpuSet::parse("0-3,6-11,13-15").unwrap(), 2), "they are given back");
}

#[test]
fn an_agent_that_starts_again_moves_nothing() {
    let mut node = Node::new();
    node.bind_own(1, 4, false);
    node.bind_own(2, 4, false);
    node.rounds();
    assert_eq!((node.own(1), node.own(2)), ("1-2,9-10".into(), "4-5,12-13".into()));
    node.delete("p1");
    node.rounds();
    node.memory = Memory::default();
    node.records.clear();
    node.bind_own(3, 10, false);
    node.rounds();
    assert_eq!(node.own(2), "4-5,12-13", "by the domain's tag");
    assert_eq!(node.own(3), "1-3,6-7,9-11,14-15");
}

#[test]
fn a_start_that_fails_is_tried_again_on_the_same_processors() {
    let mut node = Node::new();
    node.bind_own(1, 4, false);
    node.round(Start::Fails);
    let first = node.records["p1"].cpus.clone();
    node.bind_own(2, 4, false);
    node.round(Start::Fails);
    assert_ne!(node.records["p2"].cpus, first);
    node.rounds();
    assert_eq!(node.records["p1"].cpus, first);
    assert_eq!(Some(node.own(1)), first.map(|cpus| cpus.to_string()));
}

#[test]
fn a_vm_waits_while_one_that_still_ends_has_its_processors() {
    let mut node = Node::new();
    node.bind_own(1, 14, false);
    node.rounds();
    // The garbage collector of Pods: the scheduler counts it no more, and its domain still runs.
    let pod = Arc::make_mut(node.pods.get_mut("p1").unwrap());
    pod.status.as_mut().unwrap().phase = Some("Failed".into());
    node.bind_own(2, 2, false);
    let actions = plan(&node.observed()).actions;
    let waits = actions.iter().find_map(|(uid, action)| match action {
        Action::Report(report) if uid == "p2" => Some(format!("{:?}", report.state)),
        _ => None,
    });
    let message = "the VM needs 2 processors of its own and 0 are free; VMs that still end have the others";
    assert!(waits.unwrap().contains(message), "{actions:?}");
    node.rounds();
    node.rounds();
    assert_eq!(node.own(2), "1,9");
}

#[test]
fn a_vm_that_takes_long_to_power_off_is_moved_all_the_same() {
    let mut node = Node::new();
    node.bind(1, json!({"cores": 2}));
    node.rounds();
    node.bind_own(2, 4, false);
    node.rounds();
    node.domains.iter_mut().for_each(|domain| domain.pins.emulator = Some(CpuSet::parse("0-15").unwrap()));
    node.delete("p1");
    let pressed = crate::vms::plan::Stopping { since: node.now, pressed: node.now };
    node.memory.stopping.insert("p1".into(), pressed);
    let actions = plan(&node.observed()).actions;
    let cpus = CpuSet::parse("0,3-8,11-15").unwrap();
    assert_eq!(actions, [("p1".to_owned(), Action::Pin { uuid: node.domain(1).uuid.clone(), cpus })]);
    node.memory.unmoved.insert("p1".into(), node.now + 30);
    assert_eq!(plan(&node.observed()).actions, [], "one that could not be moved is tried again later");
}

#[test]
fn a_node_that_gives_no_vm_processors_of_its_own_says_nothing_about_them() {
    let mut node = Node::new();
    node.facts.cpus = None;
    node.bind(1, json!({"cores": 2}));
    node.rounds();
    assert_eq!(node.domain(1).pins, sheaf_host::libvirt::Pins::default());
    node.bind_own(2, 2, false);
    node.rounds();
    let status = serde_json::to_value(node.pods["p2"].status.clone()).unwrap();
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["reason"], "CpusNotOffered");
    let message = "no VM can have processors of this node to itself: set vms.reserved-cpus in its node.toml";
    assert_eq!(terminated["message"], message);
}

/// Something that happens to the node.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// A VM is bound: its number, CPUs of its own if it has any, and one for QEMU.
    Bind(u8, Option<(u32, bool)>),
    /// The agent makes a round.
    Round(Start),
    /// A Pod is deleted, or forgotten by the API server.
    Delete(u8, bool),
    /// Somebody else sets its phase.
    Fail(u8),
    /// The guest powers off.
    End(u8),
    /// The agent's memory is lost, or the record of a VM.
    Forget(Option<u8>),
}

fn happens() -> impl Strategy<Value = Happens> {
    let vm = || 0..6_u8;
    let starts = prop_oneof![
        6 => Just(Start::Succeeds),
        1 => Just(Start::Fails),
        1 => Just(Start::KilledBefore),
        1 => Just(Start::KilledAfter),
    ];
    prop_oneof![
        4 => (vm(), proptest::option::weighted(0.8, (1..8_u32, any::<bool>()))).prop_map(|(vm, own)| Happens::Bind(vm, own)),
        8 => starts.prop_map(Happens::Round),
        1 => (vm(), prop::bool::weighted(0.3)).prop_map(|(vm, forgotten)| Happens::Delete(vm, forgotten)),
        1 => vm().prop_map(Happens::Fail),
        1 => vm().prop_map(Happens::End),
        1 => proptest::option::of(vm()).prop_map(Happens::Forget),
    ]
}

impl Node {
    fn happen(&mut self, what: Happens) {
        self.now += 7;
        let uid = |number: u8| format!("p{number}");
        match what {
            Happens::Bind(number, None) => self.bind(number, json!({"cores": 2})),
            Happens::Bind(number, Some((cpus, emulator))) => self.bind_own(number, cpus, emulator),
            Happens::Round(start) => self.round(start),
            Happens::Delete(number, false) => self.delete(&uid(number)),
            Happens::Delete(number, true) => drop(self.pods.remove(&uid(number))),
            Happens::Fail(number) => {
                if let Some(pod) = self.pods.get_mut(&uid(number)) {
                    Arc::make_mut(pod).status.get_or_insert_default().phase = Some("Failed".into());
                }
            }
            Happens::End(number) => self.domains.retain(|domain| domain.tags[TAG_POD_UID] != uid(number)),
            Happens::Forget(None) => self.memory = Memory::default(),
            // The record of a VM that runs: one without its domain is all there is of it.
            Happens::Forget(Some(number)) => {
                if self.domains.iter().any(|domain| domain.tags[TAG_POD_UID] == uid(number)) {
                    self.records.remove(&uid(number));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn no_processor_is_given_twice_reserved_ones_never_and_all_are_given_back(
        events in proptest::collection::vec(happens(), 1..60),
    ) {
        let mut node = Node::new();
        for event in events {
            node.happen(event);
            prop_assert_eq!(node.check(), Ok(()), "after {:?}", event);
        }
        node.rounds();
        prop_assert_eq!(node.check(), Ok(()));
        let shared = Ledger::of(&node.observed()).shared().unwrap();
        let most = |domain: &Domain| domain.cpus.most;
        let are_moved = node.domains.iter().filter(|one| own(one).is_none()).all(|one| one.pins.are(&shared, most(one)));
        prop_assert!(are_moved, "{:?}", node.domains);
        for number in 0..6 {
            node.delete(&format!("p{number}"));
        }
        node.rounds();
        node.rounds();
        prop_assert_eq!(Ledger::of(&node.observed()).free(), 14, "{:?} {:?}", node.records, node.pods);
    }
}
