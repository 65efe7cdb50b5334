//! The state of a volume, and how its object reports it.
//!
//! Why here: words for people and for the controller, apart from the rules that choose them. Pure. Route in: a
//! [`VolumeState`] and the object as it is. Route out: the status it is to have.

use super::Failure;
use k8s_openapi::jiff::Timestamp;
use sheaf_api::conditions;
use sheaf_api::names::IMAGE_ANNOTATION;
use sheaf_api::storage::local_volume::{
    Progress, READY, RESIZED, VolumeKind, VolumePhase, VolumeReason, device_path,
};
use sheaf_api::storage::{LocalVolume, LocalVolumeStatus};

/// The state of a volume.
#[derive(Clone, Debug, PartialEq)]
pub enum VolumeState {
    /// Not known yet: what was reported last still counts.
    Unknown,
    /// It cannot be made or used now.
    Waiting(VolumeReason, String),
    /// It is being made.
    Making,
    /// A client is to send an image.
    AwaitingUpload {
        /// Why the last one was not taken.
        refused: Option<String>,
    },
    /// Its source is being brought in.
    Filling(Progress),
    /// It may be used.
    Ready {
        /// Its size.
        bytes: u64,
        /// Why it has not the size asked for.
        short: Option<(VolumeReason, String)>,
    },
    /// It will not come to be.
    Failed(VolumeReason, String),
    /// It is being removed, and what delays that.
    Deleting(VolumeReason, String),
}

impl VolumeState {
    /// After a failure.
    pub(super) fn of(failure: &Failure) -> Self {
        let message = failure.message.clone();
        match failure.until {
            Some(_) => Self::Waiting(failure.reason, message),
            None => Self::Failed(failure.reason, message),
        }
    }
}

/// The status that says so.
pub fn status_of(object: &LocalVolume, stand: &VolumeState, now: Timestamp) -> LocalVolumeStatus {
    let mut status = object.status.clone().unwrap_or_default();
    if *stand != VolumeState::Unknown {
        status.observed_generation = object.metadata.generation;
    }
    let ready = |status: &mut LocalVolumeStatus, is: bool, reason: VolumeReason, message: &str| {
        let word = if is { "True" } else { "False" };
        conditions::set(&mut status.conditions, READY, word, &reason.to_string(), message, now);
    };
    match stand {
        VolumeState::Unknown => {}
        VolumeState::Waiting(reason, message) => {
            status.phase = Some(VolumePhase::Pending);
            ready(&mut status, false, *reason, message);
        }
        VolumeState::Making => {
            status.phase = Some(VolumePhase::Creating);
            ready(&mut status, false, VolumeReason::Creating, "");
        }
        VolumeState::AwaitingUpload { refused } => {
            status.phase = Some(VolumePhase::Populating);
            status.progress = None;
            let (node, into) = (&object.spec.node_name, object.claim());
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let refused = refused.as_ref().map(|why| format!("{why}; ")).unwrap_or_default();
            let how = format!(
                "{refused}it waits for an image: virtctl image-upload; or sheaf serve FILE, then kubectl annotate localvolume {name} \
                 {IMAGE_ANNOTATION}='URL sha256:DIGITS'; or on {node}: sheaf-agent volumes upload {into} FILE"
            );
            ready(&mut status, false, VolumeReason::Populating, &how);
        }
        VolumeState::Filling(progress) => {
            status.phase = Some(VolumePhase::Populating);
            status.progress = Some(*progress);
            ready(&mut status, false, VolumeReason::Populating, "");
        }
        VolumeState::Ready { bytes, short } => {
            status.phase = Some(VolumePhase::Ready);
            status.size_bytes = Some(*bytes);
            if object.spec.source.is_brought_in() {
                // What was told last of its filling may be older than the end of it.
                let told = status.progress.unwrap_or_default();
                let done_bytes = told.total_bytes.unwrap_or(told.done_bytes);
                status.progress = Some(Progress { done_bytes, percent: Some(100), ..told });
            }
            if object.spec.kind == VolumeKind::Volume {
                status.device_path =
                    Some(device_path(&object.spec.pool, object.metadata.name.as_deref().unwrap_or_default()));
            }
            ready(&mut status, true, VolumeReason::Ready, "");
            resized(&mut status, short.as_ref(), now);
        }
        VolumeState::Failed(reason, message) => {
            status.phase = Some(VolumePhase::Failed);
            ready(&mut status, false, *reason, message);
        }
        VolumeState::Deleting(reason, message) => ready(&mut status, false, *reason, message),
    }
    status
}

/// There from the first growth on.
fn resized(status: &mut LocalVolumeStatus, short: Option<&(VolumeReason, String)>, now: Timestamp) {
    match short {
        Some((reason, message)) => {
            conditions::set(&mut status.conditions, RESIZED, "False", &reason.to_string(), message, now);
        }
        None if conditions::find(&status.conditions, RESIZED).is_some() => {
            let reason = VolumeReason::Ready.to_string();
            conditions::set(&mut status.conditions, RESIZED, "True", &reason, "", now);
        }
        None => {}
    }
}
