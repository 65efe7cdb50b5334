//! The guest's file system in memory: BusyBox, dropbear, a few modules and the texts of `guest/`.
//!
//! Route in: the packages' tree. Route out: kernel and initial RAM disk.

use super::cpio::Cpio;
use super::packages::PACKAGES;
use super::{GuestError, fresh_folder, read};
use sheaf_host::run::{Command, Run, System};
use std::collections::BTreeSet;
use std::path::Path;

/// Programs and settings of the guest.
pub(super) const TEXTS: [(&str, &str); 7] = [
    ("etc/inittab", include_str!("../../guest/inittab")),
    ("etc/rc", include_str!("../../guest/rc")),
    ("etc/heartbeat", include_str!("../../guest/heartbeat")),
    ("etc/power-button", include_str!("../../guest/power-button")),
    ("etc/rc-stop", include_str!("../../guest/rc-stop")),
    ("etc/udhcpc", include_str!("../../guest/udhcpc")),
    ("etc/hostile-agent", include_str!("../../guest/hostile-agent")),
];
/// Kernel modules, in the order they are loaded.
pub(super) const MODULES: &str = include_str!("../../guest/modules");

/// zstd level of the RAM disk: unpacked under emulated processors, made once.
const LEVEL: i32 = 15;

/// What the boot loader loads.
pub(super) struct BootFiles {
    pub(super) kernel: Vec<u8>,
    pub(super) initrd: Vec<u8>,
}

pub(super) fn build(tree: &Path, work: &Path) -> Result<BootFiles, GuestError> {
    let missing = |what: &str| GuestError::Missing { what: what.into(), packages: PACKAGES.into() };
    let modules = tree.join("usr/lib/modules");
    let version = names(&modules)?.pop().ok_or_else(|| missing("usr/lib/modules/*"))?;
    let busybox = tree.join("usr/bin/busybox");

    let mut cpio = Cpio::default();
    for folder in [
        "dev",
        "etc",
        "root",
        "usr",
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib/x86_64-linux-gnu",
        "usr/lib64",
    ] {
        cpio.folder(folder);
    }
    for (link, target) in
        [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
    {
        cpio.link(link, target);
    }
    cpio.file("usr/bin/busybox", 0o755, &read(&busybox, "BusyBox")?);
    for applet in run(Command::new(&busybox).arg("--list"), "BusyBox's programs")?
        .lines()
        .filter(|name| *name != "busybox")
    {
        cpio.link(&format!("usr/bin/{applet}"), "busybox");
    }
    cpio.link("init", "usr/bin/busybox");
    for program in ["usr/sbin/dropbear", "usr/bin/dropbearkey"] {
        cpio.file(program, 0o755, &read(&tree.join(program), "dropbear")?);
    }
    libraries(&mut cpio, tree)?;
    for (path, text) in TEXTS {
        cpio.file(path, 0o755, text.as_bytes());
    }
    cpio.file("etc/modules", 0o644, MODULES.as_bytes());
    cpio.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    cpio.file("etc/group", 0o644, b"root:x:0:\n");
    cpio.file("etc/shells", 0o644, b"/bin/sh\n");
    cpio.file("etc/nsswitch.conf", 0o644, b"passwd: files\ngroup: files\nhosts: files dns\n");
    add_modules(&mut cpio, &busybox, tree, &version, work)?;
    let initrd = zstd::encode_all(&cpio.finish()[..], LEVEL).map_err(|source| GuestError::File {
        step: "RAM disk",
        path: work.into(),
        source,
    })?;
    let kernel = read(&tree.join(format!("boot/vmlinuz-{version}")), "kernel")?;
    Ok(BootFiles { kernel, initrd })
}

/// The loader and every shared library of the small packages; of libc6 only what dropbear links.
fn libraries(cpio: &mut Cpio, tree: &Path) -> Result<(), GuestError> {
    let folder = tree.join("usr/lib/x86_64-linux-gnu");
    for name in names(&folder)? {
        let wanted =
            ["libc.so", "ld-linux", "libcrypt.so", "libgmp.so", "libtomcrypt.so", "libtommath.so", "libz.so"];
        if wanted.iter().any(|start| name.starts_with(start)) {
            cpio.file(
                &format!("usr/lib/x86_64-linux-gnu/{name}"),
                0o755,
                &read(&folder.join(&name), "library")?,
            );
        }
    }
    cpio.link("usr/lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
    Ok(())
}

/// The wanted modules and those they need, unpacked, with a `modules.dep` of their own.
fn add_modules(
    cpio: &mut Cpio,
    busybox: &Path,
    tree: &Path,
    version: &str,
    work: &Path,
) -> Result<(), GuestError> {
    let base = format!("usr/lib/modules/{version}");
    let depmod = |root: &Path| {
        // It looks under lib/modules.
        let (lib, target) = (root.join("lib"), Path::new("usr/lib"));
        if !lib.exists() {
            std::os::unix::fs::symlink(target, &lib).map_err(|source| GuestError::File {
                step: "modules",
                path: lib.clone(),
                source,
            })?;
        }
        run(Command::new(busybox).args(["depmod", "-b"]).arg(root).arg(version), "modules' dependencies")
    };
    depmod(tree)?;
    let all = read(&tree.join(&base).join("modules.dep"), "modules.dep")?;
    let kept = work.join("modules");
    fresh_folder(&kept.join(&base))?;
    let mut unpacked = Vec::new();
    for module in closure(&String::from_utf8_lossy(&all), MODULES) {
        let xz = tree.join(&base).join(&module);
        let name = module.rsplit('/').next().unwrap_or(&module).trim_end_matches(".xz").to_owned();
        let bytes = System
            .run(&Command::new(busybox).args(["xzcat"]).arg(&xz))
            .map_err(|source| GuestError::Program { step: "a module cannot be unpacked", source })?
            .stdout;
        super::write(&kept.join(&base).join(&name), &bytes, "module")?;
        unpacked.push((name, bytes));
    }
    depmod(&kept)?;
    cpio.folder("usr/lib/modules");
    cpio.folder(&base);
    for (name, bytes) in unpacked {
        cpio.file(&format!("{base}/{name}"), 0o644, &bytes);
    }
    for name in names(&kept.join(&base))?.iter().filter(|name| name.starts_with("modules.")) {
        cpio.file(&format!("{base}/{name}"), 0o644, &read(&kept.join(&base).join(name), "modules.dep")?);
    }
    Ok(())
}

/// Paths of the modules named in `wanted` and of all they need, by the lines of `dep` (`path: needed needed`).
/// Names that are built in have no line.
fn closure(dep: &str, wanted: &str) -> BTreeSet<String> {
    let name = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split('.').next().unwrap_or(file).replace('-', "_")
    };
    let wanted: BTreeSet<String> = wanted.lines().map(name).collect();
    let lines = dep.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(path, _)| wanted.contains(&name(path)))
        .flat_map(|(path, needs)| std::iter::once(path).chain(needs.split_whitespace()))
        .map(str::to_owned)
        .collect()
}

fn names(folder: &Path) -> Result<Vec<String>, GuestError> {
    let failed = |source| GuestError::File { step: "cannot be read", path: folder.to_owned(), source };
    let entries: Result<Vec<_>, _> = std::fs::read_dir(folder).map_err(failed)?.collect();
    let mut names: Vec<String> = entries
        .map_err(failed)?
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

fn run(command: Command, step: &'static str) -> Result<String, GuestError> {
    System.run(&command).map(|output| output.text()).map_err(|source| GuestError::Program { step, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_brings_those_it_needs_and_built_in_names_are_passed_over() {
        let dep = "kernel/net/virtio_net.ko.xz: kernel/net/net_failover.ko.xz kernel/net/failover.ko.xz\n\
                   kernel/net/net_failover.ko.xz: kernel/net/failover.ko.xz\nkernel/fs/fat/vfat.ko.xz: kernel/fs/fat/fat.ko.xz\n\
                   kernel/char/virtio-rng.ko.xz:\n";
        let found = closure(dep, "virtio_net\next4\nvirtio-rng\n");
        let names: Vec<&str> = found.iter().map(|path| path.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["virtio-rng.ko.xz", "failover.ko.xz", "net_failover.ko.xz", "virtio_net.ko.xz"]);
    }
}
