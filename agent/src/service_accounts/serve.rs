//! What Kubernetes' programs run with: `sa.key` and `sa.pub`, and a mark that they were started with them.
//!
//! Why a mark: systemd hands the files over when it starts a unit, so a file that was written says nothing about a process that
//! runs. It is gone after a boot, as are the processes. Route in: [`KeySet`]. Route out: three files.

use super::keys::{KeySet, PRIVATE, PUBLIC};
use crate::cluster::create::pki::Pki;
use crate::paths::Paths;
use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use sheaf_host::file::write_atomically;
use std::fs;

/// The mark.
const SERVED: &str = "service-accounts.served";

/// Puts what the programs are given in place; true when they must be started again.
pub fn prepare(paths: &Paths) -> anyhow::Result<bool> {
    let Some(set) = KeySet::load(paths)? else { return Ok(false) };
    Ok(write(paths, &set)? || !is_served(paths, &set))
}

/// Puts what the programs are given in place; true when something else was there.
pub(super) fn write(paths: &Paths, set: &KeySet) -> anyhow::Result<bool> {
    let pki = Pki { dir: paths.kubernetes.clone() };
    let (private, public) = set.files().context("no key of service accounts signs")?;
    let mut changed = false;
    // What verifies comes first: after a power cut between the two nothing is signed that is not verified here.
    for (name, text, mode) in [(PUBLIC, public, 0o644), (PRIVATE, private, 0o600)] {
        let path = pki.file(name);
        if !fs::read_to_string(&path).is_ok_and(|before| before == text) {
            write_atomically(&path, text.as_bytes(), mode)?;
            changed = true;
        }
    }
    Ok(changed)
}

fn hash(private: &str, public: &str) -> String {
    hex::encode(Sha256::digest(format!("{private}{public}")))
}

/// Whether the programs run with `set`.
pub fn is_served(paths: &Paths, set: &KeySet) -> bool {
    let mark = fs::read_to_string(paths.run.join(SERVED)).unwrap_or_default();
    set.files().is_some_and(|(private, public)| mark == hash(&private, &public))
}

/// The programs were started with the files that are in place.
pub fn served(paths: &Paths) -> anyhow::Result<()> {
    let pki = Pki { dir: paths.kubernetes.clone() };
    let read = |name: &str| fs::read_to_string(pki.file(name)).unwrap_or_default();
    let mark = hash(&read(PRIVATE), &read(PUBLIC));
    Ok(write_atomically(&paths.run.join(SERVED), mark.as_bytes(), 0o600)?)
}
