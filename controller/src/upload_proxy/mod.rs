//! Controller of the CDIConfig: makes the object `config` where there is none, and writes into its status where clients send
//! the images of their uploads.
//!
//! Reads: EndpointSlices of the aggregated server. Owns: status of CDIConfig `config`. Never touches: its spec, which is an
//! administrator's. Why here: every replica serves the upload proxy ([`crate::aggregated`]), and virtctl wants one URL. Route
//! in: time, since replicas renew their slices every few seconds. Route out: [`plan`], written as the object's status.

use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use sheaf_api::{
    cdi::{CDI_CONFIG, CdiConfig, CdiConfigSpec},
    names::{AGGREGATED_SERVICE, SYSTEM_NAMESPACE},
};

use crate::object::{RequestError, chain, doing, write_status};

pub mod plan;

/// Between two looks: a replica that is gone is no endpoint any more after twice this time.
const INTERVAL: Duration = Duration::from_secs(10);

/// Runs until dropped.
pub async fn run(client: Client) {
    loop {
        if let Err(error) = reconcile(&client).await {
            tracing::warn!("CDIConfig: {}", chain(&error));
        }
        tokio::time::sleep(INTERVAL).await; // the next look
    }
}

async fn reconcile(client: &Client) -> Result<(), RequestError> {
    let configs: Api<CdiConfig> = Api::all(client.clone());
    let config = match configs.get_opt(CDI_CONFIG).await.map_err(doing("reading the CDIConfig"))? {
        Some(config) => config,
        None => {
            let empty = CdiConfig::new(CDI_CONFIG, CdiConfigSpec::default());
            let made = configs.create(&PostParams::default(), &empty).await;
            made.map_err(doing("making the CDIConfig"))?
        }
    };
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let ours = ListParams::default().labels(&format!("kubernetes.io/service-name={AGGREGATED_SERVICE}"));
    let slices = slices.list(&ours).await.map_err(doing("listing the replicas of the controller"))?;
    let status = plan::status(&config, &slices.items);
    write_status(&configs, &config, config.status.as_ref(), &status).await
}
