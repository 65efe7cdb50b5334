//! An image from a browser into a volume: the body of the browser's request becomes the body of a request to the upload proxy of
//! sheaf-controller, as it comes.
//!
//! Why here: a browser cannot reach the proxy ([`crate::controllers`]). The user's own rights decide: the token for the volume is
//! asked of the API server as the user, at the moment when it is needed, and never reaches the browser. Nothing is kept, unpacked or
//! looked into: one piece of the body is in memory, and the next is read when it is taken. The length is announced and is what
//! arrives, so that half an image is never taken for a whole one. An upload ends with the session, with a connection over which nothing
//! moves, and with the refusal of the node, whose words are the answer. Route in: `POST /console/upload/PROJECT/VOLUME`. Route
//! out: 204 once the volume is filled.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use serde_json::json;
use sheaf_https::{Full, Places};
use tokio::sync::mpsc;

use crate::{
    answer::{self, Answer, Refusal},
    body,
    caller::Caller,
    controllers,
    pieces::{Ended, STALL_TIME, hand_on},
    serve::{RequestBody, State},
    streams::until_invalid,
    upstream::As,
};

/// Longest time from the last byte to the answer: the node converts a qcow2 image then.
const FILL_TIME: Duration = Duration::from_secs(2 * 60 * 60);
/// Most bytes of one image. The node's own bound, by the size of the volume, is smaller.
const MOST: u64 = 16 << 40;
/// Uploads at once of one user, and of all.
const OF_ONE: usize = 4;
const OF_ALL: usize = 16;
/// Most bytes of a refusal.
const MOST_ANSWER: usize = 64 << 10;

/// The volume that takes the image: a claim, which has the name of its DataVolume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its namespace.
    pub project: String,
    /// Its name.
    pub name: String,
}

/// Places of uploads, by user.
pub fn places() -> Places<String> {
    Places::new(OF_ALL, OF_ONE)
}

fn busy(full: Full) -> Refusal {
    match full {
        Full::All => Refusal::unavailable(format!("{OF_ALL} uploads are under way; try again later")),
        Full::OfOne => Refusal::conflict(format!(
            "{OF_ONE} uploads of yours are under way; wait until one has ended, or cancel it"
        )),
    }
}

/// Takes the image.
pub async fn upload<B: RequestBody>(
    state: &Arc<State>,
    caller: &Caller,
    volume: &Volume,
    headers: &HeaderMap,
    body: B,
) -> Result<Answer, Refusal> {
    let bytes = length(headers)?;
    let _place = state.uploads.take(caller.user.to_string()).map_err(busy)?;
    tracing::info!(user = %caller.user, project = volume.project, volume = volume.name, bytes, "upload");
    let token = token(state, caller, volume).await?;
    let stream = state.controllers.connect().await?;
    let (sender, receiver) = mpsc::channel(1);
    let mut pump = tokio::spawn(async move {
        // What is left of the body when the sender is dropped is missing, which its length shows.
        let ended = hand_on(&mut Box::pin(body), &sender).await;
        // Kept until it is known why: its end ends the request to sheaf-controller.
        (ended, sender)
    });
    let asked = controllers::send(stream, request(&token, bytes, receiver)?);
    let answered = tokio::select! {
        answered = asked => answered?,
        refusal = broken(&mut pump) => return Err(refusal),
        () = until_invalid(state, caller) => {
            return Err(Refusal::unauthorized("the session has ended, and the upload with it; log in and send the image again"));
        }
    };
    let code = answered.status();
    if code == StatusCode::OK {
        return Ok(answer::empty());
    }
    let text = body::bytes(answered.into_body(), MOST_ANSWER).await?;
    Err(refused(code, String::from_utf8_lossy(&text).trim()))
}

/// The announced length. Nothing is unpacked here, and nothing else than the file is sent.
fn length(headers: &HeaderMap) -> Result<u64, Refusal> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if headers.contains_key(header::CONTENT_ENCODING)
        || text(header::CONTENT_TYPE) != Some("application/octet-stream")
    {
        return Err(Refusal::bad_request("send the file as it is, as application/octet-stream"));
    }
    let bytes = text(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    let bytes = bytes.filter(|_| !headers.contains_key(header::TRANSFER_ENCODING)).ok_or_else(|| {
        Refusal::bad_request("send Content-Length: a truncated image could not be detected without it")
    })?;
    match bytes {
        0 => Err(Refusal::invalid("the file is empty; choose another one")),
        1..=MOST => Ok(bytes),
        _ => Err(Refusal::too_large(format!("an image has at most {} TiB", MOST >> 40))),
    }
}

/// The token for the volume, if the user may have it.
async fn token(state: &State, caller: &Caller, volume: &Volume) -> Result<String, Refusal> {
    let path =
        format!("/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/{}/uploadtokenrequests", volume.project);
    let request = json!({"apiVersion": "upload.cdi.kubevirt.io/v1beta1", "kind": "UploadTokenRequest",
                         "metadata": {"name": volume.name, "namespace": volume.project}, "spec": {"pvcName": volume.name}});
    let made = state.upstream.json(&As::caller(caller), Method::POST, &path, Some(&request)).await?;
    let token = made["status"]["token"].as_str();
    token
        .map(str::to_owned)
        .ok_or_else(|| Refusal::unavailable("sheaf-controller gave no token for the upload; try again"))
}

fn request(token: &str, bytes: u64, pieces: mpsc::Receiver<Bytes>) -> Result<Request<Sending>, Refusal> {
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(Refusal::internal)?;
    Request::builder()
        .method(Method::POST)
        .uri("/v1beta1/upload")
        .header(header::AUTHORIZATION, bearer)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(Sending { pieces, left: bytes })
        .map_err(Refusal::internal)
}

/// The upload proxy's refusal, with a status that means the same to the browser.
fn refused(code: StatusCode, text: &str) -> Refusal {
    match code {
        // What was sent is not taken: no image, too large, another checksum.
        StatusCode::INTERNAL_SERVER_ERROR => Refusal::invalid(text),
        StatusCode::SERVICE_UNAVAILABLE => Refusal::conflict(text),
        // Not 401: that is the session's. The token was made a moment ago.
        _ => Refusal::unavailable(format!("sheaf-controller refuses the upload: {text}")),
    }
}

/// Returns when the upload cannot succeed any more, with why.
async fn broken(pump: &mut tokio::task::JoinHandle<(Ended, mpsc::Sender<Bytes>)>) -> Refusal {
    let seconds = STALL_TIME.as_secs();
    let Ok((ended, sender)) = pump.await else {
        return Refusal::internal("the upload stopped; read the log of sheaf-console");
    };
    match ended {
        Ended::Whole => {
            drop(sender);
            tokio::time::sleep(FILL_TIME).await; // the longest time for an answer
            Refusal::unavailable(format!(
                "the node did not fill the volume within {} h",
                FILL_TIME.as_secs() / 3600
            ))
        }
        // The answer that made it unwanted comes.
        Ended::Unwanted => std::future::pending().await,
        Ended::Broken(error) => {
            Refusal::bad_request(format!("the image did not come whole: {error}; send it again"))
        }
        Ended::Silent => {
            Refusal::bad_request(format!("the browser sent nothing for {seconds} s; send the image again"))
        }
        Ended::Stalled => {
            Refusal::unavailable(format!("the node took nothing for {seconds} s; send the image again"))
        }
    }
}

/// The body of the request to the upload proxy.
struct Sending {
    pieces: mpsc::Receiver<Bytes>,
    left: u64,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.pieces.poll_recv(context).map(|piece| {
            let piece = piece?;
            self.left = self.left.saturating_sub(piece.len() as u64);
            Some(Ok(Frame::data(piece)))
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests;
