//! Stops the node's VMs in order: the one way to do so, before a restart for an update and at every shutdown.
//!
//! Why a loop of its own: it also runs without the agent, in the program of `sheaf-guests.service`. Route in: domains, again
//! and again. Route out: power buttons pressed, QEMU of those that took too long ended, lines for people; no VM is left when
//! it returns.

pub mod plan;

use anyhow::{Context as _, bail};
use futures::future::join_all;
use plan::{Act, Begun, Vm, plan};
use sheaf_host::libvirt::{VmError, VmHost};
use std::time::Duration;
use tokio::time::Instant;

/// No VM holds up a shutdown longer: a guest that installs its updates first takes minutes, and batteries do not last
/// longer. `TimeoutStopSec` of sheaf-guests.service is more than this.
pub const LIMIT: Duration = Duration::from_secs(600);
/// After it: libvirt may need so long to end what was to be ended then.
pub const SPARE: Duration = Duration::from_secs(30);
/// libvirt without an answer: longer than a restart of libvirtd takes. A machine whose libvirtd is broken must be able to
/// restart.
const SILENT: Duration = Duration::from_secs(60);
/// Between two looks at the VMs.
const LOOK: Duration = Duration::from_secs(1);
/// A VM whose start was under way when the last one ended shows within this.
const QUIET: Duration = Duration::from_secs(2);

/// Stops all VMs of the node within `limit`; `say` gets a line whenever what is waited for changes.
pub async fn all<V: VmHost>(vms: &V, limit: Duration, say: &(dyn Fn(String) + Sync)) -> anyhow::Result<()> {
    let start = Instant::now();
    let (mut begun, mut said, mut empty_since) = (None::<Begun>, String::new(), None::<Instant>);
    let mut answered = start;
    let mut tell = |line: String| {
        if line != said {
            say(line.clone());
            said = line;
        }
    };
    loop {
        let is_late = start.elapsed() >= limit.saturating_add(SPARE);
        match vms.domains().await {
            Ok(domains) => {
                answered = Instant::now();
                let ours: Vec<Vm> = domains.iter().filter_map(Vm::of).collect();
                if ours.is_empty() {
                    // None ever ran, or the last one has ended and no other came.
                    let since = *empty_since.get_or_insert_with(Instant::now);
                    if begun.is_none() || since.elapsed() >= QUIET {
                        return Ok(());
                    }
                } else {
                    empty_since = None;
                    if is_late {
                        let names: Vec<_> = ours.iter().map(|vm| vm.name.as_str()).collect();
                        bail!(
                            "not ended within {} s: {}; see `journalctl -u libvirtd`",
                            limit.as_secs(),
                            names.join(", ")
                        );
                    }
                    let planned = plan(&ours, begun.as_ref(), start.elapsed(), limit);
                    if let Some(waiting) = &planned.waiting {
                        tell(waiting.to_string());
                    }
                    for act in &planned.acts {
                        if let Act::Destroy(vm) = act {
                            tell(format!("{} did not power off in its time and is ended", vm.name));
                        }
                    }
                    join_all(planned.acts.iter().map(|act| apply(vms, act))).await;
                    begun = planned.begun;
                }
            }
            Err(error) if answered.elapsed() >= SILENT => {
                return Err(error)
                    .context("the VMs of this node are not known, and are not asked to power off");
            }
            // libvirtd may be starting again.
            Err(error) => tell(format!("{:#}; it is asked again", anyhow::Error::from(error))),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Does it. What failed is done again at the next look: nothing of other VMs waits for it.
async fn apply<V: VmHost>(vms: &V, act: &Act) {
    let done: Result<(), VmError> = match act {
        Act::Press(vm) => vms.press_power_button(&vm.uuid).await,
        Act::Destroy(vm) => vms.destroy(&vm.uuid).await,
    };
    if let Err(error) = done {
        tracing::warn!("{:#}", anyhow::Error::from(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::testing::domain;
    use sheaf_host::fakes::FakeVms;
    use std::sync::Mutex;

    async fn stopped(vms: &FakeVms) -> (anyhow::Result<()>, Vec<String>, Duration) {
        let (lines, start) = (Mutex::new(Vec::new()), Instant::now());
        let ended = all(vms, LIMIT, &|line| lines.lock().unwrap().push(line)).await;
        (ended, lines.into_inner().unwrap(), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn guests_that_obey_power_off_and_those_of_others_stay() {
        let vms = FakeVms::default().obeying_the_power_button();
        vms.add(domain("p1"));
        let mut foreign = domain("p2");
        foreign.tags.clear();
        foreign.uuid = "somebody-elses".into();
        vms.add(foreign.clone());
        let (ended, lines, took) = stopped(&vms).await;
        ended.unwrap();
        assert_eq!(vms.running(), [foreign]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("waiting at most ") && lines[0].contains(" s for VMs to power off: "),
            "{lines:?}"
        );
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_vms_nothing_is_waited_for() {
        let (ended, lines, took) = stopped(&FakeVms::default()).await;
        ended.unwrap();
        assert_eq!((lines, took), (Vec::new(), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_ignores_its_power_button_is_ended_when_its_time_is_over() {
        let vms = FakeVms::default();
        let mut deaf = domain("p1");
        deaf.tags.insert(crate::vms::domain_xml::TAG_GRACE.into(), "25".into());
        let uuid = deaf.uuid.clone();
        vms.add(deaf);
        let (ended, lines, took) = stopped(&vms).await;
        ended.unwrap();
        let press = format!("shutdown {uuid}");
        assert_eq!(vms.asked(), [press.clone(), press.clone(), press, format!("destroy {uuid}")]);
        assert!(lines[1].ends_with("did not power off in its time and is ended"), "{lines:?}");
        assert!(took >= Duration::from_secs(25) && took < Duration::from_secs(30), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_libvirt_that_answers_again_is_asked_again_and_one_that_does_not_is_named() {
        let vms = FakeVms::default().obeying_the_power_button();
        vms.add(domain("p1"));
        vms.fail("list", "the daemon is starting");
        let heal = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            vms.heal();
        };
        let ((ended, lines, _), ()) = tokio::join!(stopped(&vms), heal);
        ended.unwrap();
        assert_eq!(lines[0], "the daemon is starting; it is asked again");
        assert_eq!(vms.running(), []);
        vms.fail("list", "no such daemon");
        let (ended, _, took) = stopped(&vms).await;
        let message = "the VMs of this node are not known, and are not asked to power off: no such daemon";
        assert_eq!(format!("{:#}", ended.unwrap_err()), message);
        assert!(took >= SILENT && took < 2 * SILENT, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_vm_that_libvirt_cannot_end_is_named_and_holds_up_no_shutdown_for_good() {
        let vms = FakeVms::default();
        vms.add(domain("p1"));
        vms.fail("destroy", "device or resource busy");
        let (ended, _, took) = stopped(&vms).await;
        let error = ended.unwrap_err().to_string();
        assert!(
            error.starts_with("not ended within 600 s: ") && error.ends_with("see `journalctl -u libvirtd`"),
            "{error}"
        );
        assert!(took < LIMIT + 2 * SPARE, "{took:?}");
    }
}
