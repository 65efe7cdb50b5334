//! A VM whose node is lost starts on another one: which VMs, and the times by which it never runs twice.
//!
//! Why here: the node stops such a VM by its own clock, the controller starts it elsewhere by its own; both must know the same
//! times, and what makes a VM one of these. Pure. Route in: instances, Pods. Route out: what the controller writes into a Pod, and what
//! the agent says in its status.
//!
//! Times, from the beginning of the last renewal of the node's lease that succeeded ([`STOP_AFTER`] and [`RESET_AFTER`] by the
//! node's clock, [`TAKE_OVER_AFTER`] by the controller's, which counts from when it first observed that renewal, and so later):
//!
//! | s | by | what |
//! |---|---|---|
//! | 16 | systemd of the node | starts the program that stops the VMs |
//! | 27 | that program; systemd, if the program cannot run | resets the machine, if one of them still runs |
//! | 37 | the watchdog | resets a machine whose systemd or kernel hung at the latest moment at which all of this was still to come |
//! | 42 | the controller | takes the run for over |
//!
//! Clocks need not agree about the time, only, within a tenth, about how long a second is: 37 s × 1.1 < 42 s. After a power cut the
//! VM runs elsewhere within 42 s, one second until that is noticed, and what the start takes: 60 s leave 17 s.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::{
    VirtualMachineInstance,
    cluster_config::{ClusterConfigSpec, HighAvailability},
    host_disk::{HostDiskPlace, place},
    names::{
        HOSTNAME_LABEL, NODE_LOST_ANNOTATION, RESTART_ELSEWHERE_ANNOTATION, STOPS_ALONE_CONDITION, TRUE,
    },
};

/// Between two renewals of the lease of a node that has such VMs.
pub const RENEWAL: Duration = Duration::from_secs(4);
/// Agents change over to another API server within this time when theirs is lost.
const CHANGE_OVER: Duration = Duration::from_secs(10);
/// Without a renewal for so long, counted from the beginning of the last one that succeeded, the node stops its VMs.
pub const STOP_AFTER: Duration = Duration::from_secs(16);
/// libvirt sends SIGKILL to a QEMU that does not end by SIGTERM after 10 s (`virDomainDestroyFlags`).
const KILL_TIME: Duration = Duration::from_secs(10);
/// Without a renewal for so long a machine whose VMs could not be stopped is reset.
pub const RESET_AFTER: Duration = Duration::from_secs(27);
/// Within this time the watchdog of a node that has such VMs resets a machine whose systemd or kernel hangs.
pub const WATCHDOG: Duration = Duration::from_secs(10);
/// The lease unchanged for so long by the controller's clock: the run is over.
pub const TAKE_OVER_AFTER: Duration = Duration::from_secs(42);
/// Between two looks of the controller at its clock.
pub const LOOK: Duration = Duration::from_secs(1);
/// What a new Pod, its binding and the start of its VM may take.
const START_TIME: Duration = Duration::from_secs(15);
/// A VM without disks on its node runs elsewhere so long after a power cut.
const GOAL: Duration = Duration::from_secs(60);

// The loss of one API server stops no VM; libvirt has the time for its last resort; never two runs; never too late.
const _: () = {
    assert!(RENEWAL.as_millis() + CHANGE_OVER.as_millis() < STOP_AFTER.as_millis());
    assert!(STOP_AFTER.as_millis() + KILL_TIME.as_millis() < RESET_AFTER.as_millis());
    assert!((RESET_AFTER.as_millis() + WATCHDOG.as_millis()) * 11 / 10 < TAKE_OVER_AFTER.as_millis());
    assert!(TAKE_OVER_AFTER.as_millis() + LOOK.as_millis() + START_TIME.as_millis() <= GOAL.as_millis());
};

/// Whether the Pod of `vmi` is marked: the cluster is armed, the VM is to be started again, and nothing of it is on one node alone.
pub fn is_wanted(vmi: &VirtualMachineInstance, config: &ClusterConfigSpec) -> bool {
    let asked = vmi.metadata.annotations.as_ref().and_then(|all| all.get(RESTART_ELSEWHERE_ANNOTATION));
    config.high_availability == HighAvailability::Armed
        && asked.is_some_and(|asked| asked == TRUE)
        && !is_bound_to_a_node(vmi)
}

/// Whether the VM can run on one node only: disks of a pool, files of a node, what firmware and TPM keep, a selector.
pub fn is_bound_to_a_node(vmi: &VirtualMachineInstance) -> bool {
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let is_local = |volume: &crate::volumes::Volume| {
        // An image is the same on every node that has it.
        let is_file = volume
            .host_disk
            .as_ref()
            .is_some_and(|disk| !matches!(place(&disk.path, namespace), Ok(HostDiskPlace::Image { .. })));
        volume.claim().is_some() || is_file
    };
    vmi.spec.keeps_state()
        || vmi.spec.node_selector.contains_key(HOSTNAME_LABEL)
        || vmi.spec.volumes.iter().any(is_local)
}

/// Whether the controller marked the Pod.
pub fn is_marked(pod: &Pod) -> bool {
    annotation(pod, RESTART_ELSEWHERE_ANNOTATION) == Some(TRUE)
}

/// Whether the node said of the Pod that it stops the VM by itself, whatever becomes of its agent.
pub fn stops_alone(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == STOPS_ALONE_CONDITION && condition.status == TRUE_STATUS)
}

/// Status of a condition that holds.
const TRUE_STATUS: &str = "True";

/// Whether the run of the Pod is over because its node was lost: the node stops it by itself, and its time was over.
pub fn is_lost(pod: &Pod) -> bool {
    is_marked(pod) && stops_alone(pod) && annotation(pod, NODE_LOST_ANNOTATION).is_some()
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn vmi(volumes: Value, extra: Value) -> VirtualMachineInstance {
        let mut spec = json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}}, "volumes": volumes});
        let extra = extra.as_object().cloned().unwrap_or_default();
        spec.as_object_mut().unwrap().extend(extra);
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "annotations": {RESTART_ELSEWHERE_ANNOTATION: "true"}},
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn a_vm_is_marked_if_the_cluster_is_armed_and_nothing_of_it_is_on_one_node_alone() {
        let armed = ClusterConfigSpec { high_availability: HighAvailability::Armed, ..Default::default() };
        let disk = json!([{"name": "root", "containerDisk": {"image": "registry.example.org/debian:13"}}]);
        let image = json!([{"name": "root", "hostDisk": {"path": "/data/images/debian-13", "type": "Disk"}}]);
        assert!(is_wanted(&vmi(disk.clone(), json!({})), &armed));
        assert!(is_wanted(&vmi(image, json!({})), &armed));
        assert!(!is_wanted(&vmi(disk.clone(), json!({})), &ClusterConfigSpec::default()), "disarmed");
        let mut off = vmi(disk.clone(), json!({}));
        off.metadata
            .annotations
            .as_mut()
            .unwrap()
            .insert(RESTART_ELSEWHERE_ANNOTATION.into(), "false".into());
        assert!(!is_wanted(&off, &armed), "its user said no");
        off.metadata.annotations = None;
        assert!(!is_wanted(&off, &armed), "nobody starts it again");
        let pinned = json!({"nodeSelector": {"kubernetes.io/hostname": "n1"}});
        assert!(!is_wanted(&vmi(disk, pinned), &armed));
        for local in [
            json!([{"name": "d", "persistentVolumeClaim": {"claimName": "d"}}]),
            json!([{"name": "d", "dataVolume": {"name": "d"}}]),
            json!([{"name": "d", "hostDisk": {"path": "/data/disks/shop/d", "type": "DiskOrCreate", "capacity": "1Gi"}}]),
        ] {
            assert!(!is_wanted(&vmi(local.clone(), json!({})), &armed), "{local}");
        }
    }

    #[test]
    fn a_run_is_lost_only_if_its_node_had_said_that_it_stops_it() {
        let pod = |mark: Option<&str>, condition: &str, lost: Option<&str>| -> Pod {
            let mut annotations = serde_json::Map::new();
            annotations.extend(mark.map(|mark| (RESTART_ELSEWHERE_ANNOTATION.to_owned(), json!(mark))));
            annotations.extend(lost.map(|lost| (NODE_LOST_ANNOTATION.to_owned(), json!(lost))));
            serde_json::from_value(json!({
                "metadata": {"name": "p", "annotations": annotations},
                "status": {"conditions": [{"type": STOPS_ALONE_CONDITION, "status": condition}]},
            }))
            .unwrap()
        };
        let at = Some("2027-01-15T08:00:00Z");
        assert!(is_lost(&pod(Some("true"), "True", at)));
        assert!(!is_lost(&pod(Some("true"), "False", at)));
        assert!(!is_lost(&pod(None, "True", at)), "only the controller marks");
        assert!(!is_lost(&pod(Some("true"), "True", None)));
    }
}
