//! Taints of a Node, as kubectl writes them.
//!
//! Route in: `key=value:Effect` or `key:Effect`, checked by `syntax`. Route out: the Node object.

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use std::fmt;

/// One taint, written `"dedicated=db:NoSchedule"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(inline, with = "String")]
pub struct Taint {
    /// A label's key.
    pub key: String,
    /// A label's value, may be empty.
    pub value: String,
    /// What it does to pods that do not tolerate it.
    pub effect: Effect,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// No new VM is placed here.
    NoSchedule,
    /// No new VM is placed here while there is room elsewhere.
    PreferNoSchedule,
    /// No new VM is placed here, and running ones are removed.
    NoExecute,
}

impl Effect {
    /// As Kubernetes writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let equals = if self.value.is_empty() { "" } else { "=" };
        write!(f, "{}{equals}{}:{}", self.key, self.value, self.effect.name())
    }
}

impl Serialize for Taint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
