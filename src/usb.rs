//! `sheaf usb DEVICE`: a stick that installs, written by the installer's rules.

use crate::iso::{Chosen, Source};
use crate::workplace::Workplace;
use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sheaf_host::block::{self, Device};
use sheaf_host::disk::{Disk as _, Hold, RawDisk};
use sheaf_host::run::System;
use sheaf_iso::usb;
use sheaf_os_image::tools;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// The stick, /dev/sdx or one of its links below /dev/disk
    device: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Write this ISO instead of making one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["release", "config", "images"])]
    iso: Option<PathBuf>,
    /// Serial number of the stick: needed if it holds data or is not a removable drive
    #[arg(long, value_name = "SERIAL")]
    yes_serial: Option<String>,
}

/// Runs it; prints the stick's path.
pub fn run(arguments: &Arguments) -> Result<()> {
    let place = Workplace::find()?;
    // First what can be wrong at once: nobody waits for a medium that has nowhere to go.
    let stick = find(&arguments.device)?;
    let check = |size| {
        let found = block::signatures(&System, &stick);
        usb::check(&stick, &found, size, arguments.yes_serial.as_deref())
    };
    check(0)?;
    let context = place.build_context();
    std::fs::create_dir_all(&context.target).with_context(|| context.target.display().to_string())?;
    let work = tempfile::Builder::new().prefix(".usb-").tempdir_in(&context.target)?;
    let iso = match &arguments.iso {
        Some(iso) => iso.clone(),
        None => {
            let Chosen { release, contents } = arguments.source.open(&place)?;
            let plan = sheaf_iso::plan(&release, &contents)?;
            let tools = tools::ensure(&context, &place.source, &place.mirrors(None))?;
            let iso = work.path().join("medium.iso");
            sheaf_iso::write(&plan, &tools.chroot(), &System, &iso)?;
            iso
        }
    };
    let mut medium = File::open(&iso).with_context(|| iso.display().to_string())?;
    let size = medium.metadata()?.len();
    let disk = RawDisk::open(&stick.path).context("run as root")?;
    disk.hold(Hold::Alone)?;
    // Making the medium took minutes. What is open now is not exchanged for another device any more, so it is this one
    // that has to pass.
    let stick = same(&stick, &disk)?;
    usb::check(&stick, &block::signatures(&System, &stick), size, arguments.yes_serial.as_deref())?;
    eprintln!("writing {} to {}", megabytes(size), described(&stick));
    let bar = ProgressBar::new(2 * size);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    {
        bar.set_style(style);
    }
    usb::write(&mut medium, size, &disk, &mut |done, _| bar.set_position(done))?;
    bar.finish_and_clear();
    println!("{}: written and read back", stick.path.display());
    Ok(())
}

/// The device that is open, when it still is the `stick` that was chosen.
fn same(stick: &Device, open: &RawDisk) -> Result<Device> {
    let number = open.number();
    let now = block::devices(&System)?.into_iter().find(|device| device.number == number);
    match now {
        Some(now) if (&now.serial, now.size) == (&stick.serial, stick.size) => Ok(now),
        _ => bail!("{}: another device has this name now; start again", stick.path.display()),
    }
}

/// The whole disk that `device` names.
fn find(device: &Path) -> Result<Device> {
    let path = device.canonicalize().with_context(|| device.display().to_string())?;
    let disks: Vec<Device> =
        block::devices(&System)?.into_iter().filter(|device| device.kind == "disk").collect();
    let all: Vec<String> = disks.iter().map(|disk| format!("  {}", described(disk))).collect();
    match disks.into_iter().find(|disk| disk.path == path) {
        Some(disk) => Ok(disk),
        None => bail!(
            "{}: is not a whole disk of this machine; name one of these:\n{}",
            device.display(),
            all.join("\n")
        ),
    }
}

fn described(disk: &Device) -> String {
    let text = |text: &Option<String>, name: &str| match text.as_deref().map(str::trim) {
        Some(text) if !text.is_empty() => format!("{name} {text}"),
        _ => format!("no {name}"),
    };
    let (model, serial) = (text(&disk.model, "model"), text(&disk.serial, "serial"));
    format!("{}, {}, {model}, {serial}", disk.path.display(), megabytes(disk.size))
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
