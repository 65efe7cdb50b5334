//! Local users: who there is, and what administrators do with them.
//!
//! Why here: a user is a record with a password, and bindings of roles ([`crate::roles`]). The console does not decide who may
//! make one: the Secret and the bindings are written **as the administrator who asks**, so RBAC decides, and the audit log
//! has who it was. Nobody changes the roles of himself or deletes himself: so there is always an administrator left. Route
//! in: requests of users. Route out: Secrets in the console's namespace, RoleBindings and ClusterRoleBindings.

use std::{collections::BTreeSet, fmt};

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::Refusal,
    caller::Caller,
    clock, hash,
    names::{NAMESPACE, USER_LABEL},
    records::{
        Kind, Record, Records,
        kube::{LABEL, record_of, secret_name, secret_of},
    },
    roles::{self, Grant, Subject},
    second,
    serve::State,
    upstream::As,
};

/// Longest name.
const LONGEST: usize = 32;
/// Longest name at an identity provider, in bytes.
const LONGEST_EXTERNAL: usize = 256;

/// A name: lowercase letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct UserName(String);

impl UserName {
    /// The name, if it is one.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = text.len() <= LONGEST
            && text.bytes().all(inside)
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.ends_with('-');
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(Refusal::invalid(format!(
                "a user's name has at most {LONGEST} lowercase letters, digits and hyphens, and begins with a letter"
            ))),
        }
    }
}

impl TryFrom<String> for UserName {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        Self::parse(&text)
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for UserName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// What is kept of one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: UserName,
    /// PHC string of the password; without one nobody logs in by it.
    pub password: Option<String>,
    /// What the identity provider of the cluster calls him: who logs in there as this logs in as this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<String>,
    /// Changes with the password, and is another when a user is made again: sessions and tokens of before end by it.
    pub credential: String,
    /// It cannot log in, and its sessions and tokens do not count.
    #[serde(default)]
    pub disabled: bool,
    /// Seconds since 1970.
    pub created: u64,
}

/// Without the hash.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({}, {})", self.name, self.credential)
    }
}

impl User {
    /// A new one.
    pub fn new(name: UserName, password: Option<String>, now: u64) -> Result<Self, Refusal> {
        let credential = hash::secret().map_err(Refusal::internal)?;
        Ok(Self { name, password, external: None, credential, disabled: false, created: now })
    }

    /// The one of this name.
    pub fn of(records: &dyn Records, name: &UserName) -> Option<Self> {
        records.get(Kind::User, name.as_ref())?.read()
    }

    /// With another name at the identity provider, or none: sessions and tokens end.
    pub fn with_external(self, external: Option<String>) -> Result<Self, Refusal> {
        let credential = hash::secret().map_err(Refusal::internal)?;
        Ok(Self { external, credential, ..self })
    }

    /// With another password: sessions and tokens end.
    pub fn with_password(self, password: String) -> Result<Self, Refusal> {
        let credential = hash::secret().map_err(Refusal::internal)?;
        Ok(Self { password: Some(password), credential, ..self })
    }
}

/// What is asked for to make one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    name: String,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    external: Option<String>,
    #[serde(default)]
    roles: Vec<Grant>,
}

/// What is changed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    password: Option<String>,
    /// Empty: none.
    external: Option<String>,
    disabled: Option<bool>,
    roles: Option<Vec<Grant>>,
}

fn secrets() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets")
}

/// Path of the Secret of a user's record of `kind`.
pub fn secret(kind: Kind, name: &UserName) -> String {
    format!("{}/{}", secrets(), secret_name(kind, name.as_ref()))
}

/// All, with their roles, and without what passwords become.
pub async fn list(state: &State, caller: &Caller) -> Result<Value, Refusal> {
    let who = As::caller(caller);
    let path = format!("{}?labelSelector={LABEL}%3Duser", secrets());
    let found = state.upstream.json(&who, Method::GET, &path, None).await?;
    let bindings = bindings(state, &who, None).await?;
    let read = |secret: &Value| -> Option<Value> {
        let secret = serde_json::from_value(secret.clone()).ok()?;
        let user: User = record_of(&secret)?.read()?;
        let grants: BTreeSet<Grant> =
            bindings.iter().filter_map(|binding| roles::grant(binding, user.name.as_ref())).collect();
        let second = second::of(&*state.records, &user).is_some_and(|(_, factor)| factor.confirmed);
        Some(json!({"name": user.name, "disabled": user.disabled, "created": user.created, "roles": grants,
                    "external": user.external, "hasPassword": user.password.is_some(), "secondFactor": second}))
    };
    Ok(Value::Array(found["items"].as_array().into_iter().flatten().filter_map(read).collect()))
}

/// A new one. Its record comes first: bindings of a name that is somebody's else would give him rights.
pub async fn create(state: &State, caller: &Caller, new: New) -> Result<Value, Refusal> {
    let name = UserName::parse(&new.name)?;
    roles::check(&new.roles)?;
    let external = external(state, &name, new.external.as_deref().unwrap_or_default())?;
    let password = match &new.password {
        Some(password) => Some(state.passwords.hash(name.as_ref(), password).await?),
        None if external.is_some() => None,
        None => {
            let why = "a user has a password, or a name at the identity provider, or both";
            return Err(Refusal::invalid(why));
        }
    };
    let user = User { external, ..User::new(name, password, clock::now())? };
    let who = As::caller(caller);
    let secret = serde_json::to_value(secret_of(&Record::new(Kind::User, user.name.as_ref(), &user)?));
    let secret = secret.map_err(Refusal::internal)?;
    let made = state.upstream.json(&who, Method::POST, &secrets(), Some(&secret)).await;
    made.map_err(|refusal| match refusal.code {
        409 => Refusal::conflict(format!("there is a user {} already", user.name)),
        _ => refusal,
    })?;
    grant(state, &who, &user, &new.roles).await?;
    tracing::info!(by = %caller.user, user = %user.name, "a user was created");
    Ok(json!({"name": user.name}))
}

/// Another password, other roles, or whether it may log in.
pub async fn change(state: &State, caller: &Caller, name: &str, change: Change) -> Result<(), Refusal> {
    let name = UserName::parse(name)?;
    if name == caller.user {
        return Err(Refusal::forbidden(
            "nobody changes the roles of himself; the own password is changed with the old one",
        ));
    }
    let who = As::caller(caller);
    if let Some(wanted) = &change.roles {
        roles::check(wanted)?;
    }
    let mut changed = None;
    if change.password.is_some() || change.disabled.is_some() || change.external.is_some() {
        let found = state.upstream.json(&who, Method::GET, &secret(Kind::User, &name), None).await;
        let found = found.map_err(|refusal| missing(refusal, &name))?;
        let found = serde_json::from_value(found).map_err(Refusal::internal)?;
        let damaged = || {
            Refusal::internal(format!("the record of {name} is damaged; delete the user and make it again"))
        };
        let mut record = record_of(&found).ok_or_else(damaged)?;
        let mut user: User = record.read().ok_or_else(damaged)?;
        if let Some(password) = &change.password {
            user = user.with_password(state.passwords.hash(name.as_ref(), password).await?)?;
        }
        if let Some(text) = &change.external {
            user = user.with_external(external(state, &name, text)?)?;
        }
        user.disabled = change.disabled.unwrap_or(user.disabled);
        record.data = serde_json::to_value(&user).map_err(Refusal::internal)?;
        let value = serde_json::to_value(secret_of(&record)).map_err(Refusal::internal)?;
        state.upstream.json(&who, Method::PUT, &secret(Kind::User, &name), Some(&value)).await?;
        changed = Some(user);
    }
    let user = changed.or_else(|| User::of(&*state.records, &name));
    let user = user.ok_or_else(|| Refusal::not_found(format!("there is no user {name}")))?;
    match change.roles {
        Some(wanted) => grant(state, &who, &user, &wanted).await?,
        // The name at the provider is in each binding.
        None if change.external.is_some() => {
            let there = bindings(state, &who, Some(&name)).await?;
            let grants: BTreeSet<Grant> =
                there.iter().filter_map(|binding| roles::grant(binding, name.as_ref())).collect();
            grant(state, &who, &user, &Vec::from_iter(grants)).await?;
        }
        None => {}
    }
    tracing::info!(by = %caller.user, user = %name, "a user was changed");
    Ok(())
}

/// Deletes one. Its bindings go first: a user that is made again under the name finds none.
pub async fn delete(state: &State, caller: &Caller, name: &str) -> Result<(), Refusal> {
    let name = UserName::parse(name)?;
    if name == caller.user {
        return Err(Refusal::forbidden("nobody deletes himself"));
    }
    let who = As::caller(caller);
    let found = state.upstream.json(&who, Method::GET, &secret(Kind::User, &name), None).await;
    found.map_err(|refusal| missing(refusal, &name))?;
    revoke(state, &who, &name).await?;
    // Most have none. One that stays counts for nobody, and is swept.
    match state.upstream.json(&who, Method::DELETE, &secret(Kind::Factor, &name), None).await {
        Err(refusal) if refusal.code == 404 => {}
        deleted => drop(deleted?),
    }
    state.upstream.json(&who, Method::DELETE, &secret(Kind::User, &name), None).await?;
    tracing::info!(by = %caller.user, user = %name, "a user was deleted");
    Ok(())
}

fn missing(refusal: Refusal, name: &UserName) -> Refusal {
    match refusal.code {
        404 => Refusal::not_found(format!("there is no user {name}")),
        _ => refusal,
    }
}

/// The bindings of users of the console, or of one.
async fn bindings(state: &State, who: &As, of: Option<&UserName>) -> Result<Vec<Value>, Refusal> {
    let selector = match of {
        Some(name) => format!("{USER_LABEL}%3D{name}"),
        None => USER_LABEL.to_owned(),
    };
    let mut all = Vec::new();
    for kind in ["clusterrolebindings", "rolebindings"] {
        let path = format!("{}/{kind}?labelSelector={selector}", roles::API);
        let found = state.upstream.json(who, Method::GET, &path, None).await?;
        all.extend(found["items"].as_array().into_iter().flatten().cloned());
    }
    Ok(all)
}

/// The name at the identity provider, if it is one and nobody else's.
fn external(state: &State, of: &UserName, text: &str) -> Result<Option<String>, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > LONGEST_EXTERNAL || text.chars().any(char::is_control) {
        let why = format!(
            "a name at the identity provider has at most {LONGEST_EXTERNAL} bytes, and no control characters"
        );
        return Err(Refusal::invalid(why));
    }
    let others = state.records.list(Kind::User).into_iter().filter_map(|record| record.read::<User>());
    let mut others = others.filter(|user| user.name != *of && user.external.as_deref() == Some(text));
    match others.next() {
        Some(other) => Err(Refusal::conflict(format!("{text:?} is the user {} already", other.name))),
        None => Ok(Some(text.to_owned())),
    }
}

/// Makes the bindings of `user` exactly those of `wanted`.
async fn grant(state: &State, who: &As, user: &User, wanted: &[Grant]) -> Result<(), Refusal> {
    let subject = Subject { user: user.name.as_ref(), external: user.external.as_deref() };
    make(state, who, &user.name, subject, wanted).await
}

/// Removes all bindings of `name`.
async fn revoke(state: &State, who: &As, name: &UserName) -> Result<(), Refusal> {
    make(state, who, name, Subject { user: name.as_ref(), external: None }, &[]).await
}

async fn make(
    state: &State,
    who: &As,
    name: &UserName,
    subject: Subject<'_>,
    wanted: &[Grant],
) -> Result<(), Refusal> {
    let there = bindings(state, who, Some(name)).await?;
    for step in roles::plan(subject, wanted, &there) {
        match step {
            roles::Step::Create { path, binding } => {
                let made = state.upstream.json(who, Method::POST, &path, Some(&binding)).await;
                made.map_err(|refusal| match refusal.code {
                    404 => Refusal::not_found(format!("{}: {refusal}", binding["metadata"]["name"])),
                    _ => refusal,
                })?;
            }
            roles::Step::Delete { path } => match state.upstream.json(who, Method::DELETE, &path, None).await
            {
                Err(refusal) if refusal.code == 404 => {}
                deleted => drop(deleted?),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_that_every_object_can_have() {
        for fine in ["a", "alice", "a-1", &"a".repeat(32)] {
            assert_eq!(UserName::parse(fine).unwrap().to_string(), fine);
        }
        for bad in [
            "",
            "Alice",
            "1a",
            "-a",
            "a-",
            "a.b",
            "a:b",
            "a/b",
            "a b",
            "é",
            &"a".repeat(33),
            "system:masters",
        ] {
            assert_eq!(
                UserName::parse(bad).unwrap_err().message,
                "a user's name has at most 32 lowercase letters, digits and hyphens, and begins with a letter",
                "{bad:?}"
            );
        }
        assert!(serde_json::from_value::<UserName>(json!("../x")).is_err());
    }

    #[test]
    fn the_claim_is_a_name_that_no_local_user_can_have() {
        let name = crate::names::CLAIM_USER.strip_prefix(crate::names::USER_PREFIX).unwrap();
        assert!(UserName::parse(name).is_err());
    }

    #[test]
    fn what_a_password_becomes_is_in_no_message() {
        let name = UserName::parse("alice").unwrap();
        let user = User::new(name, Some("$argon2id$secret".into()), 0).unwrap();
        assert!(!format!("{user:?}").contains("secret"));
        let credential = user.credential.clone();
        assert_ne!(user.with_password("x".into()).unwrap().credential, credential);
    }
}
