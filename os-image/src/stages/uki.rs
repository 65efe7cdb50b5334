//! Stages `node-uki` and `installer-uki`: kernel, initrds and command line in one UEFI program.
//!
//! Route in: `os-image/image/cmdline/`, earlier stages. Route out: `node.efi` or `installer.efi`.

use super::Ground;
use super::initrd::{self, Purpose};
use super::packages::{KERNEL, kernel_version};
use crate::error::BuildError;
use crate::inputs::Inputs;
use crate::lists;
use crate::stage::{Made, Spec};
use sheaf_host::run::Command;
use std::fs;

/// systemd's UEFI stub, in the tools chroot.
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// Longest kernel command line on x86, in bytes, less its final zero: COMMAND_LINE_SIZE.
const LONGEST_COMMAND_LINE: usize = 2047;

/// What a UKI is made of.
pub struct Uki<'a> {
    /// Where, with what and what for.
    pub ground: Ground<'a>,
    /// Brings the kernel.
    pub packages: &'a Made,
    /// Initrd archives; a later one lies over the earlier.
    pub initrds: &'a [Made],
}

impl Uki<'_> {
    /// Makes the UKI for `purpose`; `arguments` follow those of its data file.
    pub fn build(&self, purpose: Purpose, arguments: &[String]) -> Result<Made, BuildError> {
        let name = match purpose {
            Purpose::Node => "node-uki",
            Purpose::Installer => "installer-uki",
        };
        let mut line = lists::read(&self.ground.source.image("cmdline").join(purpose.name()))?;
        line.extend(arguments.iter().cloned());
        let line = line.join(" ");
        if line.len() > LONGEST_COMMAND_LINE {
            let what = format!("the {} command line has {} bytes", purpose.name(), line.len());
            let remedy = format!(
                "shorten it to {LONGEST_COMMAND_LINE}: [boot] arguments of the recipe, image/cmdline"
            );
            return Err(BuildError::wrong(what, remedy));
        }
        let release = &self.ground.recipe.release;
        let os_release = os_release(&release.name, &release.version, purpose);
        let kernel = kernel_version(self.packages)?;
        let epoch = release.epoch.to_string();
        let mut inputs = Inputs::new(name, 1)
            .digest("tools", &self.ground.tools.digest)
            .digest("packages", &self.packages.digest)
            .text("command line", &line)
            .text("os-release", &os_release)
            .text("epoch", &epoch);
        for initrd in self.initrds {
            inputs = inputs.digest("initrd", &initrd.digest);
        }
        let file = format!("{}.efi", purpose.name());
        self.ground.context.stage(Spec { name, inputs, output_digest_files: &[] }, |stage| {
            let os_release_file = stage.scratch.join("os-release");
            fs::write(&os_release_file, &os_release).map_err(BuildError::io(&os_release_file))?;
            let mut chroot = self
                .ground
                .tools
                .chroot()
                .read(&self.packages.dir, "packages")
                .read(stage.scratch, "scratch")
                .write(stage.out, "out");
            let mut ukify = Command::new("ukify")
                .args(["build", &format!("--linux=/mnt/packages/{KERNEL}"), &format!("--uname={kernel}")])
                .args([
                    &format!("--cmdline={line}"),
                    "--os-release=@/mnt/scratch/os-release",
                    &format!("--stub={STUB}"),
                ])
                .args([&format!("--output=/mnt/out/{file}")])
                .env("SOURCE_DATE_EPOCH", &epoch);
            for (index, made) in self.initrds.iter().enumerate() {
                let bind = format!("initrd-{index}");
                ukify = ukify.arg(format!("--initrd=/mnt/{bind}"));
                chroot = chroot.read(made.file(initrd::FILE), &bind);
            }
            stage.run(&chroot.enter(&ukify))?;
            // ukify marks it executable; a release's files are not programs of the build host.
            stage.run(&Command::new("chmod").arg("0644").arg(stage.out.join(&file)))?;
            Ok(())
        })
    }
}

/// How systemd-boot names the entry, and by what it sorts versions: to it a suffix is older than none after a tilde.
fn os_release(name: &str, version: &str, purpose: Purpose) -> String {
    let title = match purpose {
        Purpose::Node => "Sheaf",
        Purpose::Installer => "Sheaf installer",
    };
    let sorted = version.replacen('-', "~", 1);
    format!(
        "ID={name}\nIMAGE_ID={name}\nIMAGE_VERSION={sorted}\nVERSION_ID={version}\nPRETTY_NAME=\"{title} {version}\"\n"
    )
}
