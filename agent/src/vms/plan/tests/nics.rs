//! NICs that are added to a VM while it runs, and removed, and links, each as one moment of a node.

use super::super::nics::next;
use super::*;
use crate::vms::testing::{nic, nic_of, with_nics};
use serde_json::Value;
use sheaf_api::links::Links;
use sheaf_host::libvirt::DomainNic;

const ALIAS: &str = "hotplug_nic_lan";
const MAC: &str = "02:00:00:00:00:03";

fn tap(index: usize) -> String {
    crate::names::tap(VMI_UID, index)
}

fn links(down: &[&str], removed: &[&str]) -> Links {
    let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Links { down: of(down), removed: of(removed) }
}

fn cold(index: usize) -> DomainNic {
    DomainNic {
        alias: None,
        tap: tap(index),
        mac: format!("02:00:00:00:00:0{}", index.saturating_add(1)),
        down: false,
    }
}

fn hot(index: usize) -> DomainNic {
    DomainNic { alias: Some(ALIAS.into()), tap: tap(index), mac: MAC.into(), down: false }
}

/// The port of NIC `lan` as number `index`.
fn port(index: usize) -> super::super::super::filters::Port {
    let attachment = sheaf_api::attachment::NicAttachment::of(&nic(false)).unwrap();
    admission::added(&attachment, VMI_UID, index, None).unwrap().port
}

/// A VM that was started with `out` and `old`, runs and is reported; its domain has these NICs beside, and its record these ports.
fn node(told: &Links, nics: &[DomainNic], ports: &[usize]) -> Node {
    let mut node = Node::new().running("p1");
    node.domains[0].nics = [cold(0), cold(1)].into_iter().chain(nics.iter().cloned()).collect();
    let pod = with_nics("p1", told);
    let record = node.records.get_mut("p1").unwrap();
    record.ports = admission::ports(&pod).unwrap();
    record.ports.extend(ports.iter().map(|index| port(*index)));
    let unreported = Node { pods: [("p1".to_owned(), Arc::new(pod.clone()))].into(), ..node };
    let Action::Report(report) = unreported.actions().remove(0) else { panic!() };
    unreported.pod(saying(pod, &report))
}

fn plain() -> Node {
    node(&Links::default(), &[], &[])
}

/// With the NIC `lan`, as number 2.
fn has() -> Node {
    node(&Links::default(), &[hot(2)], &[2])
}

/// The record that is written.
fn adopted(node: &Node) -> Option<Record> {
    node.actions().into_iter().find_map(|action| match action {
        Action::Adopt(record) => Some(record),
        _ => None,
    })
}

#[test]
fn a_nic_is_added_by_the_first_tap_that_is_free_with_its_port_in_the_record_and_then_reported() {
    let bare = plain().pod(nic(false));
    let (uid, action) = bare.plan().actions.remove(0);
    let Action::AttachNic { uuid, attachment, nic: added, queues, record } = action else {
        panic!("{action:?}")
    };
    assert_eq!((uid.as_str(), uuid.as_str(), attachment.as_str(), queues), ("p1", VMI_UID, "a1", None));
    assert_eq!((&added.port, added.down), (&port(2), false));
    let names: Vec<_> = record.ports.iter().map(|port| port.interface.as_str()).collect();
    assert_eq!((names, record.started.is_some()), (vec!["out", "old", "lan"], true));
    // Its successor, after a kill, finds the NIC in the domain.
    let report = has().pod(nic(false)).report();
    assert_eq!((report.phase, report.uuid.as_deref()), (Phase::Running, Some(VMI_UID)));
    assert_eq!(has().pod(saying(nic(false), &report)).actions(), []);
}

#[test]
fn an_agent_that_was_killed_before_the_nic_was_added_forgets_its_port_and_adds_it_once() {
    let early = node(&Links::default(), &[], &[2]).pod(nic(false));
    let Action::Adopt(record) = early.only() else { panic!("{:?}", early.actions()) };
    assert_eq!(record.ports.len(), 2);
    let marked = node(&Links::default(), &[], &[2]).pod(deleted(nic(true), 0));
    assert!(adopted(&marked).is_some(), "{:?}", marked.actions());
}

#[test]
fn a_record_that_was_lost_has_the_ports_again_and_nothing_else_is_let_through() {
    let lost = node(&Links::default(), &[hot(5)], &[]).pod(nic(false));
    assert_eq!(adopted(&lost).unwrap().ports[2], port(5));
    // Another MAC is not what the Pod carries.
    let other = DomainNic { mac: "02:00:00:00:00:09".into(), ..hot(5) };
    let foreign = node(&Links::default(), &[other], &[]).pod(nic(false));
    assert_eq!(adopted(&foreign), None);
}

#[test]
fn a_nic_is_removed_when_its_pod_is_marked_and_the_pod_goes_once_the_domain_released_it() {
    let mut asked = has().pod(deleted(nic(true), 0));
    let Action::DetachNic { uuid, interface, tap: of } = asked.only() else { panic!() };
    assert_eq!((uuid.as_str(), interface.as_str(), of), (VMI_UID, "lan", tap(2)));
    // The guest has not released it: it is asked again, and the Pod stays.
    asked.memory.detached.insert(("p1".into(), ALIAS.into()), NOW);
    assert_eq!(asked.plan(), Plan { actions: Vec::new(), wake: Some(NOW + 10) });
    let gone = plain().pod(deleted(nic(true), 0));
    let report = gone.report();
    assert_eq!((report.phase, reason(&report)), (Phase::Succeeded, "Detached"));
    let State::Terminated { message, .. } = &report.state else { panic!() };
    assert_eq!(message, "no VM has the NIC");
    assert_eq!(plain().pod(saying(deleted(nic(true), 0), &report)).only(), Action::DeletePod);
}

#[test]
fn a_pod_that_a_drain_deletes_leaves_the_guest_its_nic_until_the_vm_ends() {
    let report = has().pod(nic(false)).report();
    let drained = || deleted(saying(nic(false), &report), 0);
    assert_eq!(has().pod(drained()).actions(), []);
    // The domain is missing, and nobody said that it ended.
    let mut missing = has().pod(drained());
    missing.domains.clear();
    missing.memory.missing.insert("p1".into(), NOW);
    assert_eq!(missing.actions(), []);
    let ended = fail_of("Crashed");
    let over = Node::new().pod(saying(pod("p1"), &ended)).pod(deleted(nic(false), 0));
    assert_eq!(reason(&over.report()), "Detached");
}

#[test]
fn a_nic_waits_for_its_vm_its_bridge_and_its_mac() {
    assert_eq!(reason(&Node::new().pod(nic(false)).report()), "VmNotRunning");
    let mut down = plain().pod(nic(false));
    down.facts.bridges.remove("br1");
    let report = down.report();
    assert_eq!(reason(&report), "BridgeNotReady");
    let State::Waiting { message, .. } = report.state else { panic!() };
    assert_eq!(message, "interface lan: bridge br1 of this node is not up yet");
    // That of an interface which is still being removed.
    let mut same = plain().pod(nic(false));
    same.domains[0].nics[1].mac = MAC.into();
    let report = same.report();
    assert_eq!(reason(&report), "MacAddressInUse");
    let State::Waiting { message, .. } = report.state else { panic!() };
    assert_eq!(message, format!("interface lan: another NIC of the VM has its macAddress {MAC}"));
    let foreign = |index| DomainNic {
        alias: None,
        tap: tap(index),
        mac: format!("02:00:00:00:01:{index:02}"),
        down: false,
    };
    let all: Vec<_> = (2..16).map(foreign).collect();
    let full = node(&Links::default(), &all, &[]).pod(nic(false)).report();
    assert_eq!(reason(&full), "TooManyInterfaces");
}

#[test]
fn a_nic_that_cannot_be_added_says_why_and_is_tried_again_later() {
    let mut node = plain().pod(nic(false));
    let failure = FailedStart { times: 1, why: "no free port".into(), until: NOW + 5 };
    node.memory.failures.insert("a1".into(), failure);
    let report = node.report();
    assert_eq!(reason(&report), "AttachError");
    let mut node = node.pod(saying(nic(false), &report));
    assert_eq!(node.plan(), Plan { actions: Vec::new(), wake: Some(NOW + 5) });
    node.now = NOW + 5;
    assert!(matches!(node.only(), Action::AttachNic { .. }));
}

#[test]
fn what_an_attachment_must_not_be_is_refused() {
    let said = |interface: Value| {
        let report = plain().pod(nic_of(interface, false)).report();
        let State::Waiting { reason, message } = report.state else { panic!() };
        assert_eq!(reason, "InvalidSpec");
        message
    };
    let with = |field: &str, value: Value| {
        let mut interface = json!({"name": "lan", "bridge": {}, "macAddress": MAC});
        interface[field] = value;
        interface
    };
    assert_eq!(said(with("model", json!("e1000"))), "interface lan: only a NIC of the model virtio is added");
    assert_eq!(said(with("masquerade", json!({}))), "interface lan: only an interface with bridge is added");
    assert_eq!(
        said(with("macAddress", json!("01:00:5e:00:00:01"))),
        "interface lan: macAddress \"01:00:5e:00:00:01\" is not a unicast hardware address"
    );
    assert_eq!(
        said(with("name", json!("a'/>"))),
        "interface \"a'/>\": the name has more than letters, digits, - and _"
    );
    let mut reserved = nic(false);
    let annotations = reserved.metadata.annotations.as_mut().unwrap();
    let text = annotations["sheaf.dev/attachment"].replace("br1", "masq0");
    annotations.insert("sheaf.dev/attachment".into(), text);
    let State::Waiting { message, .. } = plain().pod(reserved).report().state else { panic!() };
    assert_eq!(message, "network lan: masq0 is reserved by the node");
}

#[test]
fn a_nic_that_the_vm_was_started_with_is_removed_by_the_annotation_and_its_port_forgotten() {
    let told = links(&[], &["old"]);
    let mut asked = node(&told, &[], &[]);
    let Action::DetachNic { interface, tap: of, .. } = asked.only() else { panic!() };
    assert_eq!((interface.as_str(), of), ("old", tap(1)));
    asked.memory.detached.insert(("p1".into(), "hotplug_nic_old".into()), NOW);
    assert_eq!(asked.plan(), Plan { actions: Vec::new(), wake: Some(NOW + 10) });
    asked.domains[0].nics.remove(1);
    let Action::Adopt(record) = asked.only() else { panic!("{:?}", asked.actions()) };
    assert_eq!((record.ports.len(), record.ports[0].interface.as_str()), (1, "out"));
    asked.records.insert("p1".into(), record);
    assert_eq!(asked.actions(), []);
    // One that is only missing from libvirt's answer keeps its port.
    let mut kept = plain();
    kept.domains[0].nics.clear();
    assert_eq!(kept.actions(), []);
}

#[test]
fn a_link_is_set_as_the_annotation_says_and_not_again_at_once() {
    let mut down = node(&links(&["out", "lan"], &[]), &[hot(2)], &[2]);
    assert_eq!(down.only(), Action::SetLink { uuid: VMI_UID.into(), tap: tap(0), down: true });
    down.domains[0].nics[0].down = true;
    assert_eq!(down.only(), Action::SetLink { uuid: VMI_UID.into(), tap: tap(2), down: true });
    down.memory.links.insert(("p1".into(), tap(2)), NOW);
    assert_eq!(down.plan(), Plan { actions: Vec::new(), wake: Some(NOW + 10) });
    let mut up = plain();
    up.domains[0].nics[1].down = true;
    assert_eq!(up.only(), Action::SetLink { uuid: VMI_UID.into(), tap: tap(1), down: false });
    // One that is added is so from the start.
    let late = node(&links(&["lan"], &[]), &[], &[]).pod(nic(false));
    let Action::AttachNic { nic, .. } = late.actions().remove(0) else { panic!() };
    assert!(nic.down);
}

#[test]
fn links_are_down_from_the_start_and_an_interface_under_a_name_that_was_removed_is_another() {
    let Action::Start(guest) = Node::new().pod(with_nics("p1", &links(&["old"], &[]))).only() else {
        panic!()
    };
    let down: Vec<_> = guest.interfaces.iter().map(|nic| nic.down).collect();
    assert_eq!(down, [false, true]);
    // `lan` is in `removed` by an earlier life of that name: the one that was added stays.
    let again = node(&links(&[], &["lan"]), &[hot(2)], &[2]);
    assert_eq!(again.actions(), []);
}

#[test]
fn a_vm_without_a_record_or_with_one_of_another_version_keeps_its_nics() {
    let mut node = has().pod(deleted(nic(true), 0));
    let domain = node.domains[0].clone();
    let Node { pods, domains, facts, memory, .. } = &node;
    let records = BTreeMap::new();
    let o = Observed { pods, domains, records: &records, facts, memory, now: NOW };
    assert_eq!(next(&mut Plan::default(), &o, ("p1", &pods["p1"]), &domain, &[]), None);
    let mut newer = Pod::clone(&node.pods["p1"]);
    newer.metadata.annotations.as_mut().unwrap().insert("sheaf.dev/vmi".into(), "{\"more\": 1}".into());
    node = node.pod(newer);
    assert!(!node.actions().iter().any(|action| matches!(action, Action::DetachNic { .. })));
}
