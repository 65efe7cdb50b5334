//! The second factor in the hands of its user, and of an administrator who removes one that was lost.
//!
//! Why here: each change needs the password, and a removal a code besides: who finds an open page neither locks its user out nor
//! weakens the login. An administrator removes another's with his own rights, as all that he does to users. Route in: bodies of requests.
//! Route out: records; secret and recovery codes, each shown once.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Factor, WRONG, of, write};
use crate::{
    answer::Refusal,
    caller::Caller,
    clock, login, password,
    records::{Kind, Record},
    serve::State,
    totp,
    upstream::As,
    users::{self, User, UserName},
};

/// What is typed to begin.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    password: String,
}

/// What is typed to confirm.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    code: String,
}

/// What is typed to remove it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    password: String,
    code: String,
}

fn user(state: &State, caller: &Caller) -> Result<User, Refusal> {
    User::of(&*state.records, &caller.user)
        .ok_or_else(|| Refusal::unauthorized("the user does not exist any more"))
}

/// Counts a failed try, and refuses.
fn failed(state: &State, caller: &Caller, message: &str) -> Refusal {
    login::limits(state).failed(caller.user.as_ref(), caller.address, clock::now());
    Refusal::forbidden(message)
}

async fn own_password(state: &State, caller: &Caller, user: &User, typed: &str) -> Result<(), Refusal> {
    login::may_try(state, caller.user.as_ref(), caller.address)?;
    let fits = typed.len() <= password::LONGEST;
    let right = state.passwords.verify(if fits { typed } else { "" }, user.password.clone()).await?;
    match right && fits {
        true => Ok(()),
        false => Err(failed(state, caller, "the password is wrong")),
    }
}

/// GET /console/second
pub fn shown(state: &State, caller: &Caller) -> Result<Value, Refusal> {
    let factor = of(&*state.records, &user(state, caller)?).map(|(_, factor)| factor);
    let factor = factor.filter(|factor| factor.confirmed);
    Ok(json!({"on": factor.is_some(), "recoveryCodes": factor.map_or(0, |factor| factor.recovery.len())}))
}

/// POST /console/second: a secret, which counts once a code of it was typed.
pub async fn begin(state: &State, caller: &Caller, typed: Begin) -> Result<Value, Refusal> {
    let user = user(state, caller)?;
    own_password(state, caller, &user, &typed.password).await?;
    if of(&*state.records, &user).is_some_and(|(_, factor)| factor.confirmed) {
        return Err(Refusal::conflict("there is a second factor already; remove it first"));
    }
    let factor = Factor::new(&user)?;
    match state.records.get(Kind::Factor, user.name.as_ref()) {
        // Begun before, or of a user of this name who is gone.
        Some(record) => write(&*state.records, record, &factor).await?,
        None => state.records.create(Record::new(Kind::Factor, user.name.as_ref(), &factor)?).await?,
    }
    let secret = totp::from_base32(&factor.secret).unwrap_or_default();
    Ok(json!({"secret": factor.secret, "uri": totp::uri(user.name.as_ref(), &secret)}))
}

/// POST /console/second/confirm: from here on a login needs a code.
pub async fn confirm(state: &State, caller: &Caller, typed: Confirm) -> Result<Value, Refusal> {
    let user = user(state, caller)?;
    login::may_try(state, caller.user.as_ref(), caller.address)?;
    let begun = of(&*state.records, &user).filter(|(_, factor)| !factor.confirmed);
    let (record, factor) =
        begun.ok_or_else(|| Refusal::conflict("begin first: there is nothing to confirm"))?;
    let taken = factor.take(&typed.code, clock::now()).ok_or_else(|| {
        failed(state, caller, "the code is wrong: check the clock of the device, and that it has this secret")
    })?;
    let (factor, codes) = taken.confirm()?;
    write(&*state.records, record, &factor).await?;
    tracing::info!(user = %user.name, "a second factor is asked for from now on");
    Ok(json!({"recoveryCodes": codes}))
}

/// POST /console/second/remove
pub async fn remove(state: &State, caller: &Caller, typed: Remove) -> Result<(), Refusal> {
    let user = user(state, caller)?;
    own_password(state, caller, &user, &typed.password).await?;
    let there = of(&*state.records, &user).filter(|(_, factor)| factor.confirmed);
    let (_, factor) = there.ok_or_else(|| Refusal::not_found("there is no second factor"))?;
    factor.take(&typed.code, clock::now()).ok_or_else(|| failed(state, caller, WRONG))?;
    state.records.delete(Kind::Factor, user.name.as_ref()).await?;
    tracing::info!(user = %user.name, "the second factor was removed");
    Ok(())
}

/// DELETE /console/users/NAME/second: by who may delete Secrets of the console, which is who administers.
pub async fn remove_of(state: &State, caller: &Caller, name: &str) -> Result<(), Refusal> {
    let name = UserName::parse(name)?;
    if name == caller.user {
        return Err(Refusal::forbidden(
            "the own second factor is removed with the password and a code of it",
        ));
    }
    let path = users::secret(Kind::Factor, &name);
    let deleted = state.upstream.json(&As::caller(caller), Method::DELETE, &path, None).await;
    deleted.map_err(|refusal| match refusal.code {
        404 => Refusal::not_found(format!("user {name} has no second factor")),
        _ => refusal,
    })?;
    tracing::info!(by = %caller.user, user = %name, "a second factor was removed");
    Ok(())
}
