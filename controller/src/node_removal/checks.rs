//! What stands in the way of a removal, each with the remedy.
//!
//! Why here: all of it is named at once and before anything is done, because the node is not given back once it leaves. Pure. Route
//! in: [`Observed`], the node's [`Standing`], what would be lost. Route out: [`Blocker`]s, the worst first.

use kube::ResourceExt as _;
use sheaf_api::{
    RunStrategy,
    names::{HOSTNAME_LABEL, OUT_OF_SERVICE_TAINT},
    node_maintenance::Blocker,
    node_removal::Loss,
};

use super::{
    losses::is_pinned,
    observed::{ControlPlaneNode, Observed},
    standing::{SILENT_AFTER, Standing},
};
use crate::{placeholder::end, volumes::room::quantity};

fn blocker(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Blocker {
    Blocker { what: what.into(), why: why.into(), remedy: remedy.into() }
}

/// Everything that is in the way before the node is drained.
pub fn blockers(o: &Observed, standing: Standing, losses: &[Loss]) -> Vec<Blocker> {
    let name = o.removal.spec.node_name.as_str();
    // What else holds does not count: there is no remedy for this.
    if let Some(found) = control_plane(name, &o.control_plane, standing) {
        return vec![found];
    }
    let mut found: Vec<Blocker> = reports(o, standing).into_iter().chain(erases(o, standing)).collect();
    if standing == Standing::Reports {
        found.extend(o.busy.iter().map(|busy| {
            blocker(
                &busy.what,
                format!("is changing {name} now"),
                format!("wait for its end, or {}", busy.remedy),
            )
        }));
    }
    let pinned = o.machines.iter().filter(|machine| is_pinned(name, machine));
    found.extend(pinned.filter(|machine| machine.spec.strategy() != RunStrategy::Halted).map(|machine| {
        let (namespace, vm) = (machine.namespace().unwrap_or_default(), machine.name_any());
        blocker(
            format!("VM {namespace}/{vm}"),
            format!("its nodeSelector {HOSTNAME_LABEL}: {name} lets it run on no other node"),
            format!("change the nodeSelector of its template, or stop it (virtctl stop {vm} -n {namespace})"),
        )
    }));
    found.extend(unconfirmed(o, losses));
    found
}

/// What would be lost and is not confirmed.
pub fn unconfirmed(o: &Observed, losses: &[Loss]) -> Vec<Blocker> {
    let name = &o.removal.spec.node_name;
    let open = losses.iter().filter(|loss| !is_accepted(o, &loss.name));
    open.map(|loss| {
        let size = loss.bytes.map(|bytes| format!(", {}", quantity(bytes).0)).unwrap_or_default();
        let copy = match loss.name.split('/').next() {
            Some("LocalVolume") => "copy it away (virtctl vmexport) and delete it",
            Some("Image") => "give it to another node (`[[image]]` in its node.toml)",
            Some("StoragePool") => "remove spec.wipe.pools to keep it",
            _ => "copy it away and delete the VM",
        };
        let why = format!("is on {name} only ({}{size}) and is lost with it", loss.what);
        blocker(&loss.name, why, format!("{copy}, or add its name to spec.acceptLoss"))
    })
    .collect()
}

/// Whether an administrator confirmed that what has this name is lost.
pub fn is_accepted(o: &Observed, name: &str) -> bool {
    o.removal.spec.accept_loss.iter().any(|accepted| accepted == name)
}

/// Whether the node is what the administrator says it is: on, or switched off.
fn reports(o: &Observed, standing: Standing) -> Option<Blocker> {
    let (name, off) = (&o.removal.spec.node_name, o.removal.spec.powered_off);
    let what = format!("Node {name}");
    match (standing, off) {
        (Standing::Reports, false) => None,
        (Standing::Reports, true) => Some(blocker(
            what,
            "reports, so it is not switched off",
            "remove spec.poweredOff to drain it, or switch it off",
        )),
        (Standing::Silent(_), true) => None,
        // It may be restarting.
        (Standing::Silent(seconds), false) if seconds < SILENT_AFTER => None,
        (Standing::Silent(seconds), false) => Some(blocker(
            what,
            format!("has not reported for {} min, and may still run its VMs", seconds / 60),
            "repair it, or switch it off for good and set spec.poweredOff: true",
        )),
        (Standing::Absent, _) if o.is_unknown() => Some(blocker(
            what,
            "does not exist, and nothing of it is left",
            "check spec.nodeName, and delete this NodeRemoval",
        )),
        (Standing::Absent, _) if !o.pods.is_empty() => {
            let names: Vec<_> = o.pods.iter().take(3).map(title).collect();
            Some(blocker(
                what,
                format!("does not exist, and VMs may still run on that machine: {}", names.join(", ")),
                format!(
                    "switch it off for good and create the Node again with the taint \
                     {OUT_OF_SERVICE_TAINT}=nodeshutdown:NoExecute"
                ),
            ))
        }
        (Standing::Absent, true) => None,
        (Standing::Absent, false) => Some(blocker(
            what,
            "does not exist, and things of it are left",
            "wait for it to join again, or switch it off for good and set spec.poweredOff: true",
        )),
    }
}

/// A node that does not report cannot erase itself.
fn erases(o: &Observed, standing: Standing) -> Option<Blocker> {
    let is_lost = match standing {
        Standing::Reports => false,
        Standing::Silent(seconds) => seconds >= SILENT_AFTER,
        Standing::Absent => true,
    };
    let asked = o.removal.spec.wipe.as_ref().filter(|_| is_lost && !o.is_unknown());
    asked.map(|_| {
        blocker(
            "spec.wipe",
            format!("{} does not report, so it cannot erase itself", o.name()),
            "remove spec.wipe, and erase its disks before they leave the house",
        )
    })
}

/// `namespace/name`.
pub fn title(pod: &k8s_openapi::api::core::v1::Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

/// A Pod that was bound to the node after it was drained.
pub fn bound_since(o: &Observed) -> Option<Blocker> {
    let pod = o.pods.first()?;
    let node = end::node_of(pod).unwrap_or_default();
    Some(blocker(
        format!("Pod {}", title(pod)),
        format!("was bound to {node} after it was drained"),
        format!("delete its VM; then switch {node} off and set spec.poweredOff: true"),
    ))
}

/// A node of the control plane is removed only while the others can decide without it: without the only one there is no cluster. Its
/// member of etcd is taken out when it is drained; that of one that does not report, by a person who knows that it is dead.
fn control_plane(name: &str, plane: &[ControlPlaneNode], standing: Standing) -> Option<Blocker> {
    plane.iter().find(|node| node.name == name)?;
    let what = format!("Node {name}");
    let ready = plane.iter().filter(|node| node.name != name && node.is_ready).count();
    // etcd needs a majority of the members that are left.
    let needed = plane.len().saturating_sub(1) / 2 + 1;
    Some(match plane.len() {
        1 => blocker(
            what,
            "is the only node of the control plane: the cluster ends with it",
            "remove the other nodes, or nothing; then install this machine again",
        ),
        members if ready < needed => blocker(
            what,
            format!(
                "is one of {members} nodes of the control plane, and of the others {ready} are Ready: etcd needs {needed}"
            ),
            "repair the other nodes of the control plane first",
        ),
        _ if standing == Standing::Reports => return None,
        _ => blocker(
            what,
            "is a node of the control plane, with a member of etcd, and does not report",
            format!("run `sheaf-agent etcd remove {name}` on another control-plane node"),
        ),
    })
}
