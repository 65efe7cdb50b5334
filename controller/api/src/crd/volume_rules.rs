//! The rules between fields of volumes that are made from other things (cloud-init, Windows Setup, metadata, overlays over
//! claims), and of access credentials.
//!
//! Why here: [`super::rules`] has those of disks and of the other volumes. Every rule has a bad manifest in
//! tests/manifests/bad. Route in: nothing. Route out: [`super::rule`].

use super::rule::{Reason, Rule};

/// User data has at most one source.
macro_rules! one_user_data {
    ($at:literal) => {
        Rule {
            at: $at,
            rule: "[has(self.userData), has(self.userDataBase64), has(self.secretRef)].filter(x, x).size() <= 1",
            says: "user data has more than one source: keep one of userData, userDataBase64 and secretRef",
            field: "",
            reason: Reason::Invalid,
        }
    };
}

/// Network data has at most one source.
macro_rules! one_network_data {
    ($at:literal) => {
        Rule {
            at: $at,
            rule: "[has(self.networkData), has(self.networkDataBase64), has(self.networkDataSecretRef)]\
                   .filter(x, x).size() <= 1",
            says: "network data has more than one source: keep one of networkData, networkDataBase64 and \
                   networkDataSecretRef",
            field: "",
            reason: Reason::Invalid,
        }
    };
}

/// There is user data or network data.
macro_rules! some_data {
    ($at:literal) => {
        Rule {
            at: $at,
            rule: "[has(self.userData), has(self.userDataBase64), has(self.secretRef), has(self.networkData), \
                   has(self.networkDataBase64), has(self.networkDataSecretRef)].exists(x, x)",
            says: "neither user data nor network data is given: set userData, for example",
            field: "",
            reason: Reason::Required,
        }
    };
}

/// Of the spec of an instance, in a VirtualMachine's template or by itself.
pub const VOLUMES: &[Rule] = &[
    Rule {
        at: "",
        rule: "!has(self.volumes) || \
               self.volumes.filter(v, has(v.cloudInitNoCloud) || has(v.cloudInitConfigDrive)).size() <= 1",
        says: "at most one volume may be cloudInitNoCloud or cloudInitConfigDrive",
        field: ".volumes",
        reason: Reason::Invalid,
    },
    one_user_data!("volumes[].cloudInitNoCloud"),
    one_network_data!("volumes[].cloudInitNoCloud"),
    some_data!("volumes[].cloudInitNoCloud"),
    one_user_data!("volumes[].cloudInitConfigDrive"),
    one_network_data!("volumes[].cloudInitConfigDrive"),
    some_data!("volumes[].cloudInitConfigDrive"),
    Rule {
        at: "volumes[].sysprep",
        rule: "has(self.configMap) != has(self.secret)",
        says: "set exactly one of configMap and secret",
        field: "",
        reason: Reason::Required,
    },
    Rule {
        at: "volumes[].downwardAPI",
        rule: "!has(self.fields) || self.fields.all(f, self.fields.filter(g, g.path == f.path || \
               g.path.startsWith(f.path + '/')).size() == 1)",
        says: "two fields have the same path, or one is the folder of another",
        field: ".fields",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.volumes) || self.volumes.filter(v, has(v.ephemeral)).all(v, !self.volumes.exists(w, \
               has(w.persistentVolumeClaim) && w.persistentVolumeClaim.claimName == \
               v.ephemeral.persistentVolumeClaim.claimName || has(w.dataVolume) && w.dataVolume.name == \
               v.ephemeral.persistentVolumeClaim.claimName))",
        says: "the claim of an ephemeral volume is another volume too, which writes it; remove one of them",
        field: ".volumes",
        reason: Reason::Invalid,
    },
    // Access credentials, of which some are put on a volume.
    Rule {
        at: "accessCredentials[]",
        rule: "has(self.sshPublicKey) != has(self.userPassword)",
        says: "set exactly one of sshPublicKey and userPassword",
        field: "",
        reason: Reason::Required,
    },
    Rule {
        at: "accessCredentials[].sshPublicKey.propagationMethod",
        rule: "[has(self.noCloud), has(self.configDrive), has(self.qemuGuestAgent)].filter(x, x).size() == 1",
        says: "set exactly one of noCloud, configDrive and qemuGuestAgent",
        field: "",
        reason: Reason::Required,
    },
    Rule {
        at: "",
        rule: "!has(self.accessCredentials) || !self.accessCredentials.exists(c, has(c.sshPublicKey) && \
               has(c.sshPublicKey.propagationMethod.noCloud)) || has(self.volumes) && \
               self.volumes.exists(v, has(v.cloudInitNoCloud))",
        says: "propagationMethod noCloud requires a volume cloudInitNoCloud",
        field: ".accessCredentials",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(self.accessCredentials) || !self.accessCredentials.exists(c, has(c.sshPublicKey) && \
               has(c.sshPublicKey.propagationMethod.configDrive)) || has(self.volumes) && \
               self.volumes.exists(v, has(v.cloudInitConfigDrive))",
        says: "propagationMethod configDrive requires a volume cloudInitConfigDrive",
        field: ".accessCredentials",
        reason: Reason::Invalid,
    },
];
