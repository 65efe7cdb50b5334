//! Volumes of exports: their bytes, for sheaf-controller to relay to clients that have an export's token.
//!
//! Why here: the node has the volume, and reads the token itself: the Node authorizer permits it while the exporter Pod, which
//! names Secret and volumes, is bound to this node (docs/decisions/0030). A download ends when the Pod goes, because the export
//! was deleted, is over, or its VM starts; when the volume is being deleted; when a newer download of it begins; and when
//! somebody has written the volume ([`reader`]), so that no download ever mixes two states. It is then cut, never ended as if
//! it were complete. Route in: UID of an exporter Pod, a token, a [`Part`]. Route out: a body, read as fast as it is taken.

mod places;
mod reader;

use super::answer::{self, Answer, Refusal};
use super::routes::Part;
use super::serve::State;
use super::streams::sessions::{Kind, Session};
use crate::channels::{Shutdown, Volumes};
use crate::listed::Listed;
use crate::reconcile::blocking;
use crate::vms::admission;
use bytes::Bytes;
use futures::stream;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::Api;
use reader::{ReadError, Reader};
use sha2::{Digest as _, Sha256};
use sheaf_api::names::EXPORT_ANNOTATION;
use sheaf_api::vm_export::{ExportedVolumes, TOKEN_HEADER, TOKEN_KEY};
use sheaf_host::libvirt::VmHost;
use sheaf_https::Place;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

pub use places::places;

/// Longest wait for an exporter Pod that the API server has and this node has not seen yet.
const LISTED_TIME: Duration = Duration::from_secs(5);
/// Blocks that wait for a slow reader.
const AHEAD: usize = 1;

/// An export whose token was sent.
pub struct Export {
    pod: Arc<Pod>,
    uid: String,
    exported: ExportedVolumes,
}

impl Export {
    /// `namespace/name` of its Pod.
    pub fn name(&self) -> String {
        format!("{}/{}", self.namespace(), self.pod.name_any())
    }

    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }
}

/// What a Pod lets this node hand out.
fn exported(pod: &Pod) -> Option<ExportedVolumes> {
    let is_live = admission::is_exporter(pod) && pod.metadata.deletion_timestamp.is_none();
    let text = pod.annotations().get(EXPORT_ANNOTATION).filter(|_| is_live)?;
    serde_json::from_str(text).ok()
}

/// The export of the Pod `uid`, if `headers` have its token.
pub async fn find<V: VmHost>(state: &State<V>, uid: &str, headers: &HeaderMap) -> Result<Export, Refusal> {
    let sent = headers.get(TOKEN_HEADER).ok_or_else(unauthorized)?;
    let mut pods = state.pods.subscribe();
    let is_listed = pods.wait_for(|listed| listed.objects.contains_key(uid));
    let found = tokio::time::timeout(LISTED_TIME, is_listed).await;
    let pod = found.ok().and_then(Result::ok).and_then(|listed| listed.objects.get(uid).cloned());
    let gone = || Refusal::new(StatusCode::NOT_FOUND, format!("no export of Pod {uid} is on this node"));
    let pod = pod.ok_or_else(gone)?;
    let exported =
        exported(&pod).filter(|exported| exported.expires.0 > Timestamp::now()).ok_or_else(gone)?;
    let export = Export { pod, uid: uid.to_owned(), exported };
    let (namespace, name) = (export.namespace(), export.exported.secret.clone());
    let get = |joined: crate::api_server::Joined| async move {
        Api::<Secret>::namespaced(joined.client, &namespace).get_opt(&name).await
    };
    let secret = state.kube.request(get).await.map_err(|error| {
        tracing::warn!(pod = export.name(), "the token of an export cannot be read: {error}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the token of the export cannot be read")
    })?;
    let token = secret.and_then(|secret| secret.data?.remove(TOKEN_KEY)).ok_or_else(unauthorized)?;
    if is_same(&token.0, sent.as_bytes()) { Ok(export) } else { Err(unauthorized()) }
}

fn unauthorized() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized\n")
}

/// Whether the token is the one that was sent. Hashes are compared, so that the time tells nothing about the token.
fn is_same(token: &[u8], sent: &[u8]) -> bool {
    !token.is_empty() && Sha256::digest(token) == Sha256::digest(sent)
}

/// Answers with the bytes.
pub async fn serve<V: VmHost>(state: &State<V>, export: &Export, part: Part) -> Result<Answer, Refusal> {
    let named = export.exported.volumes.iter().any(|volume| volume.volume == part.volume);
    let usable = state.ctx.volumes.borrow().as_ref().and_then(|all| all.get(&part.volume).cloned());
    let usable = usable.filter(|_| named).ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, format!("volume {} is not of this export", part.volume))
    })?;
    if !usable.readable {
        let why = usable.problem.unwrap_or_else(|| "it is being deleted".into());
        return Err(Refusal::new(StatusCode::CONFLICT, format!("volume {}: {why}", part.volume)));
    }
    let is_within =
        part.bytes > 0 && part.from.checked_add(part.bytes).is_some_and(|end| end <= usable.bytes);
    if !is_within {
        let text = format!("volume {} has {} bytes", part.volume, usable.bytes);
        return Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, text));
    }
    let session = state.sessions.take(&part.volume, Kind::Export, false).await.map_err(|_| {
        let text =
            "another download of this volume was started at the same time, or the former one does not end";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{text}; try again"))
    })?;
    let place = state.downloads.take(export.namespace()).map_err(|_| {
        let text = "as many volumes as may be are being downloaded from this node; try again later";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    let (device, wanted) = (usable.device, part.clone());
    let opened = blocking(move || Ok(Reader::open(&device, wanted.from, wanted.bytes, wanted.packed)));
    let reader = opened.await.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    let reader = reader.map_err(|error| Refusal::failed(&error))?;
    let allowed = Allowed {
        name: export.name(),
        pod: export.uid.clone(),
        pods: state.pods.subscribe(),
        left: Duration::try_from(export.exported.expires.0.duration_since(Timestamp::now()))
            .unwrap_or_default(),
        volume: part.volume.clone(),
        volumes: state.ctx.volumes.clone(),
        shutdown: state.ctx.shutdown.clone(),
        _place: place,
        session,
    };
    let (send, receive) = mpsc::channel(AHEAD);
    tokio::spawn(copy(reader, allowed, send));
    let blocks = stream::unfold(Some(receive), |receive| async {
        let mut receive = receive?;
        match receive.recv().await {
            Some(Some(bytes)) => Some((Ok(bytes), Some(receive))),
            Some(None) => None,
            // Not said to be complete: the connection is cut.
            None => Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None)),
        }
    });
    let kind = if part.packed { "application/gzip" } else { "application/octet-stream" };
    let mut response = answer::streamed(kind, blocks);
    if !part.packed {
        response.headers_mut().insert(CONTENT_LENGTH, part.bytes.into());
    }
    Ok(response)
}

/// What a download goes on with, and what ends it.
struct Allowed {
    name: String,
    pod: String,
    pods: watch::Receiver<Listed<Pod>>,
    left: Duration,
    volume: String,
    volumes: watch::Receiver<Volumes>,
    shutdown: Shutdown,
    _place: Place<String>,
    session: Session,
}

impl Allowed {
    /// Returns when it is over, with why.
    async fn ended(&mut self) -> &'static str {
        let (pod, volume) = (&self.pod, &self.volume);
        let is_gone = |listed: &Listed<Pod>| listed.objects.get(pod).and_then(|pod| exported(pod)).is_none();
        let is_going = |volumes: &Volumes| {
            !volumes.as_ref().and_then(|all| all.get(volume)).is_some_and(|volume| volume.readable)
        };
        tokio::select! {
            _ = self.pods.wait_for(is_gone) => "the export was deleted, or its volume is used",
            _ = self.volumes.wait_for(is_going) => "the volume is being deleted",
            () = tokio::time::sleep(self.left) => "the time of the export is over",
            () = self.session.displaced() => "a newer download of the volume has begun",
            () = self.shutdown.requested() => "the agent ends",
        }
    }
}

/// Sends blocks until the last one, and then that it is complete.
async fn copy(reader: Reader, mut allowed: Allowed, send: mpsc::Sender<Option<Bytes>>) {
    let (name, volume) = (allowed.name.clone(), allowed.volume.clone());
    let why = tokio::select! {
        sent = blocks(reader, &send) => match sent {
            Ok(()) => return tracing::info!(pod = name, volume, "export: sent"),
            Err(error) => format!("{error:#}"),
        },
        why = allowed.ended() => why.to_owned(),
    };
    tracing::warn!(pod = name, volume, "export: cut: {why}");
}

async fn blocks(mut reader: Reader, send: &mpsc::Sender<Option<Bytes>>) -> anyhow::Result<()> {
    loop {
        let next = blocking(move || {
            let block = reader.next();
            Ok((reader, block))
        });
        let (returned, block): (Reader, Result<Option<Bytes>, ReadError>) = next.await?;
        reader = returned;
        let block = block?;
        let is_last = block.is_none();
        // The client is gone.
        anyhow::ensure!(send.send(block).await.is_ok(), "the client ended it");
        if is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
