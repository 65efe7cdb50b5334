//! Stage `contents`: what is in a release and who asked for it, before it is put together.
//!
//! Why a stage of its own: the node's root has the bill of materials in it, so it must be there before the root is made.
//! Route in: dpkg's status of both trees and of the tools chroot, `cargo tree`, the control plane's build information.
//! Route out: `sbom.spdx.json`, `packages.json`.

use super::packages::TREE;
use super::programs::PROGRAMS;
use super::{Ground, kube, packages};
use crate::contents::{self, Asked, Package};
use crate::crates;
use crate::debian::Supply;
use crate::error::BuildError;
use crate::go;
use crate::inputs::Inputs;
use crate::lists;
use crate::lock::{self, World};
use crate::npm;
use crate::sbom::{self, Bill};
use crate::stage::{Made, Spec, StageDir};
use sheaf_host::run::Command;
use std::collections::BTreeMap;
use std::fs;

/// Packages of the tools chroot whose files are part of a release: boot loaders and the stub of a UKI.
const BOOT: [&str; 2] = ["grub-pc-bin", "systemd-boot-efi"];
/// What of a release they are.
const BOOT_ROOT: &str = "boot";

/// What a release is made of.
pub struct Contents<'a> {
    /// Where, with what and what for.
    pub ground: Ground<'a>,
    /// The node's packages.
    pub node: &'a Made,
    /// The initrd's.
    pub initrd: &'a Made,
    /// Our programs.
    pub programs: &'a Made,
    /// The control plane.
    pub kube: &'a Made,
    /// Where packages came from.
    pub supply: Supply<'a>,
}

impl Contents<'_> {
    /// Collects it.
    pub fn build(&self) -> Result<Made, BuildError> {
        let Ground { context, source, tools, recipe } = self.ground;
        let asked = [
            (World::Initrd, packages::asked_of_initrd(source, recipe)?),
            (World::Node, packages::asked_of_node(source, recipe)?),
        ];
        let left_out = lists::read(&packages::left_out(source))?;
        let mut inputs = Inputs::new("contents", 1)
            .digest("tools", &tools.digest)
            .digest("node", &self.node.digest)
            .digest("initrd", &self.initrd.digest)
            .digest("programs", &self.programs.digest)
            .digest("kube", &self.kube.digest)
            .text("name", &recipe.release.name)
            .text("version", &recipe.release.version)
            .text("epoch", &recipe.release.epoch.to_string())
            .texts("left out", left_out.iter().map(String::as_str))
            .path(&source.path("Cargo.lock"))?;
        for Asked { name, line } in asked.iter().flat_map(|(_, asked)| asked) {
            inputs = inputs.text(name, line);
        }
        if let Supply::Lock(lock) = self.supply {
            let digest =
                |inputs: Inputs, world: World| inputs.digest(world.name(), &lock::digest(lock.debs(world)));
            inputs = World::ALL.into_iter().fold(inputs, digest);
        }
        let spec = Spec { name: "contents", inputs, output_digest_files: &[sbom::FILE, contents::FILE] };
        context.stage(spec, |stage| {
            let mut found = Vec::new();
            for (world, asked) in &asked {
                let tree = if *world == World::Node { self.node } else { self.initrd };
                let none = Vec::new();
                let left_out = if *world == World::Node { &left_out } else { &none };
                found.extend(contents::packages(&status(stage, tree)?, *world, asked, left_out));
            }
            found.extend(self.boot()?);
            write(stage, contents::FILE, &lines(&found)?)?;
            write(stage, sbom::FILE, &self.bill(stage, &found)?)
        })
    }

    /// What of the tools chroot is in a release.
    fn boot(&self) -> Result<Vec<Package>, BuildError> {
        let path = self.ground.tools.root().join("var/lib/dpkg/status");
        let status = fs::read_to_string(&path).map_err(BuildError::io(&path))?;
        let asked = BOOT.map(|name| Asked { name: name.to_owned(), line: "tools.list".to_owned() });
        let all = contents::packages(&status, World::Tools, &asked, &[]);
        let boot = all.into_iter().filter(|package| BOOT.contains(&package.name.as_str()));
        Ok(boot.map(|package| Package { root: BOOT_ROOT.to_owned(), ..package }).collect())
    }

    fn bill(&self, stage: &StageDir<'_>, packages: &[Package]) -> Result<String, BuildError> {
        let Ground { context, source, recipe, .. } = self.ground;
        let crates = |program: &&str| {
            Ok::<_, BuildError>(((*program).to_owned(), crates::of(context.run, source, &[program])?))
        };
        let path = self.kube.file(kube::FILE);
        let kube = go::build_info(&fs::read(&path).map_err(BuildError::io(&path))?).ok_or_else(|| {
            let what = format!("{} does not say which Go modules it was built from", path.display());
            BuildError::wrong(
                what,
                "build it with Go 1.18 or newer, and do not strip its section .go.buildinfo",
            )
        })?;
        let epoch = format!("--date=@{}", recipe.release.epoch);
        let created = stage.run(&Command::new("date").args(["--utc", &epoch, "+%Y-%m-%dT%H:%M:%SZ"]))?.text();
        let sums = match self.supply {
            Supply::Mirrors(_) => BTreeMap::new(),
            Supply::Lock(lock) => lock.debian.values().flatten().map(sum).collect(),
        };
        let bill = Bill {
            name: &recipe.release.name,
            version: &recipe.release.version,
            created: &created,
            packages,
            sums: &sums,
            programs: &PROGRAMS.iter().map(crates).collect::<Result<_, _>>()?,
            kube: &kube,
            page: &npm::of(source)?,
        };
        Ok(bill.document())
    }
}

fn sum((name, deb): (&String, &lock::Deb)) -> ((String, String), String) {
    ((name.clone(), deb.version.clone()), deb.sha256.clone())
}

/// dpkg's status of a tree of packages.
fn status(stage: &StageDir<'_>, tree: &Made) -> Result<String, BuildError> {
    let read = Command::new("tar").arg("-xOf").arg(tree.file(TREE)).arg("./var/lib/dpkg/status");
    Ok(stage.run(&read)?.text())
}

/// A JSON list, one package a line.
fn lines(packages: &[Package]) -> Result<String, BuildError> {
    let line = |package: &Package| serde_json::to_string(package);
    let lines = packages.iter().map(line).collect::<Result<Vec<_>, _>>();
    let lines =
        lines.map_err(|error| BuildError::wrong(format!("the list of packages: {error}"), "report this"))?;
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

fn write(stage: &StageDir<'_>, name: &str, text: &str) -> Result<(), BuildError> {
    let path = stage.out.join(name);
    fs::write(&path, text).map_err(BuildError::io(&path))
}
