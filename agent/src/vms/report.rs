//! The status of a Pod, and the patch that writes it.
//!
//! Why here: the shape of Pod status in one place; pure. Route in: a [`Report`] of the plan. Route out: whether
//! the Pod has it already, else a strategic merge patch for `pods/status` that holds only while the UID does.

use super::admission::Why;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};
use sheaf_api::names::{
    CREDENTIALS_CONDITION, DISKS_ANNOTATION, INTERFACES_ANNOTATION, PAUSED_CONDITION, PLUGGED_ANNOTATION,
    RESIZE_IN_PROGRESS_CONDITION, RESIZE_PENDING_CONDITION,
};
use sheaf_api::network::SeenInterface;
use sheaf_api::size::Plugged;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Why a guest stands still; reasons are KubeVirt's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// A disk has no space left, or fails.
    ByDisk,
    /// Somebody asked for it.
    ByUser,
}

impl Paused {
    /// In one word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ByDisk => PAUSED_BY_DISK,
            Self::ByUser => PAUSED_BY_USER,
        }
    }

    /// In a sentence.
    pub fn message(self) -> &'static str {
        match self {
            Self::ByDisk => {
                "a disk has no space left or fails; the VM is resumed as soon as it can be written"
            }
            Self::ByUser => "VMI was paused by user",
        }
    }
}

/// Reason of the condition that somebody paused a guest; KubeVirt's.
const PAUSED_BY_USER: &str = "PausedByUser";
/// Reason of the condition that a guest is paused because of a disk; KubeVirt's.
const PAUSED_BY_DISK: &str = "PausedIOError";

/// Annotation of a Pod: the last lines of its VM's serial console.
pub const CONSOLE_TAIL: &str = "sheaf.dev/console-tail";

/// A Pod's status.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The Pod's phase.
    pub phase: Phase,
    /// What the containers are doing.
    pub state: State,
    /// UUID of the domain, once there was one.
    pub uuid: Option<String>,
    /// Addresses of the guest; empty says nothing about them.
    pub addresses: Vec<IpAddr>,
    /// Interfaces that the guest has, with what is known of them; nothing says nothing about them.
    pub interfaces: Option<Vec<SeenInterface>>,
    /// Last lines of the serial console, when they are known.
    pub console_tail: Option<String>,
    /// Why the guest is paused.
    pub paused: Option<Paused>,
    /// Whether its agent has set its credentials, or why not; nothing says nothing about them.
    pub credentials: Option<Result<(), String>>,
    /// Names of the guest's disks by their volumes; nothing says nothing about them.
    pub disks: Option<BTreeMap<String, String>>,
    /// What of its requests is allocated, of a VM that runs.
    pub allocated: Option<Allocated>,
    /// Its size, of a VM that can grow while it runs.
    pub plugged: Option<Plugged>,
    /// Why that could not be changed.
    pub resize_failed: Option<String>,
}

/// What of a Pod's requests is allocated on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allocated {
    /// Requests of its container, by resource.
    pub requests: BTreeMap<String, Quantity>,
    /// Why that is not what it asks for.
    pub pending: Option<Why>,
}

impl Allocated {
    /// All that the Pod asks for.
    pub fn asked(pod: &Pod) -> Self {
        let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let requests = containers.find_map(|container| container.resources.as_ref()?.requests.clone());
        Self { requests: requests.unwrap_or_default(), pending: None }
    }
}

/// What this node has allocated to the container of a Pod, by its status.
pub fn allocated(pod: &Pod) -> Option<BTreeMap<String, Quantity>> {
    let mut containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.find_map(|container| container.allocated_resources.clone())
}

impl Default for Report {
    /// Of a Pod of which nothing is known.
    fn default() -> Self {
        Self {
            phase: Phase::Pending,
            state: State::Waiting { reason: String::new(), message: String::new() },
            uuid: None,
            addresses: Vec::new(),
            interfaces: None,
            console_tail: None,
            paused: None,
            credentials: None,
            disks: None,
            allocated: None,
            plugged: None,
            resize_failed: None,
        }
    }
}

/// The Pod's phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Kubernetes' words
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// What the containers are doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Kubernetes' words
pub enum State {
    Waiting { reason: String, message: String },
    Running { started_at: String },
    Terminated { exit_code: i32, reason: String, message: String, started_at: Option<String> },
}

/// Whether the Pod has ended; it never begins again.
pub fn is_terminal(pod: &Pod) -> bool {
    terminal_phase(pod).is_some()
}

/// Whether the Pod's status says that its VM was started.
pub fn was_started(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.into_iter().any(|container| container.container_id.is_some())
}

/// Whether the Pod's status says that its guest is paused.
pub fn is_paused(pod: &Pod) -> bool {
    paused_reason(pod).is_some()
}

/// Whether the Pod's status says that its guest is paused by a disk.
pub fn is_paused_by_disk(pod: &Pod) -> bool {
    paused_reason(pod) == Some(PAUSED_BY_DISK)
}

fn paused_reason(pod: &Pod) -> Option<&str> {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let paused =
        conditions.find(|condition| condition.type_ == PAUSED_CONDITION && condition.status == "True")?;
    Some(paused.reason.as_deref().unwrap_or_default())
}

/// What the Pod's status says of credentials.
fn credentials(pod: &Pod) -> Option<Result<(), String>> {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let condition = conditions.find(|condition| condition.type_ == CREDENTIALS_CONDITION)?;
    Some(match condition.status == "True" {
        true => Ok(()),
        false => Err(condition.message.clone().unwrap_or_default()),
    })
}

/// Names of the guest's disks, as the Pod has them.
fn reported_disks(pod: &Pod) -> BTreeMap<String, String> {
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(DISKS_ANNOTATION));
    annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Whether the Pod's status says that the VM has no domain: every container is terminated. Only this node writes that.
pub fn says_ended(pod: &Pod) -> bool {
    let statuses: Vec<_> =
        pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()).collect();
    let is_terminated = |state: &ContainerState| state.terminated.is_some();
    !statuses.is_empty()
        && statuses.iter().all(|container| container.state.as_ref().is_some_and(is_terminated))
}

/// The Pod's phase, if it is one that never changes.
pub fn terminal_phase(pod: &Pod) -> Option<Phase> {
    match phase(pod) {
        Some("Succeeded") => Some(Phase::Succeeded),
        Some("Failed") => Some(Phase::Failed),
        _ => None,
    }
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

impl Report {
    /// Whether the Pod's status is like this already.
    pub fn is_reported_by(&self, pod: &Pod) -> bool {
        let Some(status) = &pod.status else { return false };
        let containers: Vec<_> = status.container_statuses.iter().flatten().collect();
        let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
        let annotation = |name: &str| pod.metadata.annotations.as_ref().and_then(|all| all.get(name));
        let interfaces = || -> Option<Vec<SeenInterface>> {
            serde_json::from_str(annotation(INTERFACES_ANNOTATION)?).ok()
        };
        let addresses: Vec<IpAddr> =
            status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
        phase(pod) == Some(self.phase.name())
            && !containers.is_empty()
            && containers
                .iter()
                .all(|container| container.state.as_ref().is_some_and(|state| self.state.is(state)))
            && ready.is_some_and(|ready| (ready.status == "True") == self.ready())
            && (self.addresses.is_empty() || addresses == self.addresses)
            && self.paused.map(Paused::reason) == paused_reason(pod)
            && self.allocated.as_ref().is_none_or(|allocated| allocated.is_reported_by(pod))
            && (self.plugged.is_none() || self.plugged == Plugged::of(pod))
            && (self.allocated.is_none()
                || self.resize_failed == resize_condition(pod, RESIZE_IN_PROGRESS_CONDITION).map(|why| why.1))
            && (self.credentials.is_none() || self.credentials == credentials(pod))
            && self.interfaces.as_ref().is_none_or(|seen| *seen == interfaces().unwrap_or_default())
            && self.disks.as_ref().is_none_or(|disks| *disks == reported_disks(pod))
            && self.console_tail.as_ref().is_none_or(|wanted| annotation(CONSOLE_TAIL) == Some(wanted))
    }

    fn ready(&self) -> bool {
        self.phase == Phase::Running
    }

    /// The patch; `now` is RFC 3339.
    pub fn patch(&self, pod: &Pod, host_ip: Option<IpAddr>, now: &str) -> Value {
        let status = pod.status.clone().unwrap_or_default();
        let old = status.conditions.unwrap_or_default();
        let ready = if self.ready() { "True" } else { "False" };
        let (reason, message) = self.state.why();
        let condition = |kind: &str, value: &str| {
            let before = old.iter().find(|condition| condition.type_ == kind && condition.status == value);
            let since = before.and_then(|condition| condition.last_transition_time.clone());
            let since = since.map_or_else(|| json!(now), |time| json!(time));
            let why = if value == "True" { Value::Null } else { json!(reason) };
            json!({"type": kind, "status": value, "lastTransitionTime": since, "reason": why})
        };
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| {
            let mut value = json!({
                "name": container.name,
                "image": container.image,
                "imageID": "",
                "ready": self.ready(),
                "started": self.ready(),
                "restartCount": 0,
                "containerID": self.uuid.as_ref().map(|uuid| format!("vm://{uuid}")),
                "state": self.state.json(self.uuid.as_deref(), now),
            });
            if let Some(Allocated { requests, .. }) = &self.allocated {
                let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
                value["allocatedResources"] = json!(requests);
                // Without it the API server resizes no Pod that runs.
                value["resources"] = json!({"requests": requests, "limits": limits});
            }
            value
        });
        let mut conditions = vec![
            condition("Initialized", "True"),
            condition("PodReadyToStartContainers", if self.uuid.is_some() { "True" } else { "False" }),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ];
        if let Some(why) = &self.paused {
            let mut paused = condition(PAUSED_CONDITION, "True");
            (paused["reason"], paused["message"]) = (json!(why.reason()), json!(why.message()));
            conditions.push(paused);
        } else if is_paused(pod) {
            let mut resumed = condition(PAUSED_CONDITION, "False");
            (resumed["reason"], resumed["message"]) = (Value::Null, Value::Null);
            conditions.push(resumed);
        }
        if let Some(credentials) = &self.credentials {
            let is_set = if credentials.is_ok() { "True" } else { "False" };
            let mut set = condition(CREDENTIALS_CONDITION, is_set);
            (set["reason"], set["message"]) = (Value::Null, json!(credentials.as_ref().err()));
            conditions.push(set);
        }
        if let Some(Allocated { pending, .. }) = &self.allocated {
            let pending = pending.as_ref().map(|why| (why.reason, why.message.as_str()));
            let failed = self.resize_failed.as_deref().map(|message| ("Error", message));
            for (kind, why) in [(RESIZE_PENDING_CONDITION, pending), (RESIZE_IN_PROGRESS_CONDITION, failed)] {
                let Some((reason, message)) = why else {
                    if resize_condition(pod, kind).is_some() {
                        let mut over = condition(kind, "False");
                        // The scheduler reads the reason of a condition that is false, too.
                        (over["reason"], over["message"]) = (Value::Null, Value::Null);
                        conditions.push(over);
                    }
                    continue;
                };
                let mut waits = condition(kind, "True");
                (waits["reason"], waits["message"]) = (json!(reason), json!(message));
                conditions.push(waits);
            }
        }
        let failed = self.phase == Phase::Failed;
        let start = status.start_time.map_or_else(|| json!(now), |time| json!(time));
        let mut patch = json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {
                "phase": self.phase.name(),
                "reason": failed.then_some(reason),
                "message": failed.then_some(message),
                "startTime": start,
                "conditions": conditions,
                "containerStatuses": containers.collect::<Vec<_>>(),
            },
        });
        if let Some(ip) = host_ip {
            patch["status"]["hostIP"] = json!(ip);
            patch["status"]["hostIPs"] = json!([{"$patch": "replace"}, {"ip": ip}]);
        }
        if let Some(first) = self.addresses.first() {
            let mut all = vec![json!({"$patch": "replace"})];
            all.extend(self.addresses.iter().map(|ip| json!({"ip": ip})));
            patch["status"]["podIP"] = json!(first);
            patch["status"]["podIPs"] = json!(all);
        }
        if let Some(tail) = &self.console_tail {
            patch["metadata"]["annotations"][CONSOLE_TAIL] = json!(tail);
        }
        if let Some(disks) = self.disks.as_ref().filter(|disks| **disks != reported_disks(pod)) {
            patch["metadata"]["annotations"][DISKS_ANNOTATION] = json!(json!(disks).to_string());
        }
        if let Some(plugged) = self.plugged {
            patch["metadata"]["annotations"][PLUGGED_ANNOTATION] = json!(plugged.to_annotation());
        }
        if let Some(interfaces) = &self.interfaces {
            let text = serde_json::to_string(interfaces).unwrap_or_default();
            patch["metadata"]["annotations"][INTERFACES_ANNOTATION] = json!(text);
        }
        patch
    }
}

impl Allocated {
    fn is_reported_by(&self, pod: &Pod) -> bool {
        let pending = resize_condition(pod, RESIZE_PENDING_CONDITION);
        let wanted = self.pending.as_ref().map(|why| (why.reason.to_owned(), why.message.clone()));
        allocated(pod).as_ref() == Some(&self.requests) && pending == wanted
    }
}

/// Reason and message of a condition about a resize of the Pod, if it is true.
fn resize_condition(pod: &Pod, kind: &str) -> Option<(String, String)> {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let found = conditions.find(|condition| condition.type_ == kind && condition.status == "True")?;
    Some((found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default()))
}

impl State {
    fn why(&self) -> (&str, &str) {
        match self {
            Self::Waiting { reason, message } | Self::Terminated { reason, message, .. } => (reason, message),
            Self::Running { .. } => ("", ""),
        }
    }

    /// Equal in all that we say; times may be written differently.
    fn is(&self, state: &ContainerState) -> bool {
        match self {
            Self::Waiting { reason, message } => state.waiting.as_ref().is_some_and(|waiting| {
                waiting.reason.as_ref() == Some(reason) && waiting.message.as_ref() == Some(message)
            }),
            Self::Running { .. } => state.running.is_some(),
            Self::Terminated { reason, .. } => {
                state.terminated.as_ref().is_some_and(|terminated| terminated.reason.as_ref() == Some(reason))
            }
        }
    }

    /// States that are over are named as null: a merge would keep them.
    fn json(&self, uuid: Option<&str>, now: &str) -> Value {
        match self {
            Self::Waiting { reason, message } => {
                json!({"waiting": {"reason": reason, "message": message}, "running": null, "terminated": null})
            }
            Self::Running { started_at } => {
                json!({"waiting": null, "running": {"startedAt": started_at}, "terminated": null})
            }
            Self::Terminated { exit_code, reason, message, started_at } => json!({
                "waiting": null,
                "running": null,
                "terminated": {
                    "exitCode": exit_code,
                    "reason": reason,
                    "message": message,
                    "startedAt": started_at,
                    "finishedAt": now,
                    "containerID": uuid.map(|uuid| format!("vm://{uuid}")),
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    fn running() -> Report {
        Report {
            phase: Phase::Running,
            state: State::Running { started_at: "2026-01-01T00:00:00Z".into() },
            uuid: Some("u1".into()),
            ..Report::default()
        }
    }

    #[test]
    fn a_running_report_makes_the_pod_ready_and_holds_only_for_its_uid() {
        let patch = running().patch(&pod("p1"), Some([192, 0, 2, 1].into()), "2026-01-01T00:00:01Z");
        assert_eq!(patch["metadata"]["uid"], "p1");
        assert_eq!(patch["status"]["phase"], "Running");
        assert_eq!(patch["status"]["hostIP"], "192.0.2.1");
        assert_eq!(patch["status"]["conditions"][3]["status"], "True");
        assert_eq!(patch["status"]["containerStatuses"][0]["containerID"], "vm://u1");
        assert_eq!(patch["status"]["containerStatuses"][0]["state"]["waiting"], Value::Null);
    }

    #[test]
    fn a_status_that_was_patched_is_not_patched_again() {
        let mut patched = pod("p1");
        let patch = running().patch(&patched, None, "2026-01-01T00:00:01Z");
        assert!(!running().is_reported_by(&patched));
        patched.status = serde_json::from_value(patch["status"].clone()).unwrap();
        assert!(running().is_reported_by(&patched));
        let tail = Report { console_tail: Some("login:".into()), ..running() };
        assert!(!tail.is_reported_by(&patched));
        let lan = SeenInterface {
            name: "lan".into(),
            ip_addresses: vec![[192, 0, 2, 7].into()],
            ..SeenInterface::default()
        };
        let seen = Report { interfaces: Some(vec![lan]), ..running() };
        assert!(!seen.is_reported_by(&patched));
        let annotations =
            seen.patch(&patched, None, "2026-01-01T00:00:02Z")["metadata"]["annotations"].clone();
        patched.metadata.annotations = serde_json::from_value(annotations).unwrap();
        assert!(seen.is_reported_by(&patched));
        let none = Report { interfaces: Some(Vec::new()), ..running() };
        assert!(!none.is_reported_by(&patched), "the last one was removed");
        assert!(was_started(&patched) && !is_terminal(&patched));
    }

    #[test]
    fn names_of_disks_are_in_an_annotation_until_the_last_disk_is_gone() {
        let mut patched = pod("p1");
        for disks in [vec![("root", "vda"), ("data", "sda")], vec![("root", "vda")], vec![]] {
            let disks =
                disks.into_iter().map(|(name, target)| (name.to_owned(), target.to_owned())).collect();
            let report = Report { disks: Some(disks), ..running() };
            assert!(!report.is_reported_by(&patched));
            let patch = report.patch(&patched, None, "2026-01-01T00:00:01Z");
            patched.status = serde_json::from_value(patch["status"].clone()).unwrap();
            let annotations: BTreeMap<String, String> =
                serde_json::from_value(patch["metadata"]["annotations"].clone()).unwrap();
            patched.metadata.annotations.get_or_insert_default().extend(annotations);
            assert!(report.is_reported_by(&patched));
        }
        assert!(running().is_reported_by(&patched), "a report that says nothing of them changes nothing");
    }

    #[test]
    fn what_became_of_credentials_is_a_condition_that_changes_with_its_message() {
        let mut patched = pod("p1");
        let states = [Err("Guest agent is offline".to_owned()), Err("no such user".into()), Ok(())];
        for credentials in states.map(Some) {
            let report = Report { credentials, ..running() };
            assert!(!report.is_reported_by(&patched));
            let patch = report.patch(&patched, None, "2026-01-01T00:00:01Z");
            patched.status = serde_json::from_value(patch["status"].clone()).unwrap();
            assert!(report.is_reported_by(&patched));
        }
        assert!(running().is_reported_by(&patched), "a report that says nothing of them changes nothing");
    }

    #[test]
    fn a_failure_carries_reason_and_message_where_the_controller_looks() {
        let state = State::Terminated {
            exit_code: 1,
            reason: "Crashed".into(),
            message: "QEMU ended".into(),
            started_at: None,
        };
        let patch = Report { phase: Phase::Failed, state, ..running() }.patch(
            &pod("p1"),
            None,
            "2026-01-01T00:00:01Z",
        );
        assert_eq!(
            (&patch["status"]["reason"], &patch["status"]["message"]),
            (&json!("Crashed"), &json!("QEMU ended"))
        );
        assert_eq!(patch["status"]["conditions"][3]["status"], "False");
    }
}
