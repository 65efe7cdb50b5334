//! What a controller does to the object that it reconciles: its status, its finalizers, and what an answer means.
//!
//! Why here: the same for VMs and instances. Every write names the object's UID, so that it never hits a namesake.
//! Route in: an object as it was read, and what it is to become. Route out: requests to the API server.

use std::{fmt, sync::Arc, time::Duration};

use futures::{
    StreamExt, TryFuture,
    future::{Ready, ready},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    runtime::{
        Controller,
        controller::{self, Action as Requeue},
        reflector::Lookup,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use sheaf_api::names::CONTROLLER_MANAGER;

use crate::tell::Teller;

/// A request that the API server refused or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct RequestError {
    /// What was being done.
    doing: &'static str,
    /// What it said.
    source: kube::Error,
}

/// Says what was being done when a request failed.
pub fn doing(doing: &'static str) -> impl FnOnce(kube::Error) -> RequestError {
    move |source| RequestError { doing, source }
}

/// What a reconciliation works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Events.
    pub teller: Teller,
}

impl Context {
    /// One that speaks through `client`.
    pub fn new(client: Client) -> Self {
        Self { teller: Teller::new(client.clone()), client }
    }
}

/// Logs what failed with one of the objects called `what`. That it is not there is no failure: what stands for it may
/// outlive it, or be somebody else's.
pub fn log<T, E, Q>(what: &'static str, result: Result<T, controller::Error<E, Q>>) -> Ready<()>
where
    E: std::error::Error + 'static,
    Q: std::error::Error + 'static,
{
    match result {
        Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
        Err(error) => tracing::warn!("{what}: {error}"),
    }
    ready(())
}

/// Runs `controller` until dropped: each of its objects, called `what` in the log, is reconciled when something about it
/// changes, and again after `retry` when that failed.
pub async fn drive<K, R>(
    controller: Controller<K>,
    client: Client,
    what: &'static str,
    retry: Duration,
    reconcile: impl FnMut(Arc<K>, Arc<Context>) -> R,
) where
    K: Clone + Resource + Lookup<DynamicType = ()> + DeserializeOwned + fmt::Debug + Send + Sync + 'static,
    <K as Resource>::DynamicType: Default + Eq + std::hash::Hash + Clone + fmt::Debug + Unpin,
    R: TryFuture<Ok = Requeue> + Send + 'static,
    R::Error: std::error::Error + Send + 'static,
{
    controller
        .run(reconcile, |_, _, _| Requeue::requeue(retry), Arc::new(Context::new(client)))
        .for_each(|result| log(what, result))
        .await;
}

/// Writes the whole status, if it is another than `before`.
pub async fn report<K, S>(
    api: &Api<K>,
    object: &K,
    before: Option<&S>,
    status: &S,
) -> Result<(), RequestError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
    S: Serialize + PartialEq + Default,
{
    if before == Some(status) || (before.is_none() && *status == S::default()) {
        return Ok(());
    }
    let meta = object.meta();
    let name = meta.name.as_deref().unwrap_or_default();
    let patch = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": {"name": name, "uid": meta.uid}, "status": status,
    });
    let how = PatchParams::apply(CONTROLLER_MANAGER).force();
    gone(api.patch_status(name, &how, &Patch::Apply(&patch)).await.map(drop))
        .map_err(doing("writing its status"))
}

/// Puts `finalizer` on the object.
pub async fn hold<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), RequestError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
{
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    finalizers.push(finalizer.to_owned());
    finalize(api, object, finalizers).await
}

/// Takes `finalizer` off the object.
pub async fn release<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), RequestError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
{
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    finalizers.retain(|held| held != finalizer);
    finalize(api, object, finalizers).await
}

async fn finalize<K>(api: &Api<K>, object: &K, finalizers: Vec<String>) -> Result<(), RequestError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
{
    let name = object.meta().name.as_deref().unwrap_or_default();
    let patch = json!({"metadata": {"uid": object.meta().uid, "finalizers": finalizers}});
    gone(api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
        .map_err(doing("changing its finalizers"))
}

/// Not there any more, or another of the same name by now: nothing left to do.
pub fn gone(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other,
    }
}
