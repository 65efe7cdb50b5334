//! Which VMs stop without a lease, and when; and that the watchdog is fast enough. Pure.
//!
//! Route in: [`Observed`]. Route out: [`Action`]s, in order; one that fails ends the plan.

use super::Record;
use crate::listed::Listed;
use crate::vms::report;
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::restart_elsewhere::{STOP_AFTER, WATCHDOG, is_marked, stops_alone};
use std::collections::BTreeMap;
use std::time::Duration;

/// procfs shows hundredths of a second: the same renewal may look later by as much. The next one is seconds later.
const ROUNDING: Duration = Duration::from_millis(20);

/// What there is.
pub struct Observed<'a> {
    /// Pods of this node.
    pub pods: &'a Listed<Pod>,
    /// What is noted.
    pub record: Option<&'a Record>,
    /// When the last renewal of this agent's life that succeeded was begun, since the machine was started.
    pub renewed: Option<Duration>,
    /// Time since the machine was started.
    pub now: Duration,
    /// Within what time the machine is reset when systemd hangs.
    pub watchdog: Option<Duration>,
    /// A try to set the watchdog did not fail a short time ago.
    pub may_guard: bool,
}

impl Observed<'_> {
    fn is_guarded(&self) -> bool {
        self.watchdog.is_some_and(|timeout| timeout <= WATCHDOG)
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the other timer, then note this, then end the former timer.
    Arm {
        /// After this the VMs are stopped.
        delay: Duration,
        /// What is noted.
        record: Record,
    },
    /// No VM is to be stopped any more; the watchdog is as on any node.
    Disarm,
    /// Have the watchdog reset the machine soon enough. VMs are noted and reported once it does.
    Guard,
    /// Say of the Pod with this UID that its VM stops without a lease.
    Acknowledge(String),
}

/// What to do.
pub fn plan(observed: &Observed<'_>) -> Vec<Action> {
    let Observed { pods, record, renewed, now, .. } = observed;
    let is_guarded = observed.is_guarded();
    let runs = |pod: &Pod| report::was_started(pod) && !report::says_ended(pod);
    let title = |pod: &Pod| {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        format!("{}/{}", name(&pod.metadata.namespace), name(&pod.metadata.name))
    };
    let here = || pods.objects.iter().filter(|(_, pod)| is_marked(pod) && runs(pod));
    // One that was reported may be started elsewhere, whatever became of the watchdog.
    let noted = here().filter(|(_, pod)| is_guarded || stops_alone(pod));
    let mut wanted: BTreeMap<_, _> = noted.map(|(uid, pod)| (uid.clone(), title(pod))).collect();
    let guard = (!is_guarded && observed.may_guard && here().next().is_some()).then_some(Action::Guard);
    if !pods.synced {
        // After a restart of the agent, while the API server is away: what is not listed is not gone.
        wanted.extend(record.iter().flat_map(|record| record.pods.clone()));
    }
    if wanted.is_empty() {
        return record.map(|_| Action::Disarm).into_iter().chain(guard).collect();
    }
    let noted = record.map_or(Duration::ZERO, |record| Duration::from_millis(record.renewed));
    let latest = renewed.filter(|renewed| *renewed > noted.saturating_add(ROUNDING)).unwrap_or(noted);
    let mut actions = Vec::new();
    let is_noted = record.is_some_and(|record| record.pods == wanted) && latest == noted;
    // Without any renewal there is no time to count from: the VM is not reported, and so not started elsewhere.
    if latest.is_zero() {
        return guard.into_iter().collect();
    }
    if !is_noted {
        let record = Record {
            renewed: u64::try_from(latest.as_millis()).unwrap_or(u64::MAX),
            timer: record.map_or(0, |record| 1 - record.timer.min(1)),
            pods: wanted.clone(),
        };
        let delay = latest.saturating_add(STOP_AFTER).saturating_sub(*now);
        actions.push(Action::Arm { delay, record });
    }
    let unsaid = wanted.keys().filter(|uid| pods.objects.get(*uid).is_some_and(|pod| !stops_alone(pod)));
    actions.extend(unsaid.map(|uid| Action::Acknowledge(uid.clone())));
    actions.extend(guard);
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use sheaf_api::names::{RESTART_ELSEWHERE_ANNOTATION, STOPS_ALONE_CONDITION};
    use std::sync::Arc;

    fn pod(uid: &str, marked: bool, said: bool, state: &str) -> Pod {
        let annotations = if marked { json!({RESTART_ELSEWHERE_ANNOTATION: "true"}) } else { json!({}) };
        let condition = json!({"type": STOPS_ALONE_CONDITION, "status": if said { "True" } else { "False" }});
        serde_json::from_value(json!({
            "metadata": {"name": uid, "namespace": "shop", "uid": uid, "annotations": annotations},
            "spec": {"containers": []},
            "status": {"phase": "Running", "conditions": [condition], "containerStatuses": [{"name": "compute",
                "image": "", "imageID": "", "ready": true, "restartCount": 0, "containerID": "vm://u",
                "state": {state: {"exitCode": 0}}}]},
        }))
        .unwrap()
    }

    fn listed(pods: Vec<Pod>, synced: bool) -> Listed<Pod> {
        let objects =
            pods.into_iter().map(|pod| (pod.metadata.uid.clone().unwrap(), Arc::new(pod))).collect();
        Listed { objects, synced }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn record(renewed: u64, timer: usize, pods: &[&str]) -> Record {
        let pods = pods.iter().map(|uid| ((*uid).to_owned(), format!("shop/{uid}"))).collect();
        Record { renewed: renewed * 1000, timer, pods }
    }

    fn planned(pods: &Listed<Pod>, record: Option<&Record>, renewed: Option<u64>, now: u64) -> Vec<Action> {
        let (renewed, now, watchdog) = (renewed.map(seconds), seconds(now), Some(WATCHDOG));
        plan(&Observed { pods, record, renewed, now, watchdog, may_guard: true })
    }

    #[test]
    fn a_vm_is_noted_and_reported_only_on_a_machine_whose_watchdog_is_fast_enough() {
        let pods = listed(vec![pod("a", true, false, "running")], true);
        let planned = |pods: &Listed<Pod>, watchdog: Option<u64>, may_guard: bool| {
            let watchdog = watchdog.map(seconds);
            plan(&Observed {
                pods,
                record: None,
                renewed: Some(seconds(97)),
                now: seconds(100),
                watchdog,
                may_guard,
            })
        };
        for slow in [None, Some(60)] {
            assert_eq!(planned(&pods, slow, true), [Action::Guard], "{slow:?}");
            assert_eq!(planned(&pods, slow, false), [], "{slow:?}: it was tried a moment ago");
        }
        assert_eq!(planned(&pods, Some(10), true).len(), 2);
        let other = listed(vec![pod("b", false, false, "running")], true);
        assert_eq!(planned(&other, Some(60), true), [], "for other VMs it stays as it is");
        // Reported by an earlier life of the agent: its timer must go on.
        let said = listed(vec![pod("a", true, true, "running")], true);
        let actions = planned(&said, None, true);
        assert!(matches!(&actions[..], [Action::Arm { .. }, Action::Guard]), "{actions:?}");
    }

    #[test]
    fn a_marked_vm_that_runs_is_noted_with_a_timer_from_the_last_renewal_and_only_then_reported() {
        let pods = listed(vec![pod("a", true, false, "running"), pod("b", false, false, "running")], true);
        assert_eq!(planned(&pods, None, None, 100), [], "there is no renewal to count from");
        let noted = record(97, 0, &["a"]);
        let arm = Action::Arm { delay: STOP_AFTER - seconds(3), record: noted.clone() };
        assert_eq!(planned(&pods, None, Some(97), 100), [arm, Action::Acknowledge("a".into())]);
        let said = listed(vec![pod("a", true, true, "running")], true);
        assert_eq!(planned(&said, Some(&noted), Some(97), 101), []);
        let again = Action::Arm { delay: STOP_AFTER, record: record(102, 1, &["a"]) };
        assert_eq!(planned(&said, Some(&noted), Some(102), 102), [again], "the other timer");
    }

    #[test]
    fn what_has_ended_is_stopped_no_more_and_without_any_vm_there_is_no_timer() {
        let ended = listed(vec![pod("a", true, true, "terminated")], true);
        assert_eq!(planned(&ended, Some(&record(97, 0, &["a"])), Some(97), 100), [Action::Disarm]);
        assert_eq!(planned(&ended, None, Some(97), 100), []);
    }

    #[test]
    fn after_a_restart_of_the_agent_what_is_not_listed_yet_is_not_forgotten() {
        let noted = record(97, 1, &["a"]);
        assert_eq!(planned(&listed(vec![], false), Some(&noted), None, 110), [], "the timer runs on");
        assert_eq!(planned(&listed(vec![], true), Some(&noted), None, 110), [Action::Disarm]);
        // A renewal that was begun before the one that is noted counts for nothing, nor does the same one.
        let same = Some(Duration::from_millis(97_010));
        let pods = listed(vec![pod("a", true, true, "running")], true);
        let (now, watchdog) = (seconds(98), Some(WATCHDOG));
        let observed =
            Observed { pods: &pods, record: Some(&noted), renewed: same, now, watchdog, may_guard: true };
        assert_eq!(plan(&observed), []);
        assert_eq!(planned(&listed(vec![], false), Some(&noted), Some(90), 110), []);
    }

    #[test]
    fn a_timer_whose_time_is_over_starts_at_once() {
        let pods = listed(vec![pod("a", true, true, "running"), pod("c", true, false, "running")], true);
        let actions = planned(&pods, Some(&record(97, 0, &["a"])), Some(97), 500);
        assert!(matches!(&actions[0], Action::Arm { delay, .. } if delay.is_zero()), "{actions:?}");
    }
}
