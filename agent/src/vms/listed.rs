//! The Pods bound to this node, kept equal to the API server's list by a watch.
//!
//! Why here: a list that is not complete yet must never be taken for one that is. Route in: the cluster this node
//! joined. Route out: [`Listed`]; while the API server is away it stays as it was.

use crate::cluster::Joined;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Pods of this node.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The list was complete at least once.
    pub synced: bool,
    /// By UID.
    pub pods: BTreeMap<String, Arc<Pod>>,
}

/// Keeps `listed` until nobody reads it. Follows `cluster`: a rotated certificate starts a new watch.
pub async fn follow(mut cluster: watch::Receiver<Option<Joined>>, listed: &watch::Sender<Listed>) {
    loop {
        let Some(joined) = cluster.borrow_and_update().clone() else {
            if cluster.changed().await.is_err() {
                return std::future::pending().await;
            }
            continue;
        };
        // The Node authorizer lets a node list no other Pods.
        let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", joined.node));
        let mut events = watcher(Api::<Pod>::all(joined.client), mine).default_backoff().boxed();
        let mut coming = BTreeMap::new();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => take(event, listed, &mut coming),
                    Some(Err(error)) => tracing::warn!("Pods of this node can not be watched: {error}"),
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

fn take(event: watcher::Event<Pod>, listed: &watch::Sender<Listed>, coming: &mut BTreeMap<String, Arc<Pod>>) {
    let keyed = |mut pod: Pod| {
        // Never read, and the largest part of many Pods.
        pod.metadata.managed_fields = None;
        (pod.metadata.uid.clone().unwrap_or_default(), Arc::new(pod))
    };
    match event {
        watcher::Event::Init => coming.clear(),
        watcher::Event::InitApply(pod) => coming.extend([keyed(pod)]),
        watcher::Event::InitDone => {
            let pods = std::mem::take(coming);
            listed.send_replace(Listed { synced: true, pods });
        }
        watcher::Event::Apply(pod) => listed.send_modify(|listed| listed.pods.extend([keyed(pod)])),
        watcher::Event::Delete(pod) => {
            listed.send_modify(|listed| {
                listed.pods.remove(pod.metadata.uid.as_deref().unwrap_or_default());
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    #[test]
    fn a_list_that_is_not_complete_changes_nothing() {
        let listed = watch::Sender::new(Listed::default());
        let mut coming = BTreeMap::new();
        take(watcher::Event::Init, &listed, &mut coming);
        take(watcher::Event::InitApply(pod("p1")), &listed, &mut coming);
        assert!(!listed.borrow().synced && listed.borrow().pods.is_empty());
        take(watcher::Event::InitDone, &listed, &mut coming);
        assert!(listed.borrow().synced && listed.borrow().pods.contains_key("p1"));
        take(watcher::Event::Init, &listed, &mut coming);
        assert!(listed.borrow().pods.contains_key("p1"));
        take(watcher::Event::Delete(pod("p1")), &listed, &mut coming);
        assert!(listed.borrow().pods.is_empty());
    }
}
