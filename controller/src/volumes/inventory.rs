//! Every StoragePool and LocalVolume of the cluster, as watches keep them, and what was booked of the pools since.
//!
//! Why here: whether a pool has room depends on all its volumes, and to list them from the API server for each claim costs
//! the square of the claims. A watch may be behind; so a volume that was decided on counts from that moment until the watch
//! shows it, and nothing is promised twice. The lock is held while a plan decides, never over a request. What a decision is
//! *about* (a claim, its own volume) is read from the API server by its controller. Route in: watches, and what plans decide. Route out:
//! [`Inventory::book`], [`Inventory::volumes`], [`Inventory::changes`].

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::{
    Api, Client, Resource,
    runtime::{WatchStreamExt, reflector, reflector::Store, watcher},
};
use serde::de::DeserializeOwned;
use sheaf_api::storage::{LocalVolume, StoragePool};
use tokio::sync::watch;

/// What a watch has not shown after this long was deleted before the watch could; kube's watches reconnect within 5 min.
const BOOKED_AT_MOST: Duration = Duration::from_secs(600);

/// Pools, volumes and bookings.
pub struct Inventory {
    pools: Store<StoragePool>,
    volumes: Store<LocalVolume>,
    /// Volumes that were decided on, by name, as they are to become.
    booked: Mutex<HashMap<String, (LocalVolume, Instant)>>,
    changes: watch::Receiver<()>,
}

impl Inventory {
    /// The inventory, and the work that keeps it up to date.
    pub fn watch(client: &Client) -> (Arc<Self>, impl Future<Output = ()> + use<>) {
        let (changed, changes) = watch::channel(());
        let (pools, follow_pools) = follow(Api::all(client.clone()), changed.clone());
        let (volumes, follow_volumes) = follow(Api::all(client.clone()), changed);
        let inventory = Arc::new(Self { pools, volumes, booked: Mutex::default(), changes });
        (inventory, async move {
            tokio::join!(follow_pools, follow_volumes);
        })
    }

    /// One whose watches show what a test writes.
    #[cfg(test)]
    pub(crate) fn of_tests()
    -> (Self, reflector::store::Writer<StoragePool>, reflector::store::Writer<LocalVolume>) {
        let ((pools, show_pools), (volumes, show_volumes)) = (reflector::store(), reflector::store());
        let inventory = Self { pools, volumes, booked: Mutex::default(), changes: watch::channel(()).1 };
        (inventory, show_pools, show_volumes)
    }

    /// Returns when both watches have shown everything once.
    pub async fn ready(&self) {
        // An error means that the watches have ended, and with them everything that waits here.
        let _ = self.pools.wait_until_ready().await;
        let _ = self.volumes.wait_until_ready().await;
    }

    /// Changes whenever a pool or volume does.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// Every pool.
    pub fn pools(&self) -> Vec<Arc<StoragePool>> {
        self.pools.state()
    }

    /// Every volume, booked ones included.
    pub fn volumes(&self) -> Vec<Arc<LocalVolume>> {
        let mut booked = self.booked.lock().unwrap_or_else(PoisonError::into_inner);
        merged(self.volumes.state(), &mut booked, Instant::now())
    }

    /// Decides with all pools and volumes while nobody else does. `decide` returns its decision, and the volumes that follow
    /// from it as they are to become: they count at once. `own` is the volume that the decision is about, read from the API server.
    pub fn book<P, E>(
        &self,
        own: Option<&LocalVolume>,
        decide: impl FnOnce(&[Arc<StoragePool>], &[Arc<LocalVolume>]) -> Result<(P, Vec<LocalVolume>), E>,
    ) -> Result<P, E> {
        let mut booked = self.booked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut volumes = merged(self.volumes.state(), &mut booked, Instant::now());
        if let Some(own) = own {
            volumes.retain(|volume| volume.metadata.name != own.metadata.name);
            volumes.push(Arc::new(own.clone()));
        }
        let (decision, volumes) = decide(&self.pools.state(), &volumes)?;
        for volume in volumes {
            booked.insert(volume.metadata.name.clone().unwrap_or_default(), (volume, Instant::now()));
        }
        Ok(decision)
    }

    /// A booked volume was not made, or is gone.
    pub fn cancel(&self, name: &str) {
        self.booked.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// What the watch shows, with bookings in place of what it does not show yet; bookings that it shows are dropped.
fn merged(
    mut shown: Vec<Arc<LocalVolume>>,
    booked: &mut HashMap<String, (LocalVolume, Instant)>,
    now: Instant,
) -> Vec<Arc<LocalVolume>> {
    booked.retain(|name, (volume, since)| {
        let same = shown.iter().find(|shown| shown.metadata.name.as_ref() == Some(name));
        // One of that name on another node is the one before, which is being deleted.
        let is_same = |shown: &LocalVolume| {
            (&shown.spec.node_name, &shown.spec.pool) == (&volume.spec.node_name, &volume.spec.pool)
        };
        let is_shown =
            same.is_some_and(|shown| is_same(shown) && shown.spec.size_bytes >= volume.spec.size_bytes);
        !is_shown && now.duration_since(*since) < BOOKED_AT_MOST
    });
    shown.retain(|volume| volume.metadata.name.as_ref().is_none_or(|name| !booked.contains_key(name)));
    shown.extend(booked.values().map(|(volume, _)| Arc::new(volume.clone())));
    shown
}

fn follow<K>(api: Api<K>, changed: watch::Sender<()>) -> (Store<K>, impl Future<Output = ()>)
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let (store, writer) = reflector::store();
    let events = reflector(writer, watcher(api, watcher::Config::default()).default_backoff());
    let follow = events.for_each(move |_| {
        changed.send_replace(());
        std::future::ready(())
    });
    (store, follow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::testing::{GIB, volume};

    fn sizes(
        shown: &[LocalVolume],
        booked: &mut HashMap<String, (LocalVolume, Instant)>,
        now: Instant,
    ) -> Vec<(String, u64)> {
        let mut sizes: Vec<_> = merged(shown.iter().cloned().map(Arc::new).collect(), booked, now)
            .iter()
            .map(|volume| (volume.metadata.name.clone().unwrap(), volume.spec.size_bytes / GIB))
            .collect();
        sizes.sort();
        sizes
    }

    #[test]
    fn a_booked_volume_counts_once_from_the_decision_on_whether_the_watch_shows_it_or_not() {
        let now = Instant::now();
        let mut booked = HashMap::from([("a".to_string(), (volume("a", "n1", 4 * GIB), now))]);
        assert_eq!(sizes(&[], &mut booked, now), [("a".into(), 4)]);
        // Grown: the watch still shows the size before.
        assert_eq!(sizes(&[volume("a", "n1", GIB)], &mut booked, now), [("a".into(), 4)]);
        assert_eq!(sizes(&[volume("a", "n1", 4 * GIB)], &mut booked, now), [("a".into(), 4)]);
        assert!(booked.is_empty(), "the watch has caught up");
        assert_eq!(sizes(&[], &mut booked, now), []);
    }

    #[test]
    fn a_volume_that_the_watch_still_shows_on_the_node_before_does_not_end_the_booking_on_the_next() {
        let now = Instant::now();
        let mut booked = HashMap::from([("a".to_string(), (volume("a", "n2", GIB), now))]);
        let shown = vec![Arc::new(volume("a", "n1", 4 * GIB))];
        let all = merged(shown, &mut booked, now);
        assert_eq!(all.iter().map(|one| one.spec.node_name.as_str()).collect::<Vec<_>>(), ["n2"]);
        assert_eq!(booked.len(), 1);
    }

    #[test]
    fn a_booking_that_no_watch_ever_shows_does_not_count_for_good() {
        let now = Instant::now();
        let mut booked = HashMap::from([("a".to_string(), (volume("a", "n1", GIB), now))]);
        assert_eq!(sizes(&[], &mut booked, now + BOOKED_AT_MOST), []);
    }
}
