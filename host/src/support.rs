//! Support bundles: what a machine says of itself, in one archive.
//!
//! Why here: installer and node ask a machine the same. A program that fails or hangs leaves its error in the place of its output, so
//! that it takes nothing from the others. Route in: a writer, programs and files. Route out: tar, packed by gzip.

use crate::run::{Command, Run};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A program, and the file that its output becomes.
pub type Program = (&'static str, &'static [&'static str]);

/// What tells of any machine.
pub const PROGRAMS: &[Program] = &[
    ("kernel.log", &["journalctl", "--boot", "--dmesg", "--no-pager", "--output=short-monotonic"]),
    ("disks.json", &["lsblk", "--json", "-b", "-O"]),
    ("links.txt", &["networkctl", "status", "--all", "--no-pager"]),
    ("modules.txt", &["lsmod"]),
    ("devices.txt", &["udevadm", "info", "--export-db"]),
    ("units.txt", &["systemctl", "--no-pager", "--failed"]),
];
/// The kernel's files that tell of any machine, below its root.
pub const FILES: &[&str] =
    &["proc/cmdline", "proc/meminfo", "proc/cpuinfo", "proc/self/mounts", "proc/modules", "etc/resolv.conf"];
/// A program that hangs does not hold up the others for longer.
const PROGRAM_TIME: Duration = Duration::from_secs(30);

/// An archive that is being written.
pub struct Bundle<W: Write> {
    archive: tar::Builder<GzEncoder<W>>,
    /// Seconds since the epoch.
    made: u64,
}

impl<W: Write> Bundle<W> {
    /// Into `out`.
    pub fn new(out: W) -> Self {
        let made = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { archive: tar::Builder::new(GzEncoder::new(out, Compression::fast())), made }
    }

    /// A file with these bytes.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o600);
        header.set_size(bytes.len() as u64);
        header.set_mtime(self.made);
        self.archive.append_data(&mut header, name, bytes)
    }

    /// What `programs` print.
    pub fn programs(&mut self, run: &dyn Run, programs: &[Program]) -> io::Result<()> {
        for (name, command) in programs {
            let [program, args @ ..] = command else { continue };
            match run.run(&Command::new(program).args(args).deadline(PROGRAM_TIME)) {
                Ok(output) => self.add(name, &output.stdout)?,
                Err(error) => self.add(name, error.to_string().as_bytes())?,
            }
        }
        Ok(())
    }

    /// `files` below `root`; one that is not there is left out.
    pub fn files(&mut self, root: &Path, files: &[&str]) -> io::Result<()> {
        for file in files {
            if let Ok(bytes) = std::fs::read(root.join(file)) {
                self.add(&file.replace('/', "-"), &bytes)?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(self) -> io::Result<W> {
        self.archive.into_inner()?.finish()
    }
}
