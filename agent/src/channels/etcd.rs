//! etcd of this node, as its Node object says.

/// How it is. Sentences hold no numbers that change: they are in the Node's conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdState {
    /// Condition EtcdHealthy.
    pub health: Verdict,
    /// Condition EtcdSnapshots.
    pub snapshots: Verdict,
    /// Condition EtcdQuorum.
    pub quorum: Verdict,
}

/// One condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// It holds; none while it is not known yet.
    pub holds: Option<bool>,
    /// One CamelCase word.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

impl Verdict {
    /// What is known for the reason `reason`.
    pub fn new(holds: Option<bool>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds, reason, message: message.into() }
    }
}
