//! The identity provider of a cluster: where people log in to the console, and whose tokens the API server takes.
//!
//! Why here: agents of control-plane nodes configure the API server by it, and consoles log people in by it; both must read the same.
//! Source: OpenID Connect Core 1.0, Discovery 1.0; kube-apiserver's AuthenticationConfiguration. Route in: `spec.identityProvider`
//! of ClusterConfig. Route out: names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Before the names of users and groups that it vouches for: `oidc:alice@example.org`.
pub const PREFIX: &str = "oidc:";
/// The Secret in the console's namespace that has the client's secret, and its key.
pub const CLIENT_SECRET: &str = "identity-provider";
/// Key of [`CLIENT_SECRET`].
pub const CLIENT_SECRET_KEY: &str = "client-secret";
/// Where the provider sends people back to, at the console.
pub const CALLBACK: &str = "/console/sso/callback";

/// An OpenID Connect provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityProvider {
    /// Its URL, as it stands in its tokens: `https://login.example.org`. `/.well-known/openid-configuration` below it says all else.
    #[schemars(length(max = 512), regex(pattern = r"^https://[^\s?#@]+$"))]
    pub issuer: String,
    /// What the provider calls this cluster; tokens must be for it.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 256))]
    pub client_id: String,
    /// The claim by which people are named, `email` or `sub`: what is typed when a user of the console is created. Default: `email`, which
    /// must be verified where the provider says whether it is.
    #[serde(default = "username_claim")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9_.-]+$"))]
    pub username_claim: String,
    /// The claim that has the groups of a person, for kubectl: the API server calls them `oidc:GROUP`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z0-9_.-]+$"))]
    pub groups_claim: Option<String>,
    /// Scopes that are asked for besides `openid`. Default: `profile` and `email`.
    #[serde(default = "scopes")]
    #[schemars(length(max = 16), inner(length(max = 64), regex(pattern = r"^[!#-\[\]-~]+$")))]
    pub scopes: Vec<String>,
    /// CA of its certificate, in PEM. Default: those that browsers know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub certificate_authority: Option<String>,
}

fn username_claim() -> String {
    "email".into()
}

fn scopes() -> Vec<String> {
    vec!["profile".into(), "email".into()]
}
