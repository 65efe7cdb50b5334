//! etcd's part of joining: what there is, one step of the plan, and the promotion.
//!
//! Why here: only etcd knows its members, and its own program `etcdctl` asks and changes them. Route in: the keys that the node
//! received, the addresses of the other control-plane nodes. Route out: `/run/sheaf/etcd.env`, a voting member. Blocks, but for
//! [`promoted`].

use super::plan::{Observed, Step, plan};
use crate::cluster::failure::{Failure, Remedy};
use crate::cluster::report::Reporter;
use crate::etcd::program::{self, Etcd, Health, Member};
use crate::paths::Paths;
use crate::reconcile::blocking;
use anyhow::{Context as _, anyhow};
use sheaf_host::file::{rename_durably, write_atomically};
use sheaf_host::run::Run;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Steps of the plan in a row, at most: set aside, add, start, and one more that a crash left over.
const STEPS: usize = 4;
/// How long etcd of this node may take to answer after it was started, and to receive the data of the cluster: 8 GiB on a slow
/// network.
const CATCH_UP: Duration = Duration::from_secs(15 * 60);
/// Between two tries to promote.
const PROMOTE_INTERVAL: Duration = Duration::from_secs(1);

/// What the unit of etcd reads.
const ENVIRONMENT: &str = "etcd.env";

/// Where the members are, and who this one is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Name of this node.
    pub node: String,
    /// Its address.
    pub address: IpAddr,
    /// Addresses of the other control-plane nodes.
    pub others: Vec<String>,
    /// An administrator wants it to be a member.
    pub is_invited: bool,
}

impl Place {
    fn peer(&self) -> String {
        program::peer_url(&program::host(self.address))
    }

    fn etcd_of_others(&self, paths: &Paths) -> Etcd {
        Etcd::others(paths, self.others.iter().map(|host| program::client_url(host)).collect())
    }
}

/// Writes what the unit of etcd reads, unless it is there.
pub fn write_environment(run: &Path, members: &str, state: &str) -> anyhow::Result<()> {
    let path = run.join(ENVIRONMENT);
    let text = format!("SHEAF_ETCD_MEMBERS={members}\nSHEAF_ETCD_STATE={state}\n");
    if std::fs::read_to_string(&path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    Ok(write_atomically(&path, text.as_bytes(), 0o644)?)
}

/// Whether etcd has written data: the log is put in place whole.
pub fn has_data(paths: &Paths) -> bool {
    paths.etcd.join("data/member/wal").exists()
}

fn observe(paths: &Paths, run: &dyn Run, place: &Place) -> Observed {
    let etcd = place.etcd_of_others(paths);
    let asked = match place.others.is_empty() {
        true => None,
        false => run.run(&etcd.members()).ok(),
    };
    Observed {
        node: place.node.clone(),
        peer: place.peer(),
        has_data: has_data(paths),
        is_invited: place.is_invited,
        members: asked.and_then(|output| program::members(&output.text()).ok()),
    }
}

/// Makes this node a member, if it is to become one, and writes how its etcd starts.
pub fn prepare(paths: &Paths, run: &dyn Run, place: &Place) -> Result<(), Failure> {
    let step = "becoming a member of etcd";
    let remedy = "read `journalctl -u sheaf-agent`; it is retried";
    for _ in 0..STEPS {
        let next = plan(&observe(paths, run, place)).map_err(|refusal| {
            let remedy = refusal.remedy();
            Failure::new(step, refusal, remedy)
        })?;
        tracing::info!("etcd: {next:?}");
        match next {
            Step::Start(members) => {
                return write_environment(&paths.run, &members, "existing").remedy(step, remedy);
            }
            Step::SetAside => {
                let seconds =
                    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                let aside = paths.etcd.join(format!("data.removed-{seconds}"));
                rename_durably(&paths.etcd.join("data"), &aside).remedy(step, remedy)?;
            }
            Step::Add => drop(
                run.run(&place.etcd_of_others(paths).add_learner(&place.node, &place.peer()))
                    .remedy(step, remedy)?,
            ),
            Step::Forget(id) => drop(run.run(&place.etcd_of_others(paths).remove(id)).remedy(step, remedy)?),
        }
    }
    Err(Failure::new(step, anyhow!("the members of etcd change while this node joins"), remedy))
}

fn own(paths: &Paths, run: &dyn Run) -> anyhow::Result<Health> {
    Ok(Health::parse(&run.run(&Etcd::of(paths).status())?.text())?)
}

/// One try to make the learner of this node a voting member: whether it is one.
fn promote(paths: &Paths, run: &dyn Run, place: &Place) -> anyhow::Result<bool> {
    let own = own(paths, run)?;
    if own.is_learner {
        run.run(&place.etcd_of_others(paths).promote(own.member_id))?;
    }
    Ok(!own.is_learner)
}

/// Waits until this node's member has a vote. etcd refuses to promote a learner that lags behind, so it is asked until it does.
pub async fn promoted(
    paths: &Paths,
    run: &Arc<dyn Run>,
    place: &Place,
    report: &Reporter,
) -> Result<(), Failure> {
    let step = "waiting until etcd of this node has caught up";
    report.step(step);
    let mut last = None;
    let asked = async {
        loop {
            let (paths, run, place) = (paths.clone(), run.clone(), place.clone());
            match blocking(move || promote(&paths, run.as_ref(), &place)).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(PROMOTE_INTERVAL).await; // until the next try; the deadline is below
        }
    };
    match tokio::time::timeout(CATCH_UP, asked).await {
        Ok(()) => Ok(()),
        Err(_) => Err(Failure::new(
            step,
            last.unwrap_or_else(|| anyhow!("etcd did not promote it within {} min", CATCH_UP.as_secs() / 60)),
            "read `journalctl -u etcd` on this node; the other control-plane nodes must reach it on TCP port 2380",
        )),
    }
}

/// Has the members know this node by its address: the first node's member is known by the loopback until then, and a node
/// may get another address.
pub fn announce(paths: &Paths, run: &dyn Run, address: IpAddr) -> anyhow::Result<()> {
    let own = own(paths, run)?;
    let peer = program::peer_url(&program::host(address));
    let members = program::members(&run.run(&Etcd::of(paths).members())?.text())?;
    let ours = members.iter().find(|member| member.id == own.member_id);
    let ours = ours.context("etcd of this node is not in the list of members")?;
    if ours.peers != [peer.clone()] {
        run.run(&Etcd::of(paths).update(own.member_id, &peer))?;
    }
    Ok(())
}

/// Why a member is not removed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// There is none of the name.
    #[error("etcd has no member {name}; its members: {members}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All of them.
        members: String,
    },
    /// It is the only one with a vote.
    #[error("{0} is the only member of etcd: without it there is no cluster")]
    Only(String),
    /// Those that are left and answer would be too few.
    #[error(
        "without {name} etcd has {left} members, of which {answering} answer, and needs {needed}: removing it would stop the cluster. \
         Start the members that do not answer ({silent}), or remove those first"
    )]
    Quorum {
        /// What was asked for.
        name: String,
        /// Voting members that are left.
        left: usize,
        /// Those of them that answer.
        answering: usize,
        /// The least number that decides.
        needed: usize,
        /// Names of those that do not answer.
        silent: String,
    },
}

/// The member called `name`, or with this number, if the others can decide without it. `answers`: whether a member answers.
pub fn removable<'a>(
    members: &'a [Member],
    name: &str,
    answers: impl Fn(&Member) -> bool,
) -> Result<&'a Member, KeptError> {
    let names = |members: &mut dyn Iterator<Item = &Member>| {
        members.map(Member::shown).collect::<Vec<_>>().join(", ")
    };
    let Some(member) =
        members.iter().find(|member| member.name == name || format!("{:x}", member.id) == name)
    else {
        return Err(KeptError::Unknown { name: name.into(), members: names(&mut members.iter()) });
    };
    if member.is_learner {
        return Ok(member);
    }
    let left: Vec<_> = members.iter().filter(|other| !other.is_learner && other.id != member.id).collect();
    if left.is_empty() {
        return Err(KeptError::Only(member.shown()));
    }
    let (needed, answering) = (left.len() / 2 + 1, left.iter().filter(|other| answers(other)).count());
    if answering < needed {
        let silent = names(&mut left.iter().copied().filter(|other| !answers(other)));
        return Err(KeptError::Quorum { name: member.shown(), left: left.len(), answering, needed, silent });
    }
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(names: &[&str]) -> Vec<Member> {
        let of = |(at, name): (usize, &&str)| Member {
            id: at as u64 + 1,
            name: name.trim_end_matches('*').into(),
            is_learner: name.ends_with('*'),
            ..Member::default()
        };
        names.iter().enumerate().map(of).collect()
    }

    fn removes(names: &[&str], name: &str, silent: &[&str]) -> Result<String, String> {
        let members = members(names);
        removable(&members, name, |member| !silent.contains(&member.name.as_str()))
            .map(|member| member.name.clone())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_dead_member_is_removed_while_the_others_can_decide() {
        assert_eq!(removes(&["a", "b", "c"], "c", &["c"]), Ok("c".into()));
        assert_eq!(removes(&["a", "b"], "b", &["b"]), Ok("b".into()));
        assert_eq!(removes(&["a", "b*"], "b", &["b"]), Ok("b".into()), "a learner has no vote");
        assert_eq!(removes(&["a", "b"], "2", &[]), Ok("b".into()), "by its number");
    }

    #[test]
    fn what_would_stop_the_cluster_is_refused_with_the_members_to_start() {
        assert_eq!(
            removes(&["a", "b", "c"], "a", &["b", "c"]).unwrap_err(),
            "without a etcd has 2 members, of which 0 answer, and needs 2: removing it would stop the cluster. Start the members \
             that do not answer (b, c), or remove those first"
        );
        assert_eq!(
            removes(&["a", "b*"], "a", &[]).unwrap_err(),
            "a is the only member of etcd: without it there is no cluster"
        );
        assert_eq!(removes(&["a", "b"], "x", &[]).unwrap_err(), "etcd has no member x; its members: a, b");
    }
}
