//! Pours what a sender sends into its volume, and tells it how that ended.
//!
//! Why here: the same unpacking, checking and pouring as for an image from a server, but a sender cannot be asked for
//! the rest once it broke off: the volume is begun again, and so is the upload. Route in: an incomplete volume, its
//! [`Offer`](super::server::Offer). Route out: the volume complete, or why not; the sender is told the same. Blocks.

use super::{Answer, Hello};
use crate::volumes::apply::Failed;
use crate::volumes::fill::{FillError, Order, fill};
use crate::volumes::{Hosts, INCOMPLETE};
use anyhow::Context as _;
use sheaf_api::storage::local_volume::Progress;
use sheaf_host::fetch::{Fetch, FetchError, Rest, Source};
use sheaf_host::socket::Connection;
use std::sync::{Arc, Mutex, PoisonError};

/// Fills the volume of `order` from the sender that waits.
pub fn receive(hosts: &Hosts, order: Order, show: &(dyn Fn(Progress) + Sync)) -> Result<(), Failed> {
    let offer = hosts.uploads.take(&order.name).context("the sender of the image is gone")?;
    let (mut connection, hello) = (offer.connection, offer.hello);
    let answer = pour(hosts, &mut connection, &hello, order, show);
    let outcome = match &answer {
        Ok(()) => Answer::Done,
        Err(failed) => Answer::Refused(failed.message.clone()),
    };
    if let Err(error) = connection.send(&outcome) {
        tracing::warn!(into = hello.into, "the result could not be sent to the sender of an image: {error}");
    }
    answer
}

fn pour(
    hosts: &Hosts,
    connection: &mut Connection,
    hello: &Hello,
    order: Order,
    show: &(dyn Fn(Progress) + Sync),
) -> Result<(), Failed> {
    let stream = connection.send(&Answer::Go).and_then(|()| connection.try_clone());
    let stream = stream.context("the sender of the image is gone")?;
    let sent = Sent { bytes: hello.bytes, stream: Mutex::new(Some(stream)) };
    let hosts = Hosts { fetch: Arc::new(sent), ..hosts.clone() };
    let order = Order { checksum: hello.sha256.clone(), ..order };
    fill(&hosts, &order, show).map_err(|error| failed(error, hello))?;
    // Only then is the sender told: after a power cut the volume is either complete or begun again.
    Ok(hosts.lvm.retag(&order.group, &order.name, &[], &[INCOMPLETE])?)
}

/// Another upload can always help: none is for good.
fn failed(error: FillError, hello: &Hello) -> Failed {
    let message = match &error {
        FillError::Checksum { wanted, .. } => {
            format!("what was sent does not have the SHA-256 {wanted}; send it again")
        }
        FillError::NoRange { bytes, .. } => match hello.bytes {
            Some(all) => format!("the upload ended after {bytes} of {all} bytes; send it again"),
            None => format!("the upload ended after {bytes} bytes; send it again"),
        },
        FillError::Stopped => "the volume is no longer requested, or the agent is stopping".into(),
        _ => return Failed { is_passing: true, ..error.into() },
    };
    Failed { reason: error.reason(), message, is_passing: true, scratch: None }
}

/// What is sent, as a file that can be read once.
struct Sent {
    bytes: Option<u64>,
    stream: Mutex<Option<Connection>>,
}

impl Fetch for Sent {
    fn fetch(&self, source: &Source, from: u64) -> Result<Rest, FetchError> {
        match self.stream.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(stream) => Ok(Rest { from: 0, total: self.bytes, reader: Box::new(stream) }),
            None => Err(FetchError::PastEnd { url: source.url.clone(), from }),
        }
    }
}
