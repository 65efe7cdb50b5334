//! Cluster-wide objects of Sheaf's own kinds whose `spec.nodeName` is this node: created and reported on.
//!
//! Why here: the same for every such kind; [`crate::listed`] follows them. Every write names the object's UID, so that it
//! never hits another object of the same name. Route in: the cluster this node joined, what a plan says. Route out:
//! requests as `system:node:<name>`.

use crate::api_server::{Joined, Kube, MANAGER, unless_gone};
use crate::listed::Kind;
use crate::reconcile::events::{Event, EventRecorder};
use anyhow::Context as _;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use serde::Serialize;
use serde_json::json;
use std::future::Future;
use tokio::sync::watch;

/// The API server: [`Objects`], or one in memory in tests.
pub trait Cluster<K, S>: Send + Sync + 'static {
    /// Creates the object; one that is there already stays as it is.
    fn create(&self, object: &K) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Writes its whole status.
    fn write_status(&self, object: &K, status: &S) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Records an Event about it.
    fn record(&self, object: &K, event: &Event) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Objects of the cluster that this node joined.
#[derive(Clone)]
pub struct Objects {
    kube: Kube,
    events: EventRecorder,
}

impl Objects {
    /// Follows `joined`: a rotated certificate brings a new client.
    pub fn new(joined: watch::Receiver<Option<Joined>>) -> Self {
        Self { kube: Kube::new(joined.clone()), events: EventRecorder::new(joined) }
    }

    /// Requests of other kinds.
    pub fn kube(&self) -> &Kube {
        &self.kube
    }
}

impl<K: Kind, S: Serialize + Sync> Cluster<K, S> for Objects {
    async fn create(&self, object: &K) -> anyhow::Result<()> {
        let create = |api: kube::Api<K>, _| async move {
            match api.create(&PostParams::default(), object).await {
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                answer => answer.map(drop),
            }
        };
        self.kube.about("create it", object, create).await
    }

    async fn write_status(&self, object: &K, status: &S) -> anyhow::Result<()> {
        let patch = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"name": object.name_any(), "uid": object.meta().uid}, "status": status,
        });
        let write = |api: kube::Api<K>, name: String| async move {
            let how = PatchParams::apply(MANAGER).force();
            unless_gone(api.patch_status(&name, &how, &Patch::Apply(&patch)).await)
        };
        self.kube.about("write its status", object, write).await
    }

    async fn record(&self, object: &K, event: &Event) -> anyhow::Result<()> {
        let what = || format!("{} {}: cannot record Event {}", K::kind(&()), object.name_any(), event.reason);
        self.events.record(object, event).await.with_context(what)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A cluster in memory: what was created is listed at once, statuses and Events are kept.

    use super::*;
    use crate::listed::Listed;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    /// Objects, and what was written about them.
    pub struct Memory<K, S> {
        /// What the node sees.
        pub listed: watch::Sender<Listed<K>>,
        /// Every status that was written, by name.
        pub statuses: Mutex<Vec<(String, S)>>,
        /// Every Event, by name.
        pub events: Mutex<Vec<(String, Event)>>,
        /// Puts a status into an object.
        pub into: fn(&mut K, S),
    }

    impl<K: Kind, S: Clone> Memory<K, S> {
        pub fn new(into: fn(&mut K, S)) -> Arc<Self> {
            let listed = Listed { synced: true, objects: BTreeMap::new() };
            Arc::new(Self {
                listed: watch::Sender::new(listed),
                statuses: Mutex::default(),
                events: Mutex::default(),
                into,
            })
        }

        pub fn change(&self, name: &str, change: impl FnOnce(&mut K)) {
            self.listed.send_modify(|listed| {
                let object = listed.objects.get_mut(name).expect("the test names an object that is there");
                change(Arc::make_mut(object));
            });
        }

        pub fn recorded(&self) -> Vec<String> {
            let events = self.events.lock().unwrap();
            events.iter().map(|(name, event)| format!("{name} {}: {}", event.reason, event.note)).collect()
        }
    }

    impl<K: Kind, S: Clone + Send + Sync + 'static> Cluster<K, S> for Arc<Memory<K, S>> {
        async fn create(&self, object: &K) -> anyhow::Result<()> {
            let mut object = object.clone();
            object.meta_mut().generation = Some(1);
            self.listed.send_modify(|listed| {
                listed.objects.entry(object.name_any()).or_insert_with(|| Arc::new(object));
            });
            Ok(())
        }

        async fn write_status(&self, object: &K, status: &S) -> anyhow::Result<()> {
            self.statuses.lock().unwrap().push((object.name_any(), status.clone()));
            self.change(&object.name_any(), |object| (self.into)(object, status.clone()));
            Ok(())
        }

        async fn record(&self, object: &K, event: &Event) -> anyhow::Result<()> {
            self.events.lock().unwrap().push((object.name_any(), event.clone()));
            Ok(())
        }
    }
}
