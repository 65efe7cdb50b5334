//! Approves the serving certificates of nodes.
//!
//! kube-controller-manager approves their client certificates, never these: it can not know a node's addresses. We
//! do, from its Node object. A request is approved when it asks for exactly what that node is, and is otherwise left
//! alone for an administrator to judge: addresses may appear on the Node a moment later.
//! Route in: CertificateSigningRequests of signer `kubernetes.io/kubelet-serving`. Route out: the condition Approved.

use futures::StreamExt;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{Controller, controller::Action, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use x509_cert::der::{Decode, DecodePem};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::request::{CertReq, ExtensionReq};

const SIGNER: &str = "kubernetes.io/kubelet-serving";
/// Every node's organisation.
const NODES: &str = "system:nodes";
/// User name of a node, before its own name.
const NODE: &str = "system:node:";
/// A request that does not fit yet is looked at again: its Node's addresses may follow.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked {
    common_name: String,
    organisations: Vec<String>,
    dns: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    /// Names of other kinds: e-mail, URI.
    others: usize,
}

/// Follows requests for ever.
pub async fn run(client: Client) {
    let signer = watcher::Config::default().fields(&format!("spec.signerName={SIGNER}"));
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    Controller::new(requests, signer)
        .run(
            reconcile,
            |_, error, _| {
                tracing::warn!("{error:#}");
                Action::requeue(crate::RETRY)
            },
            Arc::new(client),
        )
        .for_each(|_| async {})
        .await;
}

async fn reconcile(
    request: Arc<CertificateSigningRequest>,
    client: Arc<Client>,
) -> Result<Action, crate::Error> {
    let decided = request
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|all| !all.is_empty());
    if decided {
        return Ok(Action::await_change());
    }
    let user = request.spec.username.clone().unwrap_or_default();
    let nodes: Api<Node> = Api::all(client.as_ref().clone());
    let node = match user.strip_prefix(NODE) {
        Some(name) => nodes.get_opt(name).await.map_err(crate::Error::api("read a Node"))?,
        None => None,
    };
    match judge(&request.spec, node.as_ref()) {
        Ok(()) => {
            let api: Api<CertificateSigningRequest> = Api::all(client.as_ref().clone());
            api.patch_approval(
                &request.name_any(),
                &PatchParams::default(),
                &Patch::Merge(approved(&request)),
            )
            .await
            .map_err(crate::Error::api("approve a serving certificate"))?;
            tracing::info!("serving certificate of {user} approved");
            Ok(Action::await_change())
        }
        Err(reason) => {
            tracing::warn!("serving certificate of {user} not approved: {reason}");
            Ok(Action::requeue(LOOK_AGAIN))
        }
    }
}

/// The approval; it names the version that was judged.
fn approved(request: &CertificateSigningRequest) -> Value {
    json!({
        "metadata": {"resourceVersion": request.metadata.resource_version},
        "status": {"conditions": [{
            "type": "Approved", "status": "True", "reason": "SheafApproved",
            "message": "names and addresses are those of the Node",
        }]},
    })
}

/// Whether the request asks for exactly what `node` is; else what is wrong with it.
fn judge(spec: &CertificateSigningRequestSpec, node: Option<&Node>) -> Result<(), String> {
    let user = spec.username.as_deref().unwrap_or_default();
    let Some(name) = user.strip_prefix(NODE) else { return Err(format!("{user} is no node")) };
    if !spec.groups.iter().flatten().any(|group| group == NODES) {
        return Err(format!("{user} is not in the group {NODES}"));
    }
    let Some(node) = node else { return Err(format!("there is no Node {name}")) };
    let usages: BTreeSet<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
    let needed = BTreeSet::from(["digital signature", "server auth"]);
    let with_rsa = BTreeSet::from(["digital signature", "key encipherment", "server auth"]);
    if usages != needed && usages != with_rsa {
        return Err(format!("its usages are {usages:?}"));
    }
    let asked = read(&spec.request.0).map_err(|error| format!("it can not be read: {error}"))?;
    if asked.common_name != user || asked.organisations != [NODES] {
        return Err(format!("its subject is CN={} O={:?}", asked.common_name, asked.organisations));
    }
    if asked.others > 0 || (asked.dns.is_empty() && asked.addresses.is_empty()) {
        return Err("it needs DNS names or addresses, and nothing else".into());
    }
    let known: BTreeSet<String> = node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten())
        .map(|address| address.address.clone())
        .chain([name.to_owned()])
        .collect();
    let foreign = |text: &String| !known.contains(text);
    let strangers: Vec<String> = asked
        .dns
        .iter()
        .cloned()
        .chain(asked.addresses.iter().map(ToString::to_string))
        .filter(foreign)
        .collect();
    match strangers.is_empty() {
        true => Ok(()),
        false => Err(format!("{} is not on the Node", strangers.join(", "))),
    }
}

/// What a PEM-encoded request asks for.
fn read(pem: &[u8]) -> Result<Asked, x509_cert::der::Error> {
    let info = CertReq::from_pem(pem)?.info;
    let mut asked = Asked::default();
    for attribute in info.subject.iter() {
        // 2.5.4.3 and 2.5.4.10, RFC 5280 appendix A.
        let text = || String::from_utf8_lossy(attribute.value.value()).into_owned();
        match attribute.oid.to_string().as_str() {
            "2.5.4.3" => asked.common_name = text(),
            "2.5.4.10" => asked.organisations.push(text()),
            _ => asked.others += 1,
        }
    }
    for attribute in info.attributes.iter() {
        for value in attribute.values.iter() {
            let Ok(extensions) = value.decode_as::<ExtensionReq>() else { continue };
            for extension in &extensions.0 {
                // 2.5.29.17: subjectAltName.
                if extension.extn_id.to_string() == "2.5.29.17" {
                    names(&mut asked, SubjectAltName::from_der(extension.extn_value.as_bytes())?);
                }
            }
        }
    }
    Ok(asked)
}

fn names(asked: &mut Asked, names: SubjectAltName) {
    for name in names.0 {
        match name {
            GeneralName::DnsName(name) => drop(asked.dns.insert(name.to_string())),
            GeneralName::IpAddress(bytes) => {
                match (<[u8; 4]>::try_from(bytes.as_bytes()), <[u8; 16]>::try_from(bytes.as_bytes())) {
                    (Ok(v4), _) => drop(asked.addresses.insert(v4.into())),
                    (_, Ok(v6)) => drop(asked.addresses.insert(v6.into())),
                    _ => asked.others += 1,
                }
            }
            _ => asked.others += 1,
        }
    }
}
