//! Cluster-wide objects of Sheaf's own kinds whose `spec.nodeName` is this node: made and reported on.
//!
//! Why here: the same for every such kind; [`crate::listed`] follows them. Every write names the object's UID, so that it
//! never hits a namesake. Route in: the cluster this node joined, what a plan says. Route out: requests as
//! `system:node:<name>`, with the certificate of the moment.

use crate::cluster::Joined;
use crate::listed::Kind;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde_json::json;
use std::future::Future;
use tokio::sync::watch;

/// Field manager of the agent's server-side applies.
const MANAGER: &str = "sheaf-agent";
/// Longest note of an Event: the API refuses more than 1 kB.
const NOTE: usize = 1000; // characters

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

    /// The cluster as it is now.
    pub fn joined(&self) -> anyhow::Result<Joined> {
        self.0.borrow().clone().context("this node is in no cluster yet")
    }
}

/// Gone, or replaced by a namesake: nothing left to say.
pub fn unless_gone<K>(answer: Result<K, kube::Error>) -> Result<(), kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        answer => answer.map(drop),
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
        unless_gone(api.patch_status(&name, &how, &Patch::Apply(&patch)).await)
            .with_context(|| format!("{} {name}: its status can not be written", K::kind(&())))
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

#[cfg(test)]
pub(crate) mod testing {
    //! A cluster in memory: what was made is listed at once, what was reported and told is kept.

    use super::*;
    use crate::listed::Listed;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

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
