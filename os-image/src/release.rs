//! Stage `release`: the folder that media are made of and updates are taken from.
//!
//! Route in: payload, UKIs, boot loader, key. Route out: `target/sheaf/releases/<name>-<version>/`, which is
//! complete or absent.

use crate::contents;
use crate::debian::ARCH;
use crate::error::BuildError;
use crate::files;
use crate::inputs::{Digest, Inputs};
use crate::pe;
use crate::sbom;
use crate::signing::Key;
use crate::stage::{BuildContext, Made, Spec, lock};
use crate::stages::bios;
use crate::stages::packages::kernel_version;
use crate::stages::payload;
use crate::stages::root::{Identity, MODULES, PACKAGES};
use crate::tools::Tools;
use sheaf_config::manifest::{self, Bios, Manifest, Plain, STATE, Terms, Uki};
use sheaf_config::recipe::{self, Recipe};
use std::fs;
use std::path::{Path, PathBuf};

/// systemd-boot, in the tools chroot.
const BOOT_LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// Results of earlier stages that a release holds.
pub struct Parts<'a> {
    /// The packages that bring the kernel.
    pub kernel: &'a Made,
    /// The node's root.
    pub root: &'a Made,
    /// What it is made of.
    pub contents: &'a Made,
    /// It, compressed.
    pub payload: &'a Made,
    /// The UKI of a node.
    pub node_uki: &'a Made,
    /// GRUB of a node.
    pub bios: &'a Made,
    /// The UKI of the installer.
    pub installer_uki: &'a Made,
    /// Version of Kubernetes in it, `1.37.2`.
    pub kubernetes: String,
}

/// Which nodes may take the release: what the recipe says, and what is in it.
fn terms(recipe: &Recipe, kubernetes: &str) -> Terms {
    let recipe::Terms { expires, channel, floor, min_from } = recipe.release.terms.clone();
    Terms { expires, channel, floor, min_from, state: STATE, kubernetes: Some(kubernetes.to_owned()) }
}

/// Where the release of `recipe` lies under `target`.
pub fn dir(target: &Path, recipe: &Recipe) -> PathBuf {
    target.join("releases").join(format!("{}-{}", recipe.release.name, recipe.release.version))
}

/// Makes the release folder.
pub fn build(
    context: &BuildContext<'_>,
    tools: &Tools,
    recipe: &Recipe,
    parts: &Parts<'_>,
    key: &Key,
) -> Result<PathBuf, BuildError> {
    let boot_loader = tools.root().join(BOOT_LOADER);
    let terms = terms(recipe, &parts.kubernetes);
    let terms_text =
        serde_json::to_string(&terms).map_err(|error| BuildError::io(&boot_loader)(error.into()))?;
    let mut inputs = Inputs::new("release", 5)
        .digest("tools", &tools.digest)
        .text("name", &recipe.release.name)
        .text("version", &recipe.release.version)
        .text("epoch", &recipe.release.epoch.to_string())
        .text("terms", &terms_text)
        .text("key", &key.public)
        .text("kernel", &kernel_version(parts.kernel)?)
        .digest("root", &parts.root.digest)
        .digest("contents", &parts.contents.digest)
        .digest("payload", &parts.payload.digest)
        .digest("node", &parts.node_uki.digest)
        .digest("bios", &parts.bios.digest)
        .digest("installer", &parts.installer_uki.digest);
    if let Some(keys) = &key.keys {
        inputs = inputs.text("keys", keys);
    }
    let made = context.stage(Spec { name: "release", inputs, output_digest_files: &[] }, |stage| {
        let [root, verity] = payload::describe(parts.payload)?;
        let put = |from: PathBuf| put(&from, stage.out);
        put(parts.payload.file(&root.file))?;
        put(parts.payload.file(&verity.file))?;
        let of_root = [PACKAGES, MODULES, files::FILE].map(|name| parts.root.file(name));
        let of_contents = [sbom::FILE, contents::FILE].map(|name| parts.contents.file(name));
        let documents = of_root.into_iter().chain(of_contents).map(put).collect::<Result<_, _>>()?;
        let Identity { hash, root_uuid, verity_uuid } = Identity::of(parts.root)?;
        let manifest = Manifest {
            format: manifest::FORMAT,
            name: recipe.release.name.clone(),
            version: recipe.release.version.clone(),
            kernel: kernel_version(parts.kernel)?,
            arch: ARCH.into(),
            created: recipe.release.epoch,
            terms,
            root,
            verity,
            root_hash: hash,
            root_uuid,
            verity_uuid,
            node_uki: uki(put(parts.node_uki.file("node.efi"))?, stage.out)?,
            boot_loader: put(boot_loader)?,
            bios: Bios {
                boot: put(parts.bios.file(bios::BOOT))?,
                core: put(parts.bios.file(bios::CORE))?,
                menu: put(parts.bios.file(bios::MENU))?,
            },
            installer_uki: uki(put(parts.installer_uki.file("installer.efi"))?, stage.out)?,
            documents,
        };
        let path = stage.out.join(manifest::FILE);
        let mut text =
            serde_json::to_vec_pretty(&manifest).map_err(|error| BuildError::io(&path)(error.into()))?;
        text.push(b'\n');
        write(&path, &text)?;
        let signature = key.sign(stage, &path, &text, recipe.release.epoch)?;
        write(&stage.out.join(manifest::SIGNATURE), signature.as_bytes())?;
        if let Some(keys) = &key.keys {
            write(&stage.out.join(manifest::KEYS), keys.as_bytes())?;
        }
        write(&stage.out.join(manifest::PUBLIC_KEY), key.public.as_bytes())
    })?;
    publish(&made.dir, &dir(&context.target, recipe))
}

/// Puts the finished folder where users look for it. Its files share their blocks with the cache where they can.
fn publish(made: &Path, to: &Path) -> Result<PathBuf, BuildError> {
    let home = to.parent().unwrap_or(to);
    fs::create_dir_all(home).map_err(BuildError::io(home))?;
    let _lock = lock(&home.join(".lock"))?;
    let new = to.with_file_name(".new");
    for left_over in [&new, &to.to_owned()] {
        match fs::remove_dir_all(left_over) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BuildError::io(left_over)(error));
            }
            _ => {}
        }
    }
    fs::create_dir_all(&new).map_err(BuildError::io(&new))?;
    for entry in fs::read_dir(made).map_err(BuildError::io(made))?.flatten() {
        put(&entry.path(), &new)?;
    }
    fs::rename(&new, to).map_err(BuildError::io(to))?;
    Ok(to.to_owned())
}

/// Puts a copy of the file `from` into `dir`, and describes it.
fn put(from: &Path, dir: &Path) -> Result<Plain, BuildError> {
    let name = from.file_name().unwrap_or_default();
    let size = fs::copy(from, dir.join(name)).map_err(BuildError::io(from))?;
    Ok(Plain { file: name.to_string_lossy().into_owned(), size, sha256: Digest::of_file(from)?.to_string() })
}

/// Describes a UKI that lies in `dir`.
fn uki(plain: Plain, dir: &Path) -> Result<Uki, BuildError> {
    let path = dir.join(&plain.file);
    let bytes = fs::read(&path).map_err(BuildError::io(&path))?;
    let pe::Sections { linux, initrd, command_line } = pe::sections(&bytes).map_err(|what| {
        BuildError::wrong(
            format!("{} is not a UKI: {what}", path.display()),
            "remove the stage from the cache",
        )
    })?;
    let Plain { file, size, sha256 } = plain;
    Ok(Uki { file, size, sha256, linux, initrd, command_line })
}

fn write(path: &Path, contents: &[u8]) -> Result<(), BuildError> {
    fs::write(path, contents).map_err(BuildError::io(path))
}
