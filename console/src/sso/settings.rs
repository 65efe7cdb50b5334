//! Which identity provider the cluster has.
//!
//! Why here: an administrator changes it at any time, on any console; what was read counts for a moment, so that however many ask, the
//! API server is asked at most so often. Route in: ClusterConfig `cluster`, the Secret with the client's secret. Route out: both, or
//! nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use sheaf_api::ClusterConfig;
use sheaf_api::cluster_config;
use sheaf_api::identity_provider::{CLIENT_SECRET, CLIENT_SECRET_KEY, IdentityProvider};

use crate::{answer::Refusal, names::NAMESPACE, recent::Recent};

/// So long what was read counts.
const KEPT: Duration = Duration::from_secs(5);

/// The provider, and the client's secret if it has one.
pub type Settings = Option<(IdentityProvider, Option<String>)>;

/// Where settings are.
pub struct InCluster {
    configs: Api<ClusterConfig>,
    secrets: Api<Secret>,
    seen: Recent<Settings>,
}

impl InCluster {
    /// Those of `client`'s cluster.
    pub fn new(client: Client) -> Self {
        Self {
            configs: Api::all(client.clone()),
            secrets: Api::namespaced(client, NAMESPACE),
            seen: Recent::new(KEPT),
        }
    }

    /// They were changed.
    pub async fn forget(&self) {
        self.seen.forget().await;
    }

    /// As they were at most [`KEPT`] ago.
    pub async fn read(&self) -> Result<Settings, Refusal> {
        self.seen.get(self.read_now()).await
    }

    async fn read_now(&self) -> Result<Settings, Refusal> {
        let failed =
            |error: kube::Error| Refusal::unavailable(format!("reading the identity provider: {error}"));
        let config = self.configs.get_opt(cluster_config::NAME).await.map_err(failed)?;
        Ok(match config.and_then(|config| config.spec.identity_provider) {
            None => None,
            Some(provider) => {
                let secret = self.secrets.get_opt(CLIENT_SECRET).await.map_err(failed)?;
                let data = secret.and_then(|secret| secret.data?.remove(CLIENT_SECRET_KEY));
                let text = data.and_then(|data| String::from_utf8(data.0).ok());
                Some((provider, text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())))
            }
        })
    }
}
