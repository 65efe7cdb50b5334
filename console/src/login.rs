//! Log in, log out, the own password, own tokens.
//!
//! Why here: what a person does with his own account; with that of others, [`crate::users`]. Route in: bodies of requests.
//! Route out: cookies, records.

use std::{net::IpAddr, sync::PoisonError};

use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    answer::{self, Answer, Refusal},
    caller::{By, Caller},
    clock, cookie, password,
    records::Kind,
    second,
    serve::{self, State},
    session::{self, Session},
    token,
    users::{User, UserName},
};

/// Of a wrong name and of a wrong password: which of both it was is nobody's business.
const WRONG: &str = "the name or the password is wrong";

/// What is typed to log in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    user: String,
    password: String,
    /// Of the second factor.
    #[serde(default)]
    code: Option<String>,
}

/// What is typed to change the own password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    old: String,
    new: String,
}

/// What is asked for to have a token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    label: String,
    days: u64,
}

/// POST /console/login
pub async fn login(state: &State, address: IpAddr, login: Login) -> Result<Answer, Refusal> {
    // A name that is none is counted as its address alone: what is remembered stays small.
    let name = UserName::parse(&login.user).ok();
    let counted = name.as_ref().map_or("", UserName::as_ref).to_owned();
    may_try(state, &counted, address)?;
    let user = name.as_ref().and_then(|name| User::of(&*state.records, name)).filter(|user| !user.disabled);
    let kept = user.as_ref().and_then(|user| user.password.clone());
    let fits = login.password.len() <= password::LONGEST;
    let right = state.passwords.verify(if fits { &login.password } else { "" }, kept).await?;
    match user.filter(|_| right && fits) {
        Some(user) => {
            if let Err(refusal) =
                second::check(&*state.records, &user, login.code.as_deref(), clock::now()).await
            {
                // A code that is missing is no try at one.
                if refusal.reason == "Unauthorized" {
                    limits(state).failed(&counted, address, clock::now());
                    tracing::warn!(user = counted, %address, "a login failed by its code");
                }
                return Err(refusal);
            }
            let secret = session::begin(&*state.records, &user, clock::now()).await?;
            limits(state).succeeded(&counted, address);
            tracing::info!(user = %user.name, %address, "logged in");
            Ok(with_cookie(&user.name, &secret))
        }
        None => {
            limits(state).failed(&counted, address, clock::now());
            tracing::warn!(user = counted, %address, "a login failed");
            Err(Refusal::unauthorized(WRONG))
        }
    }
}

/// Refuses a try that comes too soon after failures.
pub fn may_try(state: &State, who: &str, address: IpAddr) -> Result<(), Refusal> {
    match limits(state).wait(who, address, clock::now()) {
        Some(seconds) => Err(Refusal::too_many(seconds)),
        None => Ok(()),
    }
}

/// The memory of failures.
pub fn limits(state: &State) -> std::sync::MutexGuard<'_, crate::limits::Limits> {
    state.limits.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer with which a session begins.
pub fn with_cookie(user: &UserName, secret: &str) -> Answer {
    let mut answer = answer::ok(&json!({"user": user}));
    answer.headers_mut().insert(header::SET_COOKIE, cookie::set(secret));
    answer
}

/// POST /console/logout
pub async fn logout(state: &State, caller: &Caller) -> Result<Answer, Refusal> {
    if let By::Session(id) = &caller.by {
        state.records.delete(Kind::Session, id).await?;
    }
    let mut answer = answer::empty();
    answer.headers_mut().insert(header::SET_COOKIE, cookie::clear());
    // What the browser kept of the page's pictures and lists.
    answer.headers_mut().insert(
        http::HeaderName::from_static("clear-site-data"),
        HeaderValue::from_static("\"cache\", \"storage\""),
    );
    Ok(answer)
}

/// GET /console/session
pub fn session(state: &State, caller: &Caller) -> Result<Answer, Refusal> {
    let ends = match &caller.by {
        By::Session(id) => {
            let record = state.records.get(Kind::Session, id);
            record.and_then(|record| record.read::<Session>()).map(|session| session.ends())
        }
        By::Token(_) => None,
    };
    Ok(answer::ok(
        &json!({"user": caller.user, "ends": ends, "kubernetesUser": format!("{}{}", crate::names::USER_PREFIX, caller.user)}),
    ))
}

/// POST /console/password: ends all other sessions, and all tokens.
pub async fn password(state: &State, caller: &Caller, typed: NewPassword) -> Result<Answer, Refusal> {
    may_try(state, caller.user.as_ref(), caller.address)?;
    let gone = || Refusal::unauthorized("the user does not exist any more");
    let mut record = state.records.get(Kind::User, caller.user.as_ref()).ok_or_else(gone)?;
    let user: User = record.read().ok_or_else(gone)?;
    if typed.old.len() > password::LONGEST
        || !state.passwords.verify(&typed.old, user.password.clone()).await?
    {
        limits(state).failed(caller.user.as_ref(), caller.address, clock::now());
        return Err(Refusal::forbidden("the old password is wrong"));
    }
    let hash = state.passwords.hash(caller.user.as_ref(), &typed.new).await?;
    let user = user.with_password(hash)?;
    record.data = serde_json::to_value(&user).map_err(Refusal::internal)?;
    state.records.replace(record).await?;
    tracing::info!(user = %user.name, "the password was changed");
    let secret = session::begin(&*state.records, &user, clock::now()).await?;
    Ok(with_cookie(&user.name, &secret))
}

/// GET /console/tokens
pub fn tokens(state: &State, caller: &Caller) -> Answer {
    let shown = token::of(&*state.records, &caller.user).into_iter().map(
        |(id, token)| json!({"id": id, "label": token.label, "created": token.created, "ends": token.ends}),
    );
    answer::ok(&Value::Array(shown.collect()))
}

/// POST /console/tokens: the only time that the token is shown.
pub async fn new_token(state: &State, caller: &Caller, wanted: NewToken) -> Result<Answer, Refusal> {
    let gone = || Refusal::unauthorized("the user does not exist any more");
    let user = User::of(&*state.records, &caller.user).ok_or_else(gone)?;
    let (id, token) = token::create(&*state.records, &user, &wanted.label, wanted.days, clock::now()).await?;
    tracing::info!(user = %user.name, id, "a token was made");
    Ok(answer::with_status(StatusCode::CREATED, &json!({"id": id, "token": token})))
}

/// DELETE /console/tokens/ID
pub async fn delete_token(state: &State, caller: &Caller, id: &str) -> Result<Answer, Refusal> {
    serve::own_token(state, caller, id)?;
    state.records.delete(Kind::Token, id).await?;
    Ok(answer::empty())
}
