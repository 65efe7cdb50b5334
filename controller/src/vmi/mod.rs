//! Controller of instances: from VirtualMachineInstance to placeholder Pod and back to its status.
//!
//! Reads: instances, NetworkAttachmentDefinitions, the ClusterConfig, Nodes, claims, and Pods (read from the API server for each
//! decision: a stale list could start a VM twice). Owns: placeholder Pods, attachment Pods, status and finalizer of instances. Never
//! touches: Pod status, which is the node's. Route in: watches. Route out: [`plan`], applied step by step.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Node, PersistentVolumeClaim, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{
        Controller,
        controller::Action as Requeue,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde_json::json;
use sheaf_api::{
    ClusterConfig, VirtualMachineInstance,
    attachment::{Attachment, NicAttachment},
    cluster_config,
    names::{
        APP_LABEL, DETACH_ANNOTATION, HOTPLUG_DISK, HOTPLUG_NIC, LAUNCHER, LINKS_ANNOTATION, NODE_NAME_LABEL,
        SIZE_ANNOTATION, TRUE, VM_NAME_LABEL, VMI_FINALIZER,
    },
    vmi::VirtualMachineInstanceSpec,
};

use crate::{
    events::Event,
    macs,
    networks::{self, Networks},
    object::{
        Context, RequestError, add_finalizer, doing, drive, ok_if_exists, ok_if_gone, remove_finalizer,
        write_status,
    },
    placeholder::{self, end, images},
};
use plan::Action;

mod attachments;
#[cfg(test)]
mod never_twice;
mod nics;
pub mod plan;
mod size;
mod volume_status;
pub mod volumes;

/// Why a reconciliation stopped; it is retried.
#[derive(Debug, thiserror::Error)]
pub enum VmiError {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The API server refused the Pod: a quota, a missing PriorityClass.
    #[error("creating the Pod was refused: {0}")]
    Refused(String),
    /// The API server refused to resize the Pod: a quota, a node that is too small.
    #[error("resizing the Pod was refused: {0}")]
    ResizeRefused(String),
    /// The Pod could not be serialized.
    #[error("composing the Pod")]
    Pod(#[from] serde_json::Error),
}

/// Runs until dropped.
pub async fn run(client: Client) {
    let config = watcher::Config::default;
    let launchers = config().labels(&format!("{APP_LABEL}={LAUNCHER}"));
    let controller = Controller::new(Api::<VirtualMachineInstance>::all(client.clone()), config())
        .owns(Api::<Pod>::all(client.clone()), launchers);
    let instances = controller.store();
    let macs = Arc::new(macs::Index::new(instances.clone()));
    let attachments = config().labels(&format!("{APP_LABEL} in ({HOTPLUG_DISK},{HOTPLUG_NIC})"));
    let controller = controller
        .watches(Api::<Node>::all(client.clone()), config(), move |node| on(&instances, &node))
        .watches(Api::<Pod>::all(client.clone()), attachments, |pod| instance_of(&pod));
    let reconcile = move |vmi, context| reconcile(vmi, context, macs.clone());
    drive(controller, Arc::new(Context::new(client)), "instance", reconcile).await;
}

/// The instance that an attachment Pod is of.
fn instance_of(pod: &Pod) -> Option<ObjectRef<VirtualMachineInstance>> {
    let namespace = pod.metadata.namespace.as_deref()?;
    let of_disk = Attachment::of(pod).map(|attachment| attachment.vmi);
    let vmi = of_disk.or_else(|| Some(NicAttachment::of(pod)?.vmi))?;
    Some(ObjectRef::new(&vmi).within(namespace))
}

/// The instances that a change of `node` is of interest to: those on it, if it is out of service.
fn on(instances: &Store<VirtualMachineInstance>, node: &Node) -> Vec<ObjectRef<VirtualMachineInstance>> {
    if !end::is_out_of_service(node) {
        return Vec::new();
    }
    let here = |vmi: &Arc<VirtualMachineInstance>| {
        let name = vmi.status.as_ref().and_then(|status| status.node_name.as_ref());
        name.is_some() && name == node.metadata.name.as_ref()
    };
    instances.state().into_iter().filter(here).map(|vmi| ObjectRef::from_obj(&*vmi)).collect()
}

async fn reconcile(
    seen: Arc<VirtualMachineInstance>,
    context: Arc<Context>,
    macs: Arc<macs::Index>,
) -> Result<Requeue, VmiError> {
    let client = &context.client;
    let namespace = seen.metadata.namespace.clone().unwrap_or_default();
    let name = seen.metadata.name.clone().unwrap_or_default();
    let instances: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    // Fresh, not from the watch: a decision on old news could start a VM twice.
    let Some(vmi) = instances.get_opt(&name).await.map_err(doing("reading the instance"))? else {
        return Ok(Requeue::await_change());
    };
    let (pod, earlier) = runs(client, &pods, &vmi).await?;
    let node = match &pod {
        Some(pod) => end::node(client, pod).await?,
        None => None,
    };
    let wants_pod = plan::wants_pod(&vmi, pod.as_ref());
    let networks = match wants_pod {
        true => networks::of(client, &vmi, &macs).await?,
        false => Ok(Networks::default()),
    };
    let config = match wants_pod || size::may_change(&vmi, pod.as_ref()) {
        true => {
            let configs: Api<ClusterConfig> = Api::all(client.clone());
            configs.get_opt(cluster_config::NAME).await.map_err(doing("reading the ClusterConfig"))?
        }
        false => None,
    };
    let images = match wants_pod {
        true => sizes(client, &namespace, &vmi.spec).await?,
        false => images::Sizes::default(),
    };
    let volumes = volumes::observe(client, &vmi, wants_pod).await?;
    let nics = nics::observe(client, &vmi, pod.as_ref(), &macs).await?;
    let observed = plan::Observed {
        vmi: &vmi,
        pod: pod.as_ref(),
        node: node.as_ref(),
        earlier: &earlier,
        networks: &networks,
        config: &config.map(|config| config.spec).unwrap_or_default(),
        images: &images,
        volumes: &volumes,
        nics: &nics,
    };
    let plan = plan::plan(&observed, Timestamp::now())?;
    match apply(&context, &instances, &pods, &vmi, &plan.actions).await {
        Err(VmiError::Refused(message)) => {
            let plan = plan::refused(&vmi, "FailedCreate", &message, Timestamp::now());
            apply(&context, &instances, &pods, &vmi, &plan.actions).await?;
            Err(VmiError::Refused(message))
        }
        Err(VmiError::ResizeRefused(message)) => {
            if let Some(status) = size::refused(&vmi, &message, Timestamp::now()) {
                write_status(&instances, &vmi, vmi.status.as_ref(), &status).await?;
            }
            Err(VmiError::ResizeRefused(message))
        }
        result => result.map(|()| plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue)),
    }
}

/// How large what is below the overlays of a VM is.
async fn sizes(
    client: &Client,
    namespace: &str,
    spec: &VirtualMachineInstanceSpec,
) -> Result<images::Sizes, RequestError> {
    let mut sizes = images::Sizes::default();
    if images::are_used(spec) {
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
        sizes.images =
            images::sizes(&nodes.map_err(doing("listing Nodes for the sizes of their images"))?.items);
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    for name in images::claims(spec) {
        let claim = claims.get_opt(name).await.map_err(doing("reading a claim for its size"))?;
        let bytes = claim.as_ref().and_then(images::claim_bytes);
        sizes.claims.extend(bytes.map(|bytes| (name.to_owned(), bytes)));
    }
    Ok(sizes)
}

/// The Pod that has the name of the instance's, and those of earlier instances of its name, each with its Node.
async fn runs(
    client: &Client,
    pods: &Api<Pod>,
    vmi: &VirtualMachineInstance,
) -> Result<(Option<Pod>, Vec<(Pod, Option<Node>)>), RequestError> {
    let own = placeholder::name(vmi);
    let of_vm = format!(
        "{APP_LABEL}={LAUNCHER},{VM_NAME_LABEL}={}",
        vmi.metadata.name.as_deref().unwrap_or_default()
    );
    let listed = pods.list(&ListParams::default().labels(&of_vm)).await.map_err(doing("listing its Pods"))?;
    let (mut mine, others): (Vec<Pod>, Vec<Pod>) =
        listed.items.into_iter().partition(|pod| pod.metadata.name.as_deref() == Some(&own));
    let pod = match mine.pop() {
        Some(pod) => Some(pod),
        // By name, too: labels can be changed.
        None => pods.get_opt(&own).await.map_err(doing("reading its Pod"))?,
    };
    let mut earlier = Vec::new();
    for pod in others.into_iter().filter(plan::runs_a_vm) {
        let node = end::node(client, &pod).await?;
        earlier.push((pod, node));
    }
    Ok((pod, earlier))
}

async fn apply(
    context: &Context,
    instances: &Api<VirtualMachineInstance>,
    pods: &Api<Pod>,
    vmi: &VirtualMachineInstance,
    actions: &[Action],
) -> Result<(), VmiError> {
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    for action in actions {
        match action {
            Action::AddFinalizer => add_finalizer(instances, vmi, VMI_FINALIZER).await?,
            Action::RemoveFinalizer => remove_finalizer(instances, vmi, VMI_FINALIZER).await?,
            Action::CreatePod(pod) => match ok_if_exists(pods.create(&PostParams::default(), pod).await) {
                Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
                    return Err(VmiError::Refused(status.message));
                }
                result => result.map_err(doing("creating its Pod"))?,
            },
            Action::CreateAttachment(pod) => {
                if let Err(error) = ok_if_exists(pods.create(&PostParams::default(), pod).await) {
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    let note = format!("creating Pod {name}, by which a disk or a NIC is added: {error}");
                    context.events.record(vmi, &Event::warning("FailedCreate", note)).await;
                    return Err(doing("creating an attachment Pod")(error).into());
                }
            }
            Action::MarkDetach { name, uid } => {
                let patch = json!({"metadata": {"uid": uid, "annotations": {DETACH_ANNOTATION: TRUE}}});
                let patched = pods.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                ok_if_gone(patched).map_err(doing("marking an attachment Pod"))?;
            }
            Action::DeletePod { name, uid } => {
                let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
                ok_if_gone(pods.delete(name, &DeleteParams::default().preconditions(only)).await)
                    .map_err(doing("deleting its Pod"))?;
            }
            Action::SetSize { name, uid, size } => {
                let patch = json!({"metadata": {"uid": uid, "annotations": {SIZE_ANNOTATION: size}}});
                let patched = pods.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                ok_if_gone(patched).map_err(doing("writing the size of the VM into its Pod"))?;
            }
            Action::SetLinks { name, uid, links } => {
                let patch = json!({"metadata": {"uid": uid, "annotations": {LINKS_ANNOTATION: links}}});
                let patched = pods.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                ok_if_gone(patched).map_err(doing("writing the links of the VM into its Pod"))?;
            }
            Action::ResizePod { name, patch } => {
                match pods.patch_resize(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                    // 409: it has changed since it was read, and is read again.
                    Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
                        return Err(VmiError::ResizeRefused(status.message));
                    }
                    resized => drop(resized.map_err(doing("resizing its Pod"))?),
                }
            }
            Action::LabelNode(node) => {
                let patch = json!({"metadata": {"uid": vmi.metadata.uid, "labels": {NODE_NAME_LABEL: node}}});
                ok_if_gone(instances.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)
                    .map_err(doing("labelling it with its node"))?;
            }
            Action::WriteStatus(status) => {
                write_status(instances, vmi, vmi.status.as_ref(), status).await?;
            }
            Action::RecordEvent(event) => context.events.record(vmi, event).await,
        }
    }
    Ok(())
}
