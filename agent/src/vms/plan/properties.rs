//! Properties of the plan, tried on random numbers and random orders of events.
//!
//! Why here: numbers in Pods are anybody's, and a second start of a VM whose first instance lives destroys its disks. The
//! node in here starts and ends domains as libvirt would, loses the agent's memory, its writes to the API server and
//! records at random; every start is checked against what really runs.

use super::super::testing::{VMI_UID, domain, facts, pod};
use super::*;
use crate::vms::facts::Facts;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use std::sync::Arc;

/// Any number, and more often those at which something happens.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(i64::MIN),
        Just(i64::MAX),
        Just(0),
        Just(-1),
        Just(1_800_000_000),
        1_799_999_000_i64..1_800_001_000,
        any::<i64>()
    ]
}

fn deleted(mut pod: Pod, at: i64, grace: Option<i64>) -> Pod {
    let at = at.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(at).unwrap()));
    pod.metadata.deletion_grace_period_seconds = grace;
    pod
}

proptest! {
    #[test]
    fn a_vm_is_destroyed_neither_before_its_end_began_nor_more_than_a_day_after(
        since in number(), end in number(), grace in number(),
    ) {
        let deadline = stop_deadline(since, end, grace);
        prop_assert!(deadline >= since);
        prop_assert!(deadline <= since.saturating_add(LONGEST_GRACE));
        prop_assert!(grace > 0 || deadline == since);
    }

    #[test]
    fn no_number_in_a_pod_a_tag_or_the_clock_makes_the_plan_panic(
        now in number(), end in number(), grace in proptest::option::of(number()), tag in number(),
        since in number(), pressed in number(), resumed in number(), missing in number(), held in number(),
        is_paused in any::<bool>(), is_listed in any::<bool>(), is_gone in any::<bool>(), is_terminal in any::<bool>(),
    ) {
        let mut running = domain("p1");
        running.tags.insert(TAG_GRACE.into(), tag.to_string());
        if is_paused {
            running.state = libvirt::State::PausedByDisk;
        }
        let mut pod = deleted(pod("p1"), end, grace);
        if is_terminal {
            pod.status.as_mut().unwrap().phase = Some("Failed".into());
        }
        let mut memory = Memory::default();
        memory.stopping.insert("p1".into(), Stopping { since, pressed });
        memory.resumed.insert("p1".into(), resumed);
        memory.missing.insert("p2".into(), missing);
        memory.held.insert("p3".into(), held);
        if is_gone {
            memory.gone.insert("p1".into());
        }
        let mut pods = BTreeMap::new();
        if is_listed {
            pods.insert("p1".to_owned(), Arc::new(pod));
        }
        let record = |uid: &str| (uid.to_owned(), super::super::testing::started(uid, "boot-1"));
        let records = [record("p1"), record("p2"), record("p3")].into();
        let (domains, facts) = ([running], facts());
        let plan = plan(&Observed { pods: &pods, domains: &domains, records: &records, facts: &facts, memory: &memory, now });
        let acts_on = |uid: &str| plan.actions.iter().filter(|(acted, _)| acted == uid).count();
        prop_assert!(acts_on("p1") <= 1);
        let is_start = |(_, action): &(String, Action)| matches!(action, Action::Start(_));
        prop_assert!(!plan.actions.iter().any(is_start));
    }
}

/// Something that happens to the node.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// A Pod of the VM is bound, by its number.
    Bind(u8),
    /// It is deleted with so much grace; forced when there is none.
    Delete(u8, i64),
    /// Somebody other than the node sets its phase, as the garbage collector of Pods does.
    Fail(u8),
    /// The API server forgets it, finalizer or not: etcd restored from a backup.
    Forget(u8),
    /// The agent makes a round; whether its writes reach the API server.
    Round(bool),
    /// An action is begun, and the agent is killed before it can note what came of it.
    Killed,
    /// The agent's memory is lost.
    Restart,
    /// The guest powers off, QEMU dies, or somebody destroys it; whether the agent sees the event.
    End(bool),
    /// `vm.json` is lost.
    LoseRecord,
    /// Time passes.
    Pass(u16),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        1 => (0..3_u8).prop_map(Happens::Bind),
        1 => (0..3_u8, number()).prop_map(|(pod, grace)| Happens::Delete(pod, grace)),
        1 => (0..3_u8).prop_map(Happens::Fail),
        1 => (0..3_u8).prop_map(Happens::Forget),
        8 => prop::bool::weighted(0.8).prop_map(Happens::Round),
        1 => Just(Happens::Killed),
        1 => Just(Happens::Restart),
        1 => any::<bool>().prop_map(Happens::End),
        1 => Just(Happens::LoseRecord),
        2 => (0..60_u16).prop_map(Happens::Pass),
    ]
}

/// A node with one VM, of which one Pod after another is bound here.
struct Node {
    pods: BTreeMap<String, Arc<Pod>>,
    domains: Vec<Domain>,
    records: BTreeMap<String, Record>,
    facts: Facts,
    memory: Memory,
    now: i64,
}

impl Node {
    fn round(&mut self, is_written: bool, is_noted: bool) -> Result<(), TestCaseError> {
        for uid in self.records.keys().chain(self.pods.keys()) {
            let alive = self.domains.iter().any(|domain| domain.tags.get(TAG_POD_UID) == Some(uid));
            if alive {
                self.memory.missing.remove(uid);
            } else {
                self.memory.missing.entry(uid.clone()).or_insert(self.now);
            }
        }
        let planned = plan(&Observed {
            pods: &self.pods,
            domains: &self.domains,
            records: &self.records,
            facts: &self.facts,
            memory: &self.memory,
            now: self.now,
        });
        for (uid, action) in planned.actions {
            self.act(&uid, action, is_written, is_noted)?;
        }
        Ok(())
    }

    fn act(
        &mut self,
        uid: &str,
        action: Action,
        is_written: bool,
        is_noted: bool,
    ) -> Result<(), TestCaseError> {
        match action {
            Action::Start(guest) => {
                let alive: Vec<_> = self.domains.iter().map(|domain| &domain.tags[TAG_POD_UID]).collect();
                prop_assert!(alive.is_empty(), "{uid} is started while {alive:?} runs");
                self.domains.push(domain(uid));
                if is_noted {
                    let started =
                        Started { boot_id: "boot-1".into(), uuid: VMI_UID.into(), at: rfc3339(self.now) };
                    let record = Record { started: Some(started), ..Record::made(&guest.id) };
                    self.records.insert(uid.to_owned(), record);
                }
            }
            Action::Adopt(record) => {
                self.records.insert(uid.to_owned(), record);
            }
            Action::Report(report) if is_written => {
                if let Some(pod) = self.pods.get(uid) {
                    let ends = matches!(report.state, State::Terminated { .. });
                    let alive = self.domains.iter().any(|domain| domain.tags[TAG_POD_UID] == uid);
                    prop_assert!(!ends || !alive, "{uid} is reported as ended while its domain runs");
                    let before = report::terminal_phase(pod);
                    prop_assert!(
                        before.is_none_or(|before| before == report.phase),
                        "a terminal phase is left"
                    );
                    let mut pod = Pod::clone(pod);
                    let patch = report.patch(&pod, None, &rfc3339(self.now));
                    pod.status = serde_json::from_value(patch["status"].clone()).unwrap();
                    self.pods.insert(uid.to_owned(), Arc::new(pod));
                }
            }
            Action::PressPowerButton(_) if is_noted => {
                let stopping = self.memory.stopping.entry(uid.to_owned());
                stopping.or_insert(Stopping { since: self.now, pressed: self.now }).pressed = self.now;
            }
            Action::Destroy(uuid) => {
                self.domains.retain(|domain| domain.uuid != uuid);
                self.memory.stops.insert(uid.to_owned(), Stop::Destroyed);
            }
            Action::ConfirmGone(id) if is_written && !self.pods.contains_key(&id.pod_uid) => {
                self.memory.gone.insert(uid.to_owned());
            }
            Action::DeletePod if is_written => {
                self.pods.remove(uid);
            }
            Action::RemoveFolder(_) => {
                let alive = self.domains.iter().any(|domain| domain.tags[TAG_POD_UID] == uid);
                prop_assert!(!alive, "the folder of {uid} is removed while its domain runs");
                self.records.remove(uid);
            }
            _ => {}
        }
        Ok(())
    }

    fn happens(&mut self, what: Happens) -> Result<(), TestCaseError> {
        let name = |number: u8| format!("p{number}");
        match what {
            Happens::Bind(number) => {
                self.pods.entry(name(number)).or_insert_with(|| Arc::new(pod(&name(number))));
            }
            Happens::Delete(number, grace) => {
                if let Some(pod) = self.pods.get_mut(&name(number)) {
                    let at = self.now.saturating_add(grace);
                    *pod = Arc::new(deleted(Pod::clone(pod), at, Some(grace)));
                }
            }
            Happens::Fail(number) => {
                if let Some(pod) = self.pods.get_mut(&name(number)).filter(|pod| !report::is_terminal(pod)) {
                    let mut failed = Pod::clone(pod);
                    failed.status.get_or_insert_default().phase = Some("Failed".into());
                    *pod = Arc::new(failed);
                }
            }
            Happens::Forget(number) => {
                self.pods.remove(&name(number));
            }
            Happens::Round(is_written) => self.round(is_written, true)?,
            Happens::Killed => {
                self.round(false, false)?;
                self.memory = Memory::default();
            }
            Happens::Restart => self.memory = Memory::default(),
            Happens::End(is_seen) => {
                if let Some(domain) = self.domains.pop().filter(|_| is_seen) {
                    self.memory.stops.insert(domain.tags[TAG_POD_UID].clone(), Stop::Shutdown);
                }
            }
            Happens::LoseRecord => self.records.clear(),
            Happens::Pass(seconds) => self.now = self.now.saturating_add(i64::from(seconds)),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_in_whatever_order_no_vm_is_started_while_an_earlier_run_of_it_may_live(
        events in prop::collection::vec(happens(), 1..80),
    ) {
        let mut node = Node {
            pods: BTreeMap::new(),
            domains: Vec::new(),
            records: BTreeMap::new(),
            facts: facts(),
            memory: Memory::default(),
            now: 1_800_000_000,
        };
        for event in events {
            node.happens(event)?;
        }
        // Left alone, every Pod that was deleted ends.
        for uid in node.pods.keys().cloned().collect::<Vec<_>>() {
            let pod = node.pods[&uid].clone();
            node.pods.insert(uid, Arc::new(deleted(Pod::clone(&pod), node.now, Some(0))));
        }
        for _ in 0..40 {
            node.round(true, true)?;
            node.now = node.now.saturating_add(10);
        }
        prop_assert!(node.pods.is_empty() && node.domains.is_empty() && node.records.is_empty());
    }
}
