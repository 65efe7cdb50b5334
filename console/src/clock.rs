//! Seconds since 1970: what records of sessions and tokens have, so that replicas agree on them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in seconds. A clock before 1970 counts as 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}
