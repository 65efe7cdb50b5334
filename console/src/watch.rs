//! What all browsers are shown, live: one watch per kind at the API server, however many browsers there are.
//!
//! Why here: a hundred browsers that each watch ten kinds would be a thousand watches, each decoding every change. The console
//! watches once with its own rights ([`hub`]), and each browser gets of it what its user may see ([`rights`]), as
//! server-sent events ([`stream`]). Route in: watches of the kinds below. Route out: streams of `text/event-stream`.

use std::sync::Arc;

use futures::future::join_all;
use kube::Client;

use crate::{
    answer::{Answer, Refusal},
    caller::Caller,
    serve::State,
};

mod hub;
mod rights;
mod stream;

use hub::Hub;
use rights::Rights;

/// A kind that is watched.
#[derive(Debug)]
pub struct Kind {
    /// As pages have it.
    pub word: &'static str,
    /// API group.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// As in paths.
    pub plural: &'static str,
    /// As in objects.
    pub kind: &'static str,
    /// Of all objects, those that matter.
    pub fields: Option<&'static str>,
}

const fn kind(
    word: &'static str,
    (group, version): (&'static str, &'static str),
    plural: &'static str,
    kind: &'static str,
) -> Kind {
    Kind { word, group, version, plural, kind, fields: None }
}

const SHEAF: (&str, &str) = ("sheaf.dev", "v1alpha1");

/// All of them.
pub const KINDS: &[Kind] = &[
    kind("machines", ("kubevirt.io", "v1"), "virtualmachines", "VirtualMachine"),
    kind("instances", ("kubevirt.io", "v1"), "virtualmachineinstances", "VirtualMachineInstance"),
    kind("images", ("cdi.kubevirt.io", "v1beta1"), "datavolumes", "DataVolume"),
    kind(
        "snapshots",
        ("snapshot.kubevirt.io", "v1beta1"),
        "virtualmachinesnapshots",
        "VirtualMachineSnapshot",
    ),
    kind("restores", ("snapshot.kubevirt.io", "v1beta1"), "virtualmachinerestores", "VirtualMachineRestore"),
    kind(
        "networks",
        ("k8s.cni.cncf.io", "v1"),
        "network-attachment-definitions",
        "NetworkAttachmentDefinition",
    ),
    kind("projects", ("", "v1"), "namespaces", "Namespace"),
    kind("nodes", ("", "v1"), "nodes", "Node"),
    // An hour of them; the API server forgets older ones.
    Kind { fields: Some("type=Warning"), ..kind("warnings", ("", "v1"), "events", "Event") },
    kind("disks", SHEAF, "blockdevices", "BlockDevice"),
    kind("pools", SHEAF, "storagepools", "StoragePool"),
    kind("maintenances", SHEAF, "nodemaintenances", "NodeMaintenance"),
    kind("removals", SHEAF, "noderemovals", "NodeRemoval"),
    kind("updates", SHEAF, "clusterupdates", "ClusterUpdate"),
    kind("nodeupdates", SHEAF, "nodeupdates", "NodeUpdate"),
    kind("nodenetworks", SHEAF, "nodenetworkstates", "NodeNetworkState"),
    kind("policies", SHEAF, "nodenetworkpolicies", "NodeNetworkPolicy"),
    kind("enactments", SHEAF, "nodenetworkenactments", "NodeNetworkEnactment"),
];

/// The watches, and who may see what.
pub struct Watch {
    hubs: Vec<Arc<Hub>>,
    rights: Arc<Rights>,
}

impl Watch {
    /// Nothing is watched yet.
    pub fn new(client: Client) -> Self {
        let hubs = KINDS.iter().map(|kind| Arc::new(Hub::new(kind, client.clone()))).collect();
        Self { hubs, rights: Arc::new(Rights::default()) }
    }

    /// Watches, until dropped.
    pub async fn run(&self) {
        join_all(self.hubs.iter().map(|hub| hub.follow())).await;
    }

    /// The objects of a kind as they are now, and whether they are all.
    pub fn items(&self, word: &str) -> (Vec<hub::Item>, bool) {
        self.hubs.iter().find(|hub| hub.kind.word == word).map(|hub| hub.items()).unwrap_or_default()
    }

    /// Whether `caller` may see objects of a kind, in a namespace or in the cluster.
    pub async fn may_see(
        &self,
        state: &State,
        caller: &Caller,
        word: &str,
        namespace: Option<&str>,
    ) -> Result<bool, Refusal> {
        let Some(kind) = KINDS.iter().find(|kind| kind.word == word) else { return Ok(false) };
        let namespace: Option<Arc<str>> = namespace.map(Arc::from);
        self.rights.may_see(&state.upstream, caller, kind, namespace.as_ref()).await
    }

    /// What `caller` may see of `kinds`, and every change of it.
    pub fn stream(&self, state: &Arc<State>, caller: Caller, kinds: &[String]) -> Result<Answer, Refusal> {
        let mut hubs = Vec::new();
        for word in kinds {
            let hub = self.hubs.iter().find(|hub| hub.kind.word == word);
            let hub =
                hub.ok_or_else(|| Refusal::bad_request(format!("the console does not watch {word:?}")))?;
            // Twice the same kind is once.
            if !hubs.iter().any(|there| Arc::ptr_eq(there, hub)) {
                hubs.push(hub.clone());
            }
        }
        if hubs.is_empty() {
            return Err(Refusal::bad_request("say which kinds to watch: ?kinds=machines,nodes"));
        }
        Ok(stream::open(state.clone(), self.rights.clone(), caller, hubs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_word_of_its_own_and_no_kind_holds_secrets() {
        let words: std::collections::BTreeSet<&str> = KINDS.iter().map(|kind| kind.word).collect();
        assert_eq!(words.len(), KINDS.len());
        assert!(KINDS.iter().all(|kind| !["secrets", "configmaps", "pods", "*"].contains(&kind.plural)));
    }

    #[test]
    fn the_identity_may_watch_exactly_these_kinds() {
        let pairs = |kind: &Kind| (kind.group, kind.plural);
        let watched: Vec<_> = KINDS.iter().map(pairs).collect();
        assert_eq!(watched, crate::names::WATCHED);
    }
}
