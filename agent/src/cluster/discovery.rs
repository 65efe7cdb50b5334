//! Finds out that a server is the API server of the cluster that was meant.
//!
//! Why here: before this nothing a server says is believed. Route in: server, token, CA pin. Route out: the cluster
//! CA. cluster-info is fetched unverified, its signature checked with the token, its CA with the pin, and fetched
//! again with TLS verified by that CA: both must be the same bytes.

use super::failure::{Failure, Remedy};
use super::kubeconfig::{self, Credentials};
use super::report::Reporter;
use super::token::Token;
use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use sha2::Sha256;
use sheaf_config::pin::CaPin;
use std::time::Duration;
use tokio::time::Instant;

/// How long the signature of an operator's token may be missing: a cluster signs within seconds of its creation.
pub const SIGNATURE_TIME: Duration = Duration::from_secs(10);

/// The same of the first node's own token: a controller manager that has just been started, on a slow machine, signs when
/// it leads and has read everything.
pub const FIRST_SIGNATURE_TIME: Duration = Duration::from_secs(180);

/// Between two looks at cluster-info.
const INTERVAL: Duration = Duration::from_secs(1);

/// The cluster's CA as PEM, if `server` is the one that was meant. Its signature may be missing for `signature_time`.
pub async fn cluster_ca(
    server: &str,
    token: &Token,
    pin: Option<CaPin>,
    signature_time: Duration,
    report: &Reporter,
) -> Result<String, Failure> {
    let fetching = "fetching cluster-info";
    let unreachable = format!(
        "check `server` in node.toml, the cable, the address and the gateway; {server} must answer from this network"
    );
    report.step(fetching);
    let anonymous =
        kubeconfig::client(server, None, Credentials::Anonymous).await.remedy(fetching, &unreachable)?;
    let deadline = Instant::now() + signature_time;
    let info = loop {
        let info = fetch(&anonymous).await.remedy(fetching, &unreachable)?;
        if info.signature(token).is_some() || Instant::now() > deadline {
            break info;
        }
        report.step("waiting until cluster-info is signed for this token");
        tokio::time::sleep(INTERVAL).await;
    };

    let step = "checking the signature of cluster-info";
    report.step(step);
    let signature = info.signature(token).ok_or_else(|| {
        Failure::new(
            step,
            anyhow!("it is not signed for token {}.***", token.id),
            "the cluster does not know this token, or it has expired: make one with `sheaf-agent token create`",
        )
    })?;
    verify(signature, &info.kubeconfig, token).remedy(
        step,
        "the second half of the token is wrong, or another server answers in the cluster's place: compare the token",
    )?;

    let step = "comparing the cluster's CA with ca-hash";
    report.step(step);
    let ca = embedded_ca(&info.kubeconfig)
        .remedy(step, "the cluster's cluster-info is damaged: look at it with kubectl")?;
    let found = CaPin::of_certificate(&ca)
        .remedy(step, "the cluster's cluster-info is damaged: look at it with kubectl")?;
    if let Some(pin) = pin.filter(|pin| *pin != found) {
        return Err(Failure::new(
            step,
            anyhow!("node.toml says {pin}, the cluster's is {found}"),
            "if that cluster is the right one, write its hash (`sheaf-agent status` there shows it) as ca-hash",
        ));
    }

    let step = "fetching cluster-info again, over verified TLS";
    report.step(step);
    let remedy = "`server` must be a name or address in the API server's certificate (`sans` of the first node), \
                  and this node's clock must be right";
    let verified =
        kubeconfig::client(server, Some(&ca), Credentials::Anonymous).await.remedy(step, remedy)?;
    let again = fetch(&verified).await.remedy(step, remedy)?;
    if again.kubeconfig != info.kubeconfig {
        return Err(Failure::new(
            step,
            anyhow!("it differs from what was signed"),
            "try again; if it stays, someone is between",
        ));
    }
    Ok(ca)
}

/// The parts of cluster-info that matter.
struct Info {
    kubeconfig: String,
    data: std::collections::BTreeMap<String, String>,
}

impl Info {
    fn signature(&self, token: &Token) -> Option<&str> {
        self.data.get(&format!("jws-kubeconfig-{}", token.id)).map(String::as_str)
    }
}

async fn fetch(client: &kube::Client) -> anyhow::Result<Info> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let data = maps.get("cluster-info").await?.data.unwrap_or_default();
    let kubeconfig = data.get("kubeconfig").cloned().context("cluster-info holds no kubeconfig")?;
    Ok(Info { kubeconfig, data })
}

/// Checks a detached JWS (`header..signature`, HS256) over `payload`.
fn verify(jws: &str, payload: &str, token: &Token) -> anyhow::Result<()> {
    let (header, signature) = jws.split_once("..").context("it is not a detached JWS")?;
    let fields: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    if fields["alg"] != "HS256" {
        bail!("it is signed with {}, not HS256", fields["alg"]);
    }
    if fields["kid"] != token.id.as_str() {
        bail!("it is signed for another token");
    }
    let mut mac =
        Hmac::<Sha256>::new_from_slice(token.secret().as_bytes()).map_err(|error| anyhow!("{error}"))?;
    mac.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload)).as_bytes());
    mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature)?).map_err(|_| anyhow!("the signature does not match"))
}

fn embedded_ca(text: &str) -> anyhow::Result<String> {
    let config = kube::config::Kubeconfig::from_yaml(text)?;
    let cluster =
        config.clusters.first().and_then(|named| named.cluster.as_ref()).context("it names no cluster")?;
    let data = cluster.certificate_authority_data.as_deref().context("it holds no CA")?;
    Ok(String::from_utf8(STANDARD.decode(data)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(payload: &str, token: &Token, alg: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}","kid":"{}"}}"#, token.id));
        let mut mac = Hmac::<Sha256>::new_from_slice(token.secret().as_bytes()).unwrap();
        mac.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload)).as_bytes());
        format!("{header}..{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn a_signature_holds_for_its_payload_and_token_alone() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let other: Token = "abcdef.0123456789abcdee".parse().unwrap();
        let jws = signed("payload", &token, "HS256");
        verify(&jws, "payload", &token).unwrap();
        for error in [verify(&jws, "payloaD", &token), verify(&jws, "payload", &other)] {
            assert_eq!(error.unwrap_err().to_string(), "the signature does not match");
        }
    }

    #[test]
    fn a_header_that_claims_no_algorithm_is_refused() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let error = verify(&signed("payload", &token, "none"), "payload", &token).unwrap_err();
        assert_eq!(error.to_string(), "it is signed with \"none\", not HS256");
    }
}
