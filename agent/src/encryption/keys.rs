//! The keys by which kube-apiserver encrypts Secrets: `pki/encryption-keys.json`, and what kube-apiserver is given of it.
//!
//! Why a file of our own: kube-apiserver's has no place for keys that are out of use and that older snapshots need. Why
//! secretbox: XSalsa20-Poly1305 with random nonces of 24 bytes, so that the number of writes does not wear a key out, as it does
//! with aesgcm. A key's name holds a part of its hash: a Secret of another cluster's key is told from one that is damaged. Route
//! in: random numbers. Route out: [`Ring`]; the EncryptionConfiguration as text.

use crate::cluster::create::pki::Pki;
use crate::cluster::time::rfc3339;
use crate::paths::Paths;
use crate::shared_keys::Document;
use anyhow::{Context as _, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sheaf_host::file::write_atomically;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::time::SystemTime;

/// Name of the file, below `pki/`.
pub const FILE: &str = "encryption-keys.json";

/// Length of a key of secretbox.
const LENGTH: usize = 32;

/// A key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// `k2-9f86d081`: its number, and the beginning of its hash.
    pub name: String,
    /// One more than that of the key before it.
    pub number: u32,
    /// When it was made, RFC 3339.
    pub made: String,
    /// When it came out of use, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<String>,
    /// The key itself, base64; never shown.
    secret: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.name)
    }
}

impl Key {
    /// A new one from the kernel's random numbers.
    pub fn generate(number: u32, now: SystemTime) -> anyhow::Result<Self> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
        let hash = hex::encode(Sha256::digest(bytes));
        Ok(Self {
            name: format!("k{number}-{}", &hash[..8]),
            number,
            made: rfc3339(now),
            retired: None,
            secret: STANDARD.encode(bytes),
        })
    }

    /// When it came out of use, in seconds since 1970; 0 while it is in use.
    pub fn retired_at(&self) -> u64 {
        let time = self.retired.as_ref().and_then(|time| time.parse::<Timestamp>().ok());
        time.and_then(|time| u64::try_from(time.as_second()).ok()).unwrap_or_default()
    }
}

/// All keys of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// In use: the first encrypts, all decrypt.
    pub keys: Vec<Key>,
    /// Out of use; snapshots from before may need them.
    #[serde(default)]
    pub retired: Vec<Key>,
    /// The key that every Secret in etcd is encrypted with; none while that is not known.
    #[serde(default)]
    pub settled: Option<String>,
    /// One more with every change that other control-plane nodes must follow.
    #[serde(default)]
    pub generation: u64,
}

impl Document for Ring {
    const NAME: &'static str = "encryption";

    fn generation(&self) -> u64 {
        self.generation
    }
}

impl Ring {
    /// With one new key.
    pub fn generate(now: SystemTime) -> anyhow::Result<Self> {
        Ok(Self { keys: vec![Key::generate(1, now)?], retired: Vec::new(), settled: None, generation: 0 })
    }

    /// The one of this node, if it has one.
    pub fn load(paths: &Paths) -> anyhow::Result<Option<Self>> {
        let path = Pki { dir: paths.kubernetes.clone() }.file(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("{}: cannot be read; run this as root", path.display()));
            }
        };
        Self::parse(&text).map(Some).with_context(|| {
            format!(
                "{}: does not hold the keys of Secrets; restore it from the file that `sheaf-agent snapshot save-keys` wrote",
                path.display()
            )
        })
    }

    /// From the file's text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let ring: Self = serde_json::from_str(text)?;
        ensure!(!ring.keys.is_empty(), "there is no key in use");
        for key in ring.all() {
            let length = STANDARD.decode(&key.secret).map(|bytes| bytes.len()).unwrap_or_default();
            ensure!(length == LENGTH, "key {} does not have {LENGTH} bytes", key.name);
        }
        Ok(ring)
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

    /// Those in use, then those that are not.
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().chain(&self.retired)
    }

    /// The one that encrypts.
    pub fn first(&self) -> Option<&Key> {
        self.keys.first()
    }

    /// Whether every Secret is encrypted with the one key that is in use.
    pub fn is_settled(&self) -> bool {
        self.keys.len() == 1 && self.settled.as_ref() == self.first().map(|key| &key.name)
    }

    /// With the keys of `other` that it does not have, out of use.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        let new: Vec<Key> = other
            .keys
            .into_iter()
            .chain(other.retired)
            .filter(|key| self.all().all(|own| own.name != key.name))
            .collect();
        self.retired.extend(new);
        self
    }

    /// The next key, last in line: kube-apiserver decrypts with it before anything is encrypted with it.
    pub fn add(&mut self, now: SystemTime) -> anyhow::Result<()> {
        let number = self.all().map(|key| key.number).max().unwrap_or_default().saturating_add(1);
        self.keys.push(Key::generate(number, now)?);
        self.settled = None;
        self.next();
        Ok(())
    }

    /// It was changed: other control-plane nodes follow.
    pub fn next(&mut self) {
        self.generation = self.generation.saturating_add(1);
    }

    /// kube-apiserver's EncryptionConfiguration: JSON is YAML. The first key encrypts; what is not encrypted can be read. While it
    /// is not known what is in etcd, keys out of use decrypt too.
    pub fn configuration(&self) -> String {
        let retired = self.retired.iter().filter(|_| self.settled.is_none());
        let keys: Vec<_> = self
            .keys
            .iter()
            .chain(retired)
            .map(|key| json!({"name": key.name, "secret": key.secret}))
            .collect();
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{
                "resources": ["secrets"],
                "providers": [{"secretbox": {"keys": keys}}, {"identity": {}}],
            }],
        });
        format!("{configuration:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000)
    }

    #[test]
    fn the_file_is_roots_alone_reads_back_and_shows_no_key() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        assert_eq!(Ring::load(&paths).unwrap(), None);
        let ring = Ring::generate(now()).unwrap();
        ring.save(&paths).unwrap();
        assert_eq!(Ring::load(&paths).unwrap().as_ref(), Some(&ring));
        let path = paths.kubernetes.join("pki").join(FILE);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{ring:?}").contains(&ring.keys[0].secret));
    }

    #[test]
    fn a_new_key_decrypts_before_it_encrypts_and_what_is_plain_is_read_last() {
        let mut ring = Ring::generate(now()).unwrap();
        ring.settled = Some(ring.keys[0].name.clone());
        assert!(ring.is_settled());
        ring.add(now()).unwrap();
        assert!(!ring.is_settled());
        let text = ring.configuration();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let providers = &value["resources"][0]["providers"];
        let names: Vec<_> = providers[0]["secretbox"]["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["name"].clone())
            .collect();
        assert_eq!(names, [ring.keys[0].name.clone(), ring.keys[1].name.clone()]);
        assert!(
            names[0].as_str().unwrap().starts_with("k1-") && names[1].as_str().unwrap().starts_with("k2-")
        );
        assert_eq!(providers[1], json!({"identity": {}}));
    }

    #[test]
    fn keys_out_of_use_decrypt_only_while_it_is_not_known_what_is_in_etcd() {
        let mut ring = Ring::generate(now()).unwrap();
        ring.add(now()).unwrap();
        let former = ring.keys.remove(0);
        ring.retired.push(former.clone());
        assert!(ring.configuration().contains(&former.name));
        ring.settled = Some(ring.keys[0].name.clone());
        assert!(!ring.configuration().contains(&former.name));
        ring.add(now()).unwrap();
        assert!(ring.keys[1].name.starts_with("k3-"), "numbers are not used twice");
        let (other, names) = (Ring::generate(now()).unwrap(), ring.all().count());
        let both = ring.clone().with(other.clone()).with(ring.clone());
        assert_eq!(both.all().count(), names + 1, "what is there is not added again");
        assert_eq!((both.keys, both.retired.last()), (ring.keys, other.keys.last()));
    }

    #[test]
    fn a_file_without_a_whole_key_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        fs::create_dir_all(paths.kubernetes.join("pki")).unwrap();
        let refused = |text: &str| {
            fs::write(paths.kubernetes.join("pki").join(FILE), text).unwrap();
            let error = format!("{:#}", Ring::load(&paths).unwrap_err());
            error.split(" wrote: ").last().unwrap().to_owned()
        };
        assert_eq!(refused(r#"{"keys":[]}"#), "there is no key in use");
        let short = r#"{"keys":[{"name":"k1-aa","number":1,"made":"","secret":"AAAA"}]}"#;
        assert_eq!(refused(short), "key k1-aa does not have 32 bytes");
        assert!(refused("").contains("EOF"));
    }
}
