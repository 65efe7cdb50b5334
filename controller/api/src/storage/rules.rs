//! The rules between fields of the storage kinds, as the API server will check them (CEL), each with its sentence.
//!
//! Why here: beside the types they are about. Every rule has a bad object in tests/manifests/bad.
//! Route in: nothing. Route out: [`crate::crd`].

use crate::crd::rule::{Reason, Rule};

/// Of a LocalVolume.
pub const LOCAL_VOLUME: &[Rule] = &[
    Rule {
        at: "",
        rule: "self.metadata.name.matches('^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$') && self.metadata.name != 'thin' && \
               !self.metadata.name.startsWith('snapshot') && !self.metadata.name.startsWith('pvmove')",
        says: "metadata.name becomes the name of a logical volume: a lower-case letter, then up to 62 letters, digits \
               and hyphens; not thin, and not beginning with snapshot or pvmove, which are LVM's own",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "self.nodeName == oldSelf.nodeName && self.pool == oldSelf.pool && self.kind == oldSelf.kind && \
               self.source == oldSelf.source",
        says: "only sizeBytes of a volume changes; make another volume with this one as its source",
        field: "",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec",
        rule: "self.sizeBytes >= oldSelf.sizeBytes",
        says: "a volume does not shrink; make a smaller one and copy what is needed",
        field: ".sizeBytes",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec.source",
        rule: "[has(self.blank), has(self.volume), has(self.snapshot), has(self.http), has(self.upload)]\
               .filter(x, x).size() == 1",
        says: "a volume has exactly one source: blank, volume, snapshot, http or upload",
        field: "",
        reason: Reason::Required,
    },
    Rule {
        at: "spec",
        rule: "self.kind != 'Snapshot' || has(self.source.volume)",
        says: "a snapshot is of a volume: set source.volume",
        field: ".source",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "self.kind != 'Snapshot' || self.sizeBytes == oldSelf.sizeBytes",
        says: "a snapshot keeps its size; make a volume of it and grow that",
        field: ".sizeBytes",
        reason: Reason::Forbidden,
    },
];
