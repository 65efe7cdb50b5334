//! `containerLogs`: the log of a VM's serial console.
//!
//! Why here: `kubectl logs` of a placeholder Pod shows what the guest wrote on its first serial port. Lines have no times:
//! the guest writes bytes, and QEMU appends them; so `since` and `timestamps` are refused instead of answered wrongly.
//! virtlogd renames the file when it is full; following goes on in the new one. Route in: Pod, container, query. Route out: a
//! text, streamed.

mod query;
mod tail;

use super::answer::{self, Answer, Refusal};
use super::routes::Container;
use super::serve::State;
use super::vm;
use crate::reconcile::blocking;
use bytes::Bytes;
use futures::StreamExt as _;
use http::StatusCode;
use query::LogQuery;
use sheaf_host::libvirt::VmHost;
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
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    if query.previous {
        let Container { pod, container, .. } = container;
        return Err(bad(format!("previous terminated container {container:?} in pod {pod:?} not found")));
    }
    let vm = vm::of_container(state, container).await?;
    let path = vm.folder.console_log();
    let (send, receive) = mpsc::channel(AHEAD);
    let tail = {
        let path = path.clone();
        blocking(move || Ok(Tail::open(path, query.tail)?)).await.map_err(|_| {
            let Container { pod, container, .. } = container;
            bad(format!("container {container:?} in pod {pod:?} has no log: its VM has no serial console"))
        })?
    };
    tokio::spawn(copy(tail, query, path, state.ctx.shutdown.clone(), send));
    Ok(answer::streamed("text/plain", answer::received(receive).map(Ok)))
}

/// What is written to the log at `path` from now on, until its VM ends.
pub async fn follow<V: VmHost>(state: &State<V>, path: PathBuf) -> Result<mpsc::Receiver<Bytes>, Refusal> {
    let (send, receive) = mpsc::channel(AHEAD);
    let opened = path.clone();
    let tail = blocking(move || Ok(Tail::open(opened, Some(0))?)).await;
    let tail = tail.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "this VM has no serial console"))?;
    let query = LogQuery { follow: true, ..LogQuery::default() };
    tokio::spawn(copy(tail, query, path, state.ctx.shutdown.clone(), send));
    Ok(receive)
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
