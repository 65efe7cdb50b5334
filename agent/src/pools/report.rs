//! What is reported of a pool: its status, Events, the line of `sheaf-agent pools`. Pure.
//!
//! Why here: what LVM reports becomes words once. Route in: plan and report of a pool, the failure of its last step.
//! Route out: StoragePool's status, Events, the status section, [`Pool`] for other controllers.

use super::plan::{Observed, Plan};
use crate::channels::Pool;
use crate::human;
use crate::reconcile::events::Event;
use crate::status::{MemberSection, PoolSection};
use k8s_openapi::jiff::Timestamp;
use sheaf_api::conditions::{find, set};
use sheaf_api::names::volume_group;
use sheaf_api::storage::pool::{
    DEVICES_HEALTHY, EVACUATING, FULL, MemberState, PoolDevice, PoolPhase, READY, SPACE_LOW,
    StoragePoolStatus,
};
use sheaf_host::lvm::Volume;

/// How full data may be before SpaceLow is True, in percent.
const DATA_LOW_AT: f64 = 80.0;
/// The same of metadata: it is grown before that, if it can be.
const METADATA_LOW_AT: f64 = 80.0;

/// All that is known of a pool at one moment.
pub struct Known<'a> {
    /// Its name.
    pub pool: &'a str,
    /// What LVM has.
    pub observed: &'a Observed,
    /// How its members stand.
    pub plan: &'a Plan,
    /// Why the last step failed.
    pub failure: Option<&'a str>,
}

impl Known<'_> {
    fn thin(&self) -> Option<&Volume> {
        self.observed.thin()
    }

    fn data_percent(&self) -> Option<f64> {
        self.thin()?.data_percent
    }

    /// Out of space for data: writers are refused.
    fn is_full(&self) -> bool {
        let says = self.thin().and_then(|thin| thin.health.as_deref()) == Some("out_of_data");
        says || self.data_percent().is_some_and(|full| full >= 100.0)
    }

    fn lost(&self) -> Option<String> {
        let lost = |member: &&super::plan::Standing| {
            member.state == MemberState::Missing && member.free < member.size
        };
        let member = self.plan.members.iter().find(lost)?;
        Some(format!("{}: {}", member.name, member.message.as_deref().unwrap_or_default()))
    }

    /// The pool in one word, why in one word, and why in a sentence.
    fn verdict(&self) -> (PoolPhase, &'static str, String) {
        let health =
            self.thin().and_then(|thin| thin.health.as_deref()).filter(|word| *word != "out_of_data");
        let failure = self.failure.map(str::to_owned);
        let is_missing = |member: &&super::plan::Standing| member.state == MemberState::Missing;
        if let Some(member) = self.plan.members.iter().find(is_missing).filter(|_| self.observed.is_lost) {
            let text = format!(
                "{}: neither it nor any other device of the pool is attached; attach it again, or restore the volumes \
                 from a backup",
                member.name
            );
            return (PoolPhase::Failed, "DeviceMissing", text);
        }
        if self.observed.group.is_none() {
            let problems: Vec<String> =
                failure.into_iter().chain(self.plan.problems.iter().cloned()).collect();
            let waits = self
                .plan
                .members
                .iter()
                .filter_map(|member| Some(format!("{}: {}", member.name, member.message.as_ref()?)));
            let all: Vec<String> = problems.into_iter().chain(waits).collect();
            let text = if all.is_empty() { "it has no device yet".into() } else { all.join("; ") };
            return (PoolPhase::Pending, "NoDevice", text);
        }
        if let Some(lost) = self.lost() {
            return (
                PoolPhase::Failed,
                "DeviceMissing",
                format!("{lost}; attach it again, or restore the volumes from a backup"),
            );
        }
        match (self.thin(), health) {
            (None, _) => {
                let why = failure.or_else(|| self.plan.problems.first().cloned());
                return (
                    PoolPhase::Pending,
                    "BeingMade",
                    why.unwrap_or_else(|| "its thin pool is being created".into()),
                );
            }
            (Some(_), Some(health)) => {
                return (
                    PoolPhase::Failed,
                    "ThinPool",
                    format!("LVM reports for the thin pool: {health}; see docs/storage.md"),
                );
            }
            (Some(thin), None) if !thin.is_active => {
                return (
                    PoolPhase::Failed,
                    "NotActive",
                    failure.unwrap_or_else(|| "it is being activated".into()),
                );
            }
            _ => {}
        }
        if self.is_full() {
            return (
                PoolPhase::Full,
                "OutOfSpace",
                "it is full: VMs that write to it are paused and are resumed when it has space; add a device or delete volumes".into(),
            );
        }
        let failing = self
            .plan
            .members
            .iter()
            .any(|member| member.state == MemberState::Failing && member.free < member.size);
        if failure.is_some() || failing || self.low().is_some() || !self.plan.problems.is_empty() {
            let why = failure
                .or_else(|| self.plan.problems.first().cloned())
                .or_else(|| self.low())
                .unwrap_or_else(|| "a device fails".into());
            return (PoolPhase::Degraded, "NeedsAttention", why);
        }
        (PoolPhase::Ready, "Ready", String::new())
    }

    fn low(&self) -> Option<String> {
        let thin = self.thin()?;
        let data = thin.data_percent.filter(|full| *full >= DATA_LOW_AT);
        let metadata = thin.metadata_percent.filter(|full| *full >= METADATA_LOW_AT);
        let words = [
            data.map(|full| format!("{full:.0} % of its data are written")),
            metadata.map(|full| format!("{full:.0} % of its metadata are in use")),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        (!words.is_empty()).then(|| format!("{}; add a device or delete volumes", words.join(", ")))
    }

    fn free(&self) -> u64 {
        let Some(thin) = self.thin() else { return 0 };
        let left = 100.0 - thin.data_percent.unwrap_or(0.0);
        (thin.size as f64 * left.clamp(0.0, 100.0) / 100.0) as u64
    }

    /// For other controllers.
    pub fn pool(&self) -> Pool {
        let (phase, ..) = self.verdict();
        Pool {
            name: self.pool.to_owned(),
            group: volume_group(self.pool),
            is_usable: matches!(phase, PoolPhase::Ready | PoolPhase::Degraded),
            is_full: phase == PoolPhase::Full,
            total: self.thin().map_or(0, |thin| thin.size),
            free: self.free(),
        }
    }

    /// The status that follows on `before`.
    pub fn status(
        &self,
        before: &StoragePoolStatus,
        generation: Option<i64>,
        now: Timestamp,
    ) -> StoragePoolStatus {
        let (phase, reason, message) = self.verdict();
        let thin = self.thin();
        let signed = |bytes: u64| i64::try_from(bytes).ok();
        let mut status = StoragePoolStatus {
            phase: Some(phase),
            total_bytes: thin.and_then(|thin| signed(thin.size)),
            total: thin.map(|thin| human::binary(thin.size)),
            free_bytes: thin.and_then(|_| signed(self.free())),
            provisioned_bytes: thin.and_then(|_| {
                signed(self.observed.in_pool().fold(0, |sum: u64, volume| sum.saturating_add(volume.size)))
            }),
            data_percent: self.data_percent(),
            metadata_percent: thin.and_then(|thin| thin.metadata_percent),
            devices: self.plan.members.iter().map(device).collect(),
            observed_generation: generation,
            conditions: before.conditions.clone(),
        };
        let is_ready = matches!(phase, PoolPhase::Ready | PoolPhase::Degraded);
        let conditions = &mut status.conditions;
        set(conditions, READY, if is_ready { "True" } else { "False" }, reason, &message, now);
        let (healthy, reason, message) = self.devices();
        set(conditions, DEVICES_HEALTHY, healthy, reason, &message, now);
        match self.low() {
            Some(low) => set(conditions, SPACE_LOW, "True", "NearlyFull", &low, now),
            None => set(conditions, SPACE_LOW, "False", "Enough", "", now),
        }
        let (full, reason) = if self.is_full() { ("True", "WritersWait") } else { ("False", "Enough") };
        set(conditions, FULL, full, reason, "", now);
        match self.observed.moving() {
            Some(volume) => {
                let from =
                    volume.moves_from.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
                set(
                    conditions,
                    EVACUATING,
                    "True",
                    "Moving",
                    &format!("data is being moved off {from}"),
                    now,
                );
            }
            None => set(conditions, EVACUATING, "False", "Idle", "", now),
        }
        status
    }

    fn devices(&self) -> (&'static str, &'static str, String) {
        let of = |state: MemberState| {
            let all = self.plan.members.iter().filter(|member| member.state == state);
            let words: Vec<String> = all
                .filter_map(|member| Some(format!("{}: {}", member.name, member.message.as_ref()?)))
                .collect();
            words.join("; ")
        };
        for (state, reason) in [
            (MemberState::Missing, "DeviceMissing"),
            (MemberState::Failing, "DeviceFailing"),
            (MemberState::Waiting, "DeviceNotTaken"),
        ] {
            let words = of(state);
            if !words.is_empty() {
                return ("False", reason, words);
            }
        }
        ("True", "AllHealthy", String::new())
    }

    /// The line of `sheaf-agent pools`.
    pub fn section(&self, last: Option<&str>) -> PoolSection {
        let (phase, _, message) = self.verdict();
        let mut problems: Vec<String> =
            Some(message).filter(|message| !message.is_empty()).into_iter().collect();
        problems.extend(
            self.plan
                .problems
                .iter()
                .filter(|problem| !problems.contains(problem))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let member = |member: &super::plan::Standing| MemberSection {
            name: member.name.clone(),
            state: format!("{:?}", member.state),
            device: member.device.as_ref().map(|path| path.display().to_string()),
            bytes: member.size,
            progress: member.progress,
            note: member.message.clone(),
        };
        PoolSection {
            name: self.pool.to_owned(),
            phase: format!("{phase:?}"),
            total: self.thin().map_or(0, |thin| thin.size),
            data_percent: self.data_percent(),
            metadata_percent: self.thin().and_then(|thin| thin.metadata_percent),
            volumes: self.observed.in_pool().count(),
            members: self.plan.members.iter().map(member).collect(),
            last: last.map(str::to_owned),
            problems,
        }
    }
}

fn device(member: &super::plan::Standing) -> PoolDevice {
    PoolDevice {
        name: member.name.clone(),
        state: member.state,
        size_bytes: i64::try_from(member.size).ok().filter(|bytes| *bytes > 0),
        free_bytes: i64::try_from(member.free).ok().filter(|_| member.size > 0),
        progress_percent: member.progress,
        message: member.message.clone(),
    }
}

/// What people should know of the change.
pub fn events(before: &StoragePoolStatus, after: &StoragePoolStatus) -> Vec<Event> {
    let changed = |type_: &str| {
        let (was, is) = (find(&before.conditions, type_), find(&after.conditions, type_)?);
        let is_new = was.is_none_or(|was| was.status != is.status || was.reason != is.reason);
        is_new.then(|| (was.is_some(), is.status == "True", is.message.clone().unwrap_or_default()))
    };
    let mut events = Vec::new();
    match changed(READY) {
        Some((_, true, message)) if message.is_empty() => {
            events.push(Event::normal(
                "PoolReady",
                format!("{} for volumes", after.total.as_deref().unwrap_or("space")),
            ));
        }
        Some((_, true, message)) => events.push(Event::warning("PoolDegraded", message)),
        Some((_, false, message)) => events.push(Event::warning("PoolNotReady", message)),
        None => {}
    }
    if let Some((_, false, message)) = changed(DEVICES_HEALTHY) {
        events.push(Event::warning("PoolDevice", message));
    }
    if let Some((_, true, message)) = changed(SPACE_LOW) {
        events.push(Event::warning("SpaceLow", message));
    }
    match changed(FULL) {
        Some((_, true, _)) => {
            events.push(Event::warning("PoolFull", "VMs that write to it are paused until it has space"))
        }
        Some((true, false, _)) => {
            events.push(Event::normal("SpaceAgain", "it has space again; paused VMs are resumed"))
        }
        _ => {}
    }
    match changed(EVACUATING) {
        Some((_, true, message)) => events.push(Event::normal("Evacuating", message)),
        Some((true, false, _)) => events.push(Event::normal("Evacuated", "all data was moved")),
        _ => {}
    }
    if before.total_bytes.is_some_and(|was| after.total_bytes.is_some_and(|is| is > was)) {
        let (was, is) =
            (before.total.as_deref().unwrap_or_default(), after.total.as_deref().unwrap_or_default());
        events.push(Event::normal("PoolGrown", format!("from {was} to {is}")));
    }
    events
}
