//! What the updater keeps on the state partition: the release that was fetched, the trial under way, the last outcome, the
//! floor, what was asked for on this node, how the slots were when nothing was to be done.
//!
//! Why here: both releases share it, so the one says to the other why it went. Each file is replaced as a whole. Route in:
//! steps of a plan. Route out: [`Records`], read at each observation; a file that cannot be understood counts as absent.

use anyhow::Context as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sheaf_api::node_update::{Action, SlotStatus};
use sheaf_config::manifest::Manifest;
use sheaf_host::file::{WriteError, write_atomically_by};
use sheaf_host::files::{Files, kernel, unless_missing};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The trial under way; `/usr/lib/sheaf/trial-expired` reads it too.
const TRIAL: &str = "trial.json";
const OUTCOME: &str = "outcome.json";
const FLOOR: &str = "floor";
/// The oldest version that may be started on purpose.
const OLDEST: &str = "oldest";
/// The newest manifest that was taken.
const SEEN: &str = "seen.json";
/// How the slots were found when nothing was to be done.
const SLOTS: &str = "slots.json";
/// What was asked for on this node.
const LOCAL: &str = "request.json";
/// The NodeUpdate that was seen last.
const FOLLOWED: &str = "followed.json";
/// The snapshot of etcd that was taken last for an update.
const SNAPSHOT: &str = "snapshot.json";
/// Which release the initrd gave up, and why: a line (`os-image/image/dracut/node/90sheaf/count-boot.sh`).
const GIVEN_UP: &str = "given-up";
/// About the release folder.
const FETCHED: &str = "fetched.json";
/// Manifest, signature and UKI of the release that is fetched or staged.
const RELEASE: &str = "release";
/// Permission bits of all of them.
const MODE: u32 = 0o600;

/// Which spec of which NodeUpdate something belongs to: an object that was deleted and created again is another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// UID of the object.
    pub uid: String,
    /// Generation of its spec.
    pub generation: i64,
}

/// Where a release is taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// URL of its folder.
    Url(String),
    /// Reference of an artifact in a registry.
    Oci(String),
    /// Label of a file system on a drive.
    Drive(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Oci(reference) => write!(f, "oci://{reference}"),
            Self::Drive(label) => write!(f, "the drive labelled {label}"),
        }
    }
}

/// What an administrator asked for on this node itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// Random: the same asked for again is another request.
    pub id: String,
    /// The version that shall run.
    pub version: String,
    /// Where it is taken from; none for one that is in the other slot.
    pub source: Option<Place>,
    /// How far the node goes.
    pub action: Action,
    /// Seconds for the health gate.
    pub timeout: u32,
    /// No snapshot of etcd is taken before the restart.
    #[serde(default)]
    pub without_snapshot: bool,
    /// The NodeUpdate as it was then: one that is changed later counts more than this.
    pub over: Option<Request>,
}

/// A manifest that was taken, by what tells it from an older one of the same version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Version of the release.
    pub version: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Until when it may be taken.
    pub expires: Option<u64>,
}

impl Seen {
    /// What tells `manifest` from others of its version.
    pub fn of(manifest: &Manifest) -> Self {
        let Manifest { version, created, terms, .. } = manifest;
        Self { version: version.clone(), created: *created, expires: terms.expires }
    }

    /// Whether `other` is a later manifest of the same version: made later, or signed again for longer.
    pub fn is_older_than(&self, other: &Self) -> bool {
        let order = |seen: &Self| (seen.created, seen.expires);
        self.version == other.version && order(self) < order(other)
    }
}

/// The slots, as the status shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// The one that runs.
    pub running: SlotStatus,
    /// The other, if it can be started.
    pub other: Option<SlotStatus>,
    /// Nothing older is staged.
    pub floor: Option<String>,
    /// Version that is complete in the other slot.
    pub staged: Option<String>,
    /// The snapshot of etcd that was taken last for an update.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Version of systemd-boot on the disk.
    #[serde(default)]
    pub loader: Option<String>,
    /// The disk has a recovery.
    #[serde(default)]
    pub has_recovery: bool,
}

/// A snapshot of etcd that was taken for an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// For which request.
    pub request: Request,
    /// Before which version.
    pub version: String,
    /// Its name in `/data/etcd-snapshots`.
    pub name: String,
}

/// The release in the folder of the updater.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// For which request.
    pub request: Request,
    /// It is complete and verified in the other slot.
    pub staged: bool,
}

/// How the node was before it restarted into a new release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Before {
    /// VMs that ran, `namespace/name`.
    pub vms: Vec<String>,
    /// Pools that could be used.
    pub pools: Vec<String>,
    /// The API server was reached.
    pub cluster: bool,
    /// The node had an address.
    pub network: bool,
    /// Links that lead out of the machine and worked.
    pub links: Vec<String>,
    /// VMs could run.
    pub kvm: bool,
    /// What was wrong with the node config or the state partition.
    pub problem: Option<String>,
}

/// A new release on trial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trial {
    /// Its version.
    pub version: String,
    /// Its slot, `a` or `b`.
    pub slot: String,
    /// Version that ran before.
    pub from: String,
    /// For which request.
    pub request: Request,
    /// Nothing older is started on purpose once it is found good.
    pub floor: Option<String>,
    /// How long it may take to pass the health gate, in seconds.
    pub timeout: u32,
    /// Restarts that were begun for it.
    pub restarts: u32,
    /// The boot in which it was begun.
    pub boot_id: String,
    /// How the node was; filled in when the trial is begun.
    pub before: Option<Before>,
    /// Why it failed, one entry for each try that could say so.
    pub reasons: Vec<String>,
}

/// How an update ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The version that was tried.
    pub version: String,
    /// For which request.
    pub request: Request,
    /// Why it was rolled back; none when it passed.
    pub reason: Option<String>,
}

/// Files of the updater, `/state/update`.
#[derive(Clone, Debug)]
pub struct Records {
    folder: PathBuf,
    files: Arc<dyn Files>,
}

impl Records {
    /// Those in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self::by(folder, kernel())
    }

    /// The same, changed by the calls of `files`.
    pub fn by(folder: PathBuf, files: Arc<dyn Files>) -> Self {
        Self { folder, files }
    }

    /// What changes them.
    pub fn files(&self) -> &dyn Files {
        &*self.files
    }

    /// Manifest, signature and UKI are kept here.
    pub fn release(&self) -> PathBuf {
        self.folder.join(RELEASE)
    }

    /// What is known of the release folder.
    pub fn fetched(&self) -> Option<Fetched> {
        self.read(FETCHED)
    }

    /// The trial under way.
    pub fn trial(&self) -> Option<Trial> {
        self.read(TRIAL)
    }

    /// How the last update ended.
    pub fn outcome(&self) -> Option<Outcome> {
        self.read(OUTCOME)
    }

    /// The newest version that passed.
    pub fn floor(&self) -> Option<String> {
        self.line(FLOOR)
    }

    /// The oldest version that may be started on purpose.
    pub fn oldest(&self) -> Option<String> {
        self.line(OLDEST)
    }

    /// The newest manifest that was taken.
    pub fn seen(&self) -> Option<Seen> {
        self.read(SEEN)
    }

    /// How the slots were found when nothing was to be done.
    pub fn slots(&self) -> Option<Slots> {
        self.read(SLOTS)
    }

    /// Which release the initrd gave up, and why.
    pub fn given_up(&self) -> Option<String> {
        self.line(GIVEN_UP)
    }

    /// What was asked for on this node.
    pub fn local(&self) -> Option<Local> {
        self.read(LOCAL)
    }

    /// The NodeUpdate that was seen last.
    pub fn followed(&self) -> Option<Request> {
        self.read(FOLLOWED)
    }

    /// The snapshot of etcd that was taken last for an update.
    pub fn snapshot(&self) -> Option<Saved> {
        self.read(SNAPSHOT)
    }

    /// A snapshot of etcd was taken.
    pub fn set_snapshot(&self, saved: &Saved) -> anyhow::Result<()> {
        self.write(SNAPSHOT, saved)
    }

    /// Nothing older than `version` is started on purpose.
    pub fn set_oldest(&self, version: &str) -> anyhow::Result<()> {
        self.put(&self.folder.join(OLDEST), format!("{version}\n").as_bytes())
            .context("the oldest version that may run cannot be kept")
    }

    /// A manifest was taken.
    pub fn set_seen(&self, seen: &Seen) -> anyhow::Result<()> {
        self.write(SEEN, seen)
    }

    /// The slots, while nothing is to be done.
    pub fn set_slots(&self, slots: &Slots) -> anyhow::Result<()> {
        self.write(SLOTS, slots)
    }

    /// The slots are about to change.
    pub fn forget_slots(&self) -> anyhow::Result<()> {
        self.remove(SLOTS)
    }

    /// What is asked for on this node; none: nothing any more.
    pub fn set_local(&self, local: Option<&Local>) -> anyhow::Result<()> {
        match local {
            Some(local) => self.write(LOCAL, local),
            None => self.remove(LOCAL),
        }
    }

    /// The NodeUpdate that the API server has now; none: it has none.
    pub fn set_followed(&self, followed: Option<&Request>) -> anyhow::Result<()> {
        match followed {
            Some(followed) => self.write(FOLLOWED, followed),
            None => self.remove(FOLLOWED),
        }
    }

    /// The release folder is what `fetched` says.
    pub fn set_fetched(&self, fetched: &Fetched) -> anyhow::Result<()> {
        self.write(FETCHED, fetched)
    }

    /// `trial` is under way.
    pub fn set_trial(&self, trial: &Trial) -> anyhow::Result<()> {
        self.write(TRIAL, trial)
    }

    /// An update ended.
    pub fn set_outcome(&self, outcome: &Outcome) -> anyhow::Result<()> {
        self.write(OUTCOME, outcome)
    }

    /// `version` passed.
    pub fn set_floor(&self, version: &str) -> anyhow::Result<()> {
        self.put(&self.folder.join(FLOOR), format!("{version}\n").as_bytes())
            .context("the version floor cannot be kept")
    }

    /// The release folder holds nothing that counts.
    pub fn forget_release(&self) -> anyhow::Result<()> {
        self.remove(FETCHED)?;
        let folder = self.release();
        unless_missing(self.files.remove_folder(&folder))
            .with_context(|| format!("{}: cannot be removed", folder.display()))
    }

    /// No trial is under way, and what the slots were before does not count any more.
    pub fn end_trial(&self) -> anyhow::Result<()> {
        self.remove(TRIAL)?;
        match self.given_up() {
            Some(_) => self.remove(GIVEN_UP),
            None => Ok(()),
        }
    }

    fn line(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|line| !line.is_empty())
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.folder.join(name);
        let bytes = fs::read(&path).ok()?;
        let read = serde_json::from_slice(&bytes);
        read.inspect_err(|error| tracing::warn!("{}: {error}; it is taken for absent", path.display())).ok()
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        Ok(self.put(&path, &serde_json::to_vec_pretty(value)?)?)
    }

    /// Replaces the file `path`, which is one of the updater's.
    pub fn put(&self, path: &Path, contents: &[u8]) -> Result<(), WriteError> {
        write_atomically_by(self.files(), path, contents, MODE)
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        unless_missing(self.files.remove(&path))
            .and_then(|()| unless_missing(self.files.sync_folder(&self.folder)))
            .with_context(|| format!("{}: cannot be removed", path.display()))
    }
}
