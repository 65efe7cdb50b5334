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

#[derive(Debug, Default)]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments> {
        arguments(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn recordings_are_in_the_order_in_which_they_are_given() {
        let line = "--disk-size 4096 --release a --release b --install i.writes --then update=u.writes --seed 7 \
                    --state update/12+3 --out state.raw";
        let arguments = parsed(line).unwrap();
        let logs: Vec<_> = arguments
            .logs
            .iter()
            .map(|(of, log)| (of.name.as_str(), of.phase, log.display().to_string()))
            .collect();
        assert_eq!(
            logs,
            [
                ("install", Phase::Installation, "i.writes".into()),
                ("update", Phase::Installed, "u.writes".into())
            ]
        );
        assert_eq!((arguments.disk_size, arguments.seed, arguments.releases.len()), (4096, Some(7), 2));
        assert_eq!(arguments.state.unwrap().to_string(), "update/12+3");
        assert_eq!(arguments.out, Some("state.raw".into()));
    }

    #[test]
    fn what_is_missing_or_not_known_is_said_with_the_usage() {
        for (line, said) in [
            ("", "--disk-size, --release and --install are needed"),
            ("--disk-size 1 --release a", "--disk-size, --release and --install are needed"),
            ("--release", "--release has no value"),
            ("--verbose", "--verbose is not known"),
        ] {
            assert_eq!(parsed(line).unwrap_err().to_string(), format!("{said}\n{USAGE}"), "{line}");
        }
        assert_eq!(parsed("--then update").unwrap_err().to_string(), "--then is NAME=LOG");
        assert_eq!(parsed("--disk-size 64G").unwrap_err().to_string(), "--disk-size is in bytes");
        assert_eq!(parsed("--seed x").unwrap_err().to_string(), "--seed is a number");
    }
}
