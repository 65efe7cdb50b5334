//! The lock of a recipe (`NAME.lock` beside `NAME.toml`): exactly what its release is made of.
//!
//! Why here: a recipe names packages, and a mirror has another version of them tomorrow. The lock names each Debian package
//! by version, size, SHA-256 and place in a mirror's pool; crates and Go modules, which `Cargo.lock` and `go.sum` pin
//! already, are in it so that one file says it all. It has no mirror's address: any mirror that has the files will do.
//! Route in: [`resolve`] for packages, [`wanted`] for the rest, or the file. Route out: `sheaf build --locked`, which takes
//! exactly this or refuses; [`difference`] for people.

pub mod difference;
mod file;
mod read;
pub mod resolve;
mod rules;
pub mod wanted;

use crate::build_host::{self, MMDEBSTRAP};
use crate::debian::Mirrors;
use crate::error::BuildError;
use crate::inputs::{Digest, Inputs};
use crate::source::Source;
use crate::stage::BuildContext;
use sheaf_config::diagnose::Errors;
use sheaf_config::recipe::Recipe;
use sheaf_host::run::Command;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A root made of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum World {
    /// What the initrds are made in.
    Initrd,
    /// The node's root.
    Node,
    /// The tools chroot.
    Tools,
}

impl World {
    /// All of them, in the order of the file.
    pub const ALL: [Self; 3] = [Self::Initrd, Self::Node, Self::Tools];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initrd => "initrd",
            Self::Node => "node",
            Self::Tools => "tools",
        }
    }
}

/// One Debian package, by name.
pub type Debs = BTreeMap<String, Deb>;

/// One version of a Debian package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deb {
    /// `2.41-12+deb13u5`
    pub version: String,
    /// Suite and component: `trixie/main`.
    pub from: String,
    /// Place in the pool: `pool/main/g/glibc/libc6_2.41-12+deb13u5_amd64.deb`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// When packages were last resolved, as snapshot.debian.org writes times: `20261129T130000Z`.
    pub made: String,
    /// What was asked for, and what is not Debian's.
    pub wanted: wanted::Wanted,
    /// Debian's packages.
    pub debian: BTreeMap<World, Debs>,
}

impl Lock {
    /// Where the lock of `recipe` is.
    pub fn path(recipe: &Path) -> PathBuf {
        recipe.with_extension("lock")
    }

    /// The packages of `world`.
    pub fn debs(&self, world: World) -> &Debs {
        static NONE: Debs = Debs::new();
        self.debian.get(&world).unwrap_or(&NONE)
    }
}

/// Makes the lock of `recipe` from what `mirrors` have now. `old` keeps its time when nothing else changed.
pub fn make(
    context: &BuildContext<'_>,
    source: &Source,
    recipe: &Recipe,
    mirrors: &Mirrors,
    old: Option<&Lock>,
) -> Result<Lock, BuildError> {
    build_host::require(MMDEBSTRAP, context.run, context.privilege)?;
    let wanted = wanted::Wanted::of(context, source, recipe)?;
    let work = context.target.join("lock");
    let mut debian = BTreeMap::new();
    for (world, packages) in &wanted.packages {
        let main = ["main".to_owned()];
        let components = if *world == World::Tools { &main[..] } else { &wanted.components };
        let dir = work.join(world.name());
        context.remove(&dir)?;
        let resolve = resolve::Resolve { world: *world, packages, components, mirrors };
        debian.insert(*world, resolve.run(context.run, &dir)?);
    }
    context.remove(&work)?;
    match old {
        Some(old) if old.wanted == wanted && old.debian == debian => Ok(old.clone()),
        _ => Ok(Lock { made: now(context)?, wanted, debian }),
    }
}

/// The time, as snapshot.debian.org writes it.
fn now(context: &BuildContext<'_>) -> Result<String, BuildError> {
    Ok(context.run.run(&Command::new("date").args(["--utc", "+%Y%m%dT%H%M%SZ"]))?.text())
}

/// What stands for `debs` in the key of a stage.
pub fn digest(debs: &Debs) -> Digest {
    let each = |inputs: Inputs, (name, deb): (&String, &Deb)| inputs.text(name, &deb.sha256);
    debs.iter().fold(Inputs::new("lock", 1), each).sum()
}

/// A lock that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// There is none.
    #[error("{}: there is no lock; make it: sheaf lock {}", .path.display(), .path.with_extension("toml").display())]
    Absent {
        /// Where it should be.
        path: PathBuf,
    },
    /// It is not a lock.
    #[error("{errors}\n{}: a lock is not edited; make it again: sheaf lock {}", .path.display(),
        .path.with_extension("toml").display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What is wrong, with the line of each.
        errors: Errors,
    },
    /// It is the lock of something else than recipe and checkout ask for.
    #[error("{}: is not the lock of this recipe and checkout (+ they ask for it, - only the lock has it, ~ both, differently):\n{difference}review and accept it: sheaf lock {}",
        .path.display(), .path.with_extension("toml").display())]
    Stale {
        /// Which.
        path: PathBuf,
        /// What differs, a line each.
        difference: String,
    },
}
