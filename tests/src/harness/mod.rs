//! What a case stands on: its folders, the machines of `sheaf-machine`, the artefacts of a failure.
//!
//! Route in: a case's name. Route out: a [`Case`]; when its test fails, everything the machines said stays under
//! `target/sheaf/artefacts/NAME/` and the place is printed.

mod built;
mod cluster;
mod installed;
mod release;
mod server;
mod trial;

pub use built::Built;
pub use cluster::{Cluster, FURTHER_NICS, FURTHER_VLAN, IMAGE, READY, RUNNING, field};
pub use installed::{Installed, boot_first};
pub use release::{NEXT, node_update, wait_update};
pub use server::Server;

use anyhow::{Context as _, Result};
use sheaf_host::run::{Run as _, System};
use sheaf_machine::{Machine, Spec, Tools, death};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

/// One running case.
pub struct Case {
    name: String,
    root: PathBuf,
    work: tempfile::TempDir,
    /// Where QEMU and firmware come from.
    pub tools: Tools,
}

impl Case {
    /// Begins the case `name`: what an earlier run of it left is removed.
    pub fn begin(name: &str) -> Result<Self> {
        let root = sheaf_machine::workspace()?;
        let tools = Tools::find()?;
        let runs = root.join("target/sheaf/run");
        std::fs::create_dir_all(&runs).with_context(|| runs.display().to_string())?;
        let work = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(&runs)?;
        let case = Self { name: name.into(), root, work, tools };
        let artefacts = case.artefacts();
        if artefacts.exists() {
            std::fs::remove_dir_all(&artefacts).with_context(|| artefacts.display().to_string())?;
        }
        std::fs::create_dir_all(&artefacts).with_context(|| artefacts.display().to_string())?;
        Ok(case)
    }

    /// `target/sheaf` of the checkout.
    pub fn made(&self) -> PathBuf {
        self.root.join("target/sheaf")
    }

    /// The checkout.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Disks and other files that nobody needs after the case.
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// What stays when the case fails.
    pub fn artefacts(&self) -> PathBuf {
        self.made().join("artefacts").join(&self.name)
    }

    /// Switches a machine on.
    pub fn start(&self, spec: &Spec) -> Result<Machine> {
        Ok(Machine::start(spec, &self.tools, &self.artefacts().join(&spec.name))?)
    }

    /// A NoCloud seed: an ISO labelled `cidata`.
    pub fn seed(&self, meta_data: &str, user_data: &str) -> Result<PathBuf> {
        let folder = self.work().join("seed");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("meta-data"), meta_data)?;
        std::fs::write(folder.join("user-data"), user_data)?;
        let iso = self.work().join("seed.iso");
        let xorriso = self
            .tools
            .command("usr/bin/xorriso")
            .args(["-as", "mkisofs", "-quiet", "-V", "cidata", "-J", "-r", "-o"]);
        System.run(&xorriso.arg(&iso).arg(&folder))?;
        Ok(iso)
    }

    /// Flips one bit of the file that `contents` are, at `offset` in it, inside the image at `image`.
    pub fn flip_byte(&self, image: &Path, contents: &[u8], offset: usize) -> Result<()> {
        let bytes = std::fs::read(image).with_context(|| image.display().to_string())?;
        // Files on an ISO lie in one piece, at multiples of its sector.
        const SECTOR: usize = 2048;
        let start = contents.get(..SECTOR).context("too short to be found")?;
        let at = bytes.chunks(SECTOR).position(|sector| sector == start).context("not in the image")?
            * SECTOR
            + offset;
        let file = std::fs::File::options().write(true).open(image)?;
        Ok(std::os::unix::fs::FileExt::write_all_at(&file, &[bytes[at] ^ 1], at as u64)?)
    }

    /// A copy of the guest disk that the case may write to.
    pub fn own_guest_disk(&self) -> Result<PathBuf> {
        let disk = self.work().join("guest.raw");
        std::fs::copy(self.guest_disk()?, &disk).with_context(|| disk.display().to_string())?;
        Ok(disk)
    }

    /// The guest disk of demo and tests, made when it is missing.
    pub fn guest_disk(&self) -> Result<PathBuf> {
        let disk = self.made().join("guest/guest.raw");
        sheaf_machine::guest::build(&self.tools, &self.made().join("guest/work"), &disk)?;
        Ok(disk)
    }
}

/// How often a case whose machine the emulator broke is run in all.
const TRIES: u32 = 2;
/// Names a file that gets a line each time a case begins again: the case runner counts them.
pub const RETRIES: &str = "SHEAF_TEST_RETRIES";
/// Runs the case `name`; a failed one keeps and names its artefacts. A case whose machine the emulator broke is run once
/// more, and that is counted in the result.
#[track_caller]
pub fn case(name: &str, steps: impl Fn(&Case) -> Result<()>) {
    for left in (0..TRIES).rev() {
        let case = Case::begin(name).unwrap_or_else(|error| panic!("case {name}: {error:#}"));
        let artefacts = case.artefacts();
        // An assertion of a case may be what notices that its machine is gone.
        let ended = catch_unwind(AssertUnwindSafe(|| steps(&case)));
        if !matches!(ended, Ok(Ok(()))) && left > 0 && death::is_emulators(&artefacts) {
            count_retry(name);
            continue;
        }
        match ended {
            // A folder that stays does no harm.
            Ok(Ok(())) => return drop(std::fs::remove_dir_all(artefacts)),
            Ok(Err(error)) => {
                panic!("{error:#}\nlogs of the machines of case {name}: {}", artefacts.display())
            }
            Err(panic) => {
                eprintln!("logs of the machines of case {name}: {}", artefacts.display());
                resume_unwind(panic)
            }
        }
    }
}

/// Writes down that the case `name` begins again.
fn count_retry(name: &str) {
    use std::io::Write as _;
    eprintln!("case {name}: the emulator broke its machine; it begins again once");
    let Some(path) = std::env::var_os(RETRIES) else { return };
    let file = std::fs::File::options().create(true).append(true).open(&path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{name}")) {
        eprintln!("{}: {error}", Path::new(&path).display());
    }
}
