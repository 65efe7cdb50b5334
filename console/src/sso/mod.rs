//! Login at the identity provider of the cluster (OpenID Connect, authorization code with PKCE).
//!
//! Why here: who is somebody is the provider's word; who may come in, and what he may do, is an administrator's, as for users with a
//! password: the provider's name of a person belongs to a user of the console, and a name that belongs to none is not let in. What
//! the page is told of a failure is one of a few words, so that no link shows texts of others; the journal has the reason. Route in:
//! the page's button, the provider's answer. Route out: redirects; a session.

mod configure;
mod flow;
mod id_token;
#[cfg(test)]
mod played;
pub mod provider;
mod settings;
pub mod verify;

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use kube::Client;
use serde_json::json;
use sheaf_api::identity_provider::IdentityProvider;
use sheaf_https::Places;

use crate::{
    answer::{self, Answer, Refusal},
    clock, cookie,
    records::Kind,
    serve::State,
    session,
    users::User,
};
pub use configure::configure;
use flow::{Answered, Begun};
use provider::{Exchange, Https, Provider};
use settings::{InCluster, Settings};

/// Logins at the provider at once, of all and of one address: each waits for two requests.
const OF_ALL: usize = 16;
const OF_ONE: usize = 4;

/// What logins at the provider work with.
pub struct Sso {
    settings: InCluster,
    provider: Arc<dyn Provider>,
    places: Places<IpAddr>,
}

impl Sso {
    /// Of `client`'s cluster.
    pub fn new(client: Client) -> Self {
        verify::install();
        Self {
            settings: InCluster::new(client),
            provider: Arc::new(Https),
            places: Places::new(OF_ALL, OF_ONE),
        }
    }

    /// What was read does not count any more.
    async fn forget(&self) {
        self.settings.forget().await;
    }

    /// With another provider than the network's.
    #[cfg(test)]
    pub fn with(self, provider: Arc<dyn Provider>) -> Self {
        Self { provider, ..self }
    }
}

/// Why nobody was logged in, as the page is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The login was given up, or refused, at the provider.
    Denied,
    /// It did not begin in this browser, or too long ago.
    Expired,
    /// Another login is under way.
    Busy,
    /// The provider does not answer, or not as it must.
    Provider,
    /// No user of the console has the name.
    Unknown,
}

impl Why {
    fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Busy => "busy",
            Self::Provider => "provider",
            Self::Unknown => "unknown",
        }
    }
}

/// GET /console/sso: whether there is a provider, and what it is called.
pub async fn shown(state: &State) -> Result<Answer, Refusal> {
    let settings = state.sso.settings.read().await?;
    let host = settings.as_ref().map(|(provider, _)| host_of(&provider.issuer));
    Ok(answer::ok(&json!({"provider": host})))
}

fn host_of(issuer: &str) -> &str {
    issuer.trim_start_matches("https://").split('/').next().unwrap_or_default()
}

async fn configured(state: &State) -> Result<(IdentityProvider, Option<String>), Refusal> {
    let settings: Settings = state.sso.settings.read().await?;
    settings.ok_or_else(|| Refusal::not_found("the cluster has no identity provider"))
}

/// GET /console/sso/begin: sends the browser to the provider.
pub async fn begin(state: &State, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let (provider, _) = configured(state).await?;
    let host = flow::host(headers).ok_or_else(|| Refusal::bad_request("the request names no host"))?;
    let discovered = match state.sso.provider.discover(&provider).await {
        Ok(discovered) => discovered,
        Err(error) => {
            tracing::warn!("the identity provider: {error}");
            return back(Why::Provider);
        }
    };
    let begun = Begun::new().map_err(Refusal::internal)?;
    let url = begun.url(&discovered.authorization_endpoint, &provider, host);
    let url = HeaderValue::from_str(&url).map_err(Refusal::internal)?;
    Ok(sent_to(url, begun.cookie()))
}

/// GET /console/sso/callback: the browser comes back.
pub async fn finish(
    state: &State,
    address: IpAddr,
    headers: &HeaderMap,
    query: &str,
) -> Result<Answer, Refusal> {
    let (provider, secret) = configured(state).await?;
    let answered = Answered::of(query);
    let Some(begun) = Begun::of(headers).filter(|begun| begun.is_answered_by(&answered)) else {
        return back(Why::Expired);
    };
    let (Some(code), Some(host)) = (answered.code, flow::host(headers)) else {
        tracing::info!(%address, error = answered.error, "a login at the identity provider was refused there");
        return back(Why::Denied);
    };
    let Ok(_place) = state.sso.places.take(address) else { return back(Why::Busy) };
    let exchange = Exchange { code, verifier: begun.verifier, redirect_uri: flow::callback(host), secret };
    let name = async {
        let discovered = state.sso.provider.discover(&provider).await?;
        let (token, keys) = state.sso.provider.exchange(&provider, discovered, exchange).await?;
        Ok::<_, anyhow::Error>(id_token::name(&token, &keys, &provider, &begun.nonce)?)
    };
    let name = match name.await {
        Ok(name) => name,
        Err(error) => {
            tracing::warn!(%address, "a login at the identity provider failed: {error:#}");
            return back(Why::Provider);
        }
    };
    let Some(user) = known(state, &name) else {
        tracing::warn!(%address, name, "nobody of this name at the identity provider is a user of the console");
        return back(Why::Unknown);
    };
    let secret = session::begin(&*state.records, &user, clock::now()).await?;
    tracing::info!(user = %user.name, %address, name, "logged in by the identity provider");
    let mut answer = sent_to(HeaderValue::from_static("/"), flow::gone());
    answer.headers_mut().append(header::SET_COOKIE, cookie::set(&secret));
    Ok(answer)
}

/// The one user that the provider calls so; several are none.
fn known(state: &State, name: &str) -> Option<User> {
    let users = state.records.list(Kind::User).into_iter().filter_map(|record| record.read::<User>());
    let mut found = users.filter(|user| !user.disabled && user.external.as_deref() == Some(name));
    let (first, None) = (found.next()?, found.next()) else { return None };
    Some(first)
}

/// Back to the page, which says why.
fn back(why: Why) -> Result<Answer, Refusal> {
    let place = HeaderValue::from_str(&format!("/#/login/{}", why.word())).map_err(Refusal::internal)?;
    Ok(sent_to(place, flow::gone()))
}

fn sent_to(place: HeaderValue, cookie: HeaderValue) -> Answer {
    let mut answer: Response<_> = answer::empty();
    *answer.status_mut() = StatusCode::SEE_OTHER;
    answer.headers_mut().insert(header::LOCATION, place);
    answer.headers_mut().append(header::SET_COOKIE, cookie);
    answer
}

#[cfg(test)]
mod tests;
