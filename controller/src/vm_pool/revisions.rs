//! The templates that a pool had: one ControllerRevision each, by which outdated VMs and instances are known.
//!
//! Why here: pure; a VM is outdated if its revision holds another template than the pool, not if the pool changed in another
//! way, for example its number of replicas. Route in: the ControllerRevisions of the namespace. Route out: [`Revisions`].

use k8s_openapi::{api::apps::v1::ControllerRevision, apimachinery::pkg::runtime::RawExtension};
use kube::{Resource, api::ObjectMeta};
use serde_json::json;
use sheaf_api::vm_pool::{REVISION_LABEL, VirtualMachinePool, VirtualMachineTemplate};

use crate::replicas::owns;

/// The revisions of one pool.
pub struct Revisions<'a> {
    pool: &'a VirtualMachinePool,
    known: Vec<(&'a ControllerRevision, Option<VirtualMachineTemplate>)>,
}

impl<'a> Revisions<'a> {
    /// Those of `all` that `pool` owns.
    pub fn of(pool: &'a VirtualMachinePool, all: &'a [ControllerRevision]) -> Self {
        let own = all.iter().filter(|revision| owns(pool.metadata.uid.as_deref(), *revision));
        let template = |revision: &ControllerRevision| {
            let template = revision.data.0.get("virtualMachineTemplate")?.clone();
            serde_json::from_value(template).ok()
        };
        Self { pool, known: own.map(|revision| (revision, template(revision))).collect() }
    }

    /// The template of the revision that `object`, a VM or an instance, names.
    pub fn named_by<K: Resource>(&self, object: &K) -> Option<&VirtualMachineTemplate> {
        let named = object.meta().labels.as_ref()?.get(REVISION_LABEL)?;
        let found = self.known.iter().find(|(revision, _)| revision.metadata.name.as_ref() == Some(named));
        found?.1.as_ref()
    }

    /// Name of the newest that holds the pool's template.
    pub fn current(&self) -> Option<&str> {
        let same = self.known.iter().filter(|(_, template)| {
            template.as_ref().is_some_and(|template| *template == self.pool.spec.virtual_machine_template)
        });
        same.max_by_key(|(revision, _)| revision.revision)?.0.metadata.name.as_deref()
    }

    /// The revision to create when there is no current one.
    pub fn made(&self) -> ControllerRevision {
        let generation = self.pool.metadata.generation.unwrap_or(1);
        let name = self.pool.metadata.name.as_deref().unwrap_or_default();
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{name}-{generation}")),
                namespace: self.pool.metadata.namespace.clone(),
                owner_references: self.pool.controller_owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            data: RawExtension(json!(self.pool.spec)),
            revision: Some(generation),
        }
    }

    /// Those that are neither current nor among the names `used`.
    pub fn unused(&self, used: &[&str]) -> impl Iterator<Item = &ControllerRevision> {
        let current = self.current();
        self.known.iter().map(|(revision, _)| *revision).filter(move |revision| {
            let name = revision.metadata.name.as_deref().unwrap_or_default();
            Some(name) != current && !used.contains(&name)
        })
    }
}
