//! Leaves the cluster when an administrator removed this node.
//!
//! Why here: only the node can forget its key, and only its agent knows that it makes no further requests. The NodeRemoval of the
//! node's name counts while sheaf-controller removes this very Node; an old one, of a machine that had the name before, does not.
//! What is done is recorded first, so that a node that loses power in between is no node afterwards either. Disks are left as they
//! are, unless the NodeRemoval wants them erased: then the node is marked ([`crate::reset`]) and the machine restarts. A control plane
//! that it had ends with it ([`super::planes::retire`]): another node has taken its member out of etcd before. Route in: the
//! NodeRemoval. Route out: the condition [`LEFT_CONDITION`] of the Node, a store without keys, the record
//! `/var/lib/sheaf/removed.json`, and a [`Failure`] that says what to do.

use super::failure::{Failure, Remedy};
use super::identity::Store;
use super::join::Target;
use super::planes::retire::retire;
use crate::api_server::Joined;
use crate::listed::{self, Listed, Scope};
use crate::paths::Paths;
use crate::reconcile::blocking;
use crate::reset::by_hand::mark_leaving;
use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sheaf_api::names::LEFT_CONDITION;
use sheaf_api::node_removal::{NodeRemoval, Phase};
use sheaf_host::file::write_atomically;
use sheaf_host::systemd::Units;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Longest time for the report that the node has left: sheaf-controller continues without it after two minutes.
const REPORT_TIME: Duration = Duration::from_secs(30);
/// Between two tries of the report.
const REPORT_RETRY: Duration = Duration::from_secs(2);
/// What helps when the node's own disk fails it.
const STATE: &str = "look at the state partition: `journalctl -u sheaf-agent`, `df /var`";

/// That this node was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Its name in the cluster.
    node: String,
    /// When it left, RFC 3339.
    at: String,
    /// Public half of the token that its config still held: this one brings it back nowhere.
    token: Option<String>,
    /// What is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wipe: Option<Erase>,
}

/// What a node that leaves erases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erase {
    /// Its pools, besides state and data.
    pub pools: bool,
}

fn path(paths: &Paths) -> PathBuf {
    paths.lib.join("removed.json")
}

/// Whether this machine was removed from its cluster and has not joined again.
pub fn has_left(paths: &Paths) -> bool {
    path(paths).exists()
}

fn read(paths: &Paths) -> anyhow::Result<Option<Record>> {
    let path = path(paths);
    match std::fs::read(&path) {
        Ok(text) => Ok(Some(
            serde_json::from_slice(&text)
                .with_context(|| format!("{}: is not a record of a removal", path.display()))?,
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{}: cannot be read", path.display())),
    }
}

/// Whether `removal` removes the Node with this UID now.
fn is_meant(removal: &NodeRemoval, node_uid: &str) -> bool {
    let status = removal.status.as_ref();
    status.is_some_and(|status| {
        status.phase == Some(Phase::Removing) && status.node_uid.as_deref() == Some(node_uid)
    })
}

/// What `removal` wants erased.
fn erased_by(removal: &NodeRemoval) -> Option<Erase> {
    removal.spec.wipe.as_ref().map(|wipe| Erase { pools: wipe.pools })
}

/// Returns when this node is to leave: what is erased then.
pub async fn ordered(mut cluster: watch::Receiver<Option<Joined>>) -> Option<Erase> {
    let listed = watch::Sender::new(Listed::<NodeRemoval>::default());
    let mut removals = listed.subscribe();
    let follow = listed::follow(cluster.clone(), &listed, listed::by_name, Scope::ThisNode);
    let found = async {
        loop {
            let uid = cluster.borrow_and_update().as_ref().map(|joined| joined.node_uid.clone());
            let all = removals.borrow_and_update().clone();
            let meant = |uid: String| all.objects.values().find(|removal| is_meant(removal, &uid)).cloned();
            if let Some(removal) = uid.and_then(meant) {
                return erased_by(&removal);
            }
            tokio::select! {
                changed = removals.changed() => if changed.is_err() { return std::future::pending().await },
                changed = cluster.changed() => if changed.is_err() { return std::future::pending().await },
            }
        }
    };
    tokio::select! {
        erased = found => erased,
        () = follow => std::future::pending().await,
    }
}

/// Leaves; what it returns is what people read from then on. `target` is the cluster as node.toml names it.
pub async fn leave(
    paths: &Paths,
    store: &Store,
    target: &Target,
    joined: &Joined,
    units: &dyn Units,
    wipe: Option<Erase>,
) -> Failure {
    tracing::warn!("node {} leaves the cluster: an administrator removed it", joined.node);
    let record = Record {
        node: joined.node.clone(),
        at: super::time::rfc3339(SystemTime::now()),
        token: target.token.as_ref().map(|token| token.id.clone()),
        wipe,
    };
    let written = serde_json::to_vec_pretty(&record).map_err(anyhow::Error::from).and_then(|text| {
        write_atomically(&path(paths), &text, 0o600)?;
        Ok(())
    });
    if let Err(failure) = written.remedy("recording that this node was removed", STATE) {
        return failure;
    }
    if let Err(error) = tokio::time::timeout(REPORT_TIME, report(joined)).await {
        tracing::warn!("that this node has left could not be reported: {error}");
    }
    finish(paths, store, &record, units).await
}

/// Completes a removal that is recorded: no keys, and no control plane that would come up again.
async fn finish(paths: &Paths, store: &Store, record: &Record, units: &dyn Units) -> Failure {
    if let Err(failure) = store.forget().remedy("forgetting the node's keys", STATE) {
        return failure;
    }
    let retired = retire(paths, units).await;
    let remedy = "it is retried; read `journalctl -u sheaf-agent` and that of the unit";
    match retired.remedy("ending the control plane of this node, which was removed", remedy) {
        Ok(()) => end(paths, record, units).await,
        Err(failure) => failure,
    }
}

/// What is left to do for a machine that is no node any more: it erases itself at its next start, if that was wanted.
async fn end(paths: &Paths, record: &Record, units: &dyn Units) -> Failure {
    let Some(wipe) = record.wipe else { return removed(record) };
    let (of, node) = (paths.clone(), record.node.clone());
    let marked = blocking(move || mark_leaving(&of, &node, wipe.pools)).await;
    let restarted = match marked {
        Ok(()) => units.reboot().await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    match restarted {
        Ok(()) => Failure::new(
            "being a node of the cluster",
            anyhow!(
                "node {} was removed from the cluster at {}, and is being erased",
                record.node,
                record.at
            ),
            "wait for the restart of this machine",
        ),
        Err(error) => Failure::new(
            "erasing the node, which was removed from the cluster",
            error,
            format!(
                "run `sheaf-agent reset --node {}` on it, or erase its disks before they leave the house",
                record.node
            ),
        ),
    }
}

/// Reports that no further request comes from this node, until the API server takes it or refuses it for good.
async fn report(joined: &Joined) {
    let nodes: Api<Node> = Api::all(joined.client.clone());
    let now = super::time::rfc3339(SystemTime::now());
    let patch = json!({"status": {"conditions": [{
        "type": LEFT_CONDITION, "status": "True", "reason": "NodeRemoval", "lastHeartbeatTime": now,
        "lastTransitionTime": now, "message": "the agent forgets the node's keys and makes no further requests",
    }]}});
    loop {
        match nodes.patch_status(&joined.node, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(_) => return,
            // The Node is gone, or the node has lost its identity already.
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 404) => return,
            Err(error) => tracing::warn!("reporting that this node has left: {error}; it is tried again"),
        }
        tokio::time::sleep(REPORT_RETRY).await; // the next try, within the caller's deadline
    }
}

/// Completes what a power cut interrupted, and stops a node that was removed, unless node.toml holds a new token.
pub async fn check(paths: &Paths, store: &Store, target: &Target, units: &dyn Units) -> Result<(), Failure> {
    let step = "reading whether this node was removed";
    let Some(record) = read(paths).remedy(step, STATE)? else { return Ok(()) };
    let token = target.token.as_ref().map(|token| &token.id);
    if token.is_none() || token == record.token.as_ref() {
        return Err(finish(paths, store, &record, units).await);
    }
    Ok(())
}

/// This machine is a node again.
pub fn returned(paths: &Paths) -> anyhow::Result<()> {
    let path = path(paths);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

fn removed(record: &Record) -> Failure {
    Failure::new(
        "being a node of the cluster",
        anyhow!("node {} was removed from the cluster at {}", record.node, record.at),
        format!(
            "install this machine again; or, to join as it is, release its name (`sheaf-agent node release {}` on a \
             control-plane node), put a new token (`sheaf-agent token create`) into node.toml and restart the agent",
            record.node
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::identity::CLIENT;
    use crate::cluster::token::Token;
    use sheaf_host::disk::RawDisk;
    use sheaf_host::fakes::FakeUnits;
    use sheaf_release::records::reset;
    use std::path::Path;

    fn target(token: Option<&str>) -> Target {
        Target {
            server: "https://192.0.2.1:6443".into(),
            token: token.map(|token| token.parse::<Token>().unwrap()),
            pin: None,
            signature_time: Duration::ZERO,
        }
    }

    fn files(root: &Path) -> (Paths, Store) {
        let paths = Paths::under(root);
        let store = Store::of(&paths);
        store.pending(CLIENT).unwrap();
        (paths, store)
    }

    fn recorded(paths: &Paths, token: Option<&str>, wipe: Option<Erase>) {
        let record = Record {
            node: "n1".into(),
            at: "2027-01-15T08:00:00Z".into(),
            token: token.map(str::to_owned),
            wipe,
        };
        write_atomically(&path(paths), &serde_json::to_vec(&record).unwrap(), 0o600).unwrap();
    }

    #[test]
    fn a_removal_is_meant_for_the_node_that_is_being_removed_and_not_for_the_next_of_its_name() {
        let removal = |phase: &str, uid: &str| -> NodeRemoval {
            serde_json::from_value(json!({
                "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeRemoval", "metadata": {"name": "n1"},
                "spec": {"nodeName": "n1"}, "status": {"phase": phase, "nodeUid": uid},
            }))
            .unwrap()
        };
        assert!(is_meant(&removal("Removing", "u-1"), "u-1"));
        for (phase, uid) in [("Removing", "u-2"), ("Removed", "u-1"), ("Draining", "u-1"), ("Blocked", "u-1")]
        {
            assert!(!is_meant(&removal(phase, uid), "u-1"), "{phase} {uid}");
        }
    }

    #[tokio::test]
    async fn a_removed_node_that_lost_power_forgets_its_keys_at_the_next_start_and_says_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let (paths, store) = files(root.path());
        assert!(check(&paths, &store, &target(None), &FakeUnits::default()).await.is_ok());
        assert!(store.is_pending(CLIENT));
        recorded(&paths, None, None);
        let failure = check(&paths, &store, &target(None), &FakeUnits::default()).await.unwrap_err();
        assert!(!store.is_pending(CLIENT), "its key is still there");
        assert_eq!(
            failure.to_string(),
            "being a node of the cluster: node n1 was removed from the cluster at 2027-01-15T08:00:00Z; install this machine \
             again; or, to join as it is, release its name (`sheaf-agent node release n1` on a control-plane node), put a new \
             token (`sheaf-agent token create`) into node.toml and restart the agent"
        );
    }

    #[tokio::test]
    async fn a_new_token_brings_a_removed_machine_back_and_the_one_that_it_had_does_not() {
        let root = tempfile::tempdir().unwrap();
        let (paths, store) = files(root.path());
        recorded(&paths, Some("abcdef"), None);
        assert!(
            check(&paths, &store, &target(Some("abcdef.0123456789abcdef")), &FakeUnits::default())
                .await
                .is_err()
        );
        assert!(
            check(&paths, &store, &target(Some("fedcba.0123456789abcdef")), &FakeUnits::default())
                .await
                .is_ok()
        );
        returned(&paths).unwrap();
        assert!(check(&paths, &store, &target(None), &FakeUnits::default()).await.is_ok());
        returned(&paths).unwrap();
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_an_error_and_no_reason_to_forget_keys() {
        let root = tempfile::tempdir().unwrap();
        let (paths, store) = files(root.path());
        std::fs::write(path(&paths), "{").unwrap();
        let failure = check(&paths, &store, &target(None), &FakeUnits::default()).await.unwrap_err();
        assert!(failure.to_string().contains("is not a record of a removal"), "{failure}");
        assert!(store.is_pending(CLIENT));
    }

    #[tokio::test]
    async fn a_removed_control_plane_node_never_starts_its_control_plane_again() {
        let root = tempfile::tempdir().unwrap();
        let (paths, store) = files(root.path());
        recorded(&paths, None, None);
        write_atomically(&paths.kubernetes.join("super-admin.conf"), b"admin", 0o600).unwrap();
        let units = FakeUnits::default();
        units.fail("etcd.service", "timeout");
        let failure = check(&paths, &store, &target(None), &units).await.unwrap_err();
        assert_eq!(
            failure.to_string(),
            "ending the control plane of this node, which was removed: etcd.service: stop ended with \"timeout\"; read `journalctl -u \
             etcd.service`; it is retried; read `journalctl -u sheaf-agent` and that of the unit"
        );
        assert!(!store.is_pending(CLIENT), "its key is still there");
        let units = FakeUnits::default();
        let failure = check(&paths, &store, &target(None), &units).await.unwrap_err();
        assert!(
            failure.to_string().starts_with("being a node of the cluster: node n1 was removed"),
            "{failure}"
        );
        assert_eq!(units.asked().len(), 6);
        assert!(!crate::cluster::was_made(&paths));
    }

    #[test]
    fn what_is_erased_is_in_the_spec_of_the_removal() {
        let of = |wipe: serde_json::Value| -> Option<Erase> {
            let removal: NodeRemoval = serde_json::from_value(json!({
                "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeRemoval", "metadata": {"name": "n1"},
                "spec": {"nodeName": "n1", "wipe": wipe},
            }))
            .unwrap();
            erased_by(&removal)
        };
        assert_eq!(of(json!(null)), None);
        assert_eq!(of(json!({"confirmNode": "n1"})), Some(Erase { pools: false }));
        assert_eq!(of(json!({"confirmNode": "n1", "pools": true})), Some(Erase { pools: true }));
    }

    #[tokio::test]
    async fn a_removed_node_that_erases_itself_is_marked_and_restarts_also_after_a_power_cut_in_between() {
        let root = tempfile::tempdir().unwrap();
        let (paths, store) = files(root.path());
        std::fs::create_dir_all(&paths.run).unwrap();
        std::fs::write(paths.boot_env(), "INSTALL_ID=6b1f7a3e-93c2-4d55-8f10-012345678900\n").unwrap();
        let (_, partition) = crate::reset::place(&paths).unwrap();
        std::fs::create_dir_all(partition.parent().unwrap()).unwrap();
        recorded(&paths, None, Some(Erase { pools: true }));

        // Its disk does not answer: people are told, and it is tried again.
        let units = FakeUnits::default();
        let failure = check(&paths, &store, &target(None), &units).await.unwrap_err().to_string();
        assert!(
            failure.starts_with("erasing the node, which was removed from the cluster: ")
                && failure.ends_with(
                    "run `sheaf-agent reset --node n1` on it, or erase its disks before they leave the house"
                ),
            "{failure}"
        );
        assert_eq!(units.asked().len(), 0);

        std::fs::write(&partition, vec![0; 1 << 20]).unwrap();
        let failure = check(&paths, &store, &target(None), &units).await.unwrap_err();
        assert_eq!(
            failure.to_string(),
            "being a node of the cluster: node n1 was removed from the cluster at 2027-01-15T08:00:00Z, and is being erased; wait for \
             the restart of this machine"
        );
        assert_eq!(units.asked(), ["start reboot.target"]);
        assert!(!store.is_pending(CLIENT), "its key is still there");
        let mark = reset::read(&RawDisk::open(&partition).unwrap()).unwrap().unwrap();
        assert_eq!((mark.node.as_str(), mark.pools, mark.config), ("n1", true, None));
    }
}
