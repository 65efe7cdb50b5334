//! `[[install.webhook]]`: servers that are called during an installation.
//!
//! Route in: `load`. Route out: the installer sends a JSON document for each event asked for.

use super::Secret;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// One server that is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Webhook {
    /// Where: `https://…`, or `http://…` without a secret.
    #[schemars(example = &"https://inventory.example.org/sheaf")]
    pub url: String,
    /// On which events; default: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub on: Vec<Event>,
    /// How.
    #[schemars(default)]
    pub method: Method,
    /// Further headers; their values are secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    pub headers: BTreeMap<String, Secret>,
    /// User and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// A bearer token, instead of `basic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<Secret>,
    /// The certificate authority of that server in PEM, when `network.ca-certificates` does not hold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl Webhook {
    /// Whether it is called for `event`.
    pub fn wants(&self, event: Event) -> bool {
        self.on.is_empty() || self.on.contains(&event)
    }
}

/// User and password (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Basic {
    /// User, without a colon.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// Events that a webhook is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Event {
    /// The plan is complete and the disk is about to be written.
    Started,
    /// The disk is complete and verified.
    Succeeded,
    /// Nothing was installed; the reason is in the document.
    Failed,
}

/// How a webhook is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
#[allow(missing_docs)] // the names say it
pub enum Method {
    #[default]
    Post,
    Put,
    Get,
}
