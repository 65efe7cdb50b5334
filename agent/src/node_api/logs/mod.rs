//! `containerLogs`: the log of a VM's serial console.
//!
//! Why here: `kubectl logs` of a placeholder Pod shows what the guest wrote on its first serial port. Lines have no times:
//! the guest writes bytes, and QEMU appends them; so `since` and `timestamps` are refused instead of answered wrongly.
//! virtlogd renames the file when it is full; following goes on in the new one. Route in: Pod, container, query. Route out: a
//! text, streamed.

mod query;
mod tail;

use super::answer::{Answer, Refusal};
use super::routes::Container;
use super::serve::State;
use super::vm;
use crate::reconcile::blocking;
use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Pod;
use query::LogQuery;
use sheaf_api::names::CREATED_BY_LABEL;
use sheaf_host::libvirt::VmHost;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tail::Tail;
use tokio::sync::mpsc;

/// Between two looks for more, while it is followed.
const FOLLOW: Duration = Duration::from_millis(500);
/// Blocks that wait for a slow reader.
const AHEAD: usize = 4;

/// Answers with the log.
pub async fn serve<V: VmHost>(
    state: &Arc<State<V>>,
    container: &Container,
    query: &str,
) -> Result<Answer, Refusal> {
    let query = LogQuery::parse(query)?;
    let Container { namespace, pod: name, container } = container;
    let missing = || Refusal::new(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
    let pod = find(state, namespace, name).ok_or_else(missing)?;
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    if !containers.iter().any(|one| one.name == *container) {
        let text = format!("container {container:?} not found in pod {name:?}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, text));
    }
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    if query.previous {
        return Err(bad(format!("previous terminated container {container:?} in pod {name:?} not found")));
    }
    let uid =
        pod.metadata.labels.as_ref().and_then(|labels| labels.get(CREATED_BY_LABEL)).ok_or_else(missing)?;
    let waiting =
        || bad(format!("container {container:?} in pod {name:?} is waiting to start: ContainerCreating"));
    let vm = vm::find(state, uid).await.map_err(|_| waiting())?;
    let path = vm.folder.console_log();
    let (send, receive) = mpsc::channel(AHEAD);
    let tail = {
        let path = path.clone();
        blocking(move || Ok(Tail::open(path, query.tail)?)).await.map_err(|_| {
            bad(format!("container {container:?} in pod {name:?} has no log: its VM has no serial console"))
        })?
    };
    tokio::spawn(copy(tail, query, path, state.ctx.shutdown.clone(), send));
    let frames = stream::unfold(receive, |mut receive| async {
        let bytes: Bytes = receive.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), receive))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// Sends the log until its end, the limit, or the reader's end; with `follow` until the VM's end.
async fn copy(
    mut tail: Tail,
    query: LogQuery,
    path: PathBuf,
    mut shutdown: crate::channels::Shutdown,
    send: mpsc::Sender<Bytes>,
) {
    let mut left = query.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let Ok((returned, block)) = blocking(move || {
            let block = tail.next();
            Ok((tail, block))
        })
        .await
        else {
            return;
        };
        tail = returned;
        match block {
            Ok(Some(mut block)) => {
                block.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                left = left.saturating_sub(block.len() as u64);
                if send.send(block.into()).await.is_err() {
                    return;
                }
            }
            // Its folder goes with its VM.
            Ok(None) if query.follow && path.exists() => tokio::select! {
                () = tokio::time::sleep(FOLLOW) => {}
                () = send.closed() => return,
                () = shutdown.requested() => return,
            },
            Ok(None) | Err(_) => return,
        }
    }
}

fn find<V: VmHost>(state: &State<V>, namespace: &str, name: &str) -> Option<Arc<Pod>> {
    let listed = state.pods.borrow();
    let is = |pod: &&Arc<Pod>| {
        pod.metadata.name.as_deref() == Some(name) && pod.metadata.namespace.as_deref() == Some(namespace)
    };
    listed.objects.values().find(is).cloned()
}
