//! Answers one request.
//!
//! Why here: the order of the checks (who, what, which object) is one page. Route in: a request with the peer's certificate.
//! Route out: an answer; every refusal is a `Status`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use kube::Client;
use sheaf_https::Received;

use super::{
    acts,
    answer::{self, Answer, Refusal},
    discovery, expand, exports,
    identity::Front,
    node::Nodes,
    options::MOST_BODY,
    routes::{self, Route, VmAct},
    upload::{self, Uploads},
    usage::{self, Samples},
};

/// Longest time for the body of a request.
const BODY_TIME: Duration = Duration::from_secs(20);
/// Longest time for an act: kube-apiserver gives up after 60 s.
const ACT_TIME: Duration = Duration::from_secs(55);

/// A body that is known, or that comes from a node.
pub type Body = Either<Full<Bytes>, Incoming>;

/// What requests are answered with.
pub struct State {
    /// The API server, as sheaf-controller.
    pub client: Client,
    /// Agents.
    pub nodes: Arc<Nodes>,
    /// What nodes and VMs use.
    pub samples: Arc<Samples>,
    /// Uploads through this replica.
    pub uploads: Uploads,
}

/// Answers.
pub async fn serve(
    state: Arc<State>,
    front: Arc<Front>,
    certificate: Option<Arc<[u8]>>,
    request: Request<Received>,
) -> Result<Response<Body>, Infallible> {
    // A client, not kube-apiserver; and an image takes its time.
    if upload::is_upload(request.uri().path()) {
        return Ok(known(upload::serve(&state, request).await));
    }
    let answer = async {
        match exports::is_ours(request.uri().path()) {
            // Who asks does not matter: the node that has the volume compares the token.
            true => exports::serve(&state, &request).await,
            false => answer(&state, &front, certificate.as_deref(), request).await.map(known),
        }
    };
    let answered = tokio::time::timeout(ACT_TIME, answer).await;
    let refused = Refusal::internal(format!("not done within {} s", ACT_TIME.as_secs()));
    Ok(answered.unwrap_or(Err(refused)).unwrap_or_else(|refusal| known(refusal.answer())))
}

/// An answer whose body is known.
pub fn known(answer: Answer) -> Response<Body> {
    answer.map(Either::Left)
}

async fn answer(
    state: &State,
    front: &Front,
    certificate: Option<&[u8]>,
    request: Request<Received>,
) -> Result<Answer, Refusal> {
    let path = request.uri().path().to_owned();
    let route = routes::route(request.method(), &path, request.uri().query().unwrap_or_default());
    if route == Some(Route::Healthz) {
        return Ok(answer::raw("\"ok\"".into()));
    }
    let user = front.user(certificate, request.headers()).ok_or_else(Refusal::unauthorized)?;
    let route = route.ok_or_else(|| Refusal {
        code: 404,
        reason: "NotFound",
        message: "the server could not find the requested resource".into(),
        about: None,
    })?;
    match route {
        Route::Healthz => Ok(answer::empty(StatusCode::OK)),
        Route::Resources(version) => Ok(answer::ok(&discovery::resources(version))),
        Route::Usage(route) => usage::serve(state, route, request.uri().query().unwrap_or_default()).await,
        Route::Upload(upload::Route::Resources) => Ok(answer::ok(&upload::resources())),
        Route::Upload(upload::Route::Token { namespace }) => {
            let body = body(request).await?;
            upload::token_for(state, &user, &namespace, &body).await
        }
        Route::Version => Ok(answer::ok(&discovery::version())),
        Route::NotImplemented(what) => Err(Refusal::not_implemented(&what)),
        Route::Expand { namespace } => {
            let body = body(request).await?;
            acts::expanded(state, &expand::read(&body, &namespace)?).await
        }
        Route::Vm(place, VmAct::ExpandSpec) => acts::expand(state, &place).await,
        Route::Vm(place, act) => {
            let body = body(request).await?;
            tracing::info!(user = user.name, namespace = place.namespace, vm = place.name, ?act, "asked");
            acts::on_vm(state, &place, act, &body).await
        }
        Route::Vmi(place, act) => {
            let body = body(request).await?;
            if !act.reads() {
                tracing::info!(
                    user = user.name,
                    namespace = place.namespace,
                    vmi = place.name,
                    ?act,
                    "asked"
                );
            }
            acts::on_vmi(state, &place, act, &body).await
        }
        Route::Volumes { place, of, adds } => {
            let body = body(request).await?;
            tracing::info!(
                user = user.name,
                namespace = place.namespace,
                name = place.name,
                ?of,
                adds,
                "asked for a change of volumes"
            );
            acts::on_volumes(state, &place, of, adds, &body).await
        }
        Route::Stream(place, stream) => {
            tracing::info!(user = user.name, namespace = place.namespace, vmi = place.name, ?stream, "asked");
            acts::stream(state, &place, &stream, request).await
        }
    }
}

async fn body(request: Request<Received>) -> Result<Vec<u8>, Refusal> {
    let collect = Limited::new(request.into_body(), MOST_BODY).collect();
    let collected = tokio::time::timeout(BODY_TIME, collect).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) => Err(Refusal::bad_request(format!("the body cannot be read: {error}"))),
        Err(_) => {
            Err(Refusal::bad_request(format!("the body did not come within {} s", BODY_TIME.as_secs())))
        }
    }
}
