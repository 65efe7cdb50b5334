//! Installs what the cluster needs for VMs: namespace, definitions, RuntimeClass, admission policy.
//!
//! Server-side apply, so it can be done at every start, and an upgrade is a start of a newer controller.
//! Route in: [`sheaf_api`]. Route out: cluster-scoped objects; returns once the API server serves the new types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};
use sheaf_api::crd;
use sheaf_api::names::{
    CONTROLLER_MANAGER, CONTROLLER_USER, RUNTIME_CLASS, SYSTEM_NAMESPACE, TRUE, VM_NODE_LABEL, VM_ONLY_TAINT,
};
use std::time::Duration;

/// Before an object that could not be applied is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// The namespace, without which there is no Lease to lead by.
pub async fn namespace(client: &Client) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}});
    until_done("Namespace", || apply(client, &object)).await;
}

/// Everything else. An object that can not be applied holds up the rest: without it the rest is unsafe.
pub async fn all(client: &Client) {
    match crd::all() {
        Ok(definitions) => {
            for definition in definitions {
                until_done("CustomResourceDefinition", || define(client, &definition)).await;
            }
        }
        // A fault of the program, found by its tests.
        Err(error) => tracing::error!("{error}"),
    }
    for object in [runtime_class(), policy(), policy_binding()] {
        until_done("object", || apply(client, &object)).await;
    }
}

async fn until_done<F: Future<Output = anyhow::Result<()>>>(what: &str, mut attempt: impl FnMut() -> F) {
    while let Err(error) = attempt().await {
        tracing::warn!("{what} can not be installed yet: {error:#}");
        tokio::time::sleep(AGAIN).await; // between two attempts
    }
}

async fn define(client: &Client, definition: &CustomResourceDefinition) -> anyhow::Result<()> {
    let mut value = serde_json::to_value(definition)?;
    value["apiVersion"] = "apiextensions.k8s.io/v1".into();
    value["kind"] = "CustomResourceDefinition".into();
    apply(client, &value).await?;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition.metadata.name.clone().unwrap_or_default();
    let conditions = api.get(&name).await?.status.and_then(|status| status.conditions).unwrap_or_default();
    match conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
        true => Ok(()),
        false => anyhow::bail!("{name} is not served yet"),
    }
}

async fn apply(client: &Client, object: &Value) -> anyhow::Result<()> {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    api.patch(name, &PatchParams::apply(CONTROLLER_MANAGER).force(), &Patch::Apply(object)).await?;
    Ok(())
}

/// Pods of this class go to VM nodes, in spite of their taint. What QEMU needs beside guest memory differs by VM, so
/// it is in each Pod's requests and not here.
fn runtime_class() -> Value {
    json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": RUNTIME_CLASS}, "handler": RUNTIME_CLASS,
        "scheduling": {
            "nodeSelector": {VM_NODE_LABEL: TRUE},
            "tolerations": [{"key": VM_ONLY_TAINT, "operator": "Exists", "effect": "NoSchedule"}],
        },
    })
}

const POLICY: &str = "placeholder-pods.sheaf.dev";

/// Whoever may create Pods could otherwise have any node run any VM, past the rules of the VM API.
fn policy() -> Value {
    let allowed = format!(
        "!has(object.spec.runtimeClassName) || object.spec.runtimeClassName != '{RUNTIME_CLASS}' || \
         request.userInfo.username == '{CONTROLLER_USER}'"
    );
    let message = format!(
        "Pods of RuntimeClass {RUNTIME_CLASS} are made by {CONTROLLER_USER} alone; create a VirtualMachine instead"
    );
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]},
            ]},
            "validations": [{"expression": allowed, "message": message, "reason": "Forbidden"}],
        },
    })
}

fn policy_binding() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY},
        "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
    })
}
