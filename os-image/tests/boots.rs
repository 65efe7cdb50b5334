//! The initrd's count of boots, and the counter that a boot without a root gets: the scripts themselves, on folders that stand for the
//! partitions of a node.
//!
//! Why the scripts: they are what an initrd runs, and no compiler reads them. Their paths are replaced, and what they call to mount and
//! restart is played by scripts of a line or two. Route in: `image/dracut/node/90sheaf`. Route out: nothing.

use sheaf_host::run::{Command, Run as _, System};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const HASH: &str = "0123456789abcdef";
const STEM: &str = "6b1f7a3e-93c2-4d55-8f10-0123456789";
/// The sector of the count, in bytes.
const PLACE: usize = 2040 * 512;

struct Node {
    root: tempfile::TempDir,
    is_uefi: bool,
}

impl Node {
    /// One that runs 0.1.0 in slot a, which was found good.
    fn new(is_uefi: bool) -> Self {
        let node = Self { root: tempfile::tempdir().unwrap(), is_uefi };
        for folder in ["bin", "proc", "lib", "run", "esp/EFI/Linux", "esp/grub", "state/update", "by"] {
            fs::create_dir_all(node.path(folder)).unwrap();
        }
        for (number, size) in [("02", 0), ("07", 1 << 20), ("09", 0)] {
            fs::write(node.path(&format!("by/{STEM}{number}")), vec![0; size]).unwrap();
        }
        fs::write(node.path("state/update/slots.json"), "{}").unwrap();
        fs::write(node.path("esp/EFI/Linux/sheaf_0.1.0.efi"), "kernel").unwrap();
        fs::write(node.path("esp/grub/a.cfg"), format!("linux roothash={HASH}")).unwrap();
        fs::write(node.path("esp/grub/b.cfg"), "linux roothash=ffff").unwrap();
        fs::write(
            node.path("esp/grub/grubenv"),
            format!("{:#<1024}", "# GRUB Environment Block\norder=a b\n"),
        )
        .unwrap();
        let mut arguments = format!("root=/dev/mapper/root roothash={HASH} ro");
        if is_uefi {
            node.variable("LoaderDevicePartUUID", &format!("{STEM}02").to_uppercase());
            node.variable("LoaderEntrySelected", "sheaf_0.1.0.efi");
        } else {
            arguments += &format!(" sheaf.esp={STEM}02");
        }
        fs::write(node.path("proc/cmdline"), arguments).unwrap();
        let root = node.root.path().display().to_string();
        // The last argument is where it is mounted, the one before it the partition.
        node.program(
            "mount",
            &format!("for at; do device=$last; last=$at; done; rmdir $last; case $device in *02) of=esp;; *) of=state;; esac; ln -s {root}/$of $last"),
        );
        node.program("umount", "rm $1");
        node.program("reboot", &format!("echo $1 >>{root}/reboots"));
        for name in ["udevadm", "journalctl", "sleep", "sync"] {
            node.program(name, "exit 0");
        }
        for script in ["boot-lib", "boot-failed", "count-boot"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("image/dracut/node/90sheaf")
                .join(format!("{script}.sh"));
            let text = fs::read_to_string(path).unwrap();
            let of = |name: &str| format!("{root}/{name}");
            let text = text
                .replace("/usr/lib/sheaf", &of("lib"))
                .replace("/run/sheaf", &of("run"))
                .replace("/dev/disk/by-partuuid", &of("by"))
                .replace("/proc/cmdline", &of("proc/cmdline"))
                .replace("/sys/firmware/efi", &of("efi"));
            fs::write(node.path(&format!("lib/{script}")), text).unwrap();
        }
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn variable(&self, name: &str, value: &str) {
        let folder = self.path("efi/efivars");
        fs::create_dir_all(&folder).unwrap();
        let text = value.bytes().chain([0]).flat_map(|byte| [byte, 0]);
        let bytes: Vec<u8> = [6, 0, 0, 0].into_iter().chain(text).collect();
        fs::write(folder.join(format!("{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")), bytes).unwrap();
    }

    /// Runs a script; what it printed.
    fn run(&self, script: &str) -> String {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let command =
            Command::new("sh").arg(self.path("lib").join(script)).env("PATH", path).env("LC_ALL", "C");
        System.run(&command).unwrap().text()
    }

    fn count(&self) -> String {
        let bytes = fs::read(self.path(&format!("by/{STEM}07"))).unwrap();
        assert_eq!(bytes.len(), 1 << 20, "the partition keeps its size");
        assert!(
            bytes[..PLACE].iter().chain(&bytes[PLACE + 512..]).all(|byte| *byte == 0),
            "one sector is written"
        );
        let text = String::from_utf8_lossy(&bytes[PLACE..PLACE + 512]).into_owned();
        text.lines().next().unwrap_or_default().trim_end_matches('\0').to_owned()
    }

    fn reboots(&self) -> usize {
        fs::read_to_string(self.path("reboots")).unwrap_or_default().lines().count()
    }

    /// How the boot loader counts the release: by name, or by variable.
    fn counter(&self) -> String {
        if self.is_uefi {
            let name = fs::read_dir(self.path("esp/EFI/Linux")).unwrap().next().unwrap().unwrap().file_name();
            return name.into_string().unwrap();
        }
        let text = fs::read_to_string(self.path("esp/grub/grubenv")).unwrap();
        assert_eq!(text.len(), 1024);
        text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ")
    }

    fn uncounted(&self) -> &'static str {
        if self.is_uefi { "sheaf_0.1.0.efi" } else { "order=a b" }
    }
}

#[test]
fn three_boots_in_a_row_that_did_not_work_cost_a_good_release_all_of_its_tries_at_the_fourth() {
    for is_uefi in [true, false] {
        let node = Node::new(is_uefi);
        for boot in 1..=3 {
            node.run("count-boot");
            assert_eq!(node.count(), format!("SHEAF-BOOTS 1 {HASH} {boot}"));
            assert_eq!((node.reboots(), node.counter().as_str()), (0, node.uncounted()));
        }
        let said = node.run("count-boot");
        assert!(
            said.ends_with(
                "sheaf: 3 boots in a row ended before the node worked; another release is started"
            ),
            "{said}"
        );
        assert_eq!(node.reboots(), 1);
        let (counter, name) = match is_uefi {
            true => ("sheaf_0.1.0+0-3.efi", "sheaf_0.1.0.efi"),
            false => ("order=a b a_left=0", "slot a"),
        };
        assert_eq!(node.counter(), counter);
        assert_eq!(node.count(), format!("SHEAF-BOOTS 1 {HASH} 0"));
        assert!(!node.path("state/update/slots.json").exists(), "the agent would not look at the counter");
        assert_eq!(
            fs::read_to_string(node.path("state/update/given-up")).unwrap(),
            format!(
                "{name} was given up: 3 boots in a row ended before it had run for 90 s; its root may be damaged\n"
            )
        );
    }
}

#[test]
fn a_release_that_the_boot_loader_counts_is_left_to_it() {
    for is_uefi in [true, false] {
        let node = Node::new(is_uefi);
        if is_uefi {
            let of = |name: &str| node.path("esp/EFI/Linux").join(name);
            fs::rename(of("sheaf_0.1.0.efi"), of("sheaf_0.1.0+1-2.efi")).unwrap();
        } else {
            let text = format!("{:#<1024}", "# GRUB Environment Block\norder=a b\na_left=1\n");
            fs::write(node.path("esp/grub/grubenv"), text).unwrap();
        }
        let before = node.counter();
        for _ in 0..5 {
            node.run("count-boot");
        }
        assert_eq!((node.reboots(), node.counter()), (0, before));
        assert!(node.path("state/update/slots.json").exists());
    }
}

#[test]
fn boots_of_another_release_are_not_counted_for_this_one_nor_is_what_the_agent_forgot() {
    let node = Node::new(true);
    for _ in 0..3 {
        node.run("count-boot");
    }
    let arguments = fs::read_to_string(node.path("proc/cmdline")).unwrap();
    fs::write(node.path("proc/cmdline"), arguments.replace(HASH, "ffff")).unwrap();
    node.run("count-boot");
    assert_eq!(node.count(), "SHEAF-BOOTS 1 ffff 1");
    fs::write(node.path(&format!("by/{STEM}07")), vec![0; 1 << 20]).unwrap();
    node.run("count-boot");
    assert_eq!(node.count(), "SHEAF-BOOTS 1 ffff 1");
}

#[test]
fn a_boot_goes_on_where_nothing_can_be_counted() {
    let node = Node::new(true);
    fs::remove_dir_all(node.path("efi/efivars")).unwrap();
    node.run("count-boot");
    assert_eq!(node.count(), "");
    // The EFI system partition cannot be mounted: the release cannot be given up, and is started.
    let node = Node::new(true);
    node.program("mount", "exit 32");
    for _ in 0..4 {
        node.run("count-boot");
    }
    assert_eq!((node.reboots(), node.count()), (0, format!("SHEAF-BOOTS 1 {HASH} 4")));
}

#[test]
fn a_boot_without_a_root_gives_a_good_release_a_counter_of_which_one_try_is_used() {
    for is_uefi in [true, false] {
        let node = Node::new(is_uefi);
        let said = node.run("boot-failed");
        assert_eq!(node.counter(), if is_uefi { "sheaf_0.1.0+2-1.efi" } else { "order=a b a_left=2" });
        let name = if is_uefi { "sheaf_0.1.0.efi" } else { "slot a" };
        assert!(said.contains(&format!("sheaf: {name} has 2 tries left")), "{said}");
        assert_eq!(node.reboots(), 1);
        assert!(!node.path("state/update/slots.json").exists());
        assert!(!node.path("state/update/given-up").exists());
    }
}
