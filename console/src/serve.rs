//! Answers one request.
//!
//! Why here: the order of the checks is one page: which request, from where, who, then what. Every answer leaves with the headers of
//! [`crate::headers`]. Route in: a request and the browser's address. Route out: an answer; every refusal is a `Status`.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use kube::Client;
use sheaf_https::{Places, Received};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    answer::{self, Answer, Refusal},
    assets, body,
    caller::{self, Caller, Credential},
    claim, clock,
    controllers::{Controllers, Replicas},
    download,
    headers::secure,
    join,
    limits::Limits,
    login,
    metrics::{self, Metrics},
    origin,
    password::Passwords,
    proxy::{self, Target},
    records::{Records, kube::Secrets},
    routes::{self, Access, Route},
    second,
    sso::{self, Sso},
    streams, token, upload,
    upstream::{As, Upstream},
    users,
    watch::Watch,
};

/// What requests are answered with.
pub struct State {
    /// What the console remembers.
    pub records: Arc<dyn Records>,
    /// The API server.
    pub upstream: Upstream,
    /// Where the open claim is.
    pub claims: claim::Claims,
    /// Logins at the identity provider.
    pub sso: Sso,
    /// What all browsers are shown.
    pub watch: Watch,
    /// What machines and nodes used.
    pub metrics: Metrics,
    /// Hashes of passwords.
    pub passwords: Passwords,
    /// Failed logins and codes.
    pub limits: Mutex<Limits>,
    /// Where kubectl finds it.
    pub cluster: Cluster,
    /// Where images and exports go through.
    pub controllers: Arc<dyn Controllers>,
    /// Images that are on their way.
    pub uploads: Places<String>,
    /// Disks that are on their way.
    pub downloads: download::Downloads,
}

/// The API server as `sheaf admin claim` is told it.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// `https://ADDRESS:6443`.
    pub server: String,
    /// Its CA, PEM.
    pub ca: String,
}

impl State {
    /// With the console's own client; nothing is asked yet.
    pub fn new(client: Client, cluster: Cluster) -> Self {
        Self {
            cluster,
            records: Arc::new(Secrets::new(client.clone())),
            upstream: Upstream::new(client.clone()),
            claims: claim::Claims::new(client.clone()),
            sso: Sso::new(client.clone()),
            controllers: Arc::new(Replicas::new(client.clone())),
            uploads: upload::places(),
            downloads: download::Downloads::default(),
            watch: Watch::new(client),
            metrics: Metrics::new(None),
            passwords: Passwords::default(),
            limits: Mutex::default(),
        }
    }
}

/// A request's body.
pub trait RequestBody:
    http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

impl<B> RequestBody for B where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

/// Answers.
pub async fn serve(
    state: Arc<State>,
    address: IpAddr,
    mut request: Request<Received>,
) -> Result<Response<answer::Body>, Infallible> {
    let upgrade = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let mut answer =
        answer(&state, address, request, upgrade).await.unwrap_or_else(|refusal| refusal.answer());
    secure(answer.headers_mut());
    Ok(answer)
}

/// [`serve`] without what is the same for all.
pub async fn answer<B: RequestBody>(
    state: &Arc<State>,
    address: IpAddr,
    request: Request<B>,
    upgrade: Option<OnUpgrade>,
) -> Result<Answer, Refusal> {
    let (parts, body) = request.into_parts();
    if parts.uri.authority().is_some() {
        return Err(Refusal::bad_request("a request names a path, not another host"));
    }
    let (method, headers, uri) = (&parts.method, &parts.headers, &parts.uri);
    let route = routes::route(method, uri.path(), uri.query())?;
    if let Route::Asset(path) = &route {
        return assets::answer(method, path, headers);
    }
    let credential = caller::credential(headers);
    let by_cookie = matches!(credential, Some(Credential::Cookie(_)));
    if !route.is_from_elsewhere() {
        origin::check(method, headers, route.is_stream(), by_cookie)?;
    }
    if route != Route::Healthz && !state.records.is_ready() {
        return Err(Refusal::unavailable("the console does not reach the API server yet"));
    }
    let caller = match route.access() {
        Access::Public => None,
        access => Some(known(state, access, &credential, address, route.is_use()).await?),
    };
    match (route, caller) {
        (Route::Healthz, _) => Ok(healthz(state)),
        (Route::Login, _) => login::login(state, address, body::json(headers, body).await?).await,
        (Route::Sso, _) => sso::shown(state).await,
        (Route::SsoBegin, _) => sso::begin(state, headers).await,
        (Route::SsoCallback(query), _) => sso::finish(state, address, headers, &query).await,
        (Route::IsClaimable, _) => claim::is_open(state).await,
        (Route::Claim, _) => claim::claim(state, address, body::json(headers, body).await?).await,
        (Route::ClaimByKey, _) => claim::by_key(state, address, body::json(headers, body).await?).await,
        (Route::Session, Some(caller)) => login::session(state, &caller),
        (Route::Logout, Some(caller)) => login::logout(state, &caller).await,
        (Route::Password, Some(caller)) => {
            login::password(state, &caller, body::json(headers, body).await?).await
        }
        (Route::Tokens, Some(caller)) => Ok(login::tokens(state, &caller)),
        (Route::NewToken, Some(caller)) => {
            login::new_token(state, &caller, body::json(headers, body).await?).await
        }
        (Route::DeleteToken(id), Some(caller)) => login::delete_token(state, &caller, &id).await,
        (Route::Users, Some(caller)) => Ok(answer::ok(&users::list(state, &caller).await?)),
        (Route::NewUser, Some(caller)) => {
            let made = users::create(state, &caller, body::json(headers, body).await?).await?;
            Ok(answer::with_status(StatusCode::CREATED, &made))
        }
        (Route::ChangeUser(name), Some(caller)) => {
            users::change(state, &caller, &name, body::json(headers, body).await?).await?;
            Ok(answer::empty())
        }
        (Route::DeleteUser(name), Some(caller)) => {
            users::delete(state, &caller, &name).await?;
            Ok(answer::empty())
        }
        (Route::Second, Some(caller)) => Ok(answer::ok(&second::own::shown(state, &caller)?)),
        (Route::BeginSecond, Some(caller)) => {
            let begun = second::own::begin(state, &caller, body::json(headers, body).await?).await?;
            Ok(answer::with_status(StatusCode::CREATED, &begun))
        }
        (Route::ConfirmSecond, Some(caller)) => {
            Ok(answer::ok(&second::own::confirm(state, &caller, body::json(headers, body).await?).await?))
        }
        (Route::RemoveSecond, Some(caller)) => {
            second::own::remove(state, &caller, body::json(headers, body).await?).await?;
            Ok(answer::empty())
        }
        (Route::RemoveSecondOf(name), Some(caller)) => {
            second::own::remove_of(state, &caller, &name).await?;
            Ok(answer::empty())
        }
        (Route::ConfigureSso, Some(caller)) => {
            sso::configure(state, &caller, body::json(headers, body).await?).await
        }
        (Route::JoinToken, Some(caller)) => {
            join::create(state, &caller, body::json(headers, body).await?).await
        }
        (Route::Upload(volume), Some(caller)) => upload::upload(state, &caller, &volume, headers, body).await,
        (Route::Download(wanted), Some(caller)) => download::download(state, caller, &wanted, headers).await,
        (Route::Watch(kinds), Some(caller)) => state.watch.stream(state, caller, &kinds),
        (Route::Metrics(query), Some(caller)) => metrics::answer(state, &caller, &query).await,
        (Route::Api(target), Some(caller)) if target.is_stream => {
            streams::open(state, caller, &target, headers, upgrade).await
        }
        (Route::Api(target), Some(caller)) => api(state, &caller, method, &target, headers, body).await,
        (_, None) | (Route::Asset(_), _) => Err(Refusal::unauthorized("log in first")),
    }
}

/// Who asks, if it may be.
async fn known(
    state: &State,
    access: Access,
    credential: &Option<Credential<'_>>,
    address: IpAddr,
    uses: bool,
) -> Result<Caller, Refusal> {
    let credential = credential.as_ref().ok_or_else(|| Refusal::unauthorized("log in first"))?;
    let caller = caller::identify(&*state.records, credential, address, clock::now(), uses).await;
    let ended = match credential {
        Credential::Cookie(_) => "the session has ended; log in again",
        Credential::Token(_) => "the token is not valid, or has ended",
    };
    let caller = caller.ok_or_else(|| Refusal::unauthorized(ended))?;
    match (access, &caller.by) {
        (Access::Person, caller::By::Token(_)) => {
            Err(Refusal::forbidden("a token does not do this; log in with a password"))
        }
        _ => Ok(caller),
    }
}

fn healthz(state: &State) -> Answer {
    match state.records.is_ready() {
        true => answer::ok(&serde_json::json!({"ready": true})),
        false => Refusal::unavailable("the console does not reach the API server yet").answer(),
    }
}

/// Bodies up to this many bytes are taken at any number: almost all, and together no more than connections can have.
const SMALL: u64 = 64 << 10;
/// Larger ones at once, of 3 MiB at most.
static LARGE: Semaphore = Semaphore::const_new(16);

/// A place for the body of a request, if it needs one.
fn place(headers: &HeaderMap) -> Result<Option<SemaphorePermit<'static>>, Refusal> {
    let number = |value: &HeaderValue| value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    let bytes = match headers.get(header::CONTENT_LENGTH) {
        Some(value) => number(value),
        // A body that does not say how long it is may be long.
        None => Some(0).filter(|_| !headers.contains_key(header::TRANSFER_ENCODING)),
    };
    if bytes.is_some_and(|bytes| bytes <= SMALL) {
        return Ok(None);
    }
    let busy = |_| Refusal::unavailable("too many large requests at once; try again");
    LARGE.try_acquire().map(Some).map_err(busy)
}

/// Hands a request on.
async fn api<B: RequestBody>(
    state: &State,
    caller: &Caller,
    method: &Method,
    target: &Target,
    headers: &HeaderMap,
    body: B,
) -> Result<Answer, Refusal> {
    let handed = proxy::headers(headers)?;
    let _place = place(headers)?;
    let body = body::bytes(body, body::MOST_API).await?;
    if *method != Method::GET {
        tracing::info!(user = %caller.user, %method, path = target.path, "asked");
    }
    let answer = state.upstream.send(&As::caller(caller), method.clone(), &target.path, handed, body).await?;
    if answer.status() == StatusCode::NOT_FOUND && !is_json(&answer) {
        return Err(Refusal::unavailable(
            "the API server does not know this kind yet: it was started a moment ago; try again",
        ));
    }
    Ok(handed_back(answer))
}

/// Whether an answer is JSON. A 404 that is none is of no object: the API server does not serve the path.
fn is_json<B>(answer: &Response<B>) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/json"))
}

/// Status, body and some headers of the API server's answer.
fn handed_back(answer: Response<kube::client::Body>) -> Answer {
    let (parts, body) = answer.into_parts();
    let mut handed = Response::new(body.map_err(Into::into).boxed_unsync());
    // The console's own 401 is "log in again"; one of the API server is the console's fault.
    *handed.status_mut() = match parts.status {
        StatusCode::UNAUTHORIZED => StatusCode::BAD_GATEWAY,
        status => status,
    };
    for name in [header::RETRY_AFTER, header::WARNING] {
        for value in parts.headers.get_all(&name) {
            handed.headers_mut().append(name.clone(), value.clone());
        }
    }
    handed.headers_mut().insert(header::CONTENT_TYPE, proxy::answered(&parts.headers));
    handed
}

/// Tokens of others are none to a caller.
pub fn own_token(state: &State, caller: &Caller, id: &str) -> Result<(), Refusal> {
    let own = token::of(&*state.records, &caller.user).into_iter().any(|(there, _)| there == id);
    own.then_some(()).ok_or_else(|| Refusal::not_found("there is no such token of yours"))
}

#[cfg(test)]
mod tests;
