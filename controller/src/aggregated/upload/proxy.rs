//! The upload proxy: takes an image from a client and hands it on, as it comes, to the agent of the node that has the volume.
//!
//! Why here: clients reach a control-plane node, and need not reach every node. Nothing is kept on the way: the body of the
//! one request is the body of the other, so a slow disk slows the client, and memory is what two connections buffer. Both
//! paths of CDI's answer when the volume is filled and not before: the client is then told what is wrong with its
//! image. Route in: HEAD or POST with `Authorization: Bearer TOKEN`. Route out: CDI's statuses (400 without a token, 401, 503
//! while the claim takes nothing), or the agent's answer.

use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use k8s_openapi::{
    api::core::v1::{Node, PersistentVolumeClaim},
    jiff::Timestamp,
};
use kube::Api;
use sheaf_api::{
    names::UPLOAD_TARGET_ANNOTATION,
    storage::{LocalVolume, local_volume::VolumePhase},
};
use sheaf_https::Received;

use super::super::{
    answer::{self, Answer},
    node,
    serve::State,
};
use super::{MOST_UPLOADS, request::key, token::Target};
use crate::{
    object::chain,
    volumes::{annotation, local_volume, name_for},
};

/// Longest time for the checks before an image is taken.
const CHECK_TIME: Duration = Duration::from_secs(20);
/// Longest upload; CDI's.
const UPLOAD_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest answer of an agent.
const MOST_ANSWER: usize = 64 << 10;

/// Why nothing is taken: status and text.
#[derive(Debug, PartialEq, Eq)]
struct Refused(StatusCode, String);

impl Refused {
    /// The claim takes nothing now.
    fn unavailable(why: impl std::fmt::Display) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, why.to_string())
    }
}

/// Answers.
pub async fn serve(state: &State, request: Request<Received>) -> Answer {
    match tokio::time::timeout(UPLOAD_TIME, upload(state, request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(Refused(code, why))) => answer::text(code, why),
        Err(_) => answer::text(StatusCode::GATEWAY_TIMEOUT, "the upload took longer than a day"),
    }
}

async fn upload(state: &State, request: Request<Received>) -> Result<Answer, Refused> {
    let (head, body) = request.into_parts();
    let checked = tokio::time::timeout(CHECK_TIME, check(state, &head.headers)).await;
    let late = || Refused::unavailable("the API server does not answer; send the image again");
    let checked = checked.unwrap_or_else(|_| Err(late()));
    let bytes = body.size_hint().exact();
    let (target, volume, to) = match (checked, bytes, &head.method) {
        (Ok(_), _, &Method::HEAD) => return Ok(answer::empty(StatusCode::OK)),
        (Ok(checked), Some(_), &Method::POST) => checked,
        (Ok(_), None, &Method::POST) => {
            let why = "send Content-Length: a truncated image could not be detected without it";
            return Err(Refused(StatusCode::LENGTH_REQUIRED, why.into()));
        }
        (Ok(_), ..) => {
            let why = "send the image by POST";
            return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, why.into()));
        }
        (Err(refused), ..) => return Err(refused),
    };
    let Ok(_place) = state.uploads.places.clone().try_acquire_owned() else {
        let why = format!("{MOST_UPLOADS} uploads are under way; send the image again later");
        return Err(Refused::unavailable(why));
    };
    let Target { namespace, name, .. } = target;
    tracing::info!(namespace, claim = name, volume, bytes, "upload");
    let failed =
        |error: anyhow::Error| Refused(StatusCode::BAD_GATEWAY, format!("{error:#}; send the image again"));
    let answered = state.nodes.send(&to, &format!("/volumes/{volume}/upload"), body).await.map_err(failed)?;
    relayed(answered).await.map_err(failed)
}

/// The agent's answer, for the client.
async fn relayed(answered: Response<Incoming>) -> anyhow::Result<Answer> {
    let status = answered.status();
    let text = Limited::new(answered.into_body(), MOST_ANSWER).collect().await;
    let text = text.map_err(|error| anyhow::anyhow!("the node's answer: {error}"))?;
    Ok(answer::text(status, text.to_bytes()))
}

/// Whether the client may send, and where to: the claim, its volume, its node's agent.
async fn check(state: &State, headers: &HeaderMap) -> Result<(Target, String, node::Target), Refused> {
    let token = bearer(headers).ok_or_else(|| {
        Refused(StatusCode::BAD_REQUEST, "send Authorization: Bearer TOKEN, of an UploadTokenRequest".into())
    })?;
    let key = key(state).await.map_err(|refusal| Refused::unavailable(refusal.message))?;
    let target = key.verify(token, Timestamp::now()).ok_or_else(|| {
        let why = "the token is not valid, or older than 5 minutes; request another one";
        Refused(StatusCode::UNAUTHORIZED, why.into())
    })?;
    let unanswered = |error: kube::Error| Refused::unavailable(chain(&error));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(state.client.clone(), &target.namespace);
    let claim = claims.get_opt(&target.name).await.map_err(unanswered)?;
    let volume = match &claim {
        Some(claim) => {
            let volume = local_volume(&state.client, &name_for(claim)).await;
            volume.map_err(|error| Refused::unavailable(chain(&error)))?
        }
        None => None,
    };
    let volume = takes(&target, claim.as_ref(), volume.as_ref()).map_err(Refused::unavailable)?;
    let nodes: Api<Node> = Api::all(state.client.clone());
    let name = &volume.spec.node_name;
    let node = nodes.get_opt(name).await.map_err(unanswered)?;
    let node = node.ok_or_else(|| Refused::unavailable(format!("node {name} does not exist")))?;
    let to = node::Target::of(&node).map_err(Refused::unavailable)?;
    Ok((target, volume.metadata.name.clone().unwrap_or_default(), to))
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The volume of the claim that `target` means, if it takes an image now.
fn takes<'a>(
    target: &Target,
    claim: Option<&PersistentVolumeClaim>,
    volume: Option<&'a LocalVolume>,
) -> Result<&'a LocalVolume, String> {
    let name = &target.name;
    let claim = claim
        .filter(|claim| claim.metadata.uid.as_ref() == Some(&target.uid))
        .ok_or_else(|| format!("the claim {name} that the token is for does not exist any more"))?;
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("the claim {name} is being deleted"));
    }
    let is_target = annotation(claim, UPLOAD_TARGET_ANNOTATION).is_some();
    let Some(volume) = volume else {
        return Err(match is_target {
            true => format!("the claim {name} has no node yet; use it in a VM, or force its binding"),
            false => format!("the claim {name} takes no image; make a DataVolume with source upload"),
        });
    };
    if volume.spec.source.upload.is_none() {
        return Err(format!("the claim {name} takes no image; make a DataVolume with source upload"));
    }
    let status = volume.status.as_ref();
    if status.is_some_and(|status| status.size_bytes.is_some()) {
        return Err(format!("the claim {name} is filled already"));
    }
    if status.and_then(|status| status.phase) == Some(VolumePhase::Failed) {
        let message = volume.why().map(|(_, message)| message).unwrap_or_default();
        return Err(format!("the volume of the claim {name} failed: {message}"));
    }
    Ok(volume)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::volumes::testing::{GIB, UID, claim, in_phase, volume};

    fn target() -> Target {
        Target { namespace: "shop".into(), name: "disk".into(), uid: UID.into() }
    }

    fn asked() -> PersistentVolumeClaim {
        claim(json!({"annotations": {UPLOAD_TARGET_ANNOTATION: ""}}), json!({}))
    }

    fn unfilled() -> LocalVolume {
        let mut volume = in_phase(volume(&format!("pvc-{UID}"), "n1", GIB), "Populating", "Populating");
        volume.spec.source = serde_json::from_value(json!({"upload": {}})).unwrap();
        volume.status.as_mut().unwrap().size_bytes = None;
        volume
    }

    #[test]
    fn a_claim_whose_node_waits_takes_an_image() {
        let (claim, volume) = (asked(), unfilled());
        assert_eq!(takes(&target(), Some(&claim), Some(&volume)), Ok(&volume));
    }

    #[test]
    fn a_claim_that_is_gone_another_of_its_name_and_a_filled_one_take_none() {
        let volume = unfilled();
        let why = |claim: &PersistentVolumeClaim, volume| takes(&target(), Some(claim), volume).unwrap_err();
        let gone = "the claim disk that the token is for does not exist any more";
        assert_eq!(takes(&target(), None, None), Err(gone.into()));
        let mut later = asked();
        later.metadata.uid = Some("later".into());
        assert_eq!(why(&later, Some(&volume)), gone);
        let no_node = "the claim disk has no node yet; use it in a VM, or force its binding";
        assert_eq!(why(&asked(), None), no_node);
        let mut filled = volume.clone();
        filled.status.as_mut().unwrap().size_bytes = Some(GIB);
        assert_eq!(why(&asked(), Some(&filled)), "the claim disk is filled already");
        let mut blank = volume.clone();
        blank.spec.source = serde_json::from_value(json!({"blank": {}})).unwrap();
        let takes_none = "the claim disk takes no image; make a DataVolume with source upload";
        assert_eq!(why(&asked(), Some(&blank)), takes_none);
    }

    #[test]
    fn only_a_bearer_token_counts() {
        let of = |value: &'static str| {
            bearer(&HeaderMap::from_iter([(AUTHORIZATION, http::HeaderValue::from_static(value))]))
                .map(str::to_owned)
        };
        assert_eq!(of("Bearer a.b.c").as_deref(), Some("a.b.c"));
        assert_eq!(of("bearer a").as_deref(), Some("a"));
        assert_eq!((of("Basic a"), of("Bearer "), of("Bearer")), (None, None, None));
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
