//! The cluster that node.toml joins: whether its API server answers, is the one that was meant, and knows the token.
//!
//! Why here and not the agent's code: this only looks; it redeems nothing. Route in: server, pin, token.
//! Route out: what an operator has to know.

use sheaf_config::cluster_info::{ClusterInfo, InfoError, PATH};
use sheaf_config::node::Secret;
use sheaf_config::pin::CaPin;
use sheaf_host::call::{Call, CallError, Request};
use sheaf_host::trust::Trust;
use std::time::Duration;

/// Why not, and what to do.
pub(super) type Wrong = (String, String);

fn wrong(found: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    (found.into(), remedy.into())
}

/// cluster-info of `server`, read over TLS that its own CA proves; the CA is the one of `pin`.
pub(super) fn recognise(
    call: &dyn Call,
    server: &str,
    pin: Option<CaPin>,
    timeout: Duration,
) -> Result<ClusterInfo, Wrong> {
    let url = format!("{}{PATH}", server.trim_end_matches('/'));
    let damaged = "look at the ConfigMap cluster-info in kube-public with kubectl";
    let first = fetch(call, &url, Trust::Anyone, timeout)?;
    let ca = first.ca().map_err(|error| wrong(error.to_string(), damaged))?;
    let found = CaPin::of_certificate(&ca).map_err(|error| wrong(format!("its CA: {error}"), damaged))?;
    if let Some(pin) = pin.filter(|pin| *pin != found) {
        return Err(wrong(
            format!("its CA is {found}, node.toml says {pin}"),
            "if that cluster is the right one, write its hash as ca-hash",
        ));
    }
    let verified = fetch(call, &url, Trust::Authorities(ca), timeout)?;
    match verified.kubeconfig == first.kubeconfig {
        true => Ok(verified),
        false => Err(wrong(
            "its cluster-info changed between two reads",
            "possible man-in-the-middle: try again; if this persists, check which machine answers at `server`",
        )),
    }
}

fn fetch(call: &dyn Call, url: &str, trust: Trust, timeout: Duration) -> Result<ClusterInfo, Wrong> {
    let reply = call.call(&Request::get(url, trust, timeout)).map_err(|error| {
        let remedy = match &error {
            CallError::Untrusted { .. } => {
                "server must be a name or address in the API server's certificate, and this machine's clock right"
            }
            CallError::Reach { .. } | CallError::Request { .. } => {
                "check server in [cluster], the route and the firewall on the way"
            }
        };
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        wrong(format!("{error}{}", source.unwrap_or_default()), remedy)
    })?;
    if reply.status != 200 {
        return Err(wrong(
            format!("it answers for cluster-info with HTTP status {}", reply.status),
            "server must be the API server of a cluster that kubeadm or Sheaf made",
        ));
    }
    ClusterInfo::parse(&reply.body).map_err(|error| {
        let what = match error {
            InfoError::NotAConfigMap(_) => "it is not a Kubernetes API server".to_owned(),
            other => other.to_string(),
        };
        wrong(what, "correct server in [cluster]")
    })
}

/// Whether the cluster signed its cluster-info for `token`: it does so for each that is valid.
pub(super) fn knows(info: &ClusterInfo, token: &Secret) -> Result<(), Wrong> {
    let (id, secret) = token.reveal().split_once('.').unwrap_or_default();
    let make = "make one on the first node with `sheaf-agent token create`";
    info.verify(id, secret).map_err(|error| match error {
        InfoError::NotSigned(_) => wrong("the cluster does not know it, or it has expired", make),
        InfoError::Mismatch => wrong("its second half is wrong", format!("compare it, or {make}")),
        other => wrong(
            other.to_string(),
            "check which machine answers at `server`: it does not send a cluster's signature",
        ),
    })
}
