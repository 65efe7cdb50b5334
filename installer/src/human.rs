//! Sizes and times as people read them.

use std::time::Duration;

/// Disk sizes, in powers of ten as on their labels: `"480.1 GB"`.
pub fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["bytes", "kB", "MB", "GB", "TB"])
}

/// Partition sizes, in powers of two: `"2 GiB"`.
pub fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["bytes", "KiB", "MiB", "GiB", "TiB"])
}

fn scaled(bytes: u64, step: f64, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let exact = value.fract() == 0.0;
    if exact { format!("{value:.0} {}", units[unit]) } else { format!("{value:.1} {}", units[unit]) }
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
    fn sizes_read_as_on_labels() {
        assert_eq!(decimal(480_103_981_056), "480.1 GB");
        assert_eq!(binary(2 << 30), "2 GiB");
        assert_eq!(binary(0), "0 bytes");
    }
}
