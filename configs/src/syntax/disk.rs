//! What a disk says of itself.
//!
//! Route in: a text. Route out: the same text, which the installer compares letter by letter.

use super::quoted;
use crate::spanned::{Wrong, wrong};

/// Longest serial, model or path of a disk that is believed, in bytes: sysfs shows no longer ones.
const DISK_FACT: usize = 255;

/// A fact of a disk that is compared letter by letter.
pub fn disk_fact(text: &str) -> Result<String, Wrong> {
    if text.trim().is_empty() {
        return wrong("is empty", "write what `lsblk -o NAME,SERIAL,WWN,MODEL` shows, or leave the key out");
    }
    if text.trim() != text {
        return wrong(
            format!("{} has leading or trailing spaces", quoted(text)),
            format!("write {}", quoted(text.trim())),
        );
    }
    if text.len() > DISK_FACT || text.chars().any(char::is_control) {
        return wrong(
            format!("{} is not a value that a disk reports", quoted(text)),
            "write what lsblk shows",
        );
    }
    Ok(text.to_owned())
}

/// World-wide name of a disk.
pub fn wwn(text: &str) -> Result<String, Wrong> {
    let lower = text.to_lowercase();
    let digits =
        ["eui.", "naa.", "nvme.", "uuid.", "t10.", "0x"].iter().find_map(|prefix| lower.strip_prefix(prefix));
    let free_form = lower.starts_with("nvme.") || lower.starts_with("t10.");
    let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    match digits {
        Some(digits) if !digits.is_empty() && (free_form || digits.chars().all(hex)) => disk_fact(text),
        _ => wrong(
            format!("{} is not a world-wide name", quoted(text)),
            "write what `lsblk -o NAME,WWN` shows",
        ),
    }
}

/// Path of a disk.
pub fn disk_path(text: &str) -> Result<String, Wrong> {
    let inner = text.strip_prefix("/dev/").unwrap_or_default();
    if inner.is_empty() || inner.split('/').any(|part| part.is_empty() || part == "..") {
        let rule = "write \"/dev/disk/by-path/…\", or \"/dev/nvme0n1\"";
        return wrong(format!("{} is not the path of a disk", quoted(text)), rule);
    }
    disk_fact(text)
}
