//! A running QEMU.
//!
//! Route in: a [`Spec`] and a folder for its logs. Route out: serial line, QMP, shell; saved states. QEMU never
//! outlives its [`Machine`], nor the thread that started it.

use crate::arguments::{Places, arguments};
use crate::emulator::EmulatorError;
use crate::notice::Notice;
use crate::qmp::{Qmp, QmpError};
use crate::shell::Shell;
use crate::{Disk, Format, SerialLog, Spec, Tools};
use serde_json::{Value, json};
use sheaf_host::run::{Command, Run as _, RunError, System};
use sheaf_host::wait::until;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// QEMU opens its sockets at once; a machine with two busy cores may need some seconds.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Saving or restoring 4 GiB from a slow disk.
const STATE_DEADLINE: Duration = Duration::from_secs(180);
/// How many lines of a failure's report an error shows.
const SAID_LINES: usize = 12;
/// How often a condition of a machine is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What can go wrong with a machine.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Its files or its process could not be made.
    #[error("machine {name}: {what}")]
    Files {
        /// The machine.
        name: String,
        /// What was tried.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// There is no QEMU that can be trusted with a node.
    #[error("machine {name}")]
    Emulator {
        /// The machine.
        name: String,
        /// Why.
        source: EmulatorError,
    },
    /// QEMU could not be started.
    #[error("machine {name}")]
    Start {
        /// The machine.
        name: String,
        /// Why.
        source: RunError,
    },
    /// QEMU's control socket failed.
    #[error("machine {name}")]
    Qmp {
        /// The machine.
        name: String,
        /// Why.
        source: QmpError,
    },
    /// QEMU ended although it was needed.
    #[error("machine {name}: QEMU ended while waiting for {what}; it said:\n{said}\nserial line:\n{serial}\nmore in {}", .artefacts.display())]
    Ended {
        /// The machine.
        name: String,
        /// What was waited for.
        what: String,
        /// QEMU's own output.
        said: String,
        /// The last of the serial line.
        serial: String,
        /// Where everything is kept.
        artefacts: PathBuf,
    },
    /// The machine said that something failed.
    #[error("machine {name}: while waiting for {what} it said: {line}\nmore in {}", .artefacts.display())]
    Said {
        /// The machine.
        name: String,
        /// What was waited for.
        what: String,
        /// The line.
        line: String,
        /// Where everything is kept.
        artefacts: PathBuf,
    },
    /// A deadline passed.
    #[error("machine {name}: no {what} within {} s; serial line:\n{serial}\nmore in {}", .after.as_secs(), .artefacts.display())]
    Late {
        /// The machine.
        name: String,
        /// What was waited for.
        what: String,
        /// The deadline.
        after: Duration,
        /// The last of the serial line.
        serial: String,
        /// Where everything is kept.
        artefacts: PathBuf,
    },
}

/// A machine that is switched on. Dropping it cuts its power.
#[derive(Debug)]
pub struct Machine {
    name: String,
    folder: PathBuf,
    sockets: Option<tempfile::TempDir>,
    places: Places,
    qemu: std::process::Child,
    qmp: Option<Qmp>,
    /// Lines on the serial line before this start.
    earlier: usize,
    /// What it says.
    pub serial: SerialLog,
    /// Lines that mean that waiting on is useless.
    pub fatal: Vec<String>,
}

impl Machine {
    /// Switches a machine on. Its logs go to `folder`, appended to those of earlier starts.
    pub fn start(spec: &Spec, tools: &Tools, folder: &Path) -> Result<Self, MachineError> {
        let name = spec.name.clone();
        let files =
            |what: &str, source| MachineError::Files { name: name.clone(), what: what.into(), source };
        std::fs::create_dir_all(folder).map_err(|source| files("its folder cannot be made", source))?;
        let sockets = tempfile::Builder::new()
            .prefix("sheaf-")
            .tempdir()
            .map_err(|source| files("no socket folder", source))?;
        let places = Places {
            serial: folder.join("serial.log"),
            line: sockets.path().join("line"),
            qmp: sockets.path().join("qmp"),
            shell: sockets.path().join("shell"),
        };
        let accelerator = std::env::var("SHEAF_ACCEL").unwrap_or_else(|_| "tcg".into());
        let command = tools
            .qemu(&accelerator)
            .map_err(|source| MachineError::Emulator { name: name.clone(), source })?
            .args(arguments(spec, tools, &accelerator, &places))
            .log(folder.join("qemu.log"));
        std::fs::write(folder.join("command.txt"), format!("{command}\n"))
            .map_err(|source| files("its command cannot be written", source))?;
        let mut serial = SerialLog::new(&places.serial);
        serial.skip_all();
        let earlier = serial.lines().len();
        let qemu =
            System.start(&command).map_err(|source| MachineError::Start { name: name.clone(), source })?;
        let fatal = ["Kernel panic - not syncing", "Failed to start image", "BdsDxe: No bootable option"];
        let mut machine = Self {
            name,
            folder: folder.to_owned(),
            sockets: Some(sockets),
            places,
            qemu,
            qmp: None,
            earlier,
            serial,
            fatal: fatal.map(str::to_owned).into(),
        };
        let qmp = machine.places.qmp.clone();
        machine.qmp = Some(machine.wait("QMP socket", START_DEADLINE, |_| Qmp::connect(&qmp).ok())?);
        if spec.restore.is_some() {
            machine.wait("restored state", STATE_DEADLINE, |machine| {
                machine.status().filter(|status| status != "inmigrate")
            })?;
            machine.qmp("cont", json!({}))?;
        }
        Ok(machine)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its logs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets other machines go first: one that boots takes all of a small host, and others are then late with what they owe each other.
    pub fn lower_priority(&self) -> Result<(), MachineError> {
        let files = |source| MachineError::Files {
            name: self.name.clone(),
            what: "its threads cannot be listed".into(),
            source,
        };
        let folder = format!("/proc/{}/task", self.pid());
        let tasks = std::fs::read_dir(folder).and_then(|tasks| tasks.collect::<Result<Vec<_>, _>>());
        let threads = tasks.map_err(files)?.into_iter().map(|task| task.file_name());
        let command = Command::new("renice").args(["-n", "10", "-p"]).args(threads);
        System.run(&command).map_err(|source| MachineError::Start { name: self.name.clone(), source })?;
        Ok(())
    }

    /// QEMU's process ID.
    pub fn pid(&self) -> u32 {
        self.qemu.id()
    }

    /// The harness's shell in it; there only when its [`Spec`] asked for it.
    pub fn shell(&self) -> Shell {
        Shell::new(&self.places.shell)
    }

    /// The other end of its serial line, to type on; there only when its [`Spec`] asked for it. What it says comes here
    /// and to [`Machine::serial`].
    pub fn line(&self) -> std::io::Result<std::os::unix::net::UnixStream> {
        std::os::unix::net::UnixStream::connect(&self.places.line)
    }

    /// Carries out a QMP command.
    pub fn qmp(&mut self, command: &str, arguments: Value) -> Result<Value, MachineError> {
        let name = self.name.clone();
        let gone =
            || QmpError::Socket { command: command.into(), source: std::io::ErrorKind::NotConnected.into() };
        let answer = self.qmp.as_mut().ok_or_else(gone).and_then(|qmp| qmp.execute(command, arguments));
        answer.map_err(|source| MachineError::Qmp { name, source })
    }

    /// Waits until `ready` returns something; ends early when QEMU does or a fatal line is said.
    pub fn wait<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut ready: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, MachineError> {
        let mut notice = Notice::new(what, deadline);
        let waited = until(deadline, LOOK, || {
            notice.tick();
            if let Some(found) = ready(self) {
                return Some(Ok(found));
            }
            self.trouble(what).map(Err)
        });
        waited.unwrap_or_else(|| {
            self.screenshot();
            let (name, what, serial) = (self.name.clone(), what.into(), self.serial.tail());
            Err(MachineError::Late { name, what, after: deadline, serial, artefacts: self.folder.clone() })
        })
    }

    /// Waits for a serial line that contains `text`, and returns it.
    pub fn wait_for(&mut self, text: &str, deadline: Duration) -> Result<String, MachineError> {
        self.wait(&format!("line with \"{text}\""), deadline, |machine| {
            machine.serial.next(|line| line.contains(text).then(|| line.to_owned()))
        })
    }

    /// Waits until QEMU has ended by itself: the machine powered off or rebooted.
    pub fn wait_off(&mut self, deadline: Duration) -> Result<(), MachineError> {
        let ended = until(deadline, LOOK, || self.qemu.try_wait().ok().flatten());
        if ended.is_some() {
            return Ok(());
        }
        self.screenshot();
        let (name, what, serial) = (self.name.clone(), "power-off".into(), self.serial.tail());
        Err(MachineError::Late { name, what, after: deadline, serial, artefacts: self.folder.clone() })
    }

    /// Whether QEMU still runs.
    pub fn is_on(&mut self) -> bool {
        matches!(self.qemu.try_wait(), Ok(None))
    }

    /// Cuts the power: nothing in the machine is told.
    pub fn cut_power(&mut self) {
        self.kill();
    }

    /// From now on a reboot starts the machine again by itself, as on a desk; otherwise it ends QEMU.
    pub fn goes_on_after_reboots(&mut self) -> Result<(), MachineError> {
        self.qmp("set-action", json!({"reboot": "reset"})).map(drop)
    }

    /// A watchdog that nobody feeds resets the machine from now on, as hardware does.
    pub fn obeys_its_watchdog(&mut self) -> Result<(), MachineError> {
        self.qmp("set-action", json!({"watchdog": "reset"})).map(drop)
    }

    /// Makes `port` of the address `guest` in the machine's network reachable from this machine, at the port that it gives.
    /// Only for a machine behind a [`crate::spec::Lan::Gateway`].
    pub fn forward(&mut self, guest: std::net::Ipv4Addr, port: u16) -> Result<u16, MachineError> {
        let name = self.name.clone();
        let failed = |what: String, source| MachineError::Files { name, what, source };
        let host = match crate::ports::free_port() {
            Ok(port) => port,
            Err(source) => return Err(failed("no free port".into(), source)),
        };
        let line = format!("hostfwd_add user tcp:127.0.0.1:{host}-{guest}:{port}");
        // HMP prints what is wrong, and nothing otherwise.
        let said = self.qmp("human-monitor-command", json!({"command-line": line}))?;
        match said.as_str() {
            None | Some("") => Ok(host),
            Some(said) => Err(failed(format!("{line}: {said}"), std::io::ErrorKind::Other.into())),
        }
    }

    /// Pulls the cable of its first NIC, or plugs it in again: the machine sees its link go down.
    pub fn set_link(&mut self, is_up: bool) -> Result<(), MachineError> {
        self.qmp("set_link", json!({"name": "nic", "up": is_up})).map(drop)
    }

    /// Presses the power button.
    pub fn press_power(&mut self) -> Result<(), MachineError> {
        self.qmp("system_powerdown", json!({})).map(drop)
    }

    /// Plugs `disk` in, as a SCSI disk whatever its bus says. `wwn`, if given, is its world-wide name.
    pub fn plug(&mut self, disk: &Disk, wwn: Option<u64>) -> Result<(), MachineError> {
        let node = format!("plug-{}", disk.serial);
        let format = if disk.format == Format::Raw { "raw" } else { "qcow2" };
        let file = json!({"driver": "file", "filename": disk.path, "discard": "unmap"});
        self.qmp(
            "blockdev-add",
            json!({
                "driver": format, "node-name": node, "discard": "unmap", "file": file,
                "cache": {"no-flush": true}
            }),
        )?;
        let mut device = json!({
            "driver": "scsi-hd", "bus": "hotplug.0", "id": node, "drive": node, "serial": disk.serial
        });
        if let Some(wwn) = wwn {
            device["wwn"] = json!(wwn);
        }
        self.qmp("device_add", device).map(drop)
    }

    /// Pulls out the disk that [`Machine::plug`] plugged in under this serial number; the machine is not asked.
    pub fn pull(&mut self, serial: &str) -> Result<(), MachineError> {
        let node = format!("plug-{serial}");
        self.qmp("device_del", json!({"id": node}))?;
        // The disk's file is released once the device is gone, which may take a moment.
        self.wait("disk pulled out", START_DEADLINE, |machine| {
            machine.qmp("blockdev-del", json!({"node-name": node})).ok()
        })?;
        Ok(())
    }

    /// Writes the state of the running machine to `file` and switches it off. Its disks, which must not be written
    /// any more (use overlays), and this file are what [`Spec::restore`] continues from.
    pub fn save(mut self, file: &Path) -> Result<(), MachineError> {
        self.qmp("stop", json!({}))?;
        self.qmp("migrate-set-parameters", json!({"max-bandwidth": 0}))?;
        self.qmp("migrate", json!({"uri": format!("file:{}", file.display())}))?;
        let status = self.wait("saved state", STATE_DEADLINE, |machine| {
            let answer = machine.qmp("query-migrate", json!({})).ok()?;
            answer["status"]
                .as_str()
                .filter(|status| ["completed", "failed"].contains(status))
                .map(str::to_owned)
        })?;
        if status != "completed" {
            let what = format!("its state cannot be saved to {}", file.display());
            let source = std::io::Error::other("migration failed");
            return Err(MachineError::Files { name: self.name.clone(), what, source });
        }
        self.qmp("quit", json!({}))?;
        self.wait_off(START_DEADLINE)
    }

    /// Waits until somebody ends QEMU: for an operator who plays with the machine.
    pub fn wait_until_off(mut self) -> std::io::Result<()> {
        self.qemu.wait().map(drop)
    }

    /// A picture of its screen, beside its logs, as far as QEMU is able to.
    pub fn screenshot(&mut self) {
        let file = self.folder.join("screen.png");
        // Only an aid: a machine without a picture is still judged by what it said.
        drop(self.qmp("screendump", json!({"filename": file, "format": "png"})));
    }

    fn status(&mut self) -> Option<String> {
        self.qmp("query-status", json!({})).ok()?["status"].as_str().map(str::to_owned)
    }

    fn trouble(&mut self, what: &str) -> Option<MachineError> {
        let (name, what, artefacts) = (self.name.clone(), what.to_owned(), self.folder.clone());
        let (fatal, earlier) = (self.fatal.clone(), self.earlier);
        let said: Vec<String> = self.serial.lines().iter().skip(earlier).cloned().collect();
        let at = said.iter().position(|line| fatal.iter().any(|text| line.contains(text)));
        // Reason and remedy follow the line, if they were said in one go.
        let line = at
            .map(|at| said[at..].iter().take(SAID_LINES).map(String::as_str).collect::<Vec<_>>().join("\n"));
        if let Some(line) = line {
            self.screenshot();
            return Some(MachineError::Said { name, what, line, artefacts });
        }
        if self.is_on() {
            return None;
        }
        let said = std::fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default();
        Some(MachineError::Ended { name, what, said, serial: self.serial.tail(), artefacts })
    }

    /// An error here means that QEMU is gone already.
    fn kill(&mut self) {
        drop(self.qemu.kill());
        drop(self.qemu.wait());
        drop(self.sockets.take());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}
