//! What the cluster needs before there can be VMs: definitions, RuntimeClass, what nodes may do.
//!
//! Why here: the controller owns these and brings them up to date with itself, so an upgrade is a new binary.
//! The identity, its rights and its certificate come before it, from the program that created the cluster. Route in: constants. Route out: server-side applies, all idempotent.

use std::time::Duration;

use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        core::v1::{ConfigMap, Namespace},
        node::v1::RuntimeClass,
        rbac::v1::{ClusterRole, ClusterRoleBinding},
        storage::v1::{CSIDriver, StorageClass},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sheaf_api::{
    crd, instancetype,
    names::{
        ADDRESSES_MAP, CONTROLLER_MANAGER, IDENTITIES_MAP, LIMITS_MAP, RUNTIME_CLASS, SYSTEM_NAMESPACE, TRUE,
        VM_NODE_LABEL, VM_ONLY_TAINT, VOLUME_DRIVER,
    },
    snapshot::VolumeSnapshotClass,
};

use crate::{aggregated, instancetype::common, policy, tenants, volumes::class};

/// How long the API server may take to serve a new definition.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why the cluster is not ready for VMs.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The API server refused an object, or did not answer.
    #[error("applying {what}: {source}")]
    Apply {
        /// Kind and name.
        what: String,
        /// What it said.
        source: kube::Error,
    },
    /// The definitions could not be made.
    #[error(transparent)]
    Crd(#[from] crd::CrdError),
    /// A definition is not served.
    #[error("CustomResourceDefinition {0} is not Established after 30 s; see its status")]
    NotEstablished(String),
}

/// Makes the namespace of the controller's Lease; needed before there can be a leader.
pub async fn namespace(client: &Client) -> Result<(), InstallError> {
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}});
    apply(&Api::<Namespace>::all(client.clone()), "Namespace", SYSTEM_NAMESPACE, body).await
}

/// Applies everything and waits until the definitions are served. What nodes may do comes first, so that they report while the
/// rest is made; VMs' definitions, by far the largest, come after those of nodes, and what no VM needs last.
pub async fn install(client: &Client) -> Result<(), InstallError> {
    access(client).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let wanted = crd::all()?;
    for definition in &wanted {
        let name = definition.metadata.name.as_deref().unwrap_or_default();
        let body = serde_json::to_value(definition).map_err(crd::CrdError::Shape)?;
        if !is_applied(&definitions, name, &body).await? {
            apply(&definitions, "CustomResourceDefinition", name, body).await?;
            tracing::info!("CustomResourceDefinition {name} is applied");
        }
    }
    for definition in &wanted {
        established(&definitions, definition.metadata.name.as_deref().unwrap_or_default()).await?;
    }
    classes(client).await?;
    for (plural, object) in common::all() {
        let kind = [instancetype::INSTANCETYPES, instancetype::PREFERENCES].concat();
        let Some(kind) = kind.iter().find(|kind| kind.plural == plural) else { continue };
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        apply(&objects, kind.kind, &name, object).await?;
    }
    Ok(())
}

/// Policies and roles.
async fn access(client: &Client) -> Result<(), InstallError> {
    // Before the policies that read them: while a parameter is missing, the API server asks itself for it at every write of
    // a node, and refuses the write when that takes too long.
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    for name in [ADDRESSES_MAP, LIMITS_MAP, IDENTITIES_MAP] {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {}});
        create(&maps, "ConfigMap", map).await?;
    }
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    for (name, body) in policy::all() {
        apply(&policies, "ValidatingAdmissionPolicy", name, body).await?;
        apply(&bindings, "ValidatingAdmissionPolicyBinding", name, policy::binding(name)).await?;
    }
    // After the policies: what a role opens, they bound.
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    apply(&roles, "ClusterRole", policy::node::ROLE, policy::node::role()).await?;
    apply(&bindings, "ClusterRoleBinding", policy::node::ROLE, policy::node::role_binding()).await?;
    for (name, role) in tenants::roles().into_iter().chain(aggregated::roles::roles()) {
        apply(&roles, "ClusterRole", name, role).await?;
    }
    let default = aggregated::roles::default_binding();
    apply(&bindings, "ClusterRoleBinding", aggregated::roles::DEFAULT, default).await
}

/// What volumes and placeholder Pods name.
async fn classes(client: &Client) -> Result<(), InstallError> {
    apply(&Api::<CSIDriver>::all(client.clone()), "CSIDriver", VOLUME_DRIVER, class::driver()).await?;
    create(&Api::<StorageClass>::all(client.clone()), "StorageClass", class::storage_class()).await?;
    create(&Api::<VolumeSnapshotClass>::all(client.clone()), "VolumeSnapshotClass", class::snapshot_class())
        .await?;
    apply(&Api::<RuntimeClass>::all(client.clone()), "RuntimeClass", RUNTIME_CLASS, runtime_class()).await
}

/// The definition is there, and as `body` says. To apply it again would change nothing, but the API server compiles each of
/// its rules for that: for a second and more, at every start of a controller.
async fn is_applied(
    api: &Api<CustomResourceDefinition>,
    name: &str,
    body: &Value,
) -> Result<bool, InstallError> {
    let what = || format!("CustomResourceDefinition {name}");
    let held = api.get_opt(name).await.map_err(|source| InstallError::Apply { what: what(), source })?;
    let Some(held) = held else { return Ok(false) };
    let held = serde_json::to_value(&held).map_err(crd::CrdError::Shape)?;
    // Another's fields, and defaults, may stand beside those of a map; a list is as it is.
    Ok(contains(&held, body))
}

/// `whole` has everything that `part` has.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        (whole, part) => whole == part,
    }
}

/// Makes the object as `body` says, no matter who changed it.
pub(crate) async fn apply<K>(api: &Api<K>, kind: &str, name: &str, body: Value) -> Result<(), InstallError>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let how = PatchParams::apply(CONTROLLER_MANAGER).force();
    match api.patch(name, &how, &Patch::Apply(&body)).await {
        Ok(_) => Ok(()),
        Err(source) => Err(InstallError::Apply { what: format!("{kind} {name}"), source }),
    }
}

/// Makes an object that belongs to the operator from then on.
async fn create<K>(api: &Api<K>, kind: &str, body: Value) -> Result<(), InstallError>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    let object: K = serde_json::from_value(body).map_err(crd::CrdError::Shape)?;
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(source) => Err(InstallError::Apply { what: kind.to_string(), source }),
    }
}

async fn established(api: &Api<CustomResourceDefinition>, name: &str) -> Result<(), InstallError> {
    let end = tokio::time::Instant::now() + ESTABLISHED_WITHIN;
    loop {
        let definition = api.get(name).await.map_err(|source| InstallError::Apply {
            what: format!("CustomResourceDefinition {name}"),
            source,
        })?;
        let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
        if conditions.iter().any(|c| c.type_ == "Established" && c.status == "True") {
            return Ok(());
        }
        if tokio::time::Instant::now() >= end {
            return Err(InstallError::NotEstablished(name.to_string()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Placeholder Pods go to VM nodes and may, alone, ignore their taint.
fn runtime_class() -> Value {
    json!({
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": RUNTIME_CLASS},
        "handler": RUNTIME_CLASS,
        "scheduling": {
            "nodeSelector": {VM_NODE_LABEL: TRUE},
            "tolerations": [{"key": VM_ONLY_TAINT, "operator": "Exists", "effect": "NoSchedule"}],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_added_to_a_definition_is_no_change_and_what_they_took_or_altered_is() {
        let ours = json!({"spec": {"names": {"plural": "vms"}, "versions": [{"name": "v1"}]}});
        let defaulted = json!({
            "metadata": {"uid": "1"},
            "spec": {"names": {"plural": "vms", "listKind": "VmList"}, "versions": [{"name": "v1", "served": true}]},
        });
        assert!(contains(&defaulted, &ours));
        let altered = [
            json!({"spec": {"names": {"plural": "vms"}, "versions": []}}),
            json!({"spec": {"names": {"plural": "vms"}, "versions": [{"name": "v1"}, {"name": "v2"}]}}),
            json!({"spec": {"names": {"plural": "pods"}, "versions": [{"name": "v1"}]}}),
            json!({"spec": {"versions": [{"name": "v1"}]}}),
        ];
        for altered in altered {
            assert!(!contains(&altered, &ours), "{altered}");
        }
    }
}
