//! The keys of the cluster on their way to one more control-plane node.
//!
//! Why like this: as kubeadm's `upload-certs` does it. They are encrypted (AES-256-GCM) with a key that is printed with the token
//! and stored nowhere in the cluster, so neither who reads Secrets of kube-system nor who reads a snapshot of etcd has them. The
//! Secret may be read by the one token, once (its holder deletes it), and belongs to the token's Secret, so that it ends with it.
//! Route in: the keys on this node, a [`CertificateKey`]. Route out: Secret, Role and RoleBinding
//! `kube-system/sheaf-control-plane-ID`; on the other side, [`Parcel`].

use crate::cluster::apply;
use crate::cluster::is_status;
use crate::cluster::token::{NAMESPACE, Token};
use crate::etcd::keys::Keys;
use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Bytes of a key.
const KEY_LENGTH: usize = 32;
/// Key of the Secret's data.
const SEALED: &str = "sealed";

/// What a control-plane node must have that it cannot make: the same on all of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parcel {
    /// CAs with their keys, and the key of service accounts.
    pub keys: Keys,
    /// Addresses of Services.
    pub service_cidr: String,
}

/// What encrypts a parcel; shown once, to the person who installs the node.
pub struct CertificateKey([u8; KEY_LENGTH]);

impl CertificateKey {
    /// A new one from the kernel's random numbers.
    pub fn generate() -> anyhow::Result<Self> {
        let mut bytes = [0; KEY_LENGTH];
        getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
        Ok(Self(bytes))
    }

    /// From 64 hex digits.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        // What was written is not repeated: it may be a key with a slip.
        bytes.map(Self).context("certificate-key is not 64 hex digits")
    }

    /// 64 hex digits, for the one who is to use it.
    pub fn reveal(&self) -> String {
        hex::encode(self.0)
    }

    fn cipher(&self) -> anyhow::Result<LessSafeKey> {
        let key = UnboundKey::new(&AES_256_GCM, &self.0).map_err(|_| anyhow!("AES-256 takes no such key"))?;
        Ok(LessSafeKey::new(key))
    }

    /// `parcel` for the holder of the token `id`: a nonce, then the ciphertext with its tag.
    pub fn seal(&self, parcel: &Parcel, id: &str) -> anyhow::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|error| anyhow!("no random numbers: {error}"))?;
        let mut data = serde_json::to_vec(parcel)?;
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(id), &mut data)
            .map_err(|_| anyhow!("the keys of the cluster cannot be encrypted"))?;
        Ok([nonce.to_vec(), data].concat())
    }

    /// The parcel that was sealed for the token `id` with this key.
    pub fn open(&self, sealed: &[u8], id: &str) -> anyhow::Result<Parcel> {
        let (nonce, data) =
            sealed.split_first_chunk::<NONCE_LEN>().context("the keys of the cluster were cut")?;
        let mut data = data.to_vec();
        let plain = self
            .cipher()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(id), &mut data)
            .map_err(|_| anyhow!("certificate-key does not decrypt the keys of the cluster"))?;
        let parcel: Parcel = serde_json::from_slice(plain).context("the keys of the cluster are damaged")?;
        parcel.keys.check("the keys of the cluster")?;
        Ok(parcel)
    }
}

/// Name of the Secret, the Role and the RoleBinding of the token `id`.
pub fn name(id: &str) -> String {
    format!("sheaf-control-plane-{id}")
}

/// Stores `parcel` for the holder of `token`, whose Secret is there.
pub async fn send(
    admin: &kube::Client,
    token: &Token,
    key: &CertificateKey,
    parcel: &Parcel,
) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(admin.clone(), NAMESPACE);
    let owner =
        secrets.get(&format!("bootstrap-token-{}", token.id)).await.context("reading the token's Secret")?;
    let name = name(&token.id);
    // When the token ends, is used up or deleted, Kubernetes deletes these too.
    let metadata = json!({
        "name": name, "namespace": NAMESPACE,
        "ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": owner.name_any(), "uid": owner.uid()}],
    });
    apply::all(
        admin,
        &[
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
                "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name],
                           "verbs": ["get", "delete"]}],
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User",
                              "name": format!("system:bootstrap:{}", token.id)}],
            }),
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque",
                "data": {SEALED: STANDARD.encode(key.seal(parcel, &token.id)?)},
            }),
        ],
    )
    .await
}

/// Reads the parcel of the token `id`, as its holder.
pub async fn receive(holder: &kube::Client, id: &str, key: &CertificateKey) -> anyhow::Result<Parcel> {
    let secrets: Api<Secret> = Api::namespaced(holder.clone(), NAMESPACE);
    let secret = match secrets.get(&name(id)).await {
        Ok(secret) => secret,
        Err(error) if is_status(&error, 401) => bail!("token {id}.*** was used or has expired"),
        Err(error) if is_status(&error, 403) || is_status(&error, 404) => {
            bail!("token {id}.*** brings no keys: it is for a worker, or its keys were fetched before")
        }
        Err(error) => return Err(error).context("reading the keys of the cluster"),
    };
    let sealed = secret
        .data
        .as_ref()
        .and_then(|data| data.get(SEALED))
        .context("the keys of the cluster are missing")?;
    key.open(&sealed.0, id)
}

/// Deletes the parcel of the token `id`, as its holder: it was received, and nobody else needs it.
pub async fn discard(holder: &kube::Client, id: &str) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(holder.clone(), NAMESPACE);
    match secrets.delete(&name(id), &DeleteParams::default()).await {
        // Without a token there is no right to it, and soon no Secret either.
        Err(error) if ![401, 403, 404].into_iter().any(|code| is_status(&error, code)) => {
            Err(error).context("deleting the keys that were received")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;

    fn parcel() -> Parcel {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        crate::etcd::keys::tests::make(&paths);
        Parcel { keys: Keys::collect(&paths).unwrap(), service_cidr: "10.96.0.0/16".into() }
    }

    #[test]
    fn only_the_key_and_the_token_that_it_was_sealed_for_open_a_parcel() {
        let (parcel, key) = (parcel(), CertificateKey::generate().unwrap());
        let sealed = key.seal(&parcel, "abcdef").unwrap();
        assert!(!sealed.windows(11).any(|bytes| bytes == b"PRIVATE KEY"), "it is not encrypted");
        let again = CertificateKey::parse(&key.reveal()).unwrap();
        assert!(again.open(&sealed, "abcdef").unwrap() == parcel);
        let refusal =
            |key: &CertificateKey, sealed: &[u8], id: &str| key.open(sealed, id).err().unwrap().to_string();
        let wrong = "certificate-key does not decrypt the keys of the cluster";
        assert_eq!(refusal(&CertificateKey::generate().unwrap(), &sealed, "abcdef"), wrong);
        assert_eq!(refusal(&key, &sealed, "abcdeg"), wrong);
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(refusal(&key, &changed, "abcdef"), wrong);
        assert_eq!(refusal(&key, &sealed[..5], "abcdef"), "the keys of the cluster were cut");
    }

    #[test]
    fn a_key_that_is_refused_is_not_repeated() {
        let error = CertificateKey::parse("0123456789abcdeg").err().unwrap().to_string();
        assert_eq!(error, "certificate-key is not 64 hex digits");
    }
}
