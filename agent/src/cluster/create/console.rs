//! The identity of the administration console: its own client certificate, the certificate by which it answers browsers, and
//! exactly the rules it needs.
//!
//! Why here: it must not be an administrator, and only bootstrap holds the credentials that can make an identity. No CA of the
//! cluster signs what browsers see: a key that is taken from the console cannot be used to pose as the API server or as
//! sheaf-controller. People compare its fingerprint. Route in: the cluster's CA. Route out: `sheaf-console.conf`,
//! `pki/sheaf-console-serving.*`, namespace, roles and bindings of [`sheaf_api::console::rules`].

use super::controller::ensure_kubeconfig_of;
use super::kubeadm::ControlPlane;
use super::pki::Pki;
use super::serving::{self, Pair};
use crate::cluster::apply;
use crate::cluster::keys::Authority;
use sheaf_api::console::{IDENTITY, claim_roles, rules};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Validity of the certificate for browsers, which take no more than 398 days; made again with less than a third left.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
const RENEW_BEFORE: Duration = Duration::from_secs(120 * 24 * 3600);

/// The certificate for browsers, and its key, in `pki/`.
const SERVING: [&str; 2] = ["sheaf-console-serving.crt", "sheaf-console-serving.key"];

/// The certificate that browsers see, PEM.
pub fn serving_certificate(pki: &Pki) -> PathBuf {
    pki.file(SERVING[0])
}

/// Makes both unless good ones are there; true when one was made: the console must be restarted.
pub fn ensure(
    pki: &Pki,
    plane: &ControlPlane,
    ca: &str,
    ca_key: &str,
    now: SystemTime,
) -> anyhow::Result<bool> {
    let identity = ensure_kubeconfig_of(IDENTITY, pki, &plane.server(), ca, ca_key, now)?;
    Ok(ensure_serving(pki, plane, now)? | identity)
}

/// The certificate for browsers.
fn ensure_serving(pki: &Pki, plane: &ControlPlane, now: SystemTime) -> anyhow::Result<bool> {
    let (names, addresses) = serving::names(plane.node.clone(), plane);
    let [certificate, key] = SERVING.map(|name| pki.file(name));
    let pair = Pair { certificate, key, names, addresses, validity: VALIDITY, renew_before: RENEW_BEFORE };
    pair.ensure(now, || {
        // Signs this once, and is forgotten.
        let (authority, key) = Authority::create("sheaf-console", now)?;
        Authority::from_pem(&authority, &key)
    })
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
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_consoles_certificates_are_made_once_and_again_for_another_address_or_before_they_end() {
        let pki = temporary("console");
        let now = SystemTime::now();
        pki.ensure(&plane(), &fake_kubeadm(), now).unwrap();
        let (ca, ca_key) = Authority::create("kubernetes", now).unwrap();
        assert!(ensure(&pki, &plane(), &ca, &ca_key, now).unwrap());
        assert!(!ensure(&pki, &plane(), &ca, &ca_key, now).unwrap());
        let first = std::fs::read_to_string(pki.file(SERVING[0])).unwrap();
        let facts = keys::facts(&first).unwrap();
        assert_eq!(facts.addresses, [plane().address]);
        let moved = ControlPlane { address: [192, 0, 2, 77].into(), ..plane() };
        assert!(ensure(&pki, &moved, &ca, &ca_key, now).unwrap(), "it has another address");
        assert!(ensure(&pki, &plane(), &ca, &ca_key, now).unwrap());
        let mode = std::fs::metadata(pki.file(SERVING[1])).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let later = now + VALIDITY - RENEW_BEFORE + Duration::from_secs(3600);
        assert!(
            ensure(&pki, &plane(), &ca, &ca_key, later).unwrap(),
            "less than a third of its life is left"
        );
        // As after a power cut between the two writes.
        std::fs::write(pki.file(SERVING[1]), Key::generate().unwrap().to_pem().unwrap()).unwrap();
        assert!(
            ensure(&pki, &plane(), &ca, &ca_key, later).unwrap(),
            "a key of another certificate is of no use"
        );
        std::fs::remove_dir_all(&pki.dir).unwrap();
    }
}
