//! The keys of service accounts: `pki/service-accounts.json`, and what Kubernetes' programs are given of it.
//!
//! Why a file of our own beside kubeadm's `sa.key` and `sa.pub`: a key that does not sign yet has no place in those, nor has the time
//! at which one stopped signing. A cluster that never changed its key has kubeadm's two alone. `sa.pub` holds the public half of
//! every key; kube-apiserver reads all of them (`--service-account-key-file`). Route in: random numbers, kubeadm's files. Route
//! out: [`KeySet`], PEM.

use crate::cluster::create::pki::Pki;
use crate::cluster::keys::{self, Key as Private};
use crate::cluster::time::rfc3339;
use crate::paths::Paths;
use crate::shared_keys::Document;
use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sheaf_host::file::write_atomically;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

/// Name of the file, below `pki/`.
pub const FILE: &str = "service-accounts.json";
/// kubeadm's names.
pub const PRIVATE: &str = "sa.key";
/// The public halves.
pub const PUBLIC: &str = "sa.pub";

/// The longest life of a token: what kube-apiserver gives at most (`--service-account-max-token-expiration`), and clocks that differ
/// by an hour. Tokens in Secrets have no end, and are made again instead.
pub const LONGEST_TOKEN: Duration = Duration::from_secs((365 * 24 + 1) * 3600);

/// A key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// One more than that of the key before it.
    pub number: u32,
    /// When it was made, RFC 3339; empty for kubeadm's.
    pub made: String,
    /// When every control-plane node had stopped signing with it, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<String>,
    /// `PUBLIC KEY` in PEM.
    public: String,
    /// PEM; gone once it does not sign. Never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    private: Option<String>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.number)
    }
}

impl Key {
    fn generate(number: u32, now: SystemTime) -> anyhow::Result<Self> {
        let key = Private::generate()?;
        Ok(Self {
            number,
            made: rfc3339(now),
            retired: None,
            public: key.public_pem()?,
            private: Some(key.to_pem()?),
        })
    }

    /// What a token signed with it has as `kid`: `keyIDFromPublicKey` in `pkg/serviceaccount/jwt.go` of Kubernetes.
    pub fn id(&self) -> String {
        let der = keys::public_key_der(&self.public).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(Sha256::digest(der))
    }

    /// When no token of it is valid any more; none while it may sign.
    pub fn ends(&self) -> Option<SystemTime> {
        let retired: Timestamp = self.retired.as_ref()?.parse().ok()?;
        SystemTime::from(retired).checked_add(LONGEST_TOKEN)
    }
}

/// All keys of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeySet {
    /// The first signs, all verify.
    pub keys: Vec<Key>,
    /// One more with every change that other control-plane nodes must follow.
    #[serde(default)]
    pub generation: u64,
}

impl Document for KeySet {
    const NAME: &'static str = "service-accounts";

    fn generation(&self) -> u64 {
        self.generation
    }
}

impl KeySet {
    /// The one of this node: of its file, or else of kubeadm's two; none before those are made.
    pub fn load(paths: &Paths) -> anyhow::Result<Option<Self>> {
        let pki = Pki { dir: paths.kubernetes.clone() };
        let read = |name: &str| match fs::read_to_string(pki.file(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error)
                .with_context(|| format!("{}: cannot be read; run this as root", pki.file(name).display())),
        };
        if let Some(text) = read(FILE)? {
            return Self::parse(&text).map(Some).with_context(|| {
                format!(
                    "{}: does not hold the keys of service accounts; restore it from the file that `sheaf-agent snapshot save-keys` wrote",
                    pki.file(FILE).display()
                )
            });
        }
        let (Some(private), Some(public)) = (read(PRIVATE)?, read(PUBLIC)?) else { return Ok(None) };
        let key = Key { number: 1, made: String::new(), retired: None, public, private: Some(private) };
        Ok(Some(Self { keys: vec![key], generation: 0 }))
    }

    /// From the file's text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let set: Self = serde_json::from_str(text)?;
        ensure!(set.signing().is_some_and(|key| key.private.is_some()), "no key signs");
        Ok(set)
    }

    /// The file's text.
    pub fn text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Puts it on the disk of this node, durably.
    pub fn save(&self, paths: &Paths) -> anyhow::Result<()> {
        let path = Pki { dir: paths.kubernetes.clone() }.file(FILE);
        Ok(write_atomically(&path, self.text()?.as_bytes(), 0o600)?)
    }

    /// The one that signs.
    pub fn signing(&self) -> Option<&Key> {
        self.keys.first()
    }

    /// One that verifies and does not sign yet.
    pub fn next_key(&self) -> Option<u32> {
        let signing = self.signing()?.number;
        self.keys.iter().map(|key| key.number).filter(|number| *number > signing).max()
    }

    /// Numbers of those that may still sign on some node, though another is to.
    pub fn former(&self) -> Vec<u32> {
        let signing = self.signing().map(|key| key.number).unwrap_or_default();
        let is_former = |key: &&Key| key.number < signing && key.retired.is_none();
        self.keys.iter().filter(is_former).map(|key| key.number).collect()
    }

    /// Numbers of those whose last token has ended at `now`.
    pub fn ended(&self, now: SystemTime) -> Vec<u32> {
        let is_over = |key: &&Key| key.ends().is_some_and(|end| now >= end);
        self.keys.iter().filter(is_over).map(|key| key.number).collect()
    }

    /// Whether no change is under way at `now`.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        self.next_key().is_none() && self.former().is_empty() && self.ended(now).is_empty()
    }

    /// With a new key, which verifies and does not sign yet.
    pub fn add(&mut self, now: SystemTime) -> anyhow::Result<()> {
        let number = self.keys.iter().map(|key| key.number).max().unwrap_or_default().saturating_add(1);
        self.keys.push(Key::generate(number, now)?);
        self.next();
        Ok(())
    }

    /// Has the key `number` sign.
    pub fn sign_with(&mut self, number: u32) {
        self.keys.sort_by_key(|key| key.number != number);
        self.next();
    }

    /// Notes that none of `numbers` signs any more since `now`; their private halves go.
    pub fn retire(&mut self, numbers: &[u32], now: SystemTime) {
        for key in self.keys.iter_mut().filter(|key| numbers.contains(&key.number)) {
            key.retired.get_or_insert_with(|| rfc3339(now));
            key.private = None;
        }
        self.next();
    }

    /// Takes `numbers` out.
    pub fn forget(&mut self, numbers: &[u32]) {
        self.keys.retain(|key| !numbers.contains(&key.number));
        self.next();
    }

    /// It was changed: other control-plane nodes follow.
    pub fn next(&mut self) {
        self.generation = self.generation.saturating_add(1);
    }

    /// `sa.key`, and `sa.pub` with the key that signs first.
    pub fn files(&self) -> Option<(String, String)> {
        let private = self.signing()?.private.clone()?;
        let public = self.keys.iter().map(|key| format!("{}\n", key.public.trim_end()));
        Some((private, public.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000)
    }

    /// kubeadm's two files below `paths`.
    fn kubeadm(paths: &Paths) -> Private {
        let (pki, key) = (Pki { dir: paths.kubernetes.clone() }, Private::generate().unwrap());
        write_atomically(&pki.file(PRIVATE), key.to_pem().unwrap().as_bytes(), 0o600).unwrap();
        write_atomically(&pki.file(PUBLIC), key.public_pem().unwrap().as_bytes(), 0o600).unwrap();
        key
    }

    #[test]
    fn a_cluster_that_never_changed_its_key_has_kubeadms_files_unchanged() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        assert_eq!(KeySet::load(&paths).unwrap(), None);
        let key = kubeadm(&paths);
        let set = KeySet::load(&paths).unwrap().unwrap();
        assert_eq!(set.files(), Some((key.to_pem().unwrap(), key.public_pem().unwrap())));
        assert!(set.is_settled(now()));
    }

    #[test]
    fn a_new_key_verifies_then_signs_and_the_former_one_loses_its_private_half_and_ends_a_year_later() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let first = kubeadm(&paths);
        let mut set = KeySet::load(&paths).unwrap().unwrap();
        set.add(now()).unwrap();
        assert_eq!(set.next_key(), Some(2));
        let (private, public) = set.files().unwrap();
        assert_eq!(private, first.to_pem().unwrap(), "the former one signs");
        assert_eq!(public.matches("BEGIN PUBLIC KEY").count(), 2);
        set.sign_with(2);
        assert_ne!(set.files().unwrap().0, private);
        assert_eq!((set.next_key(), set.former()), (None, vec![1]));
        set.retire(&[1], now());
        let text = set.text().unwrap();
        assert!(!text.contains(first.to_pem().unwrap().lines().nth(1).unwrap()), "its private half is kept");
        assert!(set.is_settled(now() + DAY * 365), "clocks may differ by an hour");
        let end = now() + LONGEST_TOKEN;
        assert_eq!((set.ended(end), set.is_settled(end)), (vec![1], false));
        set.save(&paths).unwrap();
        assert_eq!(KeySet::load(&paths).unwrap().as_ref(), Some(&set));
        set.forget(&[1]);
        assert_eq!(set.files().unwrap().1.matches("BEGIN PUBLIC KEY").count(), 1);
        assert_eq!(set.generation, 4, "each change has a number");
    }

    #[test]
    fn a_file_without_a_key_that_signs_is_refused() {
        assert_eq!(KeySet::parse(r#"{"keys":[]}"#).unwrap_err().to_string(), "no key signs");
        let public_alone = r#"{"keys":[{"number":1,"made":"","public":"x"}]}"#;
        assert_eq!(KeySet::parse(public_alone).unwrap_err().to_string(), "no key signs");
    }

    #[test]
    fn kube_apiserver_gives_no_token_that_outlives_its_key() {
        let unit =
            include_str!("../../../os-image/image/rootfs/usr/lib/systemd/system/kube-apiserver.service");
        let hours = (LONGEST_TOKEN - Duration::from_secs(3600)).as_secs() / 3600;
        assert!(unit.contains(&format!("--service-account-max-token-expiration={hours}h ")), "{unit}");
    }
}
