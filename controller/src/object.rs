//! What every controller does with the objects that it reconciles: run, write the status, add and remove finalizers.
//!
//! Why here: once for all kinds. Every write names the object's UID, so that it never reaches another object of the same
//! name; finalizers are changed by a JSON patch that tests the list as it was read, so that no other writer's is lost. Route in: an object
//! as it was read, and what is to change. Route out: requests to the API server.

use std::{
    collections::HashMap, fmt, future::Future, sync::Arc, sync::Mutex, sync::PoisonError, time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{
    StreamExt, TryFuture, TryFutureExt,
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

use crate::events::EventRecorder;

/// Until the first retry of a reconciliation that failed; each further failure doubles it.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// No retry interval is longer: a quota that was raised takes effect within this time.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A request that the API server refused or did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct RequestError {
    /// What was being done.
    doing: &'static str,
    /// What the API server answered.
    source: kube::Error,
}

/// Names what was being done when a request failed.
pub fn doing(doing: &'static str) -> impl FnOnce(kube::Error) -> RequestError {
    move |source| RequestError { doing, source }
}

/// What a reconciliation works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Events.
    pub events: EventRecorder,
}

impl Context {
    /// A context whose requests go through `client`.
    pub fn new(client: Client) -> Self {
        Self { events: EventRecorder::new(client.clone()), client }
    }
}

/// Logs what failed with one of the objects called `what`, with every cause. That an object does not exist is no failure:
/// what refers to it may outlive it, or belong to somebody else.
pub fn log<T, E, Q>(what: &'static str, result: Result<T, controller::Error<E, Q>>) -> Ready<()>
where
    E: std::error::Error + 'static,
    Q: std::error::Error + 'static,
{
    match result {
        Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
        Err(error) => tracing::warn!("{what}: {}", chain(&error)),
    }
    ready(())
}

/// An error and its causes, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Runs `controller` until dropped: each of its objects, called `what` in the log, is reconciled when something about it
/// changes. A reconciliation that failed is retried after an interval that grows with the failures in a row.
pub async fn drive<K, C, F, R>(
    controller: Controller<K>,
    context: Arc<C>,
    what: &'static str,
    mut reconcile: F,
) where
    K: Clone + Resource + Lookup<DynamicType = ()> + DeserializeOwned + fmt::Debug + Send + Sync + 'static,
    <K as Resource>::DynamicType: Default + Eq + std::hash::Hash + Clone + fmt::Debug + Unpin,
    C: Send + Sync + 'static,
    F: FnMut(Arc<K>, Arc<C>) -> R,
    R: TryFuture<Ok = Requeue> + Send + 'static,
    R::Error: std::error::Error + Send + 'static,
{
    let retries = Arc::new(Retries::default());
    let failed = retries.clone();
    let run = move |object: Arc<K>, context: Arc<C>| {
        let (key, retries) = (key(&*object), retries.clone());
        forget_when_done(TryFutureExt::into_future(reconcile(object, context)), retries, key)
    };
    controller
        .run(run, move |object, _, _| Requeue::requeue(failed.next(key(&*object))), context)
        .for_each(|result| log(what, result))
        .await;
}

async fn forget_when_done<E>(
    running: impl Future<Output = Result<Requeue, E>>,
    retries: Arc<Retries>,
    key: String,
) -> Result<Requeue, E> {
    let result = running.await;
    if result.is_ok() {
        retries.forget(&key);
    }
    result
}

fn key<K: Resource>(object: &K) -> String {
    object.meta().uid.clone().unwrap_or_default()
}

/// The retry interval of each object whose last reconciliation failed, by UID.
#[derive(Default)]
struct Retries(Mutex<HashMap<String, ExponentialBackoff>>);

impl Retries {
    /// Until the next retry.
    fn next(&self, key: String) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let build = || {
            ExponentialBuilder::new()
                .with_min_delay(RETRY_MIN)
                .with_max_delay(RETRY_MAX)
                .without_max_times()
                .with_jitter()
                .build()
        };
        all.entry(key).or_insert_with(build).next().unwrap_or(RETRY_MAX)
    }

    fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Writes the whole status, if it differs from `before`.
pub async fn write_status<K, S>(
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
    ok_if_gone(api.patch_status(name, &how, &Patch::Apply(&patch)).await).map_err(doing("writing its status"))
}

/// Adds `finalizer` to the object. If the object changed since it was read, that is an error, and to be retried.
pub async fn add_finalizer<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), RequestError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
{
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    finalizers.push(finalizer.to_owned());
    write_finalizers(api, object, finalizers).await
}

/// Removes `finalizer` from the object. If the object changed since it was read, that is an error, and to be retried.
pub async fn remove_finalizer<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), RequestError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
{
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    finalizers.retain(|held| held != finalizer);
    write_finalizers(api, object, finalizers).await
}

/// Whether `finalizer` is on the object.
pub fn has_finalizer<K: Resource>(object: &K, finalizer: &str) -> bool {
    object.meta().finalizers.iter().flatten().any(|held| held == finalizer)
}

async fn write_finalizers<K>(api: &Api<K>, object: &K, finalizers: Vec<String>) -> Result<(), RequestError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
{
    let meta = object.meta();
    let name = meta.name.as_deref().unwrap_or_default();
    // The list is replaced only if it still is the one that was read; null is what a missing list is tested for.
    let list = "/metadata/finalizers";
    let before = meta.finalizers.as_ref().filter(|finalizers| !finalizers.is_empty());
    let change = if before.is_some() { "replace" } else { "add" };
    let patch = serde_json::from_value(json!([
        {"op": "test", "path": "/metadata/uid", "value": meta.uid},
        {"op": "test", "path": list, "value": before},
        {"op": change, "path": list, "value": finalizers},
    ]));
    let patch =
        patch.map_err(kube::Error::SerdeError).map_err(doing("composing the patch of its finalizers"))?;
    match api.patch(name, &PatchParams::default(), &Patch::<()>::Json(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop).map_err(doing("changing its finalizers")),
    }
}

/// For changes and deletions that name a UID: the object does not exist any more, or another has its name by now, so
/// nothing is left to do.
pub fn ok_if_gone<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

/// For creations of objects whose name follows from their owner's UID: one of that name is the same object. A missing
/// namespace or kind (404) stays an error.
pub fn ok_if_exists<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_ever_further_apart_until_one_succeeds() {
        let retries = Retries::default();
        let waits: Vec<Duration> = (0..12).map(|_| retries.next("a".into())).collect();
        assert!(waits[0] >= RETRY_MIN && waits[0] < 3 * RETRY_MIN, "{waits:?}");
        assert!(waits[11] >= RETRY_MAX && waits[11] <= 2 * RETRY_MAX, "{waits:?}");
        assert!(retries.next("b".into()) < 3 * RETRY_MIN);
        retries.forget("a");
        assert!(retries.next("a".into()) < 3 * RETRY_MIN);
    }

    fn answer(code: u16) -> Result<(), kube::Error> {
        let status = kube::core::Status { code, ..kube::core::Status::default() };
        Err(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn a_creation_that_meets_no_kind_or_namespace_failed() {
        assert!(ok_if_exists(answer(409)).is_ok());
        assert!(ok_if_exists(answer(404)).is_err());
        assert!(ok_if_gone(answer(404)).is_ok() && ok_if_gone(answer(409)).is_ok());
        assert!(ok_if_gone(answer(500)).is_err());
    }
}
