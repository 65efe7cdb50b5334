//! A VM of this node that runs, found by the UID of its VMI.
//!
//! Why here: its record says which domain it is and whose; libvirt need not be asked. Route in: a UID. Route out: a [`Vm`],
//! or 404.

use super::answer::Refusal;
use super::routes::Container;
use super::serve::State;
use crate::reconcile::blocking;
use crate::vms::guest::Folder;
use crate::vms::record::{self, Record};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::names::CREATED_BY_LABEL;
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

/// The VM behind a container of a Pod; refusals as a kubelet words them.
pub async fn of_container<V: VmHost>(state: &State<V>, of: &Container) -> Result<Vm, Refusal> {
    let Container { namespace, pod: name, container } = of;
    let missing = || Refusal::new(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
    let pod = pod(state, namespace, name).ok_or_else(missing)?;
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    if !containers.iter().any(|one| one.name == *container) {
        let text = format!("container {container:?} not found in pod {name:?}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    }
    let uid = vmi_of(&pod).ok_or_else(missing)?;
    find(state, uid).await.map_err(|_| {
        let text = format!("container {container:?} in pod {name:?} is waiting to start: ContainerCreating");
        Refusal::new(StatusCode::BAD_REQUEST, text)
    })
}

/// The VM behind a Pod.
pub async fn of_pod<V: VmHost>(state: &State<V>, namespace: &str, name: &str) -> Result<Vm, Refusal> {
    let missing = || Refusal::new(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
    let pod = pod(state, namespace, name).ok_or_else(missing)?;
    let uid = vmi_of(&pod).ok_or_else(missing)?;
    find(state, uid).await.map_err(|_| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("pod {name:?} is not running: its VM has not started"))
    })
}

/// UID of the VMI that a Pod holds the place of.
fn vmi_of(pod: &Pod) -> Option<&String> {
    pod.metadata.labels.as_ref()?.get(CREATED_BY_LABEL)
}

fn pod<V: VmHost>(state: &State<V>, namespace: &str, name: &str) -> Option<Arc<Pod>> {
    let listed = state.pods.borrow();
    let is = |pod: &&Arc<Pod>| {
        pod.metadata.name.as_deref() == Some(name) && pod.metadata.namespace.as_deref() == Some(namespace)
    };
    listed.objects.values().find(is).cloned()
}
