//! Answers of the node's API: texts, as a kubelet's, and JSON.
//!
//! Route in: what came of a request. Route out: a response whose body may be a stream.

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use tokio::sync::mpsc;

/// A response. A body that fails cuts the connection, so that what is missing is noticed.
pub type Answer = Response<BoxBody<Bytes, io::Error>>;

/// Why a request is refused: status and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub StatusCode, pub String);

impl Refusal {
    /// Of this status, with this text.
    pub fn new(code: StatusCode, text: impl Display) -> Self {
        Self(code, text.to_string())
    }

    /// Something on this node did not work: every cause is in the text, which an administrator reads.
    pub fn failed(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// The response.
    pub fn answer(self) -> Answer {
        text(self.0, self.1)
    }
}

/// A text.
pub fn text(code: StatusCode, text: impl Into<Bytes>) -> Answer {
    of_type(code, text.into(), "text/plain; charset=utf-8")
}

/// JSON.
pub fn json(value: &Value) -> Answer {
    of_type(StatusCode::OK, value.to_string().into(), "application/json")
}

/// Prometheus' text format.
pub fn metrics(page: String) -> Answer {
    of_type(StatusCode::OK, page.into(), "text/plain; version=0.0.4; charset=utf-8")
}

/// A page for a browser.
pub fn page(text: String) -> Answer {
    of_type(StatusCode::OK, text.into(), "text/html; charset=utf-8")
}

/// A PNG.
pub fn picture(file: Vec<u8>) -> Answer {
    of_type(StatusCode::OK, file.into(), "image/png")
}

/// What comes, as it comes. An error cuts the body.
pub fn streamed(
    kind: &'static str,
    blocks: impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static,
) -> Answer {
    let mut response = Response::new(StreamBody::new(blocks.map_ok(Frame::data)).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// What is received, until all senders are gone.
pub fn received<T>(mut receive: mpsc::Receiver<T>) -> impl Stream<Item = T> {
    futures::stream::poll_fn(move |context| receive.poll_recv(context))
}

/// Nothing but that it was done.
pub fn done() -> Answer {
    text(StatusCode::OK, "")
}

fn of_type(code: StatusCode, body: Bytes, kind: &'static str) -> Answer {
    let mut response = Response::new(Full::new(body).map_err(|never: Infallible| match never {}).boxed());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
