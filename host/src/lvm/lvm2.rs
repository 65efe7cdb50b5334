//! LVM itself, one command a method.
//!
//! Why here: how a command is said stands once. Route in: [`Lvm`]. Route out: the program `lvm`.

use super::{DEADLINE, Groups, Lvm, LvmError, LvmReport, THIN_POOL, ThinSize, Volume, report};
use crate::run::{Command, Output, Run};
use crate::transient::{TransientUnit, TransientUnits};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Nothing is remembered on a root that does not change, no other program watches or polls, and a device is called as
/// the kernel calls it. A pool that is full says so at once (docs/decisions/0007): lvcreate takes that as a setting only,
/// its option for it is refused with `--type thin-pool`. A power cut leaks blocks of a pool; thin_check takes them back only
/// when it is told to, and the pool would stay away otherwise (thin_check(8)).
const CONFIG: &str = "devices { use_devicesfile=0 hints=\"none\" scan_lvs=0 preferred_names=[\"^/dev/nvme\",\"^/dev/sd\",\"^/dev/vd\"] } \
                      backup { backup=0 archive=0 } \
                      global { locking_dir=\"/run/sheaf/lvm\" event_activation=0 use_lvmpolld=0 thin_check_options=[\"-q\",\"--auto-repair\"] } \
                      activation { monitoring=0 error_when_full=1 }";

/// The node's LVM.
pub struct Lvm2 {
    /// For reports: killing one does no harm.
    run: Arc<dyn Run>,
    /// For changes: one that has begun comes to its end, whatever becomes of the agent. A change that is killed leaves
    /// half-written metadata and suspended devices.
    units: Arc<dyn TransientUnits>,
    devices: Mutex<BTreeMap<String, Vec<PathBuf>>>,
}

impl Lvm2 {
    /// One that reports through `run` and changes through `units`.
    pub fn new(run: Arc<dyn Run>, units: Arc<dyn TransientUnits>) -> Self {
        Self { run, units, devices: Mutex::default() }
    }

    /// `lvm NAME` over the devices of `group` and `more`.
    fn command(&self, name: &str, group: &str, more: Option<&Path>) -> Result<Command, LvmError> {
        let known = self.devices();
        let devices = known.get(group).ok_or_else(|| LvmError::Unknown(group.to_owned()))?;
        Ok(on(command(name), devices.iter().map(PathBuf::as_path).chain(more)))
    }

    fn report(&self, command: Command) -> Result<Output, LvmError> {
        Ok(self.run.run(&command)?)
    }

    fn apply(&self, command: &Command) -> Result<(), LvmError> {
        let unit = TransientUnit { name: "sheaf-lvm".into(), ..TransientUnit::default() };
        self.units.run_in(&unit, command)?;
        Ok(())
    }

    /// Runs `lvm NAME ARGS` over the group's devices.
    fn change<S: AsRef<std::ffi::OsStr>>(&self, name: &str, group: &str, args: &[S]) -> Result<(), LvmError> {
        self.apply(&self.command(name, group, None)?.args(args))
    }

    /// `pvmove` in the background: it leaves a process behind that drives the move to its end.
    fn start_move(&self, group: &str, device: Option<&Path>) -> Result<(), LvmError> {
        let command =
            self.command("pvmove", group, None)?.args(["--background", "--interval", "1"]).args(device);
        let unit =
            TransientUnit { name: "sheaf-pvmove".into(), leaves_processes: true, ..TransientUnit::default() };
        self.units.run_in(&unit, &command)?;
        Ok(())
    }

    /// Changes the thin pool or a volume: `GROUP/NAME` comes last.
    fn change_volume(&self, name: &str, group: &str, volume: &str, args: &[String]) -> Result<(), LvmError> {
        let command = self.command(name, group, None)?.args(args).arg(format!("{group}/{volume}"));
        self.apply(&command)
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<String, Vec<PathBuf>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `command` over `devices` and nothing else.
fn on<'a>(command: Command, devices: impl Iterator<Item = &'a Path>) -> Command {
    let list: Vec<String> = devices.map(|device| device.display().to_string()).collect();
    command.arg("--devices").arg(list.join(","))
}

fn command(name: &str) -> Command {
    Command::new("lvm")
        .arg(name)
        .arg("--config")
        .arg(CONFIG)
        // What the agent has open is its own matter.
        .env("LVM_SUPPRESS_FD_WARNINGS", "1")
        .env("LC_ALL", "C")
        .deadline(DEADLINE)
}

/// A report as JSON, all numbers in bytes.
fn report_of(command: Command, columns: &str) -> Command {
    command.args(["--reportformat", "json", "--units", "b", "--nosuffix", "-o", columns])
}

fn tag_arguments(option: &str, tags: &[&str]) -> Vec<String> {
    tags.iter().flat_map(|tag| [option.to_owned(), (*tag).to_owned()]).collect()
}

impl LvmReport for Lvm2 {
    fn groups(&self) -> Result<Groups, LvmError> {
        report::groups(&self.report(report_of(command("pvs"), report::MEMBER_COLUMNS))?.stdout)
    }

    fn confined(&self, group: &str) -> Vec<PathBuf> {
        self.devices().get(group).cloned().unwrap_or_default()
    }

    fn volumes(&self, group: &str) -> Result<Vec<Volume>, LvmError> {
        match self.confined(group) {
            none if none.is_empty() => Err(LvmError::Unknown(group.to_owned())),
            devices => self.volumes_on(group, &devices),
        }
    }

    fn volumes_on(&self, group: &str, devices: &[PathBuf]) -> Result<Vec<Volume>, LvmError> {
        let command = on(command("lvs"), devices.iter().map(PathBuf::as_path)).arg("--all");
        report::volumes(&self.report(report_of(command, report::VOLUME_COLUMNS).arg(group))?.stdout)
    }
}

impl Lvm for Lvm2 {
    fn confine(&self, group: &str, devices: &[PathBuf]) {
        match devices {
            [] => drop(self.devices().remove(group)),
            _ => drop(self.devices().insert(group.to_owned(), devices.to_vec())),
        }
    }

    fn create_group(
        &self,
        group: &str,
        device: &Path,
        tags: &[&str],
        device_tags: &[&str],
    ) -> Result<(), LvmError> {
        self.confine(group, &[device.to_owned()]);
        let create = self
            .command("vgcreate", group, None)?
            // Only the agent makes devices of its volumes.
            .args([
                "--yes",
                "--dataalignment",
                "1m",
                "--setautoactivation",
                "n",
                "--physicalextentsize",
                "4m",
            ])
            .args(tag_arguments("--addtag", tags))
            .arg(group)
            .arg(device);
        self.apply(&create)?;
        self.tag_member(group, device, device_tags)
    }

    fn add_member(&self, group: &str, device: &Path, tags: &[&str]) -> Result<(), LvmError> {
        let extend = self.command("vgextend", group, Some(device))?.args(["--dataalignment", "1m"]);
        self.apply(&extend.arg(group).arg(device))?;
        self.devices().entry(group.to_owned()).or_default().push(device.to_owned());
        self.tag_member(group, device, tags)
    }

    fn tag_member(&self, group: &str, device: &Path, tags: &[&str]) -> Result<(), LvmError> {
        let change = self.command("pvchange", group, None)?.args(tag_arguments("--addtag", tags)).arg(device);
        self.apply(&change)
    }

    fn remove_member(&self, group: &str, device: &Path) -> Result<(), LvmError> {
        let path = device.display().to_string();
        self.change("vgreduce", group, &[group, &path])?;
        self.change("pvremove", group, &["--yes", &path])?;
        self.devices().entry(group.to_owned()).or_default().retain(|member| member != device);
        Ok(())
    }

    fn forget_missing(&self, group: &str) -> Result<(), LvmError> {
        // Refused by LVM while a volume has data there.
        self.change("vgreduce", group, &["--removemissing", group])
    }

    fn restore_member(&self, group: &str, device: &Path) -> Result<(), LvmError> {
        self.change("vgextend", group, &["--restoremissing", group, &device.display().to_string()])
    }

    fn set_allocatable(&self, group: &str, device: &Path, yes: bool) -> Result<(), LvmError> {
        let word = if yes { "y" } else { "n" };
        self.change("pvchange", group, &["--allocatable", word, &device.display().to_string()])
    }

    fn evacuate(&self, group: &str, device: &Path) -> Result<(), LvmError> {
        self.start_move(group, Some(device))
    }

    fn resume_moves(&self, group: &str) -> Result<(), LvmError> {
        self.start_move(group, None)
    }

    fn abort_moves(&self, group: &str) -> Result<(), LvmError> {
        self.change("pvmove", group, &["--abort"])
    }

    fn create_thin_pool(&self, group: &str, size: ThinSize) -> Result<(), LvmError> {
        let bytes = |bytes: u64| format!("{bytes}b");
        self.change(
            "lvcreate",
            group,
            &[
                "--yes".to_owned(),
                "--type".into(),
                "thin-pool".into(),
                "--size".into(),
                bytes(size.data),
                "--poolmetadatasize".into(),
                bytes(size.metadata),
                "--chunksize".into(),
                bytes(size.chunk),
                // What one volume wrote must never be read by the next.
                "--zero".into(),
                "y".into(),
                "--discards".into(),
                "passdown".into(),
                "--poolmetadataspare".into(),
                "y".into(),
                "--name".into(),
                THIN_POOL.into(),
                group.into(),
            ],
        )
    }

    fn grow_data(&self, group: &str, bytes: u64) -> Result<(), LvmError> {
        self.change_volume("lvextend", group, THIN_POOL, &["--size".into(), format!("{bytes}b")])
    }

    fn grow_metadata(&self, group: &str, bytes: u64) -> Result<(), LvmError> {
        self.change_volume("lvextend", group, THIN_POOL, &["--poolmetadatasize".into(), format!("{bytes}b")])
    }

    fn activate(&self, group: &str) -> Result<(), LvmError> {
        self.change("vgchange", group, &["--activate", "y", "--ignoreactivationskip", group])
    }

    fn deactivate(&self, group: &str) -> Result<(), LvmError> {
        self.change("vgchange", group, &["--activate", "n", group])
    }

    fn create_volume(&self, group: &str, name: &str, bytes: u64, tags: &[&str]) -> Result<(), LvmError> {
        let create = self
            .command("lvcreate", group, None)?
            .args(["--yes", "--type", "thin", "--wipesignatures", "n", "--virtualsize"])
            .arg(format!("{bytes}b"))
            .args(tag_arguments("--addtag", tags))
            .args(["--name", name, "--thinpool", THIN_POOL, group]);
        self.apply(&create)
    }

    fn snapshot(&self, group: &str, origin: &str, name: &str, tags: &[&str]) -> Result<(), LvmError> {
        let create = self
            .command("lvcreate", group, None)?
            // Of a thin volume that is a snapshot; `--snapshot` would ask for the target of thick ones first.
            .args(["--yes", "--type", "thin", "--setactivationskip", "n", "--activate", "y"])
            .args(tag_arguments("--addtag", tags))
            .args(["--name", name])
            .arg(format!("{group}/{origin}"));
        self.apply(&create)
    }

    fn extend_volume(&self, group: &str, name: &str, bytes: u64) -> Result<(), LvmError> {
        let has =
            self.volumes(group)?.into_iter().find(|volume| volume.name == name).map(|volume| volume.size);
        if has.is_some_and(|has| has >= bytes) {
            return Ok(());
        }
        self.change_volume("lvextend", group, name, &["--size".into(), format!("{bytes}b")])
    }

    fn remove_volume(&self, group: &str, name: &str) -> Result<(), LvmError> {
        self.change_volume("lvremove", group, name, &["--yes".into()])
    }

    fn retag(&self, group: &str, name: &str, add: &[&str], remove: &[&str]) -> Result<(), LvmError> {
        let mut args = tag_arguments("--addtag", add);
        args.extend(tag_arguments("--deltag", remove));
        self.change_volume("lvchange", group, name, &args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{FakeRun, FakeTransientUnits};

    fn lvm(run: &Arc<FakeRun>) -> (Lvm2, Arc<FakeTransientUnits>) {
        let units = Arc::new(FakeTransientUnits::over(run.clone()));
        (Lvm2::new(run.clone(), units.clone()), units)
    }

    /// What was run, without what every command says.
    fn asked(run: &FakeRun) -> Vec<String> {
        let config = format!(" --config '{CONFIG}'");
        run.asked().iter().map(|text| text.replace(&config, "")).collect()
    }

    #[test]
    fn nothing_is_changed_in_a_group_whose_devices_were_not_told() {
        let run = Arc::new(FakeRun::default());
        let error = lvm(&run).0.create_volume("sheaf-fast", "pvc-1", 1, &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the devices of volume group sheaf-fast have not been found on this node"
        );
        assert_eq!(asked(&run), [""; 0]);
    }

    #[test]
    fn every_change_names_the_groups_devices_and_a_joining_one_besides() {
        let run = Arc::new(FakeRun::default());
        let (lvm, _) = lvm(&run);
        lvm.create_group("sheaf-fast", Path::new("/dev/sdb"), &["sheaf.node=n1"], &["sheaf.device=a"])
            .unwrap();
        lvm.add_member("sheaf-fast", Path::new("/dev/sdc"), &["sheaf.device=c"]).unwrap();
        lvm.create_volume(
            "sheaf-fast",
            "pvc-1",
            1 << 30,
            &[super::super::VOLUME_TAG, super::super::INCOMPLETE_TAG],
        )
        .unwrap();
        lvm.retag("sheaf-fast", "pvc-1", &[], &[super::super::INCOMPLETE_TAG]).unwrap();
        lvm.remove_member("sheaf-fast", Path::new("/dev/sdb")).unwrap();
        lvm.activate("sheaf-fast").unwrap();
        assert_eq!(
            asked(&run),
            [
                "lvm vgcreate --devices /dev/sdb --yes --dataalignment 1m --setautoactivation n --physicalextentsize 4m \
                 --addtag sheaf.node=n1 sheaf-fast /dev/sdb",
                "lvm pvchange --devices /dev/sdb --addtag sheaf.device=a /dev/sdb",
                "lvm vgextend --devices /dev/sdb,/dev/sdc --dataalignment 1m sheaf-fast /dev/sdc",
                "lvm pvchange --devices /dev/sdb,/dev/sdc --addtag sheaf.device=c /dev/sdc",
                "lvm lvcreate --devices /dev/sdb,/dev/sdc --yes --type thin --wipesignatures n --virtualsize \
                 1073741824b --addtag sheaf.volume --addtag sheaf.incomplete --name pvc-1 --thinpool thin sheaf-fast",
                "lvm lvchange --devices /dev/sdb,/dev/sdc --deltag sheaf.incomplete sheaf-fast/pvc-1",
                "lvm vgreduce --devices /dev/sdb,/dev/sdc sheaf-fast /dev/sdb",
                "lvm pvremove --devices /dev/sdb,/dev/sdc --yes /dev/sdb",
                "lvm vgchange --devices /dev/sdc --activate y --ignoreactivationskip sheaf-fast",
            ]
        );
    }

    #[test]
    fn what_changes_metadata_runs_outside_the_agents_unit_and_what_reports_does_not() {
        let run = Arc::new(FakeRun::default().prints("lvm lvs", r#"{"report":[{"lv":[]}]}"#));
        let (lvm, units) = lvm(&run);
        lvm.confine("sheaf-fast", &["/dev/sdb".into()]);
        lvm.volumes("sheaf-fast").unwrap();
        assert_eq!(units.units(), []);
        lvm.remove_volume("sheaf-fast", "pvc-1").unwrap();
        lvm.evacuate("sheaf-fast", Path::new("/dev/sdb")).unwrap();
        let units: Vec<_> =
            units.units().into_iter().map(|unit| (unit.name, unit.leaves_processes)).collect();
        assert_eq!(units, [("sheaf-lvm".to_owned(), false), ("sheaf-pvmove".to_owned(), true)]);
    }
}
