//! `sheaf inspect RELEASE`: what is in a release, which line brought it, and how many bytes it takes.
//!
//! Route in: a release folder. Route out: its terms and contents as text, or JSON for programs.

use crate::contents::{Contents, folder};
use crate::terms;
use anyhow::Result;
use sheaf_os_image::contents::Package;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Release folder, or the recipe it was built from
    release: PathBuf,
    /// Print JSON, with every file
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let contents = Contents::read(&folder(&arguments.release)?)?;
    match arguments.json {
        true => println!("{}", serde_json::to_string_pretty(&contents)?),
        false => print!("{}", render(&contents)),
    }
    Ok(())
}

fn render(contents: &Contents) -> String {
    let manifest = &contents.manifest;
    let mut text = format!(
        "{} {}, Linux {}, {}\nsigned by {}\nroot hash {}\nkernel arguments: {}\n",
        manifest.name,
        manifest.version,
        manifest.kernel,
        manifest.arch,
        contents.key,
        manifest.root_hash,
        contents.arguments.join(" ")
    );
    text += &terms::render(&manifest.terms);
    let parts = contents.parts();
    text +=
        &format!("\n{} files, {} bytes\n", parts.len(), parts.iter().map(|(_, bytes)| bytes).sum::<u64>());
    text += &parts.iter().map(|(name, bytes)| format!("  {bytes:>11} {name}\n")).collect::<String>();
    for root in ["node", "initrd", "boot"] {
        text += &packages(root, &contents.packages);
    }
    let count = |kind: &str| contents.components.iter().filter(|purl| purl.starts_with(kind)).count();
    text += &format!("\n{} crates, {} Go modules\n", count("pkg:cargo/"), count("pkg:golang/"));
    let started: Vec<_> = contents.units.iter().filter(|(_, state)| state.starts_with("started")).collect();
    let masked = contents.units.values().filter(|state| *state == "masked").count();
    text +=
        &format!("\n{} units, {} of them started, {masked} masked\n", contents.units.len(), started.len());
    text += &started.into_iter().map(|(name, state)| format!("  {name}: {state}\n")).collect::<String>();
    let bytes: u64 = contents.files.values().map(|entry| entry.bytes).sum();
    text + &format!(
        "\n{} files in the root, {bytes} bytes; {} of it in the slot\n",
        contents.files.len(),
        manifest.root.raw_size
    )
}

/// Packages of `root` below the lines that brought them, the line with most bytes first.
fn packages(root: &str, all: &[Package]) -> String {
    let of_root: Vec<_> = all.iter().filter(|package| package.root == root).collect();
    let (left_out, kept): (Vec<_>, Vec<_>) = of_root.into_iter().partition(|package| package.left_out);
    let mut lines: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in &kept {
        lines.entry(&package.asked).or_default().push(package);
    }
    let total = |packages: &[&Package]| packages.iter().map(|package| package.bytes).sum::<u64>();
    let mut text = format!("\n{} packages of {root}, {} bytes installed", kept.len(), total(&kept));
    text += &match left_out.len() {
        0 => "\n".to_owned(),
        count => format!("; {count} more only while it is built\n"),
    };
    let mut lines: Vec<_> = lines.into_iter().collect();
    lines.sort_by_key(|(_, packages)| std::cmp::Reverse(total(packages)));
    for (line, mut packages) in lines {
        packages.sort_by_key(|package| (package.needed_by.is_some(), std::cmp::Reverse(package.bytes)));
        text += &format!("  {line}: {} bytes\n", total(&packages));
        for Package { name, version, bytes, needed_by, .. } in packages {
            let why = needed_by.as_ref().map(|other| format!(", needed by {other}")).unwrap_or_default();
            text += &format!("    {bytes:>11} {name} {version}{why}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_listed_below_the_line_that_brought_them() {
        let package = |name: &str, bytes, asked: &str, needed_by: Option<&str>, left_out| Package {
            root: "node".into(),
            name: name.into(),
            version: "1".into(),
            architecture: "amd64".into(),
            source: name.into(),
            bytes,
            asked: asked.into(),
            needed_by: needed_by.map(str::to_owned),
            left_out,
        };
        let all = [
            package("htop", 10, "debug.toml:9", None, false),
            package("libnl", 30, "debug.toml:9", Some("htop"), false),
            package("systemd", 100, "node.list:5", None, false),
            package("perl", 50, "node.list:5", Some("systemd"), true),
        ];
        assert_eq!(
            packages("node", &all),
            "\n3 packages of node, 140 bytes installed; 1 more only while it is built\n  \
             node.list:5: 100 bytes\n            100 systemd 1\n  \
             debug.toml:9: 40 bytes\n             10 htop 1\n             30 libnl 1, needed by htop\n"
        );
    }
}
