//! The EFI system partition: made by mkfs.vfat at its offset, filled by mtools, read back and compared.
//!
//! Route in: partition, files of the medium, texts. Route out: a file system whose every file was read back from the
//! disk with the hash it should have. The partition has no device of its own yet: the table is written last.

use super::{Env, StepError, addon, check};
use crate::plan::{MediumFile, Partition};
use sha2::{Digest, Sha256};
use sheaf_host::disk::Hold;
use sheaf_host::run::Command;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Volume label: what other systems show.
const LABEL: &str = "ESP";
/// Bytes of a cluster. Left to itself mkfs.vfat derives it from the whole disk, and large clusters leave fewer than the
/// 65525 that make a file system FAT32: firmware then finds no file system at all.
const CLUSTER: u64 = 4096;

/// Everything that is not a file of the medium: texts, and the addon with kernel arguments.
pub(super) fn contents(texts: &[(String, String)], arguments: &[String]) -> Vec<(String, Vec<u8>)> {
    let texts = texts.iter().map(|(target, text)| (target.clone(), text.clone().into_bytes()));
    let addon = (!arguments.is_empty()).then(|| (addon::PATH.to_owned(), addon::image(&arguments.join(" "))));
    texts.chain(addon).collect()
}

pub(super) fn make(
    env: &Env<'_>,
    partition: &Partition,
    sector_size: u64,
    files: &[(MediumFile, String)],
    texts: &[(String, Vec<u8>)],
) -> Result<(), StepError> {
    env.disk.hold(Hold::Lent)?;
    env.run.run(&mkfs(env.disk.path(), partition, sector_size))?;
    // mtools takes the lock that keeps udev off.
    env.disk.hold(Hold::Free)?;
    let mtools = |program: &str| mtools(program, env.disk.path(), partition.offset);
    let targets = files.iter().map(|(_, target)| target).chain(texts.iter().map(|(target, _)| target));
    for folder in folders(targets) {
        env.run.run(&mtools("mmd").arg(format!("::{folder}")))?;
    }
    for (file, target) in files {
        let copy = mtools("mcopy").arg(env.medium.join(&file.file)).arg(format!("::{target}"));
        env.run.run(&copy)?;
    }
    for (target, text) in texts {
        env.run.run(&mtools("mcopy").args(["-", &format!("::{target}")]).stdin(text.clone()))?;
    }
    env.disk.sync()?;
    let back = env.scratch.join("esp-file");
    fs::create_dir_all(env.scratch)
        .map_err(|source| StepError::Scratch { path: env.scratch.to_owned(), source })?;
    for (file, target) in files {
        read_back(env, mtools("mcopy"), target, &back, &file.sha256.to_lowercase())?;
    }
    for (target, text) in texts {
        read_back(env, mtools("mcopy"), target, &back, &hex::encode(Sha256::digest(text)))?;
    }
    Ok(())
}

/// Copies `source` from the partition to the file `back` and compares its hash.
fn read_back(
    env: &Env<'_>,
    mcopy: Command,
    source: &str,
    back: &Path,
    sha256: &str,
) -> Result<(), StepError> {
    let scratch = |source| StepError::Scratch { path: back.to_owned(), source };
    env.run.run(&mcopy.arg("-n").arg(format!("::{source}")).arg(back))?;
    let (_, hash) = check::hash(back, |_| ()).map_err(scratch)?;
    fs::remove_file(back).map_err(scratch)?;
    match hash == sha256 {
        true => Ok(()),
        false => Err(StepError::ReadBack { disk: env.disk.path().to_owned(), what: source.to_owned() }),
    }
}

fn mkfs(disk: &Path, partition: &Partition, sector_size: u64) -> Command {
    let first_sector = (partition.offset / sector_size).to_string();
    let cluster = (CLUSTER / sector_size).max(1).to_string(); // mkfs.vfat counts in sectors
    let volume_id = partition.uuid.simple().to_string()[..8].to_owned();
    Command::new("mkfs.vfat")
        .args(["-I", "-F", "32", "-n", LABEL, "-i", &volume_id]) // -I: the whole disk is meant, at an offset
        .args([
            "-s",
            &cluster,
            "-S",
            &sector_size.to_string(),
            "-h",
            &first_sector,
            "--offset",
            &first_sector,
        ])
        .arg(disk)
        .arg((partition.size / 1024).to_string()) // mkfs.vfat counts in KiB
}

fn mtools(program: &str, disk: &Path, offset: u64) -> Command {
    // Its plausibility checks are for floppies; they refuse sectors of 4096 bytes.
    Command::new(program).env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(format!("{}@@{offset}", disk.display()))
}

/// Every folder above `targets`, parents first.
fn folders<'t>(targets: impl Iterator<Item = &'t String>) -> BTreeSet<String> {
    let above = |target: &'t String| Path::new(target.as_str()).ancestors().skip(1);
    targets.flat_map(above).map(|f| f.display().to_string()).filter(|folder| folder != "/").collect()
}
