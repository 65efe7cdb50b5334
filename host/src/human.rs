//! Sizes and times as people read them.
//!
//! Why here: the same in the installer's screens, in objects, tables and sentences. Route in: bytes. Route out: text.

use std::time::Duration;

/// Disks and pools, in powers of ten as on their labels: `1.9 TB`.
pub fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["bytes", "kB", "MB", "GB", "TB", "PB"])
}

/// What is made of them, in powers of two: `64 MiB`.
pub fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

fn scaled(bytes: u64, step: f64, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let decimals = usize::from(value < 9.95 && value.fract() >= 0.05);
    format!("{value:.decimals$} {}", units[unit])
}

/// `"48 s"`, `"3 min 20 s"`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_have_a_decimal_and_large_ones_have_none() {
        assert_eq!(decimal(1_920_383_410_176), "1.9 TB");
        assert_eq!(decimal(960_197_124_096), "960 GB");
        assert_eq!(binary(64 << 20), "64 MiB");
        assert_eq!(binary(512), "512 bytes");
    }
}
