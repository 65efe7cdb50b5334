//! systemd-boot 257, started by firmware: which UKI it takes, and how it counts.
//!
//! Entries without a try left come last, then the newest version is first (boot_entry_compare); a counter is taken down
//! in the file's name before the entry is started (boot_entry_bump_counters). An entry that cannot be started is not
//! followed by another one: systemd-boot returns to the firmware, and the model takes it that somebody restarts the
//! machine. The recovery is listed behind UKIs with a try left and before those without: its key sorts last. A node's initrd
//! that does not get to its root takes a counter for its UKI, where it had none
//! (os-image/image/dracut/node/90sheaf/boot-failed.sh). Pure. Route in: [`Facts`]. Route out: a [`Verdict`].

use super::facts::Facts;
use super::{Boot, Loader, Verdict, settle};
use sheaf_release::version::compare;
use std::cmp::Ordering;

/// An entry, as systemd-boot sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    /// Its version: that in the UKI, of a file that is not one, that in its name.
    version: String,
    /// Tries that are left, and those that were made; none for an entry that is known to be good.
    tries: Option<(u32, u32)>,
    release: Result<usize, String>,
}

impl Entry {
    fn is_used_up(&self) -> bool {
        self.tries.is_some_and(|(left, _)| left == 0)
    }
}

/// The counter in a name: the last `+LEFT-DONE` before the end (boot_entry_parse_tries).
fn tries(name: &str) -> Option<(u32, u32)> {
    let (_, counter) = name.get(..name.len() - ".efi".len())?.rsplit_once('+')?;
    let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
    Some((left.parse().ok()?, done.parse().ok()?))
}

/// What is between the name of the system and the counter.
fn version(name: &str) -> String {
    let stem = &name[..name.len() - ".efi".len()];
    let stem = stem.rsplit_once('+').map_or(stem, |(stem, _)| stem);
    stem.split_once('_').map_or(stem, |(_, version)| version).to_owned()
}

/// The order in which entries are listed: the first is started.
fn order(one: &Entry, other: &Entry) -> Ordering {
    one.is_used_up()
        .cmp(&other.is_used_up())
        .then_with(|| compare(&other.version, &one.version))
        .then_with(|| other.name.cmp(&one.name))
}

struct SystemdBoot(Vec<Entry>);

impl Loader for SystemdBoot {
    fn boot(&mut self, facts: &Facts, _: &mut Vec<String>) -> Boot {
        self.0.sort_by(order);
        let recovery = facts.esp.as_ref().ok().and_then(|esp| esp.recovery[0].as_ref());
        let first = self.0.first_mut().filter(|entry| recovery.is_none() || !entry.is_used_up());
        let entry = match (first, recovery) {
            (Some(entry), _) => entry,
            (None, None) => return Boot::Stops("systemd-boot finds no UKI in EFI/Linux".into()),
            (None, Some(Ok(()))) => return Boot::Recovers("no UKI in EFI/Linux has a try left".into()),
            (None, Some(Err(why))) => {
                return Boot::Restarts(format!("systemd-boot starts the recovery: {why}"));
            }
        };
        if let Some((left, done)) = &mut entry.tries {
            (*left, *done) = (left.saturating_sub(1), *done + 1);
        }
        let said = |why: &str| Boot::Restarts(format!("systemd-boot starts {}: {why}", entry.name));
        let release = match &entry.release {
            Ok(release) => *release,
            Err(why) => return said(why),
        };
        match facts.slot_of(release) {
            Ok(slot) => Boot::Runs(release, slot),
            Err(why) => {
                let boot = said(&why);
                entry.tries = entry.tries.or(Some((2, 1)));
                boot
            }
        }
    }
}

/// What firmware and systemd-boot make of a disk.
pub(super) fn start(facts: &Facts) -> Verdict {
    let esp = match &facts.esp {
        Ok(esp) => esp,
        Err(why) => return Verdict::Nothing { why: why.clone() },
    };
    if let Err(why) = &esp.loader {
        return Verdict::Nothing { why: why.clone() };
    }
    let entries = esp.ukis.iter().map(|uki| Entry {
        name: uki.name.clone(),
        version: match &uki.release {
            Ok(release) => facts.versions[*release].clone(),
            Err(_) => version(&uki.name),
        },
        tries: tries(&uki.name),
        release: uki.release.clone(),
    });
    settle(facts, SystemdBoot(entries.collect()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{facts, uki};
    use super::*;
    use sheaf_release::boot::Slot;

    fn boots(version: &str, slot: Slot) -> Verdict {
        Verdict::Boots { version: version.into(), slot }
    }

    #[test]
    fn the_newest_with_tries_left_is_started() {
        let old = uki("sheaf_0.1.0.efi", 0);
        for (name, version, slot) in [
            ("sheaf_0.1.1+3.efi", "0.1.1", Slot::B),
            ("sheaf_0.1.1+1-2.efi", "0.1.1", Slot::B),
            ("sheaf_0.1.1.efi", "0.1.1", Slot::B),
            ("sheaf_0.1.1+0-3.efi", "0.1.0", Slot::A),
            ("sheaf_0.1.1+0.efi", "0.1.0", Slot::A),
        ] {
            let facts = facts(vec![uki(name, 1), old.clone()]);
            assert_eq!(start(&facts), boots(version, slot), "{name}");
        }
    }

    #[test]
    fn a_slot_that_is_not_whole_costs_its_tries_and_then_the_other_starts() {
        let mut facts = facts(vec![uki("sheaf_0.1.0.efi", 0), uki("sheaf_0.1.1+2-1.efi", 1)]);
        facts.fits[1][1].root = 7;
        let verdict = start(&facts);
        let Verdict::LosesTries { version, slot, boots, why } = verdict else { panic!("{verdict:?}") };
        assert_eq!((version.as_str(), slot, boots), ("0.1.0", Slot::A, 3));
        let expected = "systemd-boot starts sheaf_0.1.1+2-1.efi: slot b of 0.1.1: 7 blocks of its root and 0 of its \
                        tree are not those of the release";
        assert_eq!(why, expected);
    }

    #[test]
    fn one_that_was_good_and_is_no_longer_whole_gets_a_counter_by_its_initrd_and_gives_way_to_the_other() {
        let mut facts = facts(vec![uki("sheaf_0.1.0.efi", 0), uki("sheaf_0.1.1.efi", 1)]);
        facts.fits[1][1].tree = 1;
        let verdict = start(&facts);
        assert!(matches!(&verdict, Verdict::LosesTries { slot: Slot::A, boots: 4, .. }), "{verdict:?}");
    }

    #[test]
    fn a_good_uki_that_is_damaged_itself_is_started_again_and_again() {
        let mut facts = facts(vec![uki("sheaf_0.1.0.efi", 0), uki("sheaf_0.1.1.efi", 1)]);
        facts.esp.as_mut().unwrap().ukis[1].release = Err("a sector is zeros".into());
        let Verdict::Nothing { why } = start(&facts) else { panic!("it starts") };
        assert!(why.starts_with("nothing runs after 8 boots: systemd-boot starts sheaf_0.1.1.efi"), "{why}");
    }

    #[test]
    fn whatever_is_wrong_with_both_roots_the_recovery_starts() {
        let mut cases = 0;
        for (a, b) in super::super::testing::damages() {
            for old in ["sheaf_0.1.0.efi", "sheaf_0.1.0+3.efi", "sheaf_0.1.0+0-3.efi"] {
                for new in ["sheaf_0.1.1.efi", "sheaf_0.1.1+1-2.efi", "sheaf_0.1.1+0-3.efi"] {
                    let mut facts = facts(vec![uki(old, 0), uki(new, 1)]);
                    super::super::testing::damage(&mut facts, a, b);
                    let verdict = start(&facts);
                    assert!(
                        matches!(verdict, Verdict::Recovers { .. }),
                        "{a:?} {b:?} {old} {new}: {verdict:?}"
                    );
                    // Without it nothing would start: the bug that is planted here is found.
                    facts.esp.as_mut().unwrap().recovery = [None, None];
                    assert!(matches!(start(&facts), Verdict::Nothing { .. }), "{a:?} {b:?} {old} {new}");
                    cases += 1;
                }
            }
        }
        assert_eq!(cases, 81);
    }

    #[test]
    fn without_a_uki_or_a_loader_nothing_starts() {
        let mut facts = facts(vec![]);
        let nothing = |why: &str| Verdict::Nothing { why: why.into() };
        assert!(matches!(start(&facts), Verdict::Recovers { .. }));
        facts.esp.as_mut().unwrap().recovery = [None, None];
        assert_eq!(start(&facts), nothing("systemd-boot finds no UKI in EFI/Linux"));
        facts.esp.as_mut().unwrap().loader = Err("EFI/BOOT/BOOTX64.EFI is not there".into());
        assert_eq!(start(&facts), nothing("EFI/BOOT/BOOTX64.EFI is not there"));
    }

    #[test]
    fn counters_are_read_as_systemd_boot_reads_them() {
        assert_eq!(tries("sheaf_0.1.1+3.efi"), Some((3, 0)));
        assert_eq!(tries("sheaf_0.1.1+2-1.efi"), Some((2, 1)));
        assert_eq!(tries("sheaf_0.1.1.efi"), None);
        assert_eq!(tries("SHEAF_~1.EFI"), None, "a short name whose long one is lost has no counter");
        assert_eq!(version("sheaf_0.1.1+2-1.efi"), "0.1.1");
    }
}
