//! The certificates of the cluster's CAs, as a document that control-plane nodes share.
//!
//! Why their ends make its number: a certificate that is made again ends later than the one before it, so the later of two documents
//! is the one whose ends are later; nothing is counted or kept. Only certificates are in it: each node has the keys. Route in:
//! `pki/`, the time. Route out: [`Certificates`], PEM.

use crate::cluster::create::pki::{AUTHORITIES, Pki};
use crate::cluster::keys::{self, Authority};
use crate::shared_keys::Document;
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use sheaf_host::file::write_atomically;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

/// One with less than this left is made again: two years, of ten. Longer than any certificate that it signs lasts, and than a node
/// may be off without a new token, so no node meets a CA that has ended.
pub const RENEW_BEFORE: Duration = Duration::from_secs(2 * 365 * 24 * 3600);

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Certificates {
    /// PEM by name of the CA, `etcd/ca`.
    by_name: BTreeMap<String, String>,
}

impl Document for Certificates {
    const NAME: &'static str = "authorities";

    /// The ends of all, in seconds since 1970, together.
    fn generation(&self) -> u64 {
        let end = |pem: &String| {
            let end = keys::facts(pem).ok()?.not_after;
            Some(end.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
        };
        self.by_name.values().filter_map(end).fold(0, u64::saturating_add)
    }
}

impl Certificates {
    /// Those of this node; none before they are made.
    pub fn load(pki: &Pki) -> anyhow::Result<Option<Self>> {
        let mut by_name = BTreeMap::new();
        for (name, _) in AUTHORITIES {
            let path = pki.file(&format!("{name}.crt"));
            if !path.exists() {
                return Ok(None);
            }
            let pem = fs::read_to_string(&path)
                .with_context(|| format!("{}: cannot be read; run this as root", path.display()))?;
            by_name.insert(name.to_owned(), pem);
        }
        Ok(Some(Self { by_name }))
    }

    /// Names of those that are to be made again at `now`.
    pub fn due(&self, now: SystemTime) -> Vec<String> {
        let is_due = |pem: &String| keys::facts(pem).is_ok_and(|facts| facts.not_after <= now + RENEW_BEFORE);
        self.by_name.iter().filter(|(_, pem)| is_due(pem)).map(|(name, _)| name.clone()).collect()
    }

    /// With `names` made again at `now`, with the keys in `pki`.
    pub fn renewed(&self, pki: &Pki, names: &[String], now: SystemTime) -> anyhow::Result<Self> {
        let mut renewed = self.clone();
        for name in names {
            let path = pki.file(&format!("{name}.key"));
            let key = fs::read_to_string(&path)
                .with_context(|| format!("{}: cannot be read; run this as root", path.display()))?;
            let pem = renewed.by_name.get_mut(name).with_context(|| format!("there is no CA {name}"))?;
            *pem = Authority::from_pem(pem, &key)
                .and_then(|ca| ca.reissue(now))
                .with_context(|| name.clone())?;
        }
        Ok(renewed)
    }

    /// Puts those that end later than those of `held` in place, on the disk of this node. One of another key is refused: the CA of this
    /// node did not make it.
    pub fn replace(&self, held: &Self, pki: &Pki) -> anyhow::Result<()> {
        for (name, pem) in &self.by_name {
            let before = held.by_name.get(name).with_context(|| format!("there is no CA {name}"))?;
            let (new, old) = (keys::facts(pem)?, keys::facts(before)?);
            ensure!(
                new.public_der == old.public_der && new.subject == old.subject,
                "the certificate of CA {name} that the control-plane nodes share is of another key; delete ConfigMap \
                 kube-system/sheaf-shared-keys"
            );
            if new.not_after > old.not_after {
                write_atomically(&pki.file(&format!("{name}.crt")), pem.as_bytes(), 0o644)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::keys::tests::make;
    use crate::paths::Paths;
    use sheaf_config::pin::CaPin;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    #[test]
    fn a_ca_is_made_again_for_its_key_two_years_before_its_end_and_the_later_one_is_taken() {
        let (root, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        let paths = Paths::under(root.path());
        let pki = Pki { dir: paths.kubernetes.clone() };
        assert_eq!(Certificates::load(&pki).unwrap(), None);
        make(&paths);
        let held = Certificates::load(&pki).unwrap().unwrap();
        assert_eq!(held.due(now + YEAR * 79 / 10), [""; 0]);
        // They were made a moment after `now`.
        let later = now + YEAR * 8 + Duration::from_secs(24 * 3600);
        let due = held.due(later);
        assert_eq!(due.len(), AUTHORITIES.len());
        let pin = |text: &str| CaPin::of_certificate(text).unwrap();
        let before = fs::read_to_string(pki.file("ca.crt")).unwrap();
        let renewed = held.renewed(&pki, &due, later).unwrap();
        assert!(renewed.generation() > held.generation());
        renewed.replace(&held, &pki).unwrap();
        let after = fs::read_to_string(pki.file("ca.crt")).unwrap();
        assert_ne!(before, after);
        assert_eq!(pin(&before), pin(&after), "ca-hash stays");
        assert_eq!(Certificates::load(&pki).unwrap().as_ref(), Some(&renewed));
        held.replace(&renewed, &pki).unwrap();
        assert_eq!(fs::read_to_string(pki.file("ca.crt")).unwrap(), after, "an earlier one is not taken");
    }

    #[test]
    fn a_certificate_of_another_key_is_refused() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let load = |root: &tempfile::TempDir| {
            let paths = Paths::under(root.path());
            make(&paths);
            let pki = Pki { dir: paths.kubernetes };
            (Certificates::load(&pki).unwrap().unwrap(), pki)
        };
        let ((held, pki), (foreign, _)) = (load(&here), load(&there));
        let error = foreign.replace(&held, &pki).unwrap_err().to_string();
        assert_eq!(
            error,
            "the certificate of CA aggregated-ca that the control-plane nodes share is of another key; delete ConfigMap \
             kube-system/sheaf-shared-keys"
        );
        assert_eq!(Certificates::load(&pki).unwrap(), Some(held));
    }
}
