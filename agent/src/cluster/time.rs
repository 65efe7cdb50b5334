//! Points in time as Kubernetes writes them.
//!
//! Why here: one conversion, exact to the second. Route in: the system's clock. Route out: RFC 3339 in UTC.

use k8s_openapi::jiff::Timestamp;
use std::time::SystemTime;

/// `2026-01-31T12:00:00Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Timestamp::from_second(i64::try_from(seconds).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_has_whole_seconds_and_a_z() {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_600_000_000_900);
        assert_eq!(super::rfc3339(time), "2020-09-13T12:26:40Z");
    }
}
