//! The mark on a content whose guest is frozen.
//!
//! Why here: it is what a successor of this program thaws by. Route in: the annotation [`FROZEN_ANNOTATION`]. Route out:
//! which instance, and until when.

use k8s_openapi::jiff::Timestamp;
use sheaf_api::vm_snapshot::{FROZEN_ANNOTATION, VirtualMachineSnapshotContent};

use crate::volumes::annotation;

/// A guest that is frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// UID of its instance.
    pub uid: String,
    /// Its node thaws it then, whatever becomes of this program.
    pub until: Timestamp,
}

impl Frozen {
    /// The mark of `content`, if it has one.
    pub fn of(content: &VirtualMachineSnapshotContent) -> Option<Self> {
        let (uid, until) = annotation(content, FROZEN_ANNOTATION)?.split_once(' ')?;
        Some(Self { uid: uid.into(), until: until.parse().ok()? })
    }

    /// As the annotation has it.
    pub fn text(&self) -> String {
        format!("{} {}", self.uid, self.until)
    }
}
