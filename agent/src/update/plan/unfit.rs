//! Whether a release may take the place of the one that runs. Pure.
//!
//! Why before any write: a release that is refused must cost nothing. Its signature was verified before. Route in: the
//! manifest, what was asked for, what runs. Route out: nothing, or the reason and what to do.

use crate::update::observed::{Observed, Wanted};
use crate::update::records::Seen;
use sheaf_config::manifest::{Manifest, StateFormat};
use sheaf_config::time::rfc3339;
use sheaf_release::version::compare;

/// Debian architecture of this program.
const ARCH: &str = match cfg!(target_arch = "aarch64") {
    true => "arm64",
    false => "amd64",
};
/// By how many minor versions of Kubernetes two releases may differ: a control plane is updated one at a time
/// (<https://kubernetes.io/releases/version-skew-policy/>).
const KUBERNETES_SKEW: u32 = 1;

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
    #[error("the folder holds version {found}, and {wanted} is wanted; correct the version or the source")]
    Version {
        /// The release's.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// It is of another channel than the node follows.
    #[error("{version} is of {}, and the channel {wanted} is wanted; take a release of {wanted}, or change channel", channel(.found))]
    Channel {
        /// The release's version.
        version: String,
        /// The release's channel.
        found: Option<String>,
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
    /// A release between this one and the running one cannot be left out.
    #[error("{found} updates from {oldest} or newer, this node runs {running}; update to {oldest} first")]
    MinFrom {
        /// The release's version.
        found: String,
        /// The oldest that it updates from.
        oldest: String,
        /// The node's.
        running: String,
    },
    /// The server has an older manifest of this version than this node saw before.
    #[error(
        "the manifest of {} at this source is older than the one that this node has seen: made {}, it was {}; copy the \
         newest folder of this release to the source, and look for a cache that keeps the old one",
        .found.version, stamp(.found), stamp(.seen)
    )]
    Replayed {
        /// What the source has.
        found: Seen,
        /// What was seen.
        seen: Seen,
    },
    /// It may not be taken any more.
    #[error("{version} expired at {}; take a newer release, or this one signed again", rfc3339(*.expires))]
    Expired {
        /// The release's version.
        version: String,
        /// When, in seconds since 1970.
        expires: u64,
    },
    /// It expires, and what time it is is not known. Passes by itself.
    #[error(
        "{version} expires at {}, and the clock of this node is not synchronised yet; it is judged again when a time server \
         (network.ntp in node.toml) has answered",
        rfc3339(*.expires)
    )]
    ClockUnknown {
        /// The release's version.
        version: String,
        /// When, in seconds since 1970.
        expires: u64,
    },
    /// It cannot read what is on `/state`.
    #[error(
        "{found} reads {} of /state, this node has format {state}; update to a release between the two first",
        formats(.reads)
    )]
    StateUnreadable {
        /// The release's version.
        found: String,
        /// What it reads.
        reads: (u32, u32),
        /// What the running release writes.
        state: u32,
    },
    /// The release that runs could not read what this one writes.
    #[error(
        "{found} writes format {writes} of /state, and {running}, which runs, reads {}: it could not be gone back to; \
         update to a release between the two first",
        formats(.reads)
    )]
    NoWayBack {
        /// The release's version.
        found: String,
        /// What it writes.
        writes: u32,
        /// The node's version.
        running: String,
        /// What the running release reads.
        reads: (u32, u32),
    },
    /// Its Kubernetes is too far from the one that runs.
    #[error(
        "{found} carries Kubernetes {kubernetes}, this node runs {running}: minor versions of Kubernetes are not skipped; \
         update to a release between the two first"
    )]
    Kubernetes {
        /// The release's version.
        found: String,
        /// Its Kubernetes.
        kubernetes: String,
        /// The node's Kubernetes.
        running: String,
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

impl Unfit {
    /// Whether it passes by itself.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::ClockUnknown { .. })
    }
}

fn channel(found: &Option<String>) -> String {
    found.as_ref().map_or_else(|| "no channel".into(), |found| format!("the channel {found}"))
}

fn formats((oldest, newest): &(u32, u32)) -> String {
    match oldest == newest {
        true => format!("format {oldest}"),
        false => format!("formats {oldest} to {newest}"),
    }
}

fn stamp(seen: &Seen) -> String {
    let until = seen.expires.map(|expires| format!(", expires {}", rfc3339(expires))).unwrap_or_default();
    format!("{}{until}", rfc3339(seen.created))
}

/// Major and minor version of Kubernetes.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Judges `manifest`.
pub fn judge(manifest: &Manifest, wanted: &Wanted, observed: &Observed) -> Result<(), Unfit> {
    judge_staged(manifest, wanted, observed)?;
    let seen = Seen::of(manifest);
    match &observed.seen {
        Some(before) if seen.is_older_than(before) => {
            return Err(Unfit::Replayed { found: seen, seen: before.clone() });
        }
        _ => {}
    }
    let version = manifest.version.clone();
    match (manifest.terms.expires, observed.clock) {
        (None, _) => Ok(()),
        (Some(expires), None) => Err(Unfit::ClockUnknown { version, expires }),
        (Some(expires), Some(now)) if now >= expires => Err(Unfit::Expired { version, expires }),
        _ => Ok(()),
    }
}

/// Judges the manifest of a release that is complete in the other slot: it was taken in time.
pub fn judge_staged(manifest: &Manifest, wanted: &Wanted, observed: &Observed) -> Result<(), Unfit> {
    let (running, found) = (&observed.running, manifest.version.clone());
    if manifest.name != running.name {
        return Err(Unfit::Name { found: manifest.name.clone(), running: running.name.clone() });
    }
    if manifest.arch != ARCH {
        return Err(Unfit::Arch { found: manifest.arch.clone() });
    }
    if found != wanted.version {
        return Err(Unfit::Version { found, wanted: wanted.version.clone() });
    }
    let terms = &manifest.terms;
    if let Some(channel) = wanted.channel.clone().filter(|channel| terms.channel.as_ref() != Some(channel)) {
        return Err(Unfit::Channel { version: found, found: terms.channel.clone(), wanted: channel });
    }
    if compare(&found, &running.version).is_lt() {
        return Err(Unfit::Older { found, running: running.version.clone() });
    }
    if let Some(floor) = observed.floor.clone().filter(|floor| compare(&found, floor).is_lt()) {
        return Err(Unfit::BelowFloor { found, floor });
    }
    let too_old = |oldest: &String| compare(&running.version, oldest).is_lt();
    if let Some(oldest) = terms.min_from.clone().filter(too_old) {
        return Err(Unfit::MinFrom { found, oldest, running: running.version.clone() });
    }
    state(&found, &terms.state, &running.version, &running.state)?;
    if let Some(kubernetes) = &terms.kubernetes
        && let (Some(theirs), Some(ours)) = (minor(kubernetes), minor(&running.kubernetes))
        && (theirs.0 != ours.0 || theirs.1.abs_diff(ours.1) > KUBERNETES_SKEW)
    {
        let (kubernetes, running) = (kubernetes.clone(), running.kubernetes.clone());
        return Err(Unfit::Kubernetes { found, kubernetes, running });
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

/// Both releases use `/state`: the new one what is there, the former one, if it comes back, what the new one wrote.
fn state(found: &str, theirs: &StateFormat, running: &str, ours: &StateFormat) -> Result<(), Unfit> {
    if !theirs.can_read(ours) {
        return Err(Unfit::StateUnreadable {
            found: found.to_owned(),
            reads: theirs.reads,
            state: ours.writes,
        });
    }
    if !ours.can_read(theirs) {
        let (found, running) = (found.to_owned(), running.to_owned());
        return Err(Unfit::NoWayBack { found, writes: theirs.writes, running, reads: ours.reads });
    }
    Ok(())
}
