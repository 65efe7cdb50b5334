//! `sheaf-powercut`: replays recordings, and writes one state of them to a file.
//!
//! Why a program: a state that a test names is looked at, and booted, without the test. Route in: arguments, see
//! [`USAGE`]. Route out: tables on standard output, exit code 1 when a state fails; or an image.

use anyhow::{Context as _, Result, bail};
use sheaf_powercut::log::Log;
use sheaf_powercut::model::FIRMWARES;
use sheaf_powercut::release::Release;
use sheaf_powercut::replay::{Phase, Recording, Replay};
use sheaf_powercut::states::StateName;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What is said when the arguments are wrong.
const USAGE: &str = "\
sheaf-powercut --disk-size BYTES --release FOLDER… --install LOG [--then NAME=LOG…] [--seed N]
               [--state NAME [--out FILE]]

Without --state: judges all states and prints the tables of docs/reliability.md.
With --state: prints what either firmware makes of that state; --out writes it to a raw image with holes.";

/// The seed of the tests.
const SEED: u64 = 1;

#[derive(Default)]
struct Arguments {
    disk_size: u64,
    releases: Vec<PathBuf>,
    logs: Vec<(Recording, PathBuf)>,
    seed: Option<u64>,
    state: Option<StateName>,
    out: Option<PathBuf>,
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} has no value\n{USAGE}"));
        match word.as_str() {
            "--disk-size" => arguments.disk_size = value()?.parse().context("--disk-size is in bytes")?,
            "--release" => arguments.releases.push(value()?.into()),
            "--install" => {
                let recording = Recording { name: "install".into(), phase: Phase::Installation };
                arguments.logs.push((recording, value()?.into()));
            }
            "--then" => {
                let value = value()?;
                let (name, log) = value.split_once('=').context("--then is NAME=LOG")?;
                let recording = Recording { name: name.into(), phase: Phase::Installed };
                arguments.logs.push((recording, log.into()));
            }
            "--seed" => arguments.seed = Some(value()?.parse().context("--seed is a number")?),
            "--state" => arguments.state = Some(value()?.parse()?),
            "--out" => arguments.out = Some(value()?.into()),
            _ => bail!("{word} is not known\n{USAGE}"),
        }
    }
    if arguments.disk_size == 0 || arguments.releases.is_empty() || arguments.logs.is_empty() {
        bail!("--disk-size, --release and --install are needed\n{USAGE}");
    }
    Ok(arguments)
}

fn write_out(replay: &Replay<'_>, name: &StateName, out: Option<&Path>) -> Result<()> {
    let disk = replay.state(name)?;
    for (firmware, verdict) in FIRMWARES.into_iter().zip(replay.judge(&disk)?) {
        println!("{firmware}: {verdict:?}");
    }
    if let Some(out) = out {
        let file = File::create(out).with_context(|| out.display().to_string())?;
        disk.copy_to(&file).with_context(|| out.display().to_string())?;
        println!("written: {}", out.display());
    }
    Ok(())
}

fn main() -> Result<ExitCode> {
    let Arguments { disk_size, releases, logs, seed, state, out } = arguments(std::env::args().skip(1))?;
    let releases = releases.iter().map(|folder| Release::read(folder, &[])).collect::<Result<Vec<_>, _>>()?;
    let (recordings, paths): (Vec<_>, Vec<_>) = logs.into_iter().unzip();
    let logs = paths.iter().map(|path| Log::open(path)).collect::<Result<Vec<_>, _>>()?;
    let replay = Replay::new(&recordings, &logs, &releases, disk_size)?;
    if let Some(name) = state {
        write_out(&replay, &name, out.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = replay.run(seed.unwrap_or(SEED))?;
    print!("{}", report.markdown());
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
