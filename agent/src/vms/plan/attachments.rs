//! Disks that are added to a VM while it runs, and removed, and media of its CD-ROM drives: what of them is next, and what their
//! Pods report.
//!
//! Why here: what a domain has is read from libvirt in every round, and compared with the attachment Pods of its VM; so an agent
//! that was killed in the middle adds no disk twice. A Pod says that its disk is gone only when no domain has it: until then the
//! claim is in use. A disk is removed when the Pod is marked for it, never because a Pod is deleted or not listed: a drain
//! deletes Pods, too, and the guest may be writing. A drive is there from the start, with the medium that it is to have then. Route
//! in: [`Observed`]. Route out: an [`Action`] of the VM, reports of Pods.

use super::clashes::user_of;
use super::ends::waiting;
use super::{Action, Observed, Plan, is_deleted, plan_report, rfc3339};
use crate::vms::admission::{self, Verdict, Why};
use crate::vms::domain_xml::{HOTPLUG, free_target};
use crate::vms::guest::{Disk, Guest, Source};
use crate::vms::report::{self, Phase, Report, State};
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::attachment::{Attachment, is_to_detach};
use sheaf_host::libvirt::Domain;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the Pod is for, in messages.
const DISK: &str = "disk";

/// Seconds between two tries to remove a disk or a NIC: a guest that boots does not hear the first.
pub(super) const DETACH_AGAIN: i64 = 10;

/// Seconds for which a guest that has locked the tray of a drive is asked to open it: then it is opened by force, as
/// `virsh change-media --eject --force` does.
const LOCKED_TIME: i64 = 30;

/// Seconds after the binding of a VM's Pod for which its start waits for the attachment Pod of a medium, which the scheduler binds
/// at once where it can. Later it starts with an empty drive, and gets the medium when the Pod is there.
const MEDIUM_TIME: i64 = 60;

/// An attachment Pod with its UID and what it carries.
pub(super) type Added<'a> = (&'a str, &'a Pod, Attachment);

/// Attachment Pods by the UID of their VM's Pod.
pub(super) fn by_vm<'a>(o: &Observed<'a>) -> BTreeMap<String, Vec<Added<'a>>> {
    let mut all: BTreeMap<String, Vec<Added<'a>>> = BTreeMap::new();
    for (uid, pod) in o.pods.iter().filter(|(_uid, pod)| admission::is_attachment(pod)) {
        if let Some(attachment) = Attachment::of(pod) {
            all.entry(attachment.pod_uid.clone()).or_default().push((uid.as_str(), &**pod, attachment));
        }
    }
    all
}

/// Names of the guest's disks by the volumes that they are of.
pub(super) fn targets(domain: &Domain) -> BTreeMap<String, String> {
    let name = |alias: &String| alias.strip_prefix(HOTPLUG).unwrap_or(alias).to_owned();
    domain.aliases.iter().map(|(alias, target)| (name(alias), target.clone())).collect()
}

/// The name by which the domain has what this attachment adds, if it has it: its disk, or the drive with some medium.
fn target<'a>(domain: &'a Domain, attachment: &Attachment) -> Option<&'a String> {
    match attachment.disk.is_drive() {
        true => drive(domain, attachment).filter(|target| domain.devices.contains_key(*target)),
        false => domain.aliases.get(&format!("{HOTPLUG}{}", attachment.volume.name)),
    }
}

/// The name by which the domain has the drive of this medium.
fn drive<'a>(domain: &'a Domain, attachment: &Attachment) -> Option<&'a String> {
    domain.aliases.get(&attachment.disk.name)
}

/// Puts the media into the drives of a VM that is to start, so that it can boot from them; or says what it waits for.
pub(super) fn load(
    plan: &mut Plan,
    o: &Observed<'_>,
    pod: &Pod,
    guest: &mut Guest,
    attachments: &[Added<'_>],
) -> Result<(), Verdict> {
    for disk in &mut guest.disks {
        if disk.source != (Source::NoMedium { awaited: true }) {
            continue;
        }
        let is_of_disk = |(_uid, pod, attachment): &&Added<'_>| {
            attachment.volume.name == disk.name && !is_to_detach(pod) && !is_deleted(pod)
        };
        let Some((_uid, of, attachment)) = attachments.iter().find(is_of_disk) else {
            let until = bound_at(pod).map_or(o.now, |at| at.saturating_add(MEDIUM_TIME));
            if until > o.now {
                plan.wake_at(until);
                let message = format!("disk {}: its attachment Pod is not on this node yet", disk.name);
                return Err(Verdict::Wait(Why { reason: "MediumNotReady", message }));
            }
            continue;
        };
        match admission::attachments::disk(of, attachment, o.facts) {
            Ok(with) => disk.source = with.source,
            // It starts without; the attachment Pod reports why.
            Err(Verdict::Reject(_)) => {}
            Err(verdict) => return Err(verdict),
        }
    }
    Ok(())
}

/// When the scheduler bound the Pod, in seconds since 1970.
fn bound_at(pod: &Pod) -> Option<i64> {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let scheduled = conditions.find(|one| one.type_ == "PodScheduled" && one.status == "True")?;
    scheduled.last_transition_time.as_ref().map(|time| time.0.as_second())
}

/// The next step about the disks of the VM of Pod `uid`.
pub(super) fn next(
    plan: &mut Plan,
    o: &Observed<'_>,
    uid: &str,
    domain: &Domain,
    attachments: &[Added<'_>],
) -> Option<Action> {
    for (pod_uid, pod, attachment) in attachments {
        let there = target(domain, attachment);
        if is_to_detach(pod) {
            let Some(target) = there else { continue };
            if let Some(action) = remove(plan, o, uid, domain, (pod_uid, attachment), target) {
                return Some(action);
            }
            continue;
        }
        // Its disk stays as it is, or is not there and not wanted.
        if is_deleted(pod) || report::is_terminal(pod) {
            continue;
        }
        let Ok(disk) = admission::attachments::disk(pod, attachment, o.facts) else { continue };
        match there {
            // Left by an earlier Pod of this volume, which was for another claim.
            Some(target) if domain.devices.get(target) != device(&disk) => {
                if let Some(action) = remove(plan, o, uid, domain, (pod_uid, attachment), target) {
                    return Some(action);
                }
            }
            Some(_) => {}
            None => {
                let until = o.memory.failures.get(*pod_uid).map_or(o.now, |failure| failure.until);
                if until > o.now {
                    plan.wake_at(until);
                    continue;
                }
                if user_of_disk(o, plan, &disk).is_some() {
                    continue;
                }
                let (uuid, attachment_uid) = (domain.uuid.clone(), (*pod_uid).to_owned());
                if disk.cdrom {
                    let Some(target) = drive(domain, attachment).cloned() else { continue };
                    let drive = Box::new(disk);
                    return Some(Action::Insert { uuid, attachment: attachment_uid, drive, target });
                }
                let taken = domain.aliases.values().chain(domain.devices.keys());
                if let Some(target) = free_target(disk.bus, taken) {
                    let disk = Box::new(disk);
                    return Some(Action::Attach { uuid, attachment: attachment_uid, disk, target });
                }
            }
        }
    }
    None
}

fn device(disk: &Disk) -> Option<&PathBuf> {
    match &disk.source {
        Source::Device(device) => Some(device),
        _ => None,
    }
}

/// Who has the volume of `disk` in use already.
fn user_of_disk(o: &Observed<'_>, plan: &Plan, disk: &Disk) -> Option<String> {
    let written: Vec<_> = device(disk).into_iter().map(PathBuf::as_path).collect();
    user_of(o, plan, &written, &[])
}

/// Asks the guest to release a disk or a medium, unless it was asked just now.
fn remove(
    plan: &mut Plan,
    o: &Observed<'_>,
    uid: &str,
    domain: &Domain,
    (pod_uid, attachment): (&str, &Attachment),
    target: &str,
) -> Option<Action> {
    let volume = &attachment.volume.name;
    let key = (uid.to_owned(), volume.clone());
    let asked = o.memory.detached.get(&key);
    if !is_due(plan, o.now, asked, DETACH_AGAIN) {
        return None;
    }
    let (uuid, volume, target) = (domain.uuid.clone(), volume.clone(), target.to_owned());
    if attachment.disk.is_drive() {
        let drive = Box::new(admission::attachments::empty(attachment).ok()?);
        let since = o.memory.ejecting.get(&key);
        let force = since.is_some_and(|since| o.now.saturating_sub(*since) >= LOCKED_TIME);
        return Some(Action::Eject { uuid, attachment: pod_uid.to_owned(), drive, target, force });
    }
    let device = domain.devices.get(&target).cloned().unwrap_or_default();
    Some(Action::Detach { uuid, volume, target, device })
}

/// Whether `pause` seconds have passed since `last`; if not, the plan is made again then.
pub(super) fn is_due(plan: &mut Plan, now: i64, last: Option<&i64>, pause: i64) -> bool {
    let again = last.map_or(now, |last| last.saturating_add(pause));
    if again > now {
        plan.wake_at(again);
    }
    again <= now
}

/// Whether an attachment Pod said that it has ended; it goes then, if it was deleted.
pub(super) fn is_over(plan: &mut Plan, uid: &str, pod: &Pod) -> bool {
    let is_over = report::says_ended(pod);
    if is_over && is_deleted(pod) {
        plan.act(uid, Action::DeletePod);
    }
    is_over
}

/// Whether the domain of Pod `owner`, which does not have the `part` of the attachment Pod `uid`, is not to get it now: that is
/// said for good, or seen in a later round.
pub(super) fn is_not_awaited(
    plan: &mut Plan,
    o: &Observed<'_>,
    (owner, domain): (&str, Option<&Domain>),
    (uid, pod): (&str, &Pod),
    part: &str,
) -> bool {
    // It may be on its way in, or the domain may only be missing from libvirt's answer for a moment.
    let is_changing = o.memory.busy.contains(owner) || plan.actions.iter().any(|(uid, _)| uid == owner);
    if is_changing || (domain.is_none() && may_run(o, owner)) {
        return true;
    }
    // A phase that is terminal was set by somebody else, and stays.
    let ends = is_deleted(pod) || report::is_terminal(pod);
    if ends {
        let phase = report::terminal_phase(pod).unwrap_or(Phase::Succeeded);
        plan.act(uid, Action::Report(Report { phase, ..detached(part) }));
    }
    ends
}

/// What the attachment Pod `uid` reports; deletes it once its disk is gone.
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
    let Some(attachment) = Attachment::of(pod) else {
        // Of another version of the controller, or not for any VM.
        match is_deleted(pod) {
            true => plan.act(uid, Action::Report(detached(DISK))),
            false => plan_report(plan, uid, pod, not_understood()),
        }
        return;
    };
    let owner = attachment.pod_uid.as_str();
    let domain = domains.get(owner).copied();
    let has = domain.is_some_and(|domain| target(domain, &attachment).is_some());
    if has {
        if is_to_detach(pod) {
            // Of a disk that is being removed the last report stays.
            let failure = o.memory.failures.get(uid).filter(|_| attachment.disk.is_drive());
            if let Some(failure) = failure.filter(|_| !report::is_terminal(pod)) {
                let why = Why { reason: "TrayLocked", message: failure.why.clone() };
                plan_report(plan, uid, pod, Report { phase: Phase::Running, ..waiting(&why) });
            }
        } else if !report::is_terminal(pod) && !is_of_another_claim(o, pod, &attachment, domain) {
            plan_report(plan, uid, pod, running(o, domain));
        }
        return;
    }
    if is_not_awaited(plan, o, (owner, domain), (uid, pod), DISK) {
        return;
    }
    let wait = |reason: &'static str, message: String| waiting(&Why { reason, message });
    let report = match admission::attachments::disk(pod, &attachment, o.facts) {
        _ if domain.is_none() => wait("VmNotRunning", "the VM is not running yet".into()),
        Ok(disk) if disk.cdrom && domain.is_some_and(|domain| drive(domain, &attachment).is_none()) => {
            wait("DriveMissing", format!("the VM has no CD-ROM drive {}; restart the VM", disk.name))
        }
        Err(Verdict::Wait(why) | Verdict::Reject(why)) => waiting(&why),
        Err(Verdict::Unknown | Verdict::Accept(_)) => return,
        Ok(disk) => match (user_of_disk(o, plan, &disk), o.memory.failures.get(uid)) {
            (Some(user), _) => wait("VolumeInUse", format!("the volume is in use by {user} on this node")),
            (None, Some(failure)) => wait("AttachError", failure.why.clone()),
            // It is added in this round or the next.
            (None, None) => return,
        },
    };
    plan_report(plan, uid, pod, report);
}

/// Whether the domain has another claim's disk under the name of this volume.
fn is_of_another_claim(
    o: &Observed<'_>,
    pod: &Pod,
    attachment: &Attachment,
    domain: Option<&Domain>,
) -> bool {
    let Ok(disk) = admission::attachments::disk(pod, attachment, o.facts) else { return false };
    let has = domain.and_then(|domain| domain.devices.get(target(domain, attachment)?));
    has != device(&disk)
}

/// Whether the VM of Pod `owner` was started and nobody said that it ended.
fn may_run(o: &Observed<'_>, owner: &str) -> bool {
    match o.pods.get(owner) {
        Some(pod) => super::was_started(o, owner, pod) && !report::says_ended(pod),
        None => o.records.get(owner).is_some_and(|record| record.started.is_some()),
    }
}

/// The VM has what the Pod is for.
pub(super) fn running(o: &Observed<'_>, domain: Option<&Domain>) -> Report {
    let uuid = domain.map(|domain| domain.uuid.clone());
    let state = State::Running { started_at: rfc3339(o.now) };
    Report { phase: Phase::Running, state, uuid, ..Report::default() }
}

/// The Pod is of another version of the controller.
pub(super) fn not_understood() -> Report {
    let message = "the annotation of the attachment Pod is not understood by this version".into();
    waiting(&Why { reason: "InvalidSpec", message })
}

/// No VM has it any more: the disk or the NIC.
pub(super) fn detached(what: &str) -> Report {
    let state = State::Terminated {
        exit_code: 0,
        reason: "Detached".into(),
        message: format!("no VM has the {what}"),
        started_at: None,
    };
    Report { phase: Phase::Succeeded, state, ..Report::default() }
}
