//! Writes a planned medium with mtools, grub-mkimage and xorriso.
//!
//! Layout (one file, four ways in): the EFI system partition is a file of the ISO 9660 tree; El Torito names it for
//! CDs, the GPT for sticks. GRUB is another file; El Torito names it for BIOS and CDs, the MBR's code for sticks.
//! Equal plans give equal bytes.
//! Route in: [`Plan`], the tools chroot. Route out: the ISO, which appears complete or not at all.

use crate::bios;
use crate::plan::{BOOT_PROGRAM, ESP, Plan, VOLUME};
use sheaf_host::chroot::Chroot;
use sheaf_host::run::{Command, Run, RunError};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Why a medium was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A tool failed.
    #[error("the medium could not be put together")]
    Run(#[from] RunError),
    /// A file could not be read or written.
    #[error("{}: cannot be written", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes `plan` to `out`, with the tools in `tools`.
pub fn write(plan: &Plan, tools: &Chroot, run: &dyn Run, out: &Path) -> Result<(), WriteError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError::Io { path, source }
    };
    let folder = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(fail(folder))?;
    let work = tempfile::Builder::new().prefix(".iso-").tempdir_in(folder).map_err(fail(folder))?;
    // Its own copy: mtools takes the timestamp from the file.
    let uki = work.path().join("BOOTX64.EFI");
    fs::copy(&plan.uki, &uki).map_err(fail(&uki))?;
    let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(plan.epoch);
    let stamp = || File::options().write(true).open(&uki)?.set_modified(epoch);
    stamp().map_err(fail(&uki))?;
    let esp = work.path().join(ESP);
    File::create(&esp).and_then(|file| file.set_len(plan.esp_size)).map_err(fail(&esp))?;

    for (file, text) in [(bios::EARLY, &plan.bios.early), (bios::MENU, &plan.bios.menu)] {
        let path = work.path().join(file);
        fs::write(&path, text).map_err(fail(&path))?;
    }

    let at_work = tools.clone().write(work.path(), "work");
    for command in esp_commands(plan).into_iter().chain(bios::commands()) {
        run.run(&at_work.enter(&command))?;
    }
    // Each file is shown inside on its own: they may lie anywhere on the host.
    let with_files = plan
        .files
        .values()
        .enumerate()
        .fold(at_work, |chroot, (index, file)| chroot.read(file, &bound(index)));
    run.run(&with_files.enter(&xorriso(plan)))?;
    let iso = work.path().join("medium.iso");
    fs::rename(&iso, out).map_err(fail(out))
}

/// Name under which the `index`-th file is shown inside.
fn bound(index: usize) -> String {
    format!("file{index}")
}

/// Fills the EFI system partition.
fn esp_commands(plan: &Plan) -> [Command; 3] {
    let esp = format!("/mnt/work/{ESP}");
    let tool = |program: &str| Command::new(program).env("SOURCE_DATE_EPOCH", plan.epoch.to_string());
    [
        tool("mkfs.vfat").args(["--invariant", "-n", "SHEAF-EFI", "-i", &plan.esp_serial, &esp]),
        tool("mmd").args(["-i", &esp, "::/EFI", "::/EFI/BOOT"]),
        tool("mcopy").args(["-m", "-i", &esp, "/mnt/work/BOOTX64.EFI", &format!("::{BOOT_PROGRAM}")]),
    ]
}

/// Puts everything together.
fn xorriso(plan: &Plan) -> Command {
    let grafts = plan.files.keys().enumerate().map(|(index, path)| format!("{path}=/mnt/{}", bound(index)));
    Command::new("xorriso")
        .args([
            "-as",
            "mkisofs",
            "-quiet",
            "-o",
            "/mnt/work/medium.iso",
            "-V",
            VOLUME,
            "-r",
            "-iso-level",
            "3",
        ])
        .args(bios::xorriso_options())
        .args(["--efi-boot", ESP, "-efi-boot-part", "--efi-boot-image", "--protective-msdos-label"])
        .args(["-graft-points", &format!("/{ESP}=/mnt/work/{ESP}")])
        .args(bios::grafts(&plan.bios))
        .args(grafts)
        // Files keep the times of the build host else; `b` is both the time of contents and of status.
        .args(["--", "-alter_date_r", "b", &format!("={}", plan.epoch), "/", "--"])
        .env("SOURCE_DATE_EPOCH", plan.epoch.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Contents;
    use sheaf_host::chroot::Privilege;
    use sheaf_host::fakes::FakeRun;

    #[test]
    fn a_failing_tool_leaves_neither_a_medium_nor_a_work_folder() {
        let dir = tempfile::tempdir().unwrap();
        let release = crate::release::tests::release(dir.path());
        let plan = crate::plan(&release, &Contents::default()).unwrap();
        let out = dir.path().join("out/sheaf.iso");
        let run = FakeRun::default().fails("setpriv", "no space left on device");
        let error = write(&plan, &Chroot::new("/tools", Privilege::Root), &run, &out).unwrap_err();
        assert!(matches!(error, WriteError::Run(_)), "{error}");
        assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn the_medium_names_the_esp_for_cds_and_for_sticks() {
        let dir = tempfile::tempdir().unwrap();
        let release = crate::release::tests::release(dir.path());
        let plan = crate::plan(&release, &Contents::default()).unwrap();
        let command = xorriso(&plan).to_string();
        assert!(command.contains("--efi-boot efi.img -efi-boot-part --efi-boot-image"), "{command}");
        assert!(command.contains("/sheaf/manifest.json=/mnt/file4"), "{command}");
    }
}
