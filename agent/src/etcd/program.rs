//! etcd's own programs, `etcdctl` and `etcdutl`: commands as values, and what they answer.
//!
//! Why these: they are upstream's way to snapshots and back, and the `kube` binary holds both. Route in: the folder of
//! the control plane's keys. Route out: [`Command`]s; [`Health`] and [`Contents`] from their JSON. Source:
//! <https://etcd.io/docs/v3.6/op-guide/recovery/>, <https://etcd.io/docs/v3.6/op-guide/maintenance/>.

use crate::paths::Paths;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sheaf_host::run::Command;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where etcd of this node answers; as its unit has it.
const ENDPOINT: &str = "https://127.0.0.1:2379";
/// Name of the member in restored data, until etcd starts and publishes the node's.
pub const MEMBER: &str = "default";
/// Where its peers would reach it, in restored data: [`Etcd::update`] says the node's address before another member is added.
const PEER: &str = "https://127.0.0.1:2380";
/// Port of clients.
const CLIENT_PORT: u16 = 2379;
/// Port of the other members.
const PEER_PORT: u16 = 2380;

/// For a question: etcd on a slow disk answers within seconds.
const ASK: Duration = Duration::from_secs(30);
/// For a question to members on other machines, of which some may be away.
const ASK_OTHERS: Duration = Duration::from_secs(10);
/// For work on all of a database of at most 8 GiB (etcd's suggested maximum) on a slow disk.
const WORK: Duration = Duration::from_secs(15 * 60);

/// What a restore adds to the revision, so that no client has seen a newer one: upstream's own suggestion, more than a
/// week of 1500 writes in a second.
const BUMP_REVISION: &str = "1000000000";

/// Quota of a server that does not report one: etcd's default, `--quota-backend-bytes`.
const DEFAULT_QUOTA: u64 = 2 << 30;

/// The etcd of this node, as its client.
#[derive(Clone, Debug)]
pub struct Etcd {
    /// `/var/lib/kubernetes/pki/etcd`.
    keys: PathBuf,
    /// Where it answers clients; of several any one does.
    endpoints: Vec<String>,
    /// Longest time for a question.
    ask: Duration,
}

impl Etcd {
    /// The one of the node with these files.
    pub fn of(paths: &Paths) -> Self {
        Self { keys: paths.kubernetes.join("pki/etcd"), endpoints: vec![ENDPOINT.into()], ask: ASK }
    }

    /// Members on other machines, as a client with the keys of this one.
    pub fn others(paths: &Paths, endpoints: Vec<String>) -> Self {
        Self { endpoints, ask: ASK_OTHERS, ..Self::of(paths) }
    }

    fn ctl(&self, timeout: Duration) -> Command {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.keys.join(name).display());
        Command::new("etcdctl")
            .arg(format!("--endpoints={}", self.endpoints.join(",")))
            .arg(file("cacert", "ca.crt"))
            .arg(file("cert", "healthcheck-client.crt"))
            .arg(file("key", "healthcheck-client.key"))
            .arg(format!("--command-timeout={}s", timeout.as_secs()))
            .arg("--write-out=json")
            // It may take as long to start and to connect.
            .deadline(timeout + ASK)
    }

    /// Prints what [`Health::parse`] reads.
    pub fn status(&self) -> Command {
        self.ctl(self.ask).args(["endpoint", "status"])
    }

    /// Prints what [`alarms`] reads.
    pub fn alarms(&self) -> Command {
        self.ctl(self.ask).args(["alarm", "list"])
    }

    /// Prints what [`members`] reads. A learner does not answer it, nor does a member without quorum.
    pub fn members(&self) -> Command {
        self.ctl(self.ask).args(["member", "list"])
    }

    /// Adds a learner that will be reached at `peer`.
    pub fn add_learner(&self, name: &str, peer: &str) -> Command {
        self.ctl(self.ask).args(["member", "add", name, "--learner"]).arg(format!("--peer-urls={peer}"))
    }

    /// Makes the learner `id` a voting member; refused until it has caught up.
    pub fn promote(&self, id: u64) -> Command {
        self.ctl(self.ask).args(["member", "promote"]).arg(format!("{id:x}"))
    }

    /// Takes the member `id` out of the cluster.
    pub fn remove(&self, id: u64) -> Command {
        self.ctl(self.ask).args(["member", "remove"]).arg(format!("{id:x}"))
    }

    /// Says where the others reach the member `id`.
    pub fn update(&self, id: u64, peer: &str) -> Command {
        self.ctl(self.ask)
            .args(["member", "update"])
            .arg(format!("{id:x}"))
            .arg(format!("--peer-urls={peer}"))
    }

    /// Prints what [`pairs`] reads: at most `limit` keys with their values, from the key `from` to the one before `end`.
    pub fn range(&self, from: &str, end: &str, limit: usize) -> Command {
        self.ctl(ASK).args(["get", from, end]).arg(format!("--limit={limit}"))
    }

    /// Writes a snapshot to `file`, which is not there yet.
    pub fn save(&self, file: &Path) -> Command {
        self.ctl(WORK).args(["snapshot", "save"]).arg(file)
    }

    /// Forgets all revisions before `revision`.
    pub fn compact(&self, revision: i64) -> Command {
        self.ctl(WORK).arg("compaction").arg(revision.to_string())
    }

    /// Gives free pages of the database back to the file system. The member answers nobody meanwhile.
    pub fn defragment(&self) -> Command {
        self.ctl(WORK).arg("defrag")
    }

    /// Ends all alarms; etcd raises them again if their reason has not passed.
    pub fn disarm(&self) -> Command {
        self.ctl(self.ask).args(["alarm", "disarm"])
    }
}

/// Prints what [`Contents::parse`] reads of the snapshot `file`; fails when its pages are not consistent.
pub fn contents(file: &Path) -> Command {
    Command::new("etcdutl").args(["--write-out=json", "snapshot", "status"]).arg(file).deadline(WORK)
}

/// Makes the data folder `into` of a cluster with one member from the snapshot `file`. Watchers and caches of the API
/// server find a revision that is newer than all they have seen, and all older ones compacted.
pub fn restore(file: &Path, into: &Path) -> Command {
    Command::new("etcdutl")
        .args(["snapshot", "restore"])
        .arg(file)
        .arg(format!("--data-dir={}", into.display()))
        .arg(format!("--name={MEMBER}"))
        .arg(format!("--initial-cluster={MEMBER}={PEER}"))
        .arg(format!("--initial-advertise-peer-urls={PEER}"))
        .arg(format!("--bump-revision={BUMP_REVISION}"))
        .arg("--mark-compacted")
        .deadline(WORK)
}

/// Prints what [`own_version`] reads.
pub fn version() -> Command {
    Command::new("etcdutl").arg("version").deadline(ASK)
}

/// An answer that is not what the program of this version prints.
#[derive(Debug, thiserror::Error)]
#[error("unexpected answer of {program}: {text}")]
pub struct AnswerError {
    program: &'static str,
    text: String,
}

fn unexpected(program: &'static str, text: &str) -> AnswerError {
    AnswerError { program, text: text.chars().take(300).collect() }
}

/// A reason for which etcd refuses writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The database has reached its quota.
    NoSpace,
    /// Members differ in what they hold.
    Corrupt,
}

/// How the etcd of this node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The cluster, 16 hexadecimal digits. Derived by etcd from names and addresses of the first members: it does not
    /// tell one Sheaf cluster from another.
    pub cluster_id: String,
    /// Revision of the newest change.
    pub revision: i64,
    /// Version of the server, `3.7.0`.
    pub version: String,
    /// Bytes of the database.
    pub size: u64,
    /// Bytes of it that hold something.
    pub in_use: u64,
    /// Bytes that it may have.
    pub quota: u64,
    /// Alarms that are raised.
    pub alarms: Vec<Alarm>,
    /// etcd's number for the member on this node.
    pub member_id: u64,
    /// It has no vote yet.
    pub is_learner: bool,
    /// A leader is known: more than half of the members run.
    pub has_leader: bool,
    /// All members; empty while there is no leader, and on a learner.
    pub members: Vec<Member>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Status")]
    status: EndpointStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointStatus {
    header: Header,
    version: String,
    db_size: u64,
    #[serde(default)]
    db_size_in_use: u64,
    #[serde(default)]
    db_size_quota: u64,
    #[serde(default)]
    is_learner: bool,
    #[serde(default)]
    leader: u64,
}

#[derive(Deserialize)]
struct Header {
    cluster_id: u64,
    #[serde(default)]
    member_id: u64,
    #[serde(default)]
    revision: i64,
}

impl Health {
    /// From what [`Etcd::status`] printed, without alarms and members.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        let wrong = |_| unexpected("etcdctl endpoint status", text);
        let endpoints: Vec<Endpoint> = serde_json::from_str(text).map_err(wrong)?;
        let Some(Endpoint { status }) = endpoints.into_iter().next() else {
            return Err(unexpected("etcdctl endpoint status", text));
        };
        Ok(Self {
            cluster_id: format!("{:016x}", status.header.cluster_id),
            revision: status.header.revision,
            version: status.version,
            size: status.db_size,
            in_use: status.db_size_in_use.min(status.db_size),
            quota: if status.db_size_quota == 0 { DEFAULT_QUOTA } else { status.db_size_quota },
            alarms: Vec::new(),
            member_id: status.header.member_id,
            is_learner: status.is_learner,
            has_leader: status.leader != 0,
            members: Vec::new(),
        })
    }
}

/// From what [`Etcd::alarms`] printed. Numbers: etcdserverpb.AlarmType.
pub fn alarms(text: &str) -> Result<Vec<Alarm>, AnswerError> {
    #[derive(Deserialize)]
    struct Member {
        #[serde(default)]
        alarm: u32,
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        alarms: Vec<Member>,
    }
    let answer: Answer = serde_json::from_str(text).map_err(|_| unexpected("etcdctl alarm list", text))?;
    let alarm = |member: &Member| match member.alarm {
        1 => Some(Alarm::NoSpace),
        2 => Some(Alarm::Corrupt),
        _ => None,
    };
    Ok(answer.alarms.iter().filter_map(alarm).collect())
}

/// One member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// etcd's number for it; never given twice.
    #[serde(default, rename = "ID")]
    pub id: u64,
    /// Name of its node; empty until it was started for the first time.
    #[serde(default)]
    pub name: String,
    /// Where the other members reach it.
    #[serde(default, rename = "peerURLs")]
    pub peers: Vec<String>,
    /// Where clients reach it; empty until it was started for the first time.
    #[serde(default, rename = "clientURLs")]
    pub clients: Vec<String>,
    /// It receives everything and has no vote yet.
    #[serde(default, rename = "isLearner")]
    pub is_learner: bool,
}

impl Member {
    /// Its name, or its number and place while it has none.
    pub fn shown(&self) -> String {
        match self.name.as_str() {
            "" => format!("{:x} ({}, never started)", self.id, self.peers.join(" ")),
            name => name.to_owned(),
        }
    }
}

/// The members, from what [`Etcd::members`] printed.
pub fn members(text: &str) -> Result<Vec<Member>, AnswerError> {
    #[derive(Deserialize)]
    struct Answer {
        members: Vec<Member>,
    }
    let answer: Answer = serde_json::from_str(text).map_err(|_| unexpected("etcdctl member list", text))?;
    Ok(answer.members)
}

/// `192.0.2.10`, `[2001:db8::1]`: an address as URLs have it.
pub fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Where other members reach the one on the machine `host`.
pub fn peer_url(host: &str) -> String {
    format!("https://{host}:{PEER_PORT}")
}

/// Where clients reach the one on the machine `host`.
pub fn client_url(host: &str) -> String {
    format!("https://{host}:{CLIENT_PORT}")
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Kubernetes' keys are ASCII.
    pub key: String,
    /// As it is stored.
    pub value: Vec<u8>,
}

/// From what [`Etcd::range`] printed. Its text is in no error: it is Secrets.
pub fn pairs(text: &str) -> Result<Vec<Pair>, AnswerError> {
    #[derive(Deserialize)]
    struct Encoded {
        key: String,
        #[serde(default)]
        value: String,
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        kvs: Vec<Encoded>,
    }
    let wrong = || unexpected("etcdctl get", "(not shown)");
    let answer: Answer = serde_json::from_str(text).map_err(|_| wrong())?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| wrong());
    let pair = |encoded: Encoded| {
        Ok(Pair {
            key: String::from_utf8(decode(&encoded.key)?).map_err(|_| wrong())?,
            value: decode(&encoded.value)?,
        })
    };
    answer.kvs.into_iter().map(pair).collect()
}

/// What is in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// Revision of the newest change.
    pub revision: i64,
    /// Number of keys.
    #[serde(rename = "totalKey")]
    pub keys: u64,
    /// Version of the storage, `3.7.0`; empty before etcd 3.6.
    #[serde(default, rename = "version")]
    pub storage_version: String,
}

impl Contents {
    /// From what [`contents`] printed.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        serde_json::from_str(text).map_err(|_| unexpected("etcdutl snapshot status", text))
    }
}

/// The version of this node's etcd, from what [`version`] printed.
pub fn own_version(text: &str) -> Result<String, AnswerError> {
    let version = text.lines().find_map(|line| line.strip_prefix("etcdutl version: "));
    version.map(str::to_owned).ok_or_else(|| unexpected("etcdutl version", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_is_asked_as_its_unit_lets_it_listen() {
        let unit = include_str!("../../../os-image/image/rootfs/usr/lib/systemd/system/etcd.service");
        for flag in [
            format!("--listen-client-urls={ENDPOINT},{} ", client_url("${SHEAF_HOST}")),
            format!("--advertise-client-urls={} ", client_url("${SHEAF_HOST}")),
            format!("--listen-peer-urls={} ", peer_url("${SHEAF_HOST}")),
            format!("--initial-advertise-peer-urls={} ", peer_url("${SHEAF_HOST}")),
            "--data-dir=/var/lib/etcd/data ".to_owned(),
        ] {
            assert!(unit.contains(&flag), "{flag}");
        }
        let etcd = Etcd::of(&Paths::default());
        assert_eq!(
            etcd.status().to_string(),
            "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/var/lib/kubernetes/pki/etcd/ca.crt \
             --cert=/var/lib/kubernetes/pki/etcd/healthcheck-client.crt \
             --key=/var/lib/kubernetes/pki/etcd/healthcheck-client.key --command-timeout=30s --write-out=json endpoint status"
        );
    }

    #[test]
    fn a_restore_makes_a_new_member_with_a_revision_that_nobody_has_seen() {
        let command = restore(Path::new("/a.db"), Path::new("/var/lib/etcd/restoring")).to_string();
        assert_eq!(
            command,
            "etcdutl snapshot restore /a.db --data-dir=/var/lib/etcd/restoring --name=default \
             --initial-cluster=default=https://127.0.0.1:2380 --initial-advertise-peer-urls=https://127.0.0.1:2380 \
             --bump-revision=1000000000 --mark-compacted"
        );
    }

    #[test]
    fn a_member_is_added_as_a_learner_and_named_by_its_number() {
        let others =
            Etcd::others(&Paths::default(), vec![client_url("192.0.2.10"), client_url("[2001:db8::1]")]);
        let said = |command: Command| {
            let text = command.to_string();
            let (head, tail) = text.split_once(" member ").unwrap();
            assert!(
                head.contains("--endpoints=https://192.0.2.10:2379,https://[2001:db8::1]:2379'"),
                "{head}"
            );
            tail.to_owned()
        };
        assert_eq!(
            said(others.add_learner("n2", &peer_url("192.0.2.11"))),
            "add n2 --learner --peer-urls=https://192.0.2.11:2380"
        );
        assert_eq!(said(others.promote(0xcafe)), "promote cafe");
        assert_eq!(said(others.remove(0xcafe)), "remove cafe");
        assert_eq!(said(others.update(0xcafe, "https://a:2380")), "update cafe --peer-urls=https://a:2380");
    }

    #[test]
    fn the_answers_of_etcd_3_7_are_read() {
        let text = r#"[{"Endpoint":"https://127.0.0.1:2379","Status":{"header":{"cluster_id":14841639068965178418,
            "member_id":10276657743932975437,"revision":812,"raft_term":2},"version":"3.7.0","dbSize":4096000,
            "leader":10276657743932975437,"raftIndex":900,"raftTerm":2,"raftAppliedIndex":900,"dbSizeInUse":2048000,
            "storageVersion":"3.7.0","dbSizeQuota":2147483648}}]"#;
        let health = Health::parse(text).unwrap();
        assert_eq!(health.cluster_id, "cdf818194e3a8c32");
        assert_eq!((health.revision, health.size, health.in_use), (812, 4_096_000, 2_048_000));
        assert_eq!(health.quota, 2 << 30);
        let raised = alarms(r#"{"header":{},"alarms":[{"memberID":1,"alarm":1},{"memberID":1,"alarm":2}]}"#);
        assert_eq!(raised.unwrap(), [Alarm::NoSpace, Alarm::Corrupt]);
        assert_eq!(alarms(r#"{"header":{"revision":1}}"#).unwrap(), []);
        assert_eq!(
            (health.member_id, health.has_leader, health.is_learner),
            (10_276_657_743_932_975_437, true, false)
        );
        let listed = r#"{"header":{},"members":[
            {"ID":10276657743932975437,"name":"n1","peerURLs":["https://192.0.2.10:2380"],"clientURLs":["https://192.0.2.10:2379"]},
            {"ID":2,"peerURLs":["https://192.0.2.11:2380"],"isLearner":true}]}"#;
        let listed = members(listed).unwrap();
        let shown: Vec<_> = listed.iter().map(Member::shown).collect();
        assert_eq!(shown, ["n1", "2 (https://192.0.2.11:2380, never started)"]);
        assert_eq!((listed[0].is_learner, listed[1].is_learner), (false, true));
        let held = r#"{"hash":1,"revision":812,"totalKey":300,"totalSize":4096000,"version":"3.7.0"}"#;
        let held = Contents::parse(held).unwrap();
        assert_eq!((held.revision, held.keys, held.storage_version.as_str()), (812, 300, "3.7.0"));
        let read = pairs(
            r#"{"header":{},"kvs":[{"key":"L2E=","value":"azhz"},{"key":"L2I="}],"more":true,"count":9}"#,
        );
        let pair = |key: &str, value: &[u8]| Pair { key: key.into(), value: value.into() };
        assert_eq!(read.unwrap(), [pair("/a", b"k8s"), pair("/b", b"")]);
        assert_eq!(pairs(r#"{"header":{}}"#).unwrap(), []);
        assert_eq!(own_version("etcdutl version: 3.7.0\nAPI version: 3.7\n").unwrap(), "3.7.0");
    }

    #[test]
    fn another_answer_is_an_error_that_shows_it() {
        assert_eq!(
            Health::parse("[]").unwrap_err().to_string(),
            "unexpected answer of etcdctl endpoint status: []"
        );
        let secret = pairs(r#"{"kvs":[{"key":"L2E=","value":"hunter2!"}]}"#).unwrap_err().to_string();
        assert_eq!(secret, "unexpected answer of etcdctl get: (not shown)");
        assert_eq!(own_version("").unwrap_err().to_string(), "unexpected answer of etcdutl version: ");
    }
}
