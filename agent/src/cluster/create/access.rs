//! Administrators' way in: certificates for the public keys of node.toml, published where their owners find them.
//!
//! Why here: a node has no ssh; a certificate is public, so the ConfigMap `kube-public/sheaf-access` may be read by
//! anyone, and is of use only to the key's owner. Route in: public keys. Route out: that ConfigMap.

use crate::cluster::keys::{self, Authority, Subject};
use crate::cluster::{apply, is_status};
use anyhow::Context as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use sheaf_config::pin::CaPin;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Name of the ConfigMap.
pub const CONFIG_MAP: &str = "sheaf-access";

/// Validity of an administrator's certificate: one year, renewed while the node runs.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Made again with less than this left.
const RENEW_BEFORE: Duration = Duration::from_secs(120 * 24 * 3600);

/// Publishes a certificate for each of `public_keys` (PEM), and none for others; without `public_keys` for those that have one.
pub async fn publish(
    client: &kube::Client,
    ca: &str,
    ca_key: &str,
    public_keys: Option<&[String]>,
) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let before = match maps.get(CONFIG_MAP).await {
        Ok(map) => map.data.unwrap_or_default(),
        Err(error) if is_status(&error, 404) => BTreeMap::new(),
        Err(error) => return Err(error.into()),
    };
    let keys = match public_keys {
        Some(keys) => keys
            .iter()
            .enumerate()
            .map(|(index, pem)| {
                keys::public_key_der(pem).with_context(|| format!("cluster.admin-keys[{index}]"))
            })
            .collect::<anyhow::Result<Vec<_>>>()?,
        None => published(&before),
    };
    let data = contents(&before, ca, ca_key, &keys, SystemTime::now())?;
    if data != before {
        maps.delete(CONFIG_MAP, &kube::api::DeleteParams::default())
            .await
            .map(drop)
            .or_else(|error| if is_status(&error, 404) { Ok(()) } else { Err(error) })?;
    }
    apply::all(
        client,
        &[
            serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": CONFIG_MAP, "namespace": "kube-public"}, "data": data,
            }),
            serde_json::json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                "metadata": {"name": CONFIG_MAP, "namespace": "kube-public"},
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CONFIG_MAP], "verbs": ["get"]}],
            }),
            serde_json::json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": CONFIG_MAP, "namespace": "kube-public"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": CONFIG_MAP},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:anonymous"}],
            }),
        ],
    )
    .await
}

/// Public keys (DER) of the certificates that are published.
fn published(data: &BTreeMap<String, String>) -> Vec<Vec<u8>> {
    let certificates = data.iter().filter(|(name, _)| *name != "ca.crt");
    certificates.filter_map(|(_, pem)| Some(keys::facts(pem).ok()?.public_der)).collect()
}

/// What the ConfigMap holds: the CA, and a certificate per key, kept while it lasts.
fn contents(
    before: &BTreeMap<String, String>,
    ca: &str,
    ca_key: &str,
    public_keys: &[Vec<u8>],
    now: SystemTime,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut data = BTreeMap::from([("ca.crt".to_owned(), ca.to_owned())]);
    let same_ca = before.get("ca.crt").is_some_and(|before| before == ca);
    let authority = Authority::from_pem(ca, ca_key)?;
    for key in public_keys {
        let hash = CaPin::of_public_key(key).hex();
        let name = format!("{hash}.crt");
        let lasting = before.get(&name).filter(|pem| {
            same_ca
                && keys::facts(pem).is_ok_and(|facts| {
                    facts.public_der == *key
                        && facts.not_before <= now
                        && facts.not_after > now + RENEW_BEFORE
                })
        });
        let certificate = match lasting {
            Some(certificate) => certificate.clone(),
            None => {
                let subject = Subject {
                    common_name: format!("sheaf-admin-{}", &hash[..16]),
                    organisations: vec!["system:masters".into()],
                };
                authority.issue_client(&subject, key, VALIDITY)?
            }
        };
        data.insert(name, certificate);
    }
    Ok(data)
}
