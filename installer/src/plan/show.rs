//! A plan as people read it: what `--dry-run` prints and an installation starts with.

use super::{InstallPlan, Step};
use sheaf_config::node::Then;
use sheaf_host::human::{binary, decimal};
use std::fmt;

impl fmt::Display for InstallPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Install {} on {} as node \"{}\"",
            self.release,
            self.disk.path.display(),
            self.hostname
        )?;
        let of = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
        writeln!(
            f,
            "  disk       {}, model {}, serial {}",
            decimal(self.disk.size),
            of(&self.disk.model),
            of(&self.disk.serial)
        )?;
        match self.disk.erased.is_empty() {
            true => writeln!(f, "  erased     nothing: the disk is empty")?,
            false => writeln!(f, "  erased     {}", self.disk.erased.join(", "))?,
        }
        if let Some(kept) = &self.disk.kept {
            writeln!(f, "  kept       {kept}")?;
        }
        for path in &self.data_disks {
            writeln!(f, "  data disk  {}", path.display())?;
        }
        for bridge in &self.network {
            writeln!(f, "  bridge     {} with {}", bridge.bridge, bridge.ports.join(", "))?;
        }
        for partition in &self.layout.partitions {
            writeln!(
                f,
                "  partition  {:2} {:<9} {:>9} at {}",
                partition.number,
                partition.name,
                binary(partition.size),
                binary(partition.offset)
            )?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "  step       {:2} {step}", number + 1)?;
        }
        match self.then {
            Then::Reboot => writeln!(f, "  then       reboot"),
            Then::PowerOff => writeln!(f, "  then       power off"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CheckMedium { payloads, files } => {
                let size: u64 = payloads.iter().map(|p| p.size).chain(files.iter().map(|f| f.size)).sum();
                write!(f, "check {} of the medium before anything is written", decimal(size))
            }
            Self::CheckData { .. } => write!(f, "check that data holds a file system to keep"),
            Self::Erase { ranges } => {
                let size = ranges.iter().map(|range| range.length).sum();
                write!(f, "erase the table and old signatures ({} in {} places)", binary(size), ranges.len())
            }
            Self::EmptyDisk { path, erased, .. } => {
                write!(f, "empty {} of {}", path.display(), erased.join(", "))
            }
            Self::WriteImage { payload, .. } => {
                write!(f, "write {} ({})", payload.file, decimal(payload.raw_size))
            }
            Self::VerifyImage { payload, .. } => write!(f, "read {} back and compare", payload.file),
            Self::MakeEsp { files, arguments, .. } => {
                let names: Vec<_> = files.iter().map(|(_, path)| path.as_str()).collect();
                write!(f, "make esp with {}", names.join(", "))?;
                match arguments.is_empty() {
                    true => Ok(()),
                    false => write!(f, ", kernel arguments {}", arguments.join(" ")),
                }
            }
            Self::MakeState { .. } => write!(f, "make state with node.toml"),
            Self::MakeData { images, .. } if images.is_empty() => write!(f, "make data"),
            Self::MakeData { images, .. } => {
                let names: Vec<_> = images.iter().map(|(_, name)| name.as_str()).collect();
                write!(f, "make data with images {}", names.join(", "))
            }
            Self::WriteBios { .. } => write!(f, "write the boot loader for BIOS"),
            Self::WriteTable { boot: Some(_) } => write!(f, "write the partition table and the MBR's code"),
            Self::WriteTable { boot: None } => write!(f, "write the partition table"),
            Self::PreferDisk { .. } => write!(f, "make the disk the firmware's first choice"),
        }
    }
}
