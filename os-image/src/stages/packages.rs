//! Stages `node-packages` and `initrd-packages`: Debian packages, installed, as one tar file each.
//!
//! Two trees, because the initrds are made with tools that a node shall not have. They stay tar files: nobody
//! changes them, and a plain user's cache then holds no files of other users.
//! Route in: package lists, fixed users. Route out: `tree.tar`, `kernel` (the version), `vmlinuz`.

use super::Ground;
use crate::contents::Asked;
use crate::debian::{Debootstrap, Mirrors, Supply};
use crate::debs::Store;
use crate::error::BuildError;
use crate::inputs::Inputs;
use crate::lists;
use crate::lock::{self, World};
use crate::source::Source;
use crate::stage::{Made, Spec};
use sheaf_config::recipe::Recipe;
use std::fs;
use std::path::PathBuf;

/// The installed packages.
pub const TREE: &str = "tree.tar";
/// The kernel.
pub const KERNEL: &str = "vmlinuz";
/// Its version.
const KERNEL_VERSION: &str = "kernel";

/// Folder with the packages of a lock, in the scratch directory.
const REPOSITORY: &str = "debs";

/// Before other packages are configured: the users that maintainer scripts would give varying IDs.
const USERS_HOOK: &str =
    r#"cat /mnt/users/passwd >> "$1/etc/passwd" && cat /mnt/users/group >> "$1/etc/group""#;

/// Its kernel, apart from the tree; `$1` is the tree.
const KERNEL_HOOK: &str = r#"if [ -d "$1/usr/lib/modules" ]; then ls "$1/usr/lib/modules" > /mnt/out/kernel; else : > /mnt/out/kernel; fi
for kernel in "$1"/boot/vmlinuz-*; do if [ -e "$kernel" ]; then cp "$kernel" /mnt/out/vmlinuz; fi; done"#;

/// What the packages stages share.
pub struct Packages<'a> {
    /// Where, with what and what for.
    pub ground: Ground<'a>,
    /// From where.
    pub mirrors: &'a Mirrors,
    /// In which versions.
    pub supply: Supply<'a>,
}

impl Packages<'_> {
    /// The tree that becomes the node's root.
    pub fn node(&self) -> Result<Made, BuildError> {
        self.install("node-packages", of_node(self.ground.source, self.ground.recipe)?, World::Node)
    }

    /// The tree that the initrds are made in.
    pub fn initrd(&self) -> Result<Made, BuildError> {
        self.install("initrd-packages", of_initrd(self.ground.source, self.ground.recipe)?, World::Initrd)
    }

    fn install(&self, name: &'static str, packages: Vec<String>, world: World) -> Result<Made, BuildError> {
        let Recipe { release, packages: wanted, .. } = self.ground.recipe;
        let mut inputs = Inputs::new(name, 1)
            .digest("tools", &self.ground.tools.digest)
            .text("epoch", &release.epoch.to_string())
            .text("fetched", &self.state(world))
            .texts("component", wanted.components.iter().map(String::as_str))
            .texts("package", packages.iter().map(String::as_str));
        let hook = (world == World::Node).then_some(USERS_HOOK);
        if hook.is_some() {
            inputs = inputs.path(&self.ground.source.image("users"))?;
        }
        self.ground.context.stage(Spec { name, inputs, output_digest_files: &[] }, |stage| {
            let packages = match self.supply {
                Supply::Mirrors(_) => packages,
                Supply::Lock(lock) => {
                    let store = Store::open(&self.ground.context.cache, self.mirrors, &lock.made)?;
                    store.repository(stage, lock.debs(world), &stage.scratch.join(REPOSITORY))?;
                    lock.debs(world).keys().cloned().collect()
                }
            };
            let repository = format!("/mnt/scratch/{REPOSITORY}");
            let bootstrap = Debootstrap {
                variant: "minbase",
                components: &wanted.components,
                packages: &packages,
                mirrors: self.mirrors,
                repository: matches!(self.supply, Supply::Lock(_)).then_some(repository.as_str()),
                epoch: release.epoch,
                essential_hook: hook,
            };
            let command = bootstrap.command("root", &format!("/mnt/out/{TREE}"));
            // Kernel packages would else make an initrd nobody boots.
            let command = command.arg(format!("--customize-hook={KERNEL_HOOK}")).env("INITRD", "No");
            let chroot = self
                .ground
                .tools
                .chroot()
                .network()
                .write(stage.out, "out")
                .read(stage.scratch, "scratch")
                .read(self.ground.source.image("users"), "users");
            stage.run(&chroot.enter(&command))?;
            Ok(())
        })
    }
}

impl Packages<'_> {
    /// What stands for the versions of packages in a stage's key.
    fn state(&self, world: World) -> String {
        match self.supply {
            Supply::Mirrors(fetched) => fetched.to_owned(),
            Supply::Lock(lock) => format!("lock {}", lock::digest(lock.debs(world))),
        }
    }
}

/// Packages that the node's root is asked to have.
pub fn of_node(source: &Source, recipe: &Recipe) -> Result<Vec<String>, BuildError> {
    Ok(names(asked_of_node(source, recipe)?))
}

/// Packages that the tree of the initrds is asked to have.
pub fn of_initrd(source: &Source, recipe: &Recipe) -> Result<Vec<String>, BuildError> {
    Ok(names(asked_of_initrd(source, recipe)?))
}

/// The same, each with its line.
pub fn asked_of_node(source: &Source, recipe: &Recipe) -> Result<Vec<Asked>, BuildError> {
    let mut asked = Vec::new();
    for name in &recipe.packages.lists {
        asked.extend(list(source, name)?);
    }
    asked.extend(firmware(source, recipe)?);
    asked.extend(
        recipe.packages.add.iter().map(|item| Asked { name: item.value.clone(), line: item.line.clone() }),
    );
    Ok(asked)
}

/// The same, each with its line.
pub fn asked_of_initrd(source: &Source, recipe: &Recipe) -> Result<Vec<Asked>, BuildError> {
    let mut asked = list(source, "initrd")?;
    asked.extend(firmware(source, recipe)?);
    Ok(asked)
}

/// Names of packages, or their beginnings, whose files are not in the image: only the build needs them.
pub fn left_out(source: &Source) -> PathBuf {
    source.list("left-out")
}

/// Packages with firmware, when the recipe wants them.
fn firmware(source: &Source, recipe: &Recipe) -> Result<Vec<Asked>, BuildError> {
    let mut asked = match recipe.packages.firmware {
        true => list(source, "firmware")?,
        false => Vec::new(),
    };
    for set in &recipe.packages.firmware_sets {
        asked.extend(list(source, &format!("firmware-{set}"))?);
    }
    Ok(asked)
}

fn list(source: &Source, name: &str) -> Result<Vec<Asked>, BuildError> {
    let items = lists::with_lines(&source.list(name))?;
    Ok(items.into_iter().map(|(name, line)| Asked { name, line }).collect())
}

fn names(asked: Vec<Asked>) -> Vec<String> {
    asked.into_iter().map(|asked| asked.name).collect()
}

/// The one kernel version of a tree.
pub fn kernel_version(tree: &Made) -> Result<String, BuildError> {
    let path = tree.file(KERNEL_VERSION);
    let text = fs::read_to_string(&path).map_err(BuildError::io(&path))?;
    match text.lines().collect::<Vec<_>>()[..] {
        [version] => Ok(version.to_owned()),
        ref other => {
            let what = format!("the packages bring {} kernels, one is needed", other.len());
            Err(BuildError::wrong(what, "name one linux-image package in the lists"))
        }
    }
}
