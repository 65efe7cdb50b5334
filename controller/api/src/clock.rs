//! The clock of a VM and its timers.
//!
//! Why here: names and meanings are KubeVirt's. A timer that is not named is as Sheaf has it without `clock`: rtc catches up,
//! pit delays, hpet is absent. Route in: `spec.domain.clock` of a VMI. Route out: the agent's domain XML.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::words::words;

/// The guest's clock; at most one of utc and timezone. Default: UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Clock {
    /// UTC, or so many seconds beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utc: Option<Utc>,
    /// A time zone by its name in the IANA database, for example Europe/Berlin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"))]
    pub timezone: Option<String>,
    /// Timers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timers>,
}

/// UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Utc {
    /// Seconds that are added to UTC. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_seconds: Option<i32>,
}

/// Timers by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timers {
    /// High Precision Event Timer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hpet: Option<Hpet>,
    /// KVM's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kvm: Option<ClockSource>,
    /// Programmable Interval Timer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pit: Option<Pit>,
    /// Real Time Clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtc: Option<Rtc>,
    /// Hyper-V's reference clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hyperv: Option<ClockSource>,
}

/// A clock that the guest reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClockSource {
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
}

/// High Precision Event Timer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hpet {
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// What is done about ticks that came too late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick_policy: Option<HpetTickPolicy>,
}

/// Programmable Interval Timer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pit {
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// What is done about ticks that came too late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick_policy: Option<PitTickPolicy>,
}

/// Real Time Clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rtc {
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// What is done about ticks that came too late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick_policy: Option<RtcTickPolicy>,
    /// The clock that it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
}

words! {
    /// Ticks of the HPET that came too late.
    HpetTickPolicy {
        /// Later ones keep their distance.
        Delay = "delay",
        /// They come faster until none is missing.
        Catchup = "catchup",
        /// One stands for all.
        Merge = "merge",
        /// They are dropped.
        Discard = "discard",
    }
}

words! {
    /// Ticks of the PIT that came too late.
    PitTickPolicy {
        /// Later ones keep their distance.
        Delay = "delay",
        /// They come faster until none is missing.
        Catchup = "catchup",
        /// They are dropped.
        Discard = "discard",
    }
}

words! {
    /// Ticks of the RTC that came too late.
    RtcTickPolicy {
        /// Later ones keep their distance.
        Delay = "delay",
        /// They come faster until none is missing.
        Catchup = "catchup",
    }
}

words! {
    /// The clock that the RTC follows.
    Track {
        /// The guest's time, which stops with the guest.
        Guest = "guest",
        /// The node's time.
        Wall = "wall",
    }
}
