//! A disk out of the cluster, for a browser: a volume of a VirtualMachineExport, as the node reads it.
//!
//! Why here: the links of an export lead to a port and a certificate that a browser does not reach ([`crate::controllers`]), and a browser
//! that saves a file can send no token. The console reads export and token **as the user**: who may not read the Secret gets no
//! disk. Bytes are handed on one piece at a time. What breaks off is cut, never ended, so that half a disk is not taken for a whole one;
//! a browser resumes a raw disk by `Range`. It ends with the session, and when nothing moves. Route in: `GET
//! /console/download/PROJECT/EXPORT/VOLUME/disk.img[.gz]`. Route out: a file.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty};
use serde_json::Value;
use sheaf_api::vm_export::{GROUP, LATER_VERSION, TOKEN_HEADER, TOKEN_KEY};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    answer::{Answer, Refusal},
    body,
    caller::Caller,
    controllers,
    pieces::{Ended, STALL_TIME, hand_on},
    serve::State,
    streams::until_invalid,
    upstream::As,
};

/// Downloads at once. A node reads 8 volumes at once, 4 of one namespace.
const MOST: usize = 16;
/// Most bytes of a refusal.
const MOST_ANSWER: usize = 64 << 10;
/// Headers of a browser that are handed on: it resumes.
const ASKED: [HeaderName; 2] = [header::RANGE, header::IF_RANGE];
/// Headers of the answer that are handed back.
const ANSWERED: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::ACCEPT_RANGES,
    header::ETAG,
];

/// What is downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its namespace.
    pub project: String,
    /// The VirtualMachineExport.
    pub export: String,
    /// The volume, as the export names it.
    pub volume: String,
    /// How.
    pub format: Format,
}

/// What the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// The same by gzip.
    Gzip,
}

impl Format {
    /// That of a file's name.
    pub fn of(file: &str) -> Option<Self> {
        [Self::Raw, Self::Gzip].into_iter().find(|format| format.file() == file)
    }

    fn file(self) -> &'static str {
        match self {
            Self::Raw => "disk.img",
            Self::Gzip => "disk.img.gz",
        }
    }
}

/// Places of downloads.
#[derive(Clone)]
pub struct Downloads(Arc<Semaphore>);

impl Default for Downloads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

/// Answers with the disk.
pub async fn download(
    state: &Arc<State>,
    caller: Caller,
    wanted: &Wanted,
    headers: &HeaderMap,
) -> Result<Answer, Refusal> {
    let busy = |_| Refusal::unavailable(format!("{MOST} downloads are under way; try again later"));
    let place = state.downloads.0.clone().try_acquire_owned().map_err(busy)?;
    let token = token(state, &caller, wanted).await?;
    tracing::info!(user = %caller.user, project = wanted.project, export = wanted.export, volume = wanted.volume, "download");
    let stream = state.controllers.connect().await?;
    let sent = controllers::send(stream, request(wanted, token, headers)?);
    let late = |_| Refusal::unavailable(format!("the node did not answer within {} s", STALL_TIME.as_secs()));
    let answered = tokio::time::timeout(STALL_TIME, sent).await.map_err(late)??;
    let code = answered.status();
    if !matches!(code, StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) {
        let text = body::bytes(answered.into_body(), MOST_ANSWER).await?;
        return Err(refused(code, &text));
    }
    let (parts, body) = answered.into_parts();
    let (sender, pieces) = mpsc::channel(1);
    let whole = Arc::new(AtomicBool::new(false));
    tokio::spawn(pump(state.clone(), caller, body, sender, whole.clone(), place));
    let mut answer = Response::new(Receiving { pieces, whole }.boxed_unsync());
    *answer.status_mut() = code;
    for name in ANSWERED {
        if let Some(value) = parts.headers.get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer.headers_mut().insert(header::CONTENT_DISPOSITION, attachment(wanted)?);
    Ok(answer)
}

/// The token of the export, if the user may read it.
async fn token(state: &State, caller: &Caller, wanted: &Wanted) -> Result<HeaderValue, Refusal> {
    let Wanted { project, export, .. } = wanted;
    let read = async |path: String| state.upstream.json(&As::caller(caller), Method::GET, &path, None).await;
    let found: Value =
        read(format!("/apis/{GROUP}/v1beta1/namespaces/{project}/virtualmachineexports/{export}")).await?;
    let status = &found["status"];
    let secret =
        status["tokenSecretRef"].as_str().filter(|_| status["phase"] == "Ready").ok_or_else(|| {
            let ready =
                status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "Ready");
            let why = ready.and_then(|one| one["message"].as_str()).unwrap_or("it is being prepared");
            Refusal::conflict(format!("the export {export} is not ready: {why}"))
        })?;
    let secret: Value = read(format!("/api/v1/namespaces/{project}/secrets/{secret}")).await?;
    let token = secret["data"][TOKEN_KEY].as_str().unwrap_or_default();
    let token = base64::engine::general_purpose::STANDARD.decode(token).unwrap_or_default();
    let mut token = HeaderValue::from_bytes(&token).map_err(Refusal::internal)?;
    token.set_sensitive(true);
    Ok(token)
}

fn request(
    wanted: &Wanted,
    token: HeaderValue,
    headers: &HeaderMap,
) -> Result<Request<Empty<Bytes>>, Refusal> {
    let Wanted { project, export, volume, format } = wanted;
    let file = format.file();
    let path = format!(
        "/api/{GROUP}/{LATER_VERSION}/namespaces/{project}/virtualmachineexports/{export}/volumes/{volume}/{file}"
    );
    let mut request = Request::builder().uri(path).header(TOKEN_HEADER, token);
    for name in ASKED {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value.clone());
        }
    }
    request.body(Empty::new()).map_err(Refusal::internal)
}

/// It is saved as `VOLUME.img`, never shown.
fn attachment(wanted: &Wanted) -> Result<HeaderValue, Refusal> {
    let end = wanted.format.file().trim_start_matches("disk");
    HeaderValue::from_str(&format!("attachment; filename=\"{}{end}\"", wanted.volume))
        .map_err(Refusal::internal)
}

/// sheaf-controller's refusal: a `Status`.
fn refused(code: StatusCode, text: &[u8]) -> Refusal {
    let status: Value = serde_json::from_slice(text).unwrap_or_default();
    let message = status["message"].as_str().unwrap_or("sheaf-controller refuses the download");
    match code.as_u16() {
        // Not 401: that is the session's.
        401 => Refusal::conflict("the token of the export does not fit; make another export"),
        code @ (404 | 409 | 429) => Refusal::of_api(code, message),
        _ => Refusal::unavailable(message),
    }
}

/// Hands the disk on, until it is whole or nothing moves or the session has ended.
async fn pump<B>(
    state: Arc<State>,
    caller: Caller,
    body: B,
    sender: mpsc::Sender<Bytes>,
    whole: Arc<AtomicBool>,
    _place: OwnedSemaphorePermit,
) where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let mut body = Box::pin(body);
    let seconds = STALL_TIME.as_secs();
    let cut = tokio::select! {
        ended = hand_on(&mut body, &sender) => match ended {
            Ended::Whole => return whole.store(true, Ordering::Release),
            Ended::Unwanted => "the browser is gone".to_owned(),
            Ended::Broken(error) => format!("the node broke off: {error}"),
            Ended::Silent => format!("the node sent nothing for {seconds} s"),
            Ended::Stalled => format!("the browser took nothing for {seconds} s"),
        },
        () = until_invalid(&state, &caller) => "the session has ended".to_owned(),
    };
    tracing::info!(user = %caller.user, "a download was cut: {cut}");
}

/// The body of the answer. Its end is an error unless all came.
struct Receiving {
    pieces: mpsc::Receiver<Bytes>,
    whole: Arc<AtomicBool>,
}

impl Body for Receiving {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.pieces.poll_recv(context).map(|piece| match piece {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None if self.whole.load(Ordering::Acquire) => None,
            None => Some(Err("the download was cut".into())),
        })
    }
}

#[cfg(test)]
mod tests;
