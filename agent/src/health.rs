//! Whether this node can do what a node must: the lease is renewed only while it can.
//!
//! Why here: a lease that is renewed by a timer alone says that a process runs. Nothing is started elsewhere while a node
//! whose libvirt or whose VM loop hangs keeps its lease. Route in: how controllers stand, the channels `hypervisor` and
//! `disks`. Route out: the channel `health`, which `cluster` reads; systemd's watchdog, for the one stall that a restart of
//! the agent can end.

use crate::channels::{Context, Health};
use crate::reconcile::{Stalled, publish};
use sheaf_host::notify::Notify;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The loop without which no VM is started, resumed or stopped. It waits for nothing longer than libvirt's 20 s.
const VM_LOOP: &str = "vms";

/// What is too long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A round of a controller, by name. LVM alone may take two minutes for a command on a disk that does not answer.
    pub rounds: [(&'static str, Duration); 2],
    /// libvirt without an answer: longer than a restart of libvirtd takes.
    pub libvirt: Duration,
    /// No scan of the disks since the start of the agent.
    pub disks: Duration,
    /// Between two looks: several within a lease's 40 s and the watchdog's time.
    pub interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rounds: [(VM_LOOP, Duration::from_secs(60)), ("disks", Duration::from_secs(300))],
            libvirt: Duration::from_secs(60),
            disks: Duration::from_secs(300),
            interval: Duration::from_secs(5),
        }
    }
}

/// What is known of the node at one time.
#[derive(Clone, Debug, Default)]
struct Observed {
    stalled: Vec<Stalled>,
    /// libvirt does not answer, for so long.
    libvirt_silent: Option<Duration>,
    /// Disks were not scanned yet, for so long.
    disks_unknown: Option<Duration>,
}

/// What keeps the node from its work. Pure.
fn judge(observed: &Observed, limits: &Limits) -> Health {
    let mut problems: Vec<String> = Vec::new();
    // The limits, not the times: a problem that lasts stays the same problem.
    for Stalled { name, limit } in &observed.stalled {
        problems.push(format!("controller {name} has been in one round for more than {} s", limit.as_secs()));
    }
    if observed.libvirt_silent.is_some_and(|silent| silent > limits.libvirt) {
        problems.push(format!("libvirt has not answered for more than {} s", limits.libvirt.as_secs()));
    }
    if observed.disks_unknown.is_some_and(|unknown| unknown > limits.disks) {
        problems.push(format!("the disks were not scanned within {} s", limits.disks.as_secs()));
    }
    Health { problems }
}

/// Runs until shutdown.
pub async fn run(
    ctx: Context,
    health: watch::Sender<Health>,
    limits: Limits,
    watchdog: Arc<dyn Notify>,
) -> anyhow::Result<()> {
    let mut shutdown = ctx.shutdown.clone();
    let (start, mut libvirt_answered) = (Instant::now(), Instant::now());
    while !shutdown.is_requested() {
        if ctx.hypervisor.borrow().answers {
            libvirt_answered = Instant::now();
        }
        let stalled = ctx.controllers.stalled(&limits.rounds);
        let observed = Observed {
            libvirt_silent: Some(libvirt_answered.elapsed()).filter(|silent| !silent.is_zero()),
            disks_unknown: (!ctx.disks.borrow().observed).then(|| start.elapsed()),
            stalled,
        };
        let vm_loop_runs = observed.stalled.iter().all(|stalled| stalled.name != VM_LOOP);
        if vm_loop_runs && let Err(error) = watchdog.notify("WATCHDOG=1") {
            tracing::warn!("cannot notify systemd's watchdog: {error}");
        }
        let now = judge(&observed, &limits);
        let able = now.problems.is_empty();
        if publish(&health, now.clone()) {
            match able {
                true => tracing::info!("this node is able to run VMs"),
                false => tracing::error!("the lease is not renewed: {}", now.problems.join("; ")),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(limits.interval) => {}
            () = shutdown.requested() => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Next;

    #[test]
    fn a_node_is_able_until_something_takes_longer_than_its_limit() {
        let limits = Limits::default();
        let seconds = Duration::from_secs;
        assert_eq!(judge(&Observed::default(), &limits), Health::default());
        let soon = Observed {
            libvirt_silent: Some(seconds(59)),
            disks_unknown: Some(seconds(299)),
            ..Observed::default()
        };
        assert_eq!(judge(&soon, &limits), Health::default());
        let late = Observed {
            stalled: vec![Stalled { name: "vms", limit: seconds(60) }],
            libvirt_silent: Some(seconds(75)),
            disks_unknown: Some(seconds(301)),
        };
        assert_eq!(
            judge(&late, &limits).problems,
            [
                "controller vms has been in one round for more than 60 s",
                "libvirt has not answered for more than 60 s",
                "the disks were not scanned within 300 s",
            ]
        );
    }

    #[tokio::test]
    async fn a_vm_loop_that_hangs_ends_the_lease_and_the_watchdogs_food_and_both_come_back_with_it() {
        let config =
            sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"n1\"\n").unwrap();
        let paths = crate::paths::Paths::under("/nonexistent".as_ref());
        let (ctx, publish) = crate::channels::open(paths, config);
        publish.hypervisor.send_modify(|hypervisor| hypervisor.answers = true);
        let moment = Duration::from_millis(20);
        let limits = Limits {
            rounds: [(VM_LOOP, moment), ("disks", moment)],
            interval: moment / 4,
            ..Limits::default()
        };
        let watchdog = Arc::new(sheaf_host::fakes::FakeNotify::default());
        let task = tokio::spawn(run(ctx.clone(), publish.health, limits, watchdog.clone()));
        let handle = ctx.controllers.register(VM_LOOP);
        let (go_on, gate) = tokio::sync::oneshot::channel::<()>();
        let gated = async {
            gate.await.unwrap();
            Next::WOKEN
        };
        let round = tokio::spawn(async move { handle.round(gated).await });
        let mut health = ctx.health.clone();
        health.wait_for(|health| !health.problems.is_empty()).await.unwrap();
        assert!(!watchdog.take().is_empty());
        tokio::time::sleep(moment).await;
        assert_eq!(watchdog.take(), [""; 0]);
        go_on.send(()).unwrap();
        health.wait_for(|health| health.problems.is_empty()).await.unwrap();
        assert!(watchdog.take().contains(&"WATCHDOG=1".to_owned()));
        round.await.unwrap();
        publish.shutdown.send_replace(true);
        task.await.unwrap().unwrap();
    }
}
