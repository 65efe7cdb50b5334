//! The rounds: complete what a rotation, a restore or an update began.
//!
//! Route in: time, the node has joined. Route out: steps; an Event of the Node when one fails.

use super::{lock, settle};
use crate::channels::Context;
use crate::cluster::Hosts;
use crate::reconcile::events::{Event, EventRecorder};
use crate::reconcile::{self, Backoff, Next, Retries, Tasks, Wakes, Woken};
use k8s_openapi::api::core::v1::Node;
use sheaf_config::node::{Cluster, Role};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Between two looks: a rotation that was interrupted is completed within it.
const LOOK: Duration = Duration::from_secs(10 * 60);
/// Between two tries of what failed.
const RETRY: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(3600));

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The steps ended.
    Done,
    /// The node has joined: its control plane is up.
    Joined,
}

/// The controller's state.
pub struct Controller {
    ctx: Context,
    hosts: Hosts,
    events: EventRecorder,
    tasks: Tasks<(), anyhow::Result<()>>,
    failures: Retries<()>,
    /// When the next look is due; at once without it.
    due: Option<Instant>,
}

impl Controller {
    /// One that has observed nothing yet.
    pub fn new(ctx: Context, hosts: Hosts, wakes: &mut Wakes<Source>) -> Self {
        let events = EventRecorder::new(ctx.cluster.clone());
        let tasks = Tasks::new(wakes, Source::Done);
        Self { ctx, hosts, events, tasks, failures: Retries::new(RETRY), due: None }
    }

    fn finish(&mut self) {
        for ((), ended) in self.tasks.finished() {
            let why = match ended {
                Ok(Ok(())) => {
                    self.failures.succeeded(&());
                    continue;
                }
                Ok(Err(error)) => format!("{error:#}"),
                Err(panic) => panic.to_string(),
            };
            tracing::error!("encryption of Secrets: {why}");
            self.failures.failed((), why.clone());
            // When the failure's interval is over.
            self.due = None;
            let Some(joined) = self.ctx.cluster.borrow().clone() else { continue };
            let mut node = Node::default();
            (node.metadata.name, node.metadata.uid) = (Some(joined.node), Some(joined.node_uid));
            let recorder = self.events.clone();
            // Nothing waits for an Event.
            tokio::spawn(async move {
                let event = Event::warning("EncryptionFailed", why);
                if let Err(error) = recorder.record(&node, &event).await {
                    tracing::warn!("{error:#}");
                }
            });
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
        // Before that `cluster` is making or starting the control plane.
        if self.ctx.cluster.borrow().is_none() {
            return Next::WOKEN.waiting_for("the control plane");
        }
        let now = Instant::now();
        let is_due = self.due.is_none_or(|due| now >= due) && self.failures.waiting().is_empty();
        if is_due && !self.tasks.is_running(&()) {
            self.due = Some(now + LOOK);
            let (paths, hosts) = (self.ctx.paths.clone(), self.hosts.clone());
            self.tasks.start((), async move {
                // `sheaf-agent encryption rotate` is at work.
                let Some(_lock) = lock(&paths)? else { return Ok(()) };
                let say = |line: &str| tracing::info!("encryption of Secrets: {line}");
                settle(&paths, &hosts, SystemTime::now(), &say).await
            });
            return Next::after(LOOK);
        }
        let left = self.due.map_or(LOOK, |due| due.saturating_duration_since(now));
        Next::after(left).sooner(Next { after: self.failures.next(), waiting_for: None })
    }
}
