//! The first administrator: claimed by a one-time code that a control-plane node shows.
//!
//! Why here: at the first login there is nobody who could let somebody in. The agent of a control-plane node makes a code,
//! shows it on the node's screens, and keeps its salted SHA-256 in a Secret, with its end and the tries that are left; for as
//! long it binds [`sheaf_api::console::CLAIM_USER`] to what making an administrator needs. A try is counted before the code is
//! compared, in the Secret, so that no number of replicas or parallel requests adds tries; the Secret is deleted before the
//! administrator is made, so that a code makes one. What a code is, is in `configs/src/claim.rs`. Route in: a code. Route
//! out: a user with the role administer, or a key in the list of administrators, for `sheaf admin claim`.

use std::{net::IpAddr, time::Duration};

use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde::Deserialize;
use serde_json::json;
use sheaf_config::claim::{Claim, KEY};

use crate::{
    answer::{self, Answer, Refusal},
    clock, login,
    names::{ADMINISTRATORS, CLAIM_SECRET, NAMESPACE},
    recent::Recent,
    records::{Kind, Record},
    roles::{self, Grant, Role, Subject},
    serve::State,
    session,
    upstream::As,
    users::{User, UserName},
};

/// How often a write that another was faster with is repeated.
const ATTEMPTS: usize = 5;

/// What user names of administrators by key begin with (`agent/src/administrators/plan.rs`).
const ADMIN_PREFIX: &str = "sheaf-admin-";

const NONE: &str =
    "there is no code to claim this cluster with: run `sheaf-agent claim new` on a control-plane node";
const ENDED: &str = "the code has ended: run `sheaf-agent claim new` on a control-plane node";

/// So long the claim that was read last counts for those who have shown no code: however many ask, the API server is asked at most
/// so often.
const KEPT: Duration = Duration::from_secs(2);

/// The Secret of the open claim.
pub struct Claims {
    secrets: Api<Secret>,
    seen: Recent<Option<Claim>>,
}

impl Claims {
    /// In the console's namespace.
    pub fn new(client: Client) -> Self {
        Self { secrets: Api::namespaced(client, NAMESPACE), seen: Recent::new(KEPT) }
    }

    /// The claim as it was at most [`KEPT`] ago.
    async fn seen(&self) -> Result<Option<Claim>, Refusal> {
        self.seen.get(async { Ok(self.read().await?.map(|(_, claim)| claim)) }).await
    }

    /// Refuses what no code can open.
    async fn can_be_tried(&self) -> Result<(), Refusal> {
        match self.seen().await? {
            None => Err(Refusal::not_found(NONE)),
            Some(claim) if !claim.is_open(clock::now()) => Err(Refusal::forbidden(ENDED)),
            Some(_) => Ok(()),
        }
    }

    async fn read(&self) -> Result<Option<(Secret, Claim)>, Refusal> {
        let found = self.secrets.get_opt(CLAIM_SECRET).await;
        let found = found.map_err(|error| Refusal::unavailable(format!("reading the claim: {error}")))?;
        let Some(secret) = found else { return Ok(None) };
        let data = secret.data.as_ref().and_then(|data| data.get(KEY)).map(|data| data.0.clone());
        let claim = serde_json::from_slice(&data.unwrap_or_default());
        let claim = claim
            .map_err(|error| Refusal::internal(format!("the Secret {CLAIM_SECRET} is damaged: {error}")))?;
        Ok(Some((secret, claim)))
    }

    /// Counts a try, compares, and takes the claim if the code is right.
    async fn take(&self, code: &str) -> Result<bool, Refusal> {
        for _ in 0..ATTEMPTS {
            let (mut secret, mut claim) = self.read().await?.ok_or_else(|| Refusal::not_found(NONE))?;
            if !claim.is_open(clock::now()) {
                return Err(Refusal::forbidden(ENDED));
            }
            claim.tries -= 1;
            let data = serde_json::to_vec(&claim).map_err(Refusal::internal)?;
            secret.data.get_or_insert_default().insert(KEY.to_owned(), k8s_openapi::ByteString(data));
            let counted = match self.secrets.replace(CLAIM_SECRET, &PostParams::default(), &secret).await {
                Ok(counted) => counted,
                // Another try was counted meanwhile: this one counts after it.
                Err(kube::Error::Api(status)) if status.code == 409 => continue,
                Err(error) => return Err(Refusal::unavailable(format!("counting the try: {error}"))),
            };
            if !claim.is(code) {
                return Ok(false);
            }
            // This very version: of two right codes at once, one finds it gone.
            let preconditions = Preconditions {
                uid: counted.metadata.uid.clone(),
                resource_version: counted.metadata.resource_version.clone(),
            };
            let how = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            return match self.secrets.delete(CLAIM_SECRET, &how).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    Err(Refusal::conflict("somebody else claims this cluster at the same moment"))
                }
                Err(error) => Err(Refusal::unavailable(format!("taking the claim: {error}"))),
            };
        }
        Err(Refusal::conflict("too many codes are tried at the same moment; try again"))
    }
}

/// What is typed in the browser.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByPassword {
    code: String,
    user: String,
    password: String,
}

/// What `sheaf admin claim` sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub struct ByKey {
    code: String,
    name: String,
    public_key: String,
}

/// GET /console/claim: whether the page asks for a code.
pub async fn is_open(state: &State) -> Result<Answer, Refusal> {
    let open = state.claims.seen().await?.is_some_and(|claim| claim.is_open(clock::now()));
    Ok(answer::ok(&json!({"open": open})))
}

/// POST /console/claim: the first user, who is logged in with it.
pub async fn claim(state: &State, address: IpAddr, typed: ByPassword) -> Result<Answer, Refusal> {
    // All that can be refused is, before a try is spent.
    let name = UserName::parse(&typed.user)?;
    if User::of(&*state.records, &name).is_some() {
        return Err(Refusal::conflict(format!("there is a user {name} already; choose another name")));
    }
    login::may_try(state, CLAIM_SECRET, address)?;
    let password = state.passwords.hash(name.as_ref(), &typed.password).await?;
    let now = clock::now();
    let user = User::new(name, Some(password), now)?;
    taken(state, address, &typed.code).await?;
    let record = Record::new(Kind::User, user.name.as_ref(), &user)?;
    state.records.create(record).await.map_err(Refusal::from).map_err(lost)?;
    let grants = [Grant { role: Role::Administer, project: None }];
    let subject = Subject { user: user.name.as_ref(), external: None };
    for binding in roles::bindings(subject, &grants) {
        let path = format!("{}/clusterrolebindings", roles::API);
        let made = state.upstream.json(&As::claim(address), Method::POST, &path, Some(&binding)).await;
        made.map_err(lost)?;
    }
    tracing::info!(user = %user.name, %address, "the cluster was claimed");
    let secret = session::begin(&*state.records, &user, now).await?;
    Ok(login::with_cookie(&user.name, &secret))
}

/// POST /console/claim/key: a key for the list of administrators, whose certificate the agent then publishes.
pub async fn by_key(state: &State, address: IpAddr, typed: ByKey) -> Result<Answer, Refusal> {
    let name = UserName::parse(&typed.name)?;
    let fits = typed.public_key.len() <= 1024 && typed.public_key.starts_with("-----BEGIN PUBLIC KEY-----\n");
    if !fits {
        return Err(Refusal::invalid("publicKey is a public key in PEM, as `sheaf admin claim` sends it"));
    }
    // The agent's list has names of users as keys, too: of those that were revoked.
    if name.as_ref().starts_with(ADMIN_PREFIX) {
        return Err(Refusal::invalid(format!("a name that begins with {ADMIN_PREFIX} cannot be chosen")));
    }
    login::may_try(state, CLAIM_SECRET, address)?;
    taken(state, address, &typed.code).await?;
    add_key(state, address, &name, &typed.public_key).await.map_err(lost)?;
    tracing::info!(%name, %address, "the cluster was claimed with a key");
    Ok(answer::ok(&json!({"name": name, "server": state.cluster.server, "ca": state.cluster.ca})))
}

/// Writes a key into the list of administrators, unless the name is there already.
async fn add_key(state: &State, address: IpAddr, name: &UserName, key: &str) -> Result<(), Refusal> {
    let who = As::claim(address);
    let map = "/api/v1/namespaces/kube-system/configmaps";
    let path = format!("{map}/{ADMINISTRATORS}");
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ADMINISTRATORS, "namespace": "kube-system"},
        "data": {name.as_ref(): key},
    });
    let there = match state.upstream.json(&who, Method::GET, &path, None).await {
        Err(refusal) if refusal.code == 404 => {
            return state.upstream.json(&who, Method::POST, map, Some(&object)).await.map(drop);
        }
        there => there?,
    };
    if there["data"].get(name.as_ref()).is_some() {
        return Err(Refusal::conflict(format!("there is an administrator {name} already")));
    }
    // This very version: who adds the same name at the same moment is refused.
    let mut object = object;
    object["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"].clone();
    state.upstream.json(&who, Method::PATCH, &path, Some(&object)).await.map(drop)
}

/// A refusal after the code was taken.
fn lost(refusal: Refusal) -> Refusal {
    Refusal {
        message: format!(
            "{refusal}; the code is used up: run `sheaf-agent claim new` on a control-plane node"
        ),
        ..refusal
    }
}

/// Takes the claim, or counts a failure.
async fn taken(state: &State, address: IpAddr, code: &str) -> Result<(), Refusal> {
    state.claims.can_be_tried().await?;
    if state.claims.take(code).await? {
        return Ok(());
    }
    login::limits(state).failed(CLAIM_SECRET, address, clock::now());
    tracing::warn!(%address, "a wrong code was tried");
    Err(Refusal::unauthorized("the code is wrong"))
}
