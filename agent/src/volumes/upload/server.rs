//! Where senders connect, and wait until their volume is there.
//!
//! Why here: senders come at any time, in any number; how many are served is bounded, so that none can take the agent's
//! threads and file descriptors. Route in: the socket, LocalVolumes of this node. Route out: [`Uploads`], from which the plan
//! sees which volumes have a sender waiting, and [`super::receive`](mod@super::receive) takes the sender.

use super::{Answer, Hello, SILENCE};
use crate::listed::Listed;
use crate::volumes::plan::VolumeState;
use sheaf_api::storage::LocalVolume;
use sheaf_host::socket::{Connection, Listener, SocketError};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Most senders at a time, those that wait and those that have not said yet for which volume: each has a thread or a file
/// descriptor. One more is told to try again.
const MOST: usize = 64;
/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_secs(1);

/// A sender that waits.
#[derive(Debug)]
pub struct Offer {
    pub(super) connection: Connection,
    pub(super) hello: Hello,
    reported: Option<String>,
    _place: Place,
}

/// One of the [`MOST`] places; free again when it is dropped.
#[derive(Clone, Debug, Default)]
struct Place(Arc<()>);

impl Place {
    fn taken(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// Which senders wait, by volume.
#[derive(Debug, Default)]
pub struct Uploads(watch::Sender<BTreeMap<String, Offer>>);

impl Uploads {
    /// Changes when a sender comes.
    pub fn changes(&self) -> watch::Receiver<BTreeMap<String, Offer>> {
        self.0.subscribe()
    }

    /// Volumes for which a sender waits, with the size of what it sends.
    pub fn waiting(&self) -> BTreeMap<String, Option<u64>> {
        self.0.borrow().iter().map(|(name, offer)| (name.clone(), offer.hello.bytes)).collect()
    }

    /// Hands over the sender that waits for `volume`.
    pub(super) fn take(&self, volume: &str) -> Option<Offer> {
        let mut taken = None;
        self.0.send_if_modified(|offers| {
            taken = offers.remove(volume);
            false
        });
        taken
    }

    /// Adds a sender; of two the later one stays, since the earlier may have given up unnoticed.
    fn put(&self, volume: String, offer: Offer) {
        self.0.send_modify(|offers| {
            if let Some(mut earlier) = offers.insert(volume, offer) {
                let refused = Answer::Refused("another upload into the same volume has started".into());
                // It may be gone.
                let _ = earlier.connection.send(&refused);
            }
        });
    }

    /// Reports the state of its volume to each sender that waits, and refuses those whose volume takes nothing any more.
    pub fn report(&self, states: &BTreeMap<String, VolumeState>) {
        self.0.send_if_modified(|offers| {
            offers.retain(|name, offer| {
                let answer = match states.get(name) {
                    None => Answer::Refused(format!("volume {name} is no longer requested")),
                    Some(VolumeState::Ready { .. }) => {
                        Answer::Refused(format!("volume {name} is filled already"))
                    }
                    Some(VolumeState::Failed(reason, message)) => {
                        Answer::Refused(format!("{reason}: {message}"))
                    }
                    Some(VolumeState::Deleting(..)) => {
                        Answer::Refused(format!("volume {name} is being removed"))
                    }
                    Some(VolumeState::Waiting(reason, message)) => {
                        Answer::Wait(format!("{reason}: {message}"))
                    }
                    Some(_) => return true,
                };
                let Answer::Wait(message) = &answer else {
                    // It may be gone.
                    let _ = offer.connection.send(&answer);
                    return false;
                };
                if offer.reported.as_ref() == Some(message) {
                    return true;
                }
                offer.reported = Some(message.clone());
                // One that is gone waits no more.
                offer.connection.send(&answer).is_ok()
            });
            false
        });
    }
}

/// Accepts senders at `socket`, on a thread that ends with the process.
pub fn open(
    socket: &Path,
    listed: watch::Receiver<Listed<LocalVolume>>,
    uploads: Arc<Uploads>,
) -> Result<(), SocketError> {
    let listener = Listener::open(socket)?;
    std::thread::spawn(move || {
        let places = Place::default();
        loop {
            let mut connection = match listener.accept() {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!("an upload could not be accepted: {error}");
                    // Out of file descriptors, most likely: others end meanwhile.
                    sheaf_host::wait::until(PAUSE, PAUSE, || None::<()>);
                    continue;
                }
            };
            if let Err(error) = connection.set_timeout(Some(SILENCE)) {
                tracing::warn!("an upload could not start: {error}");
                continue;
            }
            if places.taken() >= MOST {
                let refused = Answer::Refused(format!("{MOST} uploads are under way; try again later"));
                // The socket's own buffer takes it: this waits for nobody.
                let _ = connection.send(&refused);
                continue;
            }
            let (place, listed, uploads) = (places.clone(), listed.clone(), uploads.clone());
            // One that sends nothing keeps no other waiting.
            std::thread::spawn(move || {
                if let Err(error) = greet(connection, place, &listed, &uploads) {
                    tracing::warn!("an upload could not start: {error}");
                }
            });
        }
    });
    Ok(())
}

fn greet(
    mut connection: Connection,
    place: Place,
    listed: &watch::Receiver<Listed<LocalVolume>>,
    uploads: &Uploads,
) -> Result<(), SocketError> {
    let hello: Hello = connection.recv()?;
    let found = volume_of(&hello, &listed.borrow());
    match found {
        Ok(volume) => {
            uploads.put(volume, Offer { connection, hello, reported: None, _place: place });
            Ok(())
        }
        Err(why) => connection.send(&Answer::Refused(why)),
    }
}

/// The volume that `hello` means, or why it takes nothing.
fn volume_of(hello: &Hello, listed: &Listed<LocalVolume>) -> Result<String, String> {
    if hello.bytes.is_none() && hello.sha256.is_none() {
        return Err("neither size nor SHA-256 is given: a truncated file could not be detected".into());
    }
    if !listed.synced {
        return Err("the node has not read its LocalVolumes yet; try again in a moment".into());
    }
    let known =
        listed.objects.iter().find(|(name, object)| **name == hello.into || object.claim() == hello.into);
    let Some((name, object)) = known else {
        let takers = listed.objects.iter().filter(|(_, object)| {
            object.spec.source.upload.is_some()
                && object.status.as_ref().is_none_or(|status| status.size_bytes.is_none())
        });
        let takers: Vec<_> = takers.map(|(_, object)| object.claim()).collect();
        let into = &hello.into;
        return Err(match takers.as_slice() {
            [] => format!(
                "{into}: no volume of this node is waiting for an image; make a DataVolume with source upload, and \
                 look with kubectl get datavolumes until it is UploadReady"
            ),
            takers => format!("{into}: no volume of this node; these take an image: {}", takers.join(", ")),
        });
    };
    if object.spec.source.upload.is_none() {
        return Err(format!("{}: it takes no image; make a DataVolume with source upload", hello.into));
    }
    Ok(name.clone())
}
