//! Every turn of an export's life.

use super::*;
use crate::conditions::find;
use crate::volumes::testing::{GIB, UID, claim, in_phase, persistent, volume};
use sheaf_api::VirtualMachineInstance;

const NOW: &str = "2026-03-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn export(kind: &str, spec: serde_json::Value) -> VirtualMachineExport {
    let group = match kind {
        "VirtualMachine" => "kubevirt.io",
        "VirtualMachineSnapshot" => "snapshot.kubevirt.io",
        _ => "",
    };
    let mut export = json!({
        "apiVersion": "export.kubevirt.io/v1beta1", "kind": "VirtualMachineExport",
        "metadata": {"name": "away", "namespace": "shop", "uid": "e1", "creationTimestamp": NOW},
        "spec": {"source": {"apiGroup": group, "kind": kind, "name": "disk"}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        export["spec"][key] = value.clone();
    }
    serde_json::from_value(export).unwrap()
}

/// The claim `disk`, bound to a volume of `n1` that is ready.
fn bound() -> Claim {
    let name = format!("pvc-{UID}");
    let mut claim = claim(json!({}), json!({"volumeName": name}));
    claim.status = serde_json::from_value(json!({"phase": "Bound"})).unwrap();
    Claim {
        name: "disk".into(),
        claim: Some(claim),
        persistent: Some(persistent(&name, "Bound", "Delete")),
        volume: Some(in_phase(volume(&name, "n1", 4 * GIB), "Ready", "Ready")),
    }
}

fn vmi(name: &str, phase: &str, volume: serde_json::Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"domain": {"devices": {}}, "volumes": [volume]},
        "status": {"phase": phase},
    }))
    .unwrap()
}

fn at(export: &VirtualMachineExport, source: &Source, pods: &[Pod], now: Timestamp) -> Plan {
    let server = Some(Server { address: "192.0.2.1:10913".parse().unwrap(), authority: "PEM\n" });
    plan(&Observed { export, source, pods, server }, now).unwrap()
}

fn of_claim_with(claim: Claim, instances: Vec<VirtualMachineInstance>) -> Source {
    Source::Claim { claim: Box::new(claim), instances }
}

fn created(plan: &Plan) -> Vec<Pod> {
    let pod = |action: &Action| match action {
        Action::CreatePod(pod) => Some(Pod::clone(pod)),
        _ => None,
    };
    plan.actions.iter().filter_map(pod).collect()
}

fn ready(plan: &Plan) -> (&str, String) {
    let ready = find(&plan.status.conditions, "Ready").unwrap();
    (ready.reason.as_deref().unwrap_or_default(), ready.message.clone().unwrap_or_default())
}

/// An export of a claim that is Ready, with its Pods.
fn downloadable() -> (VirtualMachineExport, Vec<Pod>) {
    let mut export = export("PersistentVolumeClaim", json!({}));
    let source = of_claim_with(bound(), vec![]);
    let first = at(&export, &source, &[], now());
    export.status = Some(first.status.clone());
    let pods = created(&first);
    export.status = Some(at(&export, &source, &pods, now()).status);
    (export, pods)
}

#[test]
fn an_export_makes_a_secret_and_a_pod_on_the_volumes_node_and_then_has_links() {
    let mut export = export("PersistentVolumeClaim", json!({}));
    let source = of_claim_with(bound(), vec![]);
    let first = at(&export, &source, &[], now());
    assert_eq!(first.actions[0], Action::CreateSecret("export-token-e1".into()));
    assert_eq!((first.status.phase, ready(&first).0), (Some(ExportPhase::Pending), "PodPending"));
    let pods = created(&first);
    let spec = serde_json::to_value(&pods[0].spec).unwrap();
    assert_eq!((pods.len(), &spec["nodeName"]), (1, &json!("n1")));
    assert_eq!(spec["volumes"], json!([{"name": "token", "secret": {"secretName": "export-token-e1"}}]));
    let exported: ExportedVolumes = serde_json::from_str(exported(&pods[0]).unwrap()).unwrap();
    assert_eq!(exported.volumes[0].name, "disk");
    assert_eq!(
        (exported.volumes[0].bytes, exported.expires.0),
        (4 * GIB, "2026-03-01T14:00:00Z".parse().unwrap())
    );

    export.status = Some(first.status);
    let second = at(&export, &source, &pods, now());
    assert_eq!(second.status.phase, Some(ExportPhase::Ready));
    assert!(matches!(second.actions.as_slice(), [Action::WriteStatus(_)]), "{:?}", second.actions);
    let link = second.status.links.clone().unwrap().external.unwrap();
    assert_eq!(
        link.volumes[0].formats[1].url,
        "https://192.0.2.1:10913/api/export.kubevirt.io/v1/namespaces/shop/virtualmachineexports/away/volumes/disk/\
         disk.img.gz"
    );
    assert_eq!((link.cert.as_str(), link.manifests.len()), ("PEM", 0));
    export.status = Some(second.status);
    assert_eq!(at(&export, &source, &pods, now()).actions, []);
}

#[test]
fn a_secret_that_is_named_is_used_and_none_is_made() {
    let export = export("PersistentVolumeClaim", json!({"tokenSecretRef": "mine"}));
    let plan = at(&export, &of_claim_with(bound(), vec![]), &[], now());
    assert!(!plan.actions.iter().any(|action| matches!(action, Action::CreateSecret(_))));
    assert_eq!(plan.status.token_secret_ref.as_deref(), Some("mine"));
}

#[test]
fn an_export_whose_claim_a_vm_takes_is_paused_until_that_is_over() {
    let (export, pods) = downloadable();
    assert_eq!(export.status.as_ref().unwrap().phase, Some(ExportPhase::Ready));
    let user =
        |phase| vmi("web", phase, json!({"name": "a", "persistentVolumeClaim": {"claimName": "disk"}}));
    let paused = at(&export, &of_claim_with(bound(), vec![user("Scheduling")]), &pods, now());
    assert_eq!(paused.status.phase, Some(ExportPhase::Pending));
    assert_eq!(ready(&paused), ("InUse", "pvc shop/disk is in use by Virtual Machine web".into()));
    assert!(paused.status.links.is_none() && paused.requeue == Some(WAIT));
    let kinds: Vec<_> = paused.actions.iter().map(std::mem::discriminant).collect();
    let event = Action::RecordEvent(Event::warning("ExportPaused", ""));
    let delete = Action::DeletePod { name: String::new(), uid: None };
    assert_eq!(kinds[0], std::mem::discriminant(&event));
    assert_eq!(kinds.last(), Some(&std::mem::discriminant(&delete)));
    // One that is over, or that only reads it below an overlay, does not matter.
    let overlay = json!({"name": "a", "ephemeral": {"persistentVolumeClaim": {"claimName": "disk"}}});
    for harmless in [user("Succeeded"), vmi("web", "Running", overlay)] {
        assert_eq!(at(&export, &of_claim_with(bound(), vec![harmless]), &pods, now()).actions, []);
    }
}

#[test]
fn a_vm_must_be_stopped_and_one_without_claims_is_skipped() {
    let export = export("VirtualMachine", json!({}));
    let vm = |exists, claims, instances| Source::Vm { exists, claims, instances };
    let running = vmi("disk", "Running", json!({"name": "other", "emptyDisk": {"capacity": "1Gi"}}));
    let waits = at(&export, &vm(true, vec![bound()], vec![running]), &[], now());
    assert_eq!(ready(&waits), ("InUse", "Virtual Machine shop/disk is running".into()));
    let skipped = at(&export, &vm(true, vec![], vec![]), &[], now());
    assert_eq!((skipped.status.phase, ready(&skipped).0), (Some(ExportPhase::Skipped), "VMNoVolumes"));
    let missing = at(&export, &vm(false, vec![], vec![]), &[], now());
    assert_eq!(missing.status.phase, Some(ExportPhase::Pending));
    let stopped = at(&export, &vm(true, vec![bound()], vec![]), &[], now());
    assert_eq!(created(&stopped).len(), 1);
    assert_eq!(stopped.status.virtual_machine_name.as_deref(), Some("disk"));
}

#[test]
fn volumes_of_several_nodes_have_a_pod_on_each() {
    let export = export("VirtualMachine", json!({}));
    let mut second = bound();
    second.name = "data".into();
    second.volume = Some(in_phase(volume("pvc-2", "n2", GIB), "Ready", "Ready"));
    let source = Source::Vm { exists: true, claims: vec![bound(), second], instances: vec![] };
    let pods = created(&at(&export, &source, &[], now()));
    assert_eq!(pods.len(), 2);
    assert_ne!(pods[0].metadata.name, pods[1].metadata.name);
}

#[test]
fn a_snapshot_is_exported_while_its_vm_runs_under_the_names_of_its_claims() {
    let export = export("VirtualMachineSnapshot", json!({}));
    let held = in_phase(volume("snap-1", "n1", GIB), "Ready", "Ready");
    let snapshot =
        |is_ready, taken| Source::Snapshot(Some(Snapshot { is_ready, machine: Some("web".into()), taken }));
    let plan =
        at(&export, &snapshot(true, vec![Taken { claim: "disk".into(), volume: Some(held) }]), &[], now());
    let pods = created(&plan);
    assert!(exported(&pods[0]).unwrap().contains(r#""name":"disk","volume":"snap-1""#), "{pods:?}");
    let volumes = find(&plan.status.conditions, "VolumesCreated").unwrap();
    assert_eq!((volumes.status.as_str(), volumes.reason.as_deref()), ("True", Some("AllPVCsReady")));
    assert_eq!(plan.status.virtual_machine_name.as_deref(), Some("web"));
    let unready = at(&export, &snapshot(false, vec![]), &[], now());
    assert_eq!((unready.status.phase, ready(&unready).0), (Some(ExportPhase::Pending), "Initializing"));
    let empty = at(&export, &snapshot(true, vec![]), &[], now());
    assert_eq!(empty.status.phase, Some(ExportPhase::Skipped));
}

#[test]
fn a_claim_that_is_deleted_ends_what_is_handed_out() {
    let (export, pods) = downloadable();
    let mut going = bound();
    going.claim.as_mut().unwrap().metadata.deletion_timestamp = Some(seconds(now()));
    let plan = at(&export, &of_claim_with(going, vec![]), &pods, now());
    assert!(matches!(plan.actions.last(), Some(Action::DeletePod { .. })), "{:?}", plan.actions);
    assert_eq!(ready(&plan).1, "PersistentVolumeClaim disk is being deleted");
}

#[test]
fn an_export_is_deleted_when_its_time_is_over() {
    let (mut export, pods) = downloadable();
    export.spec.ttl_duration = Some("30m0s".into());
    let source = of_claim_with(bound(), vec![]);
    let at_time = |time: &str| at(&export, &source, &pods, time.parse().unwrap());
    let before = at_time("2026-03-01T12:29:00Z");
    assert!(!before.actions.contains(&Action::DeleteExport));
    let over = at_time("2026-03-01T12:30:00Z");
    assert_eq!(over.status.phase, Some(ExportPhase::Terminated));
    assert!(matches!(
        over.actions.as_slice(),
        [Action::WriteStatus(_), Action::DeletePod { .. }, Action::DeleteExport]
    ));
}

#[test]
fn a_pod_for_another_size_or_node_is_replaced_and_there_are_no_links_meanwhile() {
    let (export, pods) = downloadable();
    let mut grown = bound();
    grown.volume = Some(in_phase(volume(&format!("pvc-{UID}"), "n1", 8 * GIB), "Ready", "Ready"));
    let source = of_claim_with(grown, vec![]);
    let first = at(&export, &source, &pods, now());
    assert!(created(&first).is_empty() && first.status.links.is_none());
    assert!(matches!(first.actions.last(), Some(Action::DeletePod { .. })));
    assert_eq!(created(&at(&export, &source, &[], now())).len(), 1);
}

#[test]
fn without_a_listener_an_export_waits() {
    let export = export("PersistentVolumeClaim", json!({}));
    let source = of_claim_with(bound(), vec![]);
    let plan = plan(&Observed { export: &export, source: &source, pods: &[], server: None }, now()).unwrap();
    assert_eq!((plan.status.phase, ready(&plan).0), (Some(ExportPhase::Pending), "Initializing"));
}
