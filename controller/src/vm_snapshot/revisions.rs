//! The ControllerRevisions by which a VM has its instancetype and its preference, kept in a snapshot and made again.
//!
//! Why here: they are deleted with their VM, and what they were made of may have changed: a VM that is restored has the size that
//! it had. They are kept in the content itself, which is one object, and one step. Pure. Route in: VMs, ControllerRevisions. Route
//! out: what is kept; ControllerRevisions of another VM.

use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{apis::meta::v1::OwnerReference, runtime::RawExtension},
};
use kube::api::ObjectMeta;
use sheaf_api::{
    VirtualMachine,
    instancetype::{Matcher, StatusRef},
    vm::VirtualMachineSpec,
    vm_snapshot::content::{RevisionOf, SavedMachine, SavedRevision},
};

/// Both, of a spec.
fn matcher(spec: &VirtualMachineSpec, of: RevisionOf) -> Option<&Matcher> {
    match of {
        RevisionOf::Instancetype => spec.instancetype.as_ref(),
        RevisionOf::Preference => spec.preference.as_ref(),
    }
}

/// The two that a VM has, with the names of their ControllerRevisions: what is to be read.
pub fn named(vm: &VirtualMachine) -> Vec<(RevisionOf, StatusRef)> {
    let status = vm.status.clone().unwrap_or_default();
    let both = [
        (RevisionOf::Instancetype, status.instancetype_ref),
        (RevisionOf::Preference, status.preference_ref),
    ];
    let known = |(of, known): (RevisionOf, Option<StatusRef>)| {
        Some((of, known.filter(|known| known.revision().is_some())?))
    };
    both.into_iter().filter_map(known).collect()
}

/// What is kept of `revision`, to which `known` refers.
pub fn saved(of: RevisionOf, known: &StatusRef, revision: &ControllerRevision) -> Option<SavedRevision> {
    Some(SavedRevision {
        of,
        name: known.name.clone()?,
        kind: known.kind.clone()?,
        revision_name: revision.metadata.name.clone()?,
        labels: revision.metadata.labels.clone().unwrap_or_default(),
        data: revision.data.0.clone(),
    })
}

/// Whether `spec` means what `saved` holds: it may be older than the VM's status.
pub fn is_of(spec: &VirtualMachineSpec, saved: &SavedRevision) -> bool {
    matcher(spec, saved.of).is_some_and(|matcher| {
        let same = matcher.name.as_ref() == Some(&saved.name)
            && matcher.kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(&saved.kind));
        let inferred = matcher.infer_from_volume.is_some();
        let revision = matcher.revision_name.as_ref().is_none_or(|name| *name == saved.revision_name);
        (same || inferred) && revision
    })
}

/// Makes `spec`, which is to be the VM `target`, name them as they were.
pub fn name_them(machine: &SavedMachine, target: &str, spec: &mut VirtualMachineSpec) {
    for saved in &machine.revisions {
        let named = Matcher {
            name: Some(saved.name.clone()),
            kind: Some(saved.kind.clone()),
            revision_name: Some(name(machine, saved, target)),
            ..Matcher::default()
        };
        match saved.of {
            RevisionOf::Instancetype => spec.instancetype = Some(named),
            RevisionOf::Preference => spec.preference = Some(named),
        }
    }
}

/// Those of the VM `target`, which `owner` is.
pub fn of_target(
    machine: &SavedMachine,
    namespace: Option<&str>,
    target: &str,
    owner: Option<&OwnerReference>,
) -> Vec<ControllerRevision> {
    let one = |saved: &SavedRevision| ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name(machine, saved, target)),
            namespace: namespace.map(str::to_owned),
            labels: Some(saved.labels.clone()),
            owner_references: owner.map(|owner| vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        data: RawExtension(saved.data.clone()),
        revision: Some(1),
    };
    machine.revisions.iter().map(one).collect()
}

/// A revision has its VM's name before the rest ([`crate::instancetype::find`]), which says what is in it.
fn name(machine: &SavedMachine, saved: &SavedRevision, target: &str) -> String {
    let of = format!("{}-", machine.metadata.name.as_deref().unwrap_or_default());
    match saved.revision_name.strip_prefix(&of) {
        Some(rest) => format!("{target}-{rest}"),
        None => saved.revision_name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn vm(instancetype: Value) -> VirtualMachine {
        let known = |name: &str, kind: &str| json!({"name": name, "kind": kind, "controllerRevisionRef": {"name": format!("web-{name}-u-3")}});
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web"},
            "spec": {"runStrategy": "Halted", "instancetype": instancetype, "template": {"spec": {"domain": {"devices": {}}}}},
            "status": {"instancetypeRef": known("u1.small", "VirtualMachineClusterInstancetype"),
                       "preferenceRef": {"name": "debian"}},
        }))
        .unwrap()
    }

    fn revision() -> ControllerRevision {
        ControllerRevision {
            metadata: ObjectMeta { name: Some("web-u1.small-u-3".into()), ..ObjectMeta::default() },
            data: RawExtension(json!({"spec": {"cpu": {"guest": 1}}})),
            revision: Some(1),
        }
    }

    #[test]
    fn what_a_vm_was_made_with_is_kept_and_made_again_for_another_vm() {
        let web = vm(json!({"name": "u1.small"}));
        let named = named(&web);
        assert_eq!(named.len(), 1, "a preference without a revision was never used");
        let saved = saved(named[0].0, &named[0].1, &revision()).unwrap();
        assert!(is_of(&web.spec, &saved));
        let machine = SavedMachine {
            metadata: web.metadata.clone(),
            spec: web.spec.clone(),
            revisions: vec![saved.clone()],
        };
        let mut spec = web.spec.clone();
        name_them(&machine, "copy", &mut spec);
        let matcher = spec.instancetype.unwrap();
        assert_eq!(matcher.revision_name.as_deref(), Some("copy-u1.small-u-3"));
        assert_eq!(matcher.kind.as_deref(), Some("VirtualMachineClusterInstancetype"));
        let made = of_target(&machine, Some("shop"), "copy", None);
        assert_eq!(made[0].metadata.name, matcher.revision_name);
        assert_eq!(made[0].data.0, saved.data);
        let same = of_target(&machine, Some("shop"), "web", None);
        assert_eq!(same[0].metadata.name.as_deref(), Some("web-u1.small-u-3"));
    }

    #[test]
    fn a_revision_of_what_the_spec_does_not_name_is_not_kept() {
        let small = saved(RevisionOf::Instancetype, &named(&vm(json!(null)))[0].1, &revision()).unwrap();
        for (matcher, kept) in [
            (json!({"name": "u1.small"}), true),
            (json!({"name": "u1.small", "kind": "virtualmachineclusterinstancetype"}), true),
            (json!({"inferFromVolume": "root"}), true),
            (json!({"name": "u1.small", "revisionName": "web-u1.small-u-3"}), true),
            (json!({"name": "u1.small", "revisionName": "web-u1.small-u-2"}), false),
            (json!({"name": "u1.large"}), false),
            (json!({"name": "u1.small", "kind": "VirtualMachineInstancetype"}), false),
            (json!(null), false),
        ] {
            assert_eq!(is_of(&vm(matcher.clone()).spec, &small), kept, "{matcher}");
        }
    }
}
