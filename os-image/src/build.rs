//! A whole build: which stage takes what from which.
//!
//! Route in: a recipe and a checkout. Route out: the release folder.

use crate::debian::Mirrors;
use crate::error::BuildError;
use crate::release::{self, Parts};
use crate::signing::Key;
use crate::source::Source;
use crate::stage::{Made, Workshop};
use crate::stages::initrd::{self, Purpose};
use crate::stages::packages::Packages;
use crate::stages::root::{Identity, Root};
use crate::stages::uki::Uki;
use crate::stages::{Ground, bios, kube, microcode, payload, programs};
use crate::tools;
use sheaf_config::recipe::Recipe;
use std::path::PathBuf;

/// Builds the release of `recipe`. `fetched` names the state of the mirrors: with another value packages are
/// fetched anew.
pub fn build(
    shop: &Workshop<'_>,
    source: &Source,
    recipe: &Recipe,
    mirrors: &Mirrors,
    fetched: &str,
) -> Result<PathBuf, BuildError> {
    let key = Key::of(shop, recipe.release.signing_key.as_deref())?;
    let tools = tools::ensure(shop, source, mirrors)?;
    let ground = Ground { shop, source, tools: &tools, recipe };
    let packages = Packages { ground, mirrors, fetched };
    let initrd_packages = packages.initrd()?;
    let node_packages = packages.node()?;
    let initrd = |purpose| initrd::build(shop, source, &tools, recipe, &initrd_packages, purpose);
    let (node_initrd, installer_initrd) = (initrd(Purpose::Node)?, initrd(Purpose::Installer)?);
    let kube = kube::obtain(shop, source, &tools, &recipe.kube)?;
    let programs = programs::build(shop, source, &tools)?;
    let root = Root {
        ground,
        packages: &node_packages,
        initrd_packages: &initrd_packages,
        programs: &programs,
        kube: &kube,
    }
    .build()?;
    let payload = payload::build(shop, &root, recipe.zstd_level)?;
    let uki = |purpose, initrds: &[Made], arguments: &[String]| {
        Uki { ground, packages: &initrd_packages, initrds }.build(purpose, arguments)
    };
    let mut arguments = Identity::of(&root)?.kernel_arguments().to_vec();
    arguments.extend(recipe.arguments.iter().cloned());
    let early = recipe.packages.firmware.then(|| microcode::build(shop, &tools, recipe, &node_packages));
    let early = early.transpose()?;
    let after_early =
        |initrds: &[&Made]| early.iter().chain(initrds.iter().copied()).cloned().collect::<Vec<_>>();
    let node_uki = uki(Purpose::Node, &after_early(&[&node_initrd]), &arguments)?;
    let installer = initrd::installer_extra(shop, &tools, recipe, &programs, &key.public)?;
    let installer_uki = uki(Purpose::Installer, &after_early(&[&installer_initrd, &installer]), &[])?;
    let bios = bios::build(shop, source, &tools)?;
    let parts = Parts {
        root: &root,
        payload: &payload,
        node_uki: &node_uki,
        bios: &bios,
        installer_uki: &installer_uki,
    };
    release::build(shop, &tools, recipe, &parts, &key)
}
