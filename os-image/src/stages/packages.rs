//! Stages `node-packages` and `initrd-packages`: Debian packages, installed, as one tar file each.
//!
//! Two trees, because the initrds are made with tools that a node shall not have. They stay tar files: nobody
//! changes them, and a plain user's cache then holds no files of other users.
//! Route in: package lists, fixed users. Route out: `tree.tar`, `kernel` (the version), `vmlinuz`.

use super::Ground;
use crate::debian::{Debootstrap, Mirrors};
use crate::error::BuildError;
use crate::inputs::Inputs;
use crate::lists;
use crate::stage::{Made, Spec};
use sheaf_config::recipe::Recipe;
use std::fs;

/// The installed packages.
pub const TREE: &str = "tree.tar";
/// The kernel.
pub const KERNEL: &str = "vmlinuz";
/// Its version.
const KERNEL_VERSION: &str = "kernel";

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
    /// Names the state of the mirrors: packages are fetched again when it changes.
    pub fetched: &'a str,
}

impl Packages<'_> {
    /// The tree that becomes the node's root.
    pub fn node(&self) -> Result<Made, BuildError> {
        let mut packages = Vec::new();
        for list in &self.ground.recipe.packages.lists {
            packages.extend(lists::read(&self.ground.source.list(list))?);
        }
        packages.extend(self.firmware()?);
        packages.extend(self.ground.recipe.packages.add.iter().cloned());
        self.install("node-packages", packages, true)
    }

    /// The tree that the initrds are made in.
    pub fn initrd(&self) -> Result<Made, BuildError> {
        let mut packages = lists::read(&self.ground.source.list("initrd"))?;
        packages.extend(self.firmware()?);
        self.install("initrd-packages", packages, false)
    }

    /// Packages with firmware, when the recipe wants them.
    fn firmware(&self) -> Result<Vec<String>, BuildError> {
        match self.ground.recipe.packages.firmware {
            true => lists::read(&self.ground.source.list("firmware")),
            false => Ok(Vec::new()),
        }
    }

    fn install(&self, name: &'static str, packages: Vec<String>, users: bool) -> Result<Made, BuildError> {
        let Recipe { release, packages: wanted, .. } = self.ground.recipe;
        let mut inputs = Inputs::new(name, 1)
            .digest("tools", &self.ground.tools.digest)
            .text("epoch", &release.epoch.to_string())
            .text("fetched", self.fetched)
            .texts("component", wanted.components.iter().map(String::as_str))
            .texts("package", packages.iter().map(String::as_str));
        let hook = users.then_some(USERS_HOOK);
        if users {
            inputs = inputs.path(&self.ground.source.image("users"))?;
        }
        self.ground.context.stage(Spec { name, inputs, output_digest_files: &[] }, |stage| {
            let bootstrap = Debootstrap {
                variant: "minbase",
                components: &wanted.components,
                packages: &packages,
                mirrors: self.mirrors,
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
                .read(self.ground.source.image("users"), "users");
            stage.run(&chroot.enter(&command))?;
            Ok(())
        })
    }
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
