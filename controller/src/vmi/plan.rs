//! Decides what an instance needs now and what is to be said of it. Pure.
//!
//! The node's agent writes the Pod's status and nothing else; here it becomes the instance's. Phases only go forward.
//! Route in: the instance, its Pods, the time. Route out: [`Decision`].

use super::conditions::dated;
use super::pod::{self, NotPlaceable};
use crate::is_deleted;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use sheaf_api::VirtualMachineInstance;
use sheaf_api::names::VMI_FINALIZER;
use sheaf_api::status::{Condition, InterfaceStatus, Phase, PhaseTransition, VirtualMachineInstanceStatus};
use std::collections::BTreeMap;
use std::fmt;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put the finalizer there, or take it away.
    Hold(bool),
    /// Make the Pod.
    Create(Box<Pod>),
    /// Delete the Pod of this name and UID.
    Delete(String, String),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold(true) => f.write_str("held until its Pod is gone"),
            Self::Hold(false) => f.write_str("released"),
            Self::Create(_) => f.write_str("to be placed"),
            Self::Delete(name, _) => write!(f, "delete Pod {name}"),
        }
    }
}

/// What to do and what to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// In this order.
    pub actions: Vec<Action>,
    /// The status afterwards.
    pub status: VirtualMachineInstanceStatus,
}

/// What to do about `instance`, whose Pods are `pods`.
pub fn plan(instance: &VirtualMachineInstance, pods: &[Pod], now: Timestamp) -> Decision {
    let before = instance.status.clone().unwrap_or_default();
    let pod = pods.iter().find(|pod| !is_over(pod)).or(pods.first());
    let mut status = VirtualMachineInstanceStatus { phase: Some(phase(&before, pod)), ..before.clone() };
    let mut actions = Vec::new();
    if is_deleted(&instance.metadata) {
        let leaving = |pod: &&Pod| !is_deleted(&pod.metadata);
        let delete = |pod: &Pod| Action::Delete(pod.name_any(), pod.uid().unwrap_or_default());
        actions.extend(pods.iter().filter(leaving).map(delete));
        if pods.is_empty() {
            actions.push(Action::Hold(false));
            // Without a Pod it never ran, or it is over.
            if status.phase.is_some_and(|phase| !phase.is_final()) {
                status.phase = Some(Phase::Succeeded);
            }
        }
    } else {
        let held = instance.finalizers().iter().any(|name| name == VMI_FINALIZER);
        if !held {
            actions.push(Action::Hold(true));
        }
        match (pod, before.phase) {
            (None, None | Some(Phase::Pending)) => match pod::of(instance) {
                Ok(pod) => actions.push(Action::Create(Box::new(pod))),
                Err(NotPlaceable(reason)) => {
                    status.phase = Some(Phase::Failed);
                    status.reason = Some("NotPlaceable".into());
                    status.conditions = dated(vec![not_synchronized(&reason)], &before.conditions, now);
                    return finish(status, &before, actions, now);
                }
            },
            (None, Some(phase)) if !phase.is_final() => {
                status.phase = Some(Phase::Failed);
                status.reason = Some("PodGone".into());
            }
            _ => {}
        }
    }
    if let Some(pod) = pod {
        describe(&mut status, instance, pod);
    }
    let conditions = conditions(status.phase.unwrap_or(Phase::Pending), pod);
    status.conditions = dated(conditions, &before.conditions, now);
    finish(status, &before, actions, now)
}

fn finish(
    mut status: VirtualMachineInstanceStatus,
    before: &VirtualMachineInstanceStatus,
    actions: Vec<Action>,
    now: Timestamp,
) -> Decision {
    if let Some(phase) = status.phase.filter(|phase| before.phase != Some(*phase)) {
        // Whole seconds, as the API server keeps them.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        status
            .phase_transition_timestamps
            .push(PhaseTransition { phase, phase_transition_timestamp: Time(now) });
    }
    Decision { actions, status }
}

fn pod_phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

fn is_over(pod: &Pod) -> bool {
    matches!(pod_phase(pod), "Succeeded" | "Failed")
}

/// The phase that the Pod shows; never an earlier one than before.
fn phase(before: &VirtualMachineInstanceStatus, pod: Option<&Pod>) -> Phase {
    let last = before.phase.unwrap_or(Phase::Pending);
    let Some(pod) = pod.filter(|_| !last.is_final()) else { return last };
    let shown = match pod_phase(pod) {
        "Succeeded" => Phase::Succeeded,
        "Failed" => Phase::Failed,
        "Running" => Phase::Running,
        _ if node(pod).is_some() => Phase::Scheduled,
        _ => Phase::Scheduling,
    };
    last.max(shown)
}

fn node(pod: &Pod) -> Option<String> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|name| !name.is_empty())
}

/// Copies what the Pod tells.
fn describe(status: &mut VirtualMachineInstanceStatus, instance: &VirtualMachineInstance, pod: &Pod) {
    let said = pod.status.clone().unwrap_or_default();
    status.node_name = node(pod);
    if status.phase == Some(Phase::Failed) {
        status.reason = said.reason.clone().or(status.reason.take());
    }
    let active = (pod.uid().unwrap_or_default(), node(pod).unwrap_or_default());
    status.active_pods = if is_over(pod) { BTreeMap::new() } else { BTreeMap::from([active]) };
    let addresses: Vec<String> = said.pod_ips.into_iter().flatten().map(|one| one.ip).collect();
    let interfaces = instance.spec.domain.devices.interfaces.iter().enumerate().map(|(index, interface)| {
        let addresses = if index == 0 { addresses.clone() } else { Vec::new() };
        InterfaceStatus {
            name: Some(interface.name.clone()),
            mac: interface.mac_address.clone(),
            ip_address: addresses.first().cloned(),
            ip_addresses: addresses,
        }
    });
    status.interfaces = interfaces.collect();
}

fn conditions(phase: Phase, pod: Option<&Pod>) -> Vec<Condition> {
    let said = |kind: &str| -> Option<PodCondition> {
        let all = pod.and_then(|pod| pod.status.as_ref()).and_then(|status| status.conditions.clone());
        all.into_iter().flatten().find(|condition| condition.type_ == kind)
    };
    let condition = |kind: &str, status: &str, reason: Option<String>, message: Option<String>| Condition {
        type_: kind.into(),
        status: status.into(),
        last_transition_time: None,
        reason,
        message,
    };
    let ready = match said("Ready") {
        // A node that does not answer: its controller marks the Pod's readiness, the machine may well run.
        Some(ready) if phase == Phase::Running => {
            condition("Ready", &ready.status, ready.reason, ready.message)
        }
        _ if phase == Phase::Running => condition("Ready", "True", None, None),
        other => {
            let message = pod.and_then(|pod| pod.status.as_ref()).and_then(|status| status.message.clone());
            let message =
                message.or(other.and_then(|other| other.message)).filter(|message| !message.is_empty());
            condition("Ready", "False", Some("GuestNotRunning".into()), message)
        }
    };
    let mut all = vec![ready];
    if let Some(placed) = said("PodScheduled").filter(|placed| placed.status == "False") {
        all.push(condition("PodScheduled", "False", placed.reason, placed.message));
    }
    let reason = Some("NotSupported".to_owned());
    all.push(condition(
        "LiveMigratable",
        "False",
        reason,
        Some("Sheaf does not migrate running machines yet".into()),
    ));
    all
}

fn not_synchronized(message: &str) -> Condition {
    Condition {
        type_: "Synchronized".into(),
        status: "False".into(),
        last_transition_time: None,
        reason: Some("NotPlaceable".into()),
        message: Some(message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn instance(phase: Option<&str>) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "web", "namespace": "team", "uid": "i-1", "finalizers": [VMI_FINALIZER]},
            "spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {"interfaces": [{"name": "lan", "bridge": {}}]}}},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn pod(phase: &str, node: Option<&str>, conditions: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "virt-launcher-web", "uid": "p-1"},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": phase, "conditions": conditions},
        }))
        .unwrap()
    }

    fn phase_after(before: Option<&str>, pods: &[Pod]) -> Option<Phase> {
        plan(&instance(before), pods, now()).status.phase
    }

    #[test]
    fn a_new_instance_is_held_and_gets_a_pod() {
        let mut instance = instance(None);
        instance.metadata.finalizers = None;
        let decision = plan(&instance, &[], now());
        assert!(matches!(&decision.actions[..], [Action::Hold(true), Action::Create(_)]));
        assert_eq!(decision.status.phase, Some(Phase::Pending));
    }

    #[test]
    fn phases_follow_the_pod() {
        let none = json!([]);
        assert_eq!(
            phase_after(Some("Pending"), &[pod("Pending", None, none.clone())]),
            Some(Phase::Scheduling)
        );
        assert_eq!(phase_after(None, &[pod("Pending", Some("n1"), none.clone())]), Some(Phase::Scheduled));
        assert_eq!(
            phase_after(Some("Scheduled"), &[pod("Running", Some("n1"), none.clone())]),
            Some(Phase::Running)
        );
        assert_eq!(
            phase_after(Some("Running"), &[pod("Succeeded", Some("n1"), none.clone())]),
            Some(Phase::Succeeded)
        );
        assert_eq!(phase_after(Some("Scheduled"), &[pod("Failed", Some("n1"), none)]), Some(Phase::Failed));
    }

    #[test]
    fn a_final_phase_is_never_left_and_gets_no_second_pod() {
        let decision = plan(&instance(Some("Failed")), &[], now());
        assert_eq!((decision.status.phase, decision.actions), (Some(Phase::Failed), vec![]));
    }

    #[test]
    fn a_running_instance_whose_pod_is_gone_has_failed_and_is_not_placed_again() {
        let decision = plan(&instance(Some("Running")), &[], now());
        assert_eq!(decision.status.phase, Some(Phase::Failed));
        assert_eq!(decision.status.reason.as_deref(), Some("PodGone"));
        assert_eq!(decision.actions, []);
    }

    #[test]
    fn the_schedulers_reason_is_shown() {
        let condition = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]);
        let decision = plan(&instance(Some("Pending")), &[pod("Pending", None, condition)], now());
        let placed = decision.status.conditions.iter().find(|one| one.type_ == "PodScheduled").unwrap();
        assert_eq!(
            (placed.reason.as_deref(), placed.message.as_deref()),
            (Some("Unschedulable"), Some("0/1 nodes"))
        );
    }

    #[test]
    fn a_deleted_instance_deletes_its_pod_and_goes_only_after_it() {
        let mut instance = instance(Some("Running"));
        instance.metadata.deletion_timestamp = Some(Time(now()));
        let mut pod = pod("Running", Some("n1"), json!([]));
        let decision = plan(&instance, std::slice::from_ref(&pod), now());
        assert_eq!(decision.actions, [Action::Delete("virt-launcher-web".into(), "p-1".into())]);
        pod.metadata.deletion_timestamp = Some(Time(now()));
        assert_eq!(plan(&instance, &[pod], now()).actions, []);
        assert_eq!(plan(&instance, &[], now()).actions, [Action::Hold(false)]);
    }

    #[test]
    fn a_node_that_does_not_answer_makes_readiness_unknown_and_keeps_the_phase() {
        let condition = json!([{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]);
        let decision = plan(&instance(Some("Running")), &[pod("Running", Some("n1"), condition)], now());
        assert_eq!(decision.status.phase, Some(Phase::Running));
        assert_eq!(decision.status.conditions[0].status, "Unknown");
    }

    #[test]
    fn a_second_look_changes_nothing() {
        let running = pod("Running", Some("n1"), json!([{"type": "Ready", "status": "True"}]));
        let mut instance = instance(Some("Scheduled"));
        instance.status = Some(plan(&instance, std::slice::from_ref(&running), now()).status);
        let later = "2026-01-01T00:01:00Z".parse().unwrap();
        let decision = plan(&instance, &[running], later);
        assert_eq!(Some(decision.status), instance.status);
    }
}
