//! Decides what is published of each node's space.
//!
//! Why here: pure, so that every way a pool can be is a test. One CSIStorageCapacity for each StorageClass of ours and
//! each node with its pool; a node without one has no room for claims of that class. Route in: classes, pools, volumes,
//! and what is published. Route out: what is to be applied and deleted.

use std::borrow::Borrow;

use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use serde_json::json;
use sheaf_api::{
    Amount,
    names::{CONTROLLER_MANAGER, HOSTNAME_LABEL, SYSTEM_NAMESPACE},
    storage::{LocalVolume, StoragePool},
};
use uuid::Uuid;

use crate::volumes::{is_ours, pool_of, room::Room};

/// Label of what this controller publishes.
pub const OWNER_LABEL: &str = "app.kubernetes.io/managed-by";
/// The longest name of an object.
const NAME_MAX: usize = 253;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Publish this.
    Apply(Box<CSIStorageCapacity>),
    /// Delete this.
    Delete(String),
}

/// Decides.
pub fn plan(
    classes: &[StorageClass],
    pools: &[impl Borrow<StoragePool>],
    volumes: &[impl Borrow<LocalVolume>],
    published: &[CSIStorageCapacity],
) -> Result<Vec<Action>, serde_json::Error> {
    let mut wanted = Vec::new();
    for class in classes.iter().filter(|class| is_ours(class)) {
        for pool in pools.iter().map(Borrow::borrow).filter(|pool| pool.spec.pool == pool_of(class)) {
            wanted.push(capacity(class, pool, Room::of(pool, volumes).left)?);
        }
    }
    let same = |a: &CSIStorageCapacity, b: &CSIStorageCapacity| {
        a.capacity == b.capacity && a.maximum_volume_size == b.maximum_volume_size
    };
    let find = |list: &[CSIStorageCapacity], name: &Option<String>| {
        list.iter().find(|one| one.metadata.name == *name).cloned()
    };
    let mut actions: Vec<Action> = published
        .iter()
        .filter(|one| find(&wanted, &one.metadata.name).is_none())
        .map(|one| Action::Delete(one.metadata.name.clone().unwrap_or_default()))
        .collect();
    let changed = |one: &CSIStorageCapacity| {
        find(published, &one.metadata.name).is_none_or(|before| !same(&before, one))
    };
    actions.extend(wanted.into_iter().filter(changed).map(|one| Action::Apply(Box::new(one))));
    Ok(actions)
}

fn capacity(
    class: &StorageClass,
    pool: &StoragePool,
    left: u64,
) -> Result<CSIStorageCapacity, serde_json::Error> {
    let class = class.metadata.name.as_deref().unwrap_or_default();
    let node = &pool.spec.node_name;
    let left = Amount::of_bytes(left);
    serde_json::from_value(json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIStorageCapacity",
        "metadata": {
            "name": name(class, node), "namespace": SYSTEM_NAMESPACE, "labels": {OWNER_LABEL: CONTROLLER_MANAGER},
        },
        "storageClassName": class,
        "nodeTopology": {"matchLabels": {HOSTNAME_LABEL: node}},
        "capacity": left,
        "maximumVolumeSize": left,
    }))
}

/// Readable where it fits and the dot tells the two apart; always the same for the same two, and another for others.
fn name(class: &str, node: &str) -> String {
    let name = format!("{class}.{node}");
    if name.len() <= NAME_MAX && !class.contains('.') {
        name
    } else {
        Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{class}/{node}").as_bytes()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::testing::{GIB, class, pool, volume};

    const NONE: &[LocalVolume] = &[];

    fn applied(actions: &[Action]) -> Vec<CSIStorageCapacity> {
        let capacity = |action: &Action| match action {
            Action::Apply(one) => Some(CSIStorageCapacity::clone(one)),
            Action::Delete(_) => None,
        };
        actions.iter().filter_map(capacity).collect()
    }

    #[test]
    fn every_node_with_a_pool_of_the_class_is_published_with_what_is_left() {
        let pools = [pool("n1", 10 * GIB), pool("n2", 5 * GIB)];
        let actions = plan(&[class()], &pools, &[volume("a", "n1", 4 * GIB)], &[]).unwrap();
        let published = serde_json::to_value(applied(&actions)).unwrap();
        assert_eq!(published[0]["metadata"]["name"], "sheaf.n1");
        assert_eq!(published[0]["nodeTopology"], json!({"matchLabels": {"kubernetes.io/hostname": "n1"}}));
        assert_eq!(
            (&published[0]["capacity"], &published[0]["maximumVolumeSize"]),
            (&json!("6Gi"), &json!("6Gi"))
        );
        assert_eq!(published[1]["capacity"], "5Gi");
    }

    #[test]
    fn what_did_not_change_is_not_applied_again_and_what_is_gone_is_deleted() {
        let before = applied(&plan(&[class()], &[pool("n1", GIB), pool("n2", GIB)], NONE, &[]).unwrap());
        let actions = plan(&[class()], &[pool("n1", GIB)], NONE, &before).unwrap();
        assert_eq!(actions, [Action::Delete("sheaf.n2".into())]);
    }

    #[test]
    fn classes_of_others_and_of_other_pools_are_left_alone() {
        let mut foreign = class();
        foreign.provisioner = "rancher.io/local-path".into();
        let mut fast = class();
        fast.parameters = Some([("pool".to_string(), "fast".to_string())].into());
        assert_eq!(plan(&[foreign, fast], &[pool("n1", GIB)], NONE, &[]).unwrap(), []);
    }

    #[test]
    fn a_long_name_is_replaced_by_one_that_is_always_the_same() {
        let long = "c".repeat(251);
        assert_eq!(name(&long, "n1"), name(&long, "n1"));
        assert_eq!(name(&long, "n1").len(), 36);
    }
}
