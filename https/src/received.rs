//! The body of a request, of which nothing is left in the connection.
//!
//! Why here: a client that is refused in the middle of what it sends must read why. A connection that is closed over bytes that nobody has
//! read is reset, and the answer is lost with it (RFC 9112 §9.6); browsers and curl then say that the network failed. So what
//! a handler leaves is read and dropped for a moment after its answer. Route in: hyper's body. Route out: the same, to handlers.

use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Longest time in which what is left of a body is read; what a client sends after it, resets the connection.
const REST_TIME: Duration = Duration::from_secs(5);

/// A request's body.
#[derive(Debug)]
pub struct Received(
    /// None once it is dropped.
    Option<Incoming>,
);

impl Received {
    /// Of a request.
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let Some(mut rest) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // Outside the runtime, at its end, there is no connection any more.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(REST_TIME, async move {
            while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut rest).poll_frame(context)).await {}
        }));
    }
}
