//! The folder of snapshots: `/data/etcd-snapshots`, two files each.
//!
//! Why there: `/data` is another file system than `/state`, where etcd's own data is, and a reinstallation that keeps
//! data keeps it. `NAME.db` is what etcd sent; `NAME.json` ([`Snapshot`]) is written last, so a snapshot with one is
//! whole. Route in: whole snapshots. Route out: the list; files that are nobody's.

use crate::paths::Paths;
use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sheaf_host::file::{rename_durably, write_atomically};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file that is nobody's and older than this is what a power cut left: the longest snapshot takes a quarter of an
/// hour.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// Length of the SHA-256 that etcd appends to a snapshot.
const APPENDED: u64 = 32;
/// Bytes that are read at once.
const BLOCK: usize = 256 << 10;
/// etcd's database is a multiple of it: etcdutl tells by that whether a hash is appended.
const SECTOR: u64 = 512;

/// Why a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// It was time.
    Schedule,
    /// An administrator asked for it.
    Request,
    /// Another release was about to be started.
    Update,
}

impl Reason {
    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Request => "request",
            Self::Update => "update",
        }
    }
}

/// One snapshot: what is in `NAME.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// `etcd-20261129T211200Z`.
    pub name: String,
    /// When it was taken, RFC 3339.
    pub taken: String,
    /// Why.
    pub reason: Reason,
    /// The node.
    pub node: String,
    /// `sha256:…` of the cluster CA's public key: which cluster it is of.
    pub ca_hash: String,
    /// etcd's name of the cluster, 16 hexadecimal digits.
    pub cluster_id: String,
    /// Revision of the newest change in it.
    pub revision: i64,
    /// Number of keys in it.
    pub keys: u64,
    /// Length of `NAME.db`.
    pub bytes: u64,
    /// SHA-256 of `NAME.db`, hexadecimal.
    pub sha256: String,
    /// Version of etcd that took it.
    pub etcd_version: String,
    /// Version of the storage; an older etcd cannot read it.
    pub storage_version: String,
    /// Names of the keys that Secrets in it may be encrypted with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encryption_keys: Vec<String>,
}

impl Snapshot {
    /// When it was taken, in seconds since 1970; 0 if its file says no time.
    pub fn seconds(&self) -> u64 {
        let taken = self.taken.parse::<Timestamp>();
        taken.ok().and_then(|taken| u64::try_from(taken.as_second()).ok()).unwrap_or_default()
    }
}

/// The name of a snapshot taken at `now`.
pub fn name(now: SystemTime) -> String {
    let stamp = crate::cluster::time::rfc3339(now).replace(['-', ':'], "");
    format!("etcd-{stamp}")
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The one of the node with these files.
    pub fn of(paths: &Paths) -> Self {
        Self { dir: paths.etcd_snapshots() }
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file with the data of `name`.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.db"))
    }

    fn about(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    /// Makes the folder, for root alone.
    pub fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    /// Where a snapshot comes in; nothing is there.
    pub fn part(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(format!("{name}.part"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(path),
        }
    }

    /// Every whole snapshot, the oldest first.
    pub fn list(&self) -> io::Result<Vec<Snapshot>> {
        let mut found = Vec::new();
        for file in self.files()? {
            let Some(name) = file.strip_suffix(".json") else { continue };
            let Ok(text) = fs::read(self.about(name)) else { continue };
            let Ok(snapshot) = serde_json::from_slice::<Snapshot>(&text) else { continue };
            let length = fs::metadata(self.data(name)).map_or(0, |meta| meta.len());
            if snapshot.name == name && length == snapshot.bytes {
                found.push(snapshot);
            }
        }
        found.sort_by_key(|snapshot| (snapshot.seconds(), snapshot.name.clone()));
        Ok(found)
    }

    /// What power cuts left: files that belong to no whole snapshot and did not change for long.
    pub fn left_over(&self, now: SystemTime) -> io::Result<Vec<String>> {
        let whole = self.list()?;
        let is_part = |file: &str| {
            let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
            whole.iter().any(|snapshot| snapshot.name == stem)
                && (file.ends_with(".db") || file.ends_with(".json"))
        };
        let is_old = |file: &str| {
            let changed = fs::metadata(self.dir.join(file)).and_then(|meta| meta.modified());
            changed.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > LEFT_OVER))
        };
        Ok(self.files()?.into_iter().filter(|file| !is_part(file) && is_old(file)).collect())
    }

    fn files(&self) -> io::Result<Vec<String>> {
        match fs::read_dir(&self.dir) {
            Ok(entries) => {
                let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
                Ok(entries.filter_map(name).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Takes the file `part`, which is on the disk, as the data of `snapshot`.
    pub fn keep(&self, part: &Path, snapshot: &Snapshot) -> anyhow::Result<()> {
        File::open(part)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("{}: cannot be written", part.display()))?;
        rename_durably(part, &self.data(&snapshot.name))?;
        write_atomically(&self.about(&snapshot.name), &serde_json::to_vec_pretty(snapshot)?, 0o600)?;
        Ok(())
    }

    /// Removes a snapshot.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        // A snapshot without it is no longer listed.
        self.remove_file(&format!("{name}.json"))?;
        self.remove_file(&format!("{name}.db"))
    }

    /// Removes one file of the folder; one that is gone is no error.
    pub fn remove_file(&self, file: &str) -> anyhow::Result<()> {
        let path = self.dir.join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{}: cannot be removed", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// A file that is no whole snapshot of etcd.
#[derive(Debug, thiserror::Error)]
pub enum DamageError {
    /// It cannot be read.
    #[error("{}: cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its length is none that a snapshot has.
    #[error(
        "{}: no SHA-256 of etcd at its end: it is not a snapshot, or was cut short; take another copy", .path.display()
    )]
    NoHash {
        /// The file.
        path: PathBuf,
    },
    /// The hash at its end is another.
    #[error("{}: its contents do not have the SHA-256 at its end: it is damaged; take another copy", .path.display())]
    Hash {
        /// The file.
        path: PathBuf,
    },
}

/// Length and SHA-256 (hexadecimal) of a whole snapshot `path`, whose data has the hash that etcd appended.
pub fn verify(path: &Path) -> Result<(u64, String), DamageError> {
    let read = |source| DamageError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    if length < SECTOR || length % SECTOR != APPENDED {
        return Err(DamageError::NoHash { path: path.to_owned() });
    }
    let mut data = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut rest = (&mut file).take(length - APPENDED);
    loop {
        match rest.read(&mut block).map_err(read)? {
            0 => break,
            length => data.update(&block[..length]),
        }
    }
    let mut whole = data.clone();
    let mut appended = [0; APPENDED as usize];
    file.read_exact(&mut appended).map_err(read)?;
    if hex::encode(data.finalize()) != hex::encode(appended) {
        return Err(DamageError::Hash { path: path.to_owned() });
    }
    whole.update(appended);
    Ok((length, hex::encode(whole.finalize())))
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A file as etcd sends it, with `data` in it.
    pub fn file(data: &[u8]) -> Vec<u8> {
        let mut bytes = data.to_vec();
        bytes.resize(data.len().next_multiple_of(512).max(512), 0);
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(&hash);
        bytes
    }

    /// A snapshot taken at `seconds`.
    pub fn snapshot(name: &str, seconds: u64) -> Snapshot {
        Snapshot {
            name: name.into(),
            taken: crate::cluster::time::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            reason: Reason::Schedule,
            node: "n1".into(),
            ca_hash: "sha256:aa".into(),
            cluster_id: "cdf818194e3a8c32".into(),
            revision: 812,
            keys: 300,
            bytes: 544,
            sha256: String::new(),
            etcd_version: "3.7.0".into(),
            storage_version: "3.7.0".into(),
            encryption_keys: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{file, snapshot};
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn store() -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::of(&Paths::under(root.path()));
        store.prepare().unwrap();
        (root, store)
    }

    #[test]
    fn a_snapshot_is_listed_once_both_files_are_whole_and_readable_by_root_alone() {
        let (_root, store) = store();
        let part = store.part("b").unwrap();
        fs::write(&part, file(b"b")).unwrap();
        assert_eq!(store.list().unwrap(), []);
        store.keep(&part, &snapshot("b", 20)).unwrap();
        let part = store.part("a").unwrap();
        fs::write(&part, file(b"a")).unwrap();
        store.keep(&part, &snapshot("a", 10)).unwrap();
        let names = |store: &Store| store.list().unwrap().into_iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names(&store), ["a", "b"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(store.dir()), mode(&store.about("a"))), (0o700, 0o600));
        fs::write(store.data("a"), "cut short").unwrap();
        assert_eq!(names(&store), ["b"]);
        store.remove("b").unwrap();
        store.remove("b").unwrap();
        assert_eq!(names(&store), [""; 0]);
    }

    #[test]
    fn what_a_power_cut_left_is_found_an_hour_later() {
        let (_root, store) = store();
        fs::write(store.dir().join("c.part"), "").unwrap();
        fs::write(store.data("d"), "").unwrap();
        let part = store.part("a").unwrap();
        fs::write(&part, file(b"a")).unwrap();
        store.keep(&part, &snapshot("a", 10)).unwrap();
        assert_eq!(store.left_over(SystemTime::now()).unwrap(), [""; 0]);
        let mut found = store.left_over(SystemTime::now() + 2 * LEFT_OVER).unwrap();
        found.sort();
        assert_eq!(found, ["c.part", "d.db"]);
    }

    #[test]
    fn a_file_that_is_damaged_or_cut_short_is_no_snapshot() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("s.db");
        let whole = file(b"some data");
        fs::write(&path, &whole).unwrap();
        let (length, sha256) = verify(&path).unwrap();
        assert_eq!((length, sha256), (544, hex::encode(Sha256::digest(&whole))));
        let shown = path.display();
        for damaged in [0, 511, 543] {
            let mut bytes = whole.clone();
            bytes[damaged] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert_eq!(
                verify(&path).unwrap_err().to_string(),
                format!(
                    "{shown}: its contents do not have the SHA-256 at its end: it is damaged; take another copy"
                )
            );
        }
        for short in [0, 512, 543] {
            fs::write(&path, &whole[..short]).unwrap();
            assert_eq!(
                verify(&path).unwrap_err().to_string(),
                format!(
                    "{shown}: no SHA-256 of etcd at its end: it is not a snapshot, or was cut short; take another copy"
                )
            );
        }
    }

    #[test]
    fn the_name_is_the_time() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        assert_eq!(name(time), "etcd-20200913T122640Z");
        assert_eq!(snapshot("a", 1_600_000_000).seconds(), 1_600_000_000);
    }
}
