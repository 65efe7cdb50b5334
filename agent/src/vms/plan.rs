//! Decides what to do next for every Pod, domain and folder of this node.
//!
//! Why here: the rules by which VMs live and end, in one pure function. Route in: [`Observed`]. Route out: at most
//! one [`Action`] for each Pod, and when to look again.
//!
//! A VM is never ended because something is unknown: a domain that is not ours is left alone, a domain whose Pod
//! is not listed is ended only after the API server itself answered that the Pod is gone, and a VM that was once
//! started is never started again. Numbers come from Pods, so from anybody: nothing here overflows.
//!
//! A Pod keeps its finalizer until its status says that its domain is gone, and only this node says so: container
//! `compute` is terminated. Others may set the phase (the garbage collector of Pods does), so the phase proves nothing.
#![deny(clippy::arithmetic_side_effects)]

mod access;
mod actions;
mod attachments;
mod clashes;
mod ends;
mod nics;
mod observed;
mod size;

pub use actions::Action;
pub use observed::{Credentials, FailedStart, Memory, Observed, Stopping};

use super::admission::{self, Verdict, Why};
use super::cpus::{self, Ledger};
use super::domain_xml::{TAG_GRACE, TAG_NAMESPACE_NAME, TAG_POD, TAG_POD_UID, TAG_VMI, TAG_VMI_UID};
use super::facts::Resources;
use super::guest::Identity;
use super::host_devices;
use super::record::{Record, Started};
use super::report::{self, Paused, Phase, Report, State};
use clashes::{previous_run, user_of_volume};
use ends::{Machine, ended, failed, waiting};
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::names::REASON_NODE_SHUTDOWN;
use sheaf_api::size::Size;
use sheaf_host::libvirt::{self, Domain, Stop};
use std::collections::BTreeMap;

/// Seconds between two presses of the power button: guests that still boot do not hear the first.
const PRESS_AGAIN: i64 = 10;

/// Most seconds of grace for a VM whose Pod is gone or ended already: its successor may be waiting for it.
const ORPHAN_GRACE: i64 = 30;

/// Most seconds of grace at all, a day: the API server does not bound what a deletion asks for.
const LONGEST_GRACE: i64 = 86_400;

/// Seconds for which a domain may be missing without any word of its end: libvirtd may be starting.
const MISSING_TIME: i64 = 15;

/// Seconds between two tries to continue with a VM whose disk had no space.
const RESUME_AGAIN: i64 = 10;

/// Seconds that such a VM must have run since it was resumed before it is reported as running: without space it pauses
/// again at the same write.
const RESUMED_AFTER: i64 = 5;

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// By Pod UID.
    pub actions: Vec<(String, Action)>,
    /// Look again then at the latest, in seconds since 1970.
    pub wake: Option<i64>,
}

impl Plan {
    fn act(&mut self, uid: &str, action: Action) {
        self.actions.push((uid.to_owned(), action));
    }

    fn wake_at(&mut self, time: i64) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }
}

/// Which VM has which parts of the node to itself.
struct Ledgers<'a> {
    cpus: Ledger<'a>,
    devices: host_devices::Ledger<'a>,
}

/// What is added to VMs while they run, by the UID of the VM's Pod.
struct Added<'a> {
    disks: BTreeMap<String, Vec<attachments::Added<'a>>>,
    nics: BTreeMap<String, Vec<nics::Added<'a>>>,
}

/// The next steps.
pub fn plan(o: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    let domains: BTreeMap<&str, &Domain> = o
        .domains
        .iter()
        .filter_map(|domain| Some((domain.tags.get(TAG_POD_UID)?.as_str(), domain)))
        .collect();
    let added = Added { disks: attachments::by_vm(o), nics: nics::by_vm(o) };
    let mut used = o.pods.iter().filter(|(uid, pod)| takes_resources(o, &domains, uid, pod)).fold(
        Resources::default(),
        |sum, (uid, pod)| {
            let space = o.records.get(uid).map_or(0, |record| record.space);
            sum.plus(taken(o, pod, domains.get(uid.as_str()).copied(), space))
        },
    );
    let mut ledgers = Ledgers { cpus: Ledger::of(o), devices: host_devices::Ledger::of(o) };
    let free = |plan: &mut Plan, uid: &str| {
        let held = o.memory.held.get(uid).copied().filter(|until| *until > o.now);
        if let Some(until) = held {
            plan.wake_at(until);
        }
        held.is_none() && !o.memory.busy.contains(uid)
    };
    let mut pods: Vec<_> = o.pods.iter().collect();
    pods.sort_by_key(|(uid, pod)| {
        (pod.metadata.creation_timestamp.clone().map(|time| time.0), (*uid).clone())
    });
    for (uid, pod) in pods {
        if !free(&mut plan, uid) {
            continue;
        }
        if admission::is_nic(pod) {
            nics::plan_pod(&mut plan, o, &domains, uid, pod);
            continue;
        }
        if admission::is_attachment(pod) {
            attachments::plan_pod(&mut plan, o, &domains, uid, pod);
            continue;
        }
        if !admission::is_vm(pod) {
            plan_other(&mut plan, uid, pod);
            continue;
        }
        let domain = domains.get(uid.as_str()).copied();
        let live = domain.filter(|domain| !matches!(domain.state, libvirt::State::Stopped(_)));
        match (live, report::is_terminal(pod)) {
            (Some(domain), true) => {
                let grace = ORPHAN_GRACE.min(grace_tag(domain));
                plan_stop(&mut plan, o, &ledgers.cpus, uid, domain, |since| {
                    stop_deadline(since, i64::MAX, grace)
                });
            }
            (None, true) if !report::says_ended(pod) => plan_end(&mut plan, o, uid, pod, domain),
            (None, true) => {
                if is_deleted(pod) && domain.is_none() {
                    plan.act(uid, Action::DeletePod);
                }
            }
            (Some(domain), false) => {
                plan_live(&mut plan, o, (uid, pod, domain), &added, &mut used, &ledgers.cpus);
            }
            (None, false) => {
                let disks = added.disks.get(uid).map(Vec::as_slice).unwrap_or_default();
                plan_without_domain(&mut plan, o, (uid, pod, domain), disks, &mut used, &mut ledgers);
            }
        }
    }
    for (uid, domain) in &domains {
        if !o.pods.contains_key(*uid) && free(&mut plan, uid) {
            if o.memory.gone.contains(*uid) {
                let grace = ORPHAN_GRACE.min(grace_tag(domain));
                plan_stop(&mut plan, o, &ledgers.cpus, uid, domain, |since| {
                    stop_deadline(since, i64::MAX, grace)
                });
            } else {
                plan.act(uid, Action::ConfirmGone(identity_of(domain)));
            }
        }
    }
    for (uid, record) in o.records {
        if !o.pods.contains_key(uid) && !domains.contains_key(uid.as_str()) && free(&mut plan, uid) {
            let action = match o.memory.gone.contains(uid) {
                true => Action::RemoveFolder(record.clone()),
                false => Action::ConfirmGone(record.id()),
            };
            plan.act(uid, action);
        }
    }
    plan
}

/// When a VM that is being ended since `since` is destroyed: at `end` by the API server's clock, which may be another, so
/// neither before `since` nor later than `grace` seconds after it by the node's own. Never before `since`, whatever is asked.
fn stop_deadline(since: i64, end: i64, grace: i64) -> i64 {
    end.clamp(since, since.saturating_add(grace.clamp(0, LONGEST_GRACE)))
}

fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn grace_tag(domain: &Domain) -> i64 {
    domain.tags.get(TAG_GRACE).and_then(|grace| grace.parse().ok()).unwrap_or(ORPHAN_GRACE)
}

fn identity_of(domain: &Domain) -> Identity {
    let tag = |name: &str| domain.tags.get(name).cloned().unwrap_or_default();
    Identity {
        pod_uid: tag(TAG_POD_UID),
        pod: tag(TAG_POD),
        namespace: tag(TAG_NAMESPACE_NAME),
        vmi: tag(TAG_VMI),
        vmi_uid: tag(TAG_VMI_UID),
    }
}

fn takes_resources(o: &Observed<'_>, domains: &BTreeMap<&str, &Domain>, uid: &str, pod: &Pod) -> bool {
    let started = o.records.get(uid).is_some_and(|record| record.started.is_some());
    let running = domains.contains_key(uid) || started || o.memory.busy.contains(uid);
    admission::is_vm(pod) && !report::is_terminal(pod) && running
}

/// What a VM takes whose files may grow to `space` bytes. A change of its requests counts while it is being allocated.
fn taken(o: &Observed<'_>, pod: &Pod, domain: Option<&Domain>, space: u64) -> Resources {
    let has = domain.and_then(|domain| size::plugged(pod, domain)).map(|plugged| plugged.size);
    let needs = admission::needs_at(pod, o.facts, has);
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let asked = if o.memory.busy.contains(uid) { admission::requests(pod) } else { Resources::default() };
    Resources {
        storage: needs.storage.max(space),
        memory: needs.memory.max(asked.memory),
        cpu: needs.cpu.max(asked.cpu),
        ..needs
    }
}

/// A Pod that is not a VM: it waits, and its status has the reason.
fn plan_other(plan: &mut Plan, uid: &str, pod: &Pod) {
    let (reason, message) = if admission::is_importer(pod) {
        (
            "Importing",
            "nothing runs in this Pod; it lets the node read the Secrets of an import until that is done",
        )
    } else if admission::is_exporter(pod) {
        (
            "Exporting",
            "nothing runs in this Pod; while it exists, the node hands out volumes of an export to clients with its token",
        )
    } else {
        (
            "UnsupportedRuntime",
            "this node runs virtual machines, not containers; use a nodeSelector that excludes it",
        )
    };
    let report = waiting(&Why { reason, message: message.into() });
    if is_deleted(pod) {
        plan.act(uid, Action::DeletePod);
    } else if !report::is_terminal(pod) {
        plan_report(plan, uid, pod, report);
    }
}

fn plan_live(
    plan: &mut Plan,
    o: &Observed<'_>,
    (uid, pod, domain): (&str, &Pod, &Domain),
    added: &Added<'_>,
    used: &mut Resources,
    ledger: &Ledger<'_>,
) {
    let Some(started) = o.records.get(uid).and_then(|record| record.started.as_ref()) else {
        let at = rfc3339(o.now);
        let started = Started { boot_id: o.facts.boot_id.clone(), uuid: domain.uuid.clone(), at };
        // Without its ports nothing passes them, and so with those that the Pod does not tell.
        let ports = admission::ports(pod).unwrap_or_default();
        let (cpus, devices) = (cpus::own(domain), host_devices::own(domain));
        let record =
            Record { started: Some(started), ports, cpus, devices, ..Record::made(&identity_of(domain)) };
        plan.act(uid, Action::Adopt(record));
        return;
    };
    if is_deleted(pod) {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_else(|| grace_tag(domain));
        let end = pod.metadata.deletion_timestamp.as_ref().map_or(o.now, |time| time.0.as_second());
        plan_stop(plan, o, ledger, uid, domain, |since| stop_deadline(since, end, grace));
        return;
    }
    let paused = domain.state == libvirt::State::PausedByDisk;
    let resumed = o.memory.resumed.get(uid).copied();
    let proves_itself = resumed
        .map(|last| last.saturating_add(RESUMED_AFTER))
        .filter(|proven| !paused && *proven > o.now && report::is_paused_by_disk(pod));
    let plugged = size::plugged(pod, domain);
    let has = plugged.map(|plugged| plugged.size);
    let space = o.records.get(uid).map_or(0, |record| record.space);
    let allocated = size::allocate(o, pod, has, taken(o, pod, Some(domain), space), used);
    // Why the size that was allocated is not in effect.
    let is_changing = has.is_some_and(|has| Size::wanted(pod).is_some_and(|wanted| wanted != has));
    let failure = o.memory.failures.get(uid).filter(|_| is_changing);
    let report = Report {
        phase: Phase::Running,
        state: State::Running { started_at: started.at.clone() },
        allocated: Some(allocated),
        plugged,
        resize_failed: failure.map(|failure| failure.why.clone()),
        uuid: Some(domain.uuid.clone()),
        addresses: o.memory.addresses.get(uid).cloned().unwrap_or_default(),
        interfaces: o.memory.interfaces.get(uid).cloned(),
        console_tail: o.memory.tails.get(uid).cloned(),
        paused: match domain.state {
            libvirt::State::Paused => Some(Paused::ByUser),
            _ => (paused || proves_itself.is_some()).then_some(Paused::ByDisk),
        },
        credentials: o.memory.credentials.get(uid).and_then(|of| access::state(of, domain)),
        disks: Some(attachments::targets(domain)),
    };
    if !report.is_reported_by(pod) {
        plan.act(uid, Action::Report(report));
    } else if let Some(action) = moved(plan, o, ledger, uid, domain) {
        plan.act(uid, action);
    } else if let Some(action) =
        attachments::next(plan, o, uid, domain, added.disks.get(uid).map(Vec::as_slice).unwrap_or_default())
    {
        plan.act(uid, action);
    } else if let Some(action) =
        nics::next(plan, o, (uid, pod), domain, added.nics.get(uid).map(Vec::as_slice).unwrap_or_default())
    {
        plan.act(uid, action);
    } else if let Some(action) = size::next(plan, o, uid, pod, domain) {
        plan.act(uid, action);
    } else if let Some((disk, bytes)) = grown(o, domain) {
        plan.act(uid, Action::ResizeDisk { uuid: domain.uuid.clone(), disk, bytes });
    } else if paused {
        // It pauses again at the very write that had to wait, if there is no space yet.
        let again = resumed.map_or(o.now, |last| last.saturating_add(RESUME_AGAIN));
        match again <= o.now {
            true => plan.act(uid, Action::Resume(domain.uuid.clone())),
            false => plan.wake_at(again),
        }
    } else if let Some(proven) = proves_itself {
        plan.wake_at(proven);
    } else if let Some(wanted) = o.memory.credentials.get(uid).and_then(|of| access::due(of, domain, o.now)) {
        plan.act(uid, Action::SetCredentials { uuid: domain.uuid.clone(), wanted });
    }
}

/// A disk of the domain whose volume has another size than the guest was notified of, and that size.
fn grown(o: &Observed<'_>, domain: &Domain) -> Option<(String, u64)> {
    let volumes = o.facts.volumes.as_ref()?;
    // One that is read-only stays as it is: libvirt resizes no such disk.
    let written = domain.devices.iter().filter(|(disk, _)| !domain.readonly.contains(*disk));
    written.into_iter().find_map(|(disk, device)| {
        let volume = volumes.values().find(|volume| volume.ready && volume.device == *device)?;
        let told = o.memory.told.get(&(domain.uuid.clone(), disk.clone()));
        (told != Some(&volume.bytes)).then(|| (disk.clone(), volume.bytes))
    })
}

/// Power button at once and every [`PRESS_AGAIN`] seconds; destroyed at the deadline.
fn plan_stop(
    plan: &mut Plan,
    o: &Observed<'_>,
    ledger: &Ledger<'_>,
    uid: &str,
    domain: &Domain,
    deadline: impl Fn(i64) -> i64,
) {
    let stopping = o.memory.stopping.get(uid).copied();
    let deadline = deadline(stopping.map_or(o.now, |stopping| stopping.since));
    if o.now >= deadline {
        plan.act(uid, Action::Destroy(domain.uuid.clone()));
        return;
    }
    let press = stopping.map_or(o.now, |stopping| stopping.pressed.saturating_add(PRESS_AGAIN));
    if o.now >= press {
        plan.act(uid, Action::PressPowerButton(domain.uuid.clone()));
    } else if let Some(action) = moved(plan, o, ledger, uid, domain) {
        // A guest may take minutes to power off, and another VM may have its processors by then.
        plan.act(uid, action);
    }
    plan.wake_at(deadline.min(press.max(o.now.saturating_add(1))));
}

/// Lets the threads of a VM run where they are to run, if they do not. Nothing else of the VM waits for one that cannot be moved.
fn moved(
    plan: &mut Plan,
    o: &Observed<'_>,
    ledger: &Ledger<'_>,
    uid: &str,
    domain: &Domain,
) -> Option<Action> {
    let cpus = ledger.moved(uid, domain)?;
    match o.memory.unmoved.get(uid).copied().filter(|until| *until > o.now) {
        Some(until) => {
            plan.wake_at(until);
            None
        }
        None => Some(Action::Pin { uuid: domain.uuid.clone(), cpus }),
    }
}

/// Whether the VM was started once, by the node's own record or by the Pod's status.
pub fn was_started(o: &Observed<'_>, uid: &str, pod: &Pod) -> bool {
    o.records.get(uid).is_some_and(|record| record.started.is_some()) || report::was_started(pod)
}

/// Reports that the VM has no domain any more, and why, as soon as that is certain. A phase that is terminal already stays.
fn plan_end(plan: &mut Plan, o: &Observed<'_>, uid: &str, pod: &Pod, stopped: Option<&Domain>) {
    let started = o.records.get(uid).and_then(|record| record.started.as_ref());
    let stop = o.memory.stops.get(uid).copied().or(stopped.and_then(|domain| match domain.state {
        libvirt::State::Stopped(stop) => Some(stop),
        _ => None,
    }));
    let rebooted = started.is_some_and(|started| started.boot_id != o.facts.boot_id);
    let since = o.memory.missing.get(uid).copied().unwrap_or(o.now);
    let certain = since.saturating_add(MISSING_TIME);
    if was_started(o, uid, pod) && !rebooted && matches!(stop, None | Some(Stop::Unknown)) && o.now < certain
    {
        plan.wake_at(certain);
        return;
    }
    let mut report = if was_started(o, uid, pod) {
        let machine = match (rebooted, o.facts.shutting_down) {
            (true, _) => Machine::Rebooted,
            (false, true) => Machine::ShuttingDown,
            (false, false) if o.facts.without_lease.contains(uid) => Machine::WithoutLease,
            (false, false) => Machine::Runs,
        };
        ended(pod, started, machine, stop)
    } else {
        failed(
            Why { reason: "NeverStarted", message: "the Pod ended before the VM was started".into() },
            0,
            None,
        )
    };
    report.phase = report::terminal_phase(pod).unwrap_or(report.phase);
    plan.act(uid, Action::Report(report));
}

fn plan_without_domain(
    plan: &mut Plan,
    o: &Observed<'_>,
    (uid, pod, stopped): (&str, &Pod, Option<&Domain>),
    added: &[attachments::Added<'_>],
    used: &mut Resources,
    ledgers: &mut Ledgers<'_>,
) {
    if was_started(o, uid, pod) {
        plan_end(plan, o, uid, pod, stopped);
        return;
    }
    if is_deleted(pod) {
        let why = Why { reason: "NeverStarted", message: "deleted before the VM was started".into() };
        plan.act(uid, Action::Report(failed(why, 0, None)));
        return;
    }
    if o.facts.shutting_down {
        let message = "the node is going down; the VM starts when it is up again".into();
        plan_report(plan, uid, pod, waiting(&Why { reason: REASON_NODE_SHUTDOWN, message }));
        return;
    }
    match admission::admit(pod, o.facts, *used) {
        Verdict::Reject(why) => plan.act(uid, Action::Report(failed(why, 1, None))),
        Verdict::Unknown => {}
        Verdict::Wait(why) => plan_report(plan, uid, pod, waiting(&why)),
        Verdict::Accept(mut guest) => {
            match attachments::load(plan, o, pod, &mut guest, added) {
                Ok(()) => {}
                Err(Verdict::Wait(why)) => return plan_report(plan, uid, pod, waiting(&why)),
                Err(_) => return,
            }
            if let Some(before) = previous_run(o, plan, uid, &guest) {
                let message =
                    format!("{before}, an earlier run of the same VM, is still running on this node");
                plan_report(plan, uid, pod, waiting(&Why { reason: "PreviousRunPresent", message }));
                return;
            }
            if let Some(user) = user_of_volume(o, plan, &guest) {
                let message = format!("a volume of this VM is in use by {user} on this node");
                plan_report(plan, uid, pod, waiting(&Why { reason: "VolumeInUse", message }));
                return;
            }
            match ledgers.cpus.place(uid, guest.hardware.own_cpus) {
                Some(placement) => guest.placement = placement,
                None => {
                    let wants = guest.hardware.own_cpus.map_or(0, cpus::Wanted::count);
                    let message = format!(
                        "the VM needs {wants} processors of its own and {} are free; VMs that still end have the others",
                        ledgers.cpus.free()
                    );
                    return plan_report(plan, uid, pod, waiting(&Why { reason: "CpusNotFree", message }));
                }
            }
            match ledgers.devices.place(uid, &guest.hardware.host_devices) {
                Ok(devices) => guest.host_devices = devices,
                Err(resource) => {
                    let problems = o.facts.devices.problems.iter().map(|problem| format!("; {problem}"));
                    let message =
                        format!("too few {resource} are free on this node{}", problems.collect::<String>());
                    return plan_report(plan, uid, pod, waiting(&Why { reason: "DevicesNotFree", message }));
                }
            }
            *used = used.plus(taken(o, pod, None, guest.space));
            // A start that failed is reported at once, and tried again after a while.
            if let Some(failure) = o.memory.failures.get(uid) {
                let report = waiting(&Why { reason: "StartError", message: failure.why.clone() });
                if !report.is_reported_by(pod) {
                    plan.act(uid, Action::Report(report));
                    return;
                }
                if o.now < failure.until {
                    plan.wake_at(failure.until);
                    return;
                }
            }
            plan.act(uid, Action::Start(guest));
        }
    }
}

fn plan_report(plan: &mut Plan, uid: &str, pod: &Pod, report: Report) {
    if !report.is_reported_by(pod) {
        plan.act(uid, Action::Report(report));
    }
}

/// `seconds` since 1970 as Kubernetes writes times.
pub fn rfc3339(seconds: i64) -> String {
    k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
