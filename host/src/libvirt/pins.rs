//! Processors of the host that the threads of a domain may run on, as its XML has them.
//!
//! Why here: libvirt's rule for a thread without an element of its own (<https://libvirt.org/formatdomain.html#cpu-tuning>) is one
//! idea. Route in: the XML of a domain. Route out: [`Pins`], which the agent compares with what it wants.

use crate::cpus::CpuSet;
use std::collections::BTreeMap;

/// Processors of the host that the threads of a domain may run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Those of every thread that has none of its own; all of the host if there are none.
    pub all: Option<CpuSet>,
    /// Those of virtual CPUs.
    pub vcpus: BTreeMap<u32, CpuSet>,
    /// Those of the threads that are neither virtual CPUs nor I/O threads.
    pub emulator: Option<CpuSet>,
    /// Those of I/O threads, by number from 1.
    pub io_threads: BTreeMap<u32, CpuSet>,
    /// I/O threads that it has.
    pub io_thread_count: u32,
}

impl Pins {
    /// Whether every thread of a domain that can have `vcpus` virtual CPUs runs on `cpus` and nowhere else.
    pub fn are(&self, cpus: &CpuSet, vcpus: u32) -> bool {
        let is = |own: Option<&CpuSet>| own.or(self.all.as_ref()) == Some(cpus);
        is(self.emulator.as_ref())
            && (0..vcpus).all(|vcpu| is(self.vcpus.get(&vcpu)))
            && (1..=self.io_thread_count).all(|thread| is(self.io_threads.get(&thread)))
    }
}

/// Reads them from the `<domain>` `root`.
pub(super) fn read(root: roxmltree::Node<'_, '_>) -> Pins {
    let child = |name: &str| root.children().find(|node| node.has_tag_name(name));
    let set = |node: roxmltree::Node<'_, '_>| node.attribute("cpuset").and_then(CpuSet::parse);
    let tune = || child("cputune").into_iter().flat_map(|tune| tune.children());
    let each = |element: &'static str, number: &'static str| {
        let of = tune().filter(move |node| node.has_tag_name(element));
        of.filter_map(move |node| Some((node.attribute(number)?.parse().ok()?, set(node)?))).collect()
    };
    let count = child("iothreads").and_then(|node| node.text()?.trim().parse().ok());
    Pins {
        all: child("vcpu").and_then(set),
        vcpus: each("vcpupin", "vcpu"),
        emulator: tune().find(|node| node.has_tag_name("emulatorpin")).and_then(set),
        io_threads: each("iothreadpin", "iothread"),
        io_thread_count: count.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libvirt::read_domain;

    fn pins(vcpu: &str, rest: &str) -> Pins {
        read_domain(&format!("<domain><vcpu placement='static'{vcpu}>2</vcpu>{rest}</domain>")).unwrap().pins
    }

    fn set(text: &str) -> CpuSet {
        CpuSet::parse(text).unwrap()
    }

    #[test]
    fn a_thread_without_an_element_of_its_own_runs_where_the_domain_does() {
        assert!(pins(" cpuset='0-3'", "<iothreads>1</iothreads>").are(&set("0-3"), 2));
        assert!(!pins(" cpuset='0-3'", "").are(&set("0-2"), 2));
        assert!(!pins("", "").are(&set("0-3"), 2), "it runs anywhere");
        let one = "<cputune><vcpupin vcpu='1' cpuset='0-2'/></cputune>";
        assert!(!pins(" cpuset='0-3'", one).are(&set("0-3"), 2));
        assert!(pins(" cpuset='0-3'", one).are(&set("0-3"), 1));
    }

    #[test]
    fn pins_of_every_thread_count_once_they_are_changed() {
        let all = "<iothreads>1</iothreads><cputune><vcpupin vcpu='0' cpuset='0-1'/><vcpupin vcpu='1' cpuset='0-1'/>\
                   <emulatorpin cpuset='0-1'/><iothreadpin iothread='1' cpuset='0-1'/></cputune>";
        assert!(pins(" cpuset='0-3'", all).are(&set("0-1"), 2));
        let without = all.replace("<iothreadpin iothread='1' cpuset='0-1'/>", "");
        assert!(!pins(" cpuset='0-3'", &without).are(&set("0-1"), 2));
        let without = all.replace("<emulatorpin cpuset='0-1'/>", "");
        assert!(!pins(" cpuset='0-3'", &without).are(&set("0-1"), 2));
    }
}
