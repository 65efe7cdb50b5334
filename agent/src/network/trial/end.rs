//! How a trial ends: it is kept, or rolled back.
//!
//! Why here: another process may do either, the alarm's or the operator's, and each may be killed between any two steps.
//! One rename decides: to keep, that of `confirmed.json`, which names the trial; to roll back, that of `trial.json`, which
//! then says so. What follows is repeated until it is done. Route in: what is on trial. Route out: it is on trial no more;
//! who asked, or the journal, knows how it ended.

use super::super::change::Step;
use super::super::layers::{Confirmed, Layers};
use super::Trials;
use super::record::{self, Last, Trial, unit};
use crate::reconcile::blocking;
use anyhow::Context as _;
use std::sync::Arc;

/// A trial this much older than its alarm had none, in seconds: it was killed before it could be armed.
const OVERDUE: f64 = 15.0;

impl Trials {
    /// Makes what is on trial last; an error when nothing is, or not `id`.
    pub async fn keep(&self, id: Option<&str>) -> anyhow::Result<Trial> {
        let _lock = self.lock().await?;
        let trial = self.current()?.context("nothing is on trial")?;
        if id.is_some_and(|id| id != trial.id) {
            anyhow::bail!("another change is on trial: {}", trial.title);
        }
        if let Some(why) = &trial.rolling_back {
            anyhow::bail!("{} is being rolled back: {why}", trial.title);
        }
        let confirmed = Confirmed { trial: Some(trial.id.clone()), layers: trial.after.clone() };
        let (paths, of) = (self.paths.clone(), trial.clone());
        blocking(move || match confirmed.write(&paths) {
            // Its directory may be what could not be written: then it is decided all the same.
            Err(_) if record::is_kept(&paths, &of).unwrap_or(false) => Ok(()),
            written => written,
        })
        .await?;
        tracing::info!("{}: kept", trial.title);
        if let Err(error) = self.finish(&trial, true, "").await {
            tracing::warn!("{}: kept, and its record is still there: {error:#}", trial.title);
        }
        Ok(trial)
    }

    /// Rolls back what is on trial; none when nothing is, or not `id`. A step that fails does not stop the others.
    pub async fn roll_back(&self, id: Option<&str>, why: &str) -> anyhow::Result<Option<Trial>> {
        let _lock = self.lock().await?;
        let Some(mut trial) = record::recorded(&self.paths)? else { return Ok(None) };
        if id.is_some_and(|id| id != trial.id) {
            return Ok(None);
        }
        if record::is_kept(&self.paths, &trial)? {
            // Anyone who kept it was killed before it could say so.
            self.finish(&trial, true, "").await?;
            return Ok(None);
        }
        let why = trial.rolling_back.get_or_insert_with(|| why.to_owned()).clone();
        let (paths, decided) = (self.paths.clone(), trial.clone());
        blocking(move || record::write(&paths, &decided)).await?;
        tracing::warn!("{}: rolling back: {why}", trial.title);
        let (mut failures, mut failed_reload) = (Vec::new(), false);
        for step in &trial.undo {
            if let Err(error) = self.carry_out(step).await {
                tracing::error!("{}: rolling back: {step}: {error:#}", trial.title);
                failures.push(format!("{step}: {error:#}"));
                failed_reload |= *step == Step::Reload;
            }
        }
        // Without networkd nothing is rolled back: anyone who asked tries again. Any other step that failed is reported.
        anyhow::ensure!(!failed_reload, "{}", failures.join("; "));
        self.restore(&trial.before).await?;
        let report =
            if failures.is_empty() { why.clone() } else { format!("{why} ({})", failures.join("; ")) };
        tracing::warn!("{}: rolled back: the links are as before", trial.title);
        self.finish(&trial, false, &report).await?;
        Ok(Some(trial))
    }

    /// The next boot brings what the machine has now.
    async fn restore(&self, before: &Layers) -> anyhow::Result<()> {
        let (paths, before) = (self.paths.clone(), before.clone());
        blocking(move || match Layers::confirmed(&paths) {
            Ok(confirmed) if confirmed == before => Ok(()),
            _ => Confirmed { trial: None, layers: before }.write(&paths),
        })
        .await
    }

    /// Ends what was decided or what nobody watches: a trial that was kept, or whose roll-back began; a policy's when the
    /// agent starts (`at_start`); anything whose time is long over. Gives the trial that it rolled back.
    pub async fn settle(&self, at_start: bool) -> anyhow::Result<Option<Trial>> {
        let Some(trial) = record::recorded(&self.paths)? else { return Ok(None) };
        let why = match () {
            () if record::is_kept(&self.paths, &trial)? => "it was kept",
            () if at_start && !trial.by_hand => "the agent ended while it was on trial",
            () if trial.left() < -OVERDUE => "it was neither kept nor rolled back in time",
            () if at_start && trial.rolling_back.is_some() => "the roll-back was interrupted",
            () => return Ok(None),
        };
        self.roll_back(Some(&trial.id), why).await
    }

    /// Writes down how it ended, and removes what it needed while it lasted.
    async fn finish(&self, trial: &Trial, kept: bool, why: &str) -> anyhow::Result<()> {
        let last = Last { id: trial.id.clone(), title: trial.title.clone(), kept, why: why.to_owned() };
        let path = Arc::new(self.file("last.json"));
        blocking(move || Ok(sheaf_host::file::write_atomically(&path, &serde_json::to_vec(&last)?, 0o644)?))
            .await?;
        let path = self.file("trial.json");
        blocking(move || {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
        })
        .await?;
        // Of the alarm itself, too: its service is what runs us then, and stays. One that rings finds nothing on trial.
        if let Err(error) = self.hosts.alarm.cancel(&unit(&trial.id)).await {
            tracing::warn!("{error}");
        }
        Ok(())
    }
}
