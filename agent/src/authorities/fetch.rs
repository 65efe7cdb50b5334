//! A node's copy of the cluster's CA, as the cluster has it now.
//!
//! Why it is safe: only a certificate of the same key and name is taken, so whom the node trusts does not change; what changes is when
//! that ends. cluster-info is read over TLS that the copy of before verifies. Route in: the node's client. Route out:
//! `/var/lib/sheaf/pki/ca.crt`.

use crate::cluster::identity::Store;
use crate::cluster::keys;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use sheaf_config::cluster_info::ClusterInfo;

/// `offered` if it is the CA `held`, with a later end.
pub(crate) fn later(held: &str, offered: &str) -> Option<String> {
    let before = keys::facts(held).ok()?;
    let offered = keys::block(offered, "CERTIFICATE")?;
    let now = keys::facts(offered).ok()?;
    let is_same = now.public_der == before.public_der && now.subject == before.subject;
    (is_same && now.not_after > before.not_after).then(|| format!("{offered}\n"))
}

/// Takes the cluster's CA from cluster-info, if it is the one of this node with a later end; true if it was taken. A cluster without
/// cluster-info has nothing to take.
pub async fn fetch(client: &kube::Client, store: &Store) -> anyhow::Result<bool> {
    let Some(held) = store.ca() else { return Ok(false) };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let found = match maps.get_opt("cluster-info").await {
        // A cluster that was not made by kubeadm or Sheaf may let no node read it.
        Err(error) if crate::cluster::is_status(&error, 403) => None,
        answer => answer.context("reading cluster-info")?,
    };
    let Some(map) = found else { return Ok(false) };
    let offered = ClusterInfo::parse(&serde_json::to_vec(&map)?)?.ca()?;
    match later(&held, &offered) {
        Some(ca) => store.save_ca(&ca).map(|()| true),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::keys::Authority;
    use std::time::{Duration, SystemTime};

    #[test]
    fn only_the_same_ca_with_a_later_end_is_taken() {
        let now = SystemTime::now();
        let (held, key) = Authority::create("kubernetes", now).unwrap();
        let again =
            Authority::from_pem(&held, &key).unwrap().reissue(now + Duration::from_secs(3600)).unwrap();
        let taken = later(&held, &again).unwrap();
        assert_eq!(keys::facts(&taken).unwrap(), keys::facts(&again).unwrap());
        assert_eq!(later(&again, &held), None, "an earlier end");
        assert_eq!(later(&held, &held), None);
        let (other, _) = Authority::create("kubernetes", now + Duration::from_secs(3600)).unwrap();
        assert_eq!(later(&held, &other), None, "another key");
        // A second certificate beside it is not taken with it.
        assert_eq!(later(&held, &format!("{again}{other}")).unwrap().matches("BEGIN").count(), 1);
        assert_eq!(later(&held, "nonsense"), None);
    }
}
