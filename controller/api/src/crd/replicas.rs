//! The definitions of what keeps several machines of one template: replica sets of instances, and pools of VMs.
//!
//! Why here: their templates are an instance's spec and a VM's at greater depth, with the same rules, and rules of their own
//! about what several cannot share. Route in: types and rules. Route out: what the controller applies at its start.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{CrdError, SCHEMA, add_rules, at, hardware_rules, refuse, rule::Rule, rules, tidy};
use crate::{
    cdi,
    replica_set::{self, VirtualMachineInstanceReplicaSet},
    selector,
    vm_pool::{self, VirtualMachinePool},
};

/// Both of them.
pub fn all() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    let instance = "spec.template.spec";
    let set: &[(&str, &[Rule])] = &[
        ("spec", replica_set::RULES),
        (instance, replica_set::INSTANCE),
        (instance, selector::REPLICA),
        (instance, rules::INSTANCE),
        (instance, hardware_rules::HARDWARE),
        (instance, rules::MEMORY),
    ];
    let instance = "spec.virtualMachineTemplate.spec.template.spec";
    let pool: &[(&str, &[Rule])] = &[
        ("", vm_pool::rules::POOL),
        ("spec", vm_pool::rules::SELECTOR),
        ("spec", vm_pool::rules::SPEC),
        ("spec.virtualMachineTemplate.spec", rules::MACHINE),
        ("spec.virtualMachineTemplate.spec.instancetype", rules::MATCHER),
        ("spec.virtualMachineTemplate.spec.preference", rules::MATCHER),
        ("spec.virtualMachineTemplate.spec.dataVolumeTemplates[].spec", cdi::rules::SPEC),
        (instance, selector::REPLICA),
        (instance, rules::INSTANCE),
        (instance, hardware_rules::HARDWARE),
    ];
    let (of_set, of_pool) = (VirtualMachineInstanceReplicaSet::crd(), VirtualMachinePool::crd());
    Ok(vec![
        finish("VirtualMachineInstanceReplicaSet", of_set, "VirtualMachineInstanceReplicaSetSpec", set)?,
        finish("VirtualMachinePool", of_pool, "pool.VirtualMachinePoolSpec", pool)?,
    ])
}

/// Adds to a derived definition what the types cannot say; `fact` is KubeVirt's type of the spec.
fn finish(
    kind: &'static str,
    derived: CustomResourceDefinition,
    fact: &str,
    tables: &[(&str, &[Rule])],
) -> Result<CustomResourceDefinition, CrdError> {
    let mut crd = serde_json::to_value(derived)?;
    let missing = |path: &str| CrdError::NoSuchPath { kind, path: path.into() };
    let schema = crd.pointer_mut(SCHEMA).ok_or_else(|| missing("spec.versions[0].schema"))?;
    tidy::tidy(schema);
    refuse::unsupported(at(schema, "spec").ok_or_else(|| missing("spec"))?, fact);
    for (root, table) in tables {
        add_rules(kind, at(schema, root).ok_or_else(|| missing(root))?, table)?;
    }
    Ok(serde_json::from_value(crd)?)
}
