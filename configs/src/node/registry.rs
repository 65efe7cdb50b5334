//! `[[registry]]`: how the node reaches registries of container disks.
//!
//! Route in: `load`. Route out: the agent's registry client.

use schemars::JsonSchema;
use serde::Serialize;

/// How one registry is reached. A registry that is not listed is reached by https at its own name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Registry {
    /// Host of the images, with its port if it has one, as their references begin; `docker.io` for names without a host.
    #[schemars(example = &"quay.io")]
    pub name: String,
    /// Servers that are asked before the registry itself, in this order. A path stands before the repository:
    /// `https://harbor.example.org/quay` for a proxy project. `http://…` is asked without encryption.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub mirrors: Vec<String>,
    /// Certificate authorities of the registry and its mirrors, in PEM, when `network.ca-certificates` does not hold them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}
