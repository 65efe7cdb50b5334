//! Cluster-wide objects of Sheaf's own kinds whose `spec.nodeName` is this node: followed, made, reported on.
//!
//! Why here: the same for every such kind. A list that is not complete yet must never be taken for one that is. Every
//! write names the object's UID, so that it never hits a namesake. Route in: the cluster this node joined, what a plan
//! says. Route out: [`Listed`]; requests as `system:node:<name>`, with the certificate of the moment.

use crate::cluster::Joined;
use anyhow::Context as _;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt as _};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;

/// Field manager of the agent's server-side applies.
const MANAGER: &str = "sheaf-agent";
/// Longest note of an Event: the API refuses more than 1 kB.
const NOTE: usize = 1000; // characters

/// A kind of cluster-wide objects with `spec.nodeName` as a selectable field.
pub trait Kind:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + Sync + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + Sync + 'static
{
}

/// Objects of this node.
#[derive(Clone, Debug)]
pub struct Listed<K> {
    /// The list was complete at least once.
    pub synced: bool,
    /// By name.
    pub objects: BTreeMap<String, Arc<K>>,
}

impl<K> Default for Listed<K> {
    fn default() -> Self {
        Self { synced: false, objects: BTreeMap::new() }
    }
}

/// Something to tell about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Somebody should do something.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: &'static str,
    /// One sentence.
    pub note: String,
}

impl News {
    /// Good or neutral news.
    pub fn normal(reason: &'static str, note: impl Into<String>) -> Self {
        Self { warning: false, reason, note: note.into() }
    }

    /// Bad news.
    pub fn warning(reason: &'static str, note: impl Into<String>) -> Self {
        Self { warning: true, reason, note: note.into() }
    }
}

/// The API server: [`Kube`], or one in memory in tests.
pub trait Cluster<K, S>: Send + Sync + 'static {
    /// Makes the object; one that is there already stays as it is.
    fn make(&self, object: &K) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Writes its whole status.
    fn report(&self, object: &K, status: &S) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Tells people who look at it.
    fn tell(&self, object: &K, news: &News) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// The cluster that this node joined.
#[derive(Clone)]
pub struct Kube(watch::Receiver<Option<Joined>>);

impl Kube {
    /// Follows `joined`: a rotated certificate brings a new client.
    pub fn new(joined: watch::Receiver<Option<Joined>>) -> Self {
        Self(joined)
    }

    fn joined(&self) -> anyhow::Result<Joined> {
        self.0.borrow().clone().context("this node is in no cluster yet")
    }
}

impl<K: Kind, S: Serialize + Sync> Cluster<K, S> for Kube {
    async fn make(&self, object: &K) -> anyhow::Result<()> {
        let api: Api<K> = Api::all(self.joined()?.client);
        match api.create(&PostParams::default(), object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            answer => answer
                .map(drop)
                .with_context(|| format!("{} {}: can not be made", K::kind(&()), object.name_any())),
        }
    }

    async fn report(&self, object: &K, status: &S) -> anyhow::Result<()> {
        let api: Api<K> = Api::all(self.joined()?.client);
        let name = object.name_any();
        let patch = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"name": name, "uid": object.meta().uid}, "status": status,
        });
        let how = PatchParams::apply(MANAGER).force();
        match api.patch_status(&name, &how, &Patch::Apply(&patch)).await {
            // Gone, or replaced by a namesake.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            answer => answer
                .map(drop)
                .with_context(|| format!("{} {name}: its status can not be written", K::kind(&()))),
        }
    }

    async fn tell(&self, object: &K, news: &News) -> anyhow::Result<()> {
        let joined = self.joined()?;
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let name = object.name_any();
        let event: Event = serde_json::from_value(json!({
            // Events of objects without a namespace are in this one.
            "metadata": {"generateName": format!("{name}."), "namespace": "default"},
            "involvedObject": {"apiVersion": K::api_version(&()), "kind": K::kind(&()), "name": name,
                               "uid": object.meta().uid},
            "type": if news.warning { "Warning" } else { "Normal" }, "reason": news.reason,
            "message": news.note.chars().take(NOTE).collect::<String>(), "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": MANAGER, "host": joined.node},
            "reportingComponent": "sheaf.dev/agent", "reportingInstance": joined.node,
        }))?;
        let events: Api<Event> = Api::namespaced(joined.client, "default");
        events.create(&PostParams::default(), &event).await.context("an Event can not be written")?;
        Ok(())
    }
}

/// Keeps `listed` until nobody reads it. Follows `cluster`: a rotated certificate starts a new watch.
pub async fn follow<K: Kind>(
    mut cluster: watch::Receiver<Option<Joined>>,
    listed: &watch::Sender<Listed<K>>,
) {
    loop {
        let Some(joined) = cluster.borrow_and_update().clone() else {
            if cluster.changed().await.is_err() {
                return std::future::pending().await;
            }
            continue;
        };
        let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", joined.node));
        let mut events = watcher(Api::<K>::all(joined.client), mine).default_backoff().boxed();
        let mut coming = BTreeMap::new();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => take(event, listed, &mut coming),
                    Some(Err(error)) => tracing::warn!("{} of this node can not be watched: {error}", K::plural(&())),
                    None => break,
                },
                changed = cluster.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return std::future::pending().await,
                },
            }
        }
    }
}

fn take<K: Kind>(
    event: watcher::Event<K>,
    listed: &watch::Sender<Listed<K>>,
    coming: &mut BTreeMap<String, Arc<K>>,
) {
    let keyed = |mut object: K| {
        // Never read, and often the largest part.
        object.meta_mut().managed_fields = None;
        (object.name_any(), Arc::new(object))
    };
    match event {
        watcher::Event::Init => coming.clear(),
        watcher::Event::InitApply(object) => coming.extend([keyed(object)]),
        watcher::Event::InitDone => {
            let objects = std::mem::take(coming);
            listed.send_replace(Listed { synced: true, objects });
        }
        watcher::Event::Apply(object) => listed.send_modify(|listed| listed.objects.extend([keyed(object)])),
        watcher::Event::Delete(object) => {
            listed.send_modify(|listed| {
                listed.objects.remove(&object.name_any());
            });
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A cluster in memory: what was made is listed at once, what was reported and told is kept.

    use super::*;
    use std::sync::Mutex;

    /// Objects, and what was said of them.
    pub struct Memory<K, S> {
        /// What the node sees.
        pub listed: watch::Sender<Listed<K>>,
        /// Every status that was written, by name.
        pub reports: Mutex<Vec<(String, S)>>,
        /// Every Event, by name.
        pub events: Mutex<Vec<(String, News)>>,
        /// Puts a status into an object.
        pub into: fn(&mut K, S),
    }

    impl<K: Kind, S: Clone> Memory<K, S> {
        pub fn new(into: fn(&mut K, S)) -> Arc<Self> {
            let listed = Listed { synced: true, objects: BTreeMap::new() };
            Arc::new(Self {
                listed: watch::Sender::new(listed),
                reports: Mutex::default(),
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

        pub fn told(&self) -> Vec<String> {
            let events = self.events.lock().unwrap();
            events.iter().map(|(name, news)| format!("{name} {}: {}", news.reason, news.note)).collect()
        }
    }

    impl<K: Kind, S: Clone + Send + Sync + 'static> Cluster<K, S> for Arc<Memory<K, S>> {
        async fn make(&self, object: &K) -> anyhow::Result<()> {
            let mut object = object.clone();
            object.meta_mut().generation = Some(1);
            self.listed.send_modify(|listed| {
                listed.objects.entry(object.name_any()).or_insert_with(|| Arc::new(object));
            });
            Ok(())
        }

        async fn report(&self, object: &K, status: &S) -> anyhow::Result<()> {
            self.reports.lock().unwrap().push((object.name_any(), status.clone()));
            self.change(&object.name_any(), |object| (self.into)(object, status.clone()));
            Ok(())
        }

        async fn tell(&self, object: &K, news: &News) -> anyhow::Result<()> {
            self.events.lock().unwrap().push((object.name_any(), news.clone()));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_api::storage::{BlockDevice, BlockDeviceSpec};

    #[test]
    fn a_list_that_is_not_complete_changes_nothing() {
        let device = |name: &str| BlockDevice::new(name, BlockDeviceSpec::default());
        let listed = watch::Sender::new(Listed::default());
        let mut coming = BTreeMap::new();
        take(watcher::Event::Init, &listed, &mut coming);
        take(watcher::Event::InitApply(device("n1.a")), &listed, &mut coming);
        assert!(!listed.borrow().synced && listed.borrow().objects.is_empty());
        take(watcher::Event::InitDone, &listed, &mut coming);
        assert!(listed.borrow().synced && listed.borrow().objects.contains_key("n1.a"));
        take(watcher::Event::Delete(device("n1.a")), &listed, &mut coming);
        assert!(listed.borrow().objects.is_empty());
    }
}
