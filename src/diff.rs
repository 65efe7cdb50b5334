//! `sheaf diff OLD NEW`: what an update from one release to another changes.
//!
//! Route in: two release folders. Route out: terms, packages, units, kernel arguments, files and bytes, as text
//! or JSON.

use crate::contents::{Contents, folder};
use crate::terms;
use anyhow::Result;
use serde::Serialize;
use sheaf_os_image::files::Entry;
use sheaf_os_image::lock::difference::Changes;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How many files are named in text: a new kernel changes all of its modules.
const NAMED: usize = 100;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of the older release, or its recipe
    old: PathBuf,
    /// Folder of the newer release, or its recipe
    new: PathBuf,
    /// Print JSON, with every file
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let [old, new] = [&arguments.old, &arguments.new].map(|given| Contents::read(&folder(given)?));
    let difference = Difference::between(&old?, &new?);
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&difference)?),
        false => print!("{}", difference.render()),
    }
    Ok(())
}

/// One version of a package.
#[derive(Clone, PartialEq, Serialize)]
struct Version {
    version: String,
    bytes: u64,
}

/// What differs.
#[derive(Serialize)]
struct Difference {
    /// `sheaf 0.1.0`, `sheaf 0.2.0`
    releases: [String; 2],
    kernel: [String; 2],
    root_hash: [String; 2],
    /// Bytes of all files of a release.
    bytes: [u64; 2],
    /// Bytes of the root in its slot.
    root_bytes: [u64; 2],
    /// Which nodes may take it, and until when.
    terms: Changes<String>,
    /// Debian's packages, `ROOT NAME`.
    packages: Changes<Version>,
    /// Crates and Go modules by purl.
    components: Changes<()>,
    /// What becomes of units at boot.
    units: Changes<String>,
    arguments: Changes<()>,
    files: Changes<Entry>,
}

impl Difference {
    fn between(old: &Contents, new: &Contents) -> Self {
        let both = [old, new];
        let packages = both.map(|contents| {
            let kept = contents.packages.iter().filter(|package| !package.left_out);
            let version = |package: &sheaf_os_image::contents::Package| {
                let version = Version { version: package.version.clone(), bytes: package.bytes };
                (format!("{} {}", package.root, package.name), version)
            };
            kept.map(version).collect::<BTreeMap<_, _>>()
        });
        let names =
            |list: &[String]| list.iter().map(|name| (name.clone(), ())).collect::<BTreeMap<String, ()>>();
        Self {
            releases: both.map(|of| format!("{} {}", of.manifest.name, of.manifest.version)),
            kernel: both.map(|of| of.manifest.kernel.clone()),
            root_hash: both.map(|of| of.manifest.root_hash.clone()),
            bytes: both.map(|of| of.parts().iter().map(|(_, bytes)| bytes).sum()),
            root_bytes: both.map(|of| of.manifest.root.raw_size),
            terms: Changes::between(&terms::named(&old.manifest.terms), &terms::named(&new.manifest.terms)),
            packages: Changes::between(&packages[0], &packages[1]),
            components: Changes::between(&names(&old.components), &names(&new.components)),
            units: Changes::between(&old.units, &new.units),
            arguments: Changes::between(&names(&old.arguments), &names(&new.arguments)),
            files: Changes::between(&old.files, &new.files),
        }
    }

    fn render(&self) -> String {
        let [old, new] = &self.releases;
        let mut text = format!("{old} -> {new}\n");
        if self.root_hash[0] == self.root_hash[1] {
            text += "the same root\n";
        }
        if self.kernel[0] != self.kernel[1] {
            text += &format!("Linux {} -> {}\n", self.kernel[0], self.kernel[1]);
        }
        for (what, [old, new]) in [("release", self.bytes), ("root in its slot", self.root_bytes)] {
            text += &format!("{what}: {:+} bytes, {new} now\n", i128::from(new) - i128::from(old));
        }
        let state = |state: &String| format!(": {state}");
        let changed = |old: &String, new: &String| format!(": {old} -> {new}");
        text += &section("terms", &self.terms, state, changed, usize::MAX);
        let version = |version: &Version| format!(" {}, {} bytes", version.version, version.bytes);
        let update = |old: &Version, new: &Version| {
            let bytes = i128::from(new.bytes) - i128::from(old.bytes);
            format!(" {} -> {}, {bytes:+} bytes", old.version, new.version)
        };
        text += &section("packages", &self.packages, version, update, usize::MAX);
        text += &section(
            "crates and Go modules",
            &self.components,
            |()| String::new(),
            |(), ()| String::new(),
            usize::MAX,
        );
        text += &section(
            "kernel arguments",
            &self.arguments,
            |()| String::new(),
            |(), ()| String::new(),
            usize::MAX,
        );
        text += &section("units", &self.units, state, changed, usize::MAX);
        let size = |entry: &Entry| format!(" {} bytes", entry.bytes);
        text + &section("files", &self.files, size, changed_file, NAMED)
    }
}

fn changed_file(old: &Entry, new: &Entry) -> String {
    let mut parts = Vec::new();
    if old.kind != new.kind {
        parts.push(format!("kind {} -> {}", old.kind, new.kind));
    }
    if old.mode != new.mode {
        parts.push(format!("mode {} -> {}", old.mode, new.mode));
    }
    if old.target != new.target {
        let target = |entry: &Entry| entry.target.clone().unwrap_or_else(|| "nothing".into());
        parts.push(format!("leads to {} -> {}", target(old), target(new)));
    }
    if old.sha256 != new.sha256 {
        parts.push(format!("{:+} bytes", i128::from(new.bytes) - i128::from(old.bytes)));
    }
    format!(" {}", parts.join(", "))
}

/// One kind of change: what it counts, then a line each.
fn section<V>(
    what: &str,
    changes: &Changes<V>,
    one: impl Fn(&V) -> String,
    both: impl Fn(&V, &V) -> String,
    named: usize,
) -> String {
    let Changes { added, removed, changed } = changes;
    if added.is_empty() && removed.is_empty() && changed.is_empty() {
        return String::new();
    }
    let added_lines = added.iter().map(|(name, value)| format!("  + {name}{}\n", one(value)));
    let removed_lines = removed.iter().map(|(name, value)| format!("  - {name}{}\n", one(value)));
    let changed_lines = changed.iter().map(|(name, (old, new))| format!("  ~ {name}{}\n", both(old, new)));
    let lines: Vec<_> = added_lines.chain(removed_lines).chain(changed_lines).collect();
    let counts = format!("{} added, {} removed, {} changed", added.len(), removed.len(), changed.len());
    let more = match lines.len().saturating_sub(named) {
        0 => String::new(),
        more => format!("  and {more} more; --json has all\n"),
    };
    format!("\n{what}: {counts}\n{}{more}", lines.into_iter().take(named).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_os_image::contents::Package;
    use sheaf_os_image::files;

    fn contents(version: &str, list: &str, arguments: &[&str]) -> Contents {
        let file = serde_json::json!({"file": "", "size": 0, "sha256": ""});
        let image = serde_json::json!({"file": "", "size": 7, "raw_size": 9, "raw_sha256": "", "frames": []});
        let section = serde_json::json!({"offset": 0, "size": 0});
        let uki = serde_json::json!({
            "file": "", "size": 0, "sha256": "", "linux": section, "initrd": section, "command_line": ""
        });
        let manifest = serde_json::json!({
            "format": 1, "name": "sheaf", "version": version, "kernel": "6.12.57", "arch": "amd64", "created": 0,
            "root": image, "verity": image, "root_hash": version, "root_uuid": "", "verity_uuid": "",
            "node_uki": uki, "boot_loader": file, "bios": {"boot": file, "core": file, "menu": file},
            "installer_uki": uki
        });
        let package = Package {
            root: "node".into(),
            name: "qemu".into(),
            version: version.into(),
            architecture: "amd64".into(),
            source: "qemu".into(),
            bytes: 10,
            asked: "node.list:1".into(),
            needed_by: None,
            left_out: false,
        };
        let files = files::parse(list).unwrap();
        Contents {
            manifest: serde_json::from_value(manifest).unwrap(),
            key: String::new(),
            packages: vec![package.clone(), Package { name: "perl".into(), left_out: true, ..package }],
            components: vec![format!("pkg:cargo/serde@{version}")],
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            units: files::units(&files),
            files,
        }
    }

    const UNIT: &str = "aa\tf\t644\t10\t/usr/lib/systemd/system/ssh.socket\t\n";
    const MASK: &str = "-\tl\t777\t0\t/etc/systemd/system/ssh.socket\t/dev/null\n";
    const SHELL: &str = "aa\tf\t755\t10\t/usr/bin/sh\t\n";

    #[test]
    fn a_difference_has_packages_units_arguments_files_and_bytes() {
        let old = contents("0.1.0", &format!("{UNIT}{MASK}{SHELL}"), &["quiet"]);
        let new = contents(
            "0.2.0",
            &(UNIT.to_owned() + &SHELL.replace("755\t10", "700\t12").replace("aa", "bb")),
            &["debug"],
        );
        assert_eq!(
            Difference::between(&old, &new).render(),
            "sheaf 0.1.0 -> sheaf 0.2.0\nrelease: +0 bytes, 14 now\nroot in its slot: +0 bytes, 9 now\n\
             \npackages: 0 added, 0 removed, 1 changed\n  ~ node qemu 0.1.0 -> 0.2.0, +0 bytes\n\
             \ncrates and Go modules: 1 added, 1 removed, 0 changed\n  + pkg:cargo/serde@0.2.0\n  - pkg:cargo/serde@0.1.0\n\
             \nkernel arguments: 1 added, 1 removed, 0 changed\n  + debug\n  - quiet\n\
             \nunits: 0 added, 0 removed, 1 changed\n  ~ ssh.socket: masked -> not started by itself\n\
             \nfiles: 0 added, 1 removed, 1 changed\n  - /etc/systemd/system/ssh.socket 0 bytes\n  \
             ~ /usr/bin/sh mode 755 -> 700, +2 bytes\n"
        );
        let json = serde_json::to_value(Difference::between(&old, &new)).unwrap();
        assert_eq!(json["terms"]["changed"], serde_json::json!({}));
        let same = Difference::between(&old, &old).render();
        assert!(
            same.starts_with("sheaf 0.1.0 -> sheaf 0.1.0\nthe same root\n") && !same.contains("files"),
            "{same}"
        );
    }

    #[test]
    fn a_difference_has_the_terms_that_changed_also_those_that_were_not_set() {
        let old = contents("0.1.0", "", &[]);
        let mut new = contents("0.1.0", "", &[]);
        new.manifest.terms.expires = Some(1_600_000_000);
        new.manifest.terms.min_from = Some("0.0.9".into());
        let difference = Difference::between(&old, &new);
        assert_eq!(
            difference.render(),
            "sheaf 0.1.0 -> sheaf 0.1.0\nthe same root\nrelease: +0 bytes, 14 now\nroot in its slot: +0 bytes, 9 now\n\
             \nterms: 0 added, 0 removed, 2 changed\n  ~ expires: never -> 2020-09-13T12:26:40Z\n  \
             ~ min_from: any version -> 0.0.9\n"
        );
        let json = serde_json::to_value(&difference).unwrap();
        assert_eq!(json["terms"]["changed"]["expires"], serde_json::json!(["never", "2020-09-13T12:26:40Z"]));
    }
}
