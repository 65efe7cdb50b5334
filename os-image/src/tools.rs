//! The tools chroot: Debian's own tools at the versions this checkout is written for.
//!
//! Why: the build host's release then does not matter. The medium is written with it, tests and the demo run QEMU
//! from it. Route in: `os-image/image/packages/tools.list`. Route out: [`Tools`], whose chroot runs commands.

use crate::build_host::{self, MMDEBSTRAP, NEWUIDMAP};
use crate::debian::{Debootstrap, Mirrors};
use crate::debs::Store;
use crate::error::BuildError;
use crate::inputs::{Digest, Inputs};
use crate::lists;
use crate::lock::{self, Lock, World};
use crate::source::Source;
use crate::stage::{BuildContext, Spec};
use sheaf_host::chroot::{Chroot, Privilege, as_owner, confined};
use sheaf_host::run::Command;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Timestamp of the chroot's files: it never shows in a release, so any will do.
const EPOCH: u64 = 0;

/// Link in the cache to the newest chroot: tests find QEMU by it.
const CURRENT: &str = "tools-current";

/// The chroot, ready to run tools.
#[derive(Clone, Debug)]
pub struct Tools {
    root: PathBuf,
    privilege: Privilege,
    /// What stages that use it take as input.
    pub digest: Digest,
}

impl Tools {
    /// Its directory on the host.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// To run something in it.
    pub fn chroot(&self) -> Chroot {
        Chroot::new(&self.root, self.privilege)
    }
}

/// Makes the tools chroot, or finds it in the cache.
pub fn ensure(context: &BuildContext<'_>, source: &Source, mirrors: &Mirrors) -> Result<Tools, BuildError> {
    make(context, source, mirrors, None)
}

/// The same, of exactly the packages of `lock`.
pub fn locked(
    context: &BuildContext<'_>,
    source: &Source,
    mirrors: &Mirrors,
    lock: &Lock,
) -> Result<Tools, BuildError> {
    make(context, source, mirrors, Some(lock))
}

fn make(
    context: &BuildContext<'_>,
    source: &Source,
    mirrors: &Mirrors,
    lock: Option<&Lock>,
) -> Result<Tools, BuildError> {
    let packages = lists::read(&source.list("tools"))?;
    // Mirrors are no input: they differ by place, not by content.
    let mut inputs = Inputs::new("tools", 1).texts("package", packages.iter().map(String::as_str));
    if let Some(lock) = lock {
        inputs = inputs.digest("lock", &lock::digest(lock.debs(World::Tools)));
    }
    let made = context.stage(Spec { name: "tools", inputs, output_digest_files: &[] }, |stage| {
        build_host::require(MMDEBSTRAP, context.run, context.privilege)?;
        let mode = match context.privilege {
            Privilege::Root => "root",
            Privilege::UserNamespace => {
                build_host::require(NEWUIDMAP, context.run, context.privilege)?;
                "unshare"
            }
        };
        let tar = stage.scratch.join("tools.tar");
        let folder = stage.scratch.join("debs");
        let packages = match lock {
            None => packages,
            Some(lock) => {
                let debs = lock.debs(World::Tools);
                Store::open(&context.cache, mirrors, &lock.made)?.repository(stage, debs, &folder)?;
                debs.keys().cloned().collect()
            }
        };
        let repository = folder.to_string_lossy();
        let bootstrap = Debootstrap {
            variant: "apt",
            components: &["main".to_owned()],
            packages: &packages,
            mirrors,
            repository: lock.map(|_| repository.as_ref()),
            epoch: EPOCH,
            essential_hook: None,
        };
        stage.run(&confined(context.privilege, &bootstrap.command(mode, &tar.to_string_lossy())))?;
        let root = stage.out.join("root");
        fs::create_dir(&root).map_err(BuildError::io(&root))?;
        // Device nodes cannot be made by a plain user; the host's are shown inside instead.
        let unpack =
            Command::new("tar").arg("-C").arg(&root).args(["--exclude=./dev/*", "--numeric-owner", "-xpf"]);
        stage.run(&as_owner(context.privilege, &unpack.arg(&tar)))?;
        Ok(())
    })?;
    point_to(&context.cache.join(CURRENT), &made.file("root"))?;
    Ok(Tools { root: made.file("root"), privilege: context.privilege, digest: made.digest })
}

/// Makes `link` lead to `target`, at once.
fn point_to(link: &Path, target: &Path) -> Result<(), BuildError> {
    if fs::read_link(link).is_ok_and(|now| now == target) {
        return Ok(());
    }
    let new = link.with_extension("new");
    let _ = fs::remove_file(&new); // left over, or not there
    symlink(target, &new).and_then(|()| fs::rename(&new, link)).map_err(BuildError::io(link))
}
