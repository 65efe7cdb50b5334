//! The rules between fields of the storage kinds, as the API server will check them (CEL), each with its sentence.
//!
//! Why here: beside the types they are about. Every rule has a bad object in tests/manifests/bad.
//! Route in: nothing. Route out: [`crate::crd`].

use crate::crd::rule::{Reason, Rule};

/// Of a BlockDevice.
pub const BLOCK_DEVICE: &[Rule] = &[
    Rule {
        at: "",
        rule: "self.metadata.name.startsWith(self.spec.nodeName + '.')",
        says: "metadata.name is <nodeName>.<id>; the node's agent makes it",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "self.nodeName == oldSelf.nodeName",
        says: "nodeName cannot be changed: a disk that moves to another node gets a new BlockDevice there",
        field: ".nodeName",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec",
        rule: "self.identity == oldSelf.identity",
        says: "identity is reported by the disk and cannot be changed",
        field: ".identity",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec",
        rule: "self.role != 'pool' || has(self.pool)",
        says: "role pool needs the name of the pool",
        field: ".pool",
        reason: Reason::Required,
    },
    Rule {
        at: "spec",
        rule: "self.role == 'pool' || !has(self.pool)",
        says: "only a disk of role pool belongs to a pool; set role: pool or remove this",
        field: ".pool",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec",
        rule: "!has(self.wipe) || (has(self.identity.serial) ? self.wipe.confirmSerial == self.identity.serial : \
               has(self.identity.wwn) ? self.wipe.confirmSerial == self.identity.wwn : \
               has(self.identity.path) && self.wipe.confirmSerial == self.identity.path)",
        says: "does not repeat this disk's identity.serial (without one identity.wwn, without either identity.path); \
               nothing is erased",
        field: ".wipe.confirmSerial",
        reason: Reason::Invalid,
    },
];

/// Of a StoragePool.
pub const STORAGE_POOL: &[Rule] = &[
    Rule {
        at: "",
        rule: "self.metadata.name == self.spec.pool + '.' + self.spec.nodeName",
        says: "metadata.name is <pool>.<nodeName>, so that a node has one pool of a name",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "self.nodeName == oldSelf.nodeName",
        says: "nodeName cannot be changed; create a pool on the other node",
        field: ".nodeName",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec",
        rule: "self.pool == oldSelf.pool",
        says: "the name of a pool cannot be changed",
        field: ".pool",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec",
        rule: "!has(self.devices) || self.devices.all(device, device.startsWith(self.nodeName + '.'))",
        says: "a pool consists of BlockDevices of its own node, whose names begin with <nodeName>.",
        field: ".devices",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "!has(self.tags) || self.tags.all(tag, tag.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$'))",
        says: "a tag consists of lowercase letters, digits and hyphens",
        field: ".tags",
        reason: Reason::Invalid,
    },
];

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
        says: "only sizeBytes of a volume can be changed; create another volume with this one as its source",
        field: "",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec",
        rule: "self.sizeBytes >= oldSelf.sizeBytes",
        says: "a volume cannot shrink; create a smaller one and copy the data",
        field: ".sizeBytes",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec.source",
        rule: "[has(self.blank), has(self.volume), has(self.snapshot), has(self.http), has(self.registry), \
               has(self.upload)].filter(x, x).size() == 1",
        says: "a volume has exactly one source: blank, volume, snapshot, http, registry or upload",
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
        says: "a snapshot cannot grow; create a volume from it and grow that",
        field: ".sizeBytes",
        reason: Reason::Forbidden,
    },
];
