//! What is shown of a shutdown. Pure.
//!
//! Route in: VMs that run, Pods of this node. Route out: the section `power`, which tty1 and the serial line show, and for
//! which the program of `sheaf-guests.service` waits.

use super::stop::LIMIT;
use super::stop::plan::Vm;
use crate::status::PowerSection;
use crate::vms::{admission, report};
use k8s_openapi::api::core::v1::Pod;
use sheaf_host::libvirt::Domain;

/// The section while the machine is going down; `pods` are those whose ends this node is to report.
pub fn section<'a>(domains: Option<&[Domain]>, pods: impl Iterator<Item = &'a Pod>) -> PowerSection {
    let unreported = pods
        .filter(|pod| admission::is_vm(pod) && report::was_started(pod) && !report::says_ended(pod))
        .map(|pod| {
            let meta = &pod.metadata;
            format!(
                "{}/{}",
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default()
            )
        })
        .collect();
    PowerSection { shutting_down: true, message: domains.map(message).unwrap_or_default(), unreported }
}

fn message(domains: &[Domain]) -> String {
    let vms: Vec<Vm> = domains.iter().filter_map(Vm::of).collect();
    if vms.is_empty() {
        return "no VM runs any more".into();
    }
    let names: Vec<_> = vms.iter().map(|vm| vm.name.as_str()).collect();
    format!("waiting for VMs to power off, at most {} min in all: {}", LIMIT.as_secs() / 60, names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::testing::{domain, pod};
    use serde_json::json;

    fn started(uid: &str, state: &str) -> Pod {
        let mut pod = pod(uid);
        pod.status =
            serde_json::from_value(json!({"phase": "Running", "containerStatuses": [{"name": "compute",
            "image": "", "imageID": "", "ready": true, "restartCount": 0, "containerID": "vm://u",
            "state": {state: {"exitCode": 0}}}]}))
            .unwrap();
        pod
    }

    #[test]
    fn vms_that_run_are_named_and_so_are_pods_whose_end_is_not_reported() {
        let pods = [started("p1", "running"), started("p2", "terminated"), pod("p3")];
        let shown = section(Some(&[domain("p1")]), pods.iter());
        assert_eq!(shown.message, "waiting for VMs to power off, at most 10 min in all: default/web");
        assert_eq!(shown.unreported, ["default/virt-launcher-web"], "only of p1");
        let last = section(Some(&[]), pods[1..].iter());
        let ended = PowerSection {
            shutting_down: true,
            message: "no VM runs any more".into(),
            unreported: Vec::new(),
        };
        assert_eq!(last, ended);
        assert_eq!(section(None, [].into_iter()).message, "", "libvirt does not answer");
    }
}
