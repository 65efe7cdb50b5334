//! GRUB's commands that start a UKI on BIOS machines.
//!
//! Why here: firmware without UEFI cannot run a UKI, but GRUB can read kernel and initrd out of it, so both firmwares
//! start the very same bytes. Media, node disks and updates all need these lines. Pure.
//! Route in: a [`Uki`] of a signed manifest. Route out: a piece of a GRUB script.

use crate::manifest::{Section, Uki};

/// Unit of GRUB's block lists in bytes.
const BLOCK: u64 = 512;

/// Loads kernel and initrd of `uki`, which the script has as the file `file` (variables may stand in it); `more` are
/// kernel arguments after the UKI's own, taken into the script as they are. The kernel starts with `boot`.
pub fn load(uki: &Uki, file: &str, more: &str) -> String {
    let arguments: Vec<String> = uki.command_line.split_whitespace().map(quoted).collect();
    format!(
        "loopback uki {file}\nlinux (uki){} {}{}\ninitrd (uki){}\n",
        blocks(&uki.linux),
        arguments.join(" "),
        if more.is_empty() { String::new() } else { format!(" {more}") },
        blocks(&uki.initrd)
    )
}

/// Sections of a UKI begin at multiples of a block; what follows a section to the end of its last block is padding.
fn blocks(section: &Section) -> String {
    format!("{}+{}", section.offset / BLOCK, section.size.div_ceil(BLOCK))
}

/// One word of a script that means itself.
fn quoted(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "=./:,_@%+-".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Length of GRUB's environment file in bytes; GRUB never changes it, so it writes in place.
const ENVIRONMENT: usize = 1024;

/// The file `grubenv` with these variables. What counts lies in its first 512 bytes, which a disk writes whole.
pub fn environment(variables: &[(&str, &str)]) -> String {
    let mut text = String::from("# GRUB Environment Block\n");
    for (name, value) in variables {
        text.push_str(&format!("{name}={value}\n"));
    }
    format!("{text:#<ENVIRONMENT$}")
}

/// The variables of a file `grubenv`, in order. One that was zeroed or damaged has none.
pub fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uki() -> Uki {
        Uki {
            file: "node.efi".into(),
            size: 40_000_000,
            sha256: "00".into(),
            linux: Section { offset: 1024, size: 513 },
            initrd: Section { offset: 4096, size: 1024 },
            command_line: "root=/dev/mapper/root quiet note='a;b'".into(),
        }
    }

    #[test]
    fn the_environment_has_the_length_that_grub_expects() {
        let text = environment(&[("order", "a b"), ("a_left", "3")]);
        assert_eq!(text.len(), 1024);
        assert!(text.starts_with("# GRUB Environment Block\norder=a b\na_left=3\n###"), "{text}");
        let variables = variables(&text);
        assert_eq!(variables, [("order".into(), "a b".into()), ("a_left".into(), "3".into())]);
        assert_eq!(super::variables(&"\0".repeat(1024)), []);
    }

    #[test]
    fn sections_are_named_in_blocks_and_the_command_line_follows() {
        assert_eq!(
            load(&uki(), "(esp)/$file", "sheaf.esp=$esp"),
            "loopback uki (esp)/$file\nlinux (uki)2+2 root=/dev/mapper/root quiet 'note='\\''a;b'\\''' sheaf.esp=$esp\n\
             initrd (uki)8+2\n"
        );
    }
}
