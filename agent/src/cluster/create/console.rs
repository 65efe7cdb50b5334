//! The identity of the administration console: its own client certificate, the certificate by which it answers browsers, and
//! exactly the rules it needs.
//!
//! Why here: it must not be an administrator, and only bootstrap holds the credentials that can make an identity. No CA of the
//! cluster signs what browsers see: a key that is taken from the console cannot be used to pose as the API server or as
//! sheaf-controller. People compare its fingerprint, or give a certificate that their browsers know: `[console]` of node.toml. Without
//! that, all nodes have the same one ([`super::shared`]). Route in: the cluster's CA, node.toml, the API server. Route out:
//! `sheaf-console.conf`, `pki/sheaf-console-serving.*`, namespace, roles and bindings of [`sheaf_api::console::rules`].

use super::controller::ensure_kubeconfig_of;
use super::kubeadm::ControlPlane;
use super::pki::Pki;
use super::shared::{self, Pair};
use crate::cluster::apply;
use sheaf_api::console::{IDENTITY, claim_roles, rules};
use sheaf_config::node::{Console, NodeConfig};
use sheaf_config::served;
use sheaf_host::file::write_atomically;
use sheaf_host::files::unless_missing;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The certificate for browsers, and its key, in `pki/`.
const SERVING: [&str; 2] = ["sheaf-console-serving.crt", "sheaf-console-serving.key"];

/// Is there while the files are those of node.toml.
const GIVEN: &str = "sheaf-console-serving.given";

/// Whether the certificate for browsers is that of node.toml, which nobody but its operator renews.
pub fn is_given(pki: &Pki) -> bool {
    pki.file(GIVEN).exists()
}

/// The certificate that browsers see, PEM.
pub fn serving_certificate(pki: &Pki) -> PathBuf {
    pki.file(SERVING[0])
}

/// Makes its identity unless a good one is there, and puts the certificate of node.toml in place; true when something changed: the
/// console must be restarted.
pub fn ensure(
    pki: &Pki,
    plane: &ControlPlane,
    config: &NodeConfig,
    (ca, ca_key): (&str, &str),
    now: SystemTime,
) -> anyhow::Result<bool> {
    let identity = ensure_kubeconfig_of(IDENTITY, pki, &plane.server(), ca, ca_key, now)?;
    for warning in served::warnings(config, seconds(now)) {
        tracing::warn!("node.toml: {}: {}; {}", warning.path, warning.what, warning.remedy);
    }
    let given = match given(config, now) {
        Some(console) => put(pki, &console.certificate, console.key.reveal(), true)?,
        None => false,
    };
    Ok(given | identity)
}

/// Where node.toml has no certificate that is valid: the one of all consoles of the cluster. True when it is another than before.
pub async fn ensure_shared(
    client: &kube::Client,
    pki: &Pki,
    plane: &ControlPlane,
    config: &NodeConfig,
    now: SystemTime,
) -> anyhow::Result<bool> {
    if given(config, now).is_some() {
        return Ok(false);
    }
    let pair = shared::agreed(client, plane, now).await?;
    put_shared(pki, &pair)
}

/// Puts the one of the cluster in place; true when it is another than before.
pub fn put_shared(pki: &Pki, pair: &Pair) -> anyhow::Result<bool> {
    put(pki, &pair.certificate, &pair.key, false)
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What node.toml has, while it is valid.
fn given(config: &NodeConfig, now: SystemTime) -> Option<&Console> {
    let is_valid = |pem: &str| served::facts(pem).is_some_and(|facts| facts.is_valid(seconds(now)));
    config.console.as_ref().filter(|console| is_valid(&console.certificate))
}

/// The files as they are to be; true when they were not. The mark of what is given comes before it and goes after it: what is given is
/// never taken for our own, which is renewed.
fn put(pki: &Pki, certificate: &str, key: &str, is_given_now: bool) -> anyhow::Result<bool> {
    let [certificate_file, key_file] = SERVING.map(|name| pki.file(name));
    let has = |file: &PathBuf, text: &str| fs::read_to_string(file).is_ok_and(|there| there == text);
    if is_given(pki) == is_given_now && has(&certificate_file, certificate) && has(&key_file, key) {
        return Ok(false);
    }
    if is_given_now {
        write_atomically(&pki.file(GIVEN), b"", 0o644)?;
    }
    write_atomically(&key_file, key.as_bytes(), 0o600)?;
    write_atomically(&certificate_file, certificate.as_bytes(), 0o644)?;
    if !is_given_now {
        unless_missing(fs::remove_file(pki.file(GIVEN)))?;
    }
    Ok(true)
}

/// Applies what it may do, and the roles that a claim needs.
pub async fn ensure_rules(client: &kube::Client) -> anyhow::Result<()> {
    apply::all(client, &rules()).await?;
    apply::all(client, &claim_roles()).await
}

#[cfg(test)]
mod tests {
    use super::super::pki::tests::{fake_kubeadm, plane, temporary};
    use super::*;
    use crate::cluster::keys::Authority;
    use sheaf_config::node::Secret;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    #[test]
    fn the_consoles_identity_is_made_once_and_the_clusters_certificate_put_in_place_when_it_is_another() {
        let pki = temporary("console");
        let now = SystemTime::now();
        pki.ensure(&plane(), &fake_kubeadm(), now).unwrap();
        let (ca, ca_key) = Authority::create("kubernetes", now).unwrap();
        let config = NodeConfig::named("n1");
        assert!(ensure(&pki, &plane(), &config, (&ca, &ca_key), now).unwrap());
        assert!(!ensure(&pki, &plane(), &config, (&ca, &ca_key), now).unwrap());
        let [first, second] = [(); 2].map(|()| Pair::make(&plane(), now).unwrap());
        assert!(put_shared(&pki, &first).unwrap());
        assert!(!put_shared(&pki, &first).unwrap(), "the console is not restarted without need");
        assert!(put_shared(&pki, &second).unwrap());
        assert_eq!(fs::read_to_string(serving_certificate(&pki)).unwrap(), second.certificate);
        let mode = fs::metadata(pki.file(SERVING[1])).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // As after a power cut between the two writes.
        fs::write(pki.file(SERVING[1]), &first.key).unwrap();
        assert!(put_shared(&pki, &second).unwrap());
        assert_eq!(fs::read_to_string(pki.file(SERVING[1])).unwrap(), second.key);
        fs::remove_dir_all(&pki.dir).unwrap();
    }

    #[test]
    fn the_operators_certificate_is_used_while_it_is_valid_and_the_clusters_before_and_after() {
        let pki = temporary("console-given");
        let now = SystemTime::now();
        pki.ensure(&plane(), &fake_kubeadm(), now).unwrap();
        let authorities = Authority::create("kubernetes", now).unwrap();
        let (ca, ca_key) = (authorities.0.as_str(), authorities.1.as_str());
        let console = Console {
            certificate: include_str!("../../../../configs/tests/console.crt").into(),
            key: Secret(include_str!("../../../../configs/tests/console.key").into()),
        };
        let ends = served::facts(&console.certificate).unwrap().ends;
        let with = NodeConfig { console: Some(console.clone()), ..NodeConfig::named("n1") };
        let without = NodeConfig::named("n1");
        let pair = Pair::make(&plane(), now).unwrap();
        let ensure = |config: &NodeConfig, now| {
            let changed = ensure(&pki, &plane(), config, (ca, ca_key), now).unwrap();
            changed | (given(config, now).is_none() && put_shared(&pki, &pair).unwrap())
        };
        let served = || fs::read_to_string(serving_certificate(&pki)).unwrap();
        assert!(ensure(&with, now) && is_given(&pki));
        assert_eq!(served(), console.certificate);
        assert_eq!(fs::read_to_string(pki.file(SERVING[1])).unwrap(), console.key.reveal());
        let mode = fs::metadata(pki.file(SERVING[1])).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!ensure(&with, now), "the console is not restarted without need");
        // As after a power cut between the two writes.
        fs::write(pki.file(SERVING[1]), "half").unwrap();
        assert!(ensure(&with, now));
        assert!(ensure(&without, now) && !is_given(&pki), "it is no longer in node.toml");
        assert_eq!(served(), pair.certificate);
        assert!(ensure(&with, now));
        let expired = UNIX_EPOCH + Duration::from_secs(ends);
        assert!(ensure(&with, expired) && !is_given(&pki), "one that has expired is not used");
        assert_eq!(served(), pair.certificate);
        fs::remove_dir_all(&pki.dir).unwrap();
    }
}
