//! The first administrator: claimed by a one-time code that a control-plane node shows.
//!
//! Why here: at the first login there is nobody who could let somebody in. The agent of a control-plane node makes a code,
//! shows it on the node's screens, and keeps its salted SHA-256 in a Secret, with its end and the tries that are left; for as
//! long it binds [`sheaf_api::console::CLAIM_USER`] to what making an administrator needs. A try is counted before the code is
//! compared, in the Secret, so that no number of replicas or parallel requests adds tries; the Secret is deleted before the
//! administrator is made, so that a code makes one. Eight characters of 32 are 40 bits: with ten tries a guess succeeds once
//! in a hundred thousand million. Route in: a code. Route out: a user with the role administer, or a key in the list of
//! administrators, for `sheaf admin claim`.

use std::net::IpAddr;

use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    answer::{self, Answer, Refusal},
    clock, hash, login,
    names::{CLAIM_SECRET, NAMESPACE},
    records::{Kind, Record, kube::KEY},
    roles::{self, Grant, Role},
    serve::State,
    session,
    upstream::As,
    users::{User, UserName},
};

/// Characters of a code: Crockford's base 32, in which none looks like another.
const LENGTH: usize = 8;
/// How often a write that another was faster with is repeated.
const ATTEMPTS: usize = 5;

const NONE: &str =
    "there is no code to claim this cluster with: run `sheaf-agent claim new` on a control-plane node";
const ENDED: &str = "the code has ended: run `sheaf-agent claim new` on a control-plane node";

/// What is kept of an open claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Before the code, when it is hashed.
    pub salt: String,
    /// SHA-256 of salt and code, hex.
    pub sha256: String,
    /// Seconds since 1970.
    pub ends: u64,
    /// Codes that may still be tried.
    pub tries: u32,
}

impl Claim {
    /// Whether `code`, as people type it, is the one.
    pub fn is(&self, code: &str) -> bool {
        let code = plain(code);
        code.len() == LENGTH
            && hash::same(&self.sha256, &hash::sha256(format!("{}{code}", self.salt).as_bytes()))
    }

    /// Whether it can be tried at `now`.
    fn is_open(&self, now: u64) -> bool {
        now < self.ends && self.tries > 0
    }
}

/// A code without hyphens and spaces, in capitals; what looks alike is one.
fn plain(code: &str) -> String {
    let letters =
        code.chars().filter(|letter| !matches!(letter, '-' | ' ')).map(|letter| letter.to_ascii_uppercase());
    letters
        .map(|letter| match letter {
            'O' => '0',
            'I' | 'L' => '1',
            letter => letter,
        })
        .collect()
}

/// The Secret of the open claim.
pub struct Claims(Api<Secret>);

impl Claims {
    /// In the console's namespace.
    pub fn new(client: Client) -> Self {
        Self(Api::namespaced(client, NAMESPACE))
    }

    async fn read(&self) -> Result<Option<(Secret, Claim)>, Refusal> {
        let found = self.0.get_opt(CLAIM_SECRET).await;
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
            let counted = match self.0.replace(CLAIM_SECRET, &PostParams::default(), &secret).await {
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
            return match self.0.delete(CLAIM_SECRET, &how).await {
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
    let open = state.claims.read().await?.is_some_and(|(_, claim)| claim.is_open(clock::now()));
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
    let user = User::new(name, password, now)?;
    taken(state, address, &typed.code).await?;
    let lost = |refusal: Refusal| Refusal {
        message: format!(
            "{refusal}; the code is used up: run `sheaf-agent claim new` on a control-plane node"
        ),
        ..refusal
    };
    let record = Record::new(Kind::User, user.name.as_ref(), &user)?;
    state.records.create(record).await.map_err(Refusal::from).map_err(lost)?;
    let grants = [Grant { role: Role::Administer, project: None }];
    for binding in roles::bindings(user.name.as_ref(), &grants) {
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
    login::may_try(state, CLAIM_SECRET, address)?;
    taken(state, address, &typed.code).await?;
    let who = As::claim(address);
    let map = "/api/v1/namespaces/kube-system/configmaps";
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": ADMINISTRATORS, "namespace": "kube-system"},
        "data": {name.as_ref(): typed.public_key},
    });
    let patched =
        state.upstream.json(&who, Method::PATCH, &format!("{map}/{ADMINISTRATORS}"), Some(&object)).await;
    match patched {
        Err(refusal) if refusal.code == 404 => {
            state.upstream.json(&who, Method::POST, map, Some(&object)).await?;
        }
        patched => drop(patched?),
    }
    tracing::info!(%name, %address, "the cluster was claimed with a key");
    Ok(answer::ok(&json!({"name": name})))
}

/// The record of administrators' keys, which the agent reads (`agent/src/administrators/`).
const ADMINISTRATORS: &str = "sheaf-administrators";

/// Takes the claim, or counts a failure.
async fn taken(state: &State, address: IpAddr, code: &str) -> Result<(), Refusal> {
    if state.claims.take(code).await? {
        return Ok(());
    }
    login::limits(state).failed(CLAIM_SECRET, address, clock::now());
    tracing::warn!(%address, "a wrong code was tried");
    Err(Refusal::unauthorized("the code is wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(code: &str) -> Claim {
        let salt = "salt".to_owned();
        Claim { sha256: hash::sha256(format!("{salt}{code}").as_bytes()), salt, ends: 1000, tries: 10 }
    }

    #[test]
    fn a_code_is_known_however_people_type_it_and_no_other_is() {
        let claim = open("01AB23CD");
        for typed in ["01AB23CD", "01ab-23cd", "O1AB 23CD", "oiab23cd", " 0lab-23cd "] {
            assert!(claim.is(typed), "{typed}");
        }
        for typed in ["", "01AB23C", "01AB23CDE", "01AB23CE", "0IAB23C\u{301}D"] {
            assert!(!claim.is(typed), "{typed}");
        }
    }

    #[test]
    fn a_claim_ends_with_its_time_and_with_its_tries() {
        let claim = open("01AB23CD");
        assert!(claim.is_open(999) && !claim.is_open(1000));
        assert!(!Claim { tries: 0, ..claim }.is_open(0));
        let alphabet = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        assert!(
            alphabet.iter().all(|letter| plain(&char::from(*letter).to_string()).as_bytes() == [*letter])
        );
    }
}
