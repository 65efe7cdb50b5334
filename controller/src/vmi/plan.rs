//! Decides what happens to one instance: its Pod, its finalizer, its status.
//!
//! Why here: pure, so that every turn of an instance's life is a test. An instance has one Pod in its life, and gets it only
//! when no run of an earlier instance of the same name may still be going on; when the run is over
//! ([`end::is_over`]), so is the instance, and the VM's strategy decides on the next. Route in: [`Observed`], and the time.
//! Route out: a [`Plan`].

use std::{net::IpAddr, time::Duration};

use k8s_openapi::{
    api::core::v1::{Node, Pod, PodCondition},
    jiff::Timestamp,
};
use sheaf_api::{
    VirtualMachineInstance,
    cluster_config::ClusterConfigSpec,
    devices::Interface,
    names::{
        CREDENTIALS_CONDITION, NODE_NAME_LABEL, PAUSED_CONDITION, RUNTIME_CLASS, STOPS_ALONE_CONDITION,
        VMI_FINALIZER,
    },
    network::SeenInterface,
    placeholder::domain_is_gone,
    restart_elsewhere,
    status::{InterfaceStatus, Phase, PhaseTransition, VirtualMachineInstanceStatus},
};

use super::{
    attachments,
    nics::{self, Nics},
    size, volume_status,
    volumes::Volumes,
};
use crate::{
    conditions::{clear, find, seconds, set},
    events::Event,
    networks::{Networks, Unresolved},
    object::has_finalizer,
    placeholder::{self, end, images},
    resolve::resolve,
};

/// Source of what a guest's agent says.
const GUEST_AGENT: &str = "guest-agent";
/// Condition of an instance: its node stops it when it is lost, and it is started elsewhere.
const RESTARTS_ELSEWHERE: &str = "sheaf.dev/RestartsElsewhere";
/// Source of an interface whose network a Pod carries; KubeVirt's.
const MULTUS: &str = "multus-status";
/// Condition of an instance: KubeVirt's word for credentials that the guest's agent has set.
const CREDENTIALS: &str = "AccessCredentialsSynchronized";
/// Most addresses of one interface that the status shows.
const MOST_ADDRESSES: usize = 16;
/// Seconds after the end of its grace period within which a node reports that a VM stopped; later it counts as silent.
const REPORTED_WITHIN: i64 = 60;
/// Until it is checked again whether an earlier run is over, or what a network means: neither the end of a Pod without owner nor
/// definitions of networks are watched.
const EARLIER_RUN_INTERVAL: Duration = Duration::from_secs(10);
/// Condition of a Pod that Kubernetes itself ends: kubectl drain, preemption, taints.
const DISRUPTION_TARGET: &str = "DisruptionTarget";
/// Reason of an instance whose Pod was ended so.
const EVICTED: &str = "Evicted";
/// Reason of an instance whose node was lost, and whose VM is started elsewhere.
pub const NODE_LOST: &str = "NodeLost";
/// Reason of condition Ready while the node of a VM that should have stopped is silent.
pub const NODE_SILENT: &str = "NodeUnreachable";

/// What a decision is made from.
pub struct Observed<'a> {
    /// The instance.
    pub vmi: &'a VirtualMachineInstance,
    /// The Pod that has the name of the instance's.
    pub pod: Option<&'a Pod>,
    /// The Node that this Pod is bound to.
    pub node: Option<&'a Node>,
    /// Pods of earlier instances of this name, each with its Node.
    pub earlier: &'a [(Pod, Option<Node>)],
    /// What the networks mean; asked for only when [`wants_pod`].
    pub networks: &'a Result<Networks, Unresolved>,
    /// Settings for all VMs of the cluster.
    pub config: &'a ClusterConfigSpec,
    /// How large what is below its overlays is; asked for only when [`wants_pod`].
    pub images: &'a images::Sizes,
    /// What was read about its volumes.
    pub volumes: &'a Volumes,
    /// What was read about NICs that are added while it runs.
    pub nics: &'a Nics,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer on the instance.
    AddFinalizer,
    /// Create the Pod.
    CreatePod(Box<Pod>),
    /// Create the Pod of a volume or an interface that is added while the VM runs.
    CreateAttachment(Box<Pod>),
    /// Mark such a Pod, if it still is the one with this UID: the guest is to lose the disk or the NIC.
    MarkDetach {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Delete a Pod, if it still is the one with this UID.
    DeletePod {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Write the size that the VM is to have into its Pod, if it still is the one with this UID.
    SetSize {
        /// The Pod's name.
        name: String,
        /// Its UID.
        uid: String,
        /// The annotation.
        size: String,
    },
    /// Write which links are down and which NICs are to be removed into the VM's Pod, if it still is the one with this UID.
    SetLinks {
        /// The Pod's name.
        name: String,
        /// Its UID.
        uid: String,
        /// The annotation.
        links: String,
    },
    /// Change what is set aside for the Pod.
    ResizePod {
        /// Its name.
        name: String,
        /// A strategic merge patch of its subresource `resize`, for the version that was read.
        patch: serde_json::Value,
    },
    /// Label the instance with its node.
    LabelNode(String),
    /// Write the whole status.
    WriteStatus(Box<VirtualMachineInstanceStatus>),
    /// Record an Event.
    RecordEvent(Event),
    /// Remove our finalizer: no Pod remains.
    RemoveFinalizer,
}

/// What to do, in order; a step that fails ends the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// Reconcile again after this long.
    pub requeue: Option<Duration>,
}

/// Whether the instance is to get its Pod now; `pod` is the one that has its name.
pub fn wants_pod(vmi: &VirtualMachineInstance, pod: Option<&Pod>) -> bool {
    let phase = vmi.status.as_ref().and_then(|status| status.phase);
    has_finalizer(vmi, VMI_FINALIZER)
        && vmi.metadata.deletion_timestamp.is_none()
        && pod.is_none()
        && phase.is_none_or(|phase| phase < Phase::Scheduling)
}

/// Decides.
pub fn plan(observed: &Observed, now: Timestamp) -> Result<Plan, serde_json::Error> {
    let vmi = observed.vmi;
    let deleting = vmi.metadata.deletion_timestamp.is_some();
    if !deleting && !has_finalizer(vmi, VMI_FINALIZER) {
        return Ok(Plan { actions: vec![Action::AddFinalizer], requeue: None });
    }
    // A Pod of that name that runs no VM is somebody else's: only the controller may create such Pods.
    let pod = observed.pod.filter(|pod| runs_a_vm(pod));
    let mut plan = Plan::default();
    if wants_pod(vmi, observed.pod) {
        if let Some((pod, _)) = observed.earlier.iter().find(|(pod, node)| !end::is_over(pod, node.as_ref()))
        {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let message =
                format!("Pod {name} of an earlier run of this VM has not ended: {}", end::unconfirmed(pod));
            return Ok(Plan {
                requeue: Some(EARLIER_RUN_INTERVAL),
                ..refused(vmi, "PreviousRunPresent", &message, now)
            });
        }
        let networks = match observed.networks {
            Ok(networks) => networks,
            Err(why) => {
                return Ok(Plan {
                    requeue: Some(EARLIER_RUN_INTERVAL),
                    ..refused(vmi, why.reason, &why.message, now)
                });
            }
        };
        let pod = placeholder::pod(
            vmi,
            networks,
            observed.config,
            observed.images,
            observed.volumes.home.as_deref(),
        )?;
        plan.actions.push(Action::CreatePod(Box::new(pod)));
    } else if observed.pod.is_some() && pod.is_none() && !deleting {
        let message = "a Pod that does not belong to a VM has the name of this instance's Pod; delete it";
        return Ok(Plan {
            requeue: Some(EARLIER_RUN_INTERVAL),
            ..refused(vmi, "PodNameTaken", message, now)
        });
    }
    if deleting && let Some(pod) = pod.filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        plan.actions.push(Action::DeletePod {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        });
    }
    plan.actions.extend(attachments::plan(vmi, pod, observed.node, &observed.volumes.attachments)?);
    let status = status(observed, pod, now);
    if let Some(node) = &status.node_name
        && vmi.metadata.labels.as_ref().and_then(|labels| labels.get(NODE_NAME_LABEL)) != Some(node)
    {
        plan.actions.push(Action::LabelNode(node.clone()));
    }
    let events = events(vmi.status.as_ref(), &status);
    write(&mut plan, vmi, status);
    plan.actions.extend(events.into_iter().map(Action::RecordEvent));
    // After the status, which lists an interface before a Pod is there for it.
    plan.actions.extend(nics::plan(vmi, pod, observed.node, observed.nics)?);
    // Last: what the API server refuses holds up nothing else.
    let runs = running(observed, pod);
    plan.actions.extend(runs.map(|pod| size::plan(vmi, pod, observed.config)).unwrap_or_default());
    if deleting && pod.is_none() && has_finalizer(vmi, VMI_FINALIZER) {
        plan.actions.push(Action::RemoveFinalizer);
    }
    let late = pod.filter(|pod| !end::is_over(pod, observed.node)).and_then(|pod| until_late(pod, now));
    // What a network means may be written at any time.
    let unresolved = observed.nics.networks.values().any(Result::is_err).then_some(EARLIER_RUN_INTERVAL);
    plan.requeue = late.into_iter().chain(unresolved).min();
    Ok(plan)
}

/// There can be no Pod, or the API server refused it: what people read of that.
pub fn refused(vmi: &VirtualMachineInstance, reason: &str, message: &str, now: Timestamp) -> Plan {
    let mut status = vmi.status.clone().unwrap_or_default();
    status.phase = Some(Phase::Pending);
    let event = Action::RecordEvent(Event::warning(reason, message));
    set(&mut status.conditions, "Synchronized", "False", reason, message, now);
    let mut plan = Plan::default();
    write(&mut plan, vmi, status);
    plan.actions.push(event);
    plan
}

/// Adds the writing of the status, if it changed.
fn write(plan: &mut Plan, vmi: &VirtualMachineInstance, status: VirtualMachineInstanceStatus) {
    if vmi.status.clone().unwrap_or_default() != status {
        plan.actions.push(Action::WriteStatus(Box::new(status)));
    }
}

/// The Pod of an instance that runs and is to run on.
fn running<'a>(observed: &Observed, pod: Option<&'a Pod>) -> Option<&'a Pod> {
    let is_ending =
        |pod: &&Pod| pod.metadata.deletion_timestamp.is_some() || end::is_over(pod, observed.node);
    pod.filter(|pod| end::node_of(pod).is_some() && !is_ending(pod))
        .filter(|_| observed.vmi.metadata.deletion_timestamp.is_none())
}

/// Whether a Pod is a placeholder: only the controller may create one, and its RuntimeClass does not change.
pub fn runs_a_vm(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()) == Some(RUNTIME_CLASS)
}

/// The status of the instance, with its Pod as it is or as it is about to be made.
fn status(observed: &Observed, pod: Option<&Pod>, now: Timestamp) -> VirtualMachineInstanceStatus {
    let vmi = observed.vmi;
    let deleting = vmi.metadata.deletion_timestamp.is_some();
    let mut status = vmi.status.clone().unwrap_or_default();
    let old = status.phase;
    if !old.is_some_and(Phase::is_final) {
        match pod {
            Some(pod) => from_pod(&mut status, pod, observed.node, now),
            None if deleting && old.is_some() => {
                status.phase = Some(Phase::Succeeded);
                ready(&mut status, "PodTerminated", "the instance was stopped", now);
            }
            None if deleting => {}
            None if old.is_some_and(|phase| phase >= Phase::Scheduling) => {
                status.phase = Some(Phase::Failed);
                status.reason = Some("PodDeleted".into());
                ready(&mut status, "PodDeleted", "the Pod of this instance was deleted", now);
            }
            None => {
                status.phase = Some(Phase::Scheduling);
                ready(&mut status, "GuestNotRunning", "waiting for a node", now);
            }
        }
        set(&mut status.conditions, "Synchronized", "True", "", "", now);
        let why = "Sheaf does not move running VMs between nodes";
        set(&mut status.conditions, "LiveMigratable", "False", "NotMigratable", why, now);
    }
    // Only while their VMs may run.
    let active = pod.filter(|pod| !end::is_over(pod, observed.node));
    let entry = |pod: &Pod| {
        (pod.metadata.uid.clone().unwrap_or_default(), end::node_of(pod).unwrap_or_default().to_string())
    };
    status.active_pods = active.map(entry).into_iter().collect();
    if let Some(phase) = status.phase.filter(|phase| Some(*phase) != old) {
        let transition = PhaseTransition { phase, phase_transition_timestamp: seconds(now) };
        status.phase_transition_timestamps.push(transition);
    }
    if status.interfaces.is_empty() || pod.is_some() {
        status.interfaces = interfaces(vmi, pod, observed.nics);
    }
    nics::report(&mut status, vmi, running(observed, pod), observed.nics, now);
    size::report(&mut status, vmi, running(observed, pod), observed.config, now);
    status.volume_status = volume_status::of(vmi, pod, observed.volumes);
    let by_agent = |interface: &InterfaceStatus| {
        interface.info_source.as_deref().is_some_and(|sources| sources.contains(GUEST_AGENT))
    };
    match status.interfaces.iter().any(by_agent) && !status.phase.is_some_and(Phase::is_final) {
        true => set(&mut status.conditions, "AgentConnected", "True", "", "", now),
        false => clear(&mut status.conditions, "AgentConnected"),
    }
    status
}

fn ready(status: &mut VirtualMachineInstanceStatus, reason: &str, message: &str, now: Timestamp) {
    set(&mut status.conditions, "Ready", "False", reason, message, now);
}

/// What the Pod's status means for the instance.
fn from_pod(status: &mut VirtualMachineInstanceStatus, pod: &Pod, node: Option<&Node>, now: Timestamp) {
    let reported = pod.status.clone().unwrap_or_default();
    let conditions = reported.conditions.clone().unwrap_or_default();
    let condition = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    let is_ready = condition("Ready").is_some_and(|condition| condition.status == "True");
    let bound = end::node_of(pod);
    status.node_name = bound.map(Into::into).or(status.node_name.take());
    let (reason, message) = reason_of(pod, node);
    let phase = match reported.phase.as_deref() {
        // The guest obeyed, and did not decide to end: RerunOnFailure starts it again, elsewhere.
        Some("Succeeded") if domain_is_gone(pod) && disruption(pod).is_none() => Phase::Succeeded,
        _ if end::is_over(pod, node) => Phase::Failed,
        Some("Running") if is_ready => Phase::Running,
        _ if bound.is_some() => Phase::Scheduled,
        _ => Phase::Scheduling,
    };
    // Never backward: a running guest whose node falls silent still counts as running, though not ready.
    status.phase = Some(status.phase.map_or(phase, |before| before.max(phase)));
    status.reason = (phase == Phase::Failed).then(|| reason.clone().unwrap_or_else(|| "Failed".into()));

    for (type_, of_pod, when) in
        [("PodScheduled", "PodScheduled", "False"), ("Paused", PAUSED_CONDITION, "True")]
    {
        match condition(of_pod) {
            Some(PodCondition { status: value, reason, message, .. }) if value == when => {
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                set(&mut status.conditions, type_, when, &text(reason), &text(message), now);
            }
            _ => clear(&mut status.conditions, type_),
        }
    }
    match condition(CREDENTIALS_CONDITION) {
        Some(PodCondition { status: value, message, .. }) => {
            let message = message.clone().unwrap_or_default();
            set(&mut status.conditions, CREDENTIALS, value, "", &message, now);
        }
        None => clear(&mut status.conditions, CREDENTIALS),
    }
    match condition(STOPS_ALONE_CONDITION) {
        Some(PodCondition { status: value, message, .. }) => {
            let message = message.clone().unwrap_or_default();
            set(&mut status.conditions, RESTARTS_ELSEWHERE, value, "", &message, now);
        }
        None => clear(&mut status.conditions, RESTARTS_ELSEWHERE),
    }
    let ended = matches!(reported.phase.as_deref(), Some("Succeeded" | "Failed"));
    match phase {
        Phase::Succeeded => ready(status, "PodTerminated", "the guest shut down", now),
        Phase::Failed => {
            let message = message.unwrap_or_default();
            ready(status, reason.as_deref().unwrap_or("Failed"), &message, now);
        }
        // It should be gone, or somebody other than the node wrote that it is.
        _ if bound.is_some() && (ended || is_late(pod, now)) => {
            ready(status, NODE_SILENT, &end::unconfirmed(pod), now);
        }
        _ if pod.metadata.deletion_timestamp.is_some() => {
            ready(status, "PodTerminating", "the instance is being stopped", now);
        }
        Phase::Running => set(&mut status.conditions, "Ready", "True", "", "", now),
        _ => {
            let reason = reason.unwrap_or_else(|| "GuestNotRunning".into());
            let message = message.filter(|text| !text.is_empty());
            ready(status, &reason, message.as_deref().unwrap_or("the guest is not running yet"), now);
        }
    }
}

/// When the node of a Pod that is being deleted should have reported its end, in seconds.
fn deadline(pod: &Pod) -> Option<i64> {
    let time = pod.metadata.deletion_timestamp.as_ref()?;
    Some(time.0.as_second().saturating_add(REPORTED_WITHIN))
}

fn is_late(pod: &Pod, now: Timestamp) -> bool {
    deadline(pod).is_some_and(|deadline| now.as_second() >= deadline)
}

fn until_late(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let left = deadline(pod)?.saturating_sub(now.as_second());
    u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_secs)
}

/// Why Kubernetes ended the Pod by itself, if it did: an eviction, a preemption, a taint of the node.
/// <https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions>
fn disruption(pod: &Pod) -> Option<&PodCondition> {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.find(|condition| condition.type_ == DISRUPTION_TARGET && condition.status == "True")
}

/// Why the Pod is as it is: reason and message.
fn reason_of(pod: &Pod, node: Option<&Node>) -> (Option<String>, Option<String>) {
    match end::node_of(pod) {
        None if pod.metadata.deletion_timestamp.is_some() => {
            let message = "the Pod of this instance was deleted before it had a node";
            return (Some("PodDeleted".into()), Some(message.into()));
        }
        Some(_) if domain_is_gone(pod) && disruption(pod).is_some() => {
            let condition = disruption(pod);
            let why = condition.and_then(|condition| condition.message.clone()).unwrap_or_default();
            return (Some(EVICTED.into()), Some(format!("the VM was stopped on its node: {why}")));
        }
        Some(name) if !domain_is_gone(pod) && restart_elsewhere::is_lost(pod) => {
            let seconds = restart_elsewhere::TAKE_OVER_AFTER.as_secs();
            let message = format!(
                "the lease of node {name} was not renewed for {seconds} s; the node stops the VM by itself"
            );
            return (Some(NODE_LOST.into()), Some(message));
        }
        Some(name) if !domain_is_gone(pod) && node.is_some_and(end::is_out_of_service) => {
            return (
                Some("NodeOutOfService".into()),
                Some(format!("node {name} was declared out of service")),
            );
        }
        _ => {}
    }
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

/// Interfaces of the spec, and those that are being removed, each with what the node saw of it.
fn interfaces(vmi: &VirtualMachineInstance, pod: Option<&Pod>, nics: &Nics) -> Vec<InterfaceStatus> {
    let spec = resolve(&vmi.spec, vmi.metadata.uid.as_deref().unwrap_or_default());
    let seen: Vec<SeenInterface> = match pod.and_then(nics::seen) {
        Some(seen) => seen,
        // A node that says nothing of interfaces knows the Pod's addresses alone: they are the first one's.
        None => spec.domain.devices.interfaces.first().into_iter().map(|first| of_pod(first, pod)).collect(),
    };
    let status = |(interface, is_multus): &(Interface, bool)| {
        let seen = seen.iter().find(|seen| seen.name == interface.name);
        let addresses = seen.into_iter().flat_map(|seen| &seen.ip_addresses);
        let ip_addresses: Vec<String> =
            addresses.filter(|ip| is_of_a_guest(ip)).take(MOST_ADDRESSES).map(ToString::to_string).collect();
        let by_node = seen.map(|seen| seen.info_source.as_str()).filter(|source| !source.is_empty());
        let sources: Vec<&str> = by_node.into_iter().chain(is_multus.then_some(MULTUS)).collect();
        let link = seen.filter(|_| by_node.is_some()).map(|seen| if seen.down { "down" } else { "up" });
        InterfaceStatus {
            name: Some(interface.name.clone()),
            mac: interface.mac_address.clone(),
            ip_address: ip_addresses.first().cloned(),
            ip_addresses,
            info_source: (!sources.is_empty()).then(|| sources.join(", ")),
            link_state: link.map(str::to_owned),
        }
    };
    nics::listed(vmi, pod, nics).iter().map(status).collect()
}

fn of_pod(interface: &Interface, pod: Option<&Pod>) -> SeenInterface {
    let ips = pod.and_then(|pod| pod.status.as_ref()?.pod_ips.as_ref()).into_iter().flatten();
    SeenInterface {
        name: interface.name.clone(),
        ip_addresses: ips.filter_map(|ip| ip.ip.parse().ok()).collect(),
        ..SeenInterface::default()
    }
}

/// Whether this can be the address of a guest; what a guest's agent reports is the guest's to choose.
fn is_of_a_guest(ip: &IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
    };
    !(local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// The Events for the change from `before`.
fn events(
    before: Option<&VirtualMachineInstanceStatus>,
    status: &VirtualMachineInstanceStatus,
) -> Vec<Event> {
    let node = status.node_name.as_deref().unwrap_or("its node");
    let old = before.and_then(|status| status.phase);
    let ready = find(&status.conditions, "Ready");
    let message = ready.and_then(|ready| ready.message.as_deref());
    let mut events = Vec::new();
    let silent = |status: &VirtualMachineInstanceStatus| {
        find(&status.conditions, "Ready").is_some_and(|ready| ready.reason.as_deref() == Some(NODE_SILENT))
    };
    if silent(status) && !before.is_some_and(silent) {
        events.push(Event::warning(NODE_SILENT, message.unwrap_or_default()));
    }
    events.extend(nics::event(before, status));
    match status.phase.filter(|phase| Some(*phase) != old) {
        Some(Phase::Scheduling) => {
            events.push(Event::normal("SuccessfulCreate", "created the Pod of this instance"));
        }
        Some(Phase::Running) => events.push(Event::normal("Started", format!("the guest runs on {node}"))),
        Some(Phase::Succeeded) => events.push(Event::normal("Stopped", "the guest is off")),
        Some(Phase::Failed) => {
            let reason = status.reason.as_deref().unwrap_or("Failed");
            let message = message.unwrap_or("the guest ended");
            events.push(Event::warning(reason, format!("{message} (on {node})")));
        }
        _ => {}
    }
    events
}

#[cfg(test)]
mod tests;
