//! Events: what happened, for people who look at an object.
//!
//! Why here: every controller has some. Route in: an [`Event`] of a plan. Route out: a Kubernetes Event; a failure to
//! write one is logged and nothing else.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use kube::{
    Client,
    runtime::events::{self, EventType, Recorder, Reporter},
};
use sheaf_api::names::CONTROLLER_MANAGER;

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// True if somebody should do something.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: String,
    /// One sentence.
    pub note: String,
}

impl Event {
    /// An Event of type Normal.
    pub fn normal(reason: &str, note: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.into(), note: note.into() }
    }

    /// An Event of type Warning.
    pub fn warning(reason: &str, note: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.into(), note: note.into() }
    }
}

/// So many (object, reason) pairs are remembered; when there are more, all are forgotten, which costs a repeated Event.
const REMEMBERED: usize = 1024;
/// Longest note that the API server accepts, in bytes.
const NOTE_MAX: usize = 1024;

/// Records Events. A repeated Event with the same note raises the count of the first; another note makes another Event.
pub struct EventRecorder {
    client: Client,
    /// By UID and reason: the last note, and its recorder. (A recorder for each, because kube's takes two Events of one
    /// reason for the same and keeps the first one's note.)
    last: Mutex<HashMap<(String, String), (String, Recorder)>>,
}

impl EventRecorder {
    /// Records through `client`.
    pub fn new(client: Client) -> Self {
        Self { client, last: Mutex::default() }
    }

    /// Records `event` about `object`.
    pub async fn record<K: kube::Resource<DynamicType = ()>>(&self, object: &K, event: &Event) {
        let note = event.note[..event.note.floor_char_boundary(NOTE_MAX)].to_owned();
        let about = object.object_ref(&());
        let published = events::Event {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.clone(),
            note: Some(note.clone()),
            action: event.reason.clone(),
            secondary: None,
        };
        let recorder = self.recorder(about.uid.clone().unwrap_or_default(), event.reason.clone(), note);
        if let Err(error) = recorder.publish(&published, &about).await {
            tracing::debug!("event {}: {error}", event.reason);
        }
    }

    fn recorder(&self, uid: String, reason: String, note: String) -> Recorder {
        let new = || {
            let reporter = Reporter { controller: CONTROLLER_MANAGER.into(), instance: None };
            Recorder::new(self.client.clone(), reporter)
        };
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.clear();
        }
        let (last, recorder) = all.entry((uid, reason)).or_insert_with(|| (note.clone(), new()));
        if *last != note {
            (*last, *recorder) = (note, new());
        }
        recorder.clone()
    }
}
