//! Controller of VirtualMachineExports: from a VM, a snapshot or a claim to links by which its disks are downloaded.
//!
//! Why here: a download must not meet a VM that writes, and must end when its time is over. Reads: exports, the VM, the
//! snapshot with its content, claims and what they are bound to, instances, LocalVolumes. Owns: exporter Pods, Secrets of tokens
//! (which it makes and never reads), the status of exports. Never touches: VMs, claims, volumes. Bytes are handed out by
//! [`crate::aggregated`] and the nodes (docs/decisions/0030). Route in: watches, and time. Route out: [`plan`], applied step by
//! step.

use std::{net::SocketAddr, sync::Arc};

use futures::stream;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod, Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, reflector::Store, watcher},
};
use sheaf_api::{
    VirtualMachineInstance,
    names::EXPORT_LABEL,
    vm_export::{TOKEN_KEY, VirtualMachineExport},
    vm_snapshot::VirtualMachineSnapshot,
};
use tokio::sync::watch;

use crate::{
    events::Event,
    object::{Context, RequestError, doing, drive, ok_if_exists, ok_if_gone, write_status},
};
use plan::{Action, Server};

mod find;
pub mod links;
pub mod plan;

/// Where this replica hands out volumes of exports.
#[derive(Clone)]
pub struct Downloads {
    /// Its address, while it listens.
    pub address: watch::Receiver<Option<SocketAddr>>,
    /// The authority of its certificate, in PEM.
    pub authority: Option<String>,
}

/// Why a reconciliation stopped; it is retried.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// An object could not be composed.
    #[error("composing an exporter Pod")]
    Shape(#[from] serde_json::Error),
}

struct Shared {
    context: Context,
    downloads: Downloads,
}

/// Runs until dropped.
pub async fn run(client: Client, downloads: Downloads) {
    let config = watcher::Config::default;
    let controller = Controller::new(Api::<VirtualMachineExport>::all(client.clone()), config());
    let exports = controller.store();
    let (of_instance, of_snapshot, of_claim) = (exports.clone(), exports.clone(), exports);
    let moved = stream::unfold(downloads.address.clone(), |mut address| async {
        address.changed().await.ok()?;
        Some(((), address))
    });
    let controller = controller
        .owns(Api::<Pod>::all(client.clone()), config().labels(EXPORT_LABEL))
        .watches(Api::<VirtualMachineInstance>::all(client.clone()), config(), move |object| {
            beside(&of_instance, &object)
        })
        .watches(Api::<VirtualMachineSnapshot>::all(client.clone()), config(), move |object| {
            beside(&of_snapshot, &object)
        })
        .watches(Api::<PersistentVolumeClaim>::all(client.clone()), config(), move |object| {
            beside(&of_claim, &object)
        })
        .reconcile_all_on(moved);
    let shared = Shared { context: Context::new(client), downloads };
    drive(controller, Arc::new(shared), "export", reconcile).await;
}

/// The exports in the namespace of `object`: it may be what they are of, or use it.
fn beside<K: Resource>(
    exports: &Store<VirtualMachineExport>,
    object: &K,
) -> Vec<ObjectRef<VirtualMachineExport>> {
    let exports = exports.state();
    let same = exports.iter().filter(|export| export.metadata.namespace == object.meta().namespace);
    same.map(|export| ObjectRef::from_obj(&**export)).collect()
}

async fn reconcile(seen: Arc<VirtualMachineExport>, shared: Arc<Shared>) -> Result<Requeue, ExportError> {
    let client = &shared.context.client;
    let namespace = seen.metadata.namespace.as_deref().unwrap_or_default();
    let exports: Api<VirtualMachineExport> = Api::namespaced(client.clone(), namespace);
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(export) = exports.get_opt(name).await.map_err(doing("reading the export"))? else {
        return Ok(Requeue::await_change());
    };
    let source = find::source(client, &export).await?;
    let pods = find::exporters(client, &export).await?;
    let address = *shared.downloads.address.borrow();
    let authority = shared.downloads.authority.as_deref();
    let server = address.zip(authority).map(|(address, authority)| Server { address, authority });
    let observed = plan::Observed { export: &export, source: &source, pods: &pods, server };
    let plan = plan::plan(&observed, Timestamp::now())?;
    for action in &plan.actions {
        apply(&shared.context, &exports, &export, action).await?;
    }
    Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue))
}

async fn apply(
    context: &Context,
    exports: &Api<VirtualMachineExport>,
    export: &VirtualMachineExport,
    action: &Action,
) -> Result<(), RequestError> {
    let namespace = export.metadata.namespace.as_deref().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let only = |uid: &Option<String>| Preconditions { uid: uid.clone(), resource_version: None };
    match action {
        Action::CreateSecret(name) => {
            let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
            ok_if_exists(secrets.create(&PostParams::default(), &secret(export, name)).await)
                .map_err(doing("creating the Secret with the token of the export"))
        }
        Action::CreatePod(pod) => {
            let created = ok_if_exists(pods.create(&PostParams::default(), pod).await);
            if let Err(error) = &created {
                let note = format!("creating the exporter Pod that lets the node read the token: {error}");
                context.events.record(export, &Event::warning("ErrUnableToCreateExporter", note)).await;
            }
            created.map_err(doing("creating an exporter Pod"))
        }
        Action::DeletePod { name, uid } => {
            // At once: its node has nothing to end, and is not asked.
            let now = DeleteParams::default().grace_period(0).preconditions(only(uid));
            ok_if_gone(pods.delete(name, &now).await).map_err(doing("deleting an exporter Pod"))
        }
        Action::WriteStatus(status) => write_status(exports, export, export.status.as_ref(), status).await,
        Action::DeleteExport => {
            let name = export.metadata.name.as_deref().unwrap_or_default();
            let how = DeleteParams::default().preconditions(only(&export.metadata.uid));
            ok_if_gone(exports.delete(name, &how).await)
                .map_err(doing("deleting the export, whose time is over"))
        }
        Action::RecordEvent(event) => {
            context.events.record(export, event).await;
            Ok(())
        }
    }
}

/// A Secret with a new token, deleted with the export.
fn secret(export: &VirtualMachineExport, name: &str) -> Secret {
    // 122 random bits of the kernel.
    let token = uuid::Uuid::new_v4().simple().to_string();
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: export.metadata.namespace.clone(),
            owner_references: export.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        string_data: Some([(TOKEN_KEY.to_owned(), token)].into()),
        ..Secret::default()
    }
}
