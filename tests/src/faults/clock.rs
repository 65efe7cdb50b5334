//! The clock of one control-plane node: its etcd, API server and controller manager see the time that it shows.
//!
//! Why here: processes of one machine share its clock. A time namespace shifts the monotonic and the boot clock alone
//! (time_namespaces(7)), and a Go program reads the time from the vDSO, where nothing can be put in between. So Go's package `time` is
//! built with one line more: `Now` adds the seconds that a file says, which every program of the node has in its memory. Everything else
//! is the control plane's own code. Route in: the module `kubernetes/`, Go's source. Route out: a `kube` binary, built once; a [`Clock`].

use crate::go;
use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use sheaf_host::run::{Command, Run as _, System};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::NamedTempFile;

/// Names the file; a program without it has the clock of the machine.
pub const VARIABLE: &str = "SHEAF_TEST_CLOCK";
/// What a wrong clock is off by: more than the life of every leaf certificate (365 days).
pub const OFF: Duration = Duration::from_hours(400 * 24);
/// The package's file with `Now`, below Go's root.
const NOW: &str = "src/time/time.go";
/// What the addition is put behind, and the addition: Go 1.26.
const READ: &str = "\tsec, nsec, mono := runtimeNow()\n";
const SHIFT: &str = "\tsec += shifted()\n";
/// The file that is added to the package.
const ADDED: &str = r#"package time

import (
	"syscall"
	"unsafe"
)

// The seconds by which the clock is off, in memory that is shared with who sets them.
var offset = mapOffset()

func mapOffset() *int64 {
	path, found := syscall.Getenv("SHEAF_TEST_CLOCK")
	if !found {
		return new(int64)
	}
	file, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		panic("SHEAF_TEST_CLOCK: " + err.Error())
	}
	memory, err := syscall.Mmap(file, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("SHEAF_TEST_CLOCK: " + err.Error())
	}
	return (*int64)(unsafe.Pointer(&memory[0]))
}

func shifted() int64 {
	if offset == nil {
		return 0
	}
	return *offset
}
"#;

/// A clock that can be wrong.
pub struct Clock(NamedTempFile);

impl Clock {
    /// One that is right.
    pub fn new() -> Result<Self> {
        let clock = Self(NamedTempFile::new()?);
        clock.set(0)?;
        Ok(clock)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// It shows so many seconds more than it should.
    pub fn set(&self, seconds: i64) -> Result<()> {
        let file = self.0.as_file();
        file.write_all_at(&seconds.to_ne_bytes(), 0).with_context(|| self.path().display().to_string())
    }
}

/// The control plane's binary, built for such a clock.
pub fn kube() -> Result<PathBuf> {
    let module = sheaf_machine::workspace()?.join("kubernetes");
    let asked = |words: &[&str]| {
        System.run(&Command::new("go").args(words.iter().copied()).dir(&module)).map(|output| output.text())
    };
    let root = PathBuf::from(asked(&["env", "GOROOT"])?);
    let time = root.join(NOW);
    let source = fs::read_to_string(&time).with_context(|| time.display().to_string())?;
    let source = shifted(&source).with_context(|| time.display().to_string())?;
    let mut content = Sha256::new();
    for part in [&source, ADDED] {
        content.update(part);
    }
    for file in ["go.mod", "go.sum", "main.go"] {
        let path = module.join(file);
        content.update(fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?);
    }
    let folder = tempfile::tempdir()?;
    let written = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).map(|()| path)
    };
    let replaced = serde_json::json!({"Replace": {
        &*time.display().to_string(): written("time.go", &source)?,
        &*root.join("src/time/sheaf_test_clock.go").display().to_string(): written("clock.go", ADDED)?,
    }});
    let overlay = written("overlay.json", &replaced.to_string())?.display().to_string();
    let version = asked(&["list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"])?;
    let flags = flags(&version).with_context(|| format!("k8s.io/kubernetes {version}"))?;
    go::built(
        "shifted-kube",
        content,
        &module,
        &["-buildvcs=false", "-overlay", &overlay, "-ldflags", &flags],
    )
}

/// Go's file with `Now`, and the addition.
fn shifted(source: &str) -> Result<String> {
    let count = source.matches(READ).count();
    ensure!(count == 1, "Go reads the time in {count} places of it, not in one: look at {NOW} of this Go");
    Ok(source.replacen(READ, &format!("{READ}{SHIFT}"), 1))
}

/// Flags of the linker: kubeadm and clients compare versions.
fn flags(version: &str) -> Result<String> {
    let mut numbers = version.strip_prefix('v').context("no version")?.split('.');
    let mut next = || numbers.next().context("no version");
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.git{name}={value}");
    let parts = [set("Version", version), set("Major", next()?), set("Minor", next()?)];
    Ok(format!("-s -w {}", parts.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_added_where_the_time_is_read_and_another_go_is_refused() {
        let source = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n";
        let expected =
            "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec += shifted()\n\tif mono == 0 {\n";
        assert_eq!(shifted(source).unwrap(), expected);
        let error = shifted("func Now() Time {\n\treturn now()\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "Go reads the time in 0 places of it, not in one: look at src/time/time.go of this Go"
        );
    }

    #[test]
    fn programs_have_the_version_of_kubernetes() {
        let expected = "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
                        -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37";
        assert_eq!(flags("v1.37.2").unwrap(), expected);
        assert!(flags("1.37").is_err());
    }
}
