//! The next step towards: one key signs, and every token that is valid can be verified. Pure.
//!
//! Why these steps: a token of the new key is verified on every API server before any server signs one, and the former key verifies
//! until the last token of it has ended. Route in: [`Observed`]. Route out: a [`Step`].

use super::keys::KeySet;
use super::tokens::Others;
use crate::shared_keys::{Follow, Shared, follow};
use std::fmt;
use std::time::SystemTime;

/// What the next step follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// All keys.
    pub set: KeySet,
    /// kube-apiserver and kube-controller-manager run with them.
    pub is_served: bool,
    /// The other control-plane nodes; none if this is the only one.
    pub shared: Option<Shared<KeySet>>,
    /// Secrets whose token is not of the key that signs; asked for only when [`needs_tokens`].
    pub tokens: Others,
    /// The time.
    pub now: SystemTime,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// With several control-plane nodes: what comes before the change itself.
    Follow(Follow<KeySet>),
    /// Start kube-apiserver and kube-controller-manager with the keys as they are.
    Serve,
    /// Have this key sign.
    Sign(u32),
    /// Have the tokens in these Secrets made again.
    Renew(Vec<(String, String)>),
    /// Nothing signs with these any more.
    Retire(Vec<u32>),
    /// The last token of these has ended: they verify no more.
    Forget(Vec<u32>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |numbers: &[u32]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Follow(first) => write!(f, "{first}"),
            Self::Serve => f.write_str(
                "restart kube-apiserver and kube-controller-manager with the keys of service accounts as they are now",
            ),
            Self::Sign(number) => write!(f, "sign with key {number} from now on"),
            Self::Renew(secrets) => write!(f, "have the tokens in {} Secrets made again", secrets.len()),
            Self::Retire(numbers) => write!(f, "note that nothing signs with key {} any more", list(numbers)),
            Self::Forget(numbers) => {
                write!(f, "forget key {}, whose last token has ended", list(numbers))
            }
        }
    }
}

fn first(observed: &Observed) -> Option<Follow<KeySet>> {
    let Observed { set, is_served, shared, now, .. } = observed;
    shared.as_ref().and_then(|shared| follow(set, *is_served, set.is_settled(*now), shared))
}

/// Whether the next step depends on the tokens in Secrets.
pub fn needs_tokens(observed: &Observed) -> bool {
    first(observed).is_none()
        && observed.is_served
        && observed.set.next_key().is_none()
        && !observed.set.former().is_empty()
}

/// The next step; none when all is done for now.
pub fn plan(observed: &Observed) -> Option<Step> {
    if let Some(first) = first(observed) {
        return Some(Step::Follow(first));
    }
    let Observed { set, is_served, tokens, now, .. } = observed;
    if !is_served {
        return Some(Step::Serve);
    }
    if let Some(number) = set.next_key() {
        return Some(Step::Sign(number));
    }
    let (former, ended) = (set.former(), set.ended(*now));
    if !former.is_empty() {
        return Some(match (tokens.stale.is_empty(), tokens.empty.first()) {
            (false, _) => Step::Renew(tokens.stale.clone()),
            (true, Some((namespace, name))) => {
                let left = tokens.empty.len();
                Step::Follow(Follow::Wait(vec![format!(
                    "kube-controller-manager to fill {left} Secrets with tokens, as {namespace}/{name}"
                )]))
            }
            (true, None) => Step::Retire(former),
        });
    }
    (!ended.is_empty()).then_some(Step::Forget(ended))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
