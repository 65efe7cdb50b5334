//! Says where the node stands on its way into the cluster: status page and journal.
//!
//! Why here: every step passes through one place, so none stays silent. Route in: steps and failures. Route out:
//! the `cluster` section of the status.

use super::failure::Failure;
use crate::status::{ClusterSection, Phase, PlaneSection, Section};
use std::sync::Arc;

/// Writes the `cluster` section.
#[derive(Clone)]
pub struct Reporter {
    section: Arc<Section<ClusterSection>>,
    /// Steps are those of the control plane, beside the node's own.
    of_the_plane: bool,
}

impl Reporter {
    /// One that writes to `section`.
    pub fn new(section: Section<ClusterSection>) -> Self {
        Self { section: Arc::new(section), of_the_plane: false }
    }

    /// One for the control plane of a node that joined: what the node itself does is reported by the other.
    pub fn of_the_plane(&self) -> Self {
        Self { of_the_plane: true, ..self.clone() }
    }

    fn plane(&self, change: impl FnOnce(&mut PlaneSection)) {
        self.update(|cluster| change(cluster.control_plane.get_or_insert_default()));
    }

    /// Changes the section.
    pub fn update(&self, change: impl FnOnce(&mut ClusterSection)) {
        self.section.change(change);
    }

    /// The node now is in `phase`.
    pub fn phase(&self, phase: Phase) {
        self.update(|cluster| cluster.phase = phase);
    }

    /// The node begins `step`.
    pub fn step(&self, step: &str) {
        tracing::info!("{step}");
        if self.of_the_plane {
            return self.plane(|plane| plane.step = step.into());
        }
        self.update(|cluster| cluster.step = step.into());
    }

    /// A step failed.
    pub fn failed(&self, failure: &Failure) {
        tracing::error!("{}: {:#}. Remedy: {}", failure.step, failure.cause, failure.remedy);
        if self.of_the_plane {
            return self.plane(|plane| {
                plane.step.clone_from(&failure.step);
                plane.problem = Some(format!("{:#}", failure.cause));
                plane.remedy = Some(failure.remedy.clone());
            });
        }
        self.update(|cluster| {
            cluster.phase = Phase::Failed;
            cluster.step.clone_from(&failure.step);
            cluster.problem = Some(format!("{:#}", failure.cause));
            cluster.remedy = Some(failure.remedy.clone());
        });
    }

    /// What failed before works now.
    pub fn recovered(&self) {
        if self.of_the_plane {
            return self.plane(|plane| (plane.problem, plane.remedy) = (None, None));
        }
        self.update(|cluster| {
            cluster.problem = None;
            cluster.remedy = None;
        });
    }
}
