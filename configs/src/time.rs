//! Points in time as people write them in recipes and read them in messages: RFC 3339, in UTC.
//!
//! Why here: a release says until when it may be taken; the builder writes that time, nodes and installers print it. Pure.
//! Route in: text or seconds since 1970. Route out: the other of the two.

use std::str::FromStr as _;
use std::time::Duration;
use x509_cert::der::DateTime;

/// Seconds since 1970 of `2027-06-01T00:00:00Z`; nothing for what is not such a time.
pub fn seconds(text: &str) -> Option<u64> {
    Some(DateTime::from_str(text).ok()?.unix_duration().as_secs())
}

/// `2027-06-01T00:00:00Z`; the number itself when it lies past the year 9999.
pub fn rfc3339(seconds: u64) -> String {
    let time = DateTime::from_unix_duration(Duration::from_secs(seconds));
    time.map_or_else(|_| format!("{seconds} s after 1970"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_text_are_the_same_time() {
        assert_eq!(seconds("2020-09-13T12:26:40Z"), Some(1_600_000_000));
        assert_eq!(rfc3339(1_600_000_000), "2020-09-13T12:26:40Z");
        assert_eq!(seconds("2024-02-29T00:00:00Z").map(rfc3339).as_deref(), Some("2024-02-29T00:00:00Z"));
        for not in ["", "2027-06-01", "2027-13-01T00:00:00Z", "2027-06-01T00:00:00+02:00", "tomorrow"] {
            assert_eq!(seconds(not), None, "{not}");
        }
        assert_eq!(rfc3339(u64::MAX), "18446744073709551615 s after 1970");
    }
}
