//! GRUB with Sheaf's script (os-image/image/grub/node.cfg), started by a BIOS: which slot it takes, and how it counts.
//!
//! Slots come in the order of `order`. One with 0 tries left is passed over; one with more has a try less before it is
//! started, in place; one without a counter is good. What cannot be loaded is passed over. When all are used up, the
//! recovery is started, and where there is none, the first slot anyway. Pure. Route in: [`Facts`]. Route out: a [`Verdict`].
//!
//! A node's initrd that does not get to its root takes a counter for its slot, where it had none (os-image/image/dracut/node/90sheaf/boot-failed.sh).

use super::facts::{Esp, Facts};
use super::{Boot, Loader, Verdict, settle};
use sheaf_release::boot::Slot;

struct Grub {
    order: Vec<Slot>,
    /// `a_left` and `b_left`.
    left: [Option<String>; 2],
    /// Variables can be saved.
    saves: bool,
}

/// What GRUB finds when it sources a slot's script.
enum Loaded {
    Missing,
    /// The script fails: GRUB takes the next slot.
    Fails(String),
    /// Kernel and initrd start; there is no root for them.
    NoRoot(String),
    /// What is taken for a kernel starts.
    Starts(Result<(usize, Slot), String>),
}

fn load(facts: &Facts, esp: &Esp, slot: Slot) -> Loaded {
    let release = match &esp.entries[usize::from(slot == Slot::B)] {
        None => return Loaded::Missing,
        Some(Err(why)) => return Loaded::Fails(why.clone()),
        Some(Ok(release)) => *release,
    };
    let version = &facts.versions[release];
    // Its pattern is with the counter or without; the last that is found counts.
    let (good, counted) = (format!("sheaf_{version}.efi"), format!("sheaf_{version}+"));
    let ukis = |is: &dyn Fn(&str) -> bool| esp.ukis.iter().rfind(|uki| is(&uki.name));
    let uki = ukis(&|name| name.starts_with(&counted)).or_else(|| ukis(&|name| name == good));
    match uki.map(|uki| &uki.release) {
        None => Loaded::Fails(format!("{} finds no UKI of {version}", slot.entry())),
        Some(Ok(of)) if *of == release => match facts.slot_of(release) {
            Ok(slot) => Loaded::Starts(Ok((release, slot))),
            Err(why) => Loaded::NoRoot(why),
        },
        Some(Ok(of)) => Loaded::Starts(Err(format!(
            "the UKI called {version} is of {}, and {} names other places in it",
            facts.versions[*of],
            slot.entry()
        ))),
        Some(Err(why)) => Loaded::Starts(Err(why.clone())),
    }
}

impl Grub {
    /// Starts `slot` if it can be loaded; `fails` receives why it cannot. An initrd without a root takes a counter.
    fn try_start(
        facts: &Facts,
        esp: &Esp,
        slot: Slot,
        left: &mut Option<String>,
        mut fails: impl FnMut(String),
    ) -> Option<Boot> {
        let said = |why: &str| format!("GRUB starts slot {}: {why}", slot.name());
        match load(facts, esp, slot) {
            Loaded::Missing => fails(said(&format!("there is no {}", slot.entry()))),
            Loaded::Fails(why) => fails(said(&why)),
            Loaded::Starts(Ok((release, slot))) => return Some(Boot::Runs(release, slot)),
            Loaded::NoRoot(why) => {
                if left.as_deref().unwrap_or_default().is_empty() {
                    *left = Some("2".into());
                }
                return Some(Boot::Restarts(said(&why)));
            }
            Loaded::Starts(Err(why)) => return Some(Boot::Restarts(said(&why))),
        }
        None
    }
}

impl Loader for Grub {
    fn boot(&mut self, facts: &Facts, lost: &mut Vec<String>) -> Boot {
        let Ok(esp) = &facts.esp else { return Boot::Stops("there is no EFI system partition".into()) };
        for slot in self.order.clone() {
            let left = &mut self.left[usize::from(slot == Slot::B)];
            match left.as_deref() {
                Some("0") => continue,
                // An empty one is none; what is neither 1 nor 2 becomes 2.
                Some(now) if self.saves && !now.is_empty() => {
                    let next = match now {
                        "1" => "0",
                        "2" => "1",
                        _ => "2",
                    };
                    *left = Some(next.to_owned());
                }
                _ => {}
            }
            if let Some(boot) = Self::try_start(facts, esp, slot, left, |why| lost.push(why)) {
                return boot;
            }
        }
        match &esp.recovery[1] {
            Some(Ok(())) => return Boot::Recovers("no slot of GRUB's variables has a try left".into()),
            Some(Err(why)) => lost.push(format!("GRUB starts the recovery: {why}")),
            None => {}
        }
        let mut why = Vec::new();
        for slot in self.order.clone() {
            // Nothing is counted any more.
            if let Some(boot) =
                Self::try_start(facts, esp, slot, &mut Some("0".into()), |said| why.push(said))
            {
                return boot;
            }
        }
        Boot::Stops(why.into_iter().next().unwrap_or_else(|| "GRUB's variables name no slot".into()))
    }
}

/// What a BIOS and GRUB make of a disk.
pub(super) fn start(facts: &Facts) -> Verdict {
    let nothing = |why: &String| Verdict::Nothing { why: why.clone() };
    if let Err(why) = &facts.grub {
        return nothing(why);
    }
    let esp = match &facts.esp {
        Ok(esp) => esp,
        Err(why) => return nothing(why),
    };
    if let Err(why) = &esp.menu {
        return nothing(why);
    }
    let value = |name: &str| {
        let variables = esp.variables.iter().flatten();
        variables.filter(|(of, _)| of == name).map(|(_, value)| value.clone()).next_back()
    };
    let order = value("order").unwrap_or_else(|| "a b".into());
    settle(
        facts,
        Grub {
            order: order.split_whitespace().filter_map(Slot::named).collect(),
            left: [value("a_left"), value("b_left")],
            saves: esp.variables.is_some(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{facts, uki};
    use super::*;

    /// Both slots are whole, both scripts there, and GRUB's variables are these.
    fn with(variables: &[(&str, &str)]) -> Facts {
        let mut facts = facts(vec![uki("sheaf_0.1.0.efi", 0), uki("sheaf_0.1.1+3.efi", 1)]);
        let esp = facts.esp.as_mut().unwrap();
        esp.variables =
            Some(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        facts
    }

    fn boots(version: &str, slot: Slot) -> Verdict {
        Verdict::Boots { version: version.into(), slot }
    }

    #[test]
    fn the_first_slot_with_tries_left_is_started() {
        for (variables, version, slot) in [
            (&[("order", "a b"), ("b_left", "0")][..], "0.1.0", Slot::A),
            (&[("order", "b a"), ("b_left", "3")], "0.1.1", Slot::B),
            (&[("order", "b a"), ("b_left", "0")], "0.1.0", Slot::A),
            (&[("order", "b a")], "0.1.1", Slot::B),
            (&[], "0.1.0", Slot::A),
        ] {
            assert_eq!(start(&with(variables)), boots(version, slot), "{variables:?}");
        }
    }

    #[test]
    fn variables_that_are_no_environment_block_mean_slot_a() {
        let mut facts = with(&[("order", "b a")]);
        facts.esp.as_mut().unwrap().variables = None;
        assert_eq!(start(&facts), boots("0.1.0", Slot::A));
    }

    #[test]
    fn a_slot_without_its_script_loses_a_try() {
        let mut facts = with(&[("order", "b a"), ("b_left", "3")]);
        facts.esp.as_mut().unwrap().entries[1] = None;
        let verdict = start(&facts);
        let Verdict::LosesTries { version, boots: 1, why, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!((version.as_str(), why.as_str()), ("0.1.0", "GRUB starts slot b: there is no grub/b.cfg"));
    }

    #[test]
    fn a_slot_that_is_not_whole_costs_three_boots() {
        let mut facts = with(&[("order", "b a"), ("b_left", "3")]);
        facts.fits[1][1].root = 1;
        let verdict = start(&facts);
        assert!(matches!(&verdict, Verdict::LosesTries { boots: 4, .. }), "{verdict:?}");
    }

    #[test]
    fn a_counter_that_is_damaged_is_taken_for_two_tries_and_an_empty_one_for_none() {
        for (left, boots) in [("00", 4), ("many", 4), ("1", 2)] {
            let mut facts = with(&[("order", "b a"), ("b_left", left)]);
            facts.fits[1][1].root = 1;
            let verdict = start(&facts);
            let Verdict::LosesTries { boots: after, .. } = verdict else { panic!("{left}: {verdict:?}") };
            assert_eq!(after, boots, "{left}");
        }
        assert_eq!(start(&with(&[("order", "b a"), ("b_left", "")])), boots("0.1.1", Slot::B));
    }

    #[test]
    fn a_good_slot_that_is_no_longer_whole_gets_a_counter_by_its_initrd_and_gives_way_to_the_other() {
        let mut facts = with(&[("order", "b a")]);
        facts.fits[1][1].root = 1;
        let verdict = start(&facts);
        assert!(matches!(&verdict, Verdict::LosesTries { slot: Slot::A, boots: 4, .. }), "{verdict:?}");
    }

    #[test]
    fn when_all_tries_are_used_up_the_recovery_is_started_and_without_one_the_first_slot_anyway() {
        let mut facts = with(&[("order", "b a"), ("a_left", "0"), ("b_left", "0")]);
        let Verdict::Recovers { why } = start(&facts) else { panic!("{:?}", start(&facts)) };
        assert_eq!(why, "no slot of GRUB's variables has a try left");
        facts.esp.as_mut().unwrap().recovery[1] = None;
        assert_eq!(start(&facts), boots("0.1.1", Slot::B));
        facts.esp.as_mut().unwrap().recovery[1] = Some(Err("grub/recovery.cfg is of 0.1.0".into()));
        assert!(matches!(start(&facts), Verdict::LosesTries { .. }), "{:?}", start(&facts));
    }

    #[test]
    fn whatever_is_wrong_with_both_slots_the_recovery_starts() {
        let mut cases = 0;
        for (a, b) in super::super::testing::damages() {
            for order in ["a b", "b a"] {
                for left in [["3", "3"], ["0", "3"], ["0", "0"], ["", "1"], ["", ""]] {
                    let mut facts = with(&[("order", order), ("a_left", left[0]), ("b_left", left[1])]);
                    super::super::testing::damage(&mut facts, a, b);
                    let verdict = start(&facts);
                    assert!(
                        matches!(verdict, Verdict::Recovers { .. }),
                        "{a:?} {b:?} {order} {left:?}: {verdict:?}"
                    );
                    // Without it nothing would start: the bug that is planted here is found.
                    facts.esp.as_mut().unwrap().recovery = [None, None];
                    assert!(matches!(start(&facts), Verdict::Nothing { .. }), "{a:?} {b:?} {order} {left:?}");
                    cases += 1;
                }
            }
        }
        assert_eq!(cases, 90);
    }

    #[test]
    fn without_its_core_or_its_script_nothing_starts() {
        let mut facts = with(&[]);
        facts.esp.as_mut().unwrap().menu = Err("grub/grub.cfg is not there".into());
        assert_eq!(start(&facts), Verdict::Nothing { why: "grub/grub.cfg is not there".into() });
        facts.grub = Err("the MBR's code is not GRUB's".into());
        assert_eq!(start(&facts), Verdict::Nothing { why: "the MBR's code is not GRUB's".into() });
    }
}
