//! What replica sets and pools have in common: whose an object is, how it is released, conditions of the two.
//!
//! Why here: both keep objects that they own and that their selector matches. Pure. Route in: objects as they were read. Route
//! out: answers, patches and conditions.

use json_patch::Patch;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::LabelSelector, jiff::Timestamp};
use kube::{
    Resource,
    core::{Selector, SelectorExt},
};
use serde_json::json;
use sheaf_api::{selector, status::Condition};

use crate::{
    conditions::{clear, find, set},
    events::Event,
};

/// Objects that are created in one pass; each that appears causes the next pass.
pub const BURST: usize = 100;

/// Why a pass failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One CamelCase word.
    pub reason: &'static str,
    /// What the API server answered.
    pub message: String,
}

/// Whether `object` has the owner with the UID `owner` as its controller.
pub fn owns<K: Resource>(owner: Option<&str>, object: &K) -> bool {
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.any(|reference| reference.controller == Some(true) && Some(reference.uid.as_str()) == owner)
}

/// Whether the labels of `object` match. A selector that cannot be read, which the API server refuses, matches all.
pub fn matches<K: Resource>(selector: &LabelSelector, object: &K) -> bool {
    let labels = object.meta().labels.clone().unwrap_or_default();
    selector::of(selector).is_none_or(|selector| selector.matches(&labels))
}

/// Removes the owner with the UID `owner`, if the object and its owners are as they were read.
pub fn release<K: Resource>(object: &K, owner: Option<&str>) -> Patch {
    let before = object.meta().owner_references.clone().unwrap_or_default();
    let after: Vec<_> = before.iter().filter(|reference| Some(reference.uid.as_str()) != owner).collect();
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": object.meta().uid},
        {"op": "test", "path": "/metadata/ownerReferences", "value": before},
        {"op": "replace", "path": "/metadata/ownerReferences", "value": after},
    ]);
    serde_json::from_value(patch).unwrap_or_default()
}

/// The selector as a string.
pub fn selector_text(selector: &LabelSelector) -> Option<String> {
    selector::of(selector).as_ref().map(Selector::to_string)
}

/// Sets or removes ReplicaFailure and ReplicaPaused, and returns the Events that tell of a change.
pub fn conditions(
    conditions: &mut Vec<Condition>,
    paused: bool,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Vec<Event> {
    let mut events = Vec::new();
    match failure {
        Some(Failure { reason, message }) => {
            set(conditions, "ReplicaFailure", "True", reason, message, now);
            events.push(Event::warning(reason, message.clone()));
        }
        None => clear(conditions, "ReplicaFailure"),
    }
    match (paused, find(conditions, "ReplicaPaused").is_some()) {
        (true, false) => {
            set(conditions, "ReplicaPaused", "True", "Paused", "spec.paused is true", now);
            events
                .push(Event::normal("SuccessfulPaused", "nothing is created or deleted until it is resumed"));
        }
        (false, true) => {
            clear(conditions, "ReplicaPaused");
            events.push(Event::normal("SuccessfulResumed", "objects are created and deleted again"));
        }
        _ => {}
    }
    events
}

/// A count as a status has it.
pub fn count(many: usize) -> i32 {
    i32::try_from(many).unwrap_or(i32::MAX)
}
