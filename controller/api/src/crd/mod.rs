//! The CustomResourceDefinitions, made from the Rust types: VMs and instances here, Sheaf's own in [`own`], instancetypes, CDI's
//! kinds and the snapshots' in [`borrowed`], replica sets and pools in [`replicas`].
//!
//! Why here: the API server is the one place that every client passes, so it must refuse what Sheaf does not do.
//! It drops in silence what a schema does not know; hence the schema is made in three steps: the types
//! ([`tidy`]), every other field of KubeVirt's, each with a rule that refuses it by name ([`refuse`]), and the
//! rules between fields ([`rules`], [`volume_rules`], [`hardware_rules`], [`hotplug_rules`]). Route in: the types and `facts/kubevirt-v1.txt`. Route
//! out: what the controller applies at its start; `crds/*.json` is the same for people to read.

mod borrowed;
mod hardware_rules;
mod hotplug_rules;
mod own;
mod refusals;
mod refuse;
mod replicas;
pub(crate) mod rule;
mod rules;
mod tidy;
mod volume_rules;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::{cdi, vm::VirtualMachine, vmi::VirtualMachineInstance};

/// Where a definition has its schema.
const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";

/// Why the definitions could not be made: the types and the tables of this module disagree.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// A table names a path that the schema does not have.
    #[error(
        "crd: the schema of {kind} has no {path}; the tables in controller/api/src/crd disagree with the types"
    )]
    NoSuchPath {
        /// Kind of the definition.
        kind: &'static str,
        /// Path in the schema.
        path: String,
    },
    /// The types gave something that is not a definition.
    #[error("crd: {0}")]
    Shape(#[from] serde_json::Error),
}

/// All definitions, in the order in which they are to be applied.
pub fn all() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    let mut all = own::all()?;
    all.push(finish("VirtualMachineInstance", VirtualMachineInstance::crd())?);
    all.push(finish("VirtualMachine", VirtualMachine::crd())?);
    all.extend(borrowed::all()?);
    all.extend(replicas::all()?);
    Ok(all)
}

/// Adds to a derived definition what the types cannot say.
fn finish(
    kind: &'static str,
    derived: CustomResourceDefinition,
) -> Result<CustomResourceDefinition, CrdError> {
    let mut crd = serde_json::to_value(derived)?;
    let schema = crd
        .pointer_mut(SCHEMA)
        .ok_or(CrdError::NoSuchPath { kind, path: "spec.versions[0].schema".into() })?;
    tidy::tidy(schema);
    // The instance's spec lies at different depths; everything said about it is said once.
    let (root_fact, instance) = match kind {
        "VirtualMachine" => ("VirtualMachineSpec", "spec.template.spec"),
        _ => ("VirtualMachineInstanceSpec", "spec"),
    };
    let missing = |path: String| CrdError::NoSuchPath { kind, path };
    refuse::unsupported(at(schema, "spec").ok_or_else(|| missing("spec".into()))?, root_fact);
    let mut tables = vec![
        ("", rules::NAME),
        (instance, rules::INSTANCE),
        (instance, volume_rules::VOLUMES),
        (instance, hardware_rules::HARDWARE),
        (instance, hotplug_rules::HOTPLUG),
    ];
    match kind {
        "VirtualMachine" => {
            tables.push(("spec", rules::MACHINE));
            tables.push(("spec.instancetype", rules::MATCHER));
            tables.push(("spec.preference", rules::MATCHER));
            tables.push(("spec.dataVolumeTemplates[].spec", cdi::rules::SPEC));
        }
        _ => tables.push((instance, rules::MEMORY)),
    }
    for (root, table) in tables {
        let root = at(schema, root).ok_or_else(|| missing(root.into()))?;
        add_rules(kind, root, table)?;
    }
    Ok(serde_json::from_value(crd)?)
}

/// Adds the rules of `table` to the schema `root`, of a kind called `kind`.
fn add_rules(kind: &'static str, root: &mut Value, table: &[rule::Rule]) -> Result<(), CrdError> {
    for rule in table {
        let place = at(root, rule.at).ok_or_else(|| CrdError::NoSuchPath { kind, path: rule.at.into() })?;
        rule.add_to(place);
    }
    Ok(())
}

/// The schema at a dotted path below `schema`; `[]` after a name means the items of that list.
fn at<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').filter(|name| !name.is_empty()).try_fold(schema, |schema, name| {
        let (name, items) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
        let property = schema.get_mut("properties")?.get_mut(name)?;
        if items { property.get_mut("items") } else { Some(property) }
    })
}
