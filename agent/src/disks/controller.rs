//! The rounds: observe when something changed, then plan, apply and report.
//!
//! Route in: change notices, requests, BlockDevices. Route out: the channel and the section `disks`, actions.

use super::observe::{HEALTH_INTERVAL, Observer, Place};
use super::plan::Action;
use super::{Hosts, apply, plan, report};
use crate::channels::{Context, Disks, Seen, Settings};
use crate::listed::Listed;
use crate::objects::Cluster;
use crate::reconcile::{self, Backoff, Next, Retries, Woken, blocking, publish};
use crate::status::{DiskSection, Section};
use k8s_openapi::jiff::Timestamp;
use sheaf_api::storage::device::{BlockDevice, BlockDeviceStatus, Identity};
use sheaf_host::disks::DiskReport;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// What the API server did not take is written again after this.
const WRITE_RETRY: Duration = Duration::from_secs(5);
/// A scan that failed is tried again after this.
const SCAN_RETRY: Duration = Duration::from_secs(60);
/// Between two tries to erase a disk.
const WIPE_RETRY: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(1800));

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// udev reports a disk.
    Disks,
    /// Somebody changed a disk and asks for a scan.
    Request,
    /// A BlockDevice changed.
    Objects,
}

/// The controller's state.
pub struct Controller<C> {
    publish: watch::Sender<Disks>,
    section: Section<Vec<DiskSection>>,
    hosts: Hosts,
    cluster: C,
    objects: watch::Receiver<Listed<BlockDevice>>,
    scan: Arc<Notify>,
    node: String,
    boot_disk: PathBuf,
    observer: Arc<Mutex<Observer>>,
    seen: Arc<Seen>,
    observed: bool,
    next_scan: Instant,
    /// Disks that could not be erased, by object.
    wipes: Retries<String>,
}

impl<C: Cluster<BlockDevice, BlockDeviceStatus>> Controller<C> {
    /// A controller that has observed nothing yet.
    pub fn new(
        ctx: &Context,
        publish: watch::Sender<Disks>,
        section: Section<Vec<DiskSection>>,
        hosts: Hosts,
        cluster: C,
        objects: watch::Receiver<Listed<BlockDevice>>,
        scan: Arc<Notify>,
    ) -> Self {
        Self {
            publish,
            section,
            hosts,
            cluster,
            objects,
            scan,
            node: ctx.config.borrow().system.hostname.clone(),
            boot_disk: ctx.status.read().boot.disk.clone().into(),
            observer: Arc::default(),
            seen: Arc::default(),
            observed: false,
            next_scan: Instant::now(),
            wipes: Retries::new(WIPE_RETRY),
        }
    }

    async fn observe(&mut self) {
        let known = identities(&self.node, &self.objects.borrow());
        let (node, boot_disk, root) = (self.node.clone(), self.boot_disk.clone(), self.hosts.root.clone());
        // The reading half alone: nothing in there can erase a disk.
        let (disks, lvm): (Arc<dyn DiskReport>, _) = (self.hosts.disks.clone(), self.hosts.lvm.clone());
        let observer = self.observer.clone();
        let observed = blocking(move || {
            let place = Place { disks: &*disks, lvm: &*lvm, root: &root, node: &node, boot_disk: &boot_disk };
            observer.lock().unwrap_or_else(PoisonError::into_inner).observe(&place, &known)
        });
        let interval = match observed.await {
            Ok(seen) => {
                (self.seen, self.observed) = (Arc::new(seen), true);
                HEALTH_INTERVAL
            }
            Err(error) => {
                tracing::warn!("cannot scan the disks: {error:#}");
                SCAN_RETRY
            }
        };
        self.next_scan = Instant::now() + interval;
    }

    async fn apply(&mut self, action: Action, listed: &Listed<BlockDevice>) -> anyhow::Result<()> {
        match action {
            Action::Create(object) => self.cluster.create(&object).await,
            Action::WriteStatus { name, status, events } => {
                let Some(object) = listed.objects.get(&name) else { return Ok(()) };
                apply::write_status(&self.cluster, object, &status, &events).await
            }
            Action::Wipe { name, id } => {
                let Some(disk) = self.seen.disks.iter().find(|disk| disk.id == id) else { return Ok(()) };
                match apply::wipe(&self.hosts, disk).await {
                    Ok(()) => self.wipes.succeeded(&name),
                    Err(error) => {
                        tracing::warn!("{name}: cannot erase it: {error:#}");
                        self.wipes.failed(name, format!("{error:#}"));
                    }
                }
                // What is on it now, the next scan tells.
                self.scan.notify_one();
                Ok(())
            }
        }
    }
}

impl<C: Cluster<BlockDevice, BlockDeviceStatus>> reconcile::Controller for Controller<C> {
    type Source = Source;

    async fn round(&mut self, woken: &Woken<Source>) -> Next {
        if woken.by(Source::Disks) || woken.by(Source::Request) || Instant::now() >= self.next_scan {
            self.observe().await;
        }
        let mut next = Next::after(self.next_scan.saturating_duration_since(Instant::now()));
        let listed = self.objects.borrow().clone();
        let disks = Disks {
            observed: self.observed,
            seen: self.seen.clone(),
            settings: settings(&listed),
            synced: listed.synced,
        };
        self.section.set(report::section(&self.node, &disks, &listed));
        publish(&self.publish, disks);
        if !self.observed {
            return next.waiting_for("a first scan of the disks");
        }
        if !listed.synced {
            return next.waiting_for("the list of BlockDevices");
        }
        self.wipes.retain(|name| listed.objects.contains_key(name));
        let failed = self.wipes.waiting();
        for action in plan::plan(&self.node, &self.seen.disks, &listed.objects, &failed, Timestamp::now()) {
            if let Err(error) = self.apply(action, &listed).await {
                tracing::warn!("{error:#}");
                next = next.within(WRITE_RETRY);
            }
        }
        next.sooner(Next { after: self.wipes.next(), waiting_for: None })
    }
}

/// What the objects of `node` say their disks are, by identifier.
fn identities(node: &str, listed: &Listed<BlockDevice>) -> BTreeMap<String, Identity> {
    let id = |name: &str| name.strip_prefix(node)?.strip_prefix('.').map(str::to_owned);
    let of = |(name, object): (&String, &Arc<BlockDevice>)| Some((id(name)?, object.spec.identity.clone()));
    listed.objects.iter().filter_map(of).collect()
}

fn settings(listed: &Listed<BlockDevice>) -> BTreeMap<String, Settings> {
    let of = |object: &BlockDevice| Settings { role: object.spec.role, pool: object.spec.pool.clone() };
    listed.objects.iter().map(|(name, object)| (name.clone(), of(object))).collect()
}
