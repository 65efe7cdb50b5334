//! Stage `microcode`: what processors are fixed with, as the first archive of an initrd.
//!
//! Why first and not compressed: the kernel reads it before it can unpack anything
//! (Documentation/arch/x86/microcode.rst). Route in: the node's packages, when the recipe wants firmware.
//! Route out: `initrd`.

use super::initrd::FILE;
use super::packages::TREE;
use crate::error::BuildError;
use crate::inputs::Inputs;
use crate::stage::{BuildContext, Made, Spec};
use crate::tools::Tools;
use sheaf_config::recipe::Recipe;
use sheaf_host::run::Command;

/// All of a vendor's files in one, in the order of their names; padded so that what follows is aligned.
const PACK: &str = r#"set -eu
mkdir -p /tmp/tree /tmp/early/kernel/x86/microcode
tar -C /tmp/tree -xf "/mnt/packages/$TREE" --wildcards './usr/lib/firmware/intel-ucode/*' './usr/lib/firmware/amd-ucode/*'
cd /tmp/tree/usr/lib/firmware
LC_ALL=C; export LC_ALL
cat intel-ucode/??-??-?? > /tmp/early/kernel/x86/microcode/GenuineIntel.bin
cat amd-ucode/microcode_amd*.bin > /tmp/early/kernel/x86/microcode/AuthenticAMD.bin
cd /tmp/early
find . -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
find . -mindepth 1 | sort | cpio --quiet --create --format=newc --reproducible --owner=0:0 > "/mnt/out/$FILE"
truncate --size=%512 "/mnt/out/$FILE""#;

/// Makes the archive.
pub fn build(
    context: &BuildContext<'_>,
    tools: &Tools,
    recipe: &Recipe,
    packages: &Made,
) -> Result<Made, BuildError> {
    let epoch = recipe.release.epoch.to_string();
    let inputs = Inputs::new("microcode", 1)
        .digest("tools", &tools.digest)
        .digest("packages", &packages.digest)
        .text("epoch", &epoch);
    context.stage(Spec { name: "microcode", inputs, output_digest_files: &[FILE] }, |stage| {
        let pack = Command::new("sh")
            .args(["-c", PACK])
            .env("SOURCE_DATE_EPOCH", &epoch)
            .env("TREE", TREE)
            .env("FILE", FILE);
        stage.run(&tools.chroot().read(&packages.dir, "packages").write(stage.out, "out").enter(&pack))?;
        Ok(())
    })
}
