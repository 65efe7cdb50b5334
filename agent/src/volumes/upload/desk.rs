//! Where senders come in, and wait until their volume is there.
//!
//! Route in: the socket, LocalVolumes of this node. Route out: [`Uploads`], from which the plan sees for which volumes
//! somebody waits and [`super::receive`](mod@super::receive) takes the sender.

use super::{Answer, Hello, SILENCE};
use crate::listed::Listed;
use crate::volumes::plan::Stand;
use sheaf_api::storage::LocalVolume;
use sheaf_host::socket::{Door, SocketError, Talk};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// Somebody who waits to send.
#[derive(Debug)]
pub struct Offer {
    pub(super) talk: Talk,
    pub(super) hello: Hello,
    told: Option<String>,
}

/// Who waits, by volume.
#[derive(Debug, Default)]
pub struct Uploads(watch::Sender<BTreeMap<String, Offer>>);

impl Uploads {
    /// Wakes whoever plans when somebody comes.
    pub fn news(&self) -> watch::Receiver<BTreeMap<String, Offer>> {
        self.0.subscribe()
    }

    /// Volumes for which a sender waits, with the size of what it sends.
    pub fn waiting(&self) -> BTreeMap<String, Option<u64>> {
        self.0.borrow().iter().map(|(name, offer)| (name.clone(), offer.hello.bytes)).collect()
    }

    /// Hands over who waits for `volume`.
    pub(super) fn take(&self, volume: &str) -> Option<Offer> {
        let mut taken = None;
        self.0.send_if_modified(|offers| {
            taken = offers.remove(volume);
            false
        });
        taken
    }

    /// Somebody waits; of two the later one, since the earlier may have given up unseen.
    fn put(&self, volume: String, offer: Offer) {
        self.0.send_modify(|offers| {
            if let Some(mut earlier) = offers.insert(volume, offer) {
                // It may be gone.
                let _ =
                    earlier.talk.say(&Answer::Refused("another upload into the same volume began".into()));
            }
        });
    }

    /// Tells everybody who waits where their volume stands, and ends the wait for those that take nothing any more.
    pub fn tell(&self, stands: &BTreeMap<String, Stand>) {
        self.0.send_if_modified(|offers| {
            offers.retain(|name, offer| {
                let answer = match stands.get(name) {
                    None => Answer::Refused(format!("volume {name} is not asked for any more")),
                    Some(Stand::Good { .. }) => Answer::Refused(format!("volume {name} is filled already")),
                    Some(Stand::Failed(reason, message)) => Answer::Refused(format!("{reason}: {message}")),
                    Some(Stand::Leaving(..)) => Answer::Refused(format!("volume {name} is being removed")),
                    Some(Stand::Waiting(reason, message)) => Answer::Wait(format!("{reason}: {message}")),
                    Some(_) => return true,
                };
                let Answer::Wait(words) = &answer else {
                    // It may be gone.
                    let _ = offer.talk.say(&answer);
                    return false;
                };
                if offer.told.as_ref() == Some(words) {
                    return true;
                }
                offer.told = Some(words.clone());
                // One that is gone waits no more.
                offer.talk.say(&answer).is_ok()
            });
            false
        });
    }
}

/// Takes in whoever comes to `socket`, on a thread that ends with the process.
pub fn open(
    socket: &Path,
    listed: watch::Receiver<Listed<LocalVolume>>,
    uploads: Arc<Uploads>,
) -> Result<(), SocketError> {
    let door = Door::open(socket)?;
    std::thread::spawn(move || {
        loop {
            match door.next() {
                Ok(mut talk) => {
                    let (listed, uploads) = (listed.clone(), uploads.clone());
                    // One that says nothing holds up nobody else.
                    std::thread::spawn(move || {
                        if let Err(error) = welcome(&mut talk, &listed, &uploads) {
                            tracing::warn!("an upload did not begin: {error}");
                        }
                    });
                }
                Err(error) => return tracing::error!("no more uploads until the agent starts anew: {error}"),
            }
        }
    });
    Ok(())
}

fn welcome(
    talk: &mut Talk,
    listed: &watch::Receiver<Listed<LocalVolume>>,
    uploads: &Uploads,
) -> Result<(), SocketError> {
    talk.patience(Some(SILENCE))?;
    let hello: Hello = talk.hear()?;
    let found = volume_of(&hello, &listed.borrow());
    match found {
        Ok(volume) => {
            uploads.put(volume, Offer { talk: talk.twin()?, hello, told: None });
            Ok(())
        }
        Err(why) => talk.say(&Answer::Refused(why)),
    }
}

/// The volume that `hello` means, or why it takes nothing.
fn volume_of(hello: &Hello, listed: &Listed<LocalVolume>) -> Result<String, String> {
    if hello.bytes.is_none() && hello.sha256.is_none() {
        return Err("neither size nor SHA-256 is known: half a file could not be told from all of it".into());
    }
    if !listed.synced {
        return Err("the node has not read yet which volumes it is to have; try again in a moment".into());
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
