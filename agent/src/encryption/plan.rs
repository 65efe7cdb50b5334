//! The next step towards: one key, and every Secret encrypted with it. Pure.
//!
//! Why these steps: between any two of them kube-apiserver can read all that is in etcd, also when a second one still runs with
//! the keys from before the step. A new key decrypts first, then encrypts; the former one goes only when etcd holds nothing of
//! it. With several control-plane nodes a change is shared first, and the next one waits until every API server runs with it. Route in: [`Observed`]. Route out: a [`Step`], or why there is none.

use super::keys::Ring;
use super::stored::Stored;
use crate::shared_keys::{Follow, Shared, follow};
use std::fmt;

/// What the next step follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// All keys.
    pub ring: Ring,
    /// kube-apiserver runs with them.
    pub is_served: bool,
    /// What is in etcd; asked for only when [`needs_stored`].
    pub stored: Option<Stored>,
    /// When the oldest snapshot on this node was taken, in seconds since 1970; none without one.
    pub oldest_snapshot: Option<u64>,
    /// The other control-plane nodes; none if this is the only one.
    pub shared: Option<Shared<Ring>>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// With several control-plane nodes: what comes before the change itself.
    Follow(Follow<Ring>),
    /// Start kube-apiserver with the keys as they are.
    Serve,
    /// Make this key the first.
    Promote(String),
    /// Write so many Secrets again.
    Rewrite(u64),
    /// All Secrets are encrypted with this key: take the others out of use.
    Settle(String),
    /// Forget keys that no snapshot on this node needs any more.
    Forget(Vec<String>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Follow(first) => write!(f, "{first}"),
            Self::Serve => f.write_str("restart kube-apiserver with the keys of Secrets as they are now"),
            Self::Promote(key) => write!(f, "encrypt with key {key} from now on"),
            Self::Rewrite(count) => write!(f, "encrypt {count} Secrets again"),
            Self::Settle(key) => write!(f, "take all keys but {key} out of use"),
            Self::Forget(keys) => write!(f, "forget keys that no snapshot needs: {}", keys.join(", ")),
        }
    }
}

/// Why there is no step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// A key is missing.
    #[error(
        "{count} Secrets in etcd are encrypted with key {key}, which this node does not have: restore with the keys of the \
         cluster that were saved when it was in use (sheaf-agent snapshot restore … --keys FILE)"
    )]
    MissingKey {
        /// Its name.
        key: String,
        /// Secrets that it is needed for.
        count: u64,
    },
}

/// Whether the next step depends on what is in etcd.
pub fn needs_stored(ring: &Ring, is_served: bool) -> bool {
    is_served && !ring.is_settled() && newer(ring).is_none()
}

/// A key that is in use, newer than the first.
fn newer(ring: &Ring) -> Option<&str> {
    let first = ring.first()?.number;
    let newest = ring.keys.iter().max_by_key(|key| key.number)?;
    (newest.number > first).then_some(&newest.name)
}

/// The next step; none when all is done.
pub fn plan(observed: &Observed) -> Result<Option<Step>, Stuck> {
    let Observed { ring, is_served, stored, oldest_snapshot, shared } = observed;
    let first = shared.as_ref().and_then(|shared| follow(ring, *is_served, ring.is_settled(), shared));
    if let Some(first) = first {
        return Ok(Some(Step::Follow(first)));
    }
    if !is_served {
        return Ok(Some(Step::Serve));
    }
    if let Some(newer) = newer(ring) {
        return Ok(Some(Step::Promote(newer.to_owned())));
    }
    let Some(first) = ring.first() else { return Ok(None) };
    if !ring.is_settled() {
        let Some(stored) = stored else { return Ok(None) };
        let missing = stored.by_key.iter().find(|(name, _)| !ring.all().any(|key| key.name == **name));
        if let Some((key, count)) = missing {
            return Err(Stuck::MissingKey { key: key.clone(), count: *count });
        }
        return Ok(Some(match stored.besides(&first.name) {
            0 => Step::Settle(first.name.clone()),
            count => Step::Rewrite(count),
        }));
    }
    // A snapshot from before a key came out of use may hold Secrets of it.
    let is_done = |retired: u64| oldest_snapshot.is_none_or(|oldest| oldest > retired);
    let done: Vec<String> =
        ring.retired.iter().filter(|key| is_done(key.retired_at())).map(|key| key.name.clone()).collect();
    Ok((!done.is_empty()).then_some(Step::Forget(done)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    const NOW: u64 = 1_600_000_000;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn observed(ring: &Ring, stored: &[(&str, u64)], plain: u64) -> Observed {
        let by_key = stored.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Observed {
            ring: ring.clone(),
            is_served: true,
            stored: Some(Stored { by_key, plain }),
            oldest_snapshot: None,
            shared: None,
        }
    }

    #[test]
    fn secrets_of_a_cluster_without_encryption_are_rewritten_before_the_key_counts_as_the_only_one() {
        let ring = Ring::generate(now()).unwrap();
        let name = ring.keys[0].name.clone();
        let not_served = Observed { is_served: false, stored: None, ..observed(&ring, &[], 0) };
        assert_eq!(plan(&not_served), Ok(Some(Step::Serve)));
        assert_eq!(plan(&observed(&ring, &[(&name, 2)], 5)), Ok(Some(Step::Rewrite(5))));
        assert_eq!(plan(&observed(&ring, &[(&name, 7)], 0)), Ok(Some(Step::Settle(name.clone()))));
        let settled = Ring { settled: Some(name), ..ring };
        assert_eq!(plan(&observed(&settled, &[], 0)), Ok(None));
        assert!(!needs_stored(&settled, true));
    }

    #[test]
    fn a_new_key_is_served_then_first_then_served_then_everything_is_rewritten_and_the_former_goes() {
        let mut ring = Ring::generate(now()).unwrap();
        ring.add(now()).unwrap();
        let (old, new) = (ring.keys[0].name.clone(), ring.keys[1].name.clone());
        let state = |ring: &Ring| Observed { stored: None, ..observed(ring, &[], 0) };
        assert_eq!(plan(&Observed { is_served: false, ..state(&ring) }), Ok(Some(Step::Serve)));
        assert_eq!(plan(&state(&ring)), Ok(Some(Step::Promote(new.clone()))));
        assert!(!needs_stored(&ring, true), "nothing is encrypted with it yet");
        ring.keys.reverse();
        assert_eq!(plan(&Observed { is_served: false, ..state(&ring) }), Ok(Some(Step::Serve)));
        assert!(needs_stored(&ring, true));
        assert_eq!(plan(&observed(&ring, &[(&old, 3), (&new, 1)], 0)), Ok(Some(Step::Rewrite(3))));
        assert_eq!(plan(&observed(&ring, &[(&new, 4)], 0)), Ok(Some(Step::Settle(new))));
    }

    #[test]
    fn a_secret_whose_key_is_not_here_is_named_and_nothing_is_taken_out_of_use() {
        let ring = Ring::generate(now()).unwrap();
        let stuck = plan(&observed(&ring, &[("k7-cc", 2)], 0)).unwrap_err();
        assert_eq!(
            stuck.to_string(),
            "2 Secrets in etcd are encrypted with key k7-cc, which this node does not have: restore with the keys of the \
             cluster that were saved when it was in use (sheaf-agent snapshot restore … --keys FILE)"
        );
    }

    #[test]
    fn a_key_out_of_use_is_kept_as_long_as_a_snapshot_from_before_is_on_the_node() {
        let mut ring = Ring::generate(now()).unwrap();
        ring.add(now()).unwrap();
        let mut former = ring.keys.remove(0);
        former.retired = Some(crate::cluster::time::rfc3339(now()));
        let name = former.name.clone();
        ring.retired = vec![former];
        ring.settled = Some(ring.keys[0].name.clone());
        let with = |oldest_snapshot| Observed { oldest_snapshot, ..observed(&ring, &[], 0) };
        assert_eq!(plan(&with(Some(NOW))), Ok(None));
        assert_eq!(plan(&with(Some(NOW + 1))), Ok(Some(Step::Forget(vec![name.clone()]))));
        assert_eq!(plan(&with(None)), Ok(Some(Step::Forget(vec![name]))));
    }
}
