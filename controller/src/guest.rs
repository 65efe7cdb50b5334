//! Freezes the file systems of a guest through its node's agent, and thaws them; has its node copy what its firmware and TPM keep.
//!
//! Why here: a snapshot of a VM that runs is as good as what its guest has written out. The node thaws by itself after the
//! time that a freeze is asked for, whatever becomes of this program. Route in: an instance. Route out: requests to the
//! agent's own API ([`crate::aggregated`] has the way there).

use std::sync::Arc;

use http::{Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use sheaf_api::VirtualMachineInstance;

use crate::aggregated::node::{NoTarget, Nodes, Target};

/// Most of an answer that is read, in bytes.
const MOST_ANSWER: usize = 4096;

/// Why a guest was not frozen, or not thawed.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// This program has no certificate for agents.
    #[error(
        "agents cannot be asked: the controller's certificates are missing; restart sheaf-agent, which makes them"
    )]
    NoWay,
    /// The instance has no node.
    #[error("the instance has no node")]
    NoNode,
    /// The Node does not exist.
    #[error("node {0} does not exist")]
    NodeGone(String),
    /// The API server did not answer.
    #[error("reading node {0}")]
    Api(String, #[source] kube::Error),
    /// The Node does not say where its agent listens.
    #[error(transparent)]
    NoTarget(#[from] NoTarget),
    /// The agent did not answer.
    #[error("{0:#}")]
    NoAnswer(anyhow::Error),
    /// The agent refused, or the guest did.
    #[error("{node}: {message}")]
    Refused {
        /// Name of the node.
        node: String,
        /// What it answered.
        message: String,
    },
}

/// What firmware and TPM of a VM keep, and the snapshot that has a copy of it.
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    /// Namespace of both.
    pub namespace: &'a str,
    /// UUID of the VM's firmware.
    pub uuid: &'a str,
    /// UID of the snapshot.
    pub snapshot: &'a str,
}

impl State<'_> {
    fn path(&self, act: &str) -> String {
        format!("/states/{}/{}/{act}?uuid={}", self.namespace, self.snapshot, self.uuid)
    }
}

/// The way to guests.
#[derive(Clone)]
pub struct Guests {
    client: Client,
    nodes: Option<Arc<Nodes>>,
}

impl Guests {
    /// Through these agents, if there is a way to them.
    pub fn new(client: Client, nodes: Option<Arc<Nodes>>) -> Self {
        Self { client, nodes }
    }

    /// Freezes the file systems of the instance's guest, for at most so many seconds.
    pub async fn freeze(&self, vmi: &VirtualMachineInstance, seconds: u64) -> Result<(), GuestError> {
        self.ask(vmi, &format!("freeze?seconds={seconds}")).await
    }

    /// Thaws them. A guest that is not frozen has nothing to do.
    pub async fn thaw(&self, vmi: &VirtualMachineInstance) -> Result<(), GuestError> {
        self.ask(vmi, "unfreeze").await
    }

    /// Copies what firmware and TPM of a VM keep on `node`, for the snapshot with the UID `snapshot`.
    pub async fn save_state(&self, node: &str, state: &State<'_>) -> Result<(), GuestError> {
        self.put(node, &state.path("save")).await
    }

    /// Makes it what that snapshot has. The VM does not run.
    pub async fn load_state(&self, node: &str, state: &State<'_>) -> Result<(), GuestError> {
        self.put(node, &state.path("load")).await
    }

    /// Removes the copy of a snapshot. A node that does not exist any more has none.
    pub async fn drop_state(&self, node: &str, namespace: &str, snapshot: &str) -> Result<(), GuestError> {
        match self.put(node, &format!("/states/{namespace}/{snapshot}/drop")).await {
            Err(GuestError::NodeGone(_)) => Ok(()),
            answered => answered,
        }
    }

    async fn ask(&self, vmi: &VirtualMachineInstance, act: &str) -> Result<(), GuestError> {
        let name =
            vmi.status.as_ref().and_then(|status| status.node_name.clone()).ok_or(GuestError::NoNode)?;
        // By its UID, so that a request never reaches a later instance of the same name.
        let path = format!("/vms/{}/{act}", vmi.metadata.uid.as_deref().unwrap_or_default());
        self.put(&name, &path).await
    }

    async fn put(&self, name: &str, path: &str) -> Result<(), GuestError> {
        let nodes = self.nodes.as_ref().ok_or(GuestError::NoWay)?;
        let name = name.to_owned();
        let found = Api::<Node>::all(self.client.clone()).get_opt(&name).await;
        let node = found.map_err(|source| GuestError::Api(name.clone(), source))?;
        let target = Target::of(&node.ok_or_else(|| GuestError::NodeGone(name.clone()))?)?;
        let answer = nodes.request(&target, Method::PUT, path, None).await.map_err(GuestError::NoAnswer)?;
        let status: StatusCode = answer.status();
        let body = Limited::new(answer.into_body(), MOST_ANSWER).collect().await;
        if status.is_success() {
            return Ok(());
        }
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        let message = if text.is_empty() { status.to_string() } else { text };
        Err(GuestError::Refused { node: name, message })
    }
}
