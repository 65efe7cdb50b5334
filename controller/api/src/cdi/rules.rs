//! The rules of a DataVolume's spec and of a CDIConfig, as the API server will check them (CEL), each with its sentence.
//!
//! Why here: those of a spec are the same for a DataVolume and for a template in a VirtualMachine. Every rule has a bad object in
//! tests/manifests/bad. Route in: nothing. Route out: [`crate::crd`].

use crate::crd::rule::{Reason, Rule};

/// Of a DataVolume alone.
pub const ALONE: &[Rule] = &[Rule {
    at: "spec",
    rule: "self == oldSelf",
    says: "a DataVolume cannot be changed; grow its PersistentVolumeClaim, or create another DataVolume",
    field: "",
    reason: Reason::Forbidden,
}];

/// Of a CDIConfig.
pub const CONFIG: &[Rule] = &[
    Rule {
        at: "",
        rule: "self.metadata.name == 'config'",
        says: "there is one CDIConfig, and its name is config",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "!has(self.uploadProxyURLOverride) || self.uploadProxyURLOverride.matches('^https://[^/?#@ ]+(/[^?# ]*)?$')",
        says: "use the address of the upload proxy, https://…: clients send it their tokens",
        field: ".uploadProxyURLOverride",
        reason: Reason::Invalid,
    },
];

/// Of the spec of a DataVolume, by itself or as a VirtualMachine's template.
pub const SPEC: &[Rule] = &[
    Rule {
        at: "",
        rule: "has(self.storage) != has(self.pvc)",
        says: "set exactly one of storage and pvc",
        field: ".storage",
        reason: Reason::Required,
    },
    Rule {
        at: "source",
        rule: "[has(self.blank), has(self.http), has(self.pvc), has(self.registry), has(self.snapshot), \
               has(self.upload)].filter(x, x).size() == 1",
        says: "a DataVolume has exactly one source: blank, http, pvc, registry, snapshot or upload",
        field: "",
        reason: Reason::Required,
    },
    Rule {
        at: "source.http",
        rule: "self.url.matches('^https?://[^/?#@ ]+([/?#][^ ]*)?$')",
        says: "use the address of a file, http://… or https://…, without user name and password, which everybody who may read volumes would see",
        field: ".url",
        reason: Reason::Invalid,
    },
    Rule {
        at: "source.http",
        rule: "has(self.checksum)",
        says: "set checksum to sha256:<64 digits>, the SHA-256 of the file: nothing is imported without a checksum",
        field: ".checksum",
        reason: Reason::Required,
    },
    Rule {
        at: "source.http",
        rule: "!has(self.checksum) || self.checksum.matches('^sha256:[0-9a-fA-F]{64}$')",
        says: "a checksum is sha256: and 64 hexadecimal digits",
        field: ".checksum",
        reason: Reason::Invalid,
    },
    Rule {
        at: "source.http",
        rule: "!has(self.secretRef) && !has(self.secretExtraHeaders) || self.url.startsWith('https://')",
        says: "credentials are sent by https alone; use a URL that begins with https://",
        field: ".url",
        reason: Reason::Invalid,
    },
    Rule {
        at: "source.registry",
        rule: "self.url.matches('^docker://[a-zA-Z0-9]')",
        says: "use docker:// and the name of an image, for example docker://quay.io/containerdisks/debian:13",
        field: ".url",
        reason: Reason::Invalid,
    },
    Rule {
        at: "pvc",
        rule: "has(self.accessModes) && size(self.accessModes) > 0",
        says: "pvc names its accessModes, for example [ReadWriteOnce]; with storage they may be left out",
        field: ".accessModes",
        reason: Reason::Required,
    },
    Rule {
        at: "pvc",
        rule: "has(self.resources) && has(self.resources.requests) && 'storage' in self.resources.requests",
        says: "set resources.requests.storage, for example 10Gi",
        field: ".resources",
        reason: Reason::Required,
    },
    Rule {
        at: "",
        rule: "!has(self.storage) || has(self.source.pvc) || has(self.source.snapshot) || has(self.storage.resources) && \
               has(self.storage.resources.requests) && 'storage' in self.storage.resources.requests",
        says: "set storage.resources.requests.storage, for example 10Gi",
        field: ".storage",
        reason: Reason::Required,
    },
    modes("storage"),
    modes("pvc"),
    only_storage("storage.resources.requests"),
    only_storage("pvc.resources.requests"),
    not_tiny("storage.resources.requests"),
    not_tiny("pvc.resources.requests"),
];

const fn modes(at: &'static str) -> Rule {
    Rule {
        at,
        rule: "!has(self.accessModes) || self.accessModes.all(mode, mode in ['ReadWriteOnce', 'ReadWriteOncePod'])",
        says: "volumes are on one node: use ReadWriteOnce, or ReadWriteOncePod",
        field: ".accessModes",
        reason: Reason::Invalid,
    }
}

const fn only_storage(at: &'static str) -> Rule {
    Rule {
        at,
        rule: "self.all(name, name == 'storage')",
        says: "only storage can be requested",
        field: "",
        reason: Reason::Forbidden,
    }
}

const fn not_tiny(at: &'static str) -> Rule {
    Rule {
        at,
        rule: "!('storage' in self) || !isQuantity(string(self['storage'])) || \
               quantity(string(self['storage'])).compareTo(quantity('1Mi')) >= 0",
        says: "a volume has at least 1Mi (a number without unit is bytes)",
        field: "",
        reason: Reason::Invalid,
    }
}
