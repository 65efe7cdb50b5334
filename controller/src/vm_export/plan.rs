//! Decides what becomes of one VirtualMachineExport.
//!
//! Why here: pure, so that every turn of its life is a test. While its source is used, an export waits: it has no exporter Pods,
//! so no node hands out anything, and a download that is under way is cut. A VM that starts does not wait for an export. When
//! its time is over, it is deleted. Phases, conditions and reasons are KubeVirt's. What can be read now is decided in
//! [`source`]. Route in: [`Observed`]. Route out: a [`Plan`].

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::Resource;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sheaf_api::{
    names::{EXPORT_ANNOTATION, EXPORT_LABEL, EXPORTER_IMAGE},
    vm_export::{
        ExportPhase, ExportedVolume, ExportedVolumes, VirtualMachineExport, VirtualMachineExportStatus,
    },
};

use super::links;
use crate::{
    aggregated::options::go_seconds,
    conditions::{seconds, set},
    events::Event,
    reader_pod::{ReaderPod, is_as_wanted},
    volumes::annotation,
};
use source::{Located, Waits, located, machine};

mod source;

pub use source::{Claim, Snapshot, Source, Taken};

/// Until an export is reconciled again that waits for its source.
const WAIT: Duration = Duration::from_secs(5);
/// How long an export lives that does not say, in seconds: KubeVirt's default.
const TTL: u64 = 2 * 3600;

/// What a decision is made from.
pub struct Observed<'a> {
    /// The export.
    pub export: &'a VirtualMachineExport,
    /// What it is of.
    pub source: &'a Source,
    /// Its exporter Pods.
    pub pods: &'a [Pod],
    /// The server, while it listens.
    pub server: Option<Server<'a>>,
}

/// Where volumes are downloaded.
#[derive(Clone, Copy)]
pub struct Server<'a> {
    /// Its address.
    pub address: SocketAddr,
    /// The authority of its certificate, in PEM.
    pub authority: &'a str,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create a Secret of this name with a new token.
    CreateSecret(String),
    /// Create an exporter Pod.
    CreatePod(Box<Pod>),
    /// Delete a Pod, if it still is the one with this UID.
    DeletePod {
        /// Its name.
        name: String,
        /// Its UID.
        uid: Option<String>,
    },
    /// Write the whole status.
    WriteStatus(Box<VirtualMachineExportStatus>),
    /// Delete the export.
    DeleteExport,
    /// Record an Event.
    RecordEvent(Event),
}

/// What to do, in order; a step that fails ends the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// The whole status after it.
    pub status: VirtualMachineExportStatus,
    /// Reconcile again after this long.
    pub requeue: Option<Duration>,
}

/// Decides.
pub fn plan(observed: &Observed, now: Timestamp) -> Result<Plan, serde_json::Error> {
    let before = observed.export.status.clone().unwrap_or_default();
    let mut plan = Plan { status: before.clone(), ..Plan::default() };
    if observed.export.metadata.deletion_timestamp.is_some() {
        return Ok(plan);
    }
    decide(&mut plan, observed, now)?;
    if before != plan.status {
        // Links are written when they lead somewhere; and nobody is sent where nothing is left.
        let later = |action: &Action| matches!(action, Action::DeletePod { .. } | Action::DeleteExport);
        let place = plan.actions.iter().position(later).unwrap_or(plan.actions.len());
        plan.actions.insert(place, Action::WriteStatus(Box::new(plan.status.clone())));
    }
    Ok(plan)
}

/// When `export` is deleted.
fn expiry(export: &VirtualMachineExport) -> Timestamp {
    let ttl = export.spec.ttl_duration.as_deref().and_then(go_seconds).unwrap_or(TTL);
    let created = export.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
    let end = created.saturating_add(i64::try_from(ttl).unwrap_or(i64::MAX));
    Timestamp::from_second(end).unwrap_or(Timestamp::MAX)
}

fn decide(plan: &mut Plan, observed: &Observed, now: Timestamp) -> Result<(), serde_json::Error> {
    let export = observed.export;
    let expires = expiry(export);
    plan.status.ttl_expiration_time = Some(seconds(expires));
    plan.status.virtual_machine_name = machine(export, observed.source);
    if now >= expires {
        stop(plan, observed, ExportPhase::Terminated);
        set(&mut plan.status.conditions, "Ready", "False", "Expired", "its time is over", now);
        plan.actions.push(Action::DeleteExport);
        return Ok(());
    }
    let left = Duration::try_from(expires.duration_since(now)).unwrap_or(WAIT);
    plan.requeue = Some(left);
    let secret = match (&export.spec.token_secret_ref, &plan.status.token_secret_ref) {
        (Some(named), _) => named.clone(),
        (None, Some(made)) => made.clone(),
        (None, None) => {
            let name = format!("export-token-{}", export.metadata.uid.as_deref().unwrap_or_default());
            plan.actions.push(Action::CreateSecret(name.clone()));
            name
        }
    };
    plan.status.token_secret_ref = Some(secret.clone());
    let located = match located(export, observed.source) {
        Ok(located) => located,
        Err(waits) => {
            wait(plan, observed, waits, now);
            plan.requeue = Some(left.min(WAIT));
            return Ok(());
        }
    };
    claims_are(plan, observed, "True", "PVCBound", "", now);
    let wanted = pods(export, &located, &secret, expires)?;
    let is_wanted = |pod: &Pod| {
        let same = |wanted: &&Pod| is_as_wanted(pod, wanted) && exported(pod) == exported(wanted);
        wanted.iter().any(|one| same(&one))
    };
    let (kept, others): (Vec<&Pod>, Vec<&Pod>) = observed.pods.iter().partition(|pod| is_wanted(pod));
    plan.actions.extend(others.iter().map(|pod| delete(pod)));
    let name = |pod: &Pod| pod.metadata.name.clone();
    let missing = wanted.into_iter().filter(|wanted| !kept.iter().any(|pod| name(pod) == name(wanted)));
    // One that has the name is gone first; that is a change, and leads here again.
    let missing: Vec<Pod> =
        missing.filter(|wanted| !others.iter().any(|pod| name(pod) == name(wanted))).collect();
    let is_complete = missing.is_empty() && others.is_empty();
    plan.actions.extend(missing.into_iter().map(|pod| Action::CreatePod(Box::new(pod))));
    match observed.server {
        Some(server) if is_complete => {
            let names: Vec<String> = located.into_iter().map(|one| one.volume.name).collect();
            plan.status.links = Some(links::links(server.address, server.authority, export, &names));
            plan.status.phase = Some(ExportPhase::Ready);
            set(&mut plan.status.conditions, "Ready", "True", "PodReady", "", now);
        }
        Some(_) => {
            plan.status.links = None;
            plan.status.phase = Some(ExportPhase::Pending);
            set(&mut plan.status.conditions, "Ready", "False", "PodPending", "", now);
        }
        None => {
            let why = "sheaf-controller does not listen; read `journalctl -u sheaf-controller` on the control plane";
            plan.status.links = None;
            plan.status.phase = Some(ExportPhase::Pending);
            set(&mut plan.status.conditions, "Ready", "False", "Initializing", why, now);
        }
    }
    Ok(())
}

/// Nothing is handed out any more.
fn stop(plan: &mut Plan, observed: &Observed, phase: ExportPhase) {
    plan.status.phase = Some(phase);
    plan.status.links = None;
    plan.actions.extend(observed.pods.iter().map(delete));
}

fn wait(plan: &mut Plan, observed: &Observed, waits: Waits, now: Timestamp) {
    if plan.status.phase == Some(ExportPhase::Ready) {
        plan.actions.push(Action::RecordEvent(Event::warning("ExportPaused", &*waits.message)));
    }
    stop(plan, observed, waits.phase);
    let bound = if waits.claims == "PVCBound" { "True" } else { "False" };
    claims_are(plan, observed, bound, waits.claims, &waits.message, now);
    set(&mut plan.status.conditions, "Ready", "False", waits.reason, &waits.message, now);
}

/// Sets the conditions about claims; a snapshot is read as it is, so nothing is created for it.
fn claims_are(
    plan: &mut Plan,
    observed: &Observed,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let message = if status == "True" { "" } else { message };
    set(&mut plan.status.conditions, "PVCReady", status, reason, message, now);
    if matches!(observed.source, Source::Snapshot(_)) {
        let reason = if status == "True" { "AllPVCsReady" } else { "NotAllPVCsReady" };
        set(&mut plan.status.conditions, "VolumesCreated", status, reason, message, now);
    }
}

/// The exporter Pods: one for each node.
fn pods(
    export: &VirtualMachineExport,
    located: &[Located],
    secret: &str,
    expires: Timestamp,
) -> Result<Vec<Pod>, serde_json::Error> {
    let uid = export.metadata.uid.as_deref().unwrap_or_default();
    let mut nodes: BTreeMap<&str, Vec<ExportedVolume>> = BTreeMap::new();
    for one in located {
        nodes.entry(one.node).or_default().push(one.volume.clone());
    }
    let Some(owner) = export.controller_owner_ref(&()) else { return Ok(Vec::new()) };
    let pod = |(node, volumes): (&str, Vec<ExportedVolume>)| {
        let hash: String = Sha256::digest(node).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let exported = ExportedVolumes { expires: seconds(expires), secret: secret.to_owned(), volumes };
        let reader = ReaderPod {
            name: &format!("virt-export-{uid}-{hash}"),
            namespace: export.metadata.namespace.as_deref().unwrap_or_default(),
            node,
            labels: json!({EXPORT_LABEL: uid}),
            annotations: json!({EXPORT_ANNOTATION: serde_json::to_string(&exported)?}),
            owner: owner.clone(),
            container: "exporter",
            image: EXPORTER_IMAGE,
            volumes: vec![json!({"name": "token", "secret": {"secretName": secret}})],
        };
        reader.pod()
    };
    nodes.into_iter().map(pod).collect()
}

/// What an exporter Pod lets its node hand out.
fn exported(pod: &Pod) -> Option<&str> {
    annotation(pod, EXPORT_ANNOTATION)
}

fn delete(pod: &Pod) -> Action {
    let meta = &pod.metadata;
    Action::DeletePod { name: meta.name.clone().unwrap_or_default(), uid: meta.uid.clone() }
}

#[cfg(test)]
mod tests;
