//! What a round leaves: when the next is due, and what the controller waits for.

use std::time::Duration;

/// The end of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// At the latest after this; without it only when something wakes the controller.
    pub after: Option<Duration>,
    /// What is missing before it can do its work; shown on the status page.
    pub waiting_for: Option<&'static str>,
}

impl Next {
    /// When something wakes it.
    pub const WOKEN: Self = Self { after: None, waiting_for: None };

    /// After `interval`, or when something wakes it.
    pub const fn after(interval: Duration) -> Self {
        Self { after: Some(interval), waiting_for: None }
    }

    /// The same; the controller can do nothing before `what` is there.
    #[must_use]
    pub const fn waiting_for(self, what: &'static str) -> Self {
        Self { waiting_for: Some(what), ..self }
    }

    /// Whichever is due sooner.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        let after = self.after.into_iter().chain(other.after).min();
        Self { after, waiting_for: self.waiting_for.or(other.waiting_for) }
    }

    /// No later than after `interval`.
    #[must_use]
    pub fn within(self, interval: Duration) -> Self {
        self.sooner(Self::after(interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sooner_of_two_is_due_and_what_is_waited_for_stays() {
        let second = Duration::from_secs(1);
        let next = Next::WOKEN.waiting_for("disks").within(second * 9).sooner(Next::after(second));
        assert_eq!(next, Next { after: Some(second), waiting_for: Some("disks") });
        assert_eq!(Next::WOKEN.sooner(Next::WOKEN), Next::WOKEN);
    }
}
