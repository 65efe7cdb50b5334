//! CDIConfig, `cdi.kubevirt.io/v1beta1`: where clients send the images of their uploads. There is one, `config`.
//!
//! Why here: `virtctl image-upload` reads it to find the upload proxy. Route in: an administrator's manifest; the
//! controller writes the address of one of its replicas. Route out: `kubectl get cdiconfig config`, and virtctl.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the one object.
pub const CDI_CONFIG: &str = "config";

/// Where clients send the images of their uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "cdi.kubevirt.io",
    version = "v1beta1",
    kind = "CDIConfig",
    root = "CdiConfig",
    plural = "cdiconfigs",
    singular = "cdiconfig",
    derive = "PartialEq",
    status = "CdiConfigStatus",
    doc = "Where clients send the images of their uploads; the only object is called config.",
    printcolumn = r#"{"name":"Upload proxy","type":"string","jsonPath":".status.uploadProxyURL"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct CdiConfigSpec {
    /// URL of the upload proxy for clients, where it is not the address of a control-plane node: of a load balancer in front
    /// of port 10913 of these nodes, for example. Default: the address of one of them.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "uploadProxyURLOverride")]
    #[schemars(length(max = 2048))]
    pub upload_proxy_url_override: Option<String>,
}

/// What is observed of the upload proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CdiConfigStatus {
    /// URL of the upload proxy.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "uploadProxyURL")]
    pub upload_proxy_url: Option<String>,
}
