//! Uploads of images: `upload.cdi.kubevirt.io`, where clients get a token, and the upload proxy, to which they send it
//! together with the image.
//!
//! Why here: `virtctl image-upload` knows no other way; CDI has an API server, a proxy and a Pod for it. Every replica serves
//! both on the port of the aggregated API: the token through kube-apiserver, which knows who asks ([`request`]); the image
//! from the client itself, which kube-apiserver cannot relay, because the token is its `Authorization` ([`proxy`]). The image
//! goes on to the agent of the node that has the volume, as it comes. Route in: requests ([`routes`]). Route out: tokens
//! ([`token`]), signed by a key that all replicas share ([`key`]); requests to agents.

mod key;
mod proxy;
mod request;
mod routes;
mod token;

use std::sync::Arc;

use tokio::sync::{OnceCell, Semaphore};

pub use proxy::serve;
pub use request::{resources, token_for};
pub use routes::{GROUP, Route, VERSION, is_upload, route};

/// Most uploads at once through one replica: each has two connections and what their buffers hold.
const MOST_UPLOADS: usize = 64;

/// What the uploads of one replica share.
pub struct Uploads {
    key: OnceCell<token::Key>,
    places: Arc<Semaphore>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { key: OnceCell::new(), places: Arc::new(Semaphore::new(MOST_UPLOADS)) }
    }
}
