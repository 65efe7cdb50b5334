//! Stage `programs`: the node's own programs, in Rust.
//!
//! cargo runs inside the tools chroot, with the host's toolchain and crate cache shown in it. So the programs are
//! linked against the image's C library by the chroot's linker, the host needs no C compiler for them, and paths
//! in them are the same on every machine. Crates are fetched before, outside, where the host's network settings
//! hold. cargo's target directory stays in the checkout: a changed line compiles one crate.
//! Route in: the crates' sources. Route out: one file for each of [`PROGRAMS`].

use super::page;
use crate::build_host::{self, CARGO};
use crate::error::BuildError;
use crate::inputs::Inputs;
use crate::source::Source;
use crate::stage::{BuildContext, Made, Spec};
use crate::tools::Tools;
use sheaf_host::run::{Command, Run};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Programs of the node's root.
pub const NODE: [&str; 3] = ["sheaf-agent", "sheaf-controller", "sheaf-console"];
/// Program of the installer's initrd.
pub const INSTALLER: &str = "sheaf-installer";
/// All of them, each named as its package.
pub const PROGRAMS: [&str; 4] = [NODE[0], NODE[1], NODE[2], INSTALLER];

/// What the linker is told: a position-independent program has its addresses corrected as it starts, and the list of the places
/// is 1.7 MB of the agent, in memory as well as on the medium. Packed (`DT_RELR`, glibc 2.36) it is some kilobytes.
const RUSTFLAGS: &str = "-C link-arg=-Wl,-z,pack-relative-relocs";

/// Directories of the crates they are made of.
const CRATES: [&str; 9] =
    ["agent", "configs", "console", "controller", "host", "https", "installer", "links", "release"];
/// What of those is no source of theirs. `console/web` is that of the page, which is a stage of its own.
const NOT_SOURCE: [&str; 4] = ["tests", "images", "examples", "web"];

/// Builds them.
pub fn build(
    context: &BuildContext<'_>,
    source: &Source,
    tools: &Tools,
    page: &Made,
) -> Result<Made, BuildError> {
    build_host::require(CARGO, context.run, context.privilege)?;
    let sysroot = toolchain(context.run, source)?;
    let mut inputs = Inputs::new("programs", 1)
        .digest("tools", &tools.digest)
        .digest("page", &page.digest)
        .text("toolchain", &version(context.run, source)?)
        .text("flags", RUSTFLAGS);
    for file in ["Cargo.toml", "Cargo.lock"] {
        inputs = inputs.path(&source.path(file))?;
    }
    for name in CRATES {
        inputs = inputs.path_without(&source.path(name), &NOT_SOURCE)?;
    }
    let spec = Spec { name: "programs", inputs, output_digest_files: &PROGRAMS };
    context.stage(spec, |stage| {
        stage.run(&Command::new("cargo").args(["fetch", "--locked"]).dir(source.top()))?;
        let target = context.target.join("node");
        fs::create_dir_all(&target).map_err(BuildError::io(&target))?;
        let chroot = tools
            .chroot()
            .read(source.top(), "source")
            .read(&sysroot, "rust")
            .write(cargo_home()?.join("registry"), "cargo/registry")
            .read(page.file(page::FOLDER), "page")
            .write(&target, "target");
        let build = Command::new("/mnt/rust/bin/cargo")
            .args(["build", "--release", "--locked", "--offline", "--target-dir", "/mnt/target"])
            .args(PROGRAMS.iter().flat_map(|program| ["--package", program]))
            .env("CARGO_HOME", "/mnt/cargo")
            .env("RUSTFLAGS", RUSTFLAGS)
            .env("SHEAF_CONSOLE_PAGE", "/mnt/page")
            .env("PATH", "/mnt/rust/bin:/usr/bin:/bin")
            .dir("/mnt/source");
        stage.run(&chroot.enter(&build))?;
        for program in PROGRAMS {
            let built = target.join("release").join(program);
            fs::copy(&built, stage.out.join(program)).map_err(BuildError::io(&built))?;
        }
        Ok(())
    })
}

/// The directory of the Rust toolchain that this checkout pins.
fn toolchain(run: &dyn Run, source: &Source) -> Result<PathBuf, BuildError> {
    let sysroot = run.run(&Command::new("rustc").args(["--print", "sysroot"]).dir(source.top()))?.text();
    let sysroot = PathBuf::from(sysroot);
    if !sysroot.join("bin/cargo").is_file() || sysroot == Path::new("/usr") {
        let what = format!(
            "the Rust toolchain at {} is not managed by rustup; the build uses rustup's toolchain in its chroot",
            sysroot.display()
        );
        return Err(BuildError::wrong(what, CARGO.remedy));
    }
    Ok(sysroot)
}

/// Its version: another compiler makes other programs.
pub fn version(run: &dyn Run, source: &Source) -> Result<String, BuildError> {
    Ok(run.run(&Command::new("rustc").arg("--version").dir(source.top()))?.text())
}

fn cargo_home() -> Result<PathBuf, BuildError> {
    let given = env::var_os("CARGO_HOME").map(PathBuf::from);
    let default = || env::home_dir().map(|home| home.join(".cargo"));
    given
        .or_else(default)
        .ok_or_else(|| BuildError::wrong("this user has no home directory", "set CARGO_HOME"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    fn table(path: &Path) -> toml::Table {
        std::fs::read_to_string(path).unwrap().parse().unwrap()
    }

    /// One that is missing leaves programs of former sources in the image.
    #[test]
    fn the_folders_are_those_of_all_crates_that_the_programs_are_made_of() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let members = table(&top.join("Cargo.toml"))["workspace"]["members"].as_array().unwrap().clone();
        let crates: BTreeMap<String, (String, toml::Table)> = members
            .iter()
            .map(|member| member.as_str().unwrap())
            .map(|member| (member.to_owned(), table(&top.join(member).join("Cargo.toml"))))
            .map(|(member, crate_)| {
                (crate_["package"]["name"].as_str().unwrap().to_owned(), (member, crate_))
            })
            .collect();
        let mut open: Vec<&str> = PROGRAMS.to_vec();
        let mut folders = BTreeSet::new();
        while let Some(name) = open.pop() {
            let Some((member, crate_)) = crates.get(name) else { continue };
            if folders.insert(member.split('/').next().unwrap()) || member.contains('/') {
                let dependencies = crate_["dependencies"].as_table().unwrap();
                open.extend(
                    dependencies.keys().map(String::as_str).filter(|name| name.starts_with("sheaf-")),
                );
            }
        }
        assert_eq!(folders.into_iter().collect::<Vec<_>>(), CRATES);
    }
}
