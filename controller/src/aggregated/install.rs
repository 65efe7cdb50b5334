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

use super::{
    routes::{GROUP, VERSIONS},
    upload, usage,
};
use crate::install::{InstallError, apply};

/// Applies them; `authority` is PEM.
pub async fn install(client: &Client, authority: &str) -> Result<(), InstallError> {
    let services: Api<Service> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    apply(&services, "Service", AGGREGATED_SERVICE, service()).await?;
    let announced: Api<APIService> = Api::all(client.clone());
    // Priorities are KubeVirt's, metrics-server's and CDI's.
    let groups = VERSIONS.map(|version| (GROUP, version, (1000, 15)));
    let others = [(usage::GROUP, usage::VERSION, (100, 100)), (upload::GROUP, upload::VERSION, (1000, 15))];
    for (group, version, priorities) in groups.into_iter().chain(others) {
        let name = format!("{version}.{group}");
        let announcement = announcement(group, version, priorities, authority);
        apply(&announced, "APIService", &name, announcement).await?;
    }
    Ok(())
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": AGGREGATED_SERVICE},
        "spec": {"clusterIP": "None", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]},
    })
}

fn announcement(group: &str, version: &str, (of_group, of_version): (u32, u32), authority: &str) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}")},
        "spec": {
            "group": group, "version": version,
            "service": {"namespace": SYSTEM_NAMESPACE, "name": AGGREGATED_SERVICE, "port": 443},
            "caBundle": STANDARD.encode(authority),
            "groupPriorityMinimum": of_group, "versionPriority": of_version,
        },
    })
}
