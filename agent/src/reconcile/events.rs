//! Events: what happened to an object, for people who look at it with kubectl.
//!
//! Why here: all controllers record some. Route in: an [`Event`] of a plan. Route out: an object of `events.k8s.io`; the
//! same Event again is counted on it, not written again.

use crate::api_server::{Joined, Kube, MANAGER, RequestError};
use k8s_openapi::api::core::v1::Node;
use kube::Resource;
use kube::runtime::events::{Event as KubeEvent, EventType, Recorder, Reporter};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Longest note: the API refuses more than 1 kB.
const NOTE: usize = 1000; // characters
/// So many pairs of object and reason are remembered; with more all are forgotten, which costs Events written again.
const REMEMBERED: usize = 1024;

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Somebody should do something.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: &'static str,
    /// One sentence.
    pub note: String,
}

impl Event {
    /// An Event of type Normal.
    pub fn normal(reason: &'static str, note: impl Into<String>) -> Self {
        Self { warning: false, reason, note: note.into() }
    }

    /// An Event of type Warning.
    pub fn warning(reason: &'static str, note: impl Into<String>) -> Self {
        Self { warning: true, reason, note: note.into() }
    }
}

/// Writes Events through the cluster that this node joined. Cloning it is cheap.
#[derive(Clone)]
pub struct EventRecorder {
    kube: Kube,
    cache: Arc<Mutex<Cache>>,
}

struct Cache {
    joined: watch::Receiver<Option<Joined>>,
    /// By UID and reason: the last note, and its recorder. One recorder each, because kube's takes two Events of one
    /// reason for the same and keeps the first one's note.
    recorders: HashMap<(String, &'static str), (String, Recorder)>,
}

impl EventRecorder {
    /// One for the cluster on the channel `joined`.
    pub fn new(joined: watch::Receiver<Option<Joined>>) -> Self {
        let cache = Cache { joined: joined.clone(), recorders: HashMap::new() };
        Self { kube: Kube::new(joined), cache: Arc::new(Mutex::new(cache)) }
    }

    /// Records `event` about `object`.
    pub async fn record<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        event: &Event,
    ) -> Result<(), RequestError> {
        let note: String = event.note.chars().take(NOTE).collect();
        let about = object.object_ref(&());
        let written = KubeEvent {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.to_owned(),
            note: Some(note.clone()),
            action: event.reason.to_owned(),
            secondary: None,
        };
        let key = (about.uid.clone().unwrap_or_default(), event.reason);
        let recorder = |joined: Joined| self.recorder(joined, key, note);
        self.kube
            .request(|joined| {
                let recorder = recorder(joined);
                async move { recorder.publish(&written, &about).await }
            })
            .await
    }

    /// Records `event` about the Node of this agent; nothing waits for it, and outside a cluster there is nothing to record.
    pub fn announce(&self, event: Event) {
        let joined = self.cache.lock().unwrap_or_else(PoisonError::into_inner).joined.borrow().clone();
        let Some(joined) = joined else { return };
        let mut node = Node::default();
        (node.metadata.name, node.metadata.uid) = (Some(joined.node), Some(joined.node_uid));
        let recorder = self.clone();
        tokio::spawn(async move {
            if let Err(error) = recorder.record(&node, &event).await {
                tracing::warn!("{error:#}");
            }
        });
    }

    fn recorder(&self, joined: Joined, key: (String, &'static str), note: String) -> Recorder {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        // A rotated certificate: recorders of before have the old client.
        if cache.joined.has_changed().unwrap_or_default() {
            cache.joined.mark_unchanged();
            cache.recorders.clear();
        }
        if cache.recorders.len() >= REMEMBERED {
            cache.recorders.clear();
        }
        let new = || {
            let reporter = Reporter { controller: MANAGER.into(), instance: Some(joined.node.clone()) };
            Recorder::new(joined.client.clone(), reporter)
        };
        let (last, recorder) = cache.recorders.entry(key).or_insert_with(|| (note.clone(), new()));
        if *last != note {
            (*last, *recorder) = (note, new());
        }
        recorder.clone()
    }
}
