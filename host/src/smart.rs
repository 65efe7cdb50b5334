//! What a disk says of its own health: SMART, asked by `smartctl --json`.
//!
//! Why here: a program asks the disk. Route in: a device that is there. Route out: [`Health`], in the few words that
//! matter; a disk that says nothing, as virtual ones, is [`Verdict::Unknown`].

use crate::run::{Command, Run, RunError};
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;

/// A disk that does not answer must not hold up the others forever.
const DEADLINE: Duration = Duration::from_secs(30);
/// Sectors that could not be read and wait to be replaced.
const PENDING_SECTORS: u32 = 197;
/// Sectors that were replaced.
const REALLOCATED_SECTORS: u32 = 5;

/// Health that the disk reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, where it has not passed.
    pub reason: Option<String>,
    /// Degrees Celsius.
    pub temperature: Option<i64>,
    /// Power-on hours.
    pub power_on_hours: Option<i64>,
    /// Used part of its rated life, in percent; may pass 100.
    pub percentage_used: Option<i64>,
    /// Replaced sectors, or NVMe's media errors.
    pub media_errors: Option<i64>,
}

/// What SMART says of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It does not say.
    #[default]
    Unknown,
    /// It sees nothing wrong.
    Passed,
    /// It works, and says that it soon may not.
    Warning,
    /// It says that it fails.
    Failing,
}

/// Asks the disk `device`.
pub fn health(run: &dyn Run, device: &Path) -> Result<Health, RunError> {
    // Its exit code tells of the disk's troubles, too: what it printed counts.
    let command = Command::new("smartctl")
        .args(["--json=c", "--info", "--health", "--attributes"])
        .arg(device)
        .any_code();
    Ok(parse(&run.run(&command.deadline(DEADLINE))?.stdout))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    smart_status: Option<SmartStatus>,
    temperature: Option<Temperature>,
    power_on_time: Option<PowerOnTime>,
    nvme_smart_health_information_log: Option<NvmeLog>,
    ata_smart_attributes: Option<AtaAttributes>,
    scsi_grown_defect_list: Option<i64>,
}

#[derive(Deserialize)]
struct SmartStatus {
    passed: bool,
}

#[derive(Deserialize)]
struct Temperature {
    current: Option<i64>,
}

#[derive(Deserialize)]
struct PowerOnTime {
    hours: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NvmeLog {
    critical_warning: u32,
    percentage_used: Option<i64>,
    media_errors: Option<i64>,
}

#[derive(Deserialize)]
struct AtaAttributes {
    table: Vec<AtaAttribute>,
}

#[derive(Deserialize)]
struct AtaAttribute {
    id: u32,
    raw: Raw,
}

#[derive(Deserialize)]
struct Raw {
    value: i64,
}

/// Reads `smartctl --json`; what is not JSON says nothing.
pub fn parse(json: &[u8]) -> Health {
    let said: Document = serde_json::from_slice(json).unwrap_or_default();
    let nvme = said.nvme_smart_health_information_log.unwrap_or_default();
    let attribute = |id: u32| {
        let table = &said.ata_smart_attributes.as_ref()?.table;
        table.iter().find(|attribute| attribute.id == id).map(|attribute| attribute.raw.value)
    };
    let (verdict, reason) = match said.smart_status.map(|status| status.passed) {
        Some(false) => {
            (Verdict::Failing, Some(nvme_reason(nvme.critical_warning).unwrap_or("no reason given").into()))
        }
        passed => match (nvme_reason(nvme.critical_warning), attribute(PENDING_SECTORS)) {
            (Some(reason), _) => (Verdict::Warning, Some(reason.into())),
            (None, Some(pending)) if pending > 0 => {
                (Verdict::Warning, Some(format!("{pending} sectors could not be read")))
            }
            _ => (if passed.is_some() { Verdict::Passed } else { Verdict::Unknown }, None),
        },
    };
    Health {
        verdict,
        reason,
        temperature: said.temperature.and_then(|temperature| temperature.current),
        power_on_hours: said.power_on_time.and_then(|time| time.hours),
        percentage_used: nvme.percentage_used,
        media_errors: nvme.media_errors.or(attribute(REALLOCATED_SECTORS)).or(said.scsi_grown_defect_list),
    }
}

/// The gravest bit of NVMe's critical warning, in words.
fn nvme_reason(bits: u32) -> Option<&'static str> {
    let reasons = [
        (1 << 3, "it no longer accepts writes"),
        (1 << 2, "it is no longer reliable"),
        (1 << 0, "it is running out of spare blocks"),
        (1 << 4, "its protection against power cuts failed"),
        (1 << 5, "its persistent memory failed"),
        (1 << 1, "it is too hot or too cold"),
    ];
    reasons.iter().find(|(bit, _)| bits & bit != 0).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::FakeRun;

    #[test]
    fn an_nvme_disk_without_spare_blocks_fails_in_words() {
        let json = br#"{"smart_status":{"passed":false,"nvme":{"value":1}},"temperature":{"current":41},
            "power_on_time":{"hours":20211},"nvme_smart_health_information_log":{"critical_warning":1,
            "available_spare":3,"percentage_used":104,"media_errors":7}}"#;
        let health = parse(json);
        assert_eq!(
            (health.verdict, health.reason.as_deref()),
            (Verdict::Failing, Some("it is running out of spare blocks"))
        );
        assert_eq!((health.percentage_used, health.media_errors), (Some(104), Some(7)));
        assert_eq!((health.temperature, health.power_on_hours), (Some(41), Some(20211)));
    }

    #[test]
    fn a_sata_disk_that_passed_but_could_not_read_sectors_is_a_warning() {
        let json = br#"{"smart_status":{"passed":true},"ata_smart_attributes":{"table":[
            {"id":5,"name":"Reallocated_Sector_Ct","raw":{"value":2}},
            {"id":197,"name":"Current_Pending_Sector","raw":{"value":8}}]}}"#;
        let health = parse(json);
        assert_eq!(health.verdict, Verdict::Warning);
        assert_eq!(health.reason.as_deref(), Some("8 sectors could not be read"));
        assert_eq!(health.media_errors, Some(2));
    }

    #[test]
    fn a_virtual_disk_says_nothing_and_that_is_no_error() {
        let run = FakeRun::default()
            .prints("smartctl", r#"{"smartctl":{"exit_status":4},"device":{"type":"scsi"}}"#);
        assert_eq!(health(&run, Path::new("/dev/sda")).unwrap(), Health::default());
        assert_eq!(run.asked(), ["smartctl --json=c --info --health --attributes /dev/sda"]);
    }
}
