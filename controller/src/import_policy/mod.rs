//! Controller of the ImportPolicy: makes the object `default` where there is none, and writes into its status which
//! addresses are the cluster's own.
//!
//! Reads: Nodes, ServiceCIDRs, the EndpointSlice of the API server. Owns: status of ImportPolicy `default`. Never touches:
//! its spec, which is an administrator's. Why here: a node may not list the others, and must not fetch images from them.
//! Route in: time, since Nodes report ever so often. Route out: [`plan`], written as the policy's status.

use std::time::Duration;

use k8s_openapi::api::{core::v1::Node, discovery::v1::EndpointSlice, networking::v1::ServiceCIDR};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use sheaf_api::import_policy::{IMPORT_POLICY, ImportPolicy, ImportPolicySpec, ImportPolicyStatus};

use crate::object::{RequestError, chain, doing, write_status};

pub mod plan;

/// Between two looks: a node that joins is protected within it.
const INTERVAL: Duration = Duration::from_secs(30);
/// Name of the Service of the API server, and of its EndpointSlice.
const API_SERVICE: &str = "kubernetes";

/// Runs until dropped.
pub async fn run(client: Client) {
    loop {
        if let Err(error) = reconcile(&client).await {
            tracing::warn!("import policy: {}", chain(&error));
        }
        tokio::time::sleep(INTERVAL).await; // the next look
    }
}

async fn reconcile(client: &Client) -> Result<(), RequestError> {
    let policies: Api<ImportPolicy> = Api::all(client.clone());
    let policy = policies.get_opt(IMPORT_POLICY).await.map_err(doing("reading the ImportPolicy"))?;
    let policy = match policy {
        Some(policy) => policy,
        None => {
            let empty = ImportPolicy::new(IMPORT_POLICY, ImportPolicySpec::default());
            let made = policies.create(&PostParams::default(), &empty).await;
            made.map_err(doing("making the ImportPolicy"))?
        }
    };
    let all = ListParams::default();
    let nodes = Api::<Node>::all(client.clone()).list(&all).await.map_err(doing("listing nodes"))?;
    let services = Api::<ServiceCIDR>::all(client.clone()).list(&all).await;
    let services = services.map_err(doing("listing ServiceCIDRs"))?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let servers = slices.get_opt(API_SERVICE).await.map_err(doing("reading where the API server is"))?;
    let status =
        ImportPolicyStatus { protected: plan::protected(&nodes.items, &services.items, servers.as_ref()) };
    write_status(&policies, &policy, policy.status.as_ref(), &status).await
}
