//! How much of a pool may still be promised.
//!
//! Why here: the scheduler's figures and every booking are computed from it, so both must count alike. A volume counts
//! with all that it may come to hold, a snapshot with the whole of its origin, which may come to differ from it in every
//! block: a pool runs full only by what is not Sheaf's. Route in: a StoragePool and all LocalVolumes. Route out: [`Room`].

use std::borrow::Borrow;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sheaf_api::{
    Amount,
    storage::{LocalVolume, StoragePool, pool::PoolPhase},
};

/// LVM gives space in units of this many bytes.
const EXTENT: u64 = 4 << 20;

/// `bytes`, rounded up to what LVM gives.
pub fn extents(bytes: u64) -> u64 {
    bytes.div_ceil(EXTENT).saturating_mul(EXTENT)
}

/// The bytes that a quantity means; nothing if it means none.
pub fn bytes(quantity: Option<&Quantity>) -> u64 {
    let amount = quantity.and_then(|quantity| Amount::try_from(quantity).ok());
    amount.and_then(|amount| amount.units().ok()).unwrap_or_default()
}

/// The same as a quantity, for people.
pub fn quantity(bytes: u64) -> Quantity {
    Quantity::from(&Amount::of_bytes(bytes))
}

/// What may still be promised of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub left: u64,
    /// Why there are none, if it is not for want of them.
    pub closed: Option<&'static str>,
}

impl Room {
    /// What is left of `pool`, of which `volumes` are a part; other pools' volumes do not count.
    pub fn of<V: Borrow<LocalVolume>>(pool: &StoragePool, volumes: &[V]) -> Self {
        let status = pool.status.clone().unwrap_or_default();
        let closed = match status.phase {
            _ if pool.spec.eviction_requested => Some("it is being emptied"),
            Some(PoolPhase::Ready | PoolPhase::Degraded) => None,
            Some(PoolPhase::Full) => Some("it is full"),
            Some(PoolPhase::Failed) => Some("it failed"),
            Some(PoolPhase::Pending) | None => Some("it is not ready yet"),
        };
        let count =
            |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
        let (total, free) = (count(status.total_bytes), count(status.free_bytes));
        let reserved = pool.spec.reserved.as_ref().and_then(|amount| amount.units().ok()).unwrap_or_default();
        // What is written without having been promised is taken, too.
        let taken = promised(pool, volumes).max(total.saturating_sub(free));
        let left = total.saturating_sub(reserved).saturating_sub(taken) / EXTENT * EXTENT;
        Self { left: if closed.is_some() { 0 } else { left }, closed }
    }

    /// Whether `bytes` more fit; if not, the sentence that says why.
    pub fn fits(&self, bytes: u64, pool: &StoragePool) -> Result<(), String> {
        let name = format!("pool {} of {}", pool.spec.pool, pool.spec.node_name);
        match self.closed {
            Some(why) => Err(format!("{name} takes no volumes: {why}")),
            None if bytes > self.left => Err(format!(
                "{name} has {} free, and {} are requested",
                Amount::of_bytes(self.left).as_str(),
                Amount::of_bytes(bytes).as_str()
            )),
            None => Ok(()),
        }
    }
}

/// All that the volumes of a pool may come to hold.
fn promised<V: Borrow<LocalVolume>>(pool: &StoragePool, volumes: &[V]) -> u64 {
    let of_pool = |volume: &&LocalVolume| {
        volume.spec.node_name == pool.spec.node_name && volume.spec.pool == pool.spec.pool
    };
    volumes.iter().map(Borrow::borrow).filter(of_pool).map(size).fold(0, u64::saturating_add)
}

/// What a volume is, or is to become, in bytes.
pub fn size(volume: &LocalVolume) -> u64 {
    let made = volume.status.as_ref().and_then(|status| status.size_bytes).unwrap_or_default();
    extents(volume.spec.size_bytes).max(made)
}

/// The pool called `name` on `node`.
pub fn find<'a, P: Borrow<StoragePool>>(pools: &'a [P], node: &str, name: &str) -> Option<&'a StoragePool> {
    pools.iter().map(Borrow::borrow).find(|pool| pool.spec.node_name == node && pool.spec.pool == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::testing::{GIB, pool, volume};

    #[test]
    fn what_was_promised_is_gone_whether_it_was_written_or_not() {
        let pool = pool("n1", 10 * GIB);
        let volumes = [volume("a", "n1", 4 * GIB), volume("b", "n1", 3 * GIB), volume("far", "n2", 9 * GIB)];
        let room = Room::of(&pool, &volumes);
        assert_eq!(room, Room { left: 3 * GIB, closed: None });
        assert_eq!(room.fits(3 * GIB, &pool), Ok(()));
        assert_eq!(
            room.fits(3 * GIB + 1, &pool).unwrap_err(),
            "pool default of n1 has 3Gi free, and 3221225473 are requested"
        );
    }

    #[test]
    fn a_reserve_is_never_promised_and_neither_is_what_others_wrote() {
        let mut pool = pool("n1", 10 * GIB);
        pool.spec.reserved = Some(Amount::of_bytes(GIB));
        assert_eq!(Room::of::<LocalVolume>(&pool, &[]).left, 9 * GIB);
        pool.status.as_mut().unwrap().free_bytes = Some(5 * GIB as i64);
        assert_eq!(Room::of(&pool, &[volume("a", "n1", 2 * GIB)]).left, 4 * GIB);
    }

    #[test]
    fn a_pool_that_is_emptied_or_does_not_work_has_no_room() {
        let mut pool = pool("n1", 10 * GIB);
        pool.spec.eviction_requested = true;
        let room = Room::of::<LocalVolume>(&pool, &[]);
        assert_eq!(room.left, 0);
        assert_eq!(
            room.fits(1, &pool).unwrap_err(),
            "pool default of n1 takes no volumes: it is being emptied"
        );
        pool.spec.eviction_requested = false;
        pool.status.as_mut().unwrap().phase = Some(PoolPhase::Failed);
        assert_eq!(Room::of::<LocalVolume>(&pool, &[]).left, 0);
        pool.status = None;
        assert_eq!(Room::of::<LocalVolume>(&pool, &[]).closed, Some("it is not ready yet"));
    }

    #[test]
    fn a_volume_counts_with_what_it_is_to_become() {
        let mut grown = volume("a", "n1", 4 * GIB);
        grown.status =
            Some(sheaf_api::storage::LocalVolumeStatus { size_bytes: Some(2 * GIB), ..Default::default() });
        assert_eq!(size(&grown), 4 * GIB);
        grown.spec.size_bytes = 1;
        assert_eq!(size(&grown), 2 * GIB);
        assert_eq!(extents(1), EXTENT);
    }
}
