//! `sheaf disk RELEASE --config node.toml --output FILE`: the disk of an installed node, without booting an installer.
//!
//! Why here: a virtual machine, or a disk that is written by somebody else's program, needs no medium. The installer's own plan
//! and steps write it, so it is the disk that an installation leaves. Route in: a release, the config of one node. Route out: a
//! file with partition table, slots, state and data.

use crate::contents::folder;
use crate::workplace::Workplace;
use anyhow::{Context as _, Result, anyhow, ensure};
use clap::ValueEnum;
use sheaf_config::load::parse_config_file;
use sheaf_config::node::{Identity, Size};
use sheaf_host::chroot::Chroot;
use sheaf_host::console::Console;
use sheaf_host::run::{Command, Run as _, System};
use sheaf_installer::offline::{self, Place};
use sheaf_installer::plan::{ReleaseContents, plan_file};
use sheaf_installer::progress::Progress;
use sheaf_iso::Release;
use sheaf_os_image::tools;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Release folder, or the recipe it was built from
    release: PathBuf,
    /// Node config of the one node that the disk is for; what its install.disk and install.wipe say does not count here
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The file that is made; it must not exist
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Size of the disk; the file takes only what is written to it
    #[arg(long, default_value = "32GiB")]
    size: Size,
    /// What the file is
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The bytes of the disk, with holes
    Raw,
    /// QEMU's own format
    Qcow2,
}

/// Runs it; prints the file's path.
pub fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { release, config, output, size, format } = arguments;
    ensure!(!output.exists(), "{}: is there already; remove it, or give another name", output.display());
    let text = fs::read_to_string(config).with_context(|| format!("{}: cannot be read", config.display()))?;
    let file = parse_config_file(&config.display().to_string(), &text)?;
    // A host name that is made of a machine's facts is refused: there is no machine.
    let node = if file.is_fleet() { file.single()? } else { file.for_machine(&Identity::default())? };
    let release = Release::open(&folder(release)?)?;
    let dir = release.dir.canonicalize().with_context(|| release.dir.display().to_string())?;
    let place = Workplace::find()?;
    let home = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let home = home.canonicalize().with_context(|| format!("{}: make this folder first", home.display()))?;
    // Beside the output, so that the finished disk is renamed and never half there.
    let work = tempfile::Builder::new().prefix(".disk-").tempdir_in(&home);
    let work = work.with_context(|| home.display().to_string())?;
    let disk = work.path().join("disk.raw");
    let contents = ReleaseContents { manifest: &release.manifest, images: &BTreeMap::new() };
    let plan = plan_file(&node, &disk, size.0, contents, Uuid::new_v4())?;
    let tools = tools::ensure(&place.build_context(), &place.source, &place.mirrors(None))?;
    let progress = Progress::new(vec![Console::of(Box::new(std::io::stderr()), false)]);
    let place = Place {
        run: &System,
        chroot: tools.chroot(),
        work: work.path(),
        release: &dir,
        node_toml: &text,
        progress: &progress,
    };
    offline::write(&plan, &place).map_err(|error| {
        let remedy = error.remedy();
        anyhow::Error::new(error).context(format!("the disk could not be written; {remedy}"))
    })?;
    let made = match format {
        Format::Raw => disk,
        Format::Qcow2 => convert(tools.chroot(), work.path())?,
    };
    fs::rename(&made, output).with_context(|| output.display().to_string())?;
    println!("{}", output.display());
    Ok(())
}

/// `disk.raw` in `work` as qcow2, readable by its owner only as that is.
fn convert(chroot: Chroot, work: &Path) -> Result<PathBuf> {
    let convert = Command::new("qemu-img").args(["convert", "-q", "-f", "raw", "-O", "qcow2"]);
    let convert = convert.args(["/mnt/work/disk.raw", "/mnt/work/disk.qcow2"]);
    System.run(&chroot.write(work, "work").enter(&convert))?;
    let made = work.join("disk.qcow2");
    fs::set_permissions(&made, fs::Permissions::from_mode(0o600))
        .map_err(|error| anyhow!("{}: {error}", made.display()))?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(dir: &Path, config: &str) -> Arguments {
        let path = dir.join("node.toml");
        fs::write(&path, config).unwrap();
        let (release, output) = (dir.join("release"), dir.join("disk.raw"));
        Arguments { release, config: path, output, size: Size(32 << 30), format: Format::Raw }
    }

    #[test]
    fn a_file_that_is_there_is_not_written_and_a_file_for_many_machines_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let fleet = "version = 1\n[[node]]\nmatch = { serial = \"A1\" }\nsystem.hostname = \"a\"\n";
        let given = arguments(dir.path(), fleet);
        assert_eq!(
            run(&given).unwrap_err().to_string(),
            format!(
                "{}: file: is for several machines, and one for a single machine is needed here; give the file of this machine",
                given.config.display()
            )
        );
        fs::write(&given.output, "").unwrap();
        assert_eq!(
            run(&given).unwrap_err().to_string(),
            format!("{}: is there already; remove it, or give another name", given.output.display())
        );
    }
}
