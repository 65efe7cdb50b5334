//! Whose request counts: that of the NodeUpdate, or the one that was made on the node itself. Pure.
//!
//! Why the later one: an administrator at the node acts while the API server is away or because of what the NodeUpdate did; one
//! who changes the NodeUpdate afterwards knows better again. Neither undoes the other silently. Route in: the NodeUpdate, if
//! it is known, the local request. Route out: what is wanted.

use super::observed::Wanted;
use super::records::{Local, Request};
use sheaf_api::node_update::Action;

/// What counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// The NodeUpdate's request, or nothing.
    Object(Option<Wanted>),
    /// That of this node; the NodeUpdate is passed over.
    Local(Wanted),
    /// The NodeUpdate was created or changed after the local request, which is over.
    Overruled(Wanted),
}

impl Chosen {
    /// What the node goes for.
    pub fn wanted(&self) -> Option<&Wanted> {
        match self {
            Self::Object(wanted) => wanted.as_ref(),
            Self::Local(wanted) | Self::Overruled(wanted) => Some(wanted),
        }
    }
}

/// Chooses. `object` is the NodeUpdate of this node, of which nothing is known unless `is_known`.
pub fn choose(object: Option<Wanted>, is_known: bool, local: Option<&Local>) -> Chosen {
    match (object, local) {
        (object, None) => Chosen::Object(object),
        (Some(object), Some(local)) if is_known && local.over.as_ref() != Some(&object.request) => {
            Chosen::Overruled(object)
        }
        (_, Some(local)) => Chosen::Local(wanted(local)),
    }
}

fn wanted(local: &Local) -> Wanted {
    Wanted {
        request: Request { uid: format!("local-{}", local.id), generation: 0 },
        version: local.version.clone(),
        source: local.source.clone(),
        channel: None,
        action: local.action,
        timeout: local.timeout,
        without_snapshot: local.without_snapshot,
        is_local: true,
    }
}

/// What the NodeUpdate says while it is passed over.
pub fn passed_over(local: &Wanted) -> String {
    let asked = match local.action {
        Action::Check => "checking",
        Action::Stage => "staging",
        Action::Apply => "running",
    };
    format!(
        "an administrator asked for {asked} {} on the node itself, after this NodeUpdate; change this NodeUpdate, or run \
         `sheaf-agent update cancel` on the node",
        local.version
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(generation: i64) -> Request {
        Request { uid: "u1".into(), generation }
    }

    fn object(generation: i64) -> Wanted {
        Wanted {
            request: request(generation),
            version: "0.3.0".into(),
            source: None,
            channel: None,
            action: Action::Apply,
            timeout: 600,
            without_snapshot: false,
            is_local: false,
        }
    }

    fn local(over: Option<Request>) -> Local {
        Local {
            id: "1".into(),
            version: "0.2.0".into(),
            source: None,
            action: Action::Apply,
            timeout: 600,
            without_snapshot: false,
            over,
        }
    }

    #[test]
    fn without_a_local_request_the_node_update_counts_if_there_is_one() {
        assert_eq!(choose(None, true, None), Chosen::Object(None));
        assert_eq!(choose(Some(object(1)), true, None), Chosen::Object(Some(object(1))));
    }

    #[test]
    fn a_local_request_counts_until_the_node_update_is_changed() {
        let asked = local(Some(request(1)));
        assert_eq!(choose(Some(object(1)), true, Some(&asked)), Chosen::Local(wanted(&asked)));
        assert_eq!(choose(Some(object(2)), true, Some(&asked)), Chosen::Overruled(object(2)));
        // One that was deleted asks for nothing.
        assert_eq!(choose(None, true, Some(&asked)), Chosen::Local(wanted(&asked)));
    }

    #[test]
    fn a_node_update_that_comes_after_the_local_request_counts() {
        let asked = local(None);
        assert_eq!(choose(None, false, Some(&asked)), Chosen::Local(wanted(&asked)));
        assert_eq!(choose(Some(object(1)), true, Some(&asked)), Chosen::Overruled(object(1)));
    }

    #[test]
    fn the_node_update_says_that_it_is_passed_over_and_what_to_do() {
        assert_eq!(
            passed_over(&wanted(&local(None))),
            "an administrator asked for running 0.2.0 on the node itself, after this NodeUpdate; change this NodeUpdate, or \
             run `sheaf-agent update cancel` on the node"
        );
    }
}
