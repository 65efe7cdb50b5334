//! `sheaf hardware RELEASE`: which drivers and which firmware a release has.
//!
//! Why generated: a list that is kept by hand is wrong after the next kernel. Route in: `modules.txt`, `packages.txt`
//! and the manifest of a release folder. Route out: Markdown, on standard output or between two marks of a page.

use anyhow::{Context as _, Result, bail};
use sheaf_config::manifest::{FILE, Manifest};
use sheaf_host::file::write_atomically;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Release folder
    release: PathBuf,
    /// Write the list into this page, between its marks
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// What stands before and after the list in a page.
const MARKS: [&str; 2] = [
    "<!-- hardware: made of a release; `sheaf hardware RELEASE --write docs/hardware.md` writes it -->",
    "<!-- hardware: end -->",
];

/// Kinds of hardware by the folder of the kernel's tree that holds their drivers.
const CLASSES: [(&str, &str); 10] = [
    ("drivers/nvme/host", "Storage: NVMe"),
    ("drivers/ata", "Storage: SATA and PATA"),
    ("drivers/scsi", "Storage: SCSI, SAS, RAID and Fibre Channel"),
    ("drivers/message", "Storage: SCSI, SAS, RAID and Fibre Channel"),
    ("drivers/block", "Storage: other block devices"),
    ("drivers/mmc", "Storage: SD and eMMC"),
    ("drivers/usb/storage", "Storage: USB"),
    ("drivers/net/ethernet", "Ethernet"),
    ("drivers/net/usb", "Ethernet: USB"),
    ("drivers/net", "Network: virtual machines, bonds, tunnels, PHYs"),
];

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let read = |name: &str| {
        let path = arguments.release.join(name);
        std::fs::read_to_string(&path)
            .with_context(|| format!("{}: cannot be read; give a release folder", path.display()))
    };
    let manifest: Manifest = serde_json::from_str(&read(FILE)?)
        .with_context(|| format!("{}: is not a manifest", arguments.release.join(FILE).display()))?;
    let list = render(&manifest, &read("modules.txt")?, &read("packages.txt")?);
    match &arguments.write {
        None => print!("{list}"),
        Some(page) => {
            let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
            write_atomically(page, between_marks(&text, &list, page)?.as_bytes(), 0o644)?;
        }
    }
    Ok(())
}

/// `page` with `list` between its marks.
fn between_marks(page: &str, list: &str, path: &Path) -> Result<String> {
    let [begin, end] = MARKS;
    match (page.split_once(begin), page.split_once(end)) {
        (Some((before, _)), Some((_, after))) => Ok(format!("{before}{begin}\n{list}{end}{after}")),
        _ => bail!("{}: lacks the lines\n{begin}\n{end}", path.display()),
    }
}

/// The list: drivers by class and by maker where the kernel sorts them so, then firmware.
fn render(manifest: &Manifest, modules: &str, packages: &str) -> String {
    let mut classes: BTreeMap<&str, BTreeMap<String, BTreeSet<&str>>> = BTreeMap::new();
    for module in modules.lines() {
        let Some((folder, class)) = CLASSES.iter().find(|(folder, _)| below(module, folder)) else {
            continue;
        };
        let inside = module[folder.len()..].trim_matches('/');
        let maker = match (*folder, inside.split_once('/')) {
            ("drivers/net/ethernet", Some((maker, _))) => maker.to_owned(),
            _ => String::new(),
        };
        classes.entry(class).or_default().entry(maker).or_default().insert(name(module));
    }
    let mut text = format!(
        "Release {} {}, Linux {}: {} kernel modules.\n",
        manifest.name,
        manifest.version,
        manifest.kernel,
        modules.lines().count()
    );
    for (class, makers) in classes {
        let count: usize = makers.values().map(BTreeSet::len).sum();
        text += &format!("\n### {class}: {count} modules\n");
        for (maker, modules) in makers {
            let maker = if maker.is_empty() { String::new() } else { format!("- {maker}: ") };
            let names: Vec<_> = modules.into_iter().map(|name| format!("`{name}`")).collect();
            text += &format!("{maker}{}\n", names.join(" "));
        }
    }
    let is_firmware = |package: &&str| package.starts_with("firmware-") || package.ends_with("-microcode");
    let firmware: Vec<_> = packages
        .lines()
        .filter(is_firmware)
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            Some(format!("- `{}` {}\n", words.next()?, words.next()?))
        })
        .collect();
    text += &format!("\n### Firmware: {} packages\n", firmware.len());
    match firmware.is_empty() {
        true => text + "None: this release is for virtual machines, and for hardware that needs none.\n",
        false => text + &firmware.concat(),
    }
}

/// Whether `module` is in `folder` or below it.
fn below(module: &str, folder: &str) -> bool {
    module.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// `drivers/net/ethernet/intel/igb/igb.ko.xz` → `igb`
fn name(module: &str) -> &str {
    let file = module.rsplit('/').next().unwrap_or_default();
    file.split(".ko").next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = serde_json::json!({"file": "", "size": 0, "sha256": ""});
        let image = serde_json::json!({"file": "", "size": 0, "raw_size": 0, "raw_sha256": "", "frames": []});
        let section = serde_json::json!({"offset": 0, "size": 0});
        let uki = serde_json::json!({
            "file": "", "size": 0, "sha256": "", "linux": section, "initrd": section, "command_line": ""
        });
        serde_json::from_value(serde_json::json!({
            "format": 1, "name": "sheaf-metal", "version": "0.1.0", "kernel": "6.12.57+deb13-amd64",
            "arch": "amd64", "created": 0, "root": image, "verity": image, "root_hash": "", "root_uuid": "",
            "verity_uuid": "", "node_uki": uki, "boot_loader": file,
            "bios": {"boot": file, "core": file, "menu": file}, "installer_uki": uki
        }))
        .unwrap()
    }

    #[test]
    fn drivers_are_listed_by_class_and_maker_with_their_number() {
        let modules = "drivers/net/bonding/bonding.ko.xz\ndrivers/net/ethernet/intel/igb/igb.ko.xz\n\
                       drivers/net/ethernet/intel/e1000.ko\ndrivers/net/ethernet/broadcom/tg3.ko.xz\n\
                       drivers/nvme/host/nvme.ko.xz\ndrivers/network/other.ko\nfs/xfs/xfs.ko.xz\n";
        let packages =
            "amd64-microcode 3.2 amd64-microcode\nbash 5 bash\nfirmware-bnx2 1.0 firmware-nonfree\n";
        assert_eq!(
            render(&manifest(), modules, packages),
            "Release sheaf-metal 0.1.0, Linux 6.12.57+deb13-amd64: 7 kernel modules.\n\
             \n### Ethernet: 3 modules\n- broadcom: `tg3`\n- intel: `e1000` `igb`\n\
             \n### Network: virtual machines, bonds, tunnels, PHYs: 1 modules\n`bonding`\n\
             \n### Storage: NVMe: 1 modules\n`nvme`\n\
             \n### Firmware: 2 packages\n- `amd64-microcode` 3.2\n- `firmware-bnx2` 1.0\n"
        );
    }

    #[test]
    fn a_release_without_firmware_says_what_it_is_for() {
        assert!(render(&manifest(), "", "bash 5 bash\n").ends_with("and for hardware that needs none.\n"));
    }

    #[test]
    fn only_what_stands_between_the_marks_of_a_page_is_replaced() {
        let [begin, end] = MARKS;
        let page = format!("# Hardware\n{begin}\nold\n{end}\nafter\n");
        let written = between_marks(&page, "new\n", Path::new("p")).unwrap();
        assert_eq!(written, format!("# Hardware\n{begin}\nnew\n{end}\nafter\n"));
        assert_eq!(between_marks(&written, "new\n", Path::new("p")).unwrap(), written);
        assert!(between_marks("# Hardware\n", "new\n", Path::new("p")).is_err());
    }
}
