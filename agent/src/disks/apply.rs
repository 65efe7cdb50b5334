//! One function per kind of action; no decision is taken here.

use super::Hosts;
use crate::channels::Disk;
use crate::objects::Cluster;
use crate::reconcile::blocking;
use crate::reconcile::events::Event;
use kube::ResourceExt as _;
use sheaf_api::storage::device::{BlockDevice, BlockDeviceStatus};

/// Writes the status, then records what changed; a change whose Event cannot be recorded is in the journal.
pub async fn write_status<C: Cluster<BlockDevice, BlockDeviceStatus>>(
    cluster: &C,
    object: &BlockDevice,
    status: &BlockDeviceStatus,
    events: &[Event],
) -> anyhow::Result<()> {
    cluster.write_status(object, status).await?;
    for event in events {
        tracing::info!(disk = object.name_any(), "{}: {}", event.reason, event.note);
        if let Err(error) = cluster.record(object, event).await {
            tracing::warn!("{error:#}");
        }
    }
    Ok(())
}

/// Erases every signature on `disk`.
pub async fn wipe(hosts: &Hosts, disk: &Disk) -> anyhow::Result<()> {
    tracing::info!(disk = disk.id, device = %disk.facts.device.display(), "erasing its signatures");
    let (disks, device) = (hosts.disks.clone(), disk.device.clone());
    blocking(move || Ok(disks.wipe(&device)?)).await
}
