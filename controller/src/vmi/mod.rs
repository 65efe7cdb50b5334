//! Controller of instances: from VirtualMachineInstance to placeholder Pod and back to its status.
//!
//! Reads: instances, NetworkAttachmentDefinitions, and their Pods (asked of the API server anew for each decision: a
//! stale list could start a VM twice). Owns: placeholder Pods, status and finalizer of instances. Never touches: Pod status, which is the
//! node's. Route in: watches. Route out: [`plan`], done step by step here without further decisions.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, watcher},
};
use serde_json::json;
use sheaf_api::{
    VirtualMachineInstance,
    names::{APP_LABEL, CREATED_BY_LABEL, LAUNCHER, NODE_NAME_LABEL, VMI_FINALIZER},
    status::Phase,
};

use crate::{
    conditions::set,
    networks::{self, Networks},
    object::{Context, RequestError, doing, drive, gone, hold, release, report},
    tell::News,
};

pub mod plan;

/// Until the next try after the API server refused a Pod (quota, a missing PriorityClass) or failed.
const RETRY: Duration = Duration::from_secs(10);

/// Why a reconciliation stopped; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum VmiError {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The Pod could not be written down.
    #[error("making the Pod: {0}")]
    Pod(#[from] serde_json::Error),
}

/// Runs until dropped.
pub async fn run(client: Client) {
    let pods = watcher::Config::default().labels(&format!("{APP_LABEL}={LAUNCHER}"));
    let controller =
        Controller::new(Api::<VirtualMachineInstance>::all(client.clone()), watcher::Config::default())
            .owns(Api::<Pod>::all(client.clone()), pods);
    drive(controller, client, "instance", RETRY, reconcile).await;
}

async fn reconcile(seen: Arc<VirtualMachineInstance>, context: Arc<Context>) -> Result<Requeue, VmiError> {
    let namespace = seen.metadata.namespace.clone().unwrap_or_default();
    let name = seen.metadata.name.clone().unwrap_or_default();
    let instances: Api<VirtualMachineInstance> = Api::namespaced(context.client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    // Fresh, not from the watch: a decision on old news could start a VM twice.
    let Some(vmi) = instances.get_opt(&name).await.map_err(doing("reading the instance"))? else {
        return Ok(Requeue::await_change());
    };
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    let mine = ListParams::default().labels(&format!("{CREATED_BY_LABEL}={uid}"));
    let of_instance = pods.list(&mine).await.map_err(doing("listing its Pods"))?.items;
    let networks = match plan::wants_pod(&vmi, &of_instance) {
        true => networks::of(&context.client, &vmi).await?,
        false => Ok(Networks::default()),
    };
    let networks = match networks {
        Ok(networks) => networks,
        Err(why) => return refused(&context, &instances, &vmi, why.reason, &why.message).await,
    };
    let plan = plan::plan(&vmi, &of_instance, &networks, Timestamp::now())?;

    let mut released = false;
    for action in &plan.actions {
        match action {
            plan::Action::Hold => hold(&instances, &vmi, VMI_FINALIZER).await?,
            plan::Action::Release => released = true, // after the status: then there may be no object
            plan::Action::CreatePod(pod) => match pods.create(&PostParams::default(), pod).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
                    return refused(&context, &instances, &vmi, "FailedCreate", &status.message).await;
                }
                Err(error) => return Err(doing("creating its Pod")(error).into()),
            },
            plan::Action::DeletePod { name, uid } => {
                let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
                gone(pods.delete(name, &DeleteParams::default().preconditions(only)).await.map(drop))
                    .map_err(doing("deleting its Pod"))?;
            }
            plan::Action::LabelNode(node) => {
                let patch = json!({"metadata": {"labels": {NODE_NAME_LABEL: node}}});
                gone(instances.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
                    .map_err(doing("labelling it with its node"))?;
            }
            plan::Action::Tell(news) => context.teller.tell(&vmi, news).await,
        }
    }
    report(&instances, &vmi, vmi.status.as_ref(), &plan.status).await?;
    if released {
        release(&instances, &vmi, VMI_FINALIZER).await?;
    }
    Ok(Requeue::await_change())
}

/// There can be no Pod yet, or the API server did not take it: that is for the user to read, and to be tried again.
async fn refused(
    context: &Context,
    instances: &Api<VirtualMachineInstance>,
    vmi: &VirtualMachineInstance,
    reason: &str,
    message: &str,
) -> Result<Requeue, VmiError> {
    let mut status = vmi.status.clone().unwrap_or_default();
    status.phase = Some(Phase::Pending);
    set(&mut status.conditions, "Synchronized", "False", reason, message, Timestamp::now());
    context.teller.tell(vmi, &News::warning(reason, message)).await;
    report(instances, vmi, vmi.status.as_ref(), &status).await?;
    Ok(Requeue::requeue(RETRY))
}
