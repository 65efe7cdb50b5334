//! Decides what happens to one instance: its Pod, its finalizer, its status.
//!
//! Why here: pure, so that every turn of an instance's life is a test. Route in: the instance and its Pods as
//! they are, what its networks mean, and the time. Route out: a [`Plan`]. An instance has one Pod in its life; when that is gone or
//! over, so is the instance, and the VM's strategy decides on the next.

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    jiff::Timestamp,
};
use sheaf_api::{
    VirtualMachineInstance,
    devices::Interface,
    names::{INTERFACES_ANNOTATION, NODE_NAME_LABEL, PAUSED_CONDITION, VMI_FINALIZER},
    network::SeenInterface,
    status::{InterfaceStatus, Phase, PhaseTransition, VirtualMachineInstanceStatus},
};

use crate::{
    conditions::{clear, seconds, set},
    networks::Networks,
    placeholder,
    resolve::resolve,
    tell::News,
};

/// Source of what a guest's agent says.
const GUEST_AGENT: &str = "guest-agent";

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer on the instance.
    Hold,
    /// Take it off: no Pod remains.
    Release,
    /// Create the Pod.
    CreatePod(Box<Pod>),
    /// Delete a Pod, if it still is the one with this UID.
    DeletePod {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Label the instance with its node.
    LabelNode(String),
    /// Tell people.
    Tell(News),
}

/// What to do, in order, and the status after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// The whole status.
    pub status: VirtualMachineInstanceStatus,
}

/// Whether the instance is to get its Pod now.
pub fn wants_pod(vmi: &VirtualMachineInstance, pods: &[Pod]) -> bool {
    let held = vmi.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == VMI_FINALIZER);
    let phase = vmi.status.as_ref().and_then(|status| status.phase);
    held && vmi.metadata.deletion_timestamp.is_none()
        && pods.is_empty()
        && phase.is_none_or(|phase| phase < Phase::Scheduling)
}

/// Decides. What the networks mean is asked for only when [`wants_pod`].
pub fn plan(
    vmi: &VirtualMachineInstance,
    pods: &[Pod],
    networks: &Networks,
    now: Timestamp,
) -> Result<Plan, serde_json::Error> {
    let before = vmi.status.clone().unwrap_or_default();
    let held = vmi.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == VMI_FINALIZER);
    let deleting = vmi.metadata.deletion_timestamp.is_some();
    let mut actions = Vec::new();
    if deleting {
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            actions.push(Action::DeletePod {
                name: pod.metadata.name.clone().unwrap_or_default(),
                uid: pod.metadata.uid.clone().unwrap_or_default(),
            });
        }
        if pods.is_empty() && held {
            actions.push(Action::Release);
        }
    } else if !held {
        actions.push(Action::Hold);
        return Ok(Plan { actions, status: before });
    }

    let mut status = before.clone();
    let old = before.phase;
    let final_before = old.is_some_and(Phase::is_final);
    if !final_before {
        match pods.first() {
            Some(pod) => from_pod(&mut status, pod, now),
            None if deleting && old.is_some() => {
                status.phase = Some(Phase::Succeeded);
                set(
                    &mut status.conditions,
                    "Ready",
                    "False",
                    "PodTerminated",
                    "the instance was stopped",
                    now,
                );
            }
            None if old.is_some_and(|phase| phase >= Phase::Scheduling) => {
                status.phase = Some(Phase::Failed);
                status.reason = Some("PodDeleted".into());
                set(
                    &mut status.conditions,
                    "Ready",
                    "False",
                    "PodDeleted",
                    "the Pod of this instance is gone",
                    now,
                );
            }
            None if !deleting => {
                actions.push(Action::CreatePod(Box::new(placeholder::pod(vmi, networks)?)));
                actions
                    .push(Action::Tell(News::normal("SuccessfulCreate", "created the Pod of this instance")));
                status.phase = Some(Phase::Scheduling);
                set(&mut status.conditions, "Ready", "False", "GuestNotRunning", "waiting for a node", now);
            }
            None => {}
        }
        set(&mut status.conditions, "Synchronized", "True", "", "", now);
        let why = "Sheaf does not move running VMs between nodes";
        set(&mut status.conditions, "LiveMigratable", "False", "NotMigratable", why, now);
    }
    // Only while they live: a Pod that is over holds nothing.
    status.active_pods = pods
        .iter()
        .filter(|pod| !is_over(pod))
        .map(|pod| {
            (pod.metadata.uid.clone().unwrap_or_default(), node_of(pod).unwrap_or_default().to_string())
        })
        .collect();
    if let Some(phase) = status.phase.filter(|phase| Some(*phase) != old) {
        status
            .phase_transition_timestamps
            .push(PhaseTransition { phase, phase_transition_timestamp: seconds(now) });
        actions.extend(news_of(phase, &status).map(Action::Tell));
    }
    if let Some(node) = &status.node_name
        && vmi.metadata.labels.as_ref().and_then(|labels| labels.get(NODE_NAME_LABEL)) != Some(node)
    {
        actions.push(Action::LabelNode(node.clone()));
    }
    if status.interfaces.is_empty() || !pods.is_empty() {
        status.interfaces = interfaces(vmi, pods.first());
    }
    let by_agent = |interface: &InterfaceStatus| {
        interface.info_source.as_deref().is_some_and(|sources| sources.contains(GUEST_AGENT))
    };
    match status.interfaces.iter().any(by_agent) && !status.phase.is_some_and(Phase::is_final) {
        true => set(&mut status.conditions, "AgentConnected", "True", "", "", now),
        false => clear(&mut status.conditions, "AgentConnected"),
    }
    Ok(Plan { actions, status })
}

/// What the Pod says, as an instance says it.
fn from_pod(status: &mut VirtualMachineInstanceStatus, pod: &Pod, now: Timestamp) {
    let said = pod.status.clone().unwrap_or_default();
    let conditions = said.conditions.clone().unwrap_or_default();
    let condition = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    let ready = condition("Ready").is_some_and(|condition| condition.status == "True");
    let node = node_of(pod);
    status.node_name = node.map(Into::into).or(status.node_name.take());
    let (why, message) = reason_of(pod);
    let phase = match said.phase.as_deref() {
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Running") if ready => Phase::Running,
        _ if node.is_some() => Phase::Scheduled,
        _ => Phase::Scheduling,
    };
    // Never backward: a running guest whose node falls silent still counts as running, though not ready.
    status.phase = Some(status.phase.map_or(phase, |before| before.max(phase)));
    status.reason = if phase == Phase::Failed { why.clone().or(Some("Failed".into())) } else { None };

    match condition("PodScheduled") {
        Some(PodCondition { status: scheduled, reason, message, .. }) if scheduled == "False" => {
            let (reason, message) =
                (reason.as_deref().unwrap_or_default(), message.as_deref().unwrap_or_default());
            set(&mut status.conditions, "PodScheduled", "False", reason, message, now);
        }
        _ => clear(&mut status.conditions, "PodScheduled"),
    }
    match condition(PAUSED_CONDITION) {
        Some(PodCondition { status: paused, reason, message, .. }) if paused == "True" => {
            let (reason, message) =
                (reason.as_deref().unwrap_or_default(), message.as_deref().unwrap_or_default());
            set(&mut status.conditions, "Paused", "True", reason, message, now);
        }
        _ => clear(&mut status.conditions, "Paused"),
    }
    let message = message.unwrap_or_default();
    match phase {
        Phase::Running if pod.metadata.deletion_timestamp.is_none() => {
            set(&mut status.conditions, "Ready", "True", "", "", now);
        }
        Phase::Succeeded => {
            set(&mut status.conditions, "Ready", "False", "PodTerminated", "the guest shut down", now)
        }
        Phase::Failed => {
            set(&mut status.conditions, "Ready", "False", why.as_deref().unwrap_or("Failed"), &message, now);
        }
        _ if pod.metadata.deletion_timestamp.is_some() => {
            set(
                &mut status.conditions,
                "Ready",
                "False",
                "PodTerminating",
                "the instance is being stopped",
                now,
            );
        }
        _ => {
            let why = why.unwrap_or_else(|| "GuestNotRunning".into());
            let message = if message.is_empty() { "the guest does not run yet".to_string() } else { message };
            set(&mut status.conditions, "Ready", "False", &why, &message, now);
        }
    }
}

/// Why the Pod is as it is, by its own words: reason and message.
fn reason_of(pod: &Pod) -> (Option<String>, Option<String>) {
    let Some(status) = &pod.status else { return (None, None) };
    let compute =
        status.container_statuses.iter().flatten().next().and_then(|container| container.state.as_ref());
    let terminated = compute.and_then(|state| state.terminated.as_ref());
    let waiting = compute.and_then(|state| state.waiting.as_ref());
    let reason = status
        .reason
        .clone()
        .or_else(|| terminated.and_then(|state| state.reason.clone()))
        .or_else(|| waiting.and_then(|state| state.reason.clone()));
    let message = status
        .message
        .clone()
        .or_else(|| terminated.and_then(|state| state.message.clone()))
        .or_else(|| waiting.and_then(|state| state.message.clone()));
    (reason, message)
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Interfaces of the spec, each with what the node saw of it.
fn interfaces(vmi: &VirtualMachineInstance, pod: Option<&Pod>) -> Vec<InterfaceStatus> {
    let spec = resolve(&vmi.spec, vmi.metadata.uid.as_deref().unwrap_or_default());
    let annotation = pod.and_then(|pod| pod.metadata.annotations.as_ref()?.get(INTERFACES_ANNOTATION));
    let seen: Vec<SeenInterface> = match annotation.map(|text| serde_json::from_str(text)) {
        Some(seen) => seen.unwrap_or_default(),
        // A node that says nothing of interfaces knows the Pod's addresses alone: they are the first one's.
        None => spec.domain.devices.interfaces.first().into_iter().map(|first| of_pod(first, pod)).collect(),
    };
    let status = |interface: &Interface| {
        let seen = seen.iter().find(|seen| seen.name == interface.name);
        let ip_addresses: Vec<String> =
            seen.into_iter().flat_map(|seen| &seen.ip_addresses).map(ToString::to_string).collect();
        InterfaceStatus {
            name: Some(interface.name.clone()),
            mac: interface.mac_address.clone(),
            ip_address: ip_addresses.first().cloned(),
            ip_addresses,
            info_source: seen.map(|seen| seen.info_source.clone()).filter(|source| !source.is_empty()),
        }
    };
    spec.domain.devices.interfaces.iter().map(status).collect()
}

fn of_pod(interface: &Interface, pod: Option<&Pod>) -> SeenInterface {
    let ips = pod.and_then(|pod| pod.status.as_ref()?.pod_ips.as_ref()).into_iter().flatten();
    SeenInterface {
        name: interface.name.clone(),
        ip_addresses: ips.filter_map(|ip| ip.ip.parse().ok()).collect(),
        info_source: String::new(),
    }
}

fn news_of(phase: Phase, status: &VirtualMachineInstanceStatus) -> Option<News> {
    let node = status.node_name.as_deref().unwrap_or("its node");
    match phase {
        Phase::Running => Some(News::normal("Started", format!("the guest runs on {node}"))),
        Phase::Succeeded => Some(News::normal("Stopped", "the guest is off")),
        Phase::Failed => {
            let reason = status.reason.as_deref().unwrap_or("Failed");
            let ready = crate::conditions::find(&status.conditions, "Ready");
            let message = ready.and_then(|ready| ready.message.as_deref()).unwrap_or("the guest ended");
            Some(News::warning(reason, format!("{message} (on {node})")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
