//! Controller of nodes' certificates: approves what a node may have, denies what nobody may.
//!
//! Reads: certificate signing requests of the two signers of nodes, Nodes, bootstrap tokens, the ConfigMap
//! `control-plane`. Owns: the approval of those requests, the ConfigMap `node-identities`, the notes of use on tokens.
//! Never touches: requests of other signers, and those of people. Route in: two watches. Route out: [`decide`].
//!
//! Order of writes, so that a crash at any point gives a token to one node and a name to one key: the token is noted as
//! used, then the key is recorded, then the request is approved, each over the resource version that was read. The token
//! is deleted a while after, because its holder still fetches its certificate with it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::{
    api::{
        certificates::v1::CertificateSigningRequest,
        core::v1::{ConfigMap, Node, Secret},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, watcher},
};
use serde_json::json;
use sheaf_api::names::{CONTROL_PLANE_MAP, IDENTITIES_MAP, SYSTEM_NAMESPACE};
use tokio::sync::Mutex;

use crate::conditions::seconds;
use crate::nodes::addresses::{ControlPlane, claimed};
use crate::object;
use decide::{Decision, Purpose, Requester, client, serving};
use identities::Identities;
use request::Request;
use tokens::{Token, Use};

pub mod decide;
pub mod identities;
pub mod request;
pub mod tokens;

/// Until a request is decided again that waits for something, or whose decision could not be written.
const RETRY: Duration = Duration::from_secs(5);
/// How long after its use a token is deleted: time to fetch the certificate, over a restart of the machine too.
const TOKEN_GRACE: Duration = Duration::from_secs(5 * 60);

/// Why a request could not be decided.
#[derive(Debug, thiserror::Error)]
enum DecideError {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Request(#[from] kube::Error),
    /// A record could not be written as JSON.
    #[error("writing the record of names: {0}")]
    Record(#[from] serde_json::Error),
}

/// What one reconciliation shares with the others.
struct Context {
    client: Client,
    /// One decision at a time: each rests on what the one before recorded.
    turn: Mutex<()>,
}

/// Runs until dropped.
pub async fn run(client: Client) {
    let context = Arc::new(Context { client, turn: Mutex::default() });
    tokio::join!(
        watch(decide::CLIENT_SIGNER, context.clone()),
        watch(decide::SERVING_SIGNER, context.clone())
    );
}

async fn watch(signer: &str, context: Arc<Context>) {
    let only = watcher::Config::default().fields(&format!("spec.signerName={signer}"));
    Controller::new(Api::<CertificateSigningRequest>::all(context.client.clone()), only)
        .run(reconcile, |_, _, _| Requeue::requeue(RETRY), context)
        .for_each(|result| object::log("certificate request", result))
        .await;
}

async fn reconcile(
    csr: Arc<CertificateSigningRequest>,
    context: Arc<Context>,
) -> Result<Requeue, DecideError> {
    let Some(purpose) = decide::purpose(&csr) else { return Ok(Requeue::await_change()) };
    let client = context.client.clone();
    if !decide::is_open(&csr) {
        return spend(&client, &csr).await;
    }
    let _turn = context.turn.lock().await;
    let request = match request::read(&csr.spec.request.0) {
        Ok(request) => request,
        Err(error) => return write(&client, &csr, "Denied", "Unreadable", &error.to_string()).await,
    };
    let (decision, approved) = match purpose {
        Purpose::Client => decide_client(&client, &csr, &request).await?,
        Purpose::Serving => {
            (decide_serving(&client, &csr, &request).await?, "the names are those of the node that asks")
        }
    };
    match decision {
        Decision::Approve => write(&client, &csr, "Approved", "NameIsTheNodes", approved).await,
        Decision::Deny { reason, message } => write(&client, &csr, "Denied", reason, &message).await,
        Decision::Wait { message } => {
            tracing::info!(request = %csr.name_any(), "certificate request waits: {message}");
            Ok(Requeue::requeue(RETRY))
        }
        Decision::Leave => Ok(Requeue::await_change()),
    }
}

/// Decides on a client certificate; what an approval rests on is recorded when this returns.
async fn decide_client(
    client: &Client,
    csr: &CertificateSigningRequest,
    request: &Request,
) -> Result<(Decision, &'static str), DecideError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let map = maps.get_opt(IDENTITIES_MAP).await?;
    let mut identities =
        Identities::read(map.as_ref().and_then(|map| map.data.as_ref()).unwrap_or(&BTreeMap::new()));
    let secret = match decide::requester(csr) {
        Requester::Token(id) => token_secret(client, id).await?,
        _ => None,
    };
    let token = secret.as_ref().map(|(token, _)| token);
    let name = decide::subject(request).unwrap_or_default();
    let node_exists = match name {
        "" => false,
        name => Api::<Node>::all(client.clone()).get_opt(name).await?.is_some(),
    };
    let facts = client::Facts { identities: &identities, token, node_exists };
    let decision = client::decide(csr, request, &facts);
    if decision == Decision::Approve {
        if let Some((Token { used_by: None, .. }, secret)) = &secret {
            let by = Use { node: name.to_owned(), key: request.key.clone() };
            let secrets: Api<Secret> = Api::namespaced(client.clone(), tokens::NAMESPACE);
            let patch = Patch::Merge(tokens::used(secret, &by)?);
            secrets.patch(&secret.name_any(), &PatchParams::default(), &patch).await?;
        }
        let released = identities.get(name).is_some_and(|identity| identity.released);
        if released || identities.get(name).and_then(|known| known.keys.first()) != Some(&request.key) {
            identities.record(name, &request.key);
            record(&maps, map, &identities).await?;
        }
    }
    Ok((decision, "the name is free, or the key is the node's own"))
}

/// The token `id` and its Secret, if it is valid.
async fn token_secret(client: &Client, id: &str) -> Result<Option<(Token, Secret)>, kube::Error> {
    let Some(name) = tokens::secret_name(id) else { return Ok(None) };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), tokens::NAMESPACE);
    let secret = secrets.get_opt(&name).await?;
    Ok(secret.and_then(|secret| Some((tokens::read(id, &secret, Timestamp::now())?, secret))))
}

/// Writes the record of names over the one that was read: a conflict is an error, and the decision is made again.
async fn record(
    maps: &Api<ConfigMap>,
    map: Option<ConfigMap>,
    identities: &Identities,
) -> Result<(), DecideError> {
    let there = map.is_some();
    let mut map = map.unwrap_or_default();
    map.metadata.name = Some(IDENTITIES_MAP.into());
    map.data = Some(identities.data()?);
    match there {
        true => maps.replace(IDENTITIES_MAP, &PostParams::default(), &map).await?,
        false => maps.create(&PostParams::default(), &map).await?,
    };
    Ok(())
}

async fn decide_serving(
    client: &Client,
    csr: &CertificateSigningRequest,
    request: &Request,
) -> Result<Decision, DecideError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let Some(plane) = maps.get_opt(CONTROL_PLANE_MAP).await? else {
        // Without it the addresses of the API server are not known, so nothing can be approved.
        return Ok(Decision::Wait {
            message: format!(
                "ConfigMap {SYSTEM_NAMESPACE}/{CONTROL_PLANE_MAP} is missing; sheaf-agent writes it"
            ),
        });
    };
    let plane = ControlPlane::read(&plane.data.unwrap_or_default());
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?.items;
    let mut claims: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for node in &nodes {
        for address in claimed(node) {
            claims.entry(address).or_default().push(node.name_any());
        }
    }
    let node = match decide::requester(csr) {
        Requester::Node(name) => nodes.iter().find(|node| node.name_any() == name),
        _ => None,
    };
    Ok(serving::decide(csr, request, &serving::Facts { node, claims: &claims, plane: &plane }))
}

/// Writes the decision as a condition.
async fn write(
    client: &Client,
    csr: &CertificateSigningRequest,
    verdict: &str,
    reason: &str,
    message: &str,
) -> Result<Requeue, DecideError> {
    let name = csr.name_any();
    tracing::info!(request = %name, user = csr.spec.username, "{verdict}: {message}");
    let patch = json!({
        "metadata": {"resourceVersion": csr.metadata.resource_version},
        "status": {"conditions": [{
            "type": verdict, "status": "True", "reason": reason, "message": message,
            "lastUpdateTime": seconds(Timestamp::now()),
        }]},
    });
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    match requests.patch_approval(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        // Changed meanwhile: the change brings it back here.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
            Ok(Requeue::await_change())
        }
        other => Ok(other.map(|_| Requeue::await_change())?),
    }
}

/// Deletes the token of an approved request [`TOKEN_GRACE`] after the approval.
async fn spend(client: &Client, csr: &CertificateSigningRequest) -> Result<Requeue, DecideError> {
    let Requester::Token(id) = decide::requester(csr) else { return Ok(Requeue::await_change()) };
    let conditions = csr.status.as_ref().and_then(|status| status.conditions.as_ref());
    let approved = conditions.into_iter().flatten().find(|condition| condition.type_ == "Approved");
    let Some(approved) = approved else { return Ok(Requeue::await_change()) };
    let since = approved.last_update_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let passed = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
    if let Some(left) = TOKEN_GRACE.checked_sub(passed).filter(|left| !left.is_zero()) {
        return Ok(Requeue::requeue(left));
    }
    let Some((token, secret)) = token_secret(client, id).await? else { return Ok(Requeue::await_change()) };
    if token.used_by.is_none() {
        return Ok(Requeue::await_change()); // another token of the same id, made since
    }
    let same = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
    let how = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), tokens::NAMESPACE);
    match secrets.delete(&secret.name_any(), &how).await {
        Ok(_) => tracing::info!("token {id}.*** is used up and was deleted"),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Requeue::await_change())
}
