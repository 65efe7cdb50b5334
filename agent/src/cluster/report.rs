//! Says where the node stands on its way into the cluster: status page and journal.
//!
//! Why here: every step passes through one place, so none stays silent. Route in: steps and failures. Route out:
//! the `cluster` section of the status.

use super::failure::Failure;
use crate::status::{ClusterSection, Phase, Section};
use std::sync::Arc;

/// Writes the `cluster` section.
#[derive(Clone)]
pub struct Reporter(Arc<Section<ClusterSection>>);

impl Reporter {
    /// One that writes to `section`.
    pub fn new(section: Section<ClusterSection>) -> Self {
        Self(Arc::new(section))
    }

    /// Changes the section.
    pub fn update(&self, change: impl FnOnce(&mut ClusterSection)) {
        self.0.change(change);
    }

    /// The node now is in `phase`.
    pub fn phase(&self, phase: Phase) {
        self.update(|cluster| cluster.phase = phase);
    }

    /// The node begins `step`.
    pub fn step(&self, step: &str) {
        tracing::info!("{step}");
        self.update(|cluster| cluster.step = step.into());
    }

    /// A step failed.
    pub fn failed(&self, failure: &Failure) {
        tracing::error!("{}: {:#}. Remedy: {}", failure.step, failure.cause, failure.remedy);
        self.update(|cluster| {
            cluster.phase = Phase::Failed;
            cluster.step.clone_from(&failure.step);
            cluster.problem = Some(format!("{:#}", failure.cause));
            cluster.remedy = Some(failure.remedy.clone());
        });
    }

    /// What failed before works now.
    pub fn recovered(&self) {
        self.update(|cluster| {
            cluster.problem = None;
            cluster.remedy = None;
        });
    }
}
