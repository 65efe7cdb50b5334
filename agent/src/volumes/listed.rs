//! The LocalVolumes of this node, kept equal to the API server's list by a watch.
//!
//! Why here: a list that is not complete yet must never be taken for one that is: a volume that it lacks is none that
//! may be removed. Route in: the cluster this node joined. Route out: [`Listed`]; while the API server is away it stays
//! as it was.

use crate::cluster::Joined;
use futures::StreamExt;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use sheaf_api::storage::LocalVolume;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// LocalVolumes of this node.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The list was complete at least once.
    pub synced: bool,
    /// By name.
    pub volumes: BTreeMap<String, Arc<LocalVolume>>,
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
        let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", joined.node));
        let mut events = watcher(Api::<LocalVolume>::all(joined.client), mine).default_backoff().boxed();
        let mut coming = BTreeMap::new();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => take(event, listed, &mut coming),
                    Some(Err(error)) => tracing::warn!("volumes of this node can not be watched: {error}"),
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

fn take(
    event: watcher::Event<LocalVolume>,
    listed: &watch::Sender<Listed>,
    coming: &mut BTreeMap<String, Arc<LocalVolume>>,
) {
    let keyed = |mut volume: LocalVolume| {
        volume.metadata.managed_fields = None;
        (volume.metadata.name.clone().unwrap_or_default(), Arc::new(volume))
    };
    match event {
        watcher::Event::Init => coming.clear(),
        watcher::Event::InitApply(volume) => coming.extend([keyed(volume)]),
        watcher::Event::InitDone => {
            let volumes = std::mem::take(coming);
            listed.send_replace(Listed { synced: true, volumes });
        }
        watcher::Event::Apply(volume) => listed.send_modify(|listed| listed.volumes.extend([keyed(volume)])),
        watcher::Event::Delete(volume) => {
            listed.send_modify(|listed| {
                listed.volumes.remove(volume.metadata.name.as_deref().unwrap_or_default());
            });
        }
    }
}
