//! `sheaf-agent update check`, `stage`, `apply`, `rollback`, `cancel`: what an administrator asks for on the node itself.
//!
//! Why a socket and not a file: who asks is answered whether the agent takes it, and the agent need not look for files.
//! Only root may connect. Route in: one [`Ask`] for each connection. Route out: the controller's inbox, with the connection
//! that it answers on.

use super::records::Place;
use crate::reconcile::Outbox;
use crate::registry::Reference;
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use sheaf_api::node_update::Action;
use sheaf_config::version::is_version;
use sheaf_host::socket::{Connection, Listener, SocketError};
use std::path::Path;
use std::time::Duration;

/// Timeout of either side between two bytes. The agent may mount the EFI system partition before it answers.
const SILENCE: Duration = Duration::from_secs(60);
/// Timeout for a request to come: the program that connects sends it at once.
const GREETING: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_secs(1);
/// Seconds for the health gate, unless others are given: as of a NodeUpdate.
pub const HEALTH_TIMEOUT: u32 = 600;
/// Label of a drive with a release, unless another is given.
pub const DRIVE: &str = "SHEAF-UPDATE";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// A version shall run, or be staged or judged.
    Update {
        /// The version.
        version: String,
        /// Where it is taken from; none for one that is in the other slot.
        source: Option<Place>,
        /// How far the node goes.
        action: Action,
        /// Seconds for the health gate.
        timeout: u32,
        /// No snapshot of etcd is taken before the restart: the control plane is broken.
        without_snapshot: bool,
    },
    /// The release in the other slot shall run.
    Rollback,
    /// What was asked for here before does not count any more.
    Cancel,
}

/// What is answered, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is taken.
    Taken(String),
    /// It is not; why, and what to do.
    Refused(String),
}

/// Someone who waits for an answer.
pub struct Asked {
    /// For what.
    pub ask: Ask,
    connection: Connection,
}

impl Asked {
    /// Answers.
    pub fn answer(mut self, answer: &Answer) {
        // One that is gone needs none; what it asked for counts.
        let _ = self.connection.send(answer);
    }
}

/// Asks the agent at `socket`; the sentence to print.
pub fn ask(socket: &Path, ask: &Ask) -> anyhow::Result<String> {
    let mut connection = Connection::connect(socket).context(
        "the agent of this node takes no requests now; run this as root on the node, and look at: systemctl status \
         sheaf-agent",
    )?;
    connection.set_timeout(Some(SILENCE))?;
    connection.send(ask)?;
    match connection.recv().context("the agent did not answer; ask again")? {
        Answer::Taken(said) => Ok(said),
        Answer::Refused(why) => bail!(why),
    }
}

/// What is wrong with `ask` itself.
pub fn problem(ask: &Ask) -> Option<String> {
    let Ask::Update { version, source, timeout, .. } = ask else { return None };
    if !is_version(version) {
        return Some(format!("\"{version}\" is not a version; write three numbers, as in 0.2.0"));
    }
    if !(60..=7200).contains(timeout) {
        return Some(format!("{timeout} s are no time for the health gate; give 60 to 7200"));
    }
    match source.as_ref()? {
        Place::Url(url) if !url.starts_with("https://") && !url.starts_with("http://") => {
            Some(format!("{url} is not a URL; write https://…"))
        }
        Place::Url(url) if url.contains('@') => {
            Some("the URL has a user name or password; a release is trusted by its signature".into())
        }
        Place::Oci(reference) => Reference::parse(reference).err().map(|error| error.to_string()),
        Place::Drive(label) if label.is_empty() || !label.bytes().all(is_label) => {
            Some(format!("\"{label}\" is not a label of a drive; use letters, digits, '.', '_' and '-'"))
        }
        _ => None,
    }
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Accepts requests at `socket`, on a thread that ends with the process.
pub fn open(socket: &Path, asked: Outbox<Asked>) -> Result<(), SocketError> {
    let listener = Listener::open(socket)?;
    std::thread::spawn(move || {
        loop {
            match listener.accept().and_then(greet) {
                Ok(one) => asked.send(one),
                Err(error) => {
                    tracing::warn!("a request for an update was not received: {error}");
                    sheaf_host::wait::until(PAUSE, PAUSE, || None::<()>);
                }
            }
        }
    });
    Ok(())
}

fn greet(mut connection: Connection) -> Result<Asked, SocketError> {
    connection.set_timeout(Some(GREETING))?;
    let ask = connection.recv()?;
    Ok(Asked { ask, connection })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Wakes;

    fn update(version: &str, source: Option<Place>) -> Ask {
        let (action, timeout) = (Action::Apply, HEALTH_TIMEOUT);
        Ask::Update { version: version.into(), source, action, timeout, without_snapshot: false }
    }

    #[test]
    fn what_is_asked_for_wrongly_is_refused_with_what_to_write() {
        let said = |ask: Ask| problem(&ask).unwrap_or_default();
        assert_eq!(
            said(update("latest", None)),
            "\"latest\" is not a version; write three numbers, as in 0.2.0"
        );
        let from = |place| said(update("0.2.0", Some(place)));
        assert_eq!(from(Place::Url("releases".into())), "releases is not a URL; write https://…");
        assert_eq!(
            from(Place::Url("https://me:secret@r".into())),
            "the URL has a user name or password; a release is trusted by its signature"
        );
        assert!(from(Place::Oci("quay.io/".into())).starts_with("image \"quay.io/\" names no repository"));
        assert_eq!(
            from(Place::Drive("/dev/sdb".into())),
            "\"/dev/sdb\" is not a label of a drive; use letters, digits, '.', '_' and '-'"
        );
        let hasty = Ask::Update {
            version: "0.2.0".into(),
            source: None,
            action: Action::Stage,
            timeout: 1,
            without_snapshot: false,
        };
        assert_eq!(said(hasty), "1 s are no time for the health gate; give 60 to 7200");
        assert_eq!(from(Place::Drive(DRIVE.into())), "");
        assert_eq!(from(Place::Oci("quay.io/a/sheaf:0.2.0".into())), "");
        assert_eq!(said(Ask::Rollback), "");
    }

    #[test]
    fn who_asks_is_answered_and_without_an_agent_told_where_to_look() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("update.sock");
        let error = ask(&socket, &Ask::Cancel).unwrap_err().to_string();
        assert!(error.contains("systemctl status sheaf-agent"), "{error}");
        let (outbox, mut inbox) = Wakes::new().inbox(());
        open(&socket, outbox).unwrap();
        let asking = std::thread::spawn(move || {
            let taken = ask(&socket, &update("0.2.0", None)).unwrap();
            (taken, ask(&socket, &Ask::Cancel).unwrap_err().to_string())
        });
        let mut next = || {
            let second = Duration::from_secs(10);
            let step = Duration::from_millis(1);
            sheaf_host::wait::until(second, step, || inbox.take().pop()).expect("a request comes")
        };
        let first = next();
        assert_eq!(first.ask, update("0.2.0", None));
        first.answer(&Answer::Taken("yes".into()));
        next().answer(&Answer::Refused("nothing was asked for".into()));
        assert_eq!(asking.join().unwrap(), ("yes".to_owned(), "nothing was asked for".to_owned()));
    }
}
