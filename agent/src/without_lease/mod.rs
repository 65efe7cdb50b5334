//! Controller `without-lease`: VMs that may start elsewhere when this node is lost stop here before that.
//!
//! Reads: Pods of this node, when the lease was renewed. Owns: [`Record`] and a note of what was stopped in `/run/sheaf`, two timers of systemd, the timeout of the
//! machine's watchdog, the condition `sheaf.dev/StopsWithoutLease` of Pods. Never touches: VMs; the program that a timer starts
//! ([`by_force`]) stops them.
//!
//! Why timers of systemd and not this loop: an agent that hangs, crashes or is killed renews no lease, and its VMs run on. Each renewal
//! starts the next timer, before it counts; when none comes, systemd starts the program, with or without an agent. If systemd hangs,
//! the watchdog resets the machine. Only a VM whose timer runs, on a machine whose watchdog is fast enough, is reported as one that
//! stops, and only such a VM is started elsewhere ([`sheaf_api::restart_elsewhere`] has all times). No wall clock is read: timers,
//! renewals and record count from the start of the machine.
//! observe → [`plan`] → apply in the loop [`controller`]; docs/decisions/0050.

pub mod by_force;
mod controller;
pub mod plan;

use crate::api_server::Kube;
use crate::channels::Context;
use crate::listed::Listed;
use crate::paths::Paths;
use crate::reconcile::{self, Wakes};
use anyhow::Context as _;
use controller::{Controller, Source};
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use sheaf_host::alarm::Alarm;
use sheaf_host::file::write_atomically;
use sheaf_host::watchdog::Watchdog;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// What the program has to know, on a file system in memory: nothing of it is true after a restart of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When the last renewal of the lease that succeeded was begun: milliseconds since the machine was started.
    pub renewed: u64,
    /// Which of the two timers runs.
    pub timer: usize,
    /// VMs to stop: `namespace/name` of their Pods, by UID.
    pub pods: BTreeMap<String, String>,
}

impl Record {
    /// Where it is.
    pub fn path(paths: &Paths) -> PathBuf {
        paths.run.join("vms-without-lease.json")
    }

    /// As it is on disk; none if no VM is to be stopped.
    pub fn load(paths: &Paths) -> anyhow::Result<Option<Self>> {
        let path = Self::path(paths);
        match std::fs::read(&path) {
            Ok(text) => Ok(Some(
                serde_json::from_slice(&text).with_context(|| format!("{}: is damaged", path.display()))?,
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{}: cannot be read", path.display())),
        }
    }
}

/// Where it is noted which VMs were stopped: on the same file system.
fn stopped_path(paths: &Paths) -> PathBuf {
    paths.run.join("vms-stopped-without-lease.json")
}

/// UIDs of the Pods whose VMs were stopped since the machine was started. A note that cannot be read is none: it only says why.
pub fn stopped(paths: &Paths) -> BTreeSet<String> {
    let text = std::fs::read(stopped_path(paths)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Notes that the VMs of the Pods `uids` are about to be stopped.
fn note_stopped<'a>(paths: &Paths, uids: impl Iterator<Item = &'a String>) -> anyhow::Result<()> {
    let mut all = stopped(paths);
    all.extend(uids.cloned());
    write_atomically(&stopped_path(paths), &serde_json::to_vec(&all)?, 0o600)?;
    Ok(())
}

/// Whether this node has VMs that stop without a lease: it then renews it more often.
pub fn is_armed(paths: &Paths) -> bool {
    Record::path(paths).exists()
}

/// What this controller does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// Starts the program that stops VMs.
    pub alarm: Arc<dyn Alarm>,
    /// Resets a machine whose systemd hangs.
    pub watchdog: Arc<dyn Watchdog>,
}

/// Runs until shutdown.
pub async fn run(ctx: Context, pods: watch::Receiver<Listed<Pod>>, hosts: Hosts) -> anyhow::Result<()> {
    let wakes = Wakes::new().watch(Source::Lease, ctx.lease.clone()).watch(Source::Pods, pods.clone());
    let (handle, shutdown) = (ctx.controllers.register("without-lease"), ctx.shutdown.clone());
    let kube = Kube::new(ctx.cluster.clone());
    reconcile::run(Controller::new(ctx, pods, kube, hosts), wakes, handle, shutdown).await
}
