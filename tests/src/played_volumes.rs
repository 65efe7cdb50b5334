//! What an agent does with volumes, played: a pool on the node `n1`, and LocalVolumes that become Ready.
//!
//! Why here: several files of cases need claims that are bound, on a machine without device mapper. Route in: a [`Controlled`]
//! cluster. Route out: statuses of LocalVolumes, until dropped.

use crate::controlled::Controlled;
use anyhow::Result;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use sheaf_api::storage::{LocalVolume, StoragePool, local_volume::VolumeKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two looks of the node at what it is to do.
const NODE_LOOK: Duration = Duration::from_millis(200);

/// The volumes of the node.
pub struct PlayedVolumes {
    /// Whether the node takes snapshots.
    pub takes_snapshots: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for PlayedVolumes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PlayedVolumes {
    /// Makes the pool `default` of 64 GiB, and serves it.
    pub async fn start(on: &Controlled) -> Result<Self> {
        let pools: Api<StoragePool> = Api::all(on.client.clone());
        let pool = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "StoragePool",
            "metadata": {"name": "default.n1", "labels": {"sheaf.dev/pool": "default"}},
            "spec": {"nodeName": "n1", "pool": "default"}});
        pools.create(&PostParams::default(), &serde_json::from_value(pool)?).await?;
        let bytes = 64_u64 << 30;
        let status = json!({"status": {"phase": "Ready", "totalBytes": bytes, "freeBytes": bytes}});
        pools.patch_status("default.n1", &PatchParams::default(), &Patch::Merge(&status)).await?;
        let takes_snapshots = Arc::new(AtomicBool::new(true));
        let task = tokio::spawn(play(on.client.clone(), takes_snapshots.clone()));
        Ok(Self { takes_snapshots, task })
    }
}

/// What an agent does with volumes: makes blank ones, copies and snapshots, and deletes.
async fn play(client: Client, takes: Arc<AtomicBool>) {
    loop {
        if let Err(error) = serve(&client, &takes).await {
            eprintln!("volumes of the node: {error}");
        }
        tokio::time::sleep(NODE_LOOK).await;
    }
}

async fn serve(client: &Client, takes: &AtomicBool) -> kube::Result<()> {
    let volumes: Api<LocalVolume> = Api::all(client.clone());
    for volume in volumes.list(&ListParams::default()).await? {
        let name = volume.metadata.name.clone().unwrap_or_default();
        if volume.metadata.deletion_timestamp.is_some() {
            let patch = json!({"metadata": {"finalizers": null}});
            volumes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            continue;
        }
        let waits = volume.spec.kind == VolumeKind::Snapshot && !takes.load(Ordering::Relaxed);
        if volume.is_ready() || waits {
            continue;
        }
        let status = json!({"status": {
            "phase": "Ready", "sizeBytes": volume.spec.size_bytes, "devicePath": format!("/dev/sheaf-default/{name}"),
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}]}});
        volumes.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    }
    Ok(())
}
