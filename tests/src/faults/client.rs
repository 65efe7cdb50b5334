//! An administrator's client that changes over as agents' clients do.
//!
//! Why here: what is promised is promised to clients with the agent's list of servers, and only an administrator may create VMs. The list
//! and the way to a server that is ready are the agent's own ([`Servers`]). Route in: a control-plane node's `super-admin.conf`. Route
//! out: a client.

use anyhow::{Context as _, Result};
use k8s_openapi::ByteString;
use kube::config::Kubeconfig;
use serde_json::Value;
use sheaf_agent::api_server::Joined;
use sheaf_agent::cluster::kubeconfig::{Credentials, authority};
use sheaf_agent::cluster::servers::{NAME, Servers};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;

/// Longest wait for the list: it is read every 2 s until it is there.
const LIST_TIME: Duration = Duration::from_secs(60);

/// The client; dropped, its connections end.
pub struct Client {
    /// What asks.
    pub kube: kube::Client,
    servers: Servers,
    _joined: watch::Sender<Option<Joined>>,
    _folder: TempDir,
}

impl Client {
    /// One that knows `server` at first, and all others as soon as it has read the list.
    pub async fn open(kubeconfig: &Path, server: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ca = authority(kubeconfig).context("super-admin.conf has no CA")?;
        let (certificate, key) = identity(&Kubeconfig::read_from(kubeconfig)?)?;
        let joined = watch::Sender::new(None);
        let servers = Servers::start(joined.subscribe()).await?;
        servers.lead_to(server, None, &ca, folder.path().join("api-servers.json"));
        let kube = servers.client(&ca, Credentials::Certificate(&certificate, &key)).await?;
        joined.send_replace(Some(Joined {
            client: kube.clone(),
            node: NAME.into(),
            node_uid: String::new(),
        }));
        servers.listed(LIST_TIME).await;
        Ok(Self { kube, servers, _joined: joined, _folder: folder })
    }

    /// The API server in use, `https://HOST:6443`.
    pub fn server(&self) -> String {
        self.servers.current()
    }

    /// All API servers that it knows.
    pub fn servers(&self) -> Vec<String> {
        self.servers.urls()
    }
}

/// Certificate and key of the user of a kubeconfig, PEM.
fn identity(kubeconfig: &Kubeconfig) -> Result<(String, String)> {
    let user = serde_json::to_value(kubeconfig.auth_infos.first().context("it has a user")?)?;
    let pem = |name: &str| -> Result<String> {
        let data: Value = user["user"][name].clone();
        let bytes: ByteString = serde_json::from_value(data).with_context(|| format!("{name} is missing"))?;
        Ok(String::from_utf8(bytes.0)?)
    };
    Ok((pem("client-certificate-data")?, pem("client-key-data")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_and_key_of_a_kubeconfig_are_read() {
        let text = sheaf_agent::cluster::kubeconfig::render(
            "https://192.0.2.1:6443",
            "ca",
            "u",
            "certificate",
            "key",
        );
        let read = Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(identity(&read).unwrap(), ("certificate".to_owned(), "key".to_owned()));
    }
}
