//! Runs a program inside another root directory, in namespaces that die with it.
//!
//! Why here: the build runs Debian's own tools in a Debian root, whatever the build host is. All mounts live in a
//! private mount namespace and all processes under a private PID 1, so nothing is left behind when the program
//! fails, when it is killed, or when the one who started it is: the kernel takes the namespaces down.
//! As a plain user a user namespace with the ranges of /etc/subuid and /etc/subgid comes on top.
//! Route in: a [`Command`] as seen inside. Route out: the [`Command`] that runs it from outside, for any
//! [`crate::run::Run`]. Nothing happens here: wrapping is pure.

use crate::run::Command;
use std::path::{Path, PathBuf};

/// Where [`Bind`]s appear inside: a tmpfs, so that the root itself is not written to.
pub const BINDS: &str = "/mnt";

/// Mounts what a program expects and enters the root.
/// Arguments: root, network (`yes` or `no`), then `ro|rw SOURCE NAME` for each bind, `--`, the program and its arguments.
const ENTER: &str = r#"set -eu
root=$1 network=$2; shift 2
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=0755 tmpfs "$root/mnt"
if [ "$network" = yes ] && [ -e /etc/resolv.conf ]; then
    [ -e "$root/etc/resolv.conf" ] || : > "$root/etc/resolv.conf"
    mount --bind "$(readlink -f /etc/resolv.conf)" "$root/etc/resolv.conf"
fi
while [ "$1" != -- ]; do
    if [ -d "$2" ]; then mkdir -p "$root/mnt/$3"; else mkdir -p "$(dirname "$root/mnt/$3")"; : > "$root/mnt/$3"; fi
    mount --bind "$2" "$root/mnt/$3"
    [ "$1" = rw ] || mount -o remount,bind,ro "$root/mnt/$3"
    shift 3
done
shift
exec chroot "$root" "$@""#;

/// A file or directory of the host that is seen inside.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bind {
    source: PathBuf,
    name: String,
    writable: bool,
}

/// By which right a root is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// The caller is root.
    Root,
    /// The caller is a plain user with subordinate user and group IDs.
    UserNamespace,
}

impl Privilege {
    /// Of this process.
    pub fn current() -> Self {
        if rustix::process::geteuid().is_root() { Self::Root } else { Self::UserNamespace }
    }
}

/// A root directory and what of the host is seen in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chroot {
    root: PathBuf,
    privilege: Privilege,
    network: bool,
    binds: Vec<Bind>,
}

impl Chroot {
    /// The tree at `root`, with /proc, /dev, /sys and empty /tmp, /run and [`BINDS`].
    pub fn new(root: impl AsRef<Path>, privilege: Privilege) -> Self {
        Self { root: root.as_ref().to_owned(), privilege, network: false, binds: Vec::new() }
    }

    /// Its directory on the host.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// By which right it is entered.
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// Lets programs inside use the host's network; without, they have none.
    #[must_use]
    pub fn network(mut self) -> Self {
        self.network = true;
        self
    }

    /// Shows `source` inside as `/mnt/NAME`, read-only.
    #[must_use]
    pub fn read(mut self, source: impl AsRef<Path>, name: &str) -> Self {
        self.binds.push(Bind { source: source.as_ref().to_owned(), name: name.to_owned(), writable: false });
        self
    }

    /// Shows `source` inside as `/mnt/NAME`, writable.
    #[must_use]
    pub fn write(mut self, source: impl AsRef<Path>, name: &str) -> Self {
        self.binds.push(Bind { source: source.as_ref().to_owned(), name: name.to_owned(), writable: true });
        self
    }

    /// The command that runs `inside` in this root. Inside, only the variables of `inside` and a plain PATH are
    /// set; its working directory is a path inside.
    pub fn enter(&self, inside: &Command) -> Command {
        let mut command = namespace(self.privilege, true);
        if !self.network {
            command = command.arg("--net");
        }
        // The script travels as a variable, so that an error shows what was run and not how.
        command =
            command.env("ENTER", ENTER).args(["sh", "-c", "eval \"$ENTER\"", "enter-root"]).arg(&self.root);
        command = command.arg(if self.network { "yes" } else { "no" });
        for bind in &self.binds {
            command = command.arg(if bind.writable { "rw" } else { "ro" }).arg(&bind.source).arg(&bind.name);
        }
        command = command.args(["--", "env", "-i"]);
        if let Some(dir) = &inside.dir {
            command = command.arg("--chdir").arg(dir);
        }
        command =
            command.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=/tmp"]);
        for (name, value) in &inside.env {
            let mut variable = name.clone();
            variable.push("=");
            variable.push(value);
            command = command.arg(variable);
        }
        command = command.arg(&inside.program).args(&inside.args);
        Command { stdin: inside.stdin.clone(), log: inside.log.clone(), deadline: inside.deadline, ..command }
    }
}

/// The command that runs `inside` on the host as the owner of the trees that [`Chroot`]s of `privilege` wrote.
pub fn as_owner(privilege: Privilege, inside: &Command) -> Command {
    match privilege {
        Privilege::Root => inside.clone(),
        Privilege::UserNamespace => {
            let outer = namespace(privilege, false).arg(&inside.program).args(&inside.args);
            Command { program: outer.program, args: outer.args, ..inside.clone() }
        }
    }
}

/// The command that runs `inside` on the host itself, so that neither its mounts nor its children outlive it or its
/// caller. (A plain user's programs make such namespaces themselves; for them only the caller's end counts.)
pub fn confined(privilege: Privilege, inside: &Command) -> Command {
    let outer = match privilege {
        Privilege::Root => namespace(privilege, true).arg("--mount-proc"),
        Privilege::UserNamespace => Command::new("setpriv").args(["--pdeathsig", "KILL"]),
    };
    let outer = outer.arg(&inside.program).args(&inside.args);
    Command { program: outer.program, args: outer.args, ..inside.clone() }
}

/// `unshare`, so that everything below it dies with it, and it with its caller.
fn namespace(privilege: Privilege, mounts: bool) -> Command {
    let mut command = Command::new("setpriv").args(["--pdeathsig", "KILL", "unshare"]);
    if privilege == Privilege::UserNamespace {
        command = command.args(["--map-auto", "--map-root-user"]);
    }
    if mounts {
        command = command.args(["--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts"]);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Run, RunError, System};
    use std::ffi::OsStr;

    #[test]
    fn a_plain_user_enters_by_a_user_namespace_and_root_does_not() {
        let inside = Command::new("true");
        let of = |privilege| Chroot::new("/r", privilege).enter(&inside).to_string();
        assert!(of(Privilege::UserNamespace).contains("--map-auto --map-root-user"));
        assert!(!of(Privilege::Root).contains("--map"));
    }

    #[test]
    fn only_the_variables_of_the_command_are_seen_inside() {
        let inside = Command::new("make").env("A", "1").dir("/mnt/src").arg("all");
        let outside = Chroot::new("/r", Privilege::Root).enter(&inside);
        assert!(outside.to_string().ends_with("HOME=/tmp A=1 make all"), "{outside}");
        assert!(outside.to_string().contains("env -i --chdir /mnt/src "), "{outside}");
        assert!(!outside.env.contains_key(OsStr::new("A")) && outside.dir.is_none());
    }

    #[test]
    fn without_asking_there_is_no_network_inside() {
        let of = |chroot: Chroot| chroot.enter(&Command::new("true")).to_string();
        assert!(of(Chroot::new("/r", Privilege::Root)).contains(" --net "));
        assert!(!of(Chroot::new("/r", Privilege::Root).network()).contains(" --net "));
    }

    #[test]
    fn what_is_confined_keeps_its_environment_and_ends_with_its_caller() {
        let inside = Command::new("mmdebstrap").arg("trixie").env("SOURCE_DATE_EPOCH", "0").dir("/tmp");
        for privilege in [Privilege::Root, Privilege::UserNamespace] {
            let outside = confined(privilege, &inside);
            assert!(outside.to_string().starts_with("setpriv --pdeathsig KILL "), "{outside}");
            assert!(outside.to_string().ends_with("mmdebstrap trixie"), "{outside}");
            assert_eq!((&outside.env, &outside.dir), (&inside.env, &inside.dir));
        }
    }

    /// The host's own tree serves as the root; this needs the right to make namespaces.
    #[test]
    fn a_program_inside_sees_its_binds_and_can_not_write_the_read_only_ones() {
        let inside =
            Command::new("sh").args(["-c", "cat /mnt/etc/hostname && ! touch /mnt/etc/x 2>/dev/null"]);
        match System.run(&Chroot::new("/", Privilege::current()).read("/etc", "etc").enter(&inside)) {
            Ok(output) => {
                assert_eq!(output.text(), std::fs::read_to_string("/etc/hostname").unwrap().trim_end())
            }
            Err(RunError::Failed { tail, .. }) if tail.contains("unshare") => {
                eprintln!("not permitted here: {tail}")
            }
            Err(error) => panic!("{error}"),
        }
    }
}
