//! Events: what happened, for people who look at an object.
//!
//! Why here: both controllers tell. Route in: a line of a plan. Route out: an Event; failing to tell is logged only.

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

/// Tells news about objects.
pub struct Teller(Recorder);

impl Teller {
    /// Tells through `client`.
    pub fn new(client: Client) -> Self {
        Self(Recorder::new(client, Reporter { controller: CONTROLLER_MANAGER.into(), instance: None }))
    }

    /// Tells `news` about `object`.
    pub async fn tell<K: kube::Resource<DynamicType = ()>>(&self, object: &K, news: &News) {
        // The API accepts at most 1 kB.
        let note: String = news.note.chars().take(1000).collect();
        let event = Event {
            type_: if news.warning { EventType::Warning } else { EventType::Normal },
            reason: news.reason.clone(),
            note: Some(note),
            action: news.reason.clone(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, &object.object_ref(&())).await {
            tracing::debug!("event {}: {error}", news.reason);
        }
    }
}
