//! What an operator's own programs take: a check of a fleet's config, and the installer's write path beside `dd` and
//! coreos-installer, which write the same bytes to the same disk in the same run.
//!
//! Route in: built programs, a disk that is a file. Route out: seconds.

// One function of it, for the very file that the validator's own test of speed checks.
#[path = "../../../../configs/tests/fleet/mod.rs"]
mod fleet;

use crate::median;
use anyhow::{Context as _, Result};
use serde_json::Value;
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::harness::{Built, Case};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Machines in the file.
const MACHINES: usize = 500;
/// Times that the check runs; odd, for the median.
const CHECKS: usize = 11;
/// Times that each writer writes.
const ROUNDS: usize = 3;
/// The disk that is written: more than the least that the installer takes.
const DISK: u64 = 20_000_000_000;
/// Where `scripts/bench` builds what Sheaf is compared with.
const COREOS_INSTALLER: &str = "target/bench-tools/bin/coreos-installer";

/// Milliseconds that `sheaf config check` takes for a file of [`MACHINES`] machines: median and most, with the file's
/// size in KiB.
pub fn fleet_check(case: &Case, built: &Built) -> Result<(f64, f64, usize)> {
    let (path, text) = (case.work().join("fleet.toml"), fleet::fleet(MACHINES));
    std::fs::write(&path, &text)?;
    let check = Command::new(&built.sheaf).args(["config", "check"]).arg(&path);
    let mut times = Vec::new();
    for _ in 0..CHECKS {
        let (took, output) = timed(&check)?;
        anyhow::ensure!(output.ends_with(&format!("good, {MACHINES} nodes")), "{output}");
        times.push(took.as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[CHECKS / 2], times[CHECKS - 1], text.len() >> 10))
}

/// Seconds to write the release's root image to a disk, medians of [`ROUNDS`] rounds.
#[derive(Debug)]
pub struct Writers {
    /// Bytes that are written.
    pub bytes: u64,
    /// `dd`, direct and flushed.
    pub dd: f64,
    /// The same, read back past the page cache by another `dd` and compared by `cmp`.
    pub dd_verified: f64,
    /// The installer: checked, decoded, written and flushed.
    pub written: f64,
    /// The same, read back and compared, too.
    pub verified: f64,
    /// coreos-installer, where it was built and there are loop devices.
    pub coreos: Option<f64>,
}

/// The writers in turns, on one disk.
pub fn writers(case: &Case, built: &Built) -> Result<Writers> {
    let release: Value = serde_json::from_slice(&built.manifest()?)?;
    let packed = built.release.join(release["root"]["file"].as_str().context("manifest without root")?);
    let raw = case.work().join("root.raw");
    let zstd = case.tools.command("usr/bin/zstd").args(["--decompress", "--quiet", "-o"]);
    System.run(&zstd.arg(&raw).arg(&packed))?;
    let file = case.work().join("disk.raw");
    std::fs::File::create(&file)?.set_len(DISK)?;
    let disk = Loop::over(&file);
    let path = disk.as_ref().map_or(file.as_path(), |disk| &disk.0);

    let cargo = Command::new("cargo").dir(case.root());
    System.run(&cargo.args([
        "build",
        "--release",
        "--quiet",
        "-p",
        "sheaf-installer",
        "--example",
        "write_path",
    ]))?;
    let installer = Command::new(case.root().join("target/release/examples/write_path"));
    let installer = installer.arg(&built.release).arg(path);
    let dd = Command::new("dd").arg(argument("if=", &raw)).arg(argument("of=", path));
    let dd = dd.args(["bs=4M", "oflag=direct", "conv=fsync,notrunc", "status=none"]);
    let bytes = std::fs::metadata(&raw)?.len();
    let back =
        format!("dd if=\"$1\" bs=4M iflag=direct,count_bytes count={bytes} status=none | cmp - \"$0\"");
    let back = Command::new("sh").args(["-c", &back]).arg(&raw).arg(path);
    let coreos = case.root().join(COREOS_INSTALLER);
    let can_coreos = coreos.exists() && disk.is_some();
    let coreos = with_udev(case, &coreos)?.args(["install", "--offline", "--insecure", "--image-file"]);
    let coreos = coreos.arg(&raw).arg(path);

    // Once for nothing: the file gets its blocks, what is read lies in memory.
    timed(&dd)?;
    let (mut by_dd, mut dd_verified) = (vec![], vec![]);
    let (mut written, mut verified, mut by_coreos) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let seconds = timed(&dd)?.0.as_secs_f64();
        by_dd.push(seconds);
        dd_verified.push(seconds + timed(&back)?.0.as_secs_f64());
        let timing: Value = serde_json::from_str(&timed(&installer)?.1)?;
        let seconds = |phase: &str| timing["seconds"][phase].as_f64().context("the installer told no times");
        written.push(seconds("write")?);
        verified.push(seconds("write")? + seconds("verify")?);
        if can_coreos {
            by_coreos.push(timed(&coreos)?.0.as_secs_f64());
        }
    }
    Ok(Writers {
        bytes,
        dd: median(by_dd),
        dd_verified: median(dd_verified),
        written: median(written),
        verified: median(verified),
        coreos: can_coreos.then(|| median(by_coreos)),
    })
}

/// `program`, which waits for udev, also where there is none (a container): then a namespace of its own has one that
/// is never busy.
fn with_udev(case: &Case, program: &Path) -> Result<Command> {
    if Path::new("/run/udev/control").exists() {
        return Ok(Command::new(program));
    }
    let stub = case.work().join("no-udev/udevadm");
    sheaf_host::file::write_atomically(&stub, b"#!/bin/sh\n", 0o755)?;
    let script = "mkdir -p /run/udev && mount -t tmpfs none /run/udev && touch /run/udev/control && \
                  PATH=\"$0:$PATH\" exec \"$@\"";
    let command = Command::new("unshare").args(["--mount", "sh", "-c", script]);
    Ok(command.arg(case.work().join("no-udev")).arg(program))
}

fn argument(key: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(key);
    argument.push(path);
    argument
}

fn timed(command: &Command) -> Result<(Duration, String)> {
    let start = Instant::now();
    let output = System.run(command)?;
    Ok((start.elapsed(), output.text()))
}

/// A file as a block device, for as long as this lives.
struct Loop(PathBuf);

impl Loop {
    /// None where the kernel or the user's rights do not allow it.
    fn over(file: &Path) -> Option<Self> {
        let setup =
            Command::new("losetup").args(["--find", "--show", "--partscan", "--direct-io=on"]).arg(file);
        System.run(&setup).ok().map(|output| Self(output.text().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // One that stays is taken away with the machine.
        let _ = System.run(&Command::new("losetup").arg("--detach").arg(&self.0));
    }
}
