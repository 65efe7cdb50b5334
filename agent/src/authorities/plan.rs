//! The next step towards: every CA's certificate lasts, and is the same on all control-plane nodes. Pure.
//!
//! Route in: [`Observed`]. Route out: a [`Step`].

use super::certificates::Certificates;
use crate::shared_keys::{Document as _, Shared};
use std::fmt;

/// What the next step follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The certificates of this node.
    pub held: Certificates,
    /// Names of CAs whose certificate is to be made again.
    pub due: Vec<String>,
    /// The other control-plane nodes; none if this is the only one.
    pub shared: Option<Shared<Certificates>>,
}

/// One thing to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Take the certificates that the control-plane nodes share.
    Adopt(Box<Certificates>),
    /// Say that this node has them.
    Report,
    /// Make those of these CAs again.
    Renew(Vec<String>),
    /// These nodes come first.
    Wait(Vec<String>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopt(_) => f.write_str("take the certificates of CAs that the control-plane nodes share"),
            Self::Report => f.write_str("report that this node has the certificates of CAs"),
            Self::Renew(names) => {
                write!(f, "make the certificates of CAs again, for the same keys: {}", names.join(", "))
            }
            Self::Wait(names) => write!(f, "wait for {}", names.join(", ")),
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The next step; none when nothing is left.
pub fn plan(observed: &Observed) -> Option<Step> {
    let Observed { held, due, shared } = observed;
    if let Some(Shared { document, peers }) = shared {
        let (ours, theirs) = (held.generation(), document.as_ref().map(Certificates::generation));
        if let Some(newer) = document.as_ref().filter(|newer| newer.generation() > ours) {
            return Some(Step::Adopt(Box::new(newer.clone())));
        }
        if theirs == Some(ours) && !peers.has_reported(&held.mark()) {
            return Some(Step::Report);
        }
        if !due.is_empty() && !peers.leads {
            return Some(Step::Wait(peers.leader()));
        }
    }
    (!due.is_empty()).then(|| Step::Renew(due.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::create::pki::Pki;
    use crate::etcd::keys::tests::make;
    use crate::paths::Paths;
    use crate::shared_keys::peers::Peers;
    use std::time::{Duration, SystemTime};

    #[test]
    fn one_node_makes_them_again_and_the_others_take_them_in_any_order() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        make(&paths);
        let (pki, late) =
            (Pki { dir: paths.kubernetes }, SystemTime::now() + Duration::from_secs(9 * 365 * 24 * 3600));
        let held = Certificates::load(&pki).unwrap().unwrap();
        let due = held.due(late);
        let alone = Observed { held: held.clone(), due: due.clone(), shared: None };
        assert_eq!(plan(&alone), Some(Step::Renew(due.clone())));
        assert_eq!(plan(&Observed { due: Vec::new(), ..alone.clone() }), None);
        let with = |document: Option<&Certificates>, leads, reported: Option<&Certificates>| {
            let members = ["a", "b"].map(str::to_owned).to_vec();
            let applied = reported.map(|one| ("b".to_owned(), one.mark())).into_iter().collect();
            let peers = Peers { node: "b".into(), members, applied, leads };
            Some(Shared { document: document.cloned(), peers })
        };
        let of = |shared| Observed { shared, ..alone.clone() };
        assert_eq!(plan(&of(with(None, true, None))), Some(Step::Renew(due.clone())));
        assert_eq!(plan(&of(with(None, false, None))), Some(Step::Wait(vec!["a".into()])));
        let renewed = held.renewed(&pki, &due, late).unwrap();
        assert_eq!(
            plan(&of(with(Some(&renewed), false, None))),
            Some(Step::Adopt(Box::new(renewed.clone())))
        );
        let taken = |reported| Observed {
            held: renewed.clone(),
            due: Vec::new(),
            shared: with(Some(&renewed), false, reported),
        };
        assert_eq!(plan(&taken(None)), Some(Step::Report));
        assert_eq!(plan(&taken(Some(&renewed))), None);
    }
}
