//! The node's keys and certificates on disk: `/var/lib/sheaf/pki`.
//!
//! Why here: a key is on disk before anyone sees its public half, and a certificate never lies beside a key that is
//! not its own: both are one file, replaced at once. Route in: PEM. Route out: a pair that matches, or nothing.

use super::keys::{self, Facts, Key};
use anyhow::Context as _;
use sheaf_host::file::write_atomically;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The certificate by which the node speaks to the API server.
pub const CLIENT: &str = "kubelet-client";
/// The certificate by which the node answers.
pub const SERVING: &str = "kubelet-serving";

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity {
    /// PEM.
    pub certificate: String,
    /// PEM; never shown.
    pub key: String,
    /// What the certificate says.
    pub facts: Facts,
}

impl Identity {
    /// Whether it is past its end.
    pub fn expired(&self, now: SystemTime) -> bool {
        now >= self.facts.not_after
    }

    /// Whether it is valid at `now`: neither past its end nor before its beginning, which is how a certificate looks
    /// after a clock that was ahead stepped back.
    pub fn valid(&self, now: SystemTime) -> bool {
        self.facts.not_before <= now && !self.expired(now)
    }

    /// When to ask for the next one: at `share` (0 to 1) of the span from 70 to 90 % of its life.
    pub fn renew_at(&self, share: f64) -> SystemTime {
        let life = self.facts.not_after.duration_since(self.facts.not_before).unwrap_or(Duration::ZERO);
        self.facts.not_before + life.mul_f64(0.7 + 0.2 * share.clamp(0.0, 1.0))
    }
}

/// The directory they lie in.
#[derive(Clone, Debug)]
pub struct Store {
    /// `/var/lib/sheaf/pki`.
    pub dir: PathBuf,
}

impl Store {
    /// That of the node whose files are `paths`.
    pub fn of(paths: &crate::paths::Paths) -> Self {
        Self { dir: paths.lib.join("pki") }
    }

    /// The pair `name`, if it is there and matches.
    pub fn load(&self, name: &str) -> Option<Identity> {
        let text = fs::read_to_string(self.dir.join(format!("{name}.pem"))).ok()?;
        let identity = pair(&text);
        if let Err(error) = &identity {
            tracing::warn!("{name}.pem cannot be used: {error:#}");
        }
        identity.ok()
    }

    /// Keeps `certificate` with the pending key it was asked for with, which is then no longer pending.
    pub fn save(&self, name: &str, certificate: &str, key: &Key) -> anyhow::Result<Identity> {
        let text = format!("{}\n{}", certificate.trim_end(), key.to_pem()?);
        let identity = pair(&text).context("the certificate that was issued is not for this node's key")?;
        write_atomically(&self.dir.join(format!("{name}.pem")), text.as_bytes(), 0o600)?;
        self.forget_pending(name)?;
        Ok(identity)
    }

    /// The key of the request under way, or a new one; on disk when this returns.
    pub fn pending(&self, name: &str) -> anyhow::Result<Key> {
        let path = self.pending_path(name);
        if let Some(key) = fs::read_to_string(&path).ok().and_then(|pem| Key::from_pem(&pem).ok()) {
            return Ok(key);
        }
        let key = Key::generate()?;
        write_atomically(&path, key.to_pem()?.as_bytes(), 0o600)?;
        Ok(key)
    }

    /// Whether there is a pair `name`, usable or not.
    pub fn has(&self, name: &str) -> bool {
        self.dir.join(format!("{name}.pem")).exists()
    }

    /// Whether a request is under way.
    pub fn is_pending(&self, name: &str) -> bool {
        self.pending_path(name).exists()
    }

    /// Gives the key of a refused request up.
    pub fn forget_pending(&self, name: &str) -> anyhow::Result<()> {
        remove(self.pending_path(name))
    }

    /// The CA this node trusts since it joined.
    pub fn ca(&self) -> Option<String> {
        fs::read_to_string(self.dir.join("ca.crt")).ok()
    }

    /// Trusts `ca` from now on.
    pub fn save_ca(&self, ca: &str) -> anyhow::Result<()> {
        Ok(write_atomically(&self.dir.join("ca.crt"), ca.as_bytes(), 0o644)?)
    }

    /// Forgets everything that belongs to another cluster or another name.
    pub fn forget(&self) -> anyhow::Result<()> {
        for name in [CLIENT, SERVING] {
            remove(self.dir.join(format!("{name}.pem")))?;
            self.forget_pending(name)?;
        }
        remove(self.dir.join("ca.crt"))
    }

    fn pending_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key.pending"))
    }
}

fn remove(path: PathBuf) -> anyhow::Result<()> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

fn pair(text: &str) -> anyhow::Result<Identity> {
    let key = Key::from_pem(text)?;
    let facts = keys::facts(text)?;
    anyhow::ensure!(key.public_der()? == facts.public_der, "certificate and key do not match");
    let start = text.find("-----BEGIN PRIVATE KEY-----").unwrap_or(text.len());
    Ok(Identity { certificate: text[..start].trim_end().to_owned() + "\n", key: key.to_pem()?, facts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (Store, PathBuf) {
        let unique = Key::generate().unwrap().public_der().unwrap();
        let dir = std::env::temp_dir()
            .join(format!("sheaf-identity-{:02x?}", &unique[40..48]).replace([' ', ',', '[', ']'], ""));
        (Store { dir: dir.clone() }, dir)
    }

    #[test]
    fn a_pending_key_survives_a_restart_until_it_is_given_up() {
        let (store, dir) = store();
        let first = store.pending(CLIENT).unwrap().public_der().unwrap();
        assert_eq!(store.pending(CLIENT).unwrap().public_der().unwrap(), first);
        store.forget_pending(CLIENT).unwrap();
        assert_ne!(store.pending(CLIENT).unwrap().public_der().unwrap(), first);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_empty_certificate_is_never_kept() {
        let (store, dir) = store();
        let key = store.pending(CLIENT).unwrap();
        let error = store.save(CLIENT, "", &key).err().expect("an empty text is not a certificate");
        assert!(format!("{error:#}").contains("there is no CERTIFICATE block"), "{error:#}");
        assert!(store.load(CLIENT).is_none());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn renewal_falls_between_70_and_90_percent_of_the_life() {
        let start = SystemTime::UNIX_EPOCH;
        let facts = Facts {
            not_before: start,
            not_after: start + Duration::from_secs(1000),
            public_der: vec![],
            subject: String::new(),
            issuer: String::new(),
            addresses: vec![],
            names: vec![],
        };
        let identity = Identity { certificate: String::new(), key: String::new(), facts };
        assert_eq!(identity.renew_at(0.0), start + Duration::from_secs(700));
        assert_eq!(identity.renew_at(1.0), start + Duration::from_secs(900));
        assert!(identity.expired(start + Duration::from_secs(1000)));
    }
}
