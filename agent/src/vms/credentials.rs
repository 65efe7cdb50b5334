//! Access credentials that the agent in a guest sets: authorized SSH keys and passwords of its users.
//!
//! Why here: they are set in a guest that runs, and again when the Secret changes or the guest may have lost them. Route in: the
//! Pod's annotation, Secrets that the Pod names. Route out: [`Wanted`], which [`super::plan`] compares with what was set;
//! requests to the guest's agent.

use super::admission;
use super::api::Cluster;
use super::guest::Object;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::access::AccessCredential;
use sheaf_host::libvirt::{VmError, VmHost};
use std::collections::BTreeMap;

/// What a guest's users are to have.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Authorized keys, by the name of the user.
    pub keys: BTreeMap<String, Vec<String>>,
    /// Passwords, by the name of the user.
    pub passwords: BTreeMap<String, String>,
}

impl std::fmt::Debug for Wanted {
    /// Passwords are never shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "keys of {:?}, passwords of {:?}", self.keys.keys(), self.passwords.keys())
    }
}

/// The credentials of a VM that its guest's agent sets; an annotation that cannot be read has none.
pub fn of(pod: &Pod) -> Vec<AccessCredential> {
    let all = admission::placed(pod).map(|placed| placed.spec.access_credentials).unwrap_or_default();
    let is_set_by_agent = |one: &AccessCredential| match &one.ssh_public_key {
        Some(keys) => keys.propagation_method.qemu_guest_agent.is_some(),
        None => one.user_password.is_some(),
    };
    all.into_iter().filter(is_set_by_agent).collect()
}

/// Reads the Secrets of `credentials`.
pub async fn read<C: Cluster>(
    cluster: &C,
    pod: &Pod,
    credentials: &[AccessCredential],
) -> anyhow::Result<Wanted> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut wanted = Wanted::default();
    for credential in credentials {
        let Some(secret) = credential.secret() else { continue };
        let object = Object::Secret(secret.to_owned());
        anyhow::ensure!(admission::names(pod, &object), "the Pod does not refer to {object}");
        let values = cluster.values(namespace, &object).await?;
        wanted.add(credential, values.with_context(|| format!("{object} does not exist; create it"))?);
    }
    Ok(wanted)
}

impl Wanted {
    /// Adds what `credential` says, whose Secret has `values`.
    fn add(&mut self, credential: &AccessCredential, values: BTreeMap<String, Vec<u8>>) {
        let texts =
            values.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value).into_owned()));
        if let Some(keys) = &credential.ssh_public_key {
            let keys_of_all: Vec<String> = texts.flat_map(|(_, text)| lines(&text)).collect();
            let users = keys.propagation_method.qemu_guest_agent.iter().flat_map(|agent| &agent.users);
            for user in users {
                self.keys.entry(user.clone()).or_default().extend(keys_of_all.clone());
            }
            return;
        }
        let passwords = texts.map(|(user, password)| (user, password.trim().to_owned()));
        self.passwords.extend(passwords.filter(|(_, password)| !password.is_empty()));
    }
}

/// The keys in a text, one a line.
pub fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Has the agent of domain `uuid` set `wanted`.
pub async fn set<V: VmHost>(vms: &V, uuid: &str, wanted: &Wanted) -> Result<(), VmError> {
    for (user, keys) in &wanted.keys {
        vms.set_authorized_keys(uuid, user, keys).await?;
    }
    for (user, password) in &wanted.passwords {
        vms.set_password(uuid, user, password).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn credential(value: Value) -> AccessCredential {
        serde_json::from_value(value).unwrap()
    }

    fn values(values: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        values.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn keys_of_several_secrets_are_those_of_each_of_their_users_and_passwords_are_by_user() {
        let source = json!({"secret": {"secretName": "s"}});
        let keys = |users: Value| {
            credential(json!({"sshPublicKey": {"source": source,
                "propagationMethod": {"qemuGuestAgent": {"users": users}}}}))
        };
        let password =
            json!({"userPassword": {"source": source, "propagationMethod": {"qemuGuestAgent": {}}}});
        let mut wanted = Wanted::default();
        wanted.add(&keys(json!(["root", "ann"])), values(&[("a", "ssh-a\n\n ssh-b \n")]));
        wanted.add(&keys(json!(["ann"])), values(&[("b", "ssh-c")]));
        wanted.add(&credential(password), values(&[("ann", "secret\n"), ("bob", " ")]));
        assert_eq!(wanted.keys["root"], ["ssh-a", "ssh-b"]);
        assert_eq!(wanted.keys["ann"], ["ssh-a", "ssh-b", "ssh-c"]);
        assert_eq!(wanted.passwords, [("ann".to_owned(), "secret".to_owned())].into());
        assert!(!format!("{wanted:?}").contains("secret"), "{wanted:?}");
    }
}
