//! Controller `power`: the end of the machine, as far as it is an orderly one.
//!
//! Why the agent does not stop the VMs itself: it may be dead, or starting again, when somebody presses the power button.
//! systemd stops `sheaf-guests.service` before anything that VMs need, and its program ([`guests`]) stops them ([`stop`]). The
//! agent observes that unit, reports, and starts nothing more.
//!
//! Reads: the state of that unit, domains, Pods of this node. Owns: the channel `shutting_down`, the section `power`, the Event
//! `Shutdown` of the Node. Never touches: VMs, whose end is reported by `vms`.
//!
//! observe → [`report`] in the loop [`controller`]; docs/decisions/0037 says why a unit and no inhibitor lock of logind.

mod controller;
pub mod guests;
mod report;
pub mod stop;

use crate::channels::Context;
use crate::listed::Listed;
use crate::reconcile::{self, Wakes};
use crate::status::{PowerSection, Section};
use controller::{Controller, Source};
use k8s_openapi::api::core::v1::Pod;
use sheaf_host::libvirt::VmHost;
use sheaf_host::systemd::Units;
use std::sync::Arc;
use tokio::sync::watch;

/// The unit that stops VMs when it is stopped itself.
pub const GUESTS_UNIT: &str = "sheaf-guests.service";

/// What this controller observes of the machine.
pub struct Hosts<V> {
    /// The state of the unit.
    pub units: Arc<dyn Units>,
    /// VMs that are waited for.
    pub vms: Arc<V>,
}

/// Runs until shutdown of the agent.
pub async fn run<V: VmHost>(
    ctx: Context,
    pods: watch::Receiver<Listed<Pod>>,
    shutting_down: watch::Sender<bool>,
    section: Section<PowerSection>,
    hosts: Hosts<V>,
) -> anyhow::Result<()> {
    let mut wakes = Wakes::new().watch(Source::Pods, pods.clone());
    let unit = match hosts.units.changes(GUESTS_UNIT).await {
        Ok(changes) => Some(wakes.collect(Source::Unit, changes)),
        Err(error) => {
            tracing::warn!(
                "{error}; the state of {GUESTS_UNIT} is read every {} s",
                controller::POLL.as_secs()
            );
            None
        }
    };
    let (handle, shutdown) = (ctx.controllers.register("power"), ctx.shutdown.clone());
    let controller = Controller::new(ctx, pods, shutting_down, section, hosts, unit);
    reconcile::run(controller, wakes, handle, shutdown).await
}

#[cfg(test)]
mod tests;
