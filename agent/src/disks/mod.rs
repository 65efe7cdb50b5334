//! Controller `disks`: shows every disk of the node by its identity, and erases those whose serial was repeated.
//!
//! Reads: udev's news, lsblk, wipefs, LVM's report of groups, smartctl, BlockDevices of this node. Owns: the making and
//! the status of these objects, the marks on a disk that `spec.wipe` names, the channel and the status section `disks`.
//! Never touches: volume groups (`pools` does), the boot disk, a disk in use; it deletes no object.
//!
//! observe ([`observe`]) → [`plan`] → apply → the next look verifies → report. It looks when udev tells of a disk, when
//! an object changes, when `pools` has changed a disk, and for health every half hour: never because time passed.

pub mod contents;
pub mod identity;
pub mod observe;
pub mod plan;
mod view;

use crate::channels::Context;
use crate::cluster::blocking;
use crate::listed::{self, Listed};
use crate::objects::{Cluster, Kube};
use contents::Contents;
use k8s_openapi::jiff::Timestamp;
use observe::{HEALTH_EVERY, Observer, Place, Seen};
use plan::Action;
use sheaf_api::storage::device::{BlockDevice, BlockDeviceStatus, Identity, Role};
use sheaf_host::block;
use sheaf_host::lvm::Lvm;
use sheaf_host::run::Run;
use sheaf_host::udev::BlockNews;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

pub use plan::object_name;

/// A disk that is plugged in makes several news: one for itself, one for each partition.
const NEWS_SETTLE: Duration = Duration::from_millis(300);
/// What the API server did not take is said again after this.
const SAY_AGAIN: Duration = Duration::from_secs(5);
/// A disk that could not be looked at, or not be erased, is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// What this controller does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// lsblk, wipefs, smartctl.
    pub run: Arc<dyn Run>,
    /// Knows the groups.
    pub lvm: Arc<dyn Lvm>,
    /// Tells of disks.
    pub news: Arc<dyn BlockNews>,
    /// `/`.
    pub root: PathBuf,
}

/// The disks of this node, for whoever uses them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disks {
    /// There was a look.
    pub looked: bool,
    /// What was seen.
    pub seen: Arc<Seen>,
    /// What operators want of them, by name of the object; empty while the cluster was not heard of.
    pub settings: BTreeMap<String, Settings>,
    /// The cluster was heard of.
    pub synced: bool,
}

/// What an operator wants of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What it is for.
    pub role: Role,
    /// With role pool: which.
    pub pool: Option<String>,
}

/// Runs until shutdown. `look` asks for a look.
pub async fn run(
    ctx: Context,
    publish: watch::Sender<Disks>,
    hosts: Hosts,
    look: Arc<Notify>,
) -> anyhow::Result<()> {
    let listed = watch::Sender::new(Listed::default());
    let (cluster, objects) = (Kube::new(ctx.cluster.clone()), listed.subscribe());
    tokio::select! {
        ended = Controller::new(ctx.clone(), publish, hosts, cluster, objects, look).run() => ended,
        () = listed::follow(ctx.cluster.clone(), &listed, listed::by_name, listed::Scope::ThisNode) => Ok(()),
    }
}

/// One loop over everything that can be new.
struct Controller<C> {
    ctx: Context,
    publish: watch::Sender<Disks>,
    hosts: Hosts,
    cluster: C,
    objects: watch::Receiver<Listed<BlockDevice>>,
    look: Arc<Notify>,
    node: String,
    observer: Arc<Mutex<Observer>>,
    seen: Arc<Seen>,
    looked: bool,
    /// Wipes that failed since the last time that all was tried again, by object.
    failed: BTreeMap<String, String>,
}

/// When to go on by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    SayAgain,
    TryAgain,
    Health,
}

impl Next {
    fn after(self) -> Duration {
        match self {
            Self::SayAgain => SAY_AGAIN,
            Self::TryAgain => TRY_AGAIN,
            Self::Health => HEALTH_EVERY,
        }
    }
}

impl<C: Cluster<BlockDevice, BlockDeviceStatus>> Controller<C> {
    fn new(
        ctx: Context,
        publish: watch::Sender<Disks>,
        hosts: Hosts,
        cluster: C,
        objects: watch::Receiver<Listed<BlockDevice>>,
        look: Arc<Notify>,
    ) -> Self {
        let node = ctx.config.borrow().system.hostname.clone();
        Self {
            ctx,
            publish,
            hosts,
            cluster,
            objects,
            look,
            node,
            observer: Arc::default(),
            seen: Arc::default(),
            looked: false,
            failed: BTreeMap::new(),
        }
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let no_news = |error: &std::io::Error| tracing::warn!("no news of disks: {error}");
        // Before the first look: a change in between is heard.
        let mut news = self.hosts.news.watch().inspect_err(no_news).ok();
        let mut end = self.ctx.shutdown.clone();
        let mut is_stale = true;
        loop {
            let mut next = Next::Health;
            if is_stale && !self.observe().await {
                next = Next::TryAgain;
            }
            is_stale = false;
            next = next.min(self.reconcile().await);
            let heard = async {
                match &mut news {
                    Some(news) => news.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                heard = heard => {
                    if let Err(error) = heard {
                        no_news(&error);
                        news = None;
                    }
                    tokio::time::sleep(NEWS_SETTLE).await; // several news of one disk are one look
                    is_stale = true;
                }
                () = self.look.notified() => is_stale = true,
                changed = self.objects.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(next.after()) => {
                    is_stale = next != Next::SayAgain;
                    self.failed.clear();
                }
                () = end.requested() => return Ok(()),
            }
        }
    }

    /// Looks at the disks; false when that did not work, and the last look stands.
    async fn observe(&mut self) -> bool {
        let known = identities(&self.node, &self.objects.borrow());
        let (hosts, node, observer) = (self.hosts.clone(), self.node.clone(), self.observer.clone());
        let boot_disk: PathBuf = self.ctx.status.subscribe().borrow().boot.disk.clone().into();
        let looked = blocking(move || {
            let place = Place {
                run: hosts.run.as_ref(),
                lvm: hosts.lvm.as_ref(),
                root: &hosts.root,
                node: &node,
                boot_disk: &boot_disk,
            };
            observer.lock().unwrap_or_else(PoisonError::into_inner).look(&place, &known)
        });
        match looked.await {
            Ok(seen) => {
                self.seen = Arc::new(seen);
                self.looked = true;
                true
            }
            Err(error) => {
                tracing::warn!("disks can not be looked at: {error:#}");
                false
            }
        }
    }

    /// Publishes what is known and does what follows from it.
    async fn reconcile(&mut self) -> Next {
        let listed = self.objects.borrow_and_update().clone();
        let disks = Disks {
            looked: self.looked,
            seen: self.seen.clone(),
            settings: settings(&listed),
            synced: listed.synced,
        };
        let section = view::section(&self.node, &disks, &listed);
        self.ctx.status.update(|status| status.disks = section);
        self.publish.send_if_modified(|now| {
            let is_new = *now != disks;
            if is_new {
                *now = disks;
            }
            is_new
        });
        if !listed.synced || !self.looked {
            return Next::Health;
        }
        let mut next = Next::Health;
        for action in
            plan::plan(&self.node, &self.seen.disks, &listed.objects, &self.failed, Timestamp::now())
        {
            next = next.min(self.apply(action, &listed).await);
        }
        next
    }

    async fn apply(&mut self, action: Action, listed: &Listed<BlockDevice>) -> Next {
        let said = match action {
            Action::Make(object) => self.cluster.make(&object).await,
            Action::Report { name, status, news } => {
                let Some(object) = listed.objects.get(&name) else { return Next::Health };
                let reported = self.cluster.report(object, &status).await;
                if reported.is_ok() {
                    for news in news {
                        tracing::info!(disk = name, "{}: {}", news.reason, news.note);
                        if let Err(error) = self.cluster.tell(object, &news).await {
                            tracing::warn!("{error:#}");
                        }
                    }
                }
                reported
            }
            Action::Wipe { name, id } => {
                let Some(disk) = self.seen.disks.iter().find(|disk| disk.id == id) else {
                    return Next::Health;
                };
                tracing::info!(disk = name, device = %disk.facts.device.display(), "erasing its marks");
                let (run, device) = (self.hosts.run.clone(), disk.device.clone());
                if let Err(error) = blocking(move || Ok(block::wipe(run.as_ref(), &device)?)).await {
                    tracing::warn!("{name} can not be erased: {error:#}");
                    self.failed.insert(name, format!("{error:#}"));
                }
                // What is on it now, is seen at the next look.
                self.look.notify_one();
                return Next::TryAgain;
            }
        };
        match said {
            Ok(()) => Next::Health,
            Err(error) => {
                tracing::warn!("{error:#}");
                Next::SayAgain
            }
        }
    }
}

/// What the objects of `node` say their disks are, by identifier.
fn identities(node: &str, listed: &Listed<BlockDevice>) -> BTreeMap<String, Identity> {
    let id = |name: &str| name.strip_prefix(node)?.strip_prefix('.').map(str::to_owned);
    listed
        .objects
        .iter()
        .filter_map(|(name, object)| Some((id(name)?, object.spec.identity.clone())))
        .collect()
}

fn settings(listed: &Listed<BlockDevice>) -> BTreeMap<String, Settings> {
    let of = |object: &BlockDevice| Settings { role: object.spec.role, pool: object.spec.pool.clone() };
    listed.objects.iter().map(|(name, object)| (name.clone(), of(object))).collect()
}

impl observe::Disk {
    /// Why it may not be taken for a pool, in a sentence.
    pub fn refusal(&self) -> Option<String> {
        match &self.contents {
            Contents::System => Some("this node runs from it".into()),
            Contents::Foreign(what) => Some(format!(
                "it carries {what}; if nobody needs that, set spec.wipe.confirmSerial of its BlockDevice to {}",
                self.facts.identity().proof().unwrap_or("what tells it from others")
            )),
            _ if self.facts.read_only => Some("the kernel refuses writes to it".into()),
            _ if self.is_ambiguous => Some("another disk of this node says the same of itself".into()),
            Contents::Empty if !self.uses.is_empty() => {
                Some(format!("it is in use: {}", self.uses.join(", ")))
            }
            Contents::Empty | Contents::Pool(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
