//! How a trial ends: it is kept, or taken back.
//!
//! Why here: another process may do either, the alarm's or the operator's. Route in: what is on trial. Route out: it is
//! on trial no more; who asked, or the journal, knows how it ended.

use super::super::change::Step;
use super::Trials;
use super::record::{Last, Trial, unit};
use anyhow::Context as _;

/// A trial this much older than its alarm had none: it was killed before it could be armed.
const OVERDUE: f64 = 15.0;

impl Trials {
    /// Makes what is on trial last; an error when nothing is, or not `id`.
    pub async fn keep(&self, id: Option<&str>) -> anyhow::Result<Trial> {
        let _lock = self.lock()?;
        let trial = self.current()?.context("nothing is on trial")?;
        if id.is_some_and(|id| id != trial.id) {
            anyhow::bail!("another change is on trial: {}", trial.title);
        }
        trial.after.confirm(&self.paths)?;
        self.end(&trial, true, "")?;
        self.hosts.alarm.cancel(&unit(&trial.id)).await.unwrap_or_else(|error| {
            // It finds nothing on trial.
            tracing::warn!("{error}");
        });
        tracing::info!("{}: kept", trial.title);
        Ok(trial)
    }

    /// Leads back from what is on trial; none when nothing is, or not `id`. A step that fails does not stop the others.
    pub async fn take_back(&self, id: Option<&str>, why: &str) -> anyhow::Result<Option<Trial>> {
        let _lock = self.lock()?;
        let Some(trial) = self.current()? else { return Ok(None) };
        if id.is_some_and(|id| id != trial.id) {
            return Ok(None);
        }
        tracing::warn!("{}: taken back: {why}", trial.title);
        let (mut failures, mut failed_reload) = (Vec::new(), false);
        for step in &trial.undo {
            if let Err(error) = self.carry_out(step).await {
                tracing::error!("{}: taking back: {step}: {error:#}", trial.title);
                failures.push(format!("{step}: {error:#}"));
                failed_reload |= *step == Step::Reload;
            }
        }
        // Without networkd nothing is back: whoever asked tries again. Any other step that failed is told.
        anyhow::ensure!(!failed_reload, "{}", failures.join("; "));
        let told =
            if failures.is_empty() { why.to_owned() } else { format!("{why} ({})", failures.join("; ")) };
        self.end(&trial, false, &told)?;
        tracing::warn!("{}: back: all is as it was", trial.title);
        // Of the alarm itself, too: its service is what runs us then, and stays.
        if let Err(error) = self.hosts.alarm.cancel(&unit(&trial.id)).await {
            tracing::warn!("{error}");
        }
        Ok(Some(trial))
    }

    /// Takes back what nobody watches: a policy's trial when the agent starts (`at_start`), anything whose time is long over.
    pub async fn take_back_left_over(&self, at_start: bool) -> anyhow::Result<Option<Trial>> {
        let Some(trial) = self.current()? else { return Ok(None) };
        if at_start && !trial.by_hand {
            return self.take_back(Some(&trial.id), "the agent ended while it was on trial").await;
        }
        if trial.left() < -OVERDUE {
            return self.take_back(Some(&trial.id), "its time was over").await;
        }
        Ok(None)
    }

    fn end(&self, trial: &Trial, kept: bool, why: &str) -> anyhow::Result<()> {
        let last = Last { id: trial.id.clone(), title: trial.title.clone(), kept, why: why.to_owned() };
        sheaf_host::file::write_atomically(&self.file("last.json"), &serde_json::to_vec(&last)?, 0o644)?;
        std::fs::remove_file(self.file("trial.json")).context("trial.json can not be removed")
    }
}
