//! What changed between two lists of parts: added, removed, changed, bytes.
//!
//! Why here: a lock is reviewed by this before it is accepted, and two releases are compared by it. Route in: two maps.
//! Route out: [`Changes`], a pure value; text for people.

use super::wanted;
use super::{Deb, Lock, World};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What changed between two maps.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Changes<V> {
    /// Only in the new one.
    pub added: BTreeMap<String, V>,
    /// Only in the old one.
    pub removed: BTreeMap<String, V>,
    /// In both, with another value: old and new.
    pub changed: BTreeMap<String, (V, V)>,
}

impl<V: Clone + PartialEq> Changes<V> {
    /// From `old` to `new`.
    pub fn between(old: &BTreeMap<String, V>, new: &BTreeMap<String, V>) -> Self {
        let only = |these: &BTreeMap<String, V>, others: &BTreeMap<String, V>| {
            let these = these.iter().filter(|(name, _)| !others.contains_key(*name));
            these.map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        let both = |(name, old): (&String, &V)| {
            let new = new.get(name).filter(|new| *new != old)?;
            Some((name.clone(), (old.clone(), new.clone())))
        };
        Self {
            added: only(new, old),
            removed: only(old, new),
            changed: old.iter().filter_map(both).collect(),
        }
    }

    /// Whether nothing did.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// One line for each name that was added, removed or changed, `what` before it.
pub fn names<V>(what: &str, changes: &Changes<V>) -> String {
    let Changes { added, removed, changed } = changes;
    let marked = |mark: char, names: Vec<&String>| {
        let line = move |name: &String| format!("  {what}: {mark} {name}\n");
        names.into_iter().map(line).collect::<String>()
    };
    marked('+', added.keys().collect())
        + &marked('-', removed.keys().collect())
        + &marked('~', changed.keys().collect())
}

/// A package of a lock, and the roots that have it.
#[derive(Clone, PartialEq)]
struct Held {
    deb: Deb,
    worlds: BTreeSet<World>,
}

/// What `sheaf lock` prints: from `old`, if there was one, to `new`. Empty when nothing changed.
pub fn of_locks(old: Option<&Lock>, new: &Lock) -> String {
    let (before, after) = (old.map(held).unwrap_or_default(), held(new));
    let changes = Changes::between(&before, &after);
    let mut text = String::new();
    if !changes.is_empty() {
        let bytes =
            |held: &BTreeMap<String, Held>| held.values().map(|held| held.deb.size as i128).sum::<i128>();
        let _ = writeln!(
            text,
            "Debian packages: {} added, {} removed, {} changed, {:+} bytes to fetch",
            changes.added.len(),
            changes.removed.len(),
            changes.changed.len(),
            bytes(&after) - bytes(&before)
        ); // a String takes everything
    }
    for (mark, held) in [('+', &changes.added), ('-', &changes.removed)] {
        for (name, Held { deb, worlds }) in held {
            let _ = writeln!(text, "  {mark} {name} {} ({}; {} bytes)", deb.version, roots(worlds), deb.size);
        }
    }
    for (name, (old, new)) in &changes.changed {
        let versions = match old.deb.version == new.deb.version {
            true => new.deb.version.clone(),
            false => format!("{} -> {}", old.deb.version, new.deb.version),
        };
        let worlds = match old.worlds == new.worlds {
            true => roots(&new.worlds),
            false => format!("{} -> {}", roots(&old.worlds), roots(&new.worlds)),
        };
        let bytes = new.deb.size as i128 - old.deb.size as i128;
        let _ = writeln!(text, "  ~ {name} {versions} ({worlds}; {bytes:+} bytes)");
    }
    match old {
        Some(old) => text + &wanted::lines(&old.wanted, &new.wanted),
        None => {
            let (crates, modules) = (new.wanted.crates.len(), new.wanted.modules.len());
            text + &format!("crates: {crates}; Go modules: {modules}\n")
        }
    }
}

/// Packages of `lock` by name. A name that two roots have in two versions is there twice.
fn held(lock: &Lock) -> BTreeMap<String, Held> {
    let mut all: BTreeMap<String, Held> = BTreeMap::new();
    for (world, debs) in &lock.debian {
        for (name, deb) in debs {
            let name = match all.get(name) {
                Some(other) if other.deb != *deb => format!("{name} ({})", world.name()),
                _ => name.clone(),
            };
            let held = all.entry(name).or_insert_with(|| Held { deb: deb.clone(), worlds: BTreeSet::new() });
            held.worlds.insert(*world);
        }
    }
    all
}

fn roots(worlds: &BTreeSet<World>) -> String {
    worlds.iter().map(|world| world.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::file::tests::example;

    #[test]
    fn a_difference_has_what_was_added_removed_and_changed_with_bytes_and_roots() {
        let old = example();
        assert_eq!(of_locks(Some(&old), &old), "");
        let mut new = old.clone();
        let changed =
            |deb: &Deb| Deb { version: "14.2.0-20".into(), size: 9, sha256: "ee".repeat(32), ..deb.clone() };
        for debs in new.debian.values_mut() {
            let deb = changed(&debs["libstdc++6"]);
            debs.insert("libstdc++6".into(), deb);
        }
        let htop =
            Deb { version: "3.4.1-5".into(), size: 100, ..new.debs(World::Node)["libstdc++6"].clone() };
        new.debian.get_mut(&World::Node).unwrap().insert("htop".into(), htop);
        new.wanted.packages.get_mut(&World::Node).unwrap().push("htop".into());
        assert_eq!(
            of_locks(Some(&old), &new),
            "Debian packages: 1 added, 0 removed, 1 changed, +102 bytes to fetch\n  \
             + htop 3.4.1-5 (node; 100 bytes)\n  \
             ~ libstdc++6 14.2.0-19 -> 14.2.0-20 (initrd, node, tools; +2 bytes)\n  \
             packages asked for, node: + htop\n"
        );
        assert!(of_locks(Some(&new), &old).contains("  - htop 3.4.1-5 (node; 100 bytes)\n"));
    }

    #[test]
    fn the_first_lock_counts_what_is_in_it() {
        let text = of_locks(None, &example());
        assert!(text.starts_with("Debian packages: 1 added, 0 removed, 0 changed, +7 bytes"), "{text}");
        assert!(text.ends_with("crates: 1; Go modules: 1\n"), "{text}");
    }
}
