//! How large a thin pool's parts are. Pure.
//!
//! Why here: metadata that runs out is worse than data that does, so it is sized for the whole group from the start, and
//! what is kept back lets it grow when snapshots need more. Route in: bytes of the members that stay. Route out:
//! [`ThinSize`].

use sheaf_host::lvm::ThinSize;

const MIB: u64 = 1 << 20;
/// Smallest metadata: it costs nothing worth speaking of, and never needs growing in small pools.
pub const LEAST_METADATA: u64 = 64 * MIB;
/// Largest metadata: the kernel's limit is a little below 16 GiB.
const MOST_METADATA: u64 = 15 << 30;
/// Smallest piece: what is written first to a piece is zeroed whole, and a snapshot copies it whole.
const LEAST_CHUNK: u64 = 64 << 10;
/// Bytes of metadata for each piece of data, with as much again for snapshots that went their own way.
const METADATA_PER_CHUNK: u64 = 128;
/// How full metadata may be before it is grown, in percent.
pub const METADATA_GROWS_AT: f64 = 75.0;

/// Sizes for members of `bytes` in all, in whole extents of `extent`; none when they are too small for any pool.
pub fn of_group(bytes: u64, extent: u64) -> Option<ThinSize> {
    let extent = extent.max(1);
    let needed = |chunk: u64| bytes.div_ceil(chunk).saturating_mul(METADATA_PER_CHUNK);
    let mut chunk = LEAST_CHUNK;
    while needed(chunk) > MOST_METADATA {
        chunk *= 2;
    }
    let metadata = needed(chunk).max(LEAST_METADATA).checked_next_multiple_of(extent)?;
    // A spare of the same size for repairs; and what lets both grow by half. Small pools have more than enough already.
    let kept = if metadata > LEAST_METADATA { metadata } else { 0 };
    let data = bytes.checked_sub(metadata.checked_mul(2)?.checked_add(kept)?)? / extent * extent;
    (data > 0).then_some(ThinSize { data, metadata, chunk })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: u64 = 4 * MIB;

    #[test]
    fn a_small_pool_has_the_least_metadata_and_its_spare_and_gives_the_rest() {
        let size = of_group(1024 * MIB, EXTENT).unwrap();
        assert_eq!(size, ThinSize { data: 896 * MIB, metadata: LEAST_METADATA, chunk: LEAST_CHUNK });
    }

    #[test]
    fn a_large_pool_keeps_room_for_its_metadata_to_grow() {
        let tib = 1 << 40;
        let size = of_group(tib, EXTENT).unwrap();
        assert_eq!(size.metadata, 2 << 30);
        assert_eq!(size.data, tib - 3 * size.metadata);
    }

    #[test]
    fn pieces_grow_where_metadata_would_pass_the_kernels_limit() {
        let size = of_group(100 << 40, EXTENT).unwrap();
        assert_eq!(size.chunk, 1 << 20);
        assert!(size.metadata <= MOST_METADATA);
    }

    #[test]
    fn a_disk_of_a_hundred_mib_makes_no_pool() {
        assert_eq!(of_group(100 * MIB, EXTENT), None);
    }
}
