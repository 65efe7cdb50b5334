//! Events: what happened, for people who look at an object.
//!
//! Why here: both controllers tell. Route in: a line of a plan. Route out: an Event; failing to tell is logged only.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use sheaf_api::names::CONTROLLER_MANAGER;

/// Something to tell about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// True if somebody should do something.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: String,
    /// One sentence.
    pub note: String,
}

impl News {
    /// Good or neutral news.
    pub fn normal(reason: &str, note: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.into(), note: note.into() }
    }

    /// Bad news.
    pub fn warning(reason: &str, note: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.into(), note: note.into() }
    }
}

/// So many (object, reason) pairs are remembered; more, and all are forgotten, which costs an Event told anew.
const REMEMBERED: usize = 1024;

/// Tells news about objects. What is said again counts as the same Event; said otherwise, as another.
pub struct Teller {
    client: Client,
    /// By UID and reason: what was said last, and who said it. (A recorder of its own for each, because it takes two
    /// Events of one reason for the same and keeps the first one's words.)
    said: Mutex<HashMap<(String, String), (String, Recorder)>>,
}

impl Teller {
    /// Tells through `client`.
    pub fn new(client: Client) -> Self {
        Self { client, said: Mutex::default() }
    }

    /// Tells `news` about `object`.
    pub async fn tell<K: kube::Resource<DynamicType = ()>>(&self, object: &K, news: &News) {
        // The API accepts at most 1 kB.
        let note: String = news.note.chars().take(1000).collect();
        let about = object.object_ref(&());
        let event = Event {
            type_: if news.warning { EventType::Warning } else { EventType::Normal },
            reason: news.reason.clone(),
            note: Some(note.clone()),
            action: news.reason.clone(),
            secondary: None,
        };
        let recorder = self.recorder(about.uid.clone().unwrap_or_default(), news.reason.clone(), note);
        if let Err(error) = recorder.publish(&event, &about).await {
            tracing::debug!("event {}: {error}", news.reason);
        }
    }

    fn recorder(&self, uid: String, reason: String, note: String) -> Recorder {
        let new = || {
            Recorder::new(
                self.client.clone(),
                Reporter { controller: CONTROLLER_MANAGER.into(), instance: None },
            )
        };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= REMEMBERED {
            said.clear();
        }
        let (last, recorder) = said.entry((uid, reason)).or_insert_with(|| (note.clone(), new()));
        if *last != note {
            (*last, *recorder) = (note, new());
        }
        recorder.clone()
    }
}
