//! Stages `node-initrd` and `installer-initrd`: dracut, run inside the tree of initrd packages.
//!
//! The installer program and the release key are no inputs here: they come in a second, small archive
//! ([`installer_extra`]) that the kernel unpacks on top, so that dracut, the slow part, runs again only when
//! packages or its modules change. Route in: `os-image/image/dracut/`. Route out: `initrd`.

use super::packages::kernel_version;
use super::programs::INSTALLER;
use crate::error::BuildError;
use crate::inputs::Inputs;
use crate::lists;
use crate::signing::Key;
use crate::source::Source;
use crate::stage::{BuildContext, Made, Spec};
use crate::tools::Tools;
use sheaf_config::manifest::KEYS;
use sheaf_config::recipe::Recipe;
use sheaf_host::chroot::Chroot;
use sheaf_host::run::Command;
use std::fs;
use std::path::Path;

/// The result's file.
pub const FILE: &str = "initrd";

/// Modules of both initrds.
const COMMON: &str = "common";

/// Unpacks `$1` to `$2` and puts the dracut modules of the further directories in place; modes as git keeps them.
const PREPARE: &str = r#"set -eu
tree=$1 root=$2; shift 2
tar -C "$root" --exclude='./dev/*' --numeric-owner -xpf "$tree"
for modules; do
    cp -r "$modules"/. "$root/usr/lib/dracut/modules.d/"
done
chmod -R u=rwX,go=rX "$root/usr/lib/dracut/modules.d""#;

/// Packs the files at /mnt/files: the same bytes for the same files.
const PACK: &str = r#"set -eu
cp -r /mnt/files /tmp/files
cd /tmp/files
chmod -R u=rwX,go=rX . && chmod 0755 usr/bin/*
find . -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
find . -mindepth 1 | LC_ALL=C sort | cpio --quiet --create --format=newc --reproducible --owner=0:0 | zstd -q -19 -o /mnt/out/initrd"#;

/// What an initrd is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Finds, verifies and mounts a node's root.
    Node,
    /// Holds the installer.
    Installer,
}

impl Purpose {
    /// Name of its files under `os-image/image`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Installer => "installer",
        }
    }
}

/// Makes the initrd for `purpose` from the packages in `tree`.
pub fn build(
    context: &BuildContext<'_>,
    source: &Source,
    tools: &Tools,
    recipe: &Recipe,
    tree: &Made,
    purpose: Purpose,
) -> Result<Made, BuildError> {
    let name = match purpose {
        Purpose::Node => "node-initrd",
        Purpose::Installer => "installer-initrd",
    };
    let arguments = source.image(&format!("dracut/{}.args", purpose.name()));
    let modules = [COMMON, purpose.name()].map(|dir| source.image("dracut").join(dir));
    let epoch = recipe.release.epoch.to_string();
    let mut inputs =
        Inputs::new(name, 1).digest("packages", &tree.digest).text("epoch", &epoch).path(&arguments)?;
    for dir in &modules {
        inputs = inputs.path(dir)?;
    }
    context.stage(Spec { name, inputs, output_digest_files: &[] }, |stage| {
        let root = stage.scratch.join("root");
        fs::create_dir(&root).map_err(BuildError::io(&root))?;
        let prepare = Command::new("sh")
            .args(["-c", PREPARE, "prepare", "/mnt/packages/tree.tar", "/mnt/scratch/root"])
            .args(["/mnt/common", "/mnt/modules"]);
        let chroot = tools.chroot().read(&tree.dir, "packages").write(stage.scratch, "scratch");
        stage.run(&chroot.read(&modules[0], "common").read(&modules[1], "modules").enter(&prepare))?;
        let dracut = Command::new("dracut")
            .args(["--force", "--reproducible", "--kver", &kernel_version(tree)?])
            .args(lists::read(&arguments)?)
            .arg(format!("/mnt/out/{FILE}"))
            .env("SOURCE_DATE_EPOCH", &epoch);
        stage.run(&Chroot::new(&root, context.privilege).write(stage.out, "out").enter(&dracut))?;
        // dracut makes it 0600; a plain file of a release is what it is.
        stage.run(&Command::new("chmod").arg("0644").arg(stage.out.join(FILE)))?;
        Ok(())
    })
}

/// Makes the archive that puts the installer and the keys of the release on top of the installer's initrd.
pub fn installer_extra(
    context: &BuildContext<'_>,
    tools: &Tools,
    recipe: &Recipe,
    programs: &Made,
    key: &Key,
) -> Result<Made, BuildError> {
    let epoch = recipe.release.epoch.to_string();
    let mut inputs = Inputs::new("installer", 1)
        .digest("tools", &tools.digest)
        .text("epoch", &epoch)
        .text("key", &key.public)
        .path(&programs.file(INSTALLER))?;
    if let Some(keys) = &key.keys {
        inputs = inputs.text("keys", keys);
    }
    context.stage(Spec { name: "installer", inputs, output_digest_files: &[] }, |stage| {
        let files = stage.scratch.join("files");
        put(
            &files.join("usr/bin").join(INSTALLER),
            &fs::read(programs.file(INSTALLER)).map_err(BuildError::io(&files))?,
        )?;
        put(&files.join("etc/sheaf/release.pub"), key.public.as_bytes())?;
        if let Some(keys) = &key.keys {
            put(&files.join("etc/sheaf").join(KEYS), keys.as_bytes())?;
        }
        let pack = Command::new("sh").args(["-c", PACK]).env("SOURCE_DATE_EPOCH", &epoch);
        stage.run(&tools.chroot().read(&files, "files").write(stage.out, "out").enter(&pack))?;
        Ok(())
    })
}

fn put(path: &Path, contents: &[u8]) -> Result<(), BuildError> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(BuildError::io(dir))?;
    }
    fs::write(path, contents).map_err(BuildError::io(path))
}
