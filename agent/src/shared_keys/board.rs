//! The ConfigMap `kube-system/sheaf-shared-keys`: keys on their way to the other control-plane nodes, and what each node has.
//!
//! Why a ConfigMap and not a Secret: Secrets are encrypted in etcd with one of the very keys that travel here, and a node that was
//! off could not read it. The documents are sealed ([`super::seal`]). Why one object: a change is written only over the state it
//! was planned on (`resourceVersion`), so two nodes never change keys at once. What a node has is one entry of its own, merged.
//! Route in: an administrator's client. Route out: [`Board`].

use super::seal::SealKey;
use crate::cluster::is_status;
use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use std::collections::BTreeMap;

const NAMESPACE: &str = "kube-system";
/// Name of the ConfigMap.
pub const NAME: &str = "sheaf-shared-keys";
/// What the entries of nodes begin with: `applied.DOCUMENT.NODE`.
const APPLIED: &str = "applied.";

/// It, as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// Its entries.
    pub data: BTreeMap<String, String>,
    /// As the API server knows this state; none while there is no such object.
    version: Option<String>,
}

fn maps(client: &kube::Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), NAMESPACE)
}

impl Board {
    /// As it is now.
    pub async fn read(client: &kube::Client) -> anyhow::Result<Self> {
        let found = maps(client).get_opt(NAME).await;
        let found = found.with_context(|| format!("reading ConfigMap {NAMESPACE}/{NAME}"))?;
        Ok(found.map_or_else(Self::default, |map| Self {
            version: map.resource_version(),
            data: map.data.unwrap_or_default(),
        }))
    }

    /// The document `name`, opened with whichever of `keys` it was sealed with; none if there is none. One that none opens is an
    /// error: it is of another cluster, or was changed.
    pub fn document(&self, name: &str, keys: &[SealKey]) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(text) = self.data.get(name) else { return Ok(None) };
        let sealed = STANDARD.decode(text.trim()).unwrap_or_default();
        let plain = keys.iter().find_map(|key| key.open(name, &sealed));
        plain.map(Some).ok_or_else(|| {
            anyhow!(
                "ConfigMap {NAMESPACE}/{NAME}: {name} was not written by a control-plane node of this cluster, or was changed; \
                 delete the ConfigMap if no change of keys is under way"
            )
        })
    }

    /// With the document `name` as `plain`, sealed with `key`.
    pub fn put(&mut self, name: &str, key: &SealKey, plain: &[u8]) -> anyhow::Result<()> {
        self.data.insert(name.into(), STANDARD.encode(key.seal(name, plain)?));
        Ok(())
    }

    /// What each node reported of the document `name`: its mark by name of node.
    pub fn applied(&self, name: &str) -> BTreeMap<String, String> {
        let prefix = format!("{APPLIED}{name}.");
        let of =
            |(key, mark): (&String, &String)| Some((key.strip_prefix(&prefix)?.to_owned(), mark.clone()));
        self.data.iter().filter_map(of).collect()
    }

    /// Writes it over the state that was read; false if that is another by now.
    pub async fn write(&self, client: &kube::Client) -> anyhow::Result<bool> {
        let map: ConfigMap = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "resourceVersion": self.version},
            "data": self.data,
        }))?;
        let written = match self.version {
            Some(_) => maps(client).replace(NAME, &PostParams::default(), &map).await,
            None => maps(client).create(&PostParams::default(), &map).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(error) if is_status(&error, 409) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("writing ConfigMap {NAMESPACE}/{NAME}")),
        }
    }

    /// Notes that `node` runs with the document `name` as `mark` says.
    pub async fn report(client: &kube::Client, name: &str, node: &str, mark: &str) -> anyhow::Result<()> {
        let own = json!({"data": {format!("{APPLIED}{name}.{node}"): mark}});
        let patched = maps(client).patch(NAME, &PatchParams::default(), &Patch::Merge(&own)).await;
        patched.map(drop).with_context(|| format!("writing ConfigMap {NAMESPACE}/{NAME}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::keys::Key;

    fn key() -> SealKey {
        SealKey::of(&Key::generate().unwrap().to_pem().unwrap()).unwrap()
    }

    #[test]
    fn a_document_is_opened_with_any_key_that_the_node_has_and_one_of_another_cluster_is_an_error() {
        let (former, now) = (key(), key());
        let mut board = Board::default();
        board.put("encryption", &former, b"ring").unwrap();
        assert_eq!(board.document("service-accounts", &[]).unwrap(), None);
        let error = board.document("encryption", std::slice::from_ref(&now)).unwrap_err().to_string();
        assert_eq!(
            error,
            "ConfigMap kube-system/sheaf-shared-keys: encryption was not written by a control-plane node of this cluster, or was \
             changed; delete the ConfigMap if no change of keys is under way"
        );
        assert_eq!(board.document("encryption", &[now, former]).unwrap().as_deref(), Some(&b"ring"[..]));
    }

    #[test]
    fn what_nodes_report_is_told_apart_by_document_and_by_name_also_with_dots() {
        let mut board = Board::default();
        for (key, mark) in [
            ("applied.encryption.a", "1"),
            ("applied.encryption.b.example.org", "2"),
            ("applied.service-accounts.a", "3"),
            ("encryption", "sealed"),
        ] {
            board.data.insert(key.into(), mark.into());
        }
        let expected = [("a", "1"), ("b.example.org", "2")].map(|(node, mark)| (node.into(), mark.into()));
        assert_eq!(board.applied("encryption"), expected.into());
    }
}
