//! Whether a snapshot may become the data of this node, and what is done for it. Pure.
//!
//! Why the order of steps: everything that takes long or may fail happens while the control plane still runs. Route
//! in: [`Facts`]. Route out: a [`Refusal`], or [`Step`]s.

use crate::cluster::create::UNITS;
use crate::etcd::store::Snapshot;
use crate::human::binary;
use std::fmt;
use std::path::PathBuf;

/// The unit that would start the others.
const AGENT: &str = "sheaf-agent.service";

/// What a restore needs beside the snapshot: etcd's log, which has 64 MB from its first moment, and its own growth.
const ROOM: u64 = 192 << 20; // bytes

/// What is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What was given.
    pub file: String,
    /// What is known of the snapshot; none for a file that is only what etcd sent.
    pub snapshot: Option<Snapshot>,
    /// Its data, verified.
    pub data: Option<PathBuf>,
    /// Revision of the newest change in it.
    pub revision: i64,
    /// Version of its storage; empty before etcd 3.6.
    pub storage_version: String,
    /// Version of etcd on this node.
    pub own_version: String,
    /// `sha256:…` of the CA of this node's cluster; none before it was made.
    pub ca_hash: Option<String>,
    /// The same of the keys that were given.
    pub keys: Option<String>,
    /// Names of keys that its Secrets are encrypted with and that will not be here.
    pub missing_keys: Vec<String>,
    /// The keys that were given are of this node's cluster, and hold some of Secrets that the node does not have.
    pub adds_keys: bool,
    /// Members of this node's etcd, while it answers.
    pub members: Option<usize>,
    /// Length of the data.
    pub bytes: u64,
    /// Bytes that are free where etcd's data is.
    pub free: u64,
}

/// Why it may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its storage is newer.
    #[error(
        "{file} was taken by etcd with storage version {storage}; etcd of this node is {own} and cannot read it: install a \
         release with etcd {storage} or newer, or restore an older snapshot"
    )]
    Newer {
        /// What was given.
        file: String,
        /// Version of its storage.
        storage: String,
        /// Version of etcd here.
        own: String,
    },
    /// It is of another cluster.
    #[error(
        "{file} is of the cluster with the CA {theirs}, this node's is {ours}: give the keys of that cluster (--keys, the file that \
         `sheaf-agent snapshot save-keys` wrote there); with --force it is restored with the keys of this node: all other nodes \
         must then join again, and tokens of service accounts are no longer valid"
    )]
    OtherCluster {
        /// What was given.
        file: String,
        /// Its CA.
        theirs: String,
        /// The CA here.
        ours: String,
    },
    /// The keys are of another cluster.
    #[error(
        "the keys are of the cluster with the CA {keys}, {file} is of {theirs}: give the keys of that cluster"
    )]
    OtherKeys {
        /// What was given.
        file: String,
        /// Its CA.
        theirs: String,
        /// The CA of the keys.
        keys: String,
    },
    /// Nobody knows of which cluster it is.
    #[error("{file} does not say of which cluster it is; if it is of this one, restore it with --force")]
    Unknown {
        /// What was given.
        file: String,
    },
    /// Its Secrets could not be read.
    #[error(
        "Secrets in {file} are encrypted with key {key}, which is not here: give the keys of the cluster that were saved when it \
         was in use (--keys, the file that `sheaf-agent snapshot save-keys` wrote); with --force it is restored, and no Secret of \
         that key can be read or listed"
    )]
    MissingKey {
        /// What was given.
        file: String,
        /// Name of the key.
        key: String,
    },
    /// Other members would keep the data of before.
    #[error(
        "etcd of this cluster has {members} members, and a restore makes a cluster of this node alone: stop the control plane of the \
         other nodes, then restore it with --force"
    )]
    Members {
        /// How many.
        members: usize,
    },
    /// There is too little space.
    #[error(
        "/var/lib/etcd has {} free, and a restore needs {}: the data of before is kept; remove what an earlier restore kept \
         (/var/lib/etcd/data.before-*) if it is not needed", binary(*.free), binary(*.needed)
    )]
    Space {
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a data folder of the snapshot, beside the one in use.
    Prepare(PathBuf),
    /// Put the keys beside those in use.
    PrepareKeys,
    /// Add keys of Secrets to those of this node.
    AddKeys,
    /// Stop a unit.
    Stop(&'static str),
    /// Note that the new folders are to take the place of the old ones, and rename them.
    Switch,
    /// Start the agent, which starts the control plane, and wait until the API server answers.
    Start,
    /// Let this machine take its name, which the machine had from which the snapshot is.
    ReleaseName(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare(data) => write!(f, "make etcd's data from {}", data.display()),
            Self::PrepareKeys => f.write_str("put the keys of the cluster beside those of this node"),
            Self::AddKeys => f.write_str("add the keys of Secrets that were given to those of this node"),
            Self::Stop(unit) => write!(f, "stop {unit}"),
            Self::Switch => f.write_str("put the new data in place; the former is kept"),
            Self::Start => f.write_str("start sheaf-agent.service and wait for the API server"),
            Self::ReleaseName(name) => write!(f, "release the name {name} for this machine"),
        }
    }
}

/// Major and minor version.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether it may be restored; `force` passes over what an administrator may know better.
pub fn judge(facts: &Facts, force: bool) -> Result<(), Refusal> {
    let Facts { file, snapshot, storage_version, own_version, ca_hash, keys, members, bytes, free, .. } =
        facts;
    if minor(storage_version) > minor(own_version) {
        return Err(Refusal::Newer {
            file: file.clone(),
            storage: storage_version.clone(),
            own: own_version.clone(),
        });
    }
    let theirs = snapshot.as_ref().map(|snapshot| &snapshot.ca_hash);
    match (theirs, keys, ca_hash) {
        (Some(theirs), Some(keys), _) if theirs != keys => {
            return Err(Refusal::OtherKeys {
                file: file.clone(),
                theirs: theirs.clone(),
                keys: keys.clone(),
            });
        }
        (_, Some(_), _) => {}
        (None, None, _) if !force => return Err(Refusal::Unknown { file: file.clone() }),
        (Some(theirs), None, ours) if Some(theirs) != ours.as_ref() && !force => {
            let ours = ours.clone().unwrap_or_else(|| "not made yet".into());
            return Err(Refusal::OtherCluster { file: file.clone(), theirs: theirs.clone(), ours });
        }
        _ => {}
    }
    if let (Some(key), false) = (facts.missing_keys.first(), force) {
        return Err(Refusal::MissingKey { file: file.clone(), key: key.clone() });
    }
    if let Some(members @ 2..) = *members
        && !force
    {
        return Err(Refusal::Members { members });
    }
    let needed = bytes.saturating_mul(2).saturating_add(ROOM);
    if *free < needed {
        return Err(Refusal::Space { free: *free, needed });
    }
    Ok(())
}

/// What is done for it on the node `node`.
pub fn plan(facts: &Facts, node: &str) -> Vec<Step> {
    let mut steps = vec![Step::Prepare(facts.data.clone().unwrap_or_default())];
    // The same keys need no change.
    let with_keys = facts.keys.is_some() && facts.keys != facts.ca_hash;
    steps.extend(with_keys.then_some(Step::PrepareKeys));
    steps.extend(std::iter::once(AGENT).chain(UNITS).map(Step::Stop));
    // The agent, now stopped, forgets keys that no snapshot needs.
    steps.extend(facts.adds_keys.then_some(Step::AddKeys));
    steps.extend([Step::Switch, Step::Start]);
    steps.extend(with_keys.then(|| Step::ReleaseName(node.to_owned())));
    steps
}

/// What is said at the end; `kept` is where the former data is.
pub fn closing(facts: &Facts, revision: i64, kept: &[PathBuf]) -> String {
    let kept: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
    let kept = if kept.is_empty() { "nothing was there before".into() } else { kept.join(", ") };
    format!(
        "{} is restored: its revision was {}, etcd is at {revision} now. The former data: {kept}; remove it when it is no longer \
         needed.",
        facts.file, facts.revision
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::store::testing::snapshot;

    const GIB: u64 = 1 << 30;

    fn facts() -> Facts {
        Facts {
            file: "etcd-a".into(),
            snapshot: Some(snapshot("etcd-a", 1)),
            data: Some("/data/etcd-snapshots/etcd-a.db".into()),
            revision: 812,
            storage_version: "3.7.0".into(),
            own_version: "3.7.0".into(),
            ca_hash: Some("sha256:aa".into()),
            keys: None,
            missing_keys: Vec::new(),
            adds_keys: false,
            members: Some(1),
            bytes: GIB,
            free: 4 * GIB,
        }
    }

    fn refused(facts: &Facts, force: bool) -> String {
        judge(facts, force).unwrap_err().to_string()
    }

    #[test]
    fn a_snapshot_of_this_cluster_is_restored_with_all_that_needs_etcd_stopped() {
        assert_eq!(judge(&facts(), false), Ok(()));
        let steps: Vec<String> = plan(&facts(), "n1").iter().map(ToString::to_string).collect();
        assert_eq!(
            steps,
            [
                "make etcd's data from /data/etcd-snapshots/etcd-a.db",
                "stop sheaf-agent.service",
                "stop sheaf-console.service",
                "stop sheaf-controller.service",
                "stop kube-scheduler.service",
                "stop kube-controller-manager.service",
                "stop kube-apiserver.service",
                "stop etcd.service",
                "put the new data in place; the former is kept",
                "start sheaf-agent.service and wait for the API server",
            ]
        );
    }

    #[test]
    fn with_the_keys_of_another_cluster_this_machine_takes_its_place_and_name() {
        let other = Facts {
            keys: Some("sha256:bb".into()),
            snapshot: Some(Snapshot { ca_hash: "sha256:bb".into(), ..snapshot("etcd-a", 1) }),
            ..facts()
        };
        assert_eq!(judge(&other, false), Ok(()));
        let steps = plan(&other, "n1");
        assert_eq!(steps[1], Step::PrepareKeys);
        assert_eq!(steps.last(), Some(&Step::ReleaseName("n1".into())));
        let same = Facts { keys: Some("sha256:aa".into()), ..facts() };
        assert_eq!(plan(&same, "n1"), plan(&facts(), "n1"), "these are the keys that are there");
    }

    #[test]
    fn a_snapshot_of_a_newer_etcd_is_refused_whatever_is_forced() {
        let newer = Facts { storage_version: "3.8.0".into(), ..facts() };
        assert_eq!(
            refused(&newer, true),
            "etcd-a was taken by etcd with storage version 3.8.0; etcd of this node is 3.7.0 and cannot read it: install a \
             release with etcd 3.8.0 or newer, or restore an older snapshot"
        );
        for readable in ["3.7.9", "3.6.0", ""] {
            assert_eq!(judge(&Facts { storage_version: readable.into(), ..facts() }, false), Ok(()));
        }
    }

    #[test]
    fn a_snapshot_of_another_cluster_needs_its_keys_or_force() {
        let other = Facts { ca_hash: Some("sha256:cc".into()), ..facts() };
        assert_eq!(
            refused(&other, false),
            "etcd-a is of the cluster with the CA sha256:aa, this node's is sha256:cc: give the keys of that cluster (--keys, \
             the file that `sheaf-agent snapshot save-keys` wrote there); with --force it is restored with the keys of this \
             node: all other nodes must then join again, and tokens of service accounts are no longer valid"
        );
        assert_eq!(judge(&other, true), Ok(()));
        assert!(refused(&Facts { ca_hash: None, ..facts() }, false).contains("this node's is not made yet"));
        let keys = Facts { keys: Some("sha256:bb".into()), ..facts() };
        assert_eq!(
            refused(&keys, true),
            "the keys are of the cluster with the CA sha256:bb, etcd-a is of sha256:aa: give the keys of that cluster"
        );
    }

    #[test]
    fn a_snapshot_without_a_description_needs_force_or_keys() {
        let plain = Facts { snapshot: None, file: "a.db".into(), ..facts() };
        assert_eq!(
            refused(&plain, false),
            "a.db does not say of which cluster it is; if it is of this one, restore it with --force"
        );
        assert_eq!(judge(&plain, true), Ok(()));
        assert_eq!(judge(&Facts { keys: Some("sha256:bb".into()), ..plain }, false), Ok(()));
    }

    #[test]
    fn other_members_and_a_full_partition_are_named() {
        let three = Facts { members: Some(3), ..facts() };
        assert_eq!(
            refused(&three, false),
            "etcd of this cluster has 3 members, and a restore makes a cluster of this node alone: stop the control plane of \
             the other nodes, then restore it with --force"
        );
        assert_eq!(judge(&three, true), Ok(()));
        assert_eq!(judge(&Facts { members: None, ..facts() }, false), Ok(()), "etcd is gone");
        let full = Facts { free: 2 * GIB, ..facts() };
        assert_eq!(
            refused(&full, true),
            "/var/lib/etcd has 2 GiB free, and a restore needs 2.2 GiB: the data of before is kept; remove what an earlier \
             restore kept (/var/lib/etcd/data.before-*) if it is not needed"
        );
    }

    #[test]
    fn a_snapshot_whose_secrets_could_not_be_read_needs_the_keys_of_its_time() {
        let missing = Facts { missing_keys: vec!["k1-aa".into()], ..facts() };
        assert_eq!(
            refused(&missing, false),
            "Secrets in etcd-a are encrypted with key k1-aa, which is not here: give the keys of the cluster that were saved when \
             it was in use (--keys, the file that `sheaf-agent snapshot save-keys` wrote); with --force it is restored, and no \
             Secret of that key can be read or listed"
        );
        assert_eq!(judge(&missing, true), Ok(()));
        let steps = plan(&Facts { keys: Some("sha256:aa".into()), adds_keys: true, ..facts() }, "n1");
        let at = |wanted: &Step| steps.iter().position(|step| step == wanted).unwrap();
        assert!(
            at(&Step::Stop("etcd.service")) < at(&Step::AddKeys) && at(&Step::AddKeys) < at(&Step::Switch)
        );
    }

    #[test]
    fn the_end_says_where_the_former_data_is() {
        assert_eq!(
            closing(&facts(), 1_000_000_900, &["/var/lib/etcd/data.before-1".into()]),
            "etcd-a is restored: its revision was 812, etcd is at 1000000900 now. The former data: \
             /var/lib/etcd/data.before-1; remove it when it is no longer needed."
        );
    }
}
