//! A whole build: which stage takes what from which.
//!
//! Route in: a recipe and a checkout. Route out: [`Built`], the release folder and what to know of it.

use crate::debian::{Mirrors, Supply};
use crate::error::BuildError;
use crate::release::{self, Parts};
use crate::signing::Key;
use crate::source::Source;
use crate::stage::{BuildContext, Made};
use crate::stages::contents::Contents;
use crate::stages::initrd::{self, Purpose};
use crate::stages::packages::Packages;
use crate::stages::root::{Identity, Root};
use crate::stages::uki::Uki;
use crate::stages::{Ground, bios, kube, microcode, packages, page, payload, programs};
use crate::tools;
use sheaf_config::recipe::Recipe;
use std::path::PathBuf;

/// A finished release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its folder.
    pub folder: PathBuf,
    /// Version of its Linux kernel, as `uname -r` prints it.
    pub kernel: String,
    /// The key that signed it, when it is the one of the cache, which proves nothing to others.
    pub throw_away_key: Option<PathBuf>,
}

/// Builds the release of `recipe` from packages of `mirrors`, in the versions of `supply`, and signs it with `key`.
pub fn build(
    context: &BuildContext<'_>,
    source: &Source,
    recipe: &Recipe,
    mirrors: &Mirrors,
    supply: Supply<'_>,
    key: &Key,
) -> Result<Built, BuildError> {
    let tools = match supply {
        Supply::Mirrors(_) => tools::ensure(context, source, mirrors)?,
        Supply::Lock(lock) => tools::locked(context, source, mirrors, lock)?,
    };
    let ground = Ground { context, source, tools: &tools, recipe };
    let wanted = Packages { ground, mirrors, supply };
    let initrd_packages = wanted.initrd()?;
    let node_packages = wanted.node()?;
    let initrd = |purpose| initrd::build(context, source, &tools, recipe, &initrd_packages, purpose);
    let (node_initrd, installer_initrd) = (initrd(Purpose::Node)?, initrd(Purpose::Installer)?);
    let kube = kube::obtain(context, source, &tools, &recipe.kube)?;
    let page = page::build(context, source)?;
    let programs = programs::build(context, source, &tools, &page)?;
    let contents = Contents {
        ground,
        node: &node_packages,
        initrd: &initrd_packages,
        programs: &programs,
        kube: &kube,
        supply,
    }
    .build()?;
    let root = Root {
        ground,
        packages: &node_packages,
        initrd_packages: &initrd_packages,
        programs: &programs,
        kube: &kube,
        key,
        contents: &contents,
    }
    .build()?;
    let payload = payload::build(context, &root, recipe.zstd_level)?;
    let uki = |purpose, initrds: &[Made], arguments: &[String]| {
        Uki { ground, packages: &initrd_packages, initrds }.build(purpose, arguments)
    };
    let mut arguments = Identity::of(&root)?.kernel_arguments().to_vec();
    arguments.extend(recipe.arguments.iter().cloned());
    let early = recipe.packages.firmware.then(|| microcode::build(context, &tools, recipe, &node_packages));
    let early = early.transpose()?;
    let after_early =
        |initrds: &[&Made]| early.iter().chain(initrds.iter().copied()).cloned().collect::<Vec<_>>();
    let node_uki = uki(Purpose::Node, &after_early(&[&node_initrd]), &arguments)?;
    let installer = initrd::installer_extra(context, &tools, recipe, &programs, key)?;
    let installer_uki = uki(Purpose::Installer, &after_early(&[&installer_initrd, &installer]), &[])?;
    let bios = bios::build(context, source, &tools)?;
    let parts = Parts {
        kernel: &initrd_packages,
        root: &root,
        contents: &contents,
        payload: &payload,
        node_uki: &node_uki,
        bios: &bios,
        installer_uki: &installer_uki,
        kubernetes: kube::release(source)?,
    };
    Ok(Built {
        folder: release::build(context, &tools, recipe, &parts, key)?,
        kernel: packages::kernel_version(&initrd_packages)?,
        throw_away_key: key.throw_away.clone(),
    })
}
