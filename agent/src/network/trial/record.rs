//! What is written down of a trial: `/run/sheaf/network/trial.json` while it lasts, `last.json` after.
//!
//! Why here: anyone who rolls a change back knows nothing of who began it but these files. A trial is over as soon as
//! [`Confirmed`] names it, whatever is left of its own file: one rename decides. Route in: a trial that begins or ended.
//! Route out: the same for another process; the lock that anyone who writes them holds.

use super::super::change::Step;
use super::super::layers::{Confirmed, Layers};
use super::Trials;
use crate::paths::Paths;
use crate::reconcile::blocking;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::PathBuf;

/// `trial.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its own, new for each, also over reboots.
    pub id: String,
    /// Its name in messages.
    pub title: String,
    /// An operator tried it.
    pub by_hand: bool,
    /// Seconds since boot when it began.
    pub began: f64,
    /// Seconds until it is rolled back.
    pub lasts: f64,
    /// What was confirmed before, and is again once it is rolled back.
    pub before: Layers,
    /// What is confirmed with it.
    pub after: Layers,
    /// The steps that roll it back.
    pub undo: Vec<Step>,
    /// Why it is being rolled back, once that was decided: it cannot be confirmed any more.
    #[serde(default)]
    pub rolling_back: Option<String>,
}

impl Trial {
    /// Seconds until it is rolled back.
    pub fn left(&self) -> f64 {
        self.began + self.lasts - uptime()
    }
}

/// `last.json`: the last trial that ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// Of the trial.
    pub id: String,
    /// Its name in messages.
    pub title: String,
    /// It was kept.
    pub kept: bool,
    /// Why it was not.
    pub why: String,
}

/// Seconds since boot, by a clock that nobody sets.
pub(super) fn uptime() -> f64 {
    sheaf_host::uptime::uptime().map_or(0.0, |time| time.as_secs_f64())
}

/// A new id: what a trial before a reboot was confirmed by must not end another one.
pub(super) fn new_id() -> anyhow::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("no random bytes from the kernel: {error}"))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// Name of the alarm's units.
pub(super) fn unit(id: &str) -> String {
    format!("sheaf-network-revert-{id}")
}

/// What `trial.json` holds, be it over or not.
pub(super) fn recorded(paths: &Paths) -> anyhow::Result<Option<Trial>> {
    let path = paths.network_trial().join("trial.json");
    match std::fs::read(&path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| path.display().to_string())?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Whether `trial` was kept, however far its caller came afterwards.
pub(super) fn is_kept(paths: &Paths, trial: &Trial) -> anyhow::Result<bool> {
    let confirmed =
        Confirmed::read(paths).with_context(|| paths.confirmed_network().display().to_string())?;
    Ok(confirmed.trial.as_ref() == Some(&trial.id))
}

/// What is on trial.
pub(crate) fn current(paths: &Paths) -> anyhow::Result<Option<Trial>> {
    let Some(trial) = recorded(paths)? else { return Ok(None) };
    Ok((!is_kept(paths, &trial)?).then_some(trial))
}

/// Writes `trial.json`.
pub(super) fn write(paths: &Paths, trial: &Trial) -> anyhow::Result<()> {
    let path = paths.network_trial().join("trial.json");
    Ok(sheaf_host::file::write_atomically(&path, &serde_json::to_vec(trial)?, 0o600)?)
}

impl Trials {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.paths.network_trial().join(name)
    }

    /// Held by anyone who begins, keeps or rolls back. Another process may hold it through a whole roll-back: it is waited
    /// for on a thread of its own.
    pub(super) async fn lock(&self) -> anyhow::Result<File> {
        let (folder, path) = (self.paths.network_trial(), self.file("lock"));
        blocking(move || {
            let lock = || -> std::io::Result<File> {
                std::fs::create_dir_all(folder)?;
                let file = File::options().write(true).create(true).truncate(false).open(&path)?;
                file.lock()?;
                Ok(file)
            };
            lock().with_context(|| format!("cannot lock {}", path.display()))
        })
        .await
    }

    /// What is on trial.
    pub fn current(&self) -> anyhow::Result<Option<Trial>> {
        current(&self.paths)
    }

    /// The last trial that ended.
    pub fn last(&self) -> Option<Last> {
        serde_json::from_slice(&std::fs::read(self.file("last.json")).ok()?).ok()
    }
}
