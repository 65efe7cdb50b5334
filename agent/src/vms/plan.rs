//! Decides what to do next for every Pod, domain and folder of this node.
//!
//! Why here: the rules by which VMs live and end, in one pure function. Route in: [`Observed`]. Route out: at most
//! one [`Action`] for each Pod, and when to look again.
//!
//! A VM is never ended because something is unknown: a domain that is not ours is left alone, a domain whose Pod
//! is not listed is ended only after the API server itself answered that the Pod is gone, and a VM that was once
//! started is never started again.

mod observed;
mod words;

pub use observed::{FailedStart, Memory, Observed, Stopping};

use super::admission::{self, Verdict, Why};
use super::domain_xml::{TAG_GRACE, TAG_NAMESPACE_NAME, TAG_POD, TAG_POD_UID, TAG_VMI, TAG_VMI_UID};
use super::facts::Resources;
use super::guest::{Guest, Identity};
use super::record::{Record, Started};
use super::report::{self, Phase, Report, State};
use k8s_openapi::api::core::v1::Pod;
use sheaf_host::libvirt::{self, Domain, Stop};
use std::collections::BTreeMap;
use words::{ended, failed, waiting};

/// Seconds between two presses of the power button: guests that still boot do not hear the first.
const PRESS_AGAIN: i64 = 10;

/// Most seconds of grace for a VM whose Pod is gone or ended already, so that nobody waits for it.
const ORPHAN_GRACE: i64 = 30;

/// Seconds for which a domain may be missing without any word of its end: libvirtd may be starting.
const MISSING_TIME: i64 = 15;

/// Seconds between two tries to go on with a VM whose disk had no space.
const RESUME_AGAIN: i64 = 10;

/// Seconds that such a VM must have run since the last try before it is said that it goes on: with no space yet it stops
/// again at the same write.
const RESUMED_AFTER: i64 = 5;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make its files and start it.
    Start(Box<Guest>),
    /// Write the record of a domain that has none.
    Adopt(Record),
    /// Patch the Pod's status.
    Report(Report),
    /// Press the power button of domain `uuid`.
    PressPowerButton(String),
    /// Let the processors of domain `uuid` run again: its disks may have space by now.
    Resume(String),
    /// Tell the guest that a disk has grown.
    ResizeDisk {
        /// The domain.
        uuid: String,
        /// The disk, `vda`.
        disk: String,
        /// Its size now.
        bytes: u64,
    },
    /// End QEMU of domain `uuid`.
    Destroy(String),
    /// Ask the API server whether the Pod is gone.
    ConfirmGone(Identity),
    /// Delete the Pod object: everything of it is gone.
    DeletePod,
    /// Remove the folder of a VM whose Pod is gone.
    RemoveFolder(Record),
}

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

/// The next steps.
pub fn plan(o: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    let domains: BTreeMap<&str, &Domain> = o
        .domains
        .iter()
        .filter_map(|domain| Some((domain.tags.get(TAG_POD_UID)?.as_str(), domain)))
        .collect();
    let mut used = o
        .pods
        .iter()
        .filter(|(uid, pod)| takes_resources(o, &domains, uid, pod))
        .fold(Resources::default(), |sum, (_uid, pod)| sum.plus(admission::requests(pod)));
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
        if !admission::is_vm(pod) {
            plan_other(&mut plan, uid, pod);
            continue;
        }
        let domain = domains.get(uid.as_str()).copied();
        let live = domain.filter(|domain| !matches!(domain.state, libvirt::State::Stopped(_)));
        match (live, report::is_terminal(pod)) {
            (Some(domain), true) => {
                let grace = ORPHAN_GRACE.min(grace_tag(domain));
                plan_stop(&mut plan, o, uid, domain, |since| since + grace);
            }
            (None, true) => {
                if is_deleted(pod) && domain.is_none() {
                    plan.act(uid, Action::DeletePod);
                }
            }
            (Some(domain), false) => plan_live(&mut plan, o, uid, pod, domain),
            (None, false) => plan_without_domain(&mut plan, o, uid, pod, domain, &mut used),
        }
    }
    for (uid, domain) in &domains {
        if !o.pods.contains_key(*uid) && free(&mut plan, uid) {
            if o.memory.gone.contains(*uid) {
                let grace = ORPHAN_GRACE.min(grace_tag(domain));
                plan_stop(&mut plan, o, uid, domain, |since| since + grace);
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

/// A Pod that is no VM: it waits, and says why.
fn plan_other(plan: &mut Plan, uid: &str, pod: &Pod) {
    let report = waiting(&Why {
        reason: "UnsupportedRuntime",
        message: "this node runs virtual machines only, no containers; keep the Pod away by a nodeSelector"
            .into(),
    });
    if is_deleted(pod) {
        plan.act(uid, Action::DeletePod);
    } else if !report::is_terminal(pod) {
        say(plan, uid, pod, report);
    }
}

fn plan_live(plan: &mut Plan, o: &Observed<'_>, uid: &str, pod: &Pod, domain: &Domain) {
    let Some(started) = o.records.get(uid).and_then(|record| record.started.as_ref()) else {
        let at = rfc3339(o.now);
        let started = Started { boot_id: o.facts.boot_id.clone(), uuid: domain.uuid.clone(), at };
        plan.act(uid, Action::Adopt(Record { started: Some(started), ..Record::made(&identity_of(domain)) }));
        return;
    };
    if is_deleted(pod) {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_else(|| grace_tag(domain));
        let end = pod.metadata.deletion_timestamp.as_ref().map_or(o.now, |time| time.0.as_second());
        // By the node's own clock, but never longer than the grace: the API server's clock may be another.
        plan_stop(plan, o, uid, domain, |since| end.clamp(since, since + grace.max(0)));
        return;
    }
    let paused = domain.state == libvirt::State::PausedByDisk;
    let resumed = o.memory.resumed.get(uid).copied();
    let proves_itself = resumed
        .map(|last| last + RESUMED_AFTER)
        .filter(|proven| !paused && *proven > o.now && report::says_paused(pod));
    let report = Report {
        phase: Phase::Running,
        state: State::Running { started_at: started.at.clone() },
        uuid: Some(domain.uuid.clone()),
        addresses: o.memory.addresses.get(uid).cloned().unwrap_or_default(),
        interfaces: o.memory.interfaces.get(uid).cloned().unwrap_or_default(),
        console_tail: o.memory.tails.get(uid).cloned(),
        paused: (paused || proves_itself.is_some())
            .then(|| "a disk of it has no space left or fails; it goes on once that ends".into()),
    };
    if !report.is_said_by(pod) {
        plan.act(uid, Action::Report(report));
    } else if let Some((disk, bytes)) = grown(o, domain) {
        plan.act(uid, Action::ResizeDisk { uuid: domain.uuid.clone(), disk, bytes });
    } else if paused {
        // It pauses again at the very write that had to wait, if there is no space yet.
        let again = resumed.map_or(o.now, |last| last + RESUME_AGAIN);
        match again <= o.now {
            true => plan.act(uid, Action::Resume(domain.uuid.clone())),
            false => plan.wake_at(again),
        }
    } else if let Some(proven) = proves_itself {
        plan.wake_at(proven);
    }
}

/// A disk of the domain whose volume has another size than the guest was told of, and that size.
fn grown(o: &Observed<'_>, domain: &Domain) -> Option<(String, u64)> {
    let volumes = o.facts.volumes.as_ref()?;
    domain.devices.iter().find_map(|(disk, device)| {
        let volume = volumes.values().find(|volume| volume.ready && volume.device == *device)?;
        let told = o.memory.told.get(&(domain.uuid.clone(), disk.clone()));
        (told != Some(&volume.bytes)).then(|| (disk.clone(), volume.bytes))
    })
}

/// Power button at once and again from time to time, the switch at the deadline.
fn plan_stop(plan: &mut Plan, o: &Observed<'_>, uid: &str, domain: &Domain, deadline: impl Fn(i64) -> i64) {
    let stopping = o.memory.stopping.get(uid).copied();
    let deadline = deadline(stopping.map_or(o.now, |stopping| stopping.since));
    if o.now >= deadline {
        plan.act(uid, Action::Destroy(domain.uuid.clone()));
        return;
    }
    let press = stopping.map_or(o.now, |stopping| stopping.pressed + PRESS_AGAIN);
    if o.now >= press {
        plan.act(uid, Action::PressPowerButton(domain.uuid.clone()));
    }
    plan.wake_at(deadline.min(press.max(o.now + 1)));
}

fn plan_without_domain(
    plan: &mut Plan,
    o: &Observed<'_>,
    uid: &str,
    pod: &Pod,
    stopped: Option<&Domain>,
    used: &mut Resources,
) {
    let started = o.records.get(uid).and_then(|record| record.started.as_ref());
    if started.is_some() || report::was_started(pod) {
        let stop = o.memory.stops.get(uid).copied().or(stopped.and_then(|domain| match domain.state {
            libvirt::State::Stopped(stop) => Some(stop),
            _ => None,
        }));
        let rebooted = started.is_some_and(|started| started.boot_id != o.facts.boot_id);
        if !rebooted && matches!(stop, None | Some(Stop::Unknown)) {
            let since = o.memory.missing.get(uid).copied().unwrap_or(o.now);
            if o.now < since + MISSING_TIME {
                plan.wake_at(since + MISSING_TIME);
                return;
            }
        }
        plan.act(uid, Action::Report(ended(pod, started, rebooted, stop)));
        return;
    }
    if is_deleted(pod) {
        let why = Why { reason: "NeverStarted", message: "deleted before the VM was started".into() };
        plan.act(uid, Action::Report(failed(why, 0, None)));
        return;
    }
    match admission::admit(pod, o.facts, *used) {
        Verdict::Reject(why) => plan.act(uid, Action::Report(failed(why, 1, None))),
        Verdict::Wait(why) => say(plan, uid, pod, waiting(&why)),
        Verdict::Accept(guest) => {
            if let Some(before) = previous_run(o, uid, &guest) {
                let message = format!("{before} of the same VM has not ended on this node yet");
                say(plan, uid, pod, waiting(&Why { reason: "PreviousRunPresent", message }));
                return;
            }
            if let Some(user) = user_of_volume(o, plan, &guest) {
                let message = format!("a volume of it is in use by {user} on this node");
                say(plan, uid, pod, waiting(&Why { reason: "VolumeInUse", message }));
                return;
            }
            *used = used.plus(admission::requests(pod));
            // A start that failed says why at once, and is tried again after a while.
            if let Some(failure) = o.memory.failures.get(uid) {
                let report = waiting(&Why { reason: "StartError", message: failure.why.clone() });
                if !report.is_said_by(pod) {
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

/// What is left of an earlier run of the same VM, under the same UUID, name or folder.
fn previous_run<'a>(o: &'a Observed<'_>, uid: &str, guest: &Guest) -> Option<&'a str> {
    let name = guest.id.domain();
    let domain = o.domains.iter().find(|domain| domain.uuid == guest.uuid || domain.name == name);
    let folder =
        o.records.values().find(|record| record.vmi_uid == guest.id.vmi_uid && record.pod_uid != uid);
    domain.map(|domain| domain.name.as_str()).or(folder.map(|record| record.pod.as_str()))
}

/// Who has one of the guest's volumes in use already: two guests that write one disk destroy it.
fn user_of_volume(o: &Observed<'_>, plan: &Plan, guest: &Guest) -> Option<String> {
    let wanted: Vec<_> = guest.devices().collect();
    let shares = |device: &std::path::Path| wanted.contains(&device);
    let running = o.domains.iter().find(|domain| domain.devices.values().any(|device| shares(device)));
    let starting = o.memory.starting.values().find(|starting| starting.devices().any(shares));
    let planned = plan.actions.iter().find_map(|(_, action)| match action {
        Action::Start(other) if other.devices().any(shares) => Some(&**other),
        _ => None,
    });
    let starting = starting.or(planned).map(|guest| guest.id.domain());
    running.map(|domain| domain.name.clone()).or(starting)
}

fn say(plan: &mut Plan, uid: &str, pod: &Pod, report: Report) {
    if !report.is_said_by(pod) {
        plan.act(uid, Action::Report(report));
    }
}

/// `seconds` since 1970 as Kubernetes writes times.
pub fn rfc3339(seconds: i64) -> String {
    k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests;
