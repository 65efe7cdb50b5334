//! Whether a release may take the place of the one that runs. Pure.
//!
//! Why before any write: a release that is refused must cost nothing. Its signature was verified before. Route in: the
//! manifest, the version that was asked for, what runs. Route out: nothing, or the reason and what to do.

use crate::update::observed::Observed;
use sheaf_config::manifest::Manifest;
use sheaf_release::version::compare;

/// Debian architecture of this program.
const ARCH: &str = match cfg!(target_arch = "aarch64") {
    true => "arm64",
    false => "amd64",
};

/// Why a release is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is another product.
    #[error(
        "the release is called {found}, this node runs {running}; take the URL of a release of {running}"
    )]
    Name {
        /// The release's.
        found: String,
        /// The node's.
        running: String,
    },
    /// It is for other processors.
    #[error("the release is for {found}, this node is {ARCH}; take the URL of a release for {ARCH}")]
    Arch {
        /// The release's.
        found: String,
    },
    /// The folder holds another version than was asked for.
    #[error("the folder holds version {found}, spec.version is {wanted}; correct one of the two")]
    Version {
        /// The release's.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// It is older than what runs.
    #[error(
        "{found} is older than {running}, which runs; only a release that is in the other slot can be gone back to"
    )]
    Older {
        /// The release's version.
        found: String,
        /// The node's.
        running: String,
    },
    /// It is older than what was found good here.
    #[error(
        "{found} is older than {floor}, the newest version that was found good here; take {floor} or a newer one"
    )]
    BelowFloor {
        /// The release's version.
        found: String,
        /// The floor.
        floor: String,
    },
    /// It does not fit its partitions.
    #[error("its {what} has {size} bytes, the partition {room}; install the node again with a newer medium")]
    TooLarge {
        /// `root`, `hash tree`.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The partition's.
        room: u64,
    },
}

/// Judges `manifest`.
pub fn judge(manifest: &Manifest, wanted: &str, observed: &Observed) -> Result<(), Unfit> {
    let (running, found) = (&observed.running, manifest.version.clone());
    if manifest.name != running.name {
        return Err(Unfit::Name { found: manifest.name.clone(), running: running.name.clone() });
    }
    if manifest.arch != ARCH {
        return Err(Unfit::Arch { found: manifest.arch.clone() });
    }
    if found != wanted {
        return Err(Unfit::Version { found, wanted: wanted.to_owned() });
    }
    if compare(&found, &running.version).is_lt() {
        return Err(Unfit::Older { found, running: running.version.clone() });
    }
    if let Some(floor) = observed.floor.clone().filter(|floor| compare(&found, floor).is_lt()) {
        return Err(Unfit::BelowFloor { found, floor });
    }
    for (what, size, room) in [
        ("root", manifest.root.raw_size, observed.room.0),
        ("hash tree", manifest.verity.raw_size, observed.room.1),
    ] {
        // Whole blocks are written.
        if size.next_multiple_of(4096) > room {
            return Err(Unfit::TooLarge { what, size, room });
        }
    }
    Ok(())
}
