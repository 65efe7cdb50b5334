//! The journal of this node, its node config without secrets, and its support bundle: what `kubectl get --raw
//! /api/v1/nodes/NODE/proxy/logs/...` reads.
//!
//! Why here: nobody logs in to a node, so what is wrong with it must be readable from elsewhere. Units by a kubelet's query
//! ([`query`]); files by their names, of which there are two. What comes of a program is sent as it comes, some blocks ahead. Route
//! in: the rest of the path, and a query. Route out: text, or an archive.

mod query;

use super::answer::{self, Answer, Refusal};
use super::serve::State;
use crate::reconcile::blocking;
use crate::support;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, HeaderValue};
use query::{Journal, Query};
use sheaf_host::libvirt::VmHost;
use sheaf_host::piped::Pipe;
use sheaf_host::run::RunError;
use std::io::{self, Read, Write};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes of a block.
const BLOCK: usize = 32 << 10;
/// Blocks that wait for a slow reader.
const AHEAD: usize = 4;
/// Logs and bundles that are sent at once, of all and of one user: each is a program that reads the journal.
const OF_ALL: usize = 8;
const OF_ONE: usize = 4;
/// The node config, its secrets masked.
const NODE_TOML: &str = "node.toml";
/// Everything that helps to find out what is wrong.
const SUPPORT_BUNDLE: &str = "support-bundle.tar.gz";

/// What of this node can be read.
pub type Places = sheaf_https::Places<String>;

/// Places of readers, by user.
pub fn places() -> Places {
    Places::new(OF_ALL, OF_ONE)
}

/// Answers `user`.
pub async fn serve<V: VmHost>(
    state: &Arc<State<V>>,
    user: &str,
    file: &str,
    query: &str,
) -> Result<Answer, Refusal> {
    let wanted = match file {
        "" => Query::parse(query)?,
        file => Query::File(file.to_owned()),
    };
    let place = || {
        let busy =
            |_| Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many logs are read at once; try again\n");
        state.readers.take(user.to_owned()).map_err(busy)
    };
    match wanted {
        Query::Listing => Ok(listing()),
        Query::File(file) if file == NODE_TOML => {
            let text = state.ctx.config.borrow().to_masked_toml();
            Ok(answer::text(StatusCode::OK, text.map_err(|error| Refusal::failed(&error))?))
        }
        Query::File(file) if file == SUPPORT_BUNDLE => Ok(bundle(state, place()?)),
        Query::File(file) => {
            let text = format!("there is no {file:?}; there are {NODE_TOML} and {SUPPORT_BUNDLE}\n");
            Err(Refusal::new(StatusCode::NOT_FOUND, text))
        }
        Query::Journal(journal) => lines(state.run.clone(), journal, place()?).await,
    }
}

/// The files, as a kubelet lists those of `/var/log`.
fn listing() -> Answer {
    let link = |name| format!("<a href=\"{name}\">{name}</a>\n");
    answer::page(format!("<!doctype html>\n<pre>\n{}{}</pre>\n", link(NODE_TOML), link(SUPPORT_BUNDLE)))
}

type Blocks = mpsc::Sender<io::Result<Bytes>>;
type Place = sheaf_https::Place<String>;

/// Lines of the journal. A program that fails before it printed anything is the answer.
async fn lines(run: Arc<dyn Pipe>, journal: Journal, place: Place) -> Result<Answer, Refusal> {
    let (first, rest) = blocking(move || {
        let mut rest = run.pipe(&journal.command())?;
        Ok((block(&mut *rest)?, rest))
    })
    .await
    .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")))?;
    Ok(sent("text/plain; charset=utf-8", place, move |send| {
        let mut rest = rest;
        let mut next = Ok(first);
        while let Ok(Some(bytes)) = next {
            if send.blocking_send(Ok(bytes)).is_err() {
                return Ok(());
            }
            next = block(&mut *rest);
        }
        next.map(drop)
    }))
}

/// What comes next of journalctl, at most a block; none at the end.
fn block(from: &mut dyn Read) -> io::Result<Option<Bytes>> {
    let mut block = vec![0; BLOCK];
    let length = match from.read(&mut block) {
        Ok(length) => length,
        Err(error) if is_no_match(&error) => 0,
        Err(error) => return Err(error),
    };
    block.truncate(length);
    Ok((length > 0).then(|| block.into()))
}

/// Whether a pattern matches nothing: journalctl(1) fails then, and says nothing.
fn is_no_match(error: &io::Error) -> bool {
    let failed = error.get_ref().and_then(|error| error.downcast_ref::<RunError>());
    matches!(failed, Some(RunError::Failed { code: Some(1), tail, .. }) if tail.is_empty())
}

/// The support bundle, as it is made.
fn bundle<V: VmHost>(state: &Arc<State<V>>, place: Place) -> Answer {
    let (paths, config) = (state.ctx.paths.clone(), state.ctx.config.borrow().clone());
    let run = state.run.clone();
    let mut answer = sent("application/gzip", place, move |send| {
        support::write(&*run, &paths, &config, Sender(send))?.flush()
    });
    let value = HeaderValue::from_static("attachment; filename=\"support-bundle.tar.gz\"");
    answer.headers_mut().insert(CONTENT_DISPOSITION, value);
    answer
}

/// What `work` sends. It is in a thread of its own; its failure cuts the body, so that what is missing is noticed.
fn sent(
    kind: &'static str,
    place: Place,
    work: impl FnOnce(&Blocks) -> io::Result<()> + Send + 'static,
) -> Answer {
    let (send, receive) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        if let Err(error) = work(&send) {
            tracing::warn!("what was read of this node broke off: {error}");
            let _ = send.blocking_send(Err(error));
        }
    });
    answer::streamed(kind, answer::received(receive))
}

/// Blocks, as something to write to.
struct Sender<'a>(&'a Blocks);

impl Write for Sender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let block = Bytes::copy_from_slice(&bytes[..bytes.len().min(BLOCK)]);
        let length = block.len();
        self.0.blocking_send(Ok(block)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
