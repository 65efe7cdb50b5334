//! Reads the instancetype or preference that a VM names, as it was when the VM first named it.
//!
//! Why here: a VM keeps what it was created with, so that a change of an instancetype is no change of running VMs; KubeVirt
//! keeps it in a ControllerRevision that the VM owns, and so does this. A VM that names another one gets that one. Route in: a
//! VM and its matcher. Route out: [`Found`], or the [`Problem`] that its user has to solve.

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PersistentVolumeClaim},
    apimachinery::pkg::runtime::RawExtension,
};
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, ObjectMeta},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachine,
    cdi::DataVolume,
    instancetype::{GROUP, Kind, Matcher, RevisionRef, StatusRef, VERSION},
};

use super::Problem;
use crate::object::{RequestError, doing};

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// The two kinds.
    pub kinds: &'static [Kind; 2],
    /// Label of a volume that names it.
    pub label: &'static str,
    /// Label of a volume that names its kind.
    pub kind_label: &'static str,
    /// Reason of a condition when there is none.
    pub reason: &'static str,
}

/// What a VM names.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<S> {
    /// It, unless the VM is content with none.
    pub spec: Option<S>,
    /// For the VM's status.
    pub status: Option<StatusRef>,
    /// The revision that is still to be created.
    pub revision: Option<ControllerRevision>,
}

impl<S> Default for Found<S> {
    fn default() -> Self {
        Self { spec: None, status: None, revision: None }
    }
}

/// Reads it; `before` is what the VM's status says.
pub async fn find<S: DeserializeOwned>(
    client: &Client,
    vm: &VirtualMachine,
    matcher: &Matcher,
    before: Option<&StatusRef>,
    wanted: Wanted,
) -> Result<Result<Found<S>, Problem>, RequestError> {
    let problem = |message: String| Ok(Err(Problem { reason: wanted.reason, message }));
    let (name, kind) = match &matcher.infer_from_volume {
        // Inferred once, and recorded.
        Some(_) if before.is_some_and(|before| before.revision().is_some()) => {
            (before.and_then(|before| before.name.clone()), before.and_then(|before| before.kind.clone()))
        }
        Some(volume) => match infer(client, vm, volume, wanted).await? {
            Ok((name, kind)) => (Some(name), kind),
            Err(_) if matcher.ignores_failure() => return Ok(Ok(Found::default())),
            Err(message) => return problem(message),
        },
        None => (matcher.name.clone(), matcher.kind.clone()),
    };
    let Some(name) = name else { return problem("it has no name".into()) };
    let Some(kind) = Kind::named(wanted.kinds, kind.as_deref()) else {
        return problem(format!("{} is not a kind of it", kind.unwrap_or_default()));
    };
    let same = before
        .filter(|before| before.name.as_ref() == Some(&name) && before.kind.as_deref() == Some(kind.kind));
    let revision = matcher.revision_name.as_deref().or_else(|| same.and_then(StatusRef::revision));
    let status = |revision: &str| StatusRef {
        name: Some(name.clone()),
        kind: Some(kind.kind.into()),
        controller_revision_ref: Some(RevisionRef { name: Some(revision.to_owned()) }),
    };
    let namespace = vm.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(revision) = revision {
        let revisions: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
        let kept = revisions.get_opt(revision).await.map_err(doing("reading a ControllerRevision"))?;
        let spec = kept.and_then(|kept| spec_of(&kept.data.0));
        return match spec {
            Some(spec) => Ok(Ok(Found { spec: Some(spec), status: Some(status(revision)), revision: None })),
            None => problem(format!(
                "ControllerRevision {revision} does not hold {} {name}; name another revision, or none",
                kind.kind
            )),
        };
    }
    let resource = kind.resource();
    let live: Api<DynamicObject> = if kind.namespaced {
        Api::namespaced_with(client.clone(), namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    let live = live.get_opt(&name).await.map_err(doing("reading an instancetype or preference"))?;
    let Some(live) = live else {
        return problem(format!("{}.{GROUP} \"{name}\" not found", kind.plural));
    };
    let Some(spec) = spec_of(&live.data) else {
        return problem(format!("{}.{GROUP} \"{name}\" has no spec that can be read", kind.plural));
    };
    let kept = revision_of(vm, kind, &name, &live);
    let status = status(kept.metadata.name.as_deref().unwrap_or_default());
    Ok(Ok(Found { spec: Some(spec), status: Some(status), revision: Some(kept) }))
}

fn spec_of<S: DeserializeOwned>(data: &Value) -> Option<S> {
    serde_json::from_value(data.get("spec")?.clone()).ok()
}

/// The revision that keeps `live` for `vm`, under KubeVirt's name.
fn revision_of(vm: &VirtualMachine, kind: &Kind, name: &str, live: &DynamicObject) -> ControllerRevision {
    let uid = live.metadata.uid.clone().unwrap_or_default();
    let generation = live.metadata.generation.unwrap_or_default();
    let vm_name = vm.metadata.name.as_deref().unwrap_or_default();
    let label = |what: &str, value: String| (format!("instancetype.kubevirt.io/object-{what}"), value);
    let labels = [
        label("generation", generation.to_string()),
        label("kind", kind.kind.into()),
        label("name", name.to_owned()),
        label("uid", uid.clone()),
        label("version", VERSION.into()),
    ];
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{vm_name}-{name}-{uid}-{generation}")),
            namespace: vm.metadata.namespace.clone(),
            labels: Some(labels.into()),
            owner_references: vm.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: RawExtension(json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind.kind,
            "metadata": {"name": name, "namespace": live.metadata.namespace, "uid": uid, "generation": generation},
            "spec": live.data.get("spec"),
        })),
        revision: Some(1),
    }
}

/// Name and kind that the labels of a VM's volume say.
async fn infer(
    client: &Client,
    vm: &VirtualMachine,
    volume: &str,
    wanted: Wanted,
) -> Result<Result<(String, Option<String>), String>, RequestError> {
    let Some(found) = vm.spec.template.spec.volume(volume) else {
        return Ok(Err(format!("unable to find volume {volume} to infer defaults")));
    };
    let namespace = vm.metadata.namespace.as_deref().unwrap_or_default();
    let of = |labels: &std::collections::BTreeMap<String, String>| {
        labels.get(wanted.label).map(|name| (name.clone(), labels.get(wanted.kind_label).cloned()))
    };
    let claim = found.claim().map(str::to_owned);
    let Some(claim) = claim else {
        return Ok(Err(format!(
            "unable to infer defaults from volume {volume}: only a claim or a DataVolume has labels"
        )));
    };
    let template = vm.spec.data_volume_templates.iter().find(|template| template.metadata.name == claim);
    if let Some(named) = template.and_then(|template| of(&template.metadata.labels)) {
        return Ok(Ok(named));
    }
    let data: Api<DataVolume> = Api::namespaced(client.clone(), namespace);
    let data = data.get_opt(&claim).await.map_err(doing("reading a DataVolume"))?;
    if let Some(named) = data.and_then(|data| of(&data.metadata.labels?)) {
        return Ok(Ok(named));
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let found = claims.get_opt(&claim).await.map_err(doing("reading a claim"))?;
    let named = found.and_then(|found| of(&found.metadata.labels?));
    Ok(named.ok_or_else(|| format!("unable to find required {} label on the volume {volume}", wanted.label)))
}
