//! Controller of serving certificates: approves what nodes may have, denies what nobody may.
//!
//! Reads: certificate signing requests of the signer kubelet-serving, Nodes. Owns: their approval. Never touches:
//! requests of other signers. Route in: a watch. Route out: [`decide`], written as a condition.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::{
    api::{certificates::v1::CertificateSigningRequest, core::v1::Node},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{Controller, controller::Action as Requeue, watcher},
};
use serde_json::json;

use crate::conditions::seconds;
use crate::object;
use decide::Decision;

pub mod decide;
pub mod request;

/// Until a request is looked at again that could not be decided, or whose decision could not be written.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until dropped.
pub async fn run(client: Client) {
    let only = watcher::Config::default().fields(&format!("spec.signerName={}", decide::SIGNER));
    Controller::new(Api::<CertificateSigningRequest>::all(client.clone()), only)
        .run(reconcile, |_, _, _| Requeue::requeue(RETRY), Arc::new(client))
        .for_each(|result| object::log("certificate request", result))
        .await;
}

async fn reconcile(csr: Arc<CertificateSigningRequest>, client: Arc<Client>) -> Result<Requeue, kube::Error> {
    if !decide::is_open(&csr) {
        return Ok(Requeue::await_change());
    }
    let client = Client::clone(&client);
    let nodes: Api<Node> = Api::all(client.clone());
    let node = match decide::node_name(&csr) {
        Some(name) => nodes.get_opt(name).await?,
        None => None,
    };
    let name = csr.metadata.name.clone().unwrap_or_default();
    let decision = match request::read(&csr.spec.request.0) {
        Ok(request) => decide::decide(&csr, &request, node.as_ref()),
        Err(error) => Decision::Deny { reason: "Unreadable", message: error.to_string() },
    };
    let (type_, reason, message) = match decision {
        Decision::Approve => {
            ("Approved", "AddressesOfNode", "the names are those of the Node that asks".to_string())
        }
        Decision::Deny { reason, message } => ("Denied", reason, message),
        Decision::Wait { message } => {
            tracing::info!(request = %name, "serving certificate waits: {message}");
            return Ok(Requeue::requeue(RETRY));
        }
    };
    tracing::info!(request = %name, "{type_}: {message}");
    let patch = json!({
        "metadata": {"resourceVersion": csr.metadata.resource_version},
        "status": {"conditions": [{
            "type": type_, "status": "True", "reason": reason, "message": message,
            "lastUpdateTime": seconds(Timestamp::now()),
        }]},
    });
    let requests: Api<CertificateSigningRequest> = Api::all(client);
    match requests.patch_approval(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        // Changed meanwhile: the change brings it back here.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
            Ok(Requeue::await_change())
        }
        other => other.map(|_| Requeue::await_change()),
    }
}
