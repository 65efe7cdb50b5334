//! Refuses nodes' reads of what is not theirs, and the console's impersonation of who is no user of it.
//!
//! Why here: the API server's authorization configuration (written by the node that made the cluster,
//! `agent/src/cluster/create/authorization.rs`) decides by CEL which reads those are and asks a webhook about them alone;
//! this is that webhook. Every replica answers, also one that does not lead: the API server of its own machine asks.
//! Route in: SubjectAccessReviews on the loopback, which need not be read. Route out: "denied", always.

use std::{convert::Infallible, time::Duration};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use sheaf_api::names::{CONSOLE_IMPERSONATES_PATH, NODE_READS_ADDRESS};
use tokio::{net::TcpListener, sync::Semaphore};

/// Most connections at once; only the API server connects.
const CONNECTIONS: usize = 64;
/// Longest life of a connection: the API server opens another.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Between two attempts to listen, while another process has the port.
const RETRY: Duration = Duration::from_secs(5);

/// What the one who is refused reads.
const REASON: &str =
    "a node reads only its own objects: list and watch with fieldSelector spec.nodeName=<its own name>";
/// The same of the console.
const CONSOLE_REASON: &str = "the console impersonates only its own users, whose names begin with console:";

/// Listens until dropped.
pub async fn run() {
    loop {
        match TcpListener::bind(NODE_READS_ADDRESS).await {
            Ok(listener) => serve(listener).await,
            Err(error) => tracing::error!(
                "listening on {NODE_READS_ADDRESS}: {error}; until then forbidden reads of nodes end in an internal \
                 error; trying again"
            ),
        }
        tokio::time::sleep(RETRY).await; // the next attempt to listen
    }
}

async fn serve(listener: TcpListener) {
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("accepting on {NODE_READS_ADDRESS}: {error}");
                return;
            }
        };
        tokio::spawn(async move {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(refuse));
            // An end in between is the other side's: it asks again.
            let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
            drop(place);
        });
    }
}

async fn refuse(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // Which configuration asked; it has matched already.
    let reason = match request.uri().path() {
        CONSOLE_IMPERSONATES_PATH => CONSOLE_REASON,
        _ => REASON,
    };
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "status": {"allowed": false, "denied": true, "reason": reason},
    });
    let mut response = Response::new(Full::new(Bytes::from(review.to_string())));
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}
