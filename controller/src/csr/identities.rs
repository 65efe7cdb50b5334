//! Which key has which name: the record by which a name stays with its machine.
//!
//! Why here and not in the Node: a node writes its own Node, and a certificate is valid also while there is no Node of its
//! name. The record is the ConfigMap `sheaf-system/node-identities`, which only the controller and administrators write;
//! one key a node, its value JSON. Route in: that ConfigMap's data. Route out: the data to write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// So many keys of one node count: the one of its certificate, and the one whose certificate it may not have stored yet.
const KEYS: usize = 2;

/// The entry of a node that was removed, as [`crate::node_removal`] writes it and as [`crate::policy::node_removed`] finds it.
pub const REMOVED: &str = r#"{"removed":true}"#;

/// What is known of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `sha256:<hex>` of the public keys (SubjectPublicKeyInfo) it was given to, the latest first.
    #[serde(default)]
    pub keys: Vec<String>,
    /// An administrator gives the name free: the next machine with a token may have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// The node was removed: nothing is signed for the name before an administrator gives it free.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

/// What is known of every name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identities(BTreeMap<String, Identity>);

impl Identities {
    /// Reads the ConfigMap's data. An entry that cannot be read counts as taken by no key: only a release helps.
    pub fn read(data: &BTreeMap<String, String>) -> Self {
        let read = |text: &String| serde_json::from_str(text).unwrap_or_default();
        Self(data.iter().map(|(name, text)| (name.clone(), read(text))).collect())
    }

    /// The ConfigMap's data.
    pub fn data(&self) -> Result<BTreeMap<String, String>, serde_json::Error> {
        self.0.iter().map(|(name, identity)| Ok((name.clone(), serde_json::to_string(identity)?))).collect()
    }

    /// What is known of `name`.
    pub fn get(&self, name: &str) -> Option<&Identity> {
        self.0.get(name)
    }

    /// Whether `name` was given to `key`.
    pub fn has_key(&self, name: &str, key: &str) -> bool {
        self.get(name).is_some_and(|identity| identity.keys.iter().any(|known| known == key))
    }

    /// `name` is given to `key`. After a release only that key counts.
    pub fn record(&mut self, name: &str, key: &str) {
        let identity = self.0.entry(name.to_owned()).or_default();
        if std::mem::take(&mut identity.released) {
            identity.keys.clear();
        }
        identity.keys.retain(|known| known != key);
        identity.keys.insert(0, key.to_owned());
        identity.keys.truncate(KEYS);
    }

    /// `name` is free for the next machine with a token.
    pub fn release(&mut self, name: &str) {
        let identity = self.0.entry(name.to_owned()).or_default();
        (identity.released, identity.removed) = (true, false);
    }

    /// The node called `name` was removed.
    pub fn remove(&mut self, name: &str) {
        self.0.insert(name.to_owned(), Identity { removed: true, ..Identity::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_keys_count_and_after_a_release_the_next_one_alone() {
        let mut identities = Identities::default();
        for key in ["a", "b", "c", "c"] {
            identities.record("n1", key);
        }
        assert_eq!(identities.get("n1").unwrap().keys, ["c", "b"]);
        identities.release("n1");
        identities.record("n1", "d");
        assert_eq!(identities.get("n1"), Some(&Identity { keys: vec!["d".into()], ..Identity::default() }));
        assert_eq!(Identities::read(&identities.data().unwrap()), identities);
    }

    #[test]
    fn the_entry_of_a_removed_node_is_read_as_it_is_written_and_keeps_no_key() {
        let mut identities = Identities::default();
        identities.record("n1", "a");
        identities.remove("n1");
        assert_eq!(identities.data().unwrap()["n1"], r#"{"keys":[],"removed":true}"#);
        let written = BTreeMap::from([("n1".to_owned(), REMOVED.to_owned())]);
        assert_eq!(Identities::read(&written), identities);
        identities.release("n1");
        assert_eq!(
            identities.get("n1").map(|identity| (identity.released, identity.removed)),
            Some((true, false))
        );
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_taken_not_free() {
        let identities = Identities::read(&BTreeMap::from([("n1".to_owned(), "{".to_owned())]));
        assert_eq!(identities.get("n1"), Some(&Identity::default()));
        assert!(!identities.has_key("n1", "a"));
    }
}
