//! A VM of this node that runs, found by the UID of its VMI.
//!
//! Why here: its record says which domain it is and whose; libvirt need not be asked. Route in: a UID. Route out: a [`Vm`],
//! or 404.

use super::answer::Refusal;
use super::serve::State;
use crate::reconcile::blocking;
use crate::vms::guest::Folder;
use crate::vms::record::{self, Record};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use sheaf_host::libvirt::VmHost;
use std::sync::Arc;

/// A VM of this node.
#[derive(Clone, Debug)]
pub struct Vm {
    /// What the node remembers of it.
    pub record: Record,
    /// Its folder.
    pub folder: Folder,
    /// UUID of its domain.
    pub uuid: String,
    /// Its Pod, once it is listed.
    pub pod: Option<Arc<Pod>>,
}

impl Vm {
    /// `namespace/name`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.record.namespace, self.record.vmi)
    }
}

/// Finds it; its domain was started, which does not say that it still runs.
pub async fn find<V: VmHost>(state: &State<V>, uid: &str) -> Result<Vm, Refusal> {
    let folder = Folder::of(&state.vms_dir(), uid);
    let read = folder.clone();
    let gone = || Refusal::new(StatusCode::NOT_FOUND, format!("no VM of VMI {uid} is on this node"));
    let record = blocking(move || Ok(record::read(&read)?)).await.map_err(|_| gone())?;
    let started = record.started.clone().filter(|_| record.vmi_uid == uid).ok_or_else(gone)?;
    let pod = state.pods.borrow().objects.get(&record.pod_uid).cloned();
    Ok(Vm { folder, uuid: started.uuid, pod, record })
}
