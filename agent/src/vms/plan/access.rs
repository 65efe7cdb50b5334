//! When the agent in a guest is to set credentials, and what is reported of it.
//!
//! Route in: what Secrets say, what was set before, whether the guest has an agent. Route out: what to set now; the condition.

use super::Credentials;
use crate::vms::credentials::Wanted;
use sheaf_host::libvirt::{Domain, State};
use std::sync::Arc;

/// Seconds after which they are set again although nothing changed: KubeVirt's. The guest may have lost them.
const AGAIN: i64 = 300;

/// Seconds after a failure.
const RETRY: i64 = 60;

/// What the agent is to set now.
pub(super) fn due(of: &Credentials, domain: &Domain, now: i64) -> Option<Arc<Wanted>> {
    // The agent of a guest that stands still does not answer.
    let can = domain.agent && domain.state == State::Running;
    let waits = of.failed.as_ref().is_some_and(|(_, at)| now < at.saturating_add(RETRY));
    let wanted = of.wanted.as_ref().filter(|_| can && !waits)?;
    let is_set = of.set.as_ref().is_some_and(|(set, at)| set == wanted && now < at.saturating_add(AGAIN));
    (!is_set).then(|| wanted.clone())
}

/// Whether it was set, or why not; nothing before that is known.
pub(super) fn state(of: &Credentials, domain: &Domain) -> Option<Result<(), String>> {
    if let Some(why) = of.unreadable.as_ref().or(of.failed.as_ref().map(|(why, _)| why)) {
        return Some(Err(why.clone()));
    }
    let wanted = of.wanted.as_ref()?;
    match &of.set {
        Some((set, _)) if set == wanted => Some(Ok(())),
        // KubeVirt's words.
        _ => (!domain.agent).then(|| Err("Guest agent is offline".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::testing;

    const NOW: i64 = 1_800_000_000;

    fn wanted(password: &str) -> Arc<Wanted> {
        Arc::new(Wanted { passwords: [("ann".into(), password.into())].into(), ..Wanted::default() })
    }

    #[test]
    fn credentials_are_set_once_an_agent_is_there_again_when_they_change_and_every_five_minutes() {
        let mut domain = testing::domain("p1");
        let mut of = Credentials { wanted: Some(wanted("a")), ..Credentials::default() };
        assert_eq!(due(&of, &domain, NOW), None);
        assert_eq!(state(&of, &domain), Some(Err("Guest agent is offline".into())));
        domain.agent = true;
        assert_eq!((due(&of, &domain, NOW), state(&of, &domain)), (Some(wanted("a")), None));
        of.set = Some((wanted("a"), NOW));
        assert_eq!((due(&of, &domain, NOW + 1), state(&of, &domain)), (None, Some(Ok(()))));
        assert_eq!(due(&of, &domain, NOW + AGAIN), Some(wanted("a")));
        of.wanted = Some(wanted("b"));
        assert_eq!(due(&of, &domain, NOW + 1), Some(wanted("b")));
    }

    #[test]
    fn what_failed_is_reported_and_tried_again_after_a_minute() {
        let mut domain = testing::domain("p1");
        domain.agent = true;
        let failed = Some(("no such user".to_owned(), NOW));
        let of = Credentials { wanted: Some(wanted("a")), failed, ..Credentials::default() };
        assert_eq!((due(&of, &domain, NOW + 1), due(&of, &domain, NOW + RETRY)), (None, Some(wanted("a"))));
        assert_eq!(state(&of, &domain), Some(Err("no such user".into())));
        domain.state = State::Paused;
        assert_eq!(due(&of, &domain, NOW + RETRY), None, "a guest that stands still is not asked");
    }
}
