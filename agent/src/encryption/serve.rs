//! What kube-apiserver runs with: its EncryptionConfiguration in `/run/sheaf`, and a mark that it was started with it.
//!
//! Why a mark: systemd hands the file over when it starts the unit (LoadCredential), so a file that was written says nothing
//! about a process that runs. The mark is the hash of what the last start that succeeded was given. Both are gone after a boot,
//! as is the process. Route in: [`Ring`]. Route out: two files.

use super::keys::Ring;
use crate::paths::Paths;
use sha2::{Digest as _, Sha256};
use sheaf_host::file::write_atomically;
use std::fs;
use std::time::SystemTime;

/// What the unit of kube-apiserver names.
const CONFIGURATION: &str = "encryption.json";
/// The mark.
const SERVED: &str = "encryption.served";

fn hash(ring: &Ring) -> String {
    hex::encode(Sha256::digest(ring.configuration()))
}

/// Makes the first key of a cluster that has none, and puts what kube-apiserver is to be given in place; true when it must be
/// started again.
pub fn prepare(paths: &Paths, now: SystemTime) -> anyhow::Result<bool> {
    let ring = match Ring::load(paths)? {
        Some(ring) => ring,
        None => {
            let ring = Ring::generate(now)?;
            ring.save(paths)?;
            ring
        }
    };
    let changed = write(paths, &ring)?;
    Ok(changed || !is_served(paths, &ring))
}

/// Puts what kube-apiserver is to be given in place; true when something else was there.
pub(super) fn write(paths: &Paths, ring: &Ring) -> anyhow::Result<bool> {
    let (path, text) = (paths.run.join(CONFIGURATION), ring.configuration());
    if fs::read_to_string(&path).is_ok_and(|before| before == text) {
        return Ok(false);
    }
    write_atomically(&path, text.as_bytes(), 0o600)?;
    Ok(true)
}

/// Whether kube-apiserver runs with `ring`.
pub fn is_served(paths: &Paths, ring: &Ring) -> bool {
    fs::read_to_string(paths.run.join(SERVED)).is_ok_and(|mark| mark == hash(ring))
}

/// kube-apiserver was started with the configuration that is in place, and answers.
pub fn served(paths: &Paths) -> anyhow::Result<()> {
    let text = fs::read(paths.run.join(CONFIGURATION)).unwrap_or_default();
    Ok(write_atomically(&paths.run.join(SERVED), hex::encode(Sha256::digest(text)).as_bytes(), 0o600)?)
}
