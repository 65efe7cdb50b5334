//! An image build beside mkosi's of the same packages.
//!
//! Why here: mkosi is what others build such images with. Both fetch the packages, make an erofs root with dm-verity and a
//! UKI; Sheaf also makes installer, GRUB and the compressed payload. Compiled programs, `kube` and the tools are there on
//! Sheaf's side, mkosi and its tools on the other. Route in: the release's list of packages, Debian's mirror
//! (`SHEAF_MIRROR`). Route out: seconds.

use crate::Report;
use anyhow::{Context as _, Result, ensure};
use sheaf_host::chroot::{Chroot, Privilege};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_machine::packages;
use sheaf_tests::harness::{Built, Case};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Packages fetched and unpacked, an image compressed: some minutes on two cores.
const BUILD_TIMEOUT: Duration = Duration::from_secs(1800);

/// Makes the tree that mkosi runs in.
const MAKE: &str = r#"set -eu
cd /mnt/work
rm -rf tree
mmdebstrap --mode=root --variant=apt --format=directory --include="$PACKAGES" trixie tree "deb $MIRROR trixie main"
touch complete"#;

/// mkosi, and what it calls for such an image.
const TOOLS: &str = "mkosi,systemd-repart,systemd-ukify,systemd-boot-efi,erofs-utils,mtools,dosfstools,cpio,zstd,kmod,\
    debian-archive-keyring,ca-certificates,cryptsetup-bin";

/// Stages of Sheaf's cache that are no part of building an image.
const KEPT: [&str; 3] = ["kube", "programs", "tools"];

/// Root with verity, and the partition of the UKI: what systemd-repart makes.
const PARTITIONS: [(&str, &str); 3] = [
    (
        "00-esp.conf",
        "[Partition]\nType=esp\nFormat=vfat\nCopyFiles=/boot:/\nCopyFiles=/efi:/\nSizeMinBytes=256M\n",
    ),
    (
        "10-root.conf",
        "[Partition]\nType=root\nFormat=erofs\nCopyFiles=/\nVerity=data\nVerityMatchKey=root\nMinimize=best\n",
    ),
    ("20-verity.conf", "[Partition]\nType=root-verity\nVerity=hash\nVerityMatchKey=root\nMinimize=best\n"),
];

impl Report {
    /// The section of this file.
    pub fn mkosi(&mut self, case: &Case) -> Result<()> {
        let built = case.built()?;
        self.head(
            "Building an image, beside mkosi",
            "sheaf build configs/images/sheaf.toml (cache with kube, programs and tools alone); mkosi --force build (Format=disk, \
             erofs and verity by systemd-repart, the packages of packages.txt)",
            "who | seconds",
        );
        let sheaf = sheaf(case, &built)?;
        self.row(&["sheaf", &format!("{sheaf:.0}")]);
        let mkosi = mkosi(case, &built)?;
        self.row(&["mkosi", &format!("{mkosi:.0}")]);
        self.row(&["sheaf ÷ mkosi", &format!("{:.2}", sheaf / mkosi)]);
        Ok(())
    }
}

fn sheaf(case: &Case, built: &Built) -> Result<f64> {
    let output = System.run(&Command::new(&built.sheaf).arg("tools").dir(case.root()))?.text();
    // …/tools/KEY/root
    let shared =
        Path::new(output.trim()).ancestors().nth(3).context("`sheaf tools` names no cache")?.to_owned();
    let cache = case.work().join("cache");
    std::fs::create_dir(&cache)?;
    for stage in KEPT {
        std::os::unix::fs::symlink(shared.join(stage), cache.join(stage))?;
    }
    let recipe = case.root().join("configs/images/sheaf.toml");
    let build =
        Command::new(&built.sheaf).arg("build").arg(recipe).dir(case.root()).env("SHEAF_CACHE", &cache);
    let seconds = timed(&build)?;
    // The release that other sections measure is the shared cache's again.
    let again = Command::new(&built.sheaf).args(["build", "configs/images/sheaf.toml"]).dir(case.root());
    System.run(&again.deadline(BUILD_TIMEOUT))?;
    Ok(seconds)
}

fn mkosi(case: &Case, built: &Built) -> Result<f64> {
    let mirror = packages::mirror();
    let tools = case.made().join("bench/mkosi");
    if !tools.join("complete").exists() {
        std::fs::create_dir_all(&tools).with_context(|| tools.display().to_string())?;
        packages::inside(&case.tools, &tools, &format!("MIRROR={mirror}\n{MAKE}"), TOOLS)?;
    }
    let work = case.work().join("mkosi");
    configure(&work, &built.release.join("packages.txt"), &mirror)?;
    let chroot = Chroot::new(tools.join("tree"), Privilege::current()).network().write(&work, "work");
    let build = Command::new("mkosi").args(["--force", "build"]).dir("/mnt/work");
    let seconds = timed(&chroot.enter(&build).log(case.artefacts().join("mkosi.log")))?;
    let image = work.join("out/image.raw");
    ensure!(image.exists(), "mkosi left no {}", image.display());
    Ok(seconds)
}

/// Writes mkosi's configuration for the packages of `list` (`NAME VERSION SOURCE` a line).
fn configure(work: &Path, list: &Path, mirror: &str) -> Result<()> {
    let list = std::fs::read_to_string(list).with_context(|| list.display().to_string())?;
    let names = list.lines().filter_map(|line| line.split(' ').next());
    // `linux-image-amd64` brings today's; the name of the one that was there may be gone from the mirror.
    let names = names.filter(|name| !name.starts_with("linux-image-") || *name == "linux-image-amd64");
    let names: String = names.map(|name| format!("    {name}\n")).collect();
    let write = |path: &str, text: &str| -> Result<()> {
        let path: PathBuf = work.join(path);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    };
    std::fs::create_dir_all(work.join("out"))?;
    write(
        "mkosi.conf",
        &format!(
            "[Distribution]\nDistribution=debian\nRelease=trixie\n\n[Output]\nFormat=disk\nOutputDirectory=/mnt/work/out\n\n\
             [Content]\nBootable=yes\nBootloader=systemd-boot\nWithDocs=no\nPackages=\n    systemd-boot-efi\n{names}"
        ),
    )?;
    for (name, text) in PARTITIONS {
        write(&format!("mkosi.repart/{name}"), text)?;
    }
    // mkosi's own list also has repositories that mirrors need not carry.
    write(
        "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources",
        &format!(
            "Types: deb\nURIs: {mirror}\nSuites: trixie\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        ),
    )
}

fn timed(command: &Command) -> Result<f64> {
    let start = Instant::now();
    System.run(&command.clone().deadline(BUILD_TIMEOUT))?;
    Ok(start.elapsed().as_secs_f64())
}
