//! Puts a VM together of its template, its instancetype and its preference.
//!
//! Why here: KubeVirt's order and meaning: the instancetype gives CPU and memory and conflicts with a template that sets them
//! too ([`apply`]); then the preference fills in what is still open ([`prefer`]). Both are kept as ControllerRevisions when a VM
//! first names them ([`find`]), so that a later change of an instancetype changes no VM. Route in: a VM. Route out: [`Sized`].

use kube::Client;
use serde::de::DeserializeOwned;
use sheaf_api::{
    VirtualMachine,
    instancetype::{
        DEFAULT_INSTANCETYPE_KIND_LABEL, DEFAULT_INSTANCETYPE_LABEL, DEFAULT_PREFERENCE_KIND_LABEL,
        DEFAULT_PREFERENCE_LABEL, INSTANCETYPES, Matcher, PREFERENCES, StatusRef,
        VirtualMachineInstancetypeSpec, VirtualMachinePreferenceSpec,
    },
    vm::{TemplateMetadata, VirtualMachineSpec},
};

use crate::object::RequestError;
use find::{Found, Wanted};

pub mod apply;
pub mod common;
pub mod find;
pub mod prefer;

/// A VM with its instancetype and preference put in.
#[derive(Clone, Debug, PartialEq)]
pub struct Sized {
    /// The VM as it would be without them; as it was read when something is wrong.
    pub vm: VirtualMachine,
    /// Its spec as it was written.
    pub written: VirtualMachineSpec,
    /// What it named, for its status.
    pub instancetype: Option<StatusRef>,
    /// What it named, for its status.
    pub preference: Option<StatusRef>,
    /// Revisions that are still to be created.
    pub revisions: Vec<k8s_openapi::api::apps::v1::ControllerRevision>,
    /// Why it cannot be put together.
    pub problem: Option<Problem>,
}

/// Why a VM cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In one CamelCase word.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
}

impl Sized {
    /// A VM that names neither.
    pub fn plain(vm: &VirtualMachine) -> Self {
        Self {
            vm: vm.clone(),
            written: vm.spec.clone(),
            instancetype: None,
            preference: None,
            revisions: Vec::new(),
            problem: None,
        }
    }

    fn wrong(vm: &VirtualMachine, problem: Problem) -> Self {
        // What was recorded stays.
        let status = vm.status.clone().unwrap_or_default();
        Self {
            instancetype: status.instancetype_ref,
            preference: status.preference_ref,
            problem: Some(problem),
            ..Self::plain(vm)
        }
    }
}

/// Reads what the VM names and puts it in.
pub async fn expand(client: &Client, vm: &VirtualMachine) -> Result<Sized, RequestError> {
    if vm.spec.instancetype.is_none() && vm.spec.preference.is_none() {
        return Ok(Sized::plain(vm));
    }
    let status = vm.status.clone().unwrap_or_default();
    let instancetype = Wanted {
        kinds: &INSTANCETYPES,
        label: DEFAULT_INSTANCETYPE_LABEL,
        kind_label: DEFAULT_INSTANCETYPE_KIND_LABEL,
        reason: "FailedFindInstancetype",
    };
    let preference = Wanted {
        kinds: &PREFERENCES,
        label: DEFAULT_PREFERENCE_LABEL,
        kind_label: DEFAULT_PREFERENCE_KIND_LABEL,
        reason: "FailedFindPreference",
    };
    let instancetype =
        of(client, vm, vm.spec.instancetype.as_ref(), status.instancetype_ref.as_ref(), instancetype).await?;
    let instancetype = match instancetype {
        Ok(found) => found,
        Err(problem) => return Ok(Sized::wrong(vm, problem)),
    };
    let preference =
        of(client, vm, vm.spec.preference.as_ref(), status.preference_ref.as_ref(), preference).await?;
    let preference = match preference {
        Ok(found) => found,
        Err(problem) => return Ok(Sized::wrong(vm, problem)),
    };
    Ok(together(vm, instancetype, preference))
}

async fn of<S: DeserializeOwned>(
    client: &Client,
    vm: &VirtualMachine,
    matcher: Option<&Matcher>,
    before: Option<&StatusRef>,
    wanted: Wanted,
) -> Result<Result<Found<S>, Problem>, RequestError> {
    match matcher {
        Some(matcher) => find::find(client, vm, matcher, before, wanted).await,
        None => Ok(Ok(Found::default())),
    }
}

/// Puts together what was read. Pure.
pub fn together(
    vm: &VirtualMachine,
    instancetype: Found<VirtualMachineInstancetypeSpec>,
    preference: Found<VirtualMachinePreferenceSpec>,
) -> Sized {
    let mut expanded = vm.clone();
    let template = &mut expanded.spec.template;
    if let Some(of) = &instancetype.spec {
        // virtctl sets memory in case that nothing can be inferred; what was inferred counts.
        if vm
            .spec
            .instancetype
            .as_ref()
            .is_some_and(|matcher| matcher.infer_from_volume.is_some() && matcher.ignores_failure())
        {
            template.spec.domain.memory = None;
        }
        let mut metadata = template.metadata.clone().unwrap_or_default();
        let conflicts = apply::apply(of, preference.spec.as_ref(), &mut template.spec, &mut metadata);
        if !conflicts.is_empty() {
            let message = format!(
                "VM field(s) {} conflicts with selected instance type; remove the field(s) from the VM",
                conflicts.join(", ")
            );
            return Sized::wrong(vm, Problem { reason: "VMFieldsConflict", message });
        }
        template.metadata = (metadata != TemplateMetadata::default()).then_some(metadata);
        let cpus = template.spec.domain.cpu.as_ref().map_or(0, sheaf_api::domain::Cpu::count);
        if cpus != of.cpu.guest {
            let message = format!(
                "the preference spreads {} vCPUs in a way that leaves some over; change its cpu.spreadOptions or take another instancetype",
                of.cpu.guest
            );
            return Sized::wrong(vm, Problem { reason: "PreferenceRequirementsNotMet", message });
        }
    }
    if let Some(of) = &preference.spec {
        if let Err(message) = prefer::meets(of, &template.spec) {
            return Sized::wrong(vm, Problem { reason: "PreferenceRequirementsNotMet", message });
        }
        let mut metadata = template.metadata.clone().unwrap_or_default();
        prefer::prefer(of, &mut template.spec, &mut metadata);
        template.metadata = (metadata != TemplateMetadata::default()).then_some(metadata);
    }
    let Found { status: of_instancetype, revision: first, .. } = instancetype;
    let Found { status: of_preference, revision: second, .. } = preference;
    Sized {
        vm: expanded,
        written: vm.spec.clone(),
        instancetype: of_instancetype,
        preference: of_preference,
        revisions: first.into_iter().chain(second).collect(),
        problem: None,
    }
}

/// The VM as a user sees it who asks for it without its instancetype and preference: KubeVirt's `expand-spec`.
pub fn shown(sized: &Sized) -> Result<VirtualMachine, String> {
    if let Some(problem) = &sized.problem {
        return Err(problem.message.clone());
    }
    let mut vm = sized.vm.clone();
    (vm.spec.instancetype, vm.spec.preference) = (None, None);
    Ok(vm)
}

#[cfg(test)]
mod tests;
