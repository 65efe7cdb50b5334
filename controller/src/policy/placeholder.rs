//! Who may make placeholder Pods, and who may change what binds a VM's run to its Pod: the controller and nodes alone.
//!
//! Why here: a placeholder Pod names files of a node and becomes a process there; anyone who could write one would pass by
//! every rule of the VirtualMachine API. Its labels, owner and finalizers are how the controller knows that a run is not
//! over: a user who changed them would start the same VM a second time. Likewise those of an instance, and its spec, by which disks
//! are added and removed. Route in: nothing. Route out: ValidatingAdmissionPolicies.

use serde_json::{Value, json};
use sheaf_api::names::{
    ATTACHMENT_ANNOTATION, CONTROLLER_USER, EXPORT_LABEL, IMPORT_LABEL, OWN_VOLUMES_ANNOTATION,
    RUNTIME_CLASS, VMI_ANNOTATION,
};

use super::{refusing, writes};

/// Name of the policy on Pods.
pub const NAME: &str = "sheaf-placeholder-pods";
/// Name of the policy on instances.
pub const INSTANCES: &str = "sheaf-instances";

/// Who changes metadata of runs: sheaf-controller, nodes, and Kubernetes' own controllers (the garbage collector takes
/// finalizers off).
fn trusted() -> Value {
    json!({"name": "trusted", "expression": format!(
        "request.userInfo.username == '{CONTROLLER_USER}' || 'system:nodes' in request.userInfo.groups || \
         request.userInfo.username.startsWith('system:serviceaccount:kube-system:')"
    )})
}

/// Refuses that somebody else changes `field` of the metadata.
fn unchanged(field: &str, empty: &str) -> Value {
    json!({
        "expression": format!(
            "request.operation != 'UPDATE' || variables.trusted || \
             object.metadata.?{field}.orValue({empty}) == oldObject.metadata.?{field}.orValue({empty})"
        ),
        "message": format!("{field} identify the run of the VM: only {CONTROLLER_USER} and the node may change them"),
        "reason": "Forbidden",
    })
}

/// Refuses that somebody else changes the entries of `field` that `of_ours` (over the key `k`) selects.
fn unchanged_of_ours(field: &str, of_ours: &str) -> Value {
    let ours = |object: &str| {
        format!("{object}.metadata.?{field}.orValue({{}}).transformMapEntry(k, v, {of_ours}, {{k: v}})")
    };
    json!({
        "expression": format!(
            "request.operation != 'UPDATE' || variables.trusted || {} == {}", ours("object"), ours("oldObject")
        ),
        "message": format!("only {CONTROLLER_USER} and the node may change these {field}"),
        "reason": "Forbidden",
    })
}

/// Refuses that somebody else changes the requests of a placeholder Pod: they set aside what its VM uses.
fn no_resize() -> Value {
    json!({
        "expression": format!(
            "request.?subResource.orValue('') != 'resize' || request.userInfo.username == '{CONTROLLER_USER}'"
        ),
        "message": format!(
            "only {CONTROLLER_USER} may resize the Pod of a VM; change memory or sockets in the VirtualMachine instead"
        ),
        "reason": "Forbidden",
    })
}

/// Refuses that anybody changes this annotation.
fn constant(annotation: &str) -> Value {
    json!({
        "expression": format!(
            "request.operation != 'UPDATE' || object.metadata.?annotations[?'{annotation}'].orValue('') == \
             oldObject.metadata.?annotations[?'{annotation}'].orValue('')"
        ),
        "message": format!("annotation {annotation} cannot be changed"),
        "reason": "Forbidden",
    })
}

/// Refuses that a node keeps an importer or exporter Pod, and with it the right to read Secrets, by a finalizer of its own.
fn reader_goes() -> Value {
    json!({
        "expression": format!(
            "object.metadata.?labels[?'{IMPORT_LABEL}'].orValue('') == '' && \
             object.metadata.?labels[?'{EXPORT_LABEL}'].orValue('') == '' || \
             object.metadata.?finalizers.orValue([]).size() == 0"
        ),
        "message": "an importer or exporter Pod has no finalizers: it goes as soon as its work is over",
        "reason": "Forbidden",
    })
}

/// Refuses that somebody else changes the spec of an instance: the controller adds and removes hotpluggable volumes.
fn spec_stays() -> Value {
    json!({
        "expression": format!(
            "request.userInfo.username == '{CONTROLLER_USER}' || object.spec == oldObject.spec"
        ),
        "message": "an instance cannot be changed, except by virtctl addvolume and removevolume; change the \
                    VirtualMachine and restart it",
        "reason": "Forbidden",
    })
}

/// The policy on instances.
pub fn instances() -> Value {
    refusing(
        INSTANCES,
        &[writes(&["UPDATE"], "kubevirt.io", &["virtualmachineinstances", "virtualmachineinstances/status"])],
        json!({
            "variables": [trusted()],
            "validations": [
                unchanged("ownerReferences", "[]"),
                unchanged("finalizers", "[]"),
                unchanged_of_ours("labels", "k.startsWith('kubevirt.io') || k.startsWith('vm.kubevirt.io/')"),
                unchanged_of_ours("annotations", &format!("k == '{OWN_VOLUMES_ANNOTATION}'")),
                spec_stays(),
            ],
        }),
    )
}

/// The policy on Pods.
pub fn policy() -> Value {
    refusing(
        NAME,
        &[writes(&["CREATE", "UPDATE"], "", &["pods", "pods/status", "pods/resize"])],
        json!({
            "matchConditions": [{
                "name": "runs-a-vm",
                "expression": format!("object.spec.?runtimeClassName.orValue('') == '{RUNTIME_CLASS}'"),
            }],
            "variables": [trusted()],
            "validations": [
                {
                    "expression": format!(
                        "request.operation != 'CREATE' || request.userInfo.username == '{CONTROLLER_USER}'"
                    ),
                    "message": format!(
                        "runtimeClassName {RUNTIME_CLASS} is for the Pods that {CONTROLLER_USER} makes; \
                         create a VirtualMachine instead"
                    ),
                    "reason": "Forbidden",
                },
                no_resize(),
                constant(VMI_ANNOTATION),
                constant(ATTACHMENT_ANNOTATION),
                unchanged("labels", "{}"),
                unchanged("ownerReferences", "[]"),
                unchanged("finalizers", "[]"),
                unchanged_of_ours("annotations", "k.startsWith('sheaf.dev/')"),
                reader_goes(),
            ],
        }),
    )
}
