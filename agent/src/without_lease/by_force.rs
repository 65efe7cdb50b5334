//! The program that a timer starts when the lease was not renewed: stops the VMs that may start elsewhere, or resets the machine.
//!
//! Why a program beside the agent: the agent may be what hangs. Why a reset: a VM that cannot be stopped would run twice; with it end all
//! VMs of the machine. Route in: the [`Record`], libvirt. Route out: none of its VMs runs when it returns.

use super::{Record, note_stopped};
use crate::paths::Paths;
use crate::vms::domain_xml::TAG_POD_UID;
use futures::future::join_all;
use sheaf_api::restart_elsewhere::{RESET_AFTER, STOP_AFTER};
use sheaf_host::libvirt::{Domain, State, VmHost};
use std::sync::Arc;
use std::time::Duration;

/// Longest time for one question to libvirt.
const ASK: Duration = Duration::from_secs(2);
/// Between two looks at what still runs.
const LOOK: Duration = Duration::from_millis(250);
/// systemd's clock and procfs, which shows hundredths of a second, may differ by less. A program that was started this much too early
/// waits: no other timer would start it again.
const EARLY: Duration = Duration::from_secs(1);

/// What it needs of the machine.
pub struct Machine<'a> {
    /// Time since it was started.
    pub uptime: &'a (dyn Fn() -> anyhow::Result<Duration> + Sync),
    /// Resets it at once, without a shutdown.
    pub reset: &'a (dyn Fn() + Sync),
    /// Gets lines for people.
    pub say: &'a (dyn Fn(String) + Sync),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// There is nothing to stop, or the lease was renewed meanwhile.
    Nothing,
    /// Everything that was to stop has stopped.
    Stopped,
    /// The machine was reset.
    Reset,
}

fn is_live(record: &Record, domain: &Domain) -> bool {
    let is_ours = domain.tags.get(TAG_POD_UID).is_some_and(|uid| record.pods.contains_key(uid));
    is_ours && !matches!(domain.state, State::Stopped(_))
}

/// Stops the VMs of the record, if its time is over; `connect` is tried until libvirt is there.
pub async fn stop<V: VmHost, E>(
    paths: &Paths,
    connect: impl AsyncFn() -> Result<Arc<V>, E>,
    machine: &Machine<'_>,
) -> anyhow::Result<Ended> {
    let mut vms = None;
    loop {
        let record = match Record::load(paths) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Ended::Nothing),
            Err(error) => {
                (machine.say)(format!("{error:#}: which VMs to stop is not known, and the machine is reset"));
                (machine.reset)();
                return Ok(Ended::Reset);
            }
        };
        let age = (machine.uptime)()?.saturating_sub(Duration::from_millis(record.renewed));
        if age + EARLY < STOP_AFTER {
            // Another timer runs: it was started before this was noted.
            return Ok(Ended::Nothing);
        }
        if age < STOP_AFTER {
            tokio::time::sleep(LOOK).await; // until the time is over, or the lease is renewed
            continue;
        }
        if vms.is_none() {
            vms = tokio::time::timeout(ASK, connect()).await.ok().and_then(Result::ok);
        }
        let domains = match &vms {
            Some(vms) => tokio::time::timeout(ASK, vms.domains()).await.ok().and_then(Result::ok),
            None => None,
        };
        if let (Some(vms), Some(domains)) = (&vms, domains) {
            let live: Vec<&Domain> = domains.iter().filter(|domain| is_live(&record, domain)).collect();
            if live.is_empty() {
                (machine.say)("VMs that may start on another node have stopped".into());
                return Ok(Ended::Stopped);
            }
            let names: Vec<_> = live
                .iter()
                .filter_map(|domain| record.pods.get(domain.tags.get(TAG_POD_UID)?).map(String::as_str))
                .collect();
            (machine.say)(format!(
                "the lease of this node was not renewed for {} s; stopping {}",
                age.as_secs(),
                names.join(", ")
            ));
            let uids = live.iter().filter_map(|domain| domain.tags.get(TAG_POD_UID));
            if let Err(error) = note_stopped(paths, uids) {
                // Only the reason that the VM shows depends on it.
                (machine.say)(format!("what is stopped cannot be noted: {error:#}"));
            }
            join_all(live.iter().map(|domain| tokio::time::timeout(ASK, vms.destroy(&domain.uuid)))).await;
        }
        if age >= RESET_AFTER {
            (machine.say)(
                "VMs that may start on another node cannot be stopped: the machine is reset".into(),
            );
            (machine.reset)();
            return Ok(Ended::Reset);
        }
        tokio::time::sleep(LOOK).await; // until the next look at what runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::testing::domain;
    use sheaf_host::fakes::FakeVms;
    use sheaf_host::file::write_atomically;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Rig {
        root: tempfile::TempDir,
        /// Milliseconds since the machine was started; goes on by a second at each look.
        now: AtomicU64,
        resets: AtomicU64,
        said: Mutex<Vec<String>>,
    }

    impl Rig {
        /// The lease was renewed so long ago.
        fn new(age: Duration) -> Self {
            let root = tempfile::tempdir().unwrap();
            let record = Record {
                renewed: 100_000,
                timer: 0,
                pods: [("p1".to_owned(), "default/virt-launcher-web".to_owned())].into(),
            };
            let path = Record::path(&Paths::under(root.path()));
            write_atomically(&path, &serde_json::to_vec(&record).unwrap(), 0o600).unwrap();
            let now = AtomicU64::new(100_000 + u64::try_from(age.as_millis()).unwrap());
            Self { root, now, resets: AtomicU64::new(0), said: Mutex::default() }
        }

        async fn stop(&self, vms: &Arc<FakeVms>, answers: bool) -> Ended {
            let uptime = || Ok(Duration::from_millis(self.now.fetch_add(1000, Ordering::Relaxed)));
            let reset = || {
                self.resets.fetch_add(1, Ordering::Relaxed);
            };
            let say = |line| self.said.lock().unwrap().push(line);
            let machine = Machine { uptime: &uptime, reset: &reset, say: &say };
            let connect = async || if answers { Ok(vms.clone()) } else { Err(()) };
            stop(&Paths::under(self.root.path()), connect, &machine).await.unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn vms_of_the_record_are_stopped_and_others_run_on() {
        let rig = Rig::new(STOP_AFTER);
        let vms = Arc::new(FakeVms::default());
        vms.add(domain("p1"));
        vms.add(Domain { uuid: "other".into(), ..domain("p2") });
        assert_eq!(rig.stop(&vms, true).await, Ended::Stopped);
        let left: Vec<_> = vms.domains().await.unwrap().into_iter().map(|domain| domain.uuid).collect();
        assert_eq!((left, rig.resets.load(Ordering::Relaxed)), (vec!["other".to_owned()], 0));
        let noted = super::super::stopped(&Paths::under(rig.root.path()));
        assert_eq!(noted, ["p1".to_owned()].into(), "its report says why it ended");
        assert_eq!(
            rig.said.lock().unwrap()[0],
            "the lease of this node was not renewed for 16 s; stopping default/virt-launcher-web"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_renewed_meanwhile_leaves_vms_alone() {
        let rig = Rig::new(STOP_AFTER - Duration::from_secs(2));
        let vms = Arc::new(FakeVms::default());
        vms.add(domain("p1"));
        assert_eq!(rig.stop(&vms, true).await, Ended::Nothing);
        assert_eq!(vms.domains().await.unwrap().len(), 1);
        std::fs::remove_file(Record::path(&Paths::under(rig.root.path()))).unwrap();
        rig.now.store(900_000, Ordering::Relaxed);
        assert_eq!(rig.stop(&vms, true).await, Ended::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_ends_a_moment_too_early_is_waited_out_for_no_other_follows() {
        let rig = Rig::new(STOP_AFTER - Duration::from_millis(20));
        let vms = Arc::new(FakeVms::default());
        vms.add(domain("p1"));
        assert_eq!(rig.stop(&vms, true).await, Ended::Stopped);
        assert_eq!(vms.domains().await.unwrap().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_cannot_be_read_resets_the_machine_for_what_is_to_stop_is_not_known() {
        let rig = Rig::new(STOP_AFTER);
        std::fs::write(Record::path(&Paths::under(rig.root.path())), "{").unwrap();
        assert_eq!(rig.stop(&Arc::new(FakeVms::default()), true).await, Ended::Reset);
        assert_eq!(rig.resets.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vm_that_cannot_be_stopped_or_a_libvirt_that_is_silent_resets_the_machine_in_time() {
        for (fails, answers) in [("destroy", true), ("list", true), ("", false)] {
            let rig = Rig::new(STOP_AFTER);
            let vms = Arc::new(FakeVms::default());
            vms.add(domain("p1"));
            if !fails.is_empty() {
                vms.fail(fails, "it hangs");
            }
            assert_eq!(rig.stop(&vms, answers).await, Ended::Reset, "{fails}");
            assert_eq!(rig.resets.load(Ordering::Relaxed), 1);
            let at = Duration::from_millis(rig.now.load(Ordering::Relaxed) - 100_000);
            assert!(at <= RESET_AFTER + Duration::from_secs(2), "{at:?}");
        }
    }
}
