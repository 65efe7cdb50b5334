//! The identity of the administration console: its own client certificate, the certificate by which it answers browsers, and
//! exactly the rules it needs.
//!
//! Why here: it must not be an administrator, and only bootstrap holds the credentials that can make an identity. No CA of the
//! cluster signs what browsers see: a key that is taken from the console cannot be used to pose as the API server or as
//! sheaf-controller. People compare its fingerprint, or give a certificate that their browsers know: `[console]` of node.toml. Route
//! in: the cluster's CA, node.toml. Route out: `sheaf-console.conf`, `pki/sheaf-console-serving.*`, namespace, roles and bindings of
//! [`sheaf_api::console::rules`].

use super::controller::ensure_kubeconfig_of;
use super::kubeadm::ControlPlane;
use super::pki::Pki;
use super::serving::{self, Pair};
use crate::cluster::apply;
use crate::cluster::keys::Authority;
use sheaf_api::console::{IDENTITY, claim_roles, rules};
use sheaf_config::node::NodeConfig;
use sheaf_config::served;
use sheaf_host::file::write_atomically;
use sheaf_host::files::unless_missing;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Validity of the certificate for browsers, which take no more than 398 days; made again with less than a third left.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
const RENEW_BEFORE: Duration = Duration::from_secs(120 * 24 * 3600);

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

/// Makes both unless good ones are there; true when one was made: the console must be restarted.
pub fn ensure(
    pki: &Pki,
    plane: &ControlPlane,
    config: &NodeConfig,
    (ca, ca_key): (&str, &str),
    now: SystemTime,
) -> anyhow::Result<bool> {
    let identity = ensure_kubeconfig_of(IDENTITY, pki, &plane.server(), ca, ca_key, now)?;
    Ok(ensure_serving(pki, plane, config, now)? | identity)
}

/// The certificate for browsers: that of node.toml while it is valid, else one of our own.
fn ensure_serving(
    pki: &Pki,
    plane: &ControlPlane,
    config: &NodeConfig,
    now: SystemTime,
) -> anyhow::Result<bool> {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    for warning in served::warnings(config, seconds) {
        tracing::warn!("node.toml: {}: {}; {}", warning.path, warning.what, warning.remedy);
    }
    let is_valid = |pem: &str| served::facts(pem).is_some_and(|facts| facts.is_valid(seconds));
    match config.console.as_ref().filter(|console| is_valid(&console.certificate)) {
        Some(console) => ensure_given(pki, &console.certificate, console.key.reveal()),
        None => ensure_own(pki, plane, now),
    }
}

/// The files as node.toml has them. The mark comes first: what lies beside it is never taken for our own.
fn ensure_given(pki: &Pki, certificate: &str, key: &str) -> anyhow::Result<bool> {
    let [certificate_file, key_file] = SERVING.map(|name| pki.file(name));
    let has = |file: &PathBuf, text: &str| fs::read_to_string(file).is_ok_and(|there| there == text);
    if is_given(pki) && has(&certificate_file, certificate) && has(&key_file, key) {
        return Ok(false);
    }
    write_atomically(&pki.file(GIVEN), b"", 0o644)?;
    write_atomically(&key_file, key.as_bytes(), 0o600)?;
    write_atomically(&certificate_file, certificate.as_bytes(), 0o644)?;
    Ok(true)
}

/// One that the node signs, made again in time.
fn ensure_own(pki: &Pki, plane: &ControlPlane, now: SystemTime) -> anyhow::Result<bool> {
    let (names, addresses) = serving::names(plane.node.clone(), plane);
    let [certificate, key] = SERVING.map(|name| pki.file(name));
    let was_given = is_given(pki);
    if was_given {
        unless_missing(fs::remove_file(&certificate))?;
    }
    let pair = Pair { certificate, key, names, addresses, validity: VALIDITY, renew_before: RENEW_BEFORE };
    let made = pair.ensure(now, || {
        // Signs this once, and is forgotten.
        let (authority, key) = Authority::create("sheaf-console", now)?;
        Authority::from_pem(&authority, &key)
    })?;
    if was_given {
        unless_missing(fs::remove_file(pki.file(GIVEN)))?;
    }
    Ok(made)
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
    use crate::cluster::keys::{self, Key};
    use sheaf_config::node::{Console, Secret};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_consoles_certificates_are_made_once_and_again_for_another_address_or_before_they_end() {
        let pki = temporary("console");
        let now = SystemTime::now();
        pki.ensure(&plane(), &fake_kubeadm(), now).unwrap();
        let (ca, ca_key) = Authority::create("kubernetes", now).unwrap();
        let config = NodeConfig::named("n1");
        assert!(ensure(&pki, &plane(), &config, (&ca, &ca_key), now).unwrap());
        assert!(!ensure(&pki, &plane(), &config, (&ca, &ca_key), now).unwrap());
        let first = std::fs::read_to_string(pki.file(SERVING[0])).unwrap();
        let facts = keys::facts(&first).unwrap();
        assert_eq!(facts.addresses, [plane().address]);
        let moved = ControlPlane { address: [192, 0, 2, 77].into(), ..plane() };
        assert!(ensure(&pki, &moved, &config, (&ca, &ca_key), now).unwrap(), "it has another address");
        assert!(ensure(&pki, &plane(), &config, (&ca, &ca_key), now).unwrap());
        let mode = std::fs::metadata(pki.file(SERVING[1])).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let later = now + VALIDITY - RENEW_BEFORE + Duration::from_secs(3600);
        assert!(
            ensure(&pki, &plane(), &config, (&ca, &ca_key), later).unwrap(),
            "less than a third of its life is left"
        );
        // As after a power cut between the two writes.
        std::fs::write(pki.file(SERVING[1]), Key::generate().unwrap().to_pem().unwrap()).unwrap();
        assert!(
            ensure(&pki, &plane(), &config, (&ca, &ca_key), later).unwrap(),
            "a key of another certificate is of no use"
        );
        std::fs::remove_dir_all(&pki.dir).unwrap();
    }

    #[test]
    fn the_operators_certificate_is_used_while_it_is_valid_and_ours_before_and_after() {
        let pki = temporary("console-given");
        let now = SystemTime::now();
        pki.ensure(&plane(), &fake_kubeadm(), now).unwrap();
        let authorities = Authority::create("kubernetes", now).unwrap();
        let (ca, ca_key) = (authorities.0.as_str(), authorities.1.as_str());
        let given = Console {
            certificate: include_str!("../../../../configs/tests/console.crt").into(),
            key: Secret(include_str!("../../../../configs/tests/console.key").into()),
        };
        let ends = served::facts(&given.certificate).unwrap().ends;
        let with = NodeConfig { console: Some(given.clone()), ..NodeConfig::named("n1") };
        let without = NodeConfig::named("n1");
        let ensure = |config: &NodeConfig, now| ensure(&pki, &plane(), config, (ca, ca_key), now).unwrap();
        let served = || fs::read_to_string(serving_certificate(&pki)).unwrap();
        assert!(ensure(&with, now) && is_given(&pki));
        assert_eq!(served(), given.certificate);
        assert_eq!(fs::read_to_string(pki.file(SERVING[1])).unwrap(), given.key.reveal());
        let mode = fs::metadata(pki.file(SERVING[1])).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!ensure(&with, now), "the console is not restarted without need");
        // As after a power cut between the two writes.
        fs::write(pki.file(SERVING[1]), "half").unwrap();
        assert!(ensure(&with, now));
        assert!(ensure(&without, now) && !is_given(&pki), "it is no longer in node.toml");
        assert_ne!(served(), given.certificate);
        assert!(ensure(&with, now));
        let expired = UNIX_EPOCH + Duration::from_secs(ends);
        assert!(ensure(&with, expired) && !is_given(&pki), "one that has expired is not used");
        assert_ne!(served(), given.certificate);
        fs::remove_dir_all(&pki.dir).unwrap();
    }
}
