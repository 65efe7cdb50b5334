//! Tells kube-apiserver that this server exists: Service and APIServices.
//!
//! Why here: a group that is announced and not served stalls the deletion of namespaces, so it is announced by the same
//! program that serves it. The Service is headless: kube-apiserver connects to the endpoints themselves
//! (`--enable-aggregator-routing`), and there is no kube-proxy. Route in: the CA of the serving certificate. Route out: applied
//! objects.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::{api::core::v1::Service, kube_aggregator::pkg::apis::apiregistration::v1::APIService};
use kube::{Api, Client};
use serde_json::{Value, json};
use sheaf_api::names::{AGGREGATED_SERVICE, SYSTEM_NAMESPACE};

use super::routes::{GROUP, VERSIONS};
use crate::install::{InstallError, apply};

/// Applies them; `authority` is PEM.
pub async fn install(client: &Client, authority: &str) -> Result<(), InstallError> {
    let services: Api<Service> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    apply(&services, "Service", AGGREGATED_SERVICE, service()).await?;
    let announced: Api<APIService> = Api::all(client.clone());
    for version in VERSIONS {
        let name = format!("{version}.{GROUP}");
        apply(&announced, "APIService", &name, announcement(version, authority)).await?;
    }
    Ok(())
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": AGGREGATED_SERVICE},
        "spec": {"clusterIP": "None", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]},
    })
}

fn announcement(version: &str, authority: &str) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{GROUP}")},
        "spec": {
            "group": GROUP, "version": version,
            "service": {"namespace": SYSTEM_NAMESPACE, "name": AGGREGATED_SERVICE, "port": 443},
            "caBundle": STANDARD.encode(authority),
            // KubeVirt's.
            "groupPriorityMinimum": 1000, "versionPriority": 15,
        },
    })
}
