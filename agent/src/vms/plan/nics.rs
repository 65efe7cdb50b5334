//! NICs that are added to a VM while it runs, and removed, and links: what of them is next, and what their Pods report.
//!
//! Why here: as for disks ([`super::attachments`]), the live domain is the record of what the guest has: its NICs, by their aliases, are
//! compared in every round with the attachment Pods, and a NIC is removed only when its Pod is marked. The record of the VM has the
//! ports, by which the packet filter is known after a restart of the agent: a port is in it before the domain has the NIC, and leaves
//! it after. A NIC that the VM was started with has no such Pod, and is removed by the annotation with the links ([`Links`]).
//! Route in: [`Observed`]. Route out: an [`Action`] of the VM, reports of Pods.

use super::attachments::{DETACH_AGAIN, detached, is_due, is_not_awaited, is_over, not_understood, running};
use super::ends::waiting;
use super::{Action, Observed, Plan, is_deleted, plan_report};
use crate::names::tap;
use crate::vms::admission::{self, Verdict, Why};
use crate::vms::domain_xml::HOTPLUG_NIC;
use crate::vms::filters::Port;
use crate::vms::guest::Nic;
use crate::vms::record::Record;
use crate::vms::report;
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::attachment::{NicAttachment, is_to_detach};
use sheaf_api::links::Links;
use sheaf_api::placeholder::PlacedVmi;
use sheaf_host::libvirt::{Domain, DomainNic};
use std::collections::BTreeMap;

/// What the Pod is for, in messages.
const NIC: &str = "NIC";

/// Seconds between two tries to set a link.
const LINK_AGAIN: i64 = 10;

/// An attachment Pod with its UID and what it carries.
pub(super) type Added<'a> = (&'a str, &'a Pod, NicAttachment);

/// Attachment Pods of NICs by the UID of their VM's Pod.
pub(super) fn by_vm<'a>(o: &Observed<'a>) -> BTreeMap<String, Vec<Added<'a>>> {
    let mut all: BTreeMap<String, Vec<Added<'a>>> = BTreeMap::new();
    for (uid, pod) in o.pods.iter().filter(|(_uid, pod)| admission::is_nic(pod)) {
        if let Some(attachment) = NicAttachment::of(pod) {
            all.entry(attachment.pod_uid.clone()).or_default().push((uid.as_str(), &**pod, attachment));
        }
    }
    all
}

/// The NIC by which the domain has what this attachment adds, if it has it.
fn there<'a>(domain: &'a Domain, attachment: &NicAttachment) -> Option<&'a DomainNic> {
    let alias = format!("{HOTPLUG_NIC}{}", attachment.interface.name);
    domain.nics.iter().find(|nic| nic.alias.as_deref() == Some(&alias))
}

fn with_tap<'a>(domain: &'a Domain, tap: &str) -> Option<&'a DomainNic> {
    domain.nics.iter().find(|nic| nic.tap == tap)
}

/// Whether the VM was started with this port.
fn is_of_start(placed: &PlacedVmi, port: &Port) -> bool {
    let interfaces = placed.spec.domain.devices.interfaces.iter().enumerate();
    let mut of_start = interfaces.map(|(index, interface)| (tap(&placed.uid, index), &interface.name));
    of_start.any(|(tap, name)| tap == port.tap && *name == port.interface)
}

/// The next step about the NICs of the VM of `pod`.
pub(super) fn next(
    plan: &mut Plan,
    o: &Observed<'_>,
    (uid, pod): (&str, &Pod),
    domain: &Domain,
    added: &[Added<'_>],
) -> Option<Action> {
    // Of another version of the controller, or without a record: they stay as they are.
    let (record, placed) = (o.records.get(uid)?, admission::placed(pod)?);
    let links = Links::of(pod);
    if let Some(ports) = ports(record, &placed, &links, domain, added) {
        return Some(Action::Adopt(Record { ports, ..record.clone() }));
    }
    for port in &record.ports {
        let Some(nic) = with_tap(domain, &port.tap) else { continue };
        let down = links.down.contains(&port.interface);
        if nic.down != down
            && let Some(action) = set_link(plan, o, uid, domain, (&nic.tap, down))
        {
            return Some(action);
        }
        let is_removed =
            nic.alias.is_none() && links.removed.contains(&port.interface) && is_of_start(&placed, port);
        if is_removed && let Some(action) = remove(plan, o, uid, domain, (&port.interface, &nic.tap)) {
            return Some(action);
        }
    }
    for (pod_uid, pod, attachment) in added {
        let name = &attachment.interface.name;
        match there(domain, attachment) {
            Some(nic) => {
                let is_left = !is_to_detach(pod) && is_of_another(record, &placed, attachment, nic);
                if (is_to_detach(pod) || is_left)
                    && let Some(action) = remove(plan, o, uid, domain, (name, &nic.tap))
                {
                    return Some(action);
                }
            }
            // It is not there and not wanted.
            None if is_to_detach(pod) || is_deleted(pod) || report::is_terminal(pod) => {}
            None => {
                let until = o.memory.failures.get(*pod_uid).map_or(o.now, |failure| failure.until);
                if until > o.now {
                    plan.wake_at(until);
                    continue;
                }
                let Ok(mut nic) = nic(o, attachment, Some((record, &placed, domain))) else { continue };
                nic.down = links.down.contains(name);
                let port = nic.port.clone();
                let ports = record.ports.iter().cloned().chain([port]).collect();
                let cpus = placed.spec.domain.cpu.as_ref().map_or(1, |cpu| cpu.count());
                return Some(Action::AttachNic {
                    uuid: domain.uuid.clone(),
                    attachment: (*pod_uid).to_owned(),
                    nic: Box::new(nic),
                    queues: admission::nic_queues(&placed.spec.domain.devices, cpus),
                    record: Box::new(Record { ports, ..record.clone() }),
                });
            }
        }
    }
    None
}

/// The ports that the record should have, if it has others: without those of NICs that are gone, with those that a record which
/// was lost did not have. Nothing passes a port that is not in it.
fn ports(
    record: &Record,
    placed: &PlacedVmi,
    links: &Links,
    domain: &Domain,
    added: &[Added<'_>],
) -> Option<Vec<Port>> {
    let stays = |port: &&Port| {
        let is_kept = is_of_start(placed, port) && !links.removed.contains(&port.interface);
        is_kept || with_tap(domain, &port.tap).is_some()
    };
    let mut ports: Vec<Port> = record.ports.iter().filter(stays).cloned().collect();
    for (_uid, _pod, attachment) in added {
        let Some(has) = there(domain, attachment) else { continue };
        if record.ports.iter().any(|port| port.tap == has.tap) {
            continue;
        }
        // Its bridge was there when it was added.
        if let Ok(nic) = admission::added(attachment, &placed.uid, 0, None)
            && nic.port.mac == has.mac
        {
            ports.push(Port { tap: has.tap.clone(), ..nic.port });
        }
    }
    (ports != record.ports).then_some(ports)
}

/// Whether the domain has a NIC under this name that an earlier Pod added, for something else.
fn is_of_another(record: &Record, placed: &PlacedVmi, attachment: &NicAttachment, has: &DomainNic) -> bool {
    let port = record.ports.iter().find(|port| port.tap == has.tap);
    let Ok(nic) = admission::added(attachment, &placed.uid, 0, None) else { return false };
    port.is_some_and(|port| *port != Port { tap: has.tap.clone(), ..nic.port })
}

/// The NIC that `attachment` adds to this domain, or why it cannot be.
fn nic(
    o: &Observed<'_>,
    attachment: &NicAttachment,
    to: Option<(&Record, &PlacedVmi, &Domain)>,
) -> Result<Nic, Verdict> {
    let name = &attachment.interface.name;
    let wait = |reason, message: String| Verdict::Wait(Why { reason, message });
    let Some((record, placed, domain)) = to else {
        return Err(wait("VmNotRunning", "the VM is not running yet".into()));
    };
    let taps = record.ports.iter().map(|port| &port.tap).chain(domain.nics.iter().map(|nic| &nic.tap));
    let index = admission::free_index(&placed.uid, taps);
    let index = index.ok_or_else(|| {
        wait("TooManyInterfaces", format!("interface {name}: the VM has as many interfaces as it can have"))
    })?;
    let nic = admission::added(attachment, &placed.uid, index, Some(o.facts))?;
    // The one that is being removed may have had the same.
    if domain.nics.iter().any(|other| other.mac == nic.port.mac) {
        return Err(wait(
            "MacAddressInUse",
            format!("interface {name}: another NIC of the VM has its macAddress {}", nic.port.mac),
        ));
    }
    Ok(nic)
}

fn set_link(
    plan: &mut Plan,
    o: &Observed<'_>,
    uid: &str,
    domain: &Domain,
    (tap, down): (&str, bool),
) -> Option<Action> {
    let last = o.memory.links.get(&(uid.to_owned(), tap.to_owned()));
    if !is_due(plan, o.now, last, LINK_AGAIN) {
        return None;
    }
    Some(Action::SetLink { uuid: domain.uuid.clone(), tap: tap.to_owned(), down })
}

/// Asks the guest to release a NIC, unless it was asked just now.
fn remove(
    plan: &mut Plan,
    o: &Observed<'_>,
    uid: &str,
    domain: &Domain,
    (interface, tap): (&str, &str),
) -> Option<Action> {
    let asked = o.memory.detached.get(&(uid.to_owned(), format!("{HOTPLUG_NIC}{interface}")));
    if !is_due(plan, o.now, asked, DETACH_AGAIN) {
        return None;
    }
    let (uuid, interface, tap) = (domain.uuid.clone(), interface.to_owned(), tap.to_owned());
    Some(Action::DetachNic { uuid, interface, tap })
}

/// What the attachment Pod `uid` reports; deletes it once its NIC is gone.
pub(super) fn plan_pod(
    plan: &mut Plan,
    o: &Observed<'_>,
    domains: &BTreeMap<&str, &Domain>,
    uid: &str,
    pod: &Pod,
) {
    if is_over(plan, uid, pod) {
        return;
    }
    let Some(attachment) = NicAttachment::of(pod) else {
        match is_deleted(pod) {
            true => plan.act(uid, Action::Report(detached(NIC))),
            false => plan_report(plan, uid, pod, not_understood()),
        }
        return;
    };
    let owner = attachment.pod_uid.as_str();
    let domain = domains.get(owner).copied();
    let placed = o.pods.get(owner).and_then(|pod| admission::placed(pod));
    let (record, placed) = (o.records.get(owner), placed.as_ref());
    if let Some(has) = domain.and_then(|domain| there(domain, &attachment)) {
        let is_left = record
            .zip(placed)
            .is_some_and(|(record, placed)| is_of_another(record, placed, &attachment, has));
        // Of one that is being removed the last report stays.
        if !is_to_detach(pod) && !report::is_terminal(pod) && !is_left {
            plan_report(plan, uid, pod, running(o, domain));
        }
        return;
    }
    if is_not_awaited(plan, o, (owner, domain), (uid, pod), NIC) {
        return;
    }
    let to = record.zip(placed).zip(domain).map(|((record, placed), domain)| (record, placed, domain));
    let report = match nic(o, &attachment, to) {
        Err(Verdict::Wait(why) | Verdict::Reject(why)) => waiting(&why),
        Err(Verdict::Unknown | Verdict::Accept(_)) => return,
        Ok(_) => match o.memory.failures.get(uid) {
            Some(failure) => waiting(&Why { reason: "AttachError", message: failure.why.clone() }),
            // It is added in this round or the next.
            None => return,
        },
    };
    plan_report(plan, uid, pod, report);
}
