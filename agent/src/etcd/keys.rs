//! The keys without which a snapshot is another cluster, or cannot be read: CAs, the key of service accounts, and those of
//! Secrets.
//!
//! Why apart from snapshots: they change seldom, they are needed on another machine only, and who has them is an
//! administrator of the cluster while it lives; a snapshot goes to where backups go (docs/decisions/0028). All other
//! certificates and kubeconfigs are made of them again. Route in: `/var/lib/kubernetes/pki`. Route out: one JSON file,
//! and a folder of it.

use super::take::ca_hash;
use crate::cluster::create::pki::{AUTHORITIES, Pki};
use crate::encryption::keys::{FILE as ENCRYPTION, Ring};
use crate::paths::Paths;
use crate::service_accounts::keys::{FILE as SERVICE_ACCOUNTS, KeySet};
use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sheaf_config::pin::CaPin;
use sheaf_host::file::{sync_tree, write_atomically};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What the file says that it is.
const KIND: &str = "sheaf-cluster-keys";

/// Files that not every cluster has.
const OPTIONAL: [&str; 2] = [ENCRYPTION, SERVICE_ACCOUNTS];

/// The file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    kind: String,
    /// `sha256:…` of the cluster CA's public key.
    pub ca_hash: String,
    /// Contents by name below `pki/`, PEM.
    files: BTreeMap<String, String>,
}

/// Names of the files below `pki/`.
fn names() -> Vec<String> {
    let of_authorities =
        AUTHORITIES.iter().flat_map(|(name, _)| [format!("{name}.crt"), format!("{name}.key")]);
    of_authorities.chain(["sa.key".into(), "sa.pub".into()]).collect()
}

impl Keys {
    /// The keys of Secrets among them.
    pub fn ring(&self) -> Option<Ring> {
        self.files.get(ENCRYPTION).and_then(|text| Ring::parse(text).ok())
    }

    /// Names of the keys that it can decrypt Secrets with.
    pub fn encryption_keys(&self) -> Vec<String> {
        self.ring().map(|ring| ring.all().map(|key| key.name.clone()).collect()).unwrap_or_default()
    }

    /// Those of this node.
    pub fn collect(paths: &Paths) -> anyhow::Result<Self> {
        let pki = Pki { dir: paths.kubernetes.clone() };
        let read = |name: String| {
            let path = pki.file(&name);
            let text = fs::read_to_string(&path).with_context(|| {
                format!("{}: cannot be read; is this a control-plane node?", path.display())
            })?;
            anyhow::Ok((name, text))
        };
        let mut files = names().into_iter().map(read).collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        // A control plane that has none yet encrypts nothing.
        if let Some(ring) = Ring::load(paths)? {
            files.insert(ENCRYPTION.into(), ring.text()?);
        }
        // Only where the key was changed; otherwise sa.key and sa.pub are all.
        if pki.file(SERVICE_ACCOUNTS).exists()
            && let Some(set) = KeySet::load(paths)?
        {
            files.insert(SERVICE_ACCOUNTS.into(), set.text()?);
        }
        let ca_hash = ca_hash(paths).context("pki/ca.crt holds no certificate")?;
        Ok(Self { kind: KIND.into(), ca_hash, files })
    }

    /// From the file at `path`.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read(path).with_context(|| format!("{shown}: cannot be read"))?;
        let Ok(keys) = serde_json::from_slice::<Self>(&text) else {
            bail!("{shown}: is not a file that `sheaf-agent snapshot save-keys` wrote");
        };
        keys.check(&shown.to_string())?;
        Ok(keys)
    }

    /// Refuses keys that are not all those of one cluster. `shown` is where they came from.
    pub fn check(&self, shown: &str) -> anyhow::Result<()> {
        let keys = self;
        ensure!(keys.kind == KIND, "{shown}: is not a file that `sheaf-agent snapshot save-keys` wrote");
        let known = names();
        ensure!(
            keys.files.keys().all(|name| OPTIONAL.contains(&&**name) || known.contains(name)),
            "{shown}: names files that are no keys of a cluster"
        );
        for name in known {
            ensure!(
                keys.files.contains_key(&name),
                "{shown}: {name} is missing; the file was cut or changed"
            );
        }
        if let Some(Err(error)) = keys.files.get(ENCRYPTION).map(|text| Ring::parse(text)) {
            bail!("{shown}: {ENCRYPTION} does not hold the keys of Secrets: {error:#}; the file was changed");
        }
        if let Some(Err(error)) = keys.files.get(SERVICE_ACCOUNTS).map(|text| KeySet::parse(text)) {
            bail!(
                "{shown}: {SERVICE_ACCOUNTS} does not hold the keys of service accounts: {error:#}; the file was changed"
            );
        }
        let hash = keys.files.get("ca.crt").and_then(|pem| CaPin::of_certificate(pem).ok());
        ensure!(
            hash.is_some_and(|hash| hash.to_string() == keys.ca_hash),
            "{shown}: ca.crt is not the CA {}; the file was changed",
            keys.ca_hash
        );
        Ok(())
    }

    /// The file's text.
    pub fn text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Writes them into the new folder `pki`, durably.
    pub fn write(&self, pki: &Path) -> anyhow::Result<()> {
        for (name, text) in &self.files {
            let is_secret = name.ends_with(".key") || OPTIONAL.contains(&&**name);
            let mode = if is_secret { 0o600 } else { 0o644 };
            write_atomically(&pki.join(name), text.as_bytes(), mode)?;
        }
        Ok(sync_tree(pki)?)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cluster::keys::Authority;
    use std::time::SystemTime;

    /// A control plane's keys below `paths`.
    pub fn make(paths: &Paths) {
        let pki = Pki { dir: paths.kubernetes.clone() };
        for (name, common_name) in AUTHORITIES {
            let (certificate, key) = Authority::create(common_name, SystemTime::now()).unwrap();
            write_atomically(&pki.file(&format!("{name}.crt")), certificate.as_bytes(), 0o644).unwrap();
            write_atomically(&pki.file(&format!("{name}.key")), key.as_bytes(), 0o600).unwrap();
        }
        for name in ["sa.key", "sa.pub"] {
            write_atomically(&pki.file(name), b"key", 0o600).unwrap();
        }
        Ring::generate(SystemTime::now()).unwrap().save(paths).unwrap();
    }

    #[test]
    fn the_keys_of_secrets_are_saved_too_and_a_file_from_before_there_were_some_is_read() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        make(&paths);
        let keys = Keys::collect(&paths).unwrap();
        let ring = Ring::load(&paths).unwrap().unwrap();
        assert_eq!(keys.encryption_keys(), [ring.keys[0].name.clone()]);
        let there = Paths::under(&root.path().join("there"));
        keys.write(&there.kubernetes.join("pki")).unwrap();
        assert_eq!(Ring::load(&there).unwrap(), Some(ring));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(there.kubernetes.join("pki").join(ENCRYPTION)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(paths.kubernetes.join("pki").join(ENCRYPTION)).unwrap();
        let path = root.path().join("keys.json");
        fs::write(&path, Keys::collect(&paths).unwrap().text().unwrap()).unwrap();
        assert_eq!(Keys::read(&path).unwrap().encryption_keys(), [""; 0]);
    }

    #[test]
    fn keys_of_service_accounts_are_saved_where_they_were_changed_and_a_set_without_one_that_signs_is_refused()
     {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        make(&paths);
        assert!(!Keys::collect(&paths).unwrap().files.contains_key(SERVICE_ACCOUNTS));
        let mut set = KeySet { keys: Vec::new(), generation: 0 };
        set.add(SystemTime::now()).unwrap();
        set.save(&paths).unwrap();
        let mut keys = Keys::collect(&paths).unwrap();
        let there = Paths::under(&root.path().join("there"));
        keys.write(&there.kubernetes.join("pki")).unwrap();
        assert_eq!(KeySet::load(&there).unwrap(), Some(set));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(there.kubernetes.join("pki").join(SERVICE_ACCOUNTS)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        keys.files.insert(SERVICE_ACCOUNTS.into(), r#"{"keys":[]}"#.into());
        assert_eq!(
            keys.check("x").unwrap_err().to_string(),
            "x: service-accounts.json does not hold the keys of service accounts: no key signs; the file was changed"
        );
    }

    #[test]
    fn keys_that_were_saved_are_the_same_on_another_machine() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (here, there) = (Paths::under(here.path()), Paths::under(there.path()));
        make(&here);
        let saved = here.kubernetes.join("keys.json");
        fs::write(&saved, Keys::collect(&here).unwrap().text().unwrap()).unwrap();
        Keys::read(&saved).unwrap().write(&there.kubernetes.join("pki")).unwrap();
        assert!(Keys::collect(&there).unwrap() == Keys::collect(&here).unwrap());
    }

    #[test]
    fn a_file_that_is_another_or_was_changed_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        make(&paths);
        let path = root.path().join("keys.json");
        let refusal = |change: fn(&mut serde_json::Value)| {
            let mut value: serde_json::Value =
                serde_json::from_str(&Keys::collect(&paths).unwrap().text().unwrap()).unwrap();
            change(&mut value);
            fs::write(&path, value.to_string()).unwrap();
            let error = Keys::read(&path).err().unwrap().to_string();
            error.replace(&format!("{}: ", path.display()), "")
        };
        let other = "is not a file that `sheaf-agent snapshot save-keys` wrote";
        assert_eq!(refusal(|value| *value = serde_json::json!([])), other);
        assert_eq!(refusal(|value| value["kind"] = "x".into()), other);
        assert_eq!(
            refusal(|value| value["files"]["../../etc/passwd"] = "x".into()),
            "names files that are no keys of a cluster"
        );
        assert_eq!(
            refusal(|value| drop(value["files"].as_object_mut().unwrap().remove("sa.key"))),
            "sa.key is missing; the file was cut or changed"
        );
        assert_eq!(
            refusal(|value| value["files"]["encryption-keys.json"] = r#"{"keys":[]}"#.into()),
            "encryption-keys.json does not hold the keys of Secrets: there is no key in use; the file was changed"
        );
        assert_eq!(
            refusal(|value| value["caHash"] = "sha256:00".into()),
            "ca.crt is not the CA sha256:00; the file was changed"
        );
    }
}
