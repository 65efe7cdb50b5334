//! libvirt and QEMU of the tools chroot on this machine, without a booted systemd.
//!
//! Why here: the agent's VM controller is tried against the real thing, emulated, without a node in a machine.
//! Route in: the tools chroot. Route out: the address of a
//! private bus with libvirt on it, and a directory of programs for PATH. All of it lives in a mount and a PID
//! namespace over an overlay of the chroot: dropped, nothing is left, QEMU included.

use anyhow::{Context as _, Result, bail};
use sheaf_host::run::{Command, System};
use sheaf_host::wait;
use sheaf_machine::Tools;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;
use tempfile::TempDir;

/// libvirtd probes QEMU at its first start.
const START: Duration = Duration::from_secs(60);

/// Makes the root and becomes its PID 1. Arguments: chroot, working directory, directory of temporary files (seen
/// inside under the same path, as the agent's files lie there).
///
/// libvirt wants a PID 1 that reaps and terminals of its own; QEMU's private mounts do not work in a chroot.
const ENTER: &str = r#"set -eu
tools=$1 work=$2 temporary=$3; root=$work/root
mount --make-rprivate /
mkdir -p "$root" "$work/overlay"
mount -t tmpfs tmpfs "$work/overlay"
mkdir "$work/overlay/upper" "$work/overlay/work"
mount -t overlay overlay -o "lowerdir=$tools,upperdir=$work/overlay/upper,workdir=$work/overlay/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/net" "$root/dev/shm"
while read -r name numbers; do mknod -m 666 "$root/dev/$name" c $numbers; done <<END
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
net/tun 10 200
END
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root$temporary" "$root/run/libvirt"
mount --bind "$temporary" "$root$temporary"
cat >> "$root/etc/libvirt/qemu.conf" <<END
namespaces = []
cgroup_controllers = []
security_driver = "none"
user = "root"
group = "root"
remember_owner = 0
END
exec chroot "$root" /usr/bin/tini -- sh "$work/serve.sh""#;

/// Inside: the bus and the three daemons.
const SERVE: &str = r#"export DBUS_SYSTEM_BUS_ADDRESS="unix:path=$WORK/bus" PATH=/usr/sbin:/usr/bin:/sbin:/bin
dbus-daemon --config-file="$WORK/bus.conf" --nofork --nopidfile &
virtlogd &
libvirtd &
until [ -S /run/libvirt/libvirt-sock ] && [ -S "$WORK/bus" ]; do sleep 0.1; done
libvirt-dbus --system &
echo ready > "$WORK/ready"
wait"#;

/// libvirt on a bus of its own.
pub struct Libvirt {
    work: TempDir,
    child: Child,
}

impl Libvirt {
    /// Starts it in the network namespace `namespace`, whose bridges its VMs are connected to.
    pub fn start(namespace: &str) -> Result<Self> {
        let tools = Tools::find()?;
        let work = tempfile::Builder::new().prefix("sv-").tempdir()?;
        let at = |name: &str| work.path().join(name);
        let bus = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/><allow send_type=\"method_call\"/>\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>",
            at("bus").display()
        );
        fs::write(at("bus.conf"), bus)?;
        fs::write(at("serve.sh"), SERVE)?;
        let command = Command::new("ip")
            .args(["netns", "exec", namespace])
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "enter"])
            .arg(tools.root())
            .arg(work.path())
            .arg(std::env::temp_dir())
            .env("WORK", work.path())
            .log(at("log"));
        let child = System.start(&command).context("libvirt of the tools chroot")?;
        let libvirt = Self { work, child };
        let ready = libvirt.work.path().join("ready");
        if wait::until(START, Duration::from_millis(100), || ready.exists().then_some(())).is_none() {
            bail!("libvirt of the tools chroot {} did not start:\n{}", tools.root().display(), libvirt.log());
        }
        libvirt.write_programs()?;
        Ok(libvirt)
    }

    /// For DBUS_SYSTEM_BUS_ADDRESS.
    pub fn bus(&self) -> String {
        format!("unix:path={}", self.work.path().join("bus").display())
    }

    /// Programs that run inside; to be put first in PATH.
    pub fn programs(&self) -> PathBuf {
        self.work.path().join("bin")
    }

    /// What the daemons said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.work.path().join("log")).unwrap_or_default()
    }

    /// Process of the QEMU that runs the domain `name`, as this machine counts.
    pub fn qemu(&self, name: &str) -> Option<u32> {
        let named = format!("guest={name},");
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.starts_with("/usr/bin/qemu-system") && line.contains(&named)
        })
    }

    /// The folder of libvirtd's sockets, which lie in the namespace's own `/run`.
    pub fn sockets(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root/run/libvirt", self.init()?)))
    }

    /// The namespace's init, by its number outside.
    fn init(&self) -> Result<u32> {
        let outer = self.child.id();
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))?;
        Ok(children.split_whitespace().next().context("the namespace has no init")?.parse()?)
    }

    fn write_programs(&self) -> Result<()> {
        let init = self.init()?;
        let root = self.work.path().join("root");
        fs::create_dir(self.programs())?;
        for (folder, program) in [("bin", "qemu-img"), ("bin", "virsh"), ("sbin", "nft")] {
            let path = self.programs().join(program);
            // The whole path: in PATH, this script comes first also inside.
            let script = format!(
                "#!/bin/sh\nexec nsenter -t {init} -m chroot {} /usr/{folder}/{program} \"$@\"\n",
                root.display()
            );
            fs::write(&path, script)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        // The namespace's init dies with its parent, and everything in the namespace with its init.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
