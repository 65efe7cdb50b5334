//! How a pool gets fewer VMs, and what a changed template does to the VMs that it has.
//!
//! Why here: beside the pool, whose fields they are. Route in: `scaleInStrategy` and `updateStrategy` of a manifest. Route out:
//! [`ScaleInStrategy::order`] and [`UpdateStrategy`]'s questions, which the controller's plan asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which VMs are deleted when there are more than replicas; exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleInStrategy {
    /// None: users delete them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged: Option<Unmanaged>,
    /// None: those that are deleted by something else are not replaced while there are more than replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opportunistic: Option<OpportunisticScaleIn>,
    /// The pool deletes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proactive: Option<ProactiveScaleIn>,
}

/// It has no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unmanaged {}

/// VMs are deleted by something else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpportunisticScaleIn {
    /// Disabled, the only one: the disks of a VM are deleted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_preservation: Option<StatePreservation>,
}

/// The pool deletes VMs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProactiveScaleIn {
    /// Which of them first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection_policy: Option<SelectionPolicy>,
    /// Disabled, the only one: the disks of a VM are deleted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_preservation: Option<StatePreservation>,
}

/// What becomes of the disks of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StatePreservation {
    /// They are deleted with it.
    Disabled,
}

/// What a changed template does to VMs; exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpdateStrategy {
    /// Nothing: it is for VMs that are created later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged: Option<Unmanaged>,
    /// The VMs are changed; each takes it up at its next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opportunistic: Option<Unmanaged>,
    /// The VMs are changed, and their instances are restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proactive: Option<ProactiveUpdate>,
}

/// Instances are restarted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProactiveUpdate {
    /// Which of them first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection_policy: Option<SelectionPolicy>,
}

/// Which VMs come first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectionPolicy {
    /// Their order. Default: DescendingOrder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort_policy: Option<SortPolicy>,
}

/// An order of VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SortPolicy {
    /// The lowest number first.
    AscendingOrder,
    /// The highest number first.
    #[default]
    DescendingOrder,
    /// The one that was created last first.
    Newest,
    /// The one that was created first first.
    Oldest,
    /// By their UIDs, which are random.
    Random,
}

impl ScaleInStrategy {
    /// In which order VMs are deleted; none if the pool deletes none.
    pub fn order(strategy: Option<&Self>) -> Option<SortPolicy> {
        match strategy {
            Some(Self { unmanaged: Some(_), .. } | Self { opportunistic: Some(_), .. }) => None,
            Some(Self { proactive: Some(proactive), .. }) => Some(sort(proactive.selection_policy.as_ref())),
            _ => Some(SortPolicy::default()),
        }
    }
}

impl UpdateStrategy {
    /// Whether VMs are changed.
    pub fn changes(strategy: Option<&Self>) -> bool {
        strategy.is_none_or(|strategy| strategy.unmanaged.is_none())
    }

    /// In which order instances are restarted; none if the pool restarts none.
    pub fn restarts(strategy: Option<&Self>) -> Option<SortPolicy> {
        match strategy {
            Some(Self { unmanaged: Some(_), .. } | Self { opportunistic: Some(_), .. }) => None,
            Some(Self { proactive: Some(proactive), .. }) => Some(sort(proactive.selection_policy.as_ref())),
            _ => Some(SortPolicy::default()),
        }
    }
}

fn sort(policy: Option<&SelectionPolicy>) -> SortPolicy {
    policy.and_then(|policy| policy.sort_policy).unwrap_or_default()
}
