//! What the updater keeps on the state partition: the release that was fetched, the trial under way, the last outcome, the
//! floor.
//!
//! Why here: both releases share it, so the one says to the other why it went. Each file is replaced as a whole. Route in:
//! steps of a plan. Route out: [`Records`], read at each observation; a file that cannot be understood counts as absent.

use anyhow::Context as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sheaf_host::file::write_atomically;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The trial under way; `/usr/lib/sheaf/trial-expired` reads it too.
const TRIAL: &str = "trial.json";
const OUTCOME: &str = "outcome.json";
const FLOOR: &str = "floor";
/// About the release folder.
const FETCHED: &str = "fetched.json";
/// Manifest, signature and UKI of the release that is fetched or staged.
const RELEASE: &str = "release";

/// Which spec of which NodeUpdate something belongs to: an object that was deleted and created again is another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// UID of the object.
    pub uid: String,
    /// Generation of its spec.
    pub generation: i64,
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
pub struct Records(PathBuf);

impl Records {
    /// Those in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Manifest, signature and UKI are kept here.
    pub fn release(&self) -> PathBuf {
        self.0.join(RELEASE)
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
        let text = fs::read_to_string(self.0.join(FLOOR)).ok()?;
        Some(text.trim().to_owned()).filter(|floor| !floor.is_empty())
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
        let written = write_atomically(&self.0.join(FLOOR), format!("{version}\n").as_bytes(), 0o600);
        written.context("the version floor cannot be kept")
    }

    /// The release folder holds nothing that counts.
    pub fn forget_release(&self) -> anyhow::Result<()> {
        self.remove(FETCHED)?;
        let folder = self.release();
        unless_missing(fs::remove_dir_all(&folder)).with_context(|| folder.display().to_string())
    }

    /// No trial is under way.
    pub fn end_trial(&self) -> anyhow::Result<()> {
        self.remove(TRIAL)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.0.join(name);
        let bytes = fs::read(&path).ok()?;
        let read = serde_json::from_slice(&bytes);
        read.inspect_err(|error| tracing::warn!("{}: {error}; it is taken for absent", path.display())).ok()
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> anyhow::Result<()> {
        let path = self.0.join(name);
        Ok(write_atomically(&path, &serde_json::to_vec_pretty(value)?, 0o600)?)
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.0.join(name);
        unless_missing(fs::remove_file(&path)).with_context(|| path.display().to_string())?;
        sync(&self.0)
    }
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    unless_missing(synced).with_context(|| folder.display().to_string())
}

fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
