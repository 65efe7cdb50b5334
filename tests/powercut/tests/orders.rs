//! The orders of installer and updater, replayed: whatever a power cut leaves of them starts the old or the new release.

mod lab;

use lab::{INSTALL, Lab, NEW, OLD, SEED, UPDATE, Update, boots};
use sheaf_powercut::model::Verdict;
use sheaf_release::boot::Slot;

#[test]
fn an_installation_that_is_cut_short_has_no_table_or_is_whole() {
    let mut lab = Lab::blank();
    lab.install(&INSTALL);
    let report = lab.report();
    assert_eq!(report.failures().collect::<Vec<_>>(), Vec::<String>::new());
    let install = report.of("install").unwrap();
    for (verdicts, end) in install.verdicts.iter().zip(&install.end) {
        assert_eq!(verdicts.keys().collect::<Vec<_>>(), ["boots 0.1.0 from slot a", "no partition table"]);
        assert_eq!(*end, boots(OLD, Slot::A));
    }
    assert!(install.distinct > 50, "{}", install.distinct);
}

#[test]
fn an_update_that_is_cut_short_starts_the_old_or_the_new_release_at_once() {
    let mut lab = Lab::installed();
    lab.update(&UPDATE);
    let report = lab.report();
    assert_eq!(report.failures().collect::<Vec<_>>(), Vec::<String>::new());
    let update = report.of("update").unwrap();
    for (verdicts, end) in update.verdicts.iter().zip(&update.end) {
        assert_eq!(
            verdicts.keys().collect::<Vec<_>>(),
            ["boots 0.1.0 from slot a", "boots 0.1.1 from slot b"]
        );
        assert_eq!(*end, boots(NEW, Slot::B));
    }
    assert!(update.states > 300 && update.distinct > 40, "{} {}", update.states, update.distinct);
}

#[test]
fn before_it_is_armed_the_old_release_starts_and_then_each_loader_takes_the_new_one() {
    for (steps, uefi, bios) in [
        (&UPDATE[..4], boots(OLD, Slot::A), boots(OLD, Slot::A)),
        (&UPDATE[..5], boots(NEW, Slot::B), boots(OLD, Slot::A)),
        (&UPDATE[..6], boots(NEW, Slot::B), boots(NEW, Slot::B)),
    ] {
        let mut lab = Lab::installed();
        lab.update(steps);
        let report = lab.report();
        assert_eq!(report.of("update").unwrap().end, [uefi, bios], "{steps:?}");
    }
}

#[test]
fn a_rename_whose_names_are_in_two_sectors_may_cost_a_bios_its_new_release_and_no_firmware_its_start() {
    let mut lab = Lab::installed();
    // The names of the UKI's last rename are not in one sector any more.
    for number in 0..4 {
        lab.esp.create(&format!("EFI/Linux/.{number}"), b"no UKI");
        lab.sync();
    }
    lab.update(&UPDATE);
    let report = lab.report();
    let update = report.of("update").unwrap();
    assert_eq!(update.end, [boots(NEW, Slot::B), boots(NEW, Slot::B)]);
    let labels: Vec<_> = update.verdicts[0].keys().collect();
    assert_eq!(labels, ["boots 0.1.0 from slot a", "boots 0.1.1 from slot b"], "systemd-boot");
    let labels: Vec<_> = update.verdicts[1].keys().collect();
    assert_eq!(labels, ["boots 0.1.0 from slot a", "boots 0.1.1 from slot b", "loses tries"], "GRUB");
    let why = "GRUB starts slot b: grub/b.cfg finds no UKI of 0.1.1";
    assert!(report.failures().all(|failure| failure.contains(why)));
}

#[test]
fn the_same_seed_gives_the_same_report_and_an_example_is_what_its_name_says() {
    let mut lab = Lab::installed();
    lab.update(&UPDATE);
    let first = lab.report().markdown();
    lab.judged(|report, replay| {
        assert_eq!(report.markdown(), first);
        let update = report.of("update").unwrap();
        assert_eq!(update.examples.len(), 2);
        for (label, name) in &update.examples {
            let [uefi, _] = replay.judge(&replay.state(name).unwrap()).unwrap();
            assert_eq!(uefi.label(), *label, "{name}");
        }
    });
}

#[test]
fn a_state_that_fails_is_made_again_by_its_name() {
    let mut lab = Lab::installed();
    lab.update(&[Update::Disarm, Update::Tree, Update::Uki, Update::Root]);
    lab.judged(|report, replay| {
        assert!(report.failed() > 0);
        for failure in &report.of("update").unwrap().failures {
            let name = failure.state.to_string().parse().unwrap();
            let verdicts = replay.judge(&replay.state(&name).unwrap()).unwrap();
            let again = verdicts.iter().find_map(|verdict| verdict.failure(false));
            assert_eq!(again.as_deref(), Some(failure.why.as_str()), "{name}, seed {SEED}");
        }
    });
}

#[test]
fn a_state_of_another_recording_is_refused() {
    let mut lab = Lab::blank();
    lab.install(&INSTALL);
    lab.judged(|_, replay| {
        let error = replay.state(&"boot/3".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(error, "there is no recording boot; there are: install");
    });
}

#[test]
fn a_disk_that_was_never_installed_is_refused() {
    use sheaf_powercut::log::{Log, recorder::Recorder};
    use sheaf_powercut::replay::{Phase, Recording, Replay};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    Recorder::create(&path).unwrap().write(8, &[1; 512]).unwrap();
    let (recordings, logs) =
        ([Recording { name: "install".into(), phase: Phase::Installation }], [Log::open(&path).unwrap()]);
    let error = Replay::new(&recordings, &logs, &[], 1 << 20).unwrap_err().to_string();
    assert_eq!(
        error,
        "the disk that the recording ends with is not a node's: there is no header in sector 1"
    );
}

#[test]
fn no_table_is_a_failure_once_a_node_is_installed() {
    assert_eq!(Verdict::NoTable.failure(true), None);
    assert_eq!(Verdict::NoTable.failure(false).as_deref(), Some("the protective MBR is gone"));
}
