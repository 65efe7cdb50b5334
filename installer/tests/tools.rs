//! A whole installation on a sparse file with the real mkfs and mtools, read by programs that are not ours.
//! The programs come from the tools chroot: the folder in SHEAF_TOOLS, else the one `sheaf tools` made.

mod common;

use common::{ID, InTools, Release, SIZE, config, machine, sha256};
use sheaf_config::node::NodeConfig;
use sheaf_host::disk::RawDisk;
use sheaf_host::fakes::{FakeMount, FakeVariables};
use sheaf_host::run::{Command, Run};
use sheaf_installer::execute::{self, Env};
use sheaf_installer::plan::{InstallPlan, ReleaseContents, Role, plan};
use sheaf_installer::progress::Progress;
use std::fs;
use std::path::PathBuf;

const NODE_TOML: &str = "version = 1\nsystem.hostname = \"node-1\"\n";

/// A release installed on a file, and the programs to look at it.
struct Installed {
    release: Release,
    plan: InstallPlan,
    image: PathBuf,
    tools: InTools,
}

fn installed(sector_size: u64) -> Installed {
    installed_on(SIZE, sector_size)
}

fn installed_on(size: u64, sector_size: u64) -> Installed {
    let release = Release::new();
    let guest = sha256(&fs::read(release.folder().join("images/guest.raw")).unwrap());
    let rest = format!("[[image]]\nname = \"guest\"\nurl = \"medium:guest.raw\"\nsha256 = \"{guest}\"\n");
    installed_with(release, config(&rest), size, sector_size)
}

fn installed_with(release: Release, config: NodeConfig, size: u64, sector_size: u64) -> Installed {
    let image = release.dir.path().join("disk.raw");
    fs::File::create(&image).unwrap().set_len(size).unwrap();
    let mut machine = machine();
    (machine.disks[0].size, machine.disks[0].sector_size) = (size, sector_size);
    let contents = ReleaseContents { manifest: &release.manifest, images: &release.images };
    let plan = plan(&config, &machine, contents, ID).unwrap();
    let tools = InTools::new(release.dir.path());
    let disk = RawDisk::open(&image).unwrap();
    let env = Env {
        run: &tools,
        mount: &FakeMount::default(),
        firmware: &FakeVariables::default(),
        disk: &disk,
        data_disks: &[],
        medium: &release.folder(),
        remote: None,
        scratch: &release.scratch(),
        node_toml: NODE_TOML,
        progress: &Progress::new(Vec::new()),
    };
    if let Err(failure) = execute::install(&plan, &env) {
        panic!("{failure}: {}", failure.source);
    }
    Installed { release, plan, image, tools }
}

impl Installed {
    fn tool(&self, program: &str, args: &[&str]) -> String {
        self.tools.run(&Command::new(program).args(args)).unwrap_or_else(|error| panic!("{error}")).text()
    }

    fn image(&self) -> String {
        self.image.display().to_string()
    }

    fn at(&self, role: Role) -> u64 {
        self.plan.layout.partition(role).offset
    }

    fn debugfs(&self, role: Role, request: &str) -> String {
        self.tool("debugfs", &["-R", request, &format!("{}?offset={}", self.image(), self.at(role))])
    }
}

#[test]
fn other_programs_find_the_table_as_planned() {
    let installed = installed(512);
    let listing = installed.tool("sfdisk", &["--json", &installed.image()]);
    let listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
    let table = &listing["partitiontable"];
    assert_eq!(table["label"], "gpt");
    assert_eq!(table["id"], "6B1F7A3E-93C2-4D55-8F10-012345678900");
    let partitions = table["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 11);
    for (found, planned) in partitions.iter().zip(&installed.plan.layout.partitions) {
        assert_eq!(found["name"], planned.name.as_str());
        assert_eq!(found["start"].as_u64().unwrap() * 512, planned.offset, "{}", planned.name);
        assert_eq!(found["size"].as_u64().unwrap() * 512, planned.size, "{}", planned.name);
        assert_eq!(found["uuid"], planned.uuid.to_string().to_uppercase(), "{}", planned.name);
        assert_eq!(found["type"], planned.kind.to_string().to_uppercase(), "{}", planned.name);
        let attributes = if planned.attributes == 0 { serde_json::Value::Null } else { "GUID:63".into() };
        assert_eq!(found["attrs"], attributes, "{}", planned.name);
    }
    let verified = installed.tool("sfdisk", &["--verify", &installed.image()]);
    assert!(verified.contains("No errors detected."), "{verified}");
}

#[test]
fn other_programs_find_the_files_as_planned() {
    let installed = installed(512);
    let manifest = &installed.release.manifest;
    let esp = format!("{}@@{}", installed.image(), installed.at(Role::Esp));
    let listing = installed.tool("mdir", &["-/", "-b", "-i", &esp, "::"]);
    let mut files: Vec<_> = listing.lines().filter(|line| !line.ends_with('/')).collect();
    files.sort_unstable();
    assert_eq!(
        files,
        [
            "::/EFI/BOOT/BOOTX64.EFI",
            "::/EFI/Linux/sheaf_0.1.0.efi",
            "::/EFI/sheaf/recovery.efi",
            "::/EFI/systemd/systemd-bootx64.efi",
            "::/grub/a.cfg",
            "::/grub/grub.cfg",
            "::/grub/grubenv",
            "::/grub/recovery.cfg",
            "::/loader/entries/sheaf-recovery.conf",
            "::/loader/loader.conf"
        ]
    );
    let node = installed.debugfs(Role::State, "stat /node.toml");
    assert!(node.contains("Mode:  0600") && node.contains("User:     0"), "{node}");
    assert_eq!(installed.debugfs(Role::State, "cat /node.toml"), NODE_TOML.trim_end());
    assert!(installed.debugfs(Role::State, "stat /var").contains("Type: directory"));
    for folder in ["disks", "vms"] {
        assert!(installed.debugfs(Role::Data, &format!("stat /{folder}")).contains("Type: directory"));
    }
    let back = installed.release.dir.path().join("guest.back");
    installed.debugfs(Role::Data, &format!("dump /images/guest {}", back.display()));
    let original = installed.release.folder().join("images/guest.raw");
    assert_eq!(sha256(&fs::read(back).unwrap()), sha256(&fs::read(original).unwrap()));
    for role in [Role::State, Role::Data] {
        let place = format!("{}?offset={}", installed.image(), installed.at(role));
        installed.tool("e2fsck", &["-f", "-n", &place]);
    }
    let raw = fs::read(installed.release.folder().join(&manifest.node_uki.file)).unwrap();
    assert_eq!(sha256(&raw), manifest.node_uki.sha256);
}

#[test]
fn a_disk_with_sectors_of_4096_bytes_is_installed_alike() {
    let installed = installed(4096);
    let listing = installed.tool("sfdisk", &["--json", "--sector-size", "4096", &installed.image()]);
    let listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
    assert_eq!(listing["partitiontable"]["partitions"].as_array().unwrap().len(), 11);
    assert_eq!(listing["partitiontable"]["sectorsize"], 4096);
    let esp = format!("{}@@{}", installed.image(), installed.at(Role::Esp));
    let listing = installed.tool("mdir", &["-/", "-b", "-i", &esp, "::"]);
    assert!(listing.contains("::/EFI/BOOT/BOOTX64.EFI"), "{listing}");
}

/// Firmware tells FAT16 from FAT32 by the number of clusters alone, whatever the boot sector says.
#[test]
fn the_esp_is_fat32_by_its_number_of_clusters_on_disks_of_every_size() {
    for (size, sector_size) in [(SIZE, 512), (64 << 30, 512), (4 << 40, 512), (64 << 30, 4096)] {
        let installed = installed_on(size, sector_size);
        let mut boot = [0; 90];
        let image = fs::File::open(&installed.image).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&image, &mut boot, installed.at(Role::Esp)).unwrap();
        let number = |at: usize, length: usize| {
            boot[at..at + length].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let (reserved, fats, fat_sectors) = (number(14, 2), number(16, 1), number(36, 4));
        let clusters = (number(32, 4) - reserved - fats * fat_sectors) / number(13, 1);
        assert_eq!(number(11, 2), sector_size);
        assert!(clusters >= 65_525, "{clusters} clusters on a disk of {size} bytes");
        assert!(number(32, 4) * sector_size <= 2 << 30, "it ends within its partition");
    }
}

/// ukify reads what our own few lines wrote: the file is a PE that other programs take for an addon.
#[test]
fn an_addon_with_kernel_arguments_is_read_by_ukify() {
    let release = Release::new();
    let mut config = config("");
    config.system.kernel_arguments = vec!["intel_iommu=on".into(), "hugepages=64".into()];
    let installed = installed_with(release, config, SIZE, 512);
    let esp = format!("{}@@{}", installed.image(), installed.at(Role::Esp));
    let addon = installed.release.dir.path().join("arguments.addon.efi");
    let addon = addon.display().to_string();
    installed.tool("mcopy", &["-i", &esp, "::/loader/addons/arguments.addon.efi", &addon]);
    let said = installed.tool("ukify", &["inspect", &addon, "--all"]);
    assert!(said.contains(".cmdline") && said.contains("intel_iommu=on hugepages=64"), "{said}");
}
