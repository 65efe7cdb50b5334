//! Whether a source sends fast enough to keep its slot.
//!
//! Why here: few volumes are filled at a time, and a server that sends a byte now and then would keep others out without end.
//! Only the time that was spent on the source counts, not the time that the disk took. Pure. Route in: time and bytes.
//! Route out: whether to give up.

use std::time::Duration;

/// The rate is judged over this much time: a server may pause for minutes and make up for it.
pub(crate) const WINDOW: Duration = Duration::from_secs(5 * 60);
/// The least that must come, in bytes a second.
const LEAST: u128 = 64 << 10;

/// Time and bytes since the window began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    window: Duration,
    spent: Duration,
    bytes: u64,
}

/// Too few bytes came in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSlow;

impl Pace {
    /// One that judges every `window`.
    pub(crate) fn over(window: Duration) -> Self {
        Self { window, spent: Duration::ZERO, bytes: 0 }
    }

    /// Notes that `bytes` came after `spent` was waited for them.
    pub(crate) fn note(&mut self, spent: Duration, bytes: u64) -> Result<(), TooSlow> {
        self.spent = self.spent.saturating_add(spent);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.spent < self.window {
            return Ok(());
        }
        let is_enough = u128::from(self.bytes) * 1000 >= LEAST * self.window.as_millis();
        *self = Self::over(self.window);
        if is_enough { Ok(()) } else { Err(TooSlow) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_at_any_rate_below_64_kib_per_second_is_given_up_within_ten_minutes_and_none_above_it() {
        for (rate, step) in
            [(1, 59), (60 << 10, 1), (60 << 10, 50), (65 << 10, 1), (65 << 10, 60), (1 << 30, 1)]
        {
            let (mut pace, mut gave_up) = (Pace::over(WINDOW), None);
            for second in (step..=3600).step_by(step) {
                let noted = pace.note(Duration::from_secs(step as u64), rate * step as u64);
                gave_up = gave_up.or(noted.err().map(|_| second));
            }
            assert_eq!(gave_up.is_some(), rate < 64 << 10, "{rate} bytes/s");
            assert!(gave_up.is_none_or(|second| second <= 600), "{rate} bytes/s: {gave_up:?}");
        }
    }

    #[test]
    fn no_time_and_no_count_overflows() {
        let mut pace = Pace::over(WINDOW);
        for _ in 0..3 {
            assert_eq!(pace.note(Duration::MAX, u64::MAX), Ok(()));
            assert_eq!(pace.note(Duration::MAX, 0), Err(TooSlow));
        }
    }
}
