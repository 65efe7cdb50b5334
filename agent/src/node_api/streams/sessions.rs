//! Who has a VM's serial port and its display: one session each, the newest.
//!
//! Why here: QEMU's serial socket takes one connection at a time, and two people typing into one console, or leftovers of one
//! session in the next, are known faults (kubevirt/kubevirt#2201, #14276). A new session asks the former to end and begins
//! only when it has. Downloads of volumes are kept apart likewise. Route in: UID of a VMI, or name of a volume, and what is wanted. Route out: a [`Session`]; dropped, it is free.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, watch};

/// Longest wait for the former session to end.
const END_TIME: Duration = Duration::from_secs(5);

/// What a session is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The first serial port.
    Console,
    /// The display.
    Vnc,
    /// The bytes of a volume, for an export.
    Export,
}

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// There is one, and it was to be left alone.
    InUse,
    /// A newer one came before this began.
    Displaced,
    /// The former one did not end.
    Stuck,
}

/// All sessions.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<(String, Kind), Arc<Slot>>>);

#[derive(Default)]
struct Slot {
    /// Number of the newest session that was asked for.
    newest: watch::Sender<u64>,
    /// Held by the session that is connected.
    connected: Arc<tokio::sync::Mutex<()>>,
}

/// The right to be connected.
pub struct Session {
    kind: Kind,
    number: u64,
    slot: Arc<Slot>,
    _connected: OwnedMutexGuard<()>,
}

impl Sessions {
    /// Ends the former session, if any, and begins one; with `preserve` only if there is none.
    pub async fn take(&self, uid: &str, kind: Kind, preserve: bool) -> Result<Session, NotTaken> {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody has or waits for.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
            slots.entry((uid.to_owned(), kind)).or_default().clone()
        };
        if preserve {
            let connected = slot.connected.clone().try_lock_owned().map_err(|_| NotTaken::InUse)?;
            return Ok(Session { kind, number: slot.next(), slot, _connected: connected });
        }
        let number = slot.next();
        let waited = tokio::time::timeout(END_TIME, slot.connected.clone().lock_owned()).await;
        let connected = waited.map_err(|_| NotTaken::Stuck)?;
        let is_newest = *slot.newest.borrow() == number;
        match is_newest {
            true => Ok(Session { kind, number, slot, _connected: connected }),
            false => Err(NotTaken::Displaced),
        }
    }
}

impl Slot {
    fn next(&self) -> u64 {
        let mut number = 0;
        self.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        number
    }
}

impl Session {
    /// What it is of.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns when a newer session was asked for.
    pub async fn displaced(&self) {
        let mut newest = self.slot.newest.subscribe();
        // The sender lives in the slot, which this holds.
        let _ = newest.wait_for(|newest| *newest != self.number).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_session_begins_only_when_the_former_has_ended() {
        let sessions = Arc::new(Sessions::default());
        let first = sessions.take("u", Kind::Console, false).await.unwrap();
        let second = tokio::spawn({
            let sessions = sessions.clone();
            async move { sessions.take("u", Kind::Console, false).await }
        });
        first.displaced().await;
        tokio::task::yield_now().await;
        assert!(!second.is_finished(), "it waits for the end of the first");
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert_eq!(second.number, 2);
        // Of another VM, and the display of the same, are others.
        sessions.take("v", Kind::Console, true).await.unwrap();
        sessions.take("u", Kind::Vnc, true).await.unwrap();
    }

    #[tokio::test]
    async fn a_session_that_is_to_be_preserved_is_neither_ended_nor_asked_to_end() {
        let sessions = Sessions::default();
        let first = sessions.take("u", Kind::Vnc, false).await.unwrap();
        assert_eq!(sessions.take("u", Kind::Vnc, true).await.err(), Some(NotTaken::InUse));
        let waited = tokio::time::timeout(Duration::from_millis(20), first.displaced()).await;
        assert!(waited.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_that_wait_the_newest_wins_and_one_that_never_ends_is_reported() {
        let sessions = Arc::new(Sessions::default());
        let first = sessions.take("u", Kind::Console, false).await.unwrap();
        assert_eq!(sessions.take("u", Kind::Console, false).await.err(), Some(NotTaken::Stuck));
        let wait = |sessions: Arc<Sessions>| {
            tokio::spawn(async move {
                sessions.take("u", Kind::Console, false).await.map(|session| session.number)
            })
        };
        let second = wait(sessions.clone());
        tokio::task::yield_now().await;
        let third = wait(sessions.clone());
        tokio::task::yield_now().await;
        drop(first);
        assert_eq!(second.await.unwrap(), Err(NotTaken::Displaced));
        assert_eq!(third.await.unwrap(), Ok(4));
    }
}
