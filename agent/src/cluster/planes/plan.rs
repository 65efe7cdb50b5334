//! What a control-plane node that joined does before its etcd starts, so that it is one member of the one cluster.
//!
//! Why here: a node may lose power, or its agent may be killed, between any two steps, and must never become a second member, nor
//! begin a cluster of its own. So nothing is remembered: the list of members and the data folder decide. Pure. Route in:
//! [`Observed`]. Route out: the next [`Step`], or a [`Refusal`] that a person must resolve.

use crate::etcd::program::Member;

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Name of this node.
    pub node: String,
    /// Where other members reach this node.
    pub peer: String,
    /// etcd has written data on this node.
    pub has_data: bool,
    /// node.toml has a token that is not redeemed: an administrator wants this node to become a member.
    pub is_invited: bool,
    /// The members, as the other members report them; none if none of them answers.
    pub members: Option<Vec<Member>>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Rename the data folder: it is of a member that was removed.
    SetAside,
    /// Add this node as a learner.
    Add,
    /// Take this node's learner out of the list: it was started, and its data is gone.
    Forget(u64),
    /// Start etcd; the text is its `--initial-cluster`, which it reads only without data.
    Start(String),
}

/// Why etcd is not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The members are not known, and there is no data.
    #[error("no member of etcd answers")]
    NoAnswer,
    /// This node is not a member, and nobody asked for it to become one.
    #[error("this node is not a member of etcd: it was removed")]
    Removed,
    /// It has a vote, and no data.
    #[error("this node is the member {0} of etcd, and the data of etcd on it is gone")]
    DataLost(String),
    /// etcd allows one learner at a time.
    #[error("another member of etcd is joining: {0}")]
    Another(String),
}

impl Refusal {
    /// What helps.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoAnswer => "check that a control-plane node runs and that this node reaches it on TCP ports 2379 and 6443; it \
                               is retried"
                .into(),
            Self::Removed => "run `sheaf-agent token create --control-plane` on a control-plane node, write token and \
                              certificate-key into node.toml and restart the agent; or install this machine again as a worker"
                .into(),
            Self::DataLost(name) => format!(
                "run `sheaf-agent etcd remove {name}` and `sheaf-agent token create --control-plane` on another control-plane node, \
                 write token and certificate-key into node.toml here and restart the agent"
            ),
            Self::Another(name) => format!(
                "it is retried when that one has joined; if it never will, run `sheaf-agent etcd remove {}` on a control-plane node",
                name.split(' ').next().unwrap_or_default()
            ),
        }
    }
}

/// The next step.
pub fn plan(observed: &Observed) -> Result<Step, Refusal> {
    let Some(members) = &observed.members else {
        // With data etcd finds the others by itself: all may be starting at once after a power cut.
        return match observed.has_data {
            true => Ok(Step::Start(initial(observed, &[]))),
            false => Err(Refusal::NoAnswer),
        };
    };
    let is_ours = |member: &&Member| member.name == observed.node || member.peers.contains(&observed.peer);
    match (members.iter().find(is_ours), observed.has_data) {
        (Some(_), true) => Ok(Step::Start(initial(observed, members))),
        (Some(ours), false) if ours.name.is_empty() => Ok(Step::Start(initial(observed, members))),
        (Some(ours), false) if ours.is_learner => Ok(Step::Forget(ours.id)),
        (Some(ours), false) => Err(Refusal::DataLost(ours.shown())),
        (None, _) if !observed.is_invited => Err(Refusal::Removed),
        (None, true) => Ok(Step::SetAside),
        (None, false) => match members.iter().find(|member| member.is_learner) {
            Some(other) => Err(Refusal::Another(other.shown())),
            None => Ok(Step::Add),
        },
    }
}

/// `NAME=URL,…` of all members that were started, and of this node.
fn initial(observed: &Observed, members: &[Member]) -> String {
    let others = members
        .iter()
        .filter(|member| !member.name.is_empty() && member.name != observed.node)
        .flat_map(|member| member.peers.iter().map(|peer| format!("{}={peer}", member.name)));
    let ours = format!("{}={}", observed.node, observed.peer);
    others.chain([ours]).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: &str = "https://192.0.2.12:2380";

    fn member(id: u64, name: &str, is_learner: bool) -> Member {
        let peer = if id == 2 { PEER.to_owned() } else { format!("https://192.0.2.1{id}:2380") };
        Member { id, name: name.into(), peers: vec![peer], is_learner, ..Member::default() }
    }

    fn observed(members: Option<Vec<Member>>, has_data: bool, is_invited: bool) -> Observed {
        Observed { node: "n2".into(), peer: PEER.into(), has_data, is_invited, members }
    }

    #[test]
    fn a_node_that_is_invited_becomes_a_learner_and_starts_with_the_names_of_the_others() {
        let first = vec![member(1, "n1", false)];
        assert_eq!(plan(&observed(Some(first.clone()), false, true)), Ok(Step::Add));
        let added = [first, vec![member(2, "", true)]].concat();
        assert_eq!(
            plan(&observed(Some(added), false, true)),
            Ok(Step::Start("n1=https://192.0.2.11:2380,n2=https://192.0.2.12:2380".into()))
        );
    }

    #[test]
    fn with_data_etcd_starts_though_no_other_member_answers_and_without_data_it_does_not() {
        let alone = "n2=https://192.0.2.12:2380".to_owned();
        assert_eq!(plan(&observed(None, true, false)), Ok(Step::Start(alone)));
        assert_eq!(plan(&observed(None, false, true)), Err(Refusal::NoAnswer));
    }

    #[test]
    fn a_member_that_was_removed_comes_back_only_by_a_new_token_and_with_its_old_data_set_aside() {
        let others = Some(vec![member(1, "n1", false), member(3, "n3", false)]);
        let refused = plan(&observed(others.clone(), true, false)).unwrap_err();
        assert_eq!(refused.to_string(), "this node is not a member of etcd: it was removed");
        assert!(refused.remedy().contains("sheaf-agent token create --control-plane"));
        assert_eq!(plan(&observed(others.clone(), true, true)), Ok(Step::SetAside));
        assert_eq!(plan(&observed(others, false, true)), Ok(Step::Add));
    }

    #[test]
    fn a_voting_member_without_data_is_refused_and_a_learner_without_data_is_added_again() {
        let of = |is_learner| Some(vec![member(1, "n1", false), member(2, "n2", is_learner)]);
        let refused = plan(&observed(of(false), false, true)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this node is the member n2 of etcd, and the data of etcd on it is gone"
        );
        assert!(refused.remedy().starts_with("run `sheaf-agent etcd remove n2` and"));
        assert_eq!(plan(&observed(of(true), false, true)), Ok(Step::Forget(2)));
    }

    #[test]
    fn two_nodes_join_one_after_the_other() {
        let others = Some(vec![member(1, "n1", false), member(3, "", true)]);
        let refused = plan(&observed(others, false, true)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "another member of etcd is joining: 3 (https://192.0.2.13:2380, never started)"
        );
        assert!(refused.remedy().ends_with("run `sheaf-agent etcd remove 3` on a control-plane node"));
    }

    /// A cluster of etcd and one node, as far as the plan sees and changes them.
    struct World {
        members: Vec<Member>,
        /// Number of the member whose data is on the node.
        data: Option<u64>,
        next: u64,
    }

    impl World {
        /// One step, of which only a part is done if `is_cut`.
        fn apply(&mut self, step: &Step, is_cut: bool) {
            match step {
                Step::SetAside => self.data = None,
                Step::Add => {
                    assert!(self.members.iter().all(|member| !member.is_learner), "etcd allows one learner");
                    self.members.push(Member { id: self.next, ..member(2, "", true) });
                    self.next += 1;
                }
                Step::Forget(id) => self.members.retain(|member| member.id != *id),
                Step::Start(_) => {
                    let Some(ours) =
                        self.members.iter_mut().find(|member| member.peers.contains(&PEER.into()))
                    else {
                        return; // etcd ends: the member was removed
                    };
                    assert!(self.data.is_none_or(|id| id == ours.id), "data of another member is used");
                    self.data = Some(ours.id);
                    if !is_cut {
                        ours.name = "n2".into();
                        ours.is_learner = false;
                    }
                }
            }
        }
    }

    proptest! {
        /// Whatever is cut, lost, removed or silent in whatever order: the node is never two members, never uses data of
        /// another member, adds nothing without an invitation, and becomes a member once it is left alone.
        #[test]
        fn no_order_of_crashes_gives_two_members_or_two_clusters(happens in prop::collection::vec((0..6_u8, any::<bool>()), 0..40)) {
            let mut world = World { members: vec![member(1, "n1", false)], data: None, next: 2 };
            for (what, invited) in happens {
                let answers = what != 0;
                if what == 1 {
                    world.members.retain(|member| !member.peers.contains(&PEER.into())); // removed by an administrator
                }
                if what == 2 {
                    world.data = None; // the disk is lost
                }
                let before = world.members.len();
                let seen = answers.then(|| world.members.clone());
                if let Ok(step) = plan(&observed(seen, world.data.is_some(), invited)) {
                    prop_assert!(answers || world.data.is_some(), "a cluster of its own: {step:?}");
                    world.apply(&step, what == 3);
                    prop_assert!(invited || world.members.len() <= before, "added without an invitation");
                }
                let ours = world.members.iter().filter(|member| member.peers.contains(&PEER.into())).count();
                prop_assert!(ours <= 1, "{:?}", world.members);
            }
            // Left alone, with an invitation; the administrator follows the one remedy that needs one.
            for _ in 0..6 {
                match plan(&observed(Some(world.members.clone()), world.data.is_some(), true)) {
                    Ok(step) => world.apply(&step, false),
                    Err(Refusal::DataLost(_)) => world.members.retain(|member| member.name != "n2"),
                    Err(other) => prop_assert!(false, "{other}"),
                }
            }
            let ours: Vec<_> = world.members.iter().filter(|member| member.name == "n2").collect();
            prop_assert!(ours.len() == 1 && !ours[0].is_learner && world.data == Some(ours[0].id), "{:?}", world.members);
        }
    }
}
