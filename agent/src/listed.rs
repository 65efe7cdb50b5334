//! Objects that concern this node, kept equal to the API server's list by a watch.
//!
//! Why here: the same for Pods and for Sheaf's own kinds. A list that is not complete yet must never be taken for one that
//! is: what it lacks is not gone. Route in: the cluster this node joined. Route out: [`Listed`]; while the API server is
//! away it stays as it was.

use crate::api_server::Joined;
use futures::StreamExt;
use kube::api::Api;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt as _};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The longest pause between two tries of a watch: a new cluster does not know all kinds in its first seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// kube's pauses, which grow. Every try of a list begins with an event that tells of no success and would reset them; these
/// are reset after two minutes without a failure.
#[derive(Default)]
struct Pauses(DefaultBackoff);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(LONGEST_PAUSE))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {}
}

/// Which objects of a kind are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those whose `spec.nodeName`, a selectable field, is this node. The Node authorizer lets a node list no other Pods.
    ThisNode,
    /// All: each says by its own rules which nodes it means.
    Cluster,
}

/// A kind of objects that can be followed.
pub trait Kind:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + Sync + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + Sync + 'static
{
}

/// Objects by the key that [`follow`] was told.
#[derive(Clone, Debug)]
pub struct Listed<K> {
    /// The list was complete at least once.
    pub synced: bool,
    /// By name or by UID.
    pub objects: BTreeMap<String, Arc<K>>,
}

impl<K> Default for Listed<K> {
    fn default() -> Self {
        Self { synced: false, objects: BTreeMap::new() }
    }
}

/// Key of cluster-wide objects: the next of its name takes a name's place.
pub fn by_name<K: Kind>(object: &K) -> String {
    object.name_any()
}

/// Key of Pods: one of the same name with another UID is another Pod.
pub fn by_uid<K: Kind>(object: &K) -> String {
    object.uid().unwrap_or_default()
}

/// Keeps `listed`, by `key`, until nobody reads it. Follows `cluster`: a rotated certificate starts a new watch.
pub async fn follow<K: Kind>(
    mut cluster: watch::Receiver<Option<Joined>>,
    listed: &watch::Sender<Listed<K>>,
    key: fn(&K) -> String,
    scope: Scope,
) {
    loop {
        let Some(joined) = cluster.borrow_and_update().clone() else {
            if cluster.changed().await.is_err() {
                return std::future::pending().await;
            }
            continue;
        };
        let all = watcher::Config::default();
        let which = match scope {
            Scope::ThisNode => all.fields(&format!("spec.nodeName={}", joined.node)),
            Scope::Cluster => all,
        };
        let mut events = watcher(Api::<K>::all(joined.client), which).backoff(Pauses::default()).boxed();
        let mut coming = BTreeMap::new();
        let mut told = String::new();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => take(event, listed, &mut coming, key),
                    Some(Err(error)) => {
                        let error = error.to_string();
                        // The same reason is told once.
                        if error != told {
                            tracing::warn!("{} cannot be watched: {error}", K::plural(&()));
                            told = error;
                        }
                    }
                    None => break,
                },
                changed = cluster.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return std::future::pending().await,
                },
            }
        }
    }
}

fn take<K: Kind>(
    event: watcher::Event<K>,
    listed: &watch::Sender<Listed<K>>,
    coming: &mut BTreeMap<String, Arc<K>>,
    key: fn(&K) -> String,
) {
    let keyed = |mut object: K| {
        // Never read, and often the largest part.
        object.meta_mut().managed_fields = None;
        (key(&object), Arc::new(object))
    };
    match event {
        watcher::Event::Init => coming.clear(),
        watcher::Event::InitApply(object) => coming.extend([keyed(object)]),
        watcher::Event::InitDone => {
            let objects = std::mem::take(coming);
            listed.send_replace(Listed { synced: true, objects });
        }
        watcher::Event::Apply(object) => listed.send_modify(|listed| listed.objects.extend([keyed(object)])),
        watcher::Event::Delete(object) => {
            listed.send_modify(|listed| {
                listed.objects.remove(&key(&object));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::testing::pod;
    use sheaf_api::storage::{BlockDevice, BlockDeviceSpec};

    #[test]
    fn a_list_that_is_not_complete_changes_nothing() {
        let device = |name: &str| BlockDevice::new(name, BlockDeviceSpec::default());
        changes_nothing_while_incomplete(device, by_name, "n1.a");
        changes_nothing_while_incomplete(pod, by_uid, "p1");
    }

    fn changes_nothing_while_incomplete<K: Kind>(
        make: impl Fn(&str) -> K,
        key: fn(&K) -> String,
        name: &str,
    ) {
        let listed = watch::Sender::new(Listed::default());
        let mut coming = BTreeMap::new();
        take(watcher::Event::Init, &listed, &mut coming, key);
        take(watcher::Event::InitApply(make(name)), &listed, &mut coming, key);
        assert!(!listed.borrow().synced && listed.borrow().objects.is_empty());
        take(watcher::Event::InitDone, &listed, &mut coming, key);
        assert!(listed.borrow().synced && listed.borrow().objects.contains_key(name));
        take(watcher::Event::Init, &listed, &mut coming, key);
        assert!(listed.borrow().objects.contains_key(name));
        take(watcher::Event::Delete(make(name)), &listed, &mut coming, key);
        assert!(listed.borrow().objects.is_empty());
    }
}
