//! Which of the node's VMs are to be stopped now, and how. Pure.
//!
//! Why in this order: VMs of the lowest priority first, all of one priority together, as a kubelet stops Pods by priority
//! (KEP-2712). What is left of the time is shared by the priorities that are left, so that a guest which ignores its power
//! button takes no time from VMs that matter more. Route in: the domains, what was begun, the time since the beginning. Route
//! out: a [`Plan`].

use crate::vms::domain_xml::{TAG_GRACE, TAG_NAMESPACE_NAME, TAG_PRIORITY, TAG_VMI};
use sheaf_host::libvirt::Domain;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Time that a VM without one of its own has: its domain was started by an older agent.
const GRACE: Duration = Duration::from_secs(30);
/// Guests miss a press of the power button while they boot.
const PRESS_AGAIN: Duration = Duration::from_secs(10);

/// A VM that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// UUID of its domain.
    pub uuid: String,
    /// `namespace/name`.
    pub name: String,
    /// The Pod's: VMs of lower priority are stopped first.
    pub priority: i32,
    /// From the power button to the end of QEMU.
    pub grace: Duration,
}

impl Vm {
    /// The VM of a domain; none if the domain is not the node's.
    pub fn of(domain: &Domain) -> Option<Self> {
        if domain.tags.is_empty() {
            return None;
        }
        let tag = |name: &str| domain.tags.get(name);
        let name = match (tag(TAG_NAMESPACE_NAME), tag(TAG_VMI)) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
            _ => domain.name.clone(),
        };
        Some(Self {
            uuid: domain.uuid.clone(),
            name,
            priority: tag(TAG_PRIORITY).and_then(|text| text.parse().ok()).unwrap_or_default(),
            grace: tag(TAG_GRACE).and_then(|text| text.parse().ok()).map_or(GRACE, Duration::from_secs),
        })
    }
}

/// The VMs of one priority, which are being stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    priority: i32,
    /// When, since the beginning.
    since: Duration,
    /// None of them is given more.
    share: Duration,
    /// Last press of their power buttons.
    pressed: Option<Duration>,
}

/// One thing to do with one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Press its power button.
    Press(Vm),
    /// End its QEMU.
    Destroy(Vm),
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In any order.
    pub acts: Vec<Act>,
    /// What is begun after them; given to the next plan.
    pub begun: Option<Begun>,
    /// What is waited for; nothing when no VM is left.
    pub waiting: Option<Waiting>,
}

/// What is waited for. It stays the same until a VM has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Names of the VMs that are asked to power off.
    pub now: Vec<String>,
    /// How long that takes at most, from the press of their power buttons.
    pub most: Duration,
    /// How many VMs of higher priority follow.
    pub then: usize,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting at most {} s for VMs to power off: {}", self.most.as_secs(), self.now.join(", "))?;
        match self.then {
            0 => Ok(()),
            then => write!(f, "; {then} of higher priority follow"),
        }
    }
}

/// Decides, `now` after the beginning; at `limit` all that still runs is ended.
pub fn plan(vms: &[Vm], begun: Option<&Begun>, now: Duration, limit: Duration) -> Plan {
    let priorities: BTreeSet<i32> = vms.iter().map(|vm| vm.priority).collect();
    let Some(&lowest) = priorities.first() else { return Plan::default() };
    let begun = begun.filter(|begun| begun.priority == lowest).cloned().unwrap_or_else(|| {
        let groups = u32::try_from(priorities.len()).unwrap_or(u32::MAX);
        Begun { priority: lowest, since: now, share: limit.saturating_sub(now) / groups, pressed: None }
    });
    let presses = begun.pressed.is_none_or(|pressed| now >= pressed.saturating_add(PRESS_AGAIN));
    let act = |vm: &Vm| {
        if now >= limit {
            return Some(Act::Destroy(vm.clone()));
        }
        match vm.priority == lowest {
            true if now >= begun.since.saturating_add(vm.grace.min(begun.share)) => {
                Some(Act::Destroy(vm.clone()))
            }
            true if presses => Some(Act::Press(vm.clone())),
            _ => None,
        }
    };
    let acts = vms.iter().filter_map(act).collect();
    let (of_now, later): (Vec<_>, Vec<_>) = vms.iter().partition(|vm| vm.priority == lowest);
    let most = of_now.iter().map(|vm| vm.grace.min(begun.share)).max().unwrap_or_default();
    let waiting = Waiting { now: of_now.iter().map(|vm| vm.name.clone()).collect(), most, then: later.len() };
    let pressed = if presses { Some(now) } else { begun.pressed };
    Plan { acts, begun: Some(Begun { pressed, ..begun }), waiting: Some(waiting) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn vm(name: &str, priority: i32, grace: u64) -> Vm {
        Vm { uuid: name.into(), name: format!("default/{name}"), priority, grace: seconds(grace) }
    }

    fn words(plan: &Plan) -> Vec<String> {
        let word = |act: &Act| match act {
            Act::Press(vm) => format!("press {}", vm.uuid),
            Act::Destroy(vm) => format!("destroy {}", vm.uuid),
        };
        plan.acts.iter().map(word).collect()
    }

    const LIMIT: Duration = Duration::from_secs(600);

    #[test]
    fn vms_of_one_priority_are_asked_together_again_after_ten_seconds_and_ended_when_their_time_is_over() {
        let vms = [vm("a", 0, 30), vm("b", 0, 60)];
        let first = plan(&vms, None, seconds(0), LIMIT);
        assert_eq!(words(&first), ["press a", "press b"]);
        assert_eq!(
            first.waiting.as_ref().unwrap().to_string(),
            "waiting at most 60 s for VMs to power off: default/a, default/b"
        );
        let soon = plan(&vms, first.begun.as_ref(), seconds(1), LIMIT);
        assert_eq!(words(&soon), [""; 0]);
        let again = plan(&vms, soon.begun.as_ref(), seconds(10), LIMIT);
        assert_eq!(words(&again), ["press a", "press b"]);
        let over = plan(&vms, again.begun.as_ref(), seconds(30), LIMIT);
        assert_eq!(words(&over), ["destroy a", "press b"]);
        assert_eq!(plan(&[], over.begun.as_ref(), seconds(31), LIMIT), Plan::default());
    }

    #[test]
    fn a_vm_of_higher_priority_is_asked_when_those_of_lower_priority_have_ended() {
        let vms = [vm("batch", -5, 30), vm("web", 0, 30), vm("db", 1000, 30)];
        let first = plan(&vms, None, seconds(0), LIMIT);
        assert_eq!(words(&first), ["press batch"]);
        assert_eq!(
            first.waiting.unwrap().to_string(),
            "waiting at most 30 s for VMs to power off: default/batch; 2 of higher priority follow"
        );
        let next = plan(&vms[1..], first.begun.as_ref(), seconds(3), LIMIT);
        assert_eq!(words(&next), ["press web"]);
    }

    #[test]
    fn a_guest_that_ignores_its_power_button_takes_no_time_from_one_of_higher_priority() {
        let vms = [vm("deaf", 0, 86_400), vm("db", 1000, 300)];
        let first = plan(&vms, None, seconds(0), LIMIT);
        assert_eq!(words(&plan(&vms, first.begun.as_ref(), seconds(299), LIMIT)), ["press deaf"]);
        assert_eq!(words(&plan(&vms, first.begun.as_ref(), seconds(300), LIMIT)), ["destroy deaf"]);
        let db = plan(&vms[1..], first.begun.as_ref(), seconds(300), LIMIT);
        assert_eq!(words(&db), ["press db"]);
        assert_eq!(words(&plan(&vms[1..], db.begun.as_ref(), seconds(599), LIMIT)), ["press db"]);
    }

    #[test]
    fn a_domain_of_somebody_else_is_left_alone_and_one_of_an_older_agent_has_half_a_minute() {
        let mut domain = crate::vms::testing::domain("p1");
        domain.tags.remove(TAG_GRACE);
        let known = Vm::of(&domain).unwrap();
        assert_eq!((known.grace, known.priority), (GRACE, 0));
        domain.tags.insert(TAG_GRACE.into(), "18446744073709551615".into());
        domain.tags.insert(TAG_PRIORITY.into(), "-7".into());
        let known = Vm::of(&domain).unwrap();
        assert_eq!((known.grace, known.priority), (seconds(u64::MAX), -7));
        domain.tags.clear();
        assert_eq!(Vm::of(&domain), None);
    }

    proptest! {
        /// Guests that never react, of any priorities and times: each is asked before it is ended, unless there is no time
        /// for that, and all have ended at the limit.
        #[test]
        fn every_vm_is_asked_first_and_none_outlives_the_limit(
            all in proptest::collection::vec((any::<i32>(), any::<u64>()), 1..8),
            limit in 0..2_000_u64,
        ) {
            let mut vms: Vec<Vm> =
                all.iter().enumerate().map(|(index, (priority, grace))| vm(&index.to_string(), *priority, *grace)).collect();
            let (mut begun, mut asked) = (None, BTreeSet::new());
            for now in 0..=limit {
                let planned = plan(&vms, begun.as_ref(), seconds(now), seconds(limit));
                for act in &planned.acts {
                    match act {
                        Act::Press(vm) => drop(asked.insert(vm.uuid.clone())),
                        Act::Destroy(gone) => {
                            let time = seconds(limit) / u32::try_from(all.len()).unwrap();
                            prop_assert!(asked.contains(&gone.uuid) || gone.grace.is_zero() || time < seconds(10));
                            vms.retain(|vm| vm.uuid != gone.uuid);
                        }
                    }
                }
                begun = planned.begun;
            }
            prop_assert_eq!(vms, []);
        }
    }
}
