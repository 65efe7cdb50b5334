//! The rounds of each room: complete what a rotation, a restore or an update began, and follow what other nodes began.
//!
//! Route in: time, the node has joined. Route out: steps; an Event of the Node when one fails.

use super::{Place, Progress, lock};
use crate::channels::Context;
use crate::cluster::{Hosts, servers};
use crate::paths::Paths;
use crate::reconcile::events::{Event, EventRecorder};
use crate::reconcile::{self, Backoff, Next, Retries, Tasks, Wakes, Woken};
use crate::{authorities, encryption, service_accounts};
use sheaf_config::node::{Cluster, Role};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Between two looks on the only control-plane node: a rotation that was interrupted is completed within it.
const LOOK: Duration = Duration::from_secs(10 * 60);
/// The same on one of several: another node may have begun a change, and waits for this one.
const FOLLOW: Duration = Duration::from_secs(15);
/// Between two tries of what failed.
const RETRY: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(3600));

/// The keys of which room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Those that Secrets are encrypted with.
    Encryption,
    /// Those that sign tokens of service accounts.
    ServiceAccounts,
    /// Those of CAs: their certificates.
    Authorities,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Encryption, Self::ServiceAccounts, Self::Authorities];

    /// Name of the document that nodes share.
    pub fn document(self) -> &'static str {
        match self {
            Self::Encryption => "encryption",
            Self::ServiceAccounts => "service-accounts",
            Self::Authorities => "authorities",
        }
    }

    /// As people read it in the journal.
    fn words(self) -> &'static str {
        match self {
            Self::Encryption => "encryption of Secrets",
            Self::ServiceAccounts => "keys of service accounts",
            Self::Authorities => "certificates of CAs",
        }
    }

    /// The reason of the Event when a step fails.
    fn event(self) -> &'static str {
        match self {
            Self::Encryption => "EncryptionFailed",
            Self::ServiceAccounts => "ServiceAccountKeysFailed",
            Self::Authorities => "AuthoritiesNotRenewed",
        }
    }

    async fn settle(self, place: Place<'_>, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Progress> {
        match self {
            Self::Encryption => encryption::settle(place, say).await,
            Self::ServiceAccounts => service_accounts::settle(place, say).await,
            Self::Authorities => authorities::settle(place, say).await,
        }
    }
}

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// The steps ended.
    Done,
    /// The node has joined: its control plane is up.
    Joined,
}

/// Runs the rounds of `kind` until shutdown.
pub async fn run(kind: Kind, ctx: Context, hosts: Hosts) -> anyhow::Result<()> {
    let mut wakes = Wakes::new().watch(Source::Joined, ctx.cluster.clone());
    let (handle, shutdown) = (ctx.controllers.register(kind.document()), ctx.shutdown.clone());
    let events = EventRecorder::new(ctx.cluster.clone());
    let tasks = Tasks::new(&mut wakes, Source::Done);
    let controller = Controller { kind, ctx, hosts, events, tasks, failures: Retries::new(RETRY), due: None };
    reconcile::run(controller, wakes, handle, shutdown).await
}

/// The controller's state.
struct Controller {
    kind: Kind,
    ctx: Context,
    hosts: Hosts,
    events: EventRecorder,
    tasks: Tasks<(), anyhow::Result<Progress>>,
    failures: Retries<()>,
    /// When the next look is due; at once without it.
    due: Option<Instant>,
}

/// Between two looks while nothing fails.
fn interval(paths: &Paths) -> Duration {
    if servers::kept(&servers::file(paths)).len() > 1 { FOLLOW } else { LOOK }
}

impl Controller {
    fn finish(&mut self) {
        for ((), ended) in self.tasks.finished() {
            let why = match ended {
                Ok(Ok(progress)) => {
                    if let Progress::Waiting(_) = progress {
                        self.due = self.due.map(|due| due.min(Instant::now() + FOLLOW));
                    }
                    self.failures.succeeded(&());
                    continue;
                }
                Ok(Err(error)) => format!("{error:#}"),
                Err(panic) => panic.to_string(),
            };
            tracing::error!("{}: {why}", self.kind.words());
            self.failures.failed((), why.clone());
            // When the failure's interval is over.
            self.due = None;
            self.events.announce(Event::warning(self.kind.event(), why));
        }
    }
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        let role = self.ctx.config.borrow().cluster.as_ref().map(Cluster::role);
        if role != Some(Role::ControlPlane) {
            return Next::WOKEN;
        }
        self.finish();
        // Before that `cluster` is making or starting the control plane. A node that joined is one before it has a control plane.
        let is_up = self.ctx.cluster.borrow().is_some()
            && self.ctx.paths.kubernetes.join("super-admin.conf").exists();
        if !is_up {
            return Next::after(FOLLOW).waiting_for("the control plane");
        }
        let now = Instant::now();
        let is_due = self.due.is_none_or(|due| now >= due) && self.failures.waiting().is_empty();
        let look = interval(&self.ctx.paths);
        if is_due && !self.tasks.is_running(&()) {
            self.due = Some(now + look);
            let (kind, paths, hosts) = (self.kind, self.ctx.paths.clone(), self.hosts.clone());
            self.tasks.start((), async move {
                // A command, or another room, is at work.
                let Some(_lock) = lock(&paths)? else { return Ok(Progress::Waiting(Vec::new())) };
                let say = |line: &str| tracing::info!("{}: {line}", kind.words());
                let place = Place { paths: &paths, hosts: &hosts, now: SystemTime::now(), by_hand: false };
                kind.settle(place, &say).await
            });
            return Next::after(look);
        }
        let left = self.due.map_or(look, |due| due.saturating_duration_since(now));
        Next::after(left).sooner(Next { after: self.failures.next(), waiting_for: None })
    }
}
