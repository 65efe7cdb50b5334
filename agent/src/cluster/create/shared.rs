//! The certificate by which every console of a cluster answers, unless node.toml has one.
//!
//! Why one for all: a browser that was told to trust it at the address for people finds the same one there when another node has
//! the address, and people compare one fingerprint. The first node to look makes it and puts it into a Secret of the console's namespace;
//! the others take it from there. Two that look at once are kept apart by the Secret's `resourceVersion`. Route in: the API server, names,
//! time. Route out: a [`Pair`].

use super::kubeadm::ControlPlane;
use super::serving;
use crate::cluster::keys::{self, Authority, Key};
use anyhow::{Context as _, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use sheaf_api::console::{IDENTITY, NAMESPACE};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Validity of the certificate: browsers take no more than 398 days. Made again with less than a third left.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
const RENEW_BEFORE: Duration = Duration::from_secs(120 * 24 * 3600);

/// The Secret, and its keys: those of the type `kubernetes.io/tls`.
const SECRET: &str = "serving";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Tries while other nodes write it.
const TRIES: u32 = 5;

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// Signed by nobody that anybody knows.
    pub certificate: String,
    /// Root's alone.
    pub key: String,
}

impl Pair {
    /// A new one, with the names and addresses by which people reach this control plane today. That another node has others
    /// does not matter: who trusts it by its fingerprint has no use for names.
    pub fn make(plane: &ControlPlane, now: SystemTime) -> anyhow::Result<Self> {
        let (names, addresses) = serving::names(IDENTITY.to_owned(), plane);
        let key = Key::generate()?;
        // Signs this once, and is forgotten.
        let (authority, authority_key) = Authority::create(IDENTITY, now)?;
        let authority = Authority::from_pem(&authority, &authority_key)?;
        let certificate = authority.issue_server(&names, &addresses, &key.public_der()?, VALIDITY, now)?;
        Ok(Self { certificate, key: key.to_pem()? })
    }

    /// Whether it is valid, is so for long enough, and is whole.
    pub fn is_good(&self, now: SystemTime) -> bool {
        keys::whole(&self.certificate, &self.key, now, RENEW_BEFORE).is_some()
    }

    fn of(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
        Some(Self { certificate: text(CERTIFICATE)?, key: text(KEY)? })
    }

    fn secret(&self, resource_version: Option<String>) -> Secret {
        let data = [(CERTIFICATE, &self.certificate), (KEY, &self.key)];
        let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes())));
        Secret {
            metadata: ObjectMeta { name: Some(SECRET.into()), resource_version, ..ObjectMeta::default() },
            type_: Some("kubernetes.io/tls".into()),
            data: Some(BTreeMap::from(data)),
            ..Secret::default()
        }
    }
}

/// The one that the cluster has; made if it has none, or one that ends soon.
pub async fn agreed(client: &kube::Client, plane: &ControlPlane, now: SystemTime) -> anyhow::Result<Pair> {
    let what = || format!("Secret {NAMESPACE}/{SECRET}");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    for _ in 0..TRIES {
        let found = secrets.get_opt(SECRET).await.with_context(what)?;
        if let Some(pair) = found.as_ref().and_then(Pair::of).filter(|pair| pair.is_good(now)) {
            return Ok(pair);
        }
        let made = Pair::make(plane, now)?;
        let parameters = PostParams::default();
        let written = match found {
            Some(found) => {
                let secret = made.secret(found.metadata.resource_version);
                secrets.replace(SECRET, &parameters, &secret).await
            }
            None => secrets.create(&parameters, &made.secret(None)).await,
        };
        match written {
            Ok(_) => return Ok(made),
            // Another node was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error).with_context(what),
        }
    }
    bail!("{}: other nodes wrote it at each of {TRIES} tries", what())
}

#[cfg(test)]
mod tests {
    use super::super::pki::tests::plane;
    use super::*;

    #[test]
    fn it_names_how_people_reach_the_control_plane_and_is_made_again_before_it_ends() {
        let now = SystemTime::now();
        let vip = "192.0.2.100".parse().unwrap();
        let plane = ControlPlane { sans: vec!["api.example".into(), "192.0.2.100".into()], ..plane() };
        let pair = Pair::make(&plane, now).unwrap();
        let facts = keys::facts(&pair.certificate).unwrap();
        assert_eq!(facts.names, ["sheaf-console", "api.example"]);
        assert_eq!(facts.addresses, [plane.address, vip]);
        assert!(pair.is_good(now));
        let later = now + VALIDITY - RENEW_BEFORE + Duration::from_secs(3600);
        assert!(!pair.is_good(later), "less than a third of its life is left");
        assert!(!pair.is_good(now - 2 * keys::BACKDATE), "it is not valid yet");
    }

    #[test]
    fn a_secret_keeps_it_and_one_that_is_not_whole_is_no_good() {
        let now = SystemTime::now();
        let (pair, other) = (Pair::make(&plane(), now).unwrap(), Pair::make(&plane(), now).unwrap());
        assert!(Pair::of(&pair.secret(None)).unwrap() == pair);
        assert_eq!(pair.secret(Some("7".into())).metadata.resource_version.as_deref(), Some("7"));
        let mixed = Pair { key: other.key, ..pair.clone() };
        assert!(!mixed.is_good(now), "a key of another certificate is of no use");
        let broken = Pair { certificate: "x".into(), ..pair.clone() };
        assert!(!broken.is_good(now));
        let mut secret = pair.secret(None);
        secret.data.as_mut().unwrap().remove(KEY);
        assert!(Pair::of(&secret).is_none());
    }
}
