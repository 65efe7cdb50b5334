//! The cluster that node.toml joins: whether its API server answers, is the one that was meant, and knows the token.
//!
//! Why here and not the agent's code: this only looks; it redeems nothing. Route in: server, pin, token.
//! Route out: what an operator has to know.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use sheaf_config::node::Secret;
use sheaf_config::pin::CaPin;
use sheaf_host::call::{Call, Request};
use sheaf_host::trust::Trust;
use std::collections::BTreeMap;
use std::time::Duration;

/// What every Kubernetes cluster shows to those who want to join it.
const INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// cluster-info of a server that was recognised.
#[derive(Clone, Debug)]
pub(super) struct Info {
    kubeconfig: String,
    data: BTreeMap<String, String>,
}

/// Why not, and what to do.
pub(super) type Wrong = (String, String);

fn wrong(found: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    (found.into(), remedy.into())
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// cluster-info of `server`, read over TLS that its own CA proves; the CA is the one of `pin`.
pub(super) fn recognise(
    call: &dyn Call,
    server: &str,
    pin: Option<CaPin>,
    patience: Duration,
) -> Result<Info, Wrong> {
    let url = format!("{}{INFO}", server.trim_end_matches('/'));
    let first = fetch(call, &url, Trust::Anyone, patience)?;
    let ca = authority(&first.kubeconfig).ok_or_else(|| {
        wrong("its cluster-info holds no CA", "look at the ConfigMap cluster-info with kubectl")
    })?;
    let found = CaPin::of_certificate(&ca).map_err(|error| {
        wrong(format!("its CA: {error}"), "look at the ConfigMap cluster-info with kubectl")
    })?;
    if let Some(pin) = pin.filter(|pin| *pin != found) {
        return Err(wrong(
            format!("its CA is {found}, node.toml says {pin}"),
            "if that cluster is the right one, write its hash as ca-hash",
        ));
    }
    let verified = fetch(call, &url, Trust::Authorities(ca), patience).map_err(|(found, remedy)| {
        match found.to_lowercase().contains("certificate") {
            true => wrong(
                found,
                "server must be a name or address in the API server's certificate, and this machine's clock right",
            ),
            false => wrong(found, remedy),
        }
    })?;
    match verified.kubeconfig == first.kubeconfig {
        true => Ok(verified),
        false => Err(wrong("its cluster-info changes from one look to the next", "someone may be between")),
    }
}

fn fetch(call: &dyn Call, url: &str, trust: Trust, patience: Duration) -> Result<Info, Wrong> {
    let reply = call.call(&Request::get(url, trust, patience)).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        wrong(
            format!("{error}{}", source.unwrap_or_default()),
            "check server in [cluster], the route and the firewall on the way",
        )
    })?;
    if reply.status != 200 {
        return Err(wrong(
            format!("it answers for cluster-info with HTTP status {}", reply.status),
            "server must be the API server of a cluster that kubeadm or Sheaf made",
        ));
    }
    let map: ConfigMap = serde_json::from_slice(&reply.body)
        .map_err(|_| wrong("it is no Kubernetes API server", "correct server in [cluster]"))?;
    let kubeconfig = map.data.get("kubeconfig").cloned().unwrap_or_default();
    Ok(Info { kubeconfig, data: map.data })
}

/// The CA in a kubeconfig: the one value of its kind in it.
fn authority(kubeconfig: &str) -> Option<String> {
    let mut values =
        kubeconfig.lines().filter_map(|line| line.trim().strip_prefix("certificate-authority-data:"));
    let bytes = STANDARD.decode(values.next()?.trim().trim_matches('"')).ok()?;
    String::from_utf8(bytes).ok()
}

/// Whether the cluster signed its cluster-info for `token`: it does so for each that is valid.
pub(super) fn knows(info: &Info, token: &Secret) -> Result<(), Wrong> {
    let (id, secret) = token.reveal().split_once('.').unwrap_or_default();
    let make = "make one on the first node with `sheaf-agent token create`";
    let Some(jws) = info.data.get(&format!("jws-kubeconfig-{id}")) else {
        return Err(wrong("the cluster does not know it, or it has expired", make));
    };
    match is_signed(jws, &info.kubeconfig, id, secret) {
        true => Ok(()),
        false => Err(wrong("its second half is wrong", format!("compare it, or {make}"))),
    }
}

/// Checks a detached JWS (`header..signature`, HS256) over `payload`.
fn is_signed(jws: &str, payload: &str, id: &str, secret: &str) -> bool {
    let check = || -> Option<()> {
        let (header, signature) = jws.split_once("..")?;
        let fields: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        (fields["alg"] == "HS256" && fields["kid"] == id).then_some(())?;
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
        mac.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload)).as_bytes());
        mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()
    };
    check().is_some()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a cluster with the CA `pem` shows, signed for `token`.
    pub(crate) fn cluster_info(pem: &str, token: &str) -> String {
        let (id, secret) = token.split_once('.').unwrap();
        let kubeconfig = format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: https://a\n",
            STANDARD.encode(pem)
        );
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(&kubeconfig)).as_bytes());
        let jws = format!("{header}..{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
        let name = format!("jws-kubeconfig-{id}");
        serde_json::json!({"data": {"kubeconfig": kubeconfig, name: jws}}).to_string()
    }
}
