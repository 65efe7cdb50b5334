//! The API server of the cluster that this node joined: its client, and how long a request may take.
//!
//! Why here: a request that is never answered must not hold up a controller; TCP alone gives up after a quarter of an
//! hour. Route in: [`Joined`] on its channel. Route out: requests as `system:node:<name>`, with the certificate of the
//! moment, each ended after [`REQUEST_TIMEOUT`]. Watches use [`Joined::client`] itself: they wait for changes.

use anyhow::Context as _;
use kube::api::Api;
use kube::{Resource, ResourceExt as _};
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;

/// Field manager of the agent's server-side applies, and reporting controller of its Events.
pub const MANAGER: &str = "sheaf-agent";
/// Longest time for a request that is no watch, its answer's body included: half of what the API server itself
/// gives a request (`--request-timeout`, 60 s).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// This node's access to its cluster.
#[derive(Clone)]
pub struct Joined {
    /// Speaks as `system:node:<name>`.
    pub client: kube::Client,
    /// Name of the Node object.
    pub node: String,
    /// UID of the Node object.
    pub node_uid: String,
}

/// Why a request did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// This node has not joined a cluster, or not yet.
    #[error("this node is in no cluster yet")]
    NotJoined,
    /// Nothing came back in time.
    #[error("the API server did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The API server refused, or could not be reached.
    #[error(transparent)]
    Kube(#[from] kube::Error),
}

impl RequestError {
    /// The HTTP status that the API server answered with.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

/// Requests to the API server, for controllers.
#[derive(Clone)]
pub struct Kube {
    joined: watch::Receiver<Option<Joined>>,
    timeout: Duration,
}

impl Kube {
    /// Follows `joined`: a rotated certificate brings a new client.
    pub fn new(joined: watch::Receiver<Option<Joined>>) -> Self {
        Self { joined, timeout: REQUEST_TIMEOUT }
    }

    /// The same with another timeout.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The cluster as it is now.
    pub fn joined(&self) -> Result<Joined, RequestError> {
        self.joined.borrow().clone().ok_or(RequestError::NotJoined)
    }

    /// Makes `request`, and gives up after the timeout.
    pub async fn request<T, F: Future<Output = kube::Result<T>>>(
        &self,
        request: impl FnOnce(Joined) -> F,
    ) -> Result<T, RequestError> {
        match tokio::time::timeout(self.timeout, request(self.joined()?)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(RequestError::Timeout(self.timeout)),
        }
    }

    /// Makes `request` about `object`, of a cluster-wide kind; an error names it and what was to be done: `verb`.
    pub async fn about<K, T, F>(
        &self,
        verb: &str,
        object: &K,
        request: impl FnOnce(Api<K>, String) -> F,
    ) -> anyhow::Result<T>
    where
        K: Resource<DynamicType = ()>,
        F: Future<Output = kube::Result<T>>,
    {
        let name = object.name_any();
        self.request(|joined| request(Api::all(joined.client), name.clone()))
            .await
            .with_context(|| format!("{} {name}: cannot {verb}", K::kind(&())))
    }
}

/// An object that is gone, or replaced by one of the same name with another UID: there is nothing left to write.
pub fn unless_gone<K>(answer: kube::Result<K>) -> kube::Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        answer => answer.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Node;

    #[tokio::test]
    async fn a_request_that_is_never_answered_ends_at_its_timeout() {
        // It takes connections and says nothing: an API server behind a network that drops packets.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let held = tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((connection, _)) = silent.accept().await {
                connections.push(connection);
            }
        });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        let client = kube::Client::try_from(config).unwrap();
        let joined = Joined { client, node: "n1".into(), node_uid: String::new() };
        let (_keep, joined) = watch::channel(Some(joined));
        let kube = Kube::new(joined).with_timeout(Duration::from_millis(50));
        let answer =
            kube.request(|joined| async move { Api::<Node>::all(joined.client).get("n1").await }).await;
        assert!(matches!(answer, Err(RequestError::Timeout(_))), "{answer:?}");
        held.abort();
    }

    #[tokio::test]
    async fn a_node_in_no_cluster_makes_no_request() {
        let (_keep, joined) = watch::channel(None);
        let answer = Kube::new(joined).request(|_| async { kube::Result::Ok(()) }).await;
        assert_eq!(answer.unwrap_err().to_string(), "this node is in no cluster yet");
    }
}
