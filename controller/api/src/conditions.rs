//! Conditions of a status: set by type, with the time of the last change kept honest.
//!
//! Why here: every controller and the agent report them. Route in: the conditions as they were. Route out: as they are now.

use crate::status::Condition;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

/// The time as statuses write it: whole seconds.
pub fn seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// Sets the condition `type_`; its transition time changes only with its status.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_string());
    let before = conditions.iter().find(|condition| condition.type_ == type_ && condition.status == status);
    let since = before.and_then(|condition| condition.last_transition_time.clone());
    let condition = Condition {
        type_: type_.into(),
        status: status.into(),
        last_transition_time: Some(since.unwrap_or_else(|| seconds(now))),
        reason: text(reason),
        message: text(message),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

/// Removes the condition `type_`.
pub fn clear(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|condition| condition.type_ != type_);
}

/// The condition `type_`.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
