//! `[console]`: the certificate by which the administration console answers browsers.
//!
//! Route in: `load`. Route out: the agent of a control-plane node (`agent/src/cluster/create/console.rs`).

use super::Secret;
use schemars::JsonSchema;
use serde::Serialize;

/// The administration console of a control-plane node. Nodes without a control plane ignore it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Console {
    /// Certificate for browsers in PEM, with its chain: the console's own first, then those that signed it. Without it the node makes
    /// one that no browser knows. One that has expired is not used.
    pub certificate: String,
    /// Its private key in PEM, without a passphrase.
    pub key: Secret,
}
