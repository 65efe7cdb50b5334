//! Decides what one DataVolume needs, and what is message of it in CDI's words.
//!
//! Why here: pure, so that every word is a test. A DataVolume makes its claim and follows it; it never touches a volume, and
//! when it is done it stays, as CDI's does. Route in: [`Observed`]. Route out: a [`Plan`].

use std::time::Duration;

use k8s_openapi::{
    api::{core::v1::PersistentVolumeClaim, storage::v1::StorageClass},
    jiff::Timestamp,
};
use sheaf_api::{
    cdi::{DataVolume, DataVolumePhase, DataVolumeStatus},
    names::{IMMEDIATE_ANNOTATION, SELECTED_NODE_ANNOTATION, TRUE, VOLUME_DRIVER},
    storage::{
        LocalVolume,
        local_volume::{VolumePhase, VolumeReason},
    },
};

use super::claim;
use crate::{
    conditions::set,
    events::Event,
    volumes::{annotation, claim::source::Found, class::DEFAULT_ANNOTATION, is_ours, room},
};

/// Until it is checked again whether an origin or a class is there.
const WAIT: Duration = Duration::from_secs(10);
/// Progress that is not known.
const UNKNOWN: &str = "N/A";

/// What a decision is made from.
pub struct Observed<'a> {
    /// The DataVolume.
    pub data: &'a DataVolume,
    /// The claim of its name.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The LocalVolume of that claim.
    pub volume: Option<&'a LocalVolume>,
    /// Every StorageClass.
    pub classes: &'a [StorageClass],
    /// For a copy: its origin, or why there is none.
    pub origin: Option<Result<Found, String>>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the claim.
    CreateClaim(Box<PersistentVolumeClaim>),
    /// Write the whole status.
    WriteStatus(Box<DataVolumeStatus>),
    /// Record an Event.
    RecordEvent(Event),
}

/// What to do, in order; a step that fails ends the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// The whole status after it, written by one of the actions if it changed.
    pub status: DataVolumeStatus,
    /// Reconcile again after this long.
    pub requeue: Option<Duration>,
}

/// What a DataVolume does with its source: CDI has other words for each.
#[derive(Clone, Copy, PartialEq)]
enum Deed {
    Import,
    Clone,
    Upload,
}

/// Decides.
pub fn plan(observed: &Observed, now: Timestamp) -> Result<Plan, serde_json::Error> {
    let mut plan = Plan { status: observed.data.status.clone().unwrap_or_default(), ..Plan::default() };
    if observed.data.metadata.deletion_timestamp.is_some() {
        return Ok(plan); // its claim is its dependent
    }
    plan.status.claim_name = observed.data.metadata.name.clone();
    plan.status.restart_count.get_or_insert(0);
    match observed.claim {
        None => make(&mut plan, observed, now)?,
        Some(claim) if !owns(observed.data, claim) => {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            let why = format!(
                "a PersistentVolumeClaim {name} exists and is not this DataVolume's; rename one of them"
            );
            stuck(&mut plan, "ErrResourceExists", &why, now);
        }
        Some(claim) => follow(&mut plan, observed, claim, now),
    }
    if observed.data.status.clone().unwrap_or_default() != plan.status {
        plan.actions.push(Action::WriteStatus(Box::new(plan.status.clone())));
    }
    Ok(plan)
}

fn owns(data: &DataVolume, claim: &PersistentVolumeClaim) -> bool {
    claim
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| Some(&owner.uid) == data.metadata.uid.as_ref())
}

/// There is no claim: may there be one?
fn make(plan: &mut Plan, observed: &Observed, now: Timestamp) -> Result<(), serde_json::Error> {
    let class = match class(observed) {
        Ok(class) => class,
        Err(why) => {
            stuck(plan, "NoStorageClass", &why, now);
            return Ok(());
        }
    };
    let origin = match &observed.origin {
        Some(Err(why)) => {
            stuck(plan, "NoSource", why, now);
            return Ok(());
        }
        Some(Ok(found)) => Some(room::quantity(found.bytes)),
        None => None,
    };
    let claim = claim::claim(observed.data, class.metadata.name.as_deref().unwrap_or_default(), origin)?;
    plan.actions.push(Action::CreateClaim(Box::new(claim)));
    phase(plan, DataVolumePhase::Pending, UNKNOWN.into());
    set(&mut plan.status.conditions, "Bound", "False", "NotFound", "the claim is being made", now);
    set(&mut plan.status.conditions, "Running", "False", "Pending", "", now);
    set(&mut plan.status.conditions, "Ready", "False", "NotFound", "", now);
    Ok(())
}

/// The class that it names, or the cluster's; it must be one of ours, no other provisioner would fill the volume.
fn class<'a>(observed: &'a Observed) -> Result<&'a StorageClass, String> {
    let named = observed.data.spec.claim().storage_class_name;
    let class = match &named {
        Some(name) => observed
            .classes
            .iter()
            .find(|class| class.metadata.name.as_ref() == Some(name))
            .ok_or_else(|| format!("StorageClass {name} does not exist"))?,
        None => observed
            .classes
            .iter()
            .find(|class| annotation(*class, DEFAULT_ANNOTATION) == Some(TRUE))
            .ok_or("no StorageClass is the default; name one in storageClassName")?,
    };
    if is_ours(class) {
        return Ok(class);
    }
    Err(format!(
        "StorageClass {} is of {}; only classes of {VOLUME_DRIVER} fill DataVolumes",
        class.metadata.name.as_deref().unwrap_or_default(),
        class.provisioner
    ))
}

/// There is a claim: how far is its volume?
fn follow(plan: &mut Plan, observed: &Observed, claim: &PersistentVolumeClaim, now: Timestamp) {
    let source = &observed.data.spec.source;
    let deed = match (&source.pvc, &source.snapshot, &source.upload) {
        (Some(_), ..) | (_, Some(_), _) => Deed::Clone,
        (.., Some(_)) => Deed::Upload,
        _ => Deed::Import,
    };
    let claim_phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    match claim_phase {
        "Bound" => {
            if plan.status.phase != Some(DataVolumePhase::Succeeded) {
                let done = format!("{}Succeeded", deed.word());
                plan.actions.push(Action::RecordEvent(Event::normal(
                    &done,
                    format!("the claim {name} is bound and filled"),
                )));
            }
            phase(plan, DataVolumePhase::Succeeded, "100.0%".into());
            let bound = format!("PVC {name} Bound");
            set(&mut plan.status.conditions, "Bound", "True", "Bound", &bound, now);
            let complete = format!("{} Complete", deed.word());
            set(&mut plan.status.conditions, "Running", "False", "Completed", &complete, now);
            set(&mut plan.status.conditions, "Ready", "True", "", "", now);
            return;
        }
        "Lost" => {
            phase(plan, DataVolumePhase::Failed, UNKNOWN.into());
            let lost = format!("PVC {name} Lost");
            set(&mut plan.status.conditions, "Bound", "False", "ClaimLost", &lost, now);
        }
        _ => {
            let pending = format!("PVC {name} Pending");
            set(&mut plan.status.conditions, "Bound", "False", "Pending", &pending, now);
            unbound(plan, observed, claim, deed, now);
        }
    }
    set(&mut plan.status.conditions, "Ready", "False", "Pending", "", now);
}

/// The claim is not bound: what does the node say?
fn unbound(plan: &mut Plan, observed: &Observed, claim: &PersistentVolumeClaim, deed: Deed, now: Timestamp) {
    let (scheduled, running) = match deed {
        Deed::Import => (DataVolumePhase::ImportScheduled, DataVolumePhase::ImportInProgress),
        Deed::Clone => (DataVolumePhase::CloneScheduled, DataVolumePhase::CloneInProgress),
        Deed::Upload => (DataVolumePhase::UploadScheduled, DataVolumePhase::UploadReady),
    };
    let Some(volume) = observed.volume else {
        let selected = [SELECTED_NODE_ANNOTATION, IMMEDIATE_ANNOTATION]
            .iter()
            .any(|name| annotation(claim, name).is_some());
        let next = match (selected, deed) {
            (true, _) | (_, Deed::Clone) => scheduled,
            _ => DataVolumePhase::WaitForFirstConsumer,
        };
        phase(plan, next, UNKNOWN.into());
        set(&mut plan.status.conditions, "Running", "False", "Pending", "", now);
        return;
    };
    let status = volume.status.clone().unwrap_or_default();
    let progress = match status.progress.as_ref().and_then(|progress| progress.percent) {
        Some(percent) => format!("{}.0%", percent.min(100)),
        None => UNKNOWN.into(),
    };
    let why = volume.why();
    let (reason, message) = why.map_or((VolumeReason::Creating, ""), |(reason, message)| (reason, message));
    match status.phase {
        Some(VolumePhase::Failed) => {
            if plan.status.phase != Some(DataVolumePhase::Failed) {
                let event = Event::warning(&format!("{}Failed", deed.word()), message.to_string());
                plan.actions.push(Action::RecordEvent(event));
            }
            phase(plan, DataVolumePhase::Failed, progress);
            set(&mut plan.status.conditions, "Running", "False", &reason.to_string(), message, now);
        }
        Some(VolumePhase::Populating) => {
            let runs = matches!(reason, VolumeReason::Populating | VolumeReason::Creating);
            phase(plan, running, progress);
            let status = if runs { "True" } else { "False" };
            set(&mut plan.status.conditions, "Running", status, &reason.to_string(), message, now);
        }
        Some(VolumePhase::Ready) => {
            phase(plan, running, "100.0%".into());
            set(&mut plan.status.conditions, "Running", "True", "Binding", "the volume is filled", now);
        }
        Some(VolumePhase::Pending | VolumePhase::Creating) | None => {
            phase(plan, scheduled, progress);
            set(&mut plan.status.conditions, "Running", "False", &reason.to_string(), message, now);
        }
    }
}

impl Deed {
    fn word(self) -> &'static str {
        match self {
            Self::Import => "Import",
            Self::Clone => "Clone",
            Self::Upload => "Upload",
        }
    }
}

fn phase(plan: &mut Plan, phase: DataVolumePhase, progress: String) {
    plan.status.phase = Some(phase);
    plan.status.progress = Some(progress);
}

/// There can be no claim as things are.
fn stuck(plan: &mut Plan, reason: &str, why: &str, now: Timestamp) {
    let reported =
        plan.status.conditions.iter().any(|one| one.type_ == "Bound" && one.message.as_deref() == Some(why));
    if !reported {
        plan.actions.push(Action::RecordEvent(Event::warning(reason, why)));
    }
    phase(plan, DataVolumePhase::Pending, UNKNOWN.into());
    set(&mut plan.status.conditions, "Bound", "False", reason, why, now);
    set(&mut plan.status.conditions, "Running", "False", reason, "", now);
    set(&mut plan.status.conditions, "Ready", "False", reason, "", now);
    plan.requeue = Some(WAIT);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::volumes::testing::{GIB, class as ours, in_phase, volume};

    fn data(source: Value, storage: Value) -> DataVolume {
        serde_json::from_value(json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
            "metadata": {"name": "disk", "namespace": "shop", "uid": "d-1", "labels": {"team": "a"}},
            "spec": {"source": source, "storage": storage},
        }))
        .unwrap()
    }

    fn blank() -> DataVolume {
        data(json!({"blank": {}}), json!({"resources": {"requests": {"storage": "4Gi"}}}))
    }

    fn image() -> DataVolume {
        let http = json!({"url": "https://mirror.example/disk.qcow2", "checksum": format!("sha256:{}", "0".repeat(64))});
        data(json!({"http": http}), json!({"resources": {"requests": {"storage": "4Gi"}}}))
    }

    #[test]
    fn a_container_disk_is_asked_of_the_node_by_the_name_of_its_image() {
        let registry = json!({"url": "docker://quay.io/a/b:1", "pullMethod": "node", "secretRef": "login"});
        let claim = made(&data(
            json!({"registry": registry}),
            json!({"resources": {"requests": {"storage": "4Gi"}}}),
        ));
        let noted = annotation(&claim, sheaf_api::names::SOURCE_ANNOTATION).unwrap();
        assert_eq!(noted, r#"{"registry":{"image":"quay.io/a/b:1","secretRef":"login"}}"#);
    }

    fn plan_of(
        data: &DataVolume,
        claim: Option<&PersistentVolumeClaim>,
        volume: Option<&LocalVolume>,
    ) -> Plan {
        let classes = [ours()];
        plan(&Observed { data, claim, volume, classes: &classes, origin: None }, Timestamp::UNIX_EPOCH)
            .unwrap()
    }

    fn made(data: &DataVolume) -> PersistentVolumeClaim {
        let plan = plan_of(data, None, None);
        let Action::CreateClaim(claim) = &plan.actions[0] else { panic!("{plan:?}") };
        let mut claim = PersistentVolumeClaim::clone(claim);
        claim.metadata.uid = Some("c-1".into());
        claim
    }

    fn word(
        data: &DataVolume,
        claim: &PersistentVolumeClaim,
        volume: Option<&LocalVolume>,
    ) -> (String, String) {
        let status = plan_of(data, Some(claim), volume).status;
        (status.phase.unwrap().to_string(), status.progress.unwrap())
    }

    #[test]
    fn it_makes_a_claim_of_its_name_that_says_what_is_in_it() {
        let claim = serde_json::to_value(made(&image())).unwrap();
        assert_eq!(claim["spec"]["storageClassName"], "sheaf");
        assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteOnce"]));
        assert_eq!(claim["spec"]["volumeMode"], "Block");
        assert_eq!(claim["metadata"]["ownerReferences"][0]["uid"], "d-1");
        assert_eq!(claim["metadata"]["labels"], json!({"team": "a", "app": "containerized-data-importer"}));
        let noted = claim["metadata"]["annotations"]["sheaf.dev/source"].as_str().unwrap();
        let noted: Value = serde_json::from_str(noted).unwrap();
        assert_eq!(noted["http"]["url"], "https://mirror.example/disk.qcow2");
        assert!(made(&blank()).metadata.annotations.is_none_or(|noted| noted.is_empty()));
    }

    #[test]
    fn a_copy_is_as_large_as_its_origin_unless_it_says_more() {
        let copy = data(json!({"pvc": {"name": "golden"}}), json!({}));
        let source = serde_json::from_value(json!({"volume": {"name": "pvc-a"}})).unwrap();
        let found = Found { source, node: "n1".into(), pool: "default".into(), bytes: 5 * GIB };
        let classes = [ours()];
        let observed = |origin| Observed {
            data: &copy,
            claim: None,
            volume: None,
            classes: &classes,
            origin: Some(origin),
        };
        let plan = super::plan(&observed(Ok(found)), Timestamp::UNIX_EPOCH).unwrap();
        let Action::CreateClaim(claim) = &plan.actions[0] else { panic!("{plan:?}") };
        let spec = serde_json::to_value(&claim.spec).unwrap();
        assert_eq!(spec["resources"]["requests"]["storage"], "5Gi");
        assert_eq!(spec["dataSourceRef"], json!({"kind": "PersistentVolumeClaim", "name": "golden"}));

        let waits = super::plan(&observed(Err("it is not there".into())), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(waits.status.phase, Some(DataVolumePhase::Pending));
        assert_eq!(waits.status.conditions[0].message.as_deref(), Some("it is not there"));
        assert_eq!(waits.requeue, Some(WAIT));
    }

    #[test]
    fn its_words_are_cdis() {
        let (data, mut claim) = (image(), made(&image()));
        assert_eq!(word(&data, &claim, None), ("WaitForFirstConsumer".into(), "N/A".into()));
        claim.metadata.annotations.as_mut().unwrap().insert(SELECTED_NODE_ANNOTATION.into(), "n1".into());
        assert_eq!(word(&data, &claim, None), ("ImportScheduled".into(), "N/A".into()));
        let volume = volume("pvc-c-1", "n1", 4 * GIB);
        assert_eq!(word(&data, &claim, Some(&volume)), ("ImportScheduled".into(), "N/A".into()));
        let mut filling = in_phase(volume.clone(), "Populating", "Populating");
        filling.status.as_mut().unwrap().progress =
            serde_json::from_value(json!({"doneBytes": 42, "totalBytes": 100, "percent": 42})).unwrap();
        assert_eq!(word(&data, &claim, Some(&filling)), ("ImportInProgress".into(), "42.0%".into()));
        let ready = in_phase(volume.clone(), "Ready", "Ready");
        assert_eq!(word(&data, &claim, Some(&ready)), ("ImportInProgress".into(), "100.0%".into()));
        claim.status = serde_json::from_value(json!({"phase": "Bound"})).unwrap();
        assert_eq!(word(&data, &claim, Some(&ready)), ("Succeeded".into(), "100.0%".into()));
    }

    #[test]
    fn a_failure_says_what_the_node_reported_and_has_one_event() {
        let (mut data, claim) = (image(), made(&image()));
        let failed = in_phase(volume("pvc-c-1", "n1", 4 * GIB), "Failed", "ChecksumMismatch");
        let plan = plan_of(&data, Some(&claim), Some(&failed));
        assert_eq!(plan.status.phase, Some(DataVolumePhase::Failed));
        let running = crate::conditions::find(&plan.status.conditions, "Running").unwrap();
        assert_eq!(running.reason.as_deref(), Some("ChecksumMismatch"));
        assert_eq!(running.message.as_deref(), Some("the node's words"));
        assert!(
            matches!(plan.actions.as_slice(), [Action::RecordEvent(_), Action::WriteStatus(_)]),
            "{plan:?}"
        );
        data.status = Some(plan.status);
        assert_eq!(plan_of(&data, Some(&claim), Some(&failed)).actions, []);
    }

    #[test]
    fn a_class_of_others_or_none_is_refused_and_so_is_a_foreign_claim() {
        let mut foreign = ours();
        foreign.provisioner = "rancher.io/local-path".into();
        let data = blank();
        let message = |classes: &[StorageClass]| {
            let observed = Observed { data: &data, claim: None, volume: None, classes, origin: None };
            let plan = plan(&observed, Timestamp::UNIX_EPOCH).unwrap();
            assert!(!plan.actions.iter().any(|action| matches!(action, Action::CreateClaim(_))));
            plan.status.conditions[0].message.clone().unwrap()
        };
        assert_eq!(
            message(&[foreign]),
            "StorageClass sheaf is of rancher.io/local-path; only classes of lvm.sheaf.dev fill DataVolumes"
        );
        assert_eq!(message(&[]), "no StorageClass is the default; name one in storageClassName");
        let mut claim = made(&data);
        claim.metadata.owner_references = None;
        let plan = plan_of(&data, Some(&claim), None);
        assert_eq!(plan.status.conditions[0].reason.as_deref(), Some("ErrResourceExists"));
    }
}
