//! How long a snapshot may take.
//!
//! Why here: KubeVirt's default and meaning. Pure. Route in: `spec.failureDeadline`, as Go writes durations. Route out: the
//! seconds that are left.

use k8s_openapi::jiff::Timestamp;
use sheaf_api::vm_snapshot::VirtualMachineSnapshot;

use crate::aggregated::options::go_seconds;

/// How long a snapshot may take when it does not say, in seconds.
const DEFAULT: u64 = 300;

/// Seconds until the deadline of a snapshot, if it has one.
pub fn left(snapshot: &VirtualMachineSnapshot, now: Timestamp) -> Option<u64> {
    let most = match snapshot.spec.failure_deadline.as_deref() {
        None => DEFAULT,
        Some("0") => 0,
        Some(text) => go_seconds(text).unwrap_or(DEFAULT),
    };
    if most == 0 {
        return None;
    }
    let created = snapshot.metadata.creation_timestamp.as_ref().map_or(now, |created| created.0);
    let gone = u64::try_from(now.as_second().saturating_sub(created.as_second())).unwrap_or_default();
    Some(most.saturating_sub(gone))
}
