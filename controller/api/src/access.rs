//! How people get into a guest: SSH keys and passwords of Secrets.
//!
//! Why here: names and meanings are KubeVirt's. cloud-init sets keys once, when it sets up the guest; the guest's agent sets keys
//! and passwords of a guest that runs, again whenever the Secret changes. Route in: `spec.accessCredentials` of a VMI. Route
//! out: meta data of a cloud-init disk; requests of the node to the guest's agent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One way into the guest; exactly one of sshPublicKey and userPassword.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessCredential {
    /// SSH public keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_public_key: Option<SshPublicKey>,
    /// Passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_password: Option<UserPassword>,
}

/// The SSH public keys in a Secret: each of its values, whatever its key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SshPublicKey {
    /// Where they are.
    pub source: CredentialSource,
    /// How they get into the guest.
    pub propagation_method: KeyPropagation,
}

/// The passwords in a Secret: the key is the name of a user, the value the password.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserPassword {
    /// Where they are.
    pub source: CredentialSource,
    /// How they get into the guest.
    pub propagation_method: PasswordPropagation,
}

/// Where credentials are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialSource {
    /// A Secret of the VM's namespace.
    pub secret: CredentialSecret,
}

/// A Secret of the VM's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialSecret {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// How keys get into the guest; exactly one of noCloud, configDrive and qemuGuestAgent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyPropagation {
    /// By the meta data of the volume cloudInitNoCloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_cloud: Option<NoSettings>,
    /// By the meta data of the volume cloudInitConfigDrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_drive: Option<NoSettings>,
    /// By the guest's agent: they replace the authorized keys of these users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu_guest_agent: Option<KeyUsers>,
}

/// How passwords get into the guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordPropagation {
    /// By the guest's agent.
    pub qemu_guest_agent: NoSettings,
}

/// It has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoSettings {}

/// Users whose authorized keys are set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyUsers {
    /// Their names in the guest.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 64)))]
    pub users: Vec<String>,
}

impl AccessCredential {
    /// Name of the Secret that it is in.
    pub fn secret(&self) -> Option<&str> {
        let of_keys = self.ssh_public_key.as_ref().map(|keys| &keys.source);
        let source = of_keys.or(self.user_password.as_ref().map(|passwords| &passwords.source));
        source.map(|source| source.secret.secret_name.as_str())
    }
}
