//! Controller of instances: from VirtualMachineInstance to placeholder Pod and back to its status.
//!
//! Reads: instances, and their Pods (asked of the API server anew for each decision: a stale list could start a
//! VM twice). Owns: placeholder Pods, status and finalizer of instances. Never touches: Pod status, which is the
//! node's. Route in: watches. Route out: [`plan`], done step by step here without further decisions.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, watcher},
};
use serde_json::json;
use sheaf_api::{
    VirtualMachineInstance,
    names::{
        APP_LABEL, CONTROLLER_MANAGER, CREATED_BY_LABEL, KUBEVIRT_API_VERSION, LAUNCHER, NODE_NAME_LABEL,
        VMI_FINALIZER,
    },
    status::{Phase, VirtualMachineInstanceStatus},
};

use crate::{
    conditions::set,
    tell::{News, Teller},
};

pub mod plan;

/// Until the next try after the API server refused a Pod (quota, a missing PriorityClass) or failed.
const RETRY: Duration = Duration::from_secs(10);

/// Why a reconciliation stopped; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum VmiError {
    /// The API server refused or did not answer.
    #[error("{doing}: {source}")]
    Api {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        source: kube::Error,
    },
    /// The Pod could not be written down.
    #[error("making the Pod: {0}")]
    Pod(#[from] serde_json::Error),
}

fn doing(doing: &'static str) -> impl FnOnce(kube::Error) -> VmiError {
    move |source| VmiError::Api { doing, source }
}

struct Context {
    client: Client,
    teller: Teller,
}

/// Runs until dropped.
pub async fn run(client: Client) {
    let pods = watcher::Config::default().labels(&format!("{APP_LABEL}={LAUNCHER}"));
    let context = Arc::new(Context { client: client.clone(), teller: Teller::new(client.clone()) });
    Controller::new(Api::<VirtualMachineInstance>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Pod>::all(client), pods)
        .run(reconcile, |_, _, _| Requeue::requeue(RETRY), context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::warn!("instance: {error}");
            }
        })
        .await;
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
    let plan = plan::plan(&vmi, &of_instance, Timestamp::now())?;

    let mut release = false;
    for action in &plan.actions {
        match action {
            plan::Action::Hold => {
                let mut finalizers = vmi.metadata.finalizers.clone().unwrap_or_default();
                finalizers.push(VMI_FINALIZER.into());
                finalize(&instances, &vmi, finalizers).await?;
            }
            plan::Action::Release => release = true, // after the status: then there may be no object
            plan::Action::CreatePod(pod) => match pods.create(&PostParams::default(), pod).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
                    return refused(&context, &instances, &vmi, &status.message).await;
                }
                Err(error) => return Err(doing("creating its Pod")(error)),
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
    report(&instances, &vmi, &plan.status).await?;
    if release {
        let mut finalizers = vmi.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != VMI_FINALIZER);
        finalize(&instances, &vmi, finalizers).await?;
    }
    Ok(Requeue::await_change())
}

/// The API server did not take the Pod: that is for the user to read, and to be tried again.
async fn refused(
    context: &Context,
    instances: &Api<VirtualMachineInstance>,
    vmi: &VirtualMachineInstance,
    message: &str,
) -> Result<Requeue, VmiError> {
    let mut status = vmi.status.clone().unwrap_or_default();
    status.phase = Some(Phase::Pending);
    set(&mut status.conditions, "Synchronized", "False", "FailedCreate", message, Timestamp::now());
    context.teller.tell(vmi, &News::warning("FailedCreate", message)).await;
    report(instances, vmi, &status).await?;
    Ok(Requeue::requeue(RETRY))
}

/// Writes the whole status, if it changed.
async fn report(
    instances: &Api<VirtualMachineInstance>,
    vmi: &VirtualMachineInstance,
    status: &VirtualMachineInstanceStatus,
) -> Result<(), VmiError> {
    if vmi.status.as_ref() == Some(status) || (vmi.status.is_none() && *status == Default::default()) {
        return Ok(());
    }
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({
        "apiVersion": KUBEVIRT_API_VERSION, "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "uid": vmi.metadata.uid}, "status": status,
    });
    let how = PatchParams::apply(CONTROLLER_MANAGER).force();
    gone(instances.patch_status(name, &how, &Patch::Apply(&patch)).await.map(drop))
        .map_err(doing("writing its status"))
}

async fn finalize(
    instances: &Api<VirtualMachineInstance>,
    vmi: &VirtualMachineInstance,
    finalizers: Vec<String>,
) -> Result<(), VmiError> {
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({"metadata": {"uid": vmi.metadata.uid, "finalizers": finalizers}});
    gone(instances.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
        .map_err(doing("changing its finalizers"))
}

/// Not there any more, or another of the same name by now: nothing left to do.
fn gone(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other,
    }
}
