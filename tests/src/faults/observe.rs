//! What is observed all the time: answers to reads, etcd's leaders, domains of nodes.
//!
//! Why here: a fault shows for a moment only. etcd is asked inside each member's namespace, by its own program, so that a member that is cut off
//! says what it believes. Route in: a client, a member's files, nodes. Route out: the [`Judge`]'s records.

use super::client::Client;
use super::judge::Judge;
use super::locked;
use super::starts::Node;
use super::terms::Said;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use serde::Deserialize;
use sheaf_agent::etcd::program::Etcd;
use sheaf_agent::paths::Paths;
use sheaf_host::fakes::FakeVms;
use sheaf_host::run::{Command, Run};
use std::sync::Arc;
use std::time::Duration;

/// Between two reads.
const READ_INTERVAL: Duration = Duration::from_millis(250);
/// Longest time for one: a client then asks again. As planes::answered has it.
const READ_TIME: Duration = Duration::from_secs(2);
/// Between two questions to a member of etcd: each starts a program of 170 MB.
const ASK_INTERVAL: Duration = Duration::from_secs(3);
/// Longest time for the answer; a member that is stopped gives none.
const ASK_TIME: Duration = Duration::from_secs(6);
/// The same at the end of a run, where every member answers however busy the machine is.
const LAST_TIME: Duration = Duration::from_secs(60);
/// Between two looks at the domains of nodes.
const LOOK: Duration = Duration::from_millis(200);

/// What every namespace has: it is read by a majority of etcd's members, as every read without a revision.
pub const ALWAYS_THERE: &str = "kube-root-ca.crt";

/// Reads again and again, as a client does that tries until it is answered.
pub async fn reads(client: Arc<Client>, judge: Arc<Judge>) {
    loop {
        let maps: Api<ConfigMap> = Api::default_namespaced(client.kube.clone());
        if let Ok(Ok(_)) = tokio::time::timeout(READ_TIME, maps.get(ALWAYS_THERE)).await {
            judge.read();
        }
        tokio::time::sleep(READ_INTERVAL).await; // until the next read
    }
}

/// A member of etcd, as its node's agent asks it.
#[derive(Clone)]
pub struct Member {
    /// Name of its node.
    pub name: String,
    /// Files of the node.
    pub paths: Paths,
    /// Programs in the node's namespace.
    pub run: Arc<dyn Run>,
}

impl Member {
    /// Asks the member, and waits this long for its answer.
    pub async fn ask(&self, longest: Duration) -> Result<Status> {
        let (run, command) = (self.run.clone(), Etcd::of(&self.paths).status().deadline(longest));
        let answer = tokio::task::spawn_blocking(move || run.run(&command)).await??;
        parse(&answer.text())
    }

    /// The hash of everything that the member holds at a revision: members that hold the same have the same.
    pub async fn hash(&self, revision: i64) -> Result<u64> {
        let (run, command) = (self.run.clone(), hash_of(Etcd::of(&self.paths).status(), revision));
        let answer = tokio::task::spawn_blocking(move || run.run(&command)).await??;
        parse_hash(&answer.text())
    }
}

/// `etcdctl … endpoint hashkv --rev=REVISION`, made of `etcdctl … endpoint status`.
fn hash_of(mut status: Command, revision: i64) -> Command {
    status.args.pop();
    status.arg("hashkv").arg(format!("--rev={revision}"))
}

/// Asks a member again and again.
pub async fn leaders(member: Member, judge: Arc<Judge>) {
    loop {
        if let Ok(status) = member.ask(ASK_TIME).await {
            judge.member(&member.name, status.said);
        }
        tokio::time::sleep(ASK_INTERVAL).await; // until the next question
    }
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Term and leader.
    pub said: Said,
    /// The newest revision that it has applied.
    pub revision: i64,
    /// It has no vote yet.
    pub is_learner: bool,
}

/// From what `etcdctl endpoint status` printed.
fn parse(text: &str) -> Result<Status> {
    #[derive(Deserialize)]
    struct Endpoint {
        #[serde(rename = "Status")]
        status: Inner,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Inner {
        header: Header,
        raft_term: u64,
        #[serde(default)]
        leader: u64,
        #[serde(default)]
        is_learner: bool,
    }
    #[derive(Deserialize)]
    struct Header {
        member_id: u64,
        #[serde(default)]
        revision: i64,
    }
    let endpoints: Vec<Endpoint> = serde_json::from_str(text).with_context(|| text.to_owned())?;
    let Inner { header, raft_term: term, leader, is_learner } =
        endpoints.into_iter().next().context("etcdctl endpoint status printed no endpoint")?.status;
    let said = Said { member: header.member_id, term, leader };
    Ok(Status { said, revision: header.revision, is_learner })
}

/// From what `etcdctl endpoint hashkv` printed.
fn parse_hash(text: &str) -> Result<u64> {
    #[derive(Deserialize)]
    struct Endpoint {
        #[serde(rename = "HashKV")]
        inner: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        hash: u64,
    }
    let endpoints: Vec<Endpoint> = serde_json::from_str(text).with_context(|| text.to_owned())?;
    Ok(endpoints.first().context("etcdctl endpoint hashkv printed no endpoint")?.inner.hash)
}

/// Fails if members hold different things at one revision.
pub async fn same(members: &[Member]) -> Result<()> {
    let mut revisions = Vec::new();
    for member in members {
        let status = member.ask(LAST_TIME).await.with_context(|| format!("etcd on {}", member.name))?;
        revisions.push(status.revision);
    }
    let revision = revisions.into_iter().min().context("there are members")?;
    let mut hashes = Vec::new();
    for member in members {
        hashes.push((member.name.as_str(), member.hash(revision).await?));
    }
    ensure!(differ(&hashes).is_none(), "{} at revision {revision}", differ(&hashes).unwrap_or_default());
    Ok(())
}

/// What is wrong with the hashes of members, if anything is.
fn differ(hashes: &[(&str, u64)]) -> Option<String> {
    let (first, rest) = hashes.split_first()?;
    let other = rest.iter().find(|(_, hash)| *hash != first.1)?;
    Some(format!("members of etcd differ: {} has {:x}, {} has {:x}", first.0, first.1, other.0, other.1))
}

/// Looks at the domains of all nodes again and again.
pub async fn domains(nodes: Vec<(String, Arc<FakeVms>)>, judge: Arc<Judge>) {
    loop {
        let nodes: Vec<Node> = nodes.iter().map(|(name, vms)| node(name, vms)).collect();
        if let Some(wrong) = locked(&judge.starts).judge(&nodes) {
            judge.wrong(wrong);
        }
        tokio::time::sleep(LOOK).await; // until the next look
    }
}

/// A node as its libvirt has it.
pub fn node(name: &str, vms: &FakeVms) -> Node {
    let started = vms.asked();
    let started = started.iter().filter_map(|asked| asked.strip_prefix("start ")).map(str::to_owned);
    let running = vms.running().into_iter().map(|domain| domain.name);
    Node { name: name.to_owned(), running: running.collect(), started: started.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_says_its_term_and_its_leader() {
        let text = r#"[{"Endpoint":"https://127.0.0.1:2379","Status":{"header":{"cluster_id":1,"member_id":7,"revision":812,
            "raft_term":4},"version":"3.7.0","dbSize":4096000,"leader":9,"raftIndex":900,"raftTerm":4,"dbSizeInUse":2048000}}]"#;
        let said = Said { member: 7, term: 4, leader: 9 };
        assert_eq!(parse(text).unwrap(), Status { said, revision: 812, is_learner: false });
        let none = r#"[{"Status":{"header":{"member_id":7},"raftTerm":5,"isLearner":true}}]"#;
        let said = Said { member: 7, term: 5, leader: 0 };
        assert_eq!(parse(none).unwrap(), Status { said, revision: 0, is_learner: true });
        assert_eq!(parse("[]").unwrap_err().to_string(), "etcdctl endpoint status printed no endpoint");
    }

    #[test]
    fn members_that_hold_something_else_at_one_revision_are_found() {
        let paths = Paths::under(std::path::Path::new("/x"));
        let command = hash_of(Etcd::of(&paths).status(), 12).to_string();
        assert!(command.ends_with("endpoint hashkv --rev=12"), "{command}");
        let text = r#"[{"Endpoint":"x","HashKV":{"header":{"revision":3},"hash":255,"compact_revision":1}}]"#;
        assert_eq!(parse_hash(text).unwrap(), 255);
        assert_eq!(differ(&[("a", 1), ("b", 1), ("c", 1)]), None);
        assert_eq!(
            differ(&[("a", 1), ("b", 1), ("c", 255)]).unwrap(),
            "members of etcd differ: a has 1, c has ff"
        );
    }
}
