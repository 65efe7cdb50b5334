//! Conditions with the time of their last change.
//!
//! Route in: conditions as they are now, and as they were. Route out: the same with `lastTransitionTime`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use sheaf_api::status::Condition;

/// Dates `conditions`: one whose status did not change keeps the date it had in `before`.
pub fn dated(conditions: Vec<Condition>, before: &[Condition], now: Timestamp) -> Vec<Condition> {
    // The API server keeps whole seconds; a finer time would differ from what is read back.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let date = |condition: Condition| {
        let same = before.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        let date = same.and_then(|old| old.last_transition_time.clone()).unwrap_or(Time(now));
        Condition { last_transition_time: Some(date), ..condition }
    };
    conditions.into_iter().map(date).collect()
}
