//! What is done next for a disk that a Pod waits for.
//!
//! Why here: a registry that a tenant names may be slow for minutes, so a namespace has one pull at a time, and those of others
//! go on beside it. Pure. Route in: what is wanted, what is kept, what failed, which namespaces pull. Route out: one [`Step`] for
//! each.

use super::index::Kept;
use super::wanted::{Key, Wanted};
use sheaf_api::volumes::PullPolicy;
use std::collections::{BTreeMap, BTreeSet};

/// Most pulls at a time: they share one uplink and one disk.
const MOST: usize = 4;

/// What becomes of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is here, and its policy does not ask for more.
    Take(Kept),
    /// The registry is asked now.
    Pull,
    /// Other pulls are under way, or its own.
    Wait,
    /// It failed; the next try waits.
    BackOff,
    /// It may not be pulled, and is not here.
    Absent,
}

/// The steps for `wanted`, of which `kept` finds what is here; those that are `done` need none.
pub fn plan(
    wanted: &BTreeMap<Key, Wanted>,
    done: impl Fn(&Key) -> bool,
    kept: impl Fn(&Wanted) -> Option<Kept>,
    is_waiting: impl Fn(&Key) -> bool,
    busy: &BTreeSet<String>,
) -> Vec<(Key, Step)> {
    let mut busy = busy.clone();
    let mut steps = Vec::new();
    for (key, one) in wanted.iter().filter(|(key, _)| !done(key)) {
        let step = match (one.policy, kept(one)) {
            (PullPolicy::IfNotPresent | PullPolicy::Never, Some(kept)) => Step::Take(kept),
            (PullPolicy::Never, None) => Step::Absent,
            _ if is_waiting(key) => Step::BackOff,
            _ if busy.len() >= MOST || busy.contains(&one.namespace) => Step::Wait,
            _ => {
                busy.insert(one.namespace.clone());
                Step::Pull
            }
        };
        steps.push((key.clone(), step));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(image: &str, policy: PullPolicy) -> Wanted {
        Wanted {
            namespace: "a".into(),
            image: image.into(),
            path: None,
            is_boot_file: false,
            policy,
            secrets: Vec::new(),
        }
    }

    fn steps(policies: &[PullPolicy], is_kept: bool, waiting: &str, busy: &[&str]) -> Vec<Step> {
        let key = |at: usize| (format!("p{at}"), "disk".to_owned());
        let all =
            policies.iter().enumerate().map(|(at, policy)| (key(at), wanted("quay.io/a", *policy))).collect();
        let kept = |_: &Wanted| is_kept.then(Kept::default);
        let steps = plan(
            &all,
            |_| false,
            kept,
            |key| key.0 == waiting,
            &busy.iter().map(ToString::to_string).collect(),
        );
        steps.into_iter().map(|(_, step)| step).collect()
    }

    #[test]
    fn the_policy_decides_whether_the_registry_is_asked() {
        use PullPolicy::{Always, IfNotPresent, Never};
        assert_eq!(steps(&[Always], true, "", &[]), [Step::Pull], "the tag may lead elsewhere now");
        for policy in [IfNotPresent, Never] {
            assert_eq!(steps(&[policy], true, "", &["a"]), [Step::Take(Kept::default())]);
        }
        assert_eq!(steps(&[IfNotPresent, Never], false, "", &[]), [Step::Pull, Step::Absent]);
    }

    #[test]
    fn a_namespace_pulls_one_at_a_time_and_one_that_failed_holds_up_no_other() {
        use PullPolicy::IfNotPresent;
        assert_eq!(steps(&[IfNotPresent; 3], false, "p0", &["b"]), [Step::BackOff, Step::Pull, Step::Wait]);
        assert_eq!(steps(&[IfNotPresent; 2], false, "p0", &["a"]), [Step::BackOff, Step::Wait]);
        assert_eq!(
            steps(&[IfNotPresent], false, "", &["b", "c", "d", "e"]),
            [Step::Wait],
            "no more than four in all"
        );
    }
}
