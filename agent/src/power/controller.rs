//! The rounds: is the machine going down, and what is still waited for?
//!
//! Route in: changes of the unit, Pods, time. Route out: the channel `shutting_down`, the section, one Event of the Node.

use super::{GUESTS_UNIT, Hosts, report};
use crate::channels::Context;
use crate::listed::Listed;
use crate::reconcile::events::{Event, EventRecorder};
use crate::reconcile::{self, Inbox, Next, Woken, publish};
use crate::status::{PowerSection, Section};
use k8s_openapi::api::core::v1::Pod;
use sheaf_host::libvirt::{Domain, VmHost};
use std::time::Duration;
use tokio::sync::watch;

/// The unit's state is read so often, should a signal be lost: less than the unit's program waits for the agent.
pub const POLL: Duration = Duration::from_secs(10);
/// Between two looks at the VMs during a shutdown.
const LOOK: Duration = Duration::from_secs(1);
/// libvirt's longest answer in a round.
const LIBVIRT_TIMEOUT: Duration = Duration::from_secs(5);
/// systemd's word for a unit that is being stopped: org.freedesktop.systemd1(5).
const STOPPING: &str = "deactivating";

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A property of the unit changed.
    Unit,
    /// Pods of this node changed.
    Pods,
}

/// The controller's state.
pub struct Controller<V> {
    ctx: Context,
    pods: watch::Receiver<Listed<Pod>>,
    shutting_down: watch::Sender<bool>,
    section: Section<PowerSection>,
    hosts: Hosts<V>,
    unit: Option<Inbox<()>>,
    events: EventRecorder,
    /// systemd did not answer; it is said once.
    is_silent: bool,
}

impl<V: VmHost> Controller<V> {
    /// One that has observed nothing yet.
    pub fn new(
        ctx: Context,
        pods: watch::Receiver<Listed<Pod>>,
        shutting_down: watch::Sender<bool>,
        section: Section<PowerSection>,
        hosts: Hosts<V>,
        unit: Option<Inbox<()>>,
    ) -> Self {
        let events = EventRecorder::new(ctx.cluster.clone());
        Self { ctx, pods, shutting_down, section, hosts, unit, events, is_silent: false }
    }

    async fn domains(&self) -> Option<Vec<Domain>> {
        tokio::time::timeout(LIBVIRT_TIMEOUT, self.hosts.vms.domains()).await.ok()?.ok()
    }

    /// Records the Event.
    fn announce(&self) {
        // The reason is a kubelet's (pkg/kubelet/events, NodeShutdown).
        self.events
            .announce(Event::normal("Shutdown", "the machine is going down; its VMs are asked to power off"));
    }
}

impl<V: VmHost> reconcile::Controller for Controller<V> {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        if let Some(unit) = &mut self.unit {
            unit.take();
        }
        let is_stopping = match self.hosts.units.state(GUESTS_UNIT).await {
            Ok(state) => {
                self.is_silent = false;
                state == STOPPING
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_silent, true) {
                    tracing::warn!("{error}; a shutdown would not be noticed");
                }
                *self.shutting_down.borrow()
            }
        };
        if publish(&self.shutting_down, is_stopping) && is_stopping {
            tracing::warn!("the machine is going down: no VM is started any more");
            self.announce();
        }
        if !is_stopping {
            self.section.set(PowerSection::default());
            return Next::after(POLL);
        }
        // Before a restart for an update Pods stay as they are: nothing is to be waited for.
        let listed = if *self.ctx.leaving.borrow() { Listed::default() } else { self.pods.borrow().clone() };
        let domains = self.domains().await;
        self.section.set(report::section(domains.as_deref(), listed.objects.values().map(|pod| &**pod)));
        Next::after(LOOK)
    }
}
