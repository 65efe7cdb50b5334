//! Stock Debian in the same machine as a node: how long it boots.
//!
//! Why here: the bar for a node's boot is a share of it. Both are counted from the kernel's start, so firmware and boot
//! loader are on neither side. Route in: Debian's packages by the tools chroot's mmdebstrap (variant `standard` with the
//! generic kernel, initramfs-tools and an ssh server, as Debian's installer leaves a server). Route out: seconds.

use anyhow::{Context as _, Result};
use sheaf_host::run::System;
use sheaf_host::wait::until;
use sheaf_machine::{packages, serial::SerialLog};
use sheaf_tests::harness::Case;
use std::path::Path;
use std::time::Duration;

/// Everything emulated; Debian's own boot takes about a minute here.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);
/// Between two looks at the serial line.
const INTERVAL: Duration = Duration::from_millis(500);

/// Makes the disk, and takes kernel and initrd out of it.
const MAKE: &str = r#"set -eu
cd /mnt/work
rm -rf debian
mmdebstrap --mode=root --variant=standard --format=directory --include="$PACKAGES" trixie debian "deb $MIRROR trixie main"
cp debian/boot/vmlinuz-* vmlinuz
cp debian/boot/initrd.img-* initrd
rm -f disk.raw
truncate -s 4G disk.raw
mke2fs -q -F -t ext4 -L debian -d debian disk.raw
rm -rf debian
touch complete"#;

const PACKAGES: &str =
    "linux-image-amd64,initramfs-tools,systemd-sysv,systemd-resolved,systemd-timesyncd,openssh-server";

/// Seconds from the kernel's start to `multi-user.target`, as systemd says itself.
pub fn boot_seconds(case: &Case) -> Result<f64> {
    let work = case.made().join("bench/debian");
    if !work.join("complete").exists() {
        std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        let mirror = packages::mirror();
        packages::inside(&case.tools, &work, &format!("MIRROR={mirror}\n{MAKE}"), PACKAGES)?;
    }
    let mut times = (0..3).map(|round| boot(case, &work, round)).collect::<Result<Vec<_>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[1])
}

fn boot(case: &Case, work: &Path, round: u32) -> Result<f64> {
    let accelerator = std::env::var("SHEAF_ACCEL").unwrap_or_else(|_| "tcg".into());
    let log = case.artefacts().join(format!("debian-{round}.log"));
    let (kernel, initrd, disk) = (work.join("vmlinuz"), work.join("initrd"), work.join("disk.raw"));
    // The machine of a node, with the same processors, memory and disk bus.
    let command = case.tools.qemu(&accelerator)?.args([
        "-accel",
        &accelerator,
        "-machine",
        "q35",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "4096",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-device",
        "virtio-rng-pci",
        "-chardev",
        &format!("file,id=serial,path={}", log.display()),
        "-serial",
        "chardev:serial",
        "-L",
        &case.tools.file("usr/share/qemu").display().to_string(),
        "-L",
        &case.tools.file("usr/share/seabios").display().to_string(),
        "-kernel",
        &kernel.display().to_string(),
        "-initrd",
        &initrd.display().to_string(),
        "-append",
        "root=LABEL=debian ro console=ttyS0 systemd.log_target=console systemd.log_level=info",
        "-drive",
        &format!("if=none,id=disk,format=raw,snapshot=on,file={}", disk.display()),
        "-device",
        "virtio-blk-pci,drive=disk",
        "-netdev",
        "user,id=net",
        "-device",
        "virtio-net-pci,netdev=net,romfile=",
    ]);
    let mut qemu = System.start(&command.log(case.artefacts().join(format!("debian-{round}.qemu.log"))))?;
    let mut serial = SerialLog::new(&log);
    let finished = until(BOOT_TIMEOUT, INTERVAL, || {
        serial.next(|line| line.contains("Startup finished in").then(|| line.to_owned()))
    });
    // What a benchmark has measured it needs no more.
    let _ = qemu.kill();
    let _ = qemu.wait();
    let line = finished.with_context(|| format!("Debian did not finish its boot: {}", log.display()))?;
    total(&line).with_context(|| format!("systemd's line names no total: {line}"))
}

/// The last duration in `Startup finished in 2.1s (kernel) + 1min 3.2s (userspace) = 1min 5.3s.`
fn total(line: &str) -> Option<f64> {
    let (_, total) = line.rsplit_once("= ")?;
    total.trim().trim_end_matches('.').split_whitespace().try_fold(0.0, |sum, part| {
        let number = |text: &str| text.parse::<f64>().ok();
        let seconds = match part {
            _ if part.ends_with("min") => number(part.trim_end_matches("min"))? * 60.0,
            _ if part.ends_with("ms") => number(part.trim_end_matches("ms"))? / 1000.0,
            _ => number(part.trim_end_matches('s'))?,
        };
        Some(sum + seconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_total_is_read_with_minutes_and_without() {
        let line = "systemd[1]: Startup finished in 2.1s (kernel) + 1min 3.2s (userspace) = 1min 5.250s.";
        assert_eq!(total(line), Some(65.25));
        assert_eq!(total("Startup finished in 900ms (kernel) = 900ms."), Some(0.9));
        assert_eq!(total("Startup finished"), None);
    }
}
