//! Mistakes in the orders of installer and updater, each of which the rig has to find, with its reason.
//!
//! Why: a rig that finds nothing may be one that looks at nothing.

mod lab;

use lab::{INSTALL, Install, Lab, Update, temporary};
use sheaf_powercut::report::Report;
use sheaf_release::boot::{self, Slot};

/// A failure for `firmware` whose reason has `why` in it; and it is in the recording `recording`.
#[track_caller]
fn finds(report: &Report, recording: &str, firmware: &str, why: &str) {
    let failures: Vec<String> = report.failures().collect();
    let is_found = failures.iter().any(|failure| {
        failure.starts_with(&format!("{firmware}, state {recording}/")) && failure.contains(why)
    });
    assert!(is_found, "{firmware}: {why}: {failures:#?}");
}

#[test]
fn a_uki_that_is_written_before_its_slot_is_complete() {
    let mut lab = Lab::installed();
    lab.update(&[Update::Disarm, Update::Tree, Update::Uki, Update::Root, Update::Entry]);
    let why = "systemd-boot starts sheaf_0.1.1+3.efi: no slot has a root of 0.1.1";
    let report = lab.report();
    assert!(report.failures().all(|failure| failure.starts_with("UEFI")), "GRUB still passes over the slot");
    finds(&report, "update", "UEFI", "slot b of 0.1.1: 24 blocks of its root and 0 of its tree");
    assert!(report.failures().all(|failure| !failure.contains(why)), "the tree has its UUID already");
}

#[test]
fn variables_that_are_written_before_the_slot_is_complete() {
    let mut lab = Lab::installed();
    lab.update(&[
        Update::Disarm,
        Update::Entry,
        Update::Environment,
        Update::Tree,
        Update::Root,
        Update::Uki,
    ]);
    finds(&lab.report(), "update", "BIOS", "GRUB starts slot b: grub/b.cfg finds no UKI of 0.1.1");
}

#[test]
fn two_writes_of_the_installation_that_are_swapped() {
    let mut lab = Lab::blank();
    let mut steps = INSTALL;
    steps.swap(6, 7);
    assert_eq!(steps[6..], [Install::Mbr, Install::Primary]);
    lab.install(&steps);
    let report = lab.report();
    let why = "the primary partition table cannot be used: there is no header in sector 1";
    finds(&report, "install", "UEFI", why);
    finds(&report, "install", "BIOS", why);
    finds(&report, "install", "UEFI", "the checksum of its entries does not match");
}

#[test]
fn a_flush_that_is_missing_before_the_slot_is_armed() {
    let mut lab = Lab::installed();
    lab.update(&[Update::Disarm, Update::Tree, Update::Entry]);
    // The root is written in its place in the order, but nothing waits for it, nor for the UKI.
    lab.root(Slot::B, &lab.new.root.clone());
    let uki = "EFI/Linux/sheaf_0.1.1+3.efi";
    lab.esp.create(&temporary(uki), &lab.new.uki.clone());
    lab.esp.rename(&temporary(uki), uki);
    lab.sync();
    lab.update(&[Update::Environment]);
    finds(
        &lab.report(),
        "update",
        "UEFI",
        "blocks of its root and 0 of its tree are not those of the release",
    );
}

#[test]
fn a_rename_whose_data_is_not_flushed() {
    let mut lab = Lab::installed();
    lab.update(&[Update::Disarm, Update::Tree, Update::Root, Update::Entry]);
    let uki = "EFI/Linux/sheaf_0.1.1+3.efi";
    lab.esp.create(&temporary(uki), &lab.new.uki.clone());
    lab.esp.rename(&temporary(uki), uki);
    lab.write_folders();
    lab.flush();
    lab.write_data();
    lab.flush();
    let why = "EFI/Linux/sheaf_0.1.1+3.efi is not the UKI of a release: it differs from byte 0 on";
    finds(&lab.report(), "update", "UEFI", why);
}

#[test]
fn grubs_variables_that_are_written_before_the_script_of_the_slot() {
    let mut lab = Lab::installed();
    lab.update(&[
        Update::Disarm,
        Update::Tree,
        Update::Root,
        Update::Uki,
        Update::Environment,
        Update::Entry,
    ]);
    let report = lab.report();
    finds(&report, "update", "BIOS", "GRUB starts slot b: there is no grub/b.cfg");
    assert!(report.failures().all(|failure| failure.starts_with("BIOS")), "systemd-boot reads neither");
}

#[test]
fn a_backup_of_the_table_that_is_never_written() {
    let mut lab = Lab::blank();
    let steps: Vec<Install> = INSTALL.into_iter().filter(|step| *step != Install::Backup).collect();
    lab.install(&steps);
    let report = lab.report();
    for firmware in ["UEFI", "BIOS"] {
        finds(
            &report,
            "install",
            firmware,
            "the backup of the partition table cannot be used: there is no header",
        );
    }
}

#[test]
fn an_old_uki_that_is_removed_before_the_new_one_is_there() {
    let mut lab = Lab::installed();
    lab.update(&[Update::Disarm, Update::Tree, Update::Root, Update::Entry]);
    lab.esp.remove("EFI/Linux/sheaf_0.1.0.efi");
    lab.sync();
    lab.update(&[Update::Uki, Update::Environment]);
    let report = lab.report();
    finds(&report, "update", "UEFI", "systemd-boot finds no UKI in EFI/Linux");
    finds(&report, "update", "BIOS", "GRUB starts slot a: grub/a.cfg finds no UKI of 0.1.0");
}

#[test]
fn a_running_slot_that_is_written_to() {
    let mut lab = Lab::installed();
    lab.root(Slot::A, &lab.new.root.clone());
    lab.flush();
    let report = lab.report();
    finds(&report, "update", "UEFI", "nothing runs after 8 boots: systemd-boot starts sheaf_0.1.0.efi");
    finds(&report, "update", "BIOS", "nothing runs after 8 boots: GRUB starts slot a");
}

#[test]
fn a_running_slot_that_is_written_to_starts_the_recovery_and_nothing_where_that_is_missing() {
    let report = |missing: &str| {
        let mut lab = Lab::blank();
        lab.install(&INSTALL);
        lab.add_recovery(missing);
        lab.begin_update();
        lab.root(Slot::A, &lab.new.root.clone());
        lab.flush();
        lab.report()
    };
    let whole = report("");
    finds(
        &whole,
        "update",
        "UEFI",
        "it starts the recovery: systemd-boot starts sheaf_0.1.0.efi: slot a of 0.1.0",
    );
    finds(&whole, "update", "BIOS", "it starts the recovery: GRUB starts slot a: slot a of 0.1.0");
    assert!(
        whole.failures().all(|failure| failure.contains("it starts the recovery")),
        "no state boots nothing"
    );
    let nothing = "nothing runs after 8 boots";
    for (missing, firmwares) in [
        (boot::RECOVERY, &["UEFI", "BIOS"][..]),
        (boot::RECOVERY_ENTRY, &["UEFI"]),
        (boot::RECOVERY_SCRIPT, &["BIOS"]),
    ] {
        let report = report(missing);
        firmwares.iter().for_each(|firmware| finds(&report, "update", firmware, nothing));
    }
}
