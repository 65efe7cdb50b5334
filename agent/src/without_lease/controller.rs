//! The rounds: a timer for each renewal.
//!
//! Route in: renewals, Pods. Route out: timers of systemd, the record, conditions of Pods.

use super::plan::{Action, Observed, plan};
use super::{Hosts, Record};
use crate::api_server::Kube;
use crate::channels::Context;
use crate::cluster::time::rfc3339;
use crate::listed::Listed;
use crate::reconcile::{self, Next, Woken};
use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use sheaf_api::names::STOPS_ALONE_CONDITION;
use sheaf_api::restart_elsewhere::{RESET_AFTER, STOP_AFTER, WATCHDOG};
use sheaf_host::file::write_atomically;
use sheaf_host::uptime::uptime;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

/// The timers, one of which runs: the next is started before the former ends.
const TIMERS: [&str; 2] = ["sheaf-without-lease-0", "sheaf-without-lease-1"];
/// What they start.
const PROGRAM: [&str; 3] = ["/usr/bin/sheaf-agent", "power", "stop-without-lease"];
/// After a failure. The former timer runs meanwhile.
const AGAIN: Duration = Duration::from_secs(2);
/// The program ends within it, or systemd resets the machine.
const WITHIN: Duration = RESET_AFTER.saturating_sub(STOP_AFTER);
/// `RuntimeWatchdogSec` of the image (`system.conf.d/sheaf.conf`), when no VM needs a faster watchdog: one that is slow resets no
/// machine that is only busy.
const USUAL_WATCHDOG: Duration = Duration::from_secs(60);
/// After the watchdog could not be set: a machine without one rarely gets one.
const GUARD_AGAIN: Duration = Duration::from_secs(60);
/// Longest time for a request: a round must not miss the next renewal.
const REQUEST_TIME: Duration = Duration::from_secs(3);

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The lease was renewed.
    Lease,
    /// Pods of this node changed.
    Pods,
}

/// The controller's state.
pub struct Controller {
    ctx: Context,
    pods: watch::Receiver<Listed<Pod>>,
    kube: Kube,
    hosts: Hosts,
    problem: Option<String>,
    /// The watchdog is not set before then.
    guard_at: Option<Instant>,
}

impl Controller {
    /// One that knows what an earlier life of the agent noted.
    pub fn new(ctx: Context, pods: watch::Receiver<Listed<Pod>>, kube: Kube, hosts: Hosts) -> Self {
        Self { ctx, pods, kube: kube.with_timeout(REQUEST_TIME), hosts, problem: None, guard_at: None }
    }

    async fn apply(&mut self, listed: &Listed<Pod>, action: &Action) -> anyhow::Result<()> {
        let path = Record::path(&self.ctx.paths);
        match action {
            Action::Arm { delay, record } => {
                let (next, former) = (TIMERS[record.timer.min(1)], TIMERS[1 - record.timer.min(1)]);
                // Left by a round that was cut off, if at all: the former one runs.
                self.hosts.alarm.cancel(next).await?;
                let program = PROGRAM.map(str::to_owned);
                self.hosts.alarm.arm_or_reset(next, *delay, &program, WITHIN).await?;
                write_atomically(&path, &serde_json::to_vec(record)?, 0o600)?;
                self.hosts.alarm.cancel(former).await?;
            }
            Action::Disarm => {
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("{}: cannot be removed", path.display()));
                    }
                    _ => {}
                }
                for timer in TIMERS {
                    self.hosts.alarm.cancel(timer).await?;
                }
                self.hosts.watchdog.set(USUAL_WATCHDOG).await?;
            }
            Action::Guard => {
                self.guard_at = Some(Instant::now() + GUARD_AGAIN);
                self.hosts.watchdog.set(WATCHDOG).await?;
                let seconds = WATCHDOG.as_secs();
                match self.hosts.watchdog.timeout() {
                    Some(timeout) if timeout <= WATCHDOG => self.guard_at = None,
                    Some(timeout) => bail!(
                        "the watchdog of this machine takes no timeout of {seconds} s, only {} s: VMs of this node are not started \
                         elsewhere when it is lost",
                        timeout.as_secs()
                    ),
                    None => bail!(
                        "this machine has no watchdog that resets it within {seconds} s: VMs of this node are not started elsewhere \
                         when it is lost; enable the watchdog in its firmware"
                    ),
                }
            }
            Action::Acknowledge(uid) => {
                let Some(pod) = listed.objects.get(uid) else { return Ok(()) };
                let meta = pod.metadata.clone();
                let (namespace, name) = (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default());
                let message = format!(
                    "the node stops the VM when its lease was not renewed for {} s; it may then start on another node",
                    STOP_AFTER.as_secs()
                );
                let condition = json!({
                    "type": STOPS_ALONE_CONDITION, "status": "True", "reason": "Armed", "message": message,
                    "lastTransitionTime": rfc3339(SystemTime::now()),
                });
                let patch = json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}});
                let request = self.kube.request(|joined| async move {
                    let pods: Api<Pod> = Api::namespaced(joined.client, &namespace);
                    pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await
                });
                request.await.context("reporting that a VM stops without a lease")?;
            }
        }
        Ok(())
    }

    async fn pass(&mut self) -> anyhow::Result<()> {
        loop {
            let listed = self.pods.borrow().clone();
            // A damaged one is written again.
            let record = Record::load(&self.ctx.paths).unwrap_or_else(|error| {
                tracing::warn!("{error:#}");
                None
            });
            let now = uptime()?;
            let renewed = (*self.ctx.lease.borrow()).map(|begun| now.saturating_sub(begun.elapsed()));
            let (watchdog, may_guard) =
                (self.hosts.watchdog.timeout(), self.guard_at.is_none_or(|at| Instant::now() >= at));
            let observed =
                Observed { pods: &listed, record: record.as_ref(), renewed, now, watchdog, may_guard };
            let actions = plan(&observed);
            for action in &actions {
                self.apply(&listed, action).await?;
            }
            // What waited for the watchdog follows.
            if !actions.contains(&Action::Guard) {
                return Ok(());
            }
        }
    }
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        let problem = self.pass().await.err().map(|error| format!("{error:#}"));
        if let Some(problem) = problem.as_ref().filter(|problem| self.problem.as_ref() != Some(problem)) {
            tracing::error!("VMs that stop without a lease: {problem}");
        }
        self.problem = problem;
        match self.problem {
            Some(_) => Next::after(AGAIN),
            None => Next::WOKEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::{self, Publish};
    use crate::paths::Paths;
    use crate::reconcile::Controller as _;
    use sheaf_api::names::RESTART_ELSEWHERE_ANNOTATION;
    use sheaf_host::fakes::{FakeAlarm, FakeWatchdog};
    use std::sync::Arc;

    struct Rig {
        _root: tempfile::TempDir,
        ctx: Context,
        publish: Publish,
        pods: watch::Sender<Listed<Pod>>,
        alarm: Arc<FakeAlarm>,
        watchdog: Arc<FakeWatchdog>,
        controller: Controller,
    }

    impl Rig {
        fn new() -> Self {
            Self::with(FakeWatchdog::default(), "True")
        }

        fn with(watchdog: FakeWatchdog, said: &str) -> Self {
            let root = tempfile::tempdir().unwrap();
            let config =
                sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"n1\"\n");
            let (ctx, publish) = channels::open(Paths::under(root.path()), config.unwrap());
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "shop", "uid": "a",
                    "annotations": {RESTART_ELSEWHERE_ANNOTATION: "true"}},
                "spec": {"containers": []},
                // What the API server of the test cannot be told.
                "status": {"phase": "Running", "conditions": [{"type": STOPS_ALONE_CONDITION, "status": said}],
                    "containerStatuses": [{"name": "compute", "image": "", "imageID": "", "ready": true,
                        "restartCount": 0, "containerID": "vm://u", "state": {"running": {}}}]},
            }))
            .unwrap();
            let objects = [("a".to_owned(), Arc::new(pod))].into();
            let pods = watch::Sender::new(Listed { objects, synced: true });
            let alarm = Arc::new(FakeAlarm::default());
            let kube = Kube::new(ctx.cluster.clone());
            let watchdog = Arc::new(watchdog);
            let hosts = Hosts { alarm: alarm.clone(), watchdog: watchdog.clone() };
            let controller = Controller::new(ctx.clone(), pods.subscribe(), kube, hosts);
            Self { _root: root, ctx, publish, pods, alarm, watchdog, controller }
        }

        async fn round(&mut self) -> Vec<String> {
            self.controller.round(&Woken::start()).await;
            self.alarm.armed().into_iter().map(|(name, ..)| name).collect()
        }
    }

    #[tokio::test]
    async fn each_renewal_starts_the_other_timer_and_a_vm_that_is_gone_ends_both() {
        let mut rig = Rig::new();
        assert_eq!(rig.round().await, [""; 0]);
        rig.publish.lease.send_replace(Some(Instant::now()));
        assert_eq!(rig.round().await, ["sheaf-without-lease-0"]);
        let (_, delay, command) = rig.alarm.armed().remove(0);
        assert!(delay <= STOP_AFTER && delay > STOP_AFTER - Duration::from_secs(5), "{delay:?}");
        assert_eq!(command, PROGRAM);
        assert_eq!(rig.alarm.resets()["sheaf-without-lease-0"], Duration::from_secs(11));
        assert_eq!(rig.watchdog.asked(), [WATCHDOG]);
        let first = Record::load(&rig.ctx.paths).unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await; // the machine's clock shows hundredths of a second
        rig.publish.lease.send_replace(Some(Instant::now()));
        assert_eq!(rig.round().await, ["sheaf-without-lease-1"]);
        assert!(Record::load(&rig.ctx.paths).unwrap().unwrap().renewed > first.renewed);
        rig.pods.send_replace(Listed { objects: Default::default(), synced: true });
        assert_eq!(rig.round().await, [""; 0]);
        assert!(!super::super::is_armed(&rig.ctx.paths));
        assert_eq!(rig.watchdog.asked(), [WATCHDOG, USUAL_WATCHDOG]);
    }

    #[tokio::test]
    async fn on_a_machine_without_a_watchdog_no_vm_is_noted_and_the_reason_is_logged() {
        let mut rig = Rig::with(FakeWatchdog::missing(), "False");
        rig.publish.lease.send_replace(Some(Instant::now()));
        assert_eq!(rig.round().await, [""; 0]);
        assert_eq!(
            rig.controller.problem.as_deref(),
            Some(
                "this machine has no watchdog that resets it within 10 s: VMs of this node are not started elsewhere when it is lost; \
                 enable the watchdog in its firmware"
            )
        );
        rig.round().await;
        assert_eq!(rig.watchdog.asked().len(), 1, "not at each renewal");
        assert!(!super::super::is_armed(&rig.ctx.paths));
    }

    #[tokio::test]
    async fn a_renewal_whose_timer_cannot_be_started_does_not_count_and_the_former_timer_runs_on() {
        let mut rig = Rig::new();
        rig.publish.lease.send_replace(Some(Instant::now()));
        rig.round().await;
        let before = Record::load(&rig.ctx.paths).unwrap();
        rig.alarm.fail();
        tokio::time::sleep(Duration::from_millis(100)).await; // the machine's clock shows hundredths of a second
        rig.publish.lease.send_replace(Some(Instant::now()));
        assert_eq!(rig.round().await, ["sheaf-without-lease-0"]);
        assert_eq!(Record::load(&rig.ctx.paths).unwrap(), before);
    }
}
