//! Waits for a condition with a deadline, never blindly.
//!
//! Why here: it is the only place that sleeps. Route in: a closure that says whether the thing has come.
//! Route out: what it returned, or `None` when the deadline passed.

use std::time::{Duration, Instant};

/// Asks `ready` every `interval` until it returns something or `deadline` has passed (it is asked at least once).
pub fn until<T>(deadline: Duration, interval: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        #[allow(clippy::disallowed_methods)] // the one sleep: between two looks at a condition
        std::thread::sleep(interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_returns_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        let found = until(Duration::from_secs(5), Duration::from_millis(1), || {
            looks += 1;
            (looks == 3).then_some("here")
        });
        assert_eq!((found, looks), (Some("here"), 3));
    }

    #[test]
    fn it_gives_up_at_the_deadline() {
        assert_eq!(until(Duration::from_millis(5), Duration::from_millis(1), || None::<()>), None);
    }
}
