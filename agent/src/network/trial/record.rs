//! What is written down of a trial: `/run/sheaf/network/trial.json` while it lasts, `last.json` after.
//!
//! Why here: whoever takes a change back knows nothing of who began it but these files. Route in: a trial that begins or
//! ended. Route out: the same for another process; the lock that whoever writes them holds.

use super::super::change::Step;
use super::super::layers::Layers;
use super::Trials;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::PathBuf;

/// `trial.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its own, new for each.
    pub id: String,
    /// As people call it.
    pub title: String,
    /// An operator tried it.
    pub by_hand: bool,
    /// Seconds since boot when it began.
    pub began: f64,
    /// Seconds until it is taken back.
    pub lasts: f64,
    /// What is confirmed with it.
    pub after: Layers,
    /// What leads back.
    pub undo: Vec<Step>,
}

impl Trial {
    /// Seconds until it is taken back.
    pub fn left(&self) -> f64 {
        self.began + self.lasts - uptime()
    }
}

/// `last.json`: the last trial that ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// Of the trial.
    pub id: String,
    /// As people call it.
    pub title: String,
    /// It was kept.
    pub kept: bool,
    /// Why it was not.
    pub why: String,
}

/// Seconds since boot, by a clock that nobody sets.
pub(super) fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0)
}

/// Name of the alarm's units.
pub(super) fn unit(id: &str) -> String {
    format!("sheaf-network-revert-{id}")
}

impl Trials {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.paths.network_trial().join(name)
    }

    /// Held by whoever begins, keeps or takes back.
    pub(super) fn lock(&self) -> anyhow::Result<File> {
        let path = self.file("lock");
        let lock = || -> std::io::Result<File> {
            std::fs::create_dir_all(self.paths.network_trial())?;
            let file = File::options().write(true).create(true).truncate(false).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().with_context(|| format!("{}: can not be locked", path.display()))
    }

    /// What is on trial.
    pub fn current(&self) -> anyhow::Result<Option<Trial>> {
        let path = self.file("trial.json");
        match std::fs::read(&path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| path.display().to_string())?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// The last trial that ended.
    pub fn last(&self) -> Option<Last> {
        serde_json::from_slice(&std::fs::read(self.file("last.json")).ok()?).ok()
    }
}
