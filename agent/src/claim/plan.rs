//! Whether there is to be a claim, and what follows. Pure.
//!
//! Route in: [`Observed`], the time. Route out: [`Action`]s, in order.

use sheaf_config::claim::Claim;
use std::fmt;
use std::time::Duration;

/// Between the moment that a claim is gone and what follows from it: the console deletes it first, then makes the administrator
/// with the rights of `console:.claim`.
pub const GRACE: Duration = Duration::from_secs(60);

/// The Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What is in it; none: it is damaged.
    pub claim: Option<Claim>,
    /// `sheaf-agent claim new` made it.
    pub is_requested: bool,
    /// The node whose screens show the code.
    pub node: String,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Name of this node.
    pub node: String,
    /// This node made the cluster: it makes claims by itself.
    pub is_first: bool,
    /// Somebody administers the cluster.
    pub is_administered: bool,
    /// The claim, if there is one.
    pub kept: Option<Kept>,
    /// Since when there is none, for an agent that saw one before.
    pub gone_for: Option<Duration>,
    /// The user `console:.claim` has its rights.
    pub is_bound: bool,
    /// What the screens of this node show.
    pub code: Option<String>,
}

/// One thing to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Delete the claim.
    Close,
    /// Take the rights of `console:.claim` away.
    Unbind,
    /// Give them.
    Bind,
    /// Make a claim with a new code, and show that.
    Open,
    /// Show no code any more.
    Forget,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Close => "the claim of the cluster is closed",
            Self::Unbind => "the rights to make the first administrator end",
            Self::Bind => "the console may make the first administrator",
            Self::Open => "a code to claim the cluster is on the screens of this node",
            Self::Forget => "the code on the screens of this node is no longer valid",
        })
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Observed {
    /// The code on the screens is that of the claim.
    fn is_shown(&self) -> bool {
        let claim = self.kept.as_ref().and_then(|kept| kept.claim.as_ref());
        matches!((claim, &self.code), (Some(claim), Some(code)) if claim.is(code))
    }
}

/// What is to be done at `now`, in seconds since 1970.
pub fn plan(observed: &Observed, now: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    let claim = observed.kept.as_ref().and_then(|kept| kept.claim.as_ref());
    let is_open = claim.is_some_and(|claim| claim.is_open(now));
    let is_wanted = match &observed.kept {
        Some(kept) if observed.is_administered => kept.is_requested && is_open,
        _ => !observed.is_administered,
    };
    // The console may be about to use the rights of a claim that it took.
    let is_taken = observed.kept.is_none() && observed.gone_for.is_some_and(|gone| gone < GRACE);
    if !is_wanted {
        if observed.kept.is_some() {
            actions.push(Action::Close);
        }
        if observed.is_bound && !is_taken {
            actions.push(Action::Unbind);
        }
    } else if is_another_due(observed, now) {
        if observed.is_first && !is_taken {
            return vec![Action::Bind, Action::Open];
        }
    } else if is_open && !observed.is_bound {
        actions.push(Action::Bind);
    }
    if observed.code.is_some() && !observed.is_shown() {
        actions.push(Action::Forget);
    }
    actions
}

/// Whether the claim that there is, or is not, can be taken by nobody. Tries that are used up are no reason: that would be ten
/// more for one who guesses.
fn is_another_due(observed: &Observed, now: u64) -> bool {
    let Some(kept) = &observed.kept else { return true };
    let Some(claim) = &kept.claim else { return true };
    // Made before this node was restarted.
    let is_lost = kept.node == observed.node && !observed.is_shown();
    claim.ends <= now || is_lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_config::claim::LIFETIME;

    const CODE: &str = "01AB-23CD";
    const NOW: u64 = 1_800_000_000;

    fn kept() -> Kept {
        let claim = Some(Claim::new(CODE, "salt".into(), NOW));
        Kept { claim, is_requested: false, node: "n1".into() }
    }

    /// The node that made the cluster, with a claim that its screens show.
    fn open() -> Observed {
        Observed {
            node: "n1".into(),
            is_first: true,
            kept: Some(kept()),
            is_bound: true,
            code: Some(CODE.into()),
            ..Observed::default()
        }
    }

    #[test]
    fn a_cluster_without_an_administrator_has_a_claim_whose_code_the_first_node_shows() {
        let new = Observed { node: "n1".into(), is_first: true, ..Observed::default() };
        assert_eq!(plan(&new, NOW), [Action::Bind, Action::Open]);
        assert_eq!(plan(&open(), NOW), []);
        let other = Observed { node: "n2".into(), ..Observed::default() };
        assert_eq!(plan(&other, NOW), [], "further nodes make none by themselves");
    }

    #[test]
    fn with_an_administrator_the_claim_is_closed_first_and_its_rights_end_after_it() {
        let administered = Observed { is_administered: true, ..open() };
        assert_eq!(plan(&administered, NOW), [Action::Close, Action::Unbind]);
        let left = Observed { kept: None, ..administered.clone() };
        assert_eq!(plan(&left, NOW), [Action::Unbind, Action::Forget]);
        let never = Observed { is_administered: true, is_first: true, ..Observed::default() };
        assert_eq!(plan(&never, NOW), []);
    }

    #[test]
    fn the_console_has_a_minute_to_use_the_rights_of_a_claim_that_it_took() {
        let taken = Observed { kept: None, gone_for: Some(Duration::from_secs(59)), ..open() };
        assert_eq!(plan(&taken, NOW), [Action::Forget], "no code is made in between");
        let administered = Observed { is_administered: true, ..taken.clone() };
        assert_eq!(plan(&administered, NOW), [Action::Forget]);
        let over = Observed { gone_for: Some(GRACE), ..taken };
        assert_eq!(plan(&over, NOW), [Action::Bind, Action::Open], "it was taken, and nobody was made");
        assert_eq!(plan(&Observed { is_administered: true, ..over }, NOW), [Action::Unbind, Action::Forget]);
    }

    #[test]
    fn a_claim_whose_code_is_lost_or_whose_time_is_over_is_made_again_and_one_without_tries_is_not() {
        let restarted = Observed { code: None, ..open() };
        assert_eq!(plan(&restarted, NOW), [Action::Bind, Action::Open]);
        assert_eq!(plan(&open(), NOW + LIFETIME), [Action::Bind, Action::Open]);
        let damaged = Observed { kept: Some(Kept { claim: None, ..kept() }), ..open() };
        assert_eq!(plan(&damaged, NOW), [Action::Bind, Action::Open]);
        let mut guessed = open();
        if let Some(claim) = guessed.kept.as_mut().and_then(|kept| kept.claim.as_mut()) {
            claim.tries = 0;
        }
        assert_eq!(plan(&guessed, NOW), []);
        assert_eq!(plan(&guessed, NOW + LIFETIME), [Action::Bind, Action::Open]);
    }

    #[test]
    fn a_claim_that_was_asked_for_by_hand_stays_beside_administrators_until_its_end() {
        let requested = Some(Kept { is_requested: true, node: "n2".into(), ..kept() });
        let first = Observed { kept: requested, is_administered: true, code: None, ..open() };
        assert_eq!(plan(&first, NOW), [], "the code is on the screens of another node");
        assert_eq!(plan(&first, NOW + LIFETIME), [Action::Close, Action::Unbind]);
        assert_eq!(plan(&Observed { is_bound: false, ..first.clone() }, NOW), [Action::Bind]);
        let alone = Observed { is_administered: false, ..first };
        assert_eq!(plan(&alone, NOW), []);
        assert_eq!(plan(&alone, NOW + LIFETIME), [Action::Bind, Action::Open]);
    }
}
