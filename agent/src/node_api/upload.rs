//! An image that sheaf-controller hands on from a client, into a volume of this node.
//!
//! Why here: what comes over the network is no other kind of upload: it goes to the socket that programs on the node use, and
//! so has their bounds, their checks and their words ([`crate::volumes::upload`]). The body is copied as it comes; its length
//! is known, so that half of it is never taken for the whole. Route in: the name of a LocalVolume, a request with a body. Route
//! out: 200 once the volume is filled; 503 while it takes nothing, 500 for what was sent and is not taken, each with why.

use super::answer::{self, Answer, Refusal};
use super::serve::State;
use crate::volumes::upload::{Answer as Said, Hello};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use sheaf_host::libvirt::VmHost;
use sheaf_https::Received;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout_at};

/// Longest wait for the volume to take bytes.
const READY_TIME: Duration = Duration::from_secs(60);

/// Takes the image.
pub async fn serve<V: VmHost>(
    state: &Arc<State<V>>,
    volume: &str,
    request: Request<Received>,
) -> Result<Answer, Refusal> {
    let mut body = request.into_body();
    let bytes = body.size_hint().exact().ok_or_else(|| {
        let why = "send Content-Length: a truncated image could not be detected without it";
        Refusal::new(StatusCode::LENGTH_REQUIRED, why)
    })?;
    let hello = Hello { into: volume.to_owned(), bytes: Some(bytes), sha256: None };
    let (mut answers, mut sink) = open(state, &hello).await.map_err(|error| unavailable(&error))?;
    go(&mut answers).await?;
    let sent = tokio::select! {
        sent = copy(&mut body, &mut sink) => sent,
        // It is refused before it is there: why, is the answer.
        end = end(&mut answers) => return end,
    };
    match sent {
        // The agent has given up, and said why.
        Ok(()) | Err(Broken::Volume) => {}
        Err(Broken::Client(error)) => {
            let why = format!("the image did not come whole: {error}; send it again");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, why));
        }
    }
    // That nothing follows is known by the length, too.
    let _ = sink.shutdown().await;
    end(&mut answers).await
}

type Answers = Lines<BufReader<OwnedReadHalf>>;

async fn open<V: VmHost>(state: &State<V>, hello: &Hello) -> io::Result<(Answers, OwnedWriteHalf)> {
    let stream = UnixStream::connect(state.ctx.paths.uploads()).await?;
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_vec(hello)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    Ok((BufReader::new(read).lines(), write))
}

fn unavailable(error: &io::Error) -> Refusal {
    let why = format!("the agent of this node takes no images now: {error}; send the image again");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)
}

/// The next answer.
async fn next(answers: &mut Answers) -> io::Result<Said> {
    let line = answers.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_str(&line)?)
}

/// Waits until the volume takes bytes.
async fn go(answers: &mut Answers) -> Result<(), Refusal> {
    let (until, mut waits) = (Instant::now() + READY_TIME, String::from("it is being made"));
    loop {
        match timeout_at(until, next(answers)).await {
            Ok(Ok(Said::Wait(what))) => waits = what,
            Ok(Ok(Said::Go)) => return Ok(()),
            Ok(Ok(Said::Refused(why))) => return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)),
            Ok(Ok(Said::Done)) => return Err(unavailable(&io::ErrorKind::InvalidData.into())),
            Ok(Err(error)) => return Err(unavailable(&error)),
            Err(_) => {
                let why = format!(
                    "the volume took no image within {} s: {waits}; send the image again",
                    READY_TIME.as_secs()
                );
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why));
            }
        }
    }
}

/// How the upload ended.
async fn end(answers: &mut Answers) -> Result<Answer, Refusal> {
    loop {
        match next(answers).await {
            Ok(Said::Wait(_) | Said::Go) => {}
            Ok(Said::Done) => return Ok(answer::done()),
            Ok(Said::Refused(why)) => return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why)),
            Err(error) => {
                let why = format!("the agent stopped during the upload: {error}; send the image again");
                return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why));
            }
        }
    }
}

/// Why not all was sent.
enum Broken {
    /// The client is gone, or sends something else than it announced.
    Client(hyper::Error),
    /// The volume takes no more.
    Volume,
}

async fn copy(body: &mut Received, sink: &mut OwnedWriteHalf) -> Result<(), Broken> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Broken::Client)?;
        if let Some(data) = frame.data_ref() {
            sink.write_all(data).await.map_err(|_| Broken::Volume)?;
        }
    }
    Ok(())
}
