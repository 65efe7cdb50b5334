//! Gets a certificate signed by the cluster.
//!
//! Why here: joining, rotation and serving certificates take the same way. Route in: a key that is on disk. Route out:
//! the certificate. A request that is open already is used only when it carries the same public key.

use super::keys::{self, Key, Subject};
use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestStatus};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};
use kube::runtime::wait::await_condition;
use std::net::IpAddr;
use std::time::Duration;

/// How long one attempt waits for approval and signature, as Kubernetes' own clients do.
const SIGNING_TIME: Duration = Duration::from_secs(15 * 60);

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To speak to the API server.
    Client,
    /// To answer.
    Serving,
}

impl Purpose {
    fn signer(self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    fn usages(self) -> [&'static str; 2] {
        match self {
            Self::Client => ["digital signature", "client auth"],
            Self::Serving => ["digital signature", "server auth"],
        }
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Unsigned {
    /// The cluster refused it.
    #[error("certificate request {name} was {verdict}: {message}")]
    Refused {
        /// Name of the request.
        name: String,
        /// `denied` or `failed`.
        verdict: &'static str,
        /// The cluster's reason.
        message: String,
    },
    /// Anything else; asking again with the same key is right.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// The certificate of node `node` for `key`, in PEM.
pub async fn certificate(
    client: &kube::Client,
    node: &str,
    purpose: Purpose,
    key: &Key,
    addresses: &[IpAddr],
) -> Result<String, Unsigned> {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let request = match same_key(&requests, purpose, key).await? {
        Some(request) => {
            tracing::info!("waiting for certificate request that was posted before: {}", request.name_any());
            request
        }
        None => post(&requests, node, purpose, key, addresses).await?,
    };
    let (name, uid) = (request.name_any(), request.uid());
    let settled = |found: Option<&CertificateSigningRequest>| {
        // Gone, or another of the same name: waiting longer is of no use.
        found.is_none_or(|found| {
            found.uid() != uid || found.status.as_ref().is_some_and(|status| verdict(status).is_some())
        })
    };
    let found = tokio::time::timeout(SIGNING_TIME, await_condition(requests, &name, settled)).await;
    let found = found
        .map_err(|_| {
            anyhow!("certificate request {name} was not approved within {} min", SIGNING_TIME.as_secs() / 60)
        })?
        .map_err(|error| anyhow!(error).context(format!("waiting for certificate request {name}")))?;
    let found = found
        .filter(|found| found.uid() == uid)
        .ok_or_else(|| anyhow!("certificate request {name} was deleted"))?;
    match found.status.as_ref().and_then(verdict) {
        Some(Ok(certificate)) => Ok(certificate),
        Some(Err((verdict, message))) => Err(Unsigned::Refused { name, verdict, message }),
        None => Err(anyhow!("certificate request {name} is still pending").into()),
    }
}

/// What became of a request, if it was decided.
fn verdict(status: &CertificateSigningRequestStatus) -> Option<Result<String, (&'static str, String)>> {
    for condition in status.conditions.iter().flatten() {
        let word = match condition.type_.as_str() {
            "Denied" => "denied",
            "Failed" => "failed",
            _ => continue,
        };
        return Some(Err((word, condition.message.clone().unwrap_or_else(|| "no reason given".into()))));
    }
    let certificate = status.certificate.as_ref().filter(|bytes| !bytes.0.is_empty())?;
    Some(Ok(String::from_utf8_lossy(&certificate.0).into_owned()))
}

async fn same_key(
    requests: &Api<CertificateSigningRequest>,
    purpose: Purpose,
    key: &Key,
) -> anyhow::Result<Option<CertificateSigningRequest>> {
    let public = key.public_der()?;
    let selector = ListParams::default().fields(&format!("spec.signerName={}", purpose.signer()));
    let all = requests.list(&selector).await.context("certificate requests cannot be listed")?;
    let refused = |request: &CertificateSigningRequest| {
        request.status.as_ref().and_then(verdict).is_some_and(|verdict| verdict.is_err())
    };
    // A refused one stays refused; the same key may ask again, with another token.
    Ok(all
        .items
        .into_iter()
        .filter(|request| !refused(request))
        .find(|request| keys::request_public_der(&request.spec.request.0).is_ok_and(|der| der == public)))
}

async fn post(
    requests: &Api<CertificateSigningRequest>,
    node: &str,
    purpose: Purpose,
    key: &Key,
    addresses: &[IpAddr],
) -> anyhow::Result<CertificateSigningRequest> {
    let names = if purpose == Purpose::Serving { vec![node.to_owned()] } else { Vec::new() };
    let request = key.request(&Subject::node(node), &names, addresses)?;
    use base64::Engine as _;
    let object: CertificateSigningRequest = serde_json::from_value(serde_json::json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": format!("sheaf-{node}-")},
        "spec": {
            "request": base64::engine::general_purpose::STANDARD.encode(request),
            "signerName": purpose.signer(),
            "usages": purpose.usages(),
        },
    }))?;
    let posted = requests
        .create(&PostParams::default(), &object)
        .await
        .context("the certificate request cannot be posted")?;
    if posted.uid().is_none() {
        bail!("the API server gave the certificate request no UID");
    }
    tracing::info!("posted certificate request {}", posted.name_any());
    Ok(posted)
}
