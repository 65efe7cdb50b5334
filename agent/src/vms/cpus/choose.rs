//! Which of the free processors a VM gets.
//!
//! Why here: pure, and the rule that decides how fast a guest is. From one NUMA cell if it fits, the one with the fewest free
//! processors, so that large VMs still find a cell; else from as few as possible. In a cell full cores first, so that no two VMs
//! share one, then the rest of a core that is in use already: kubelet's static policy
//! (`pkg/kubelet/cm/cpumanager/cpu_assignment.go`). Route in: the topology, what is free. Route out: [`Own`].

use super::{Cell, Own, Wanted};
use sheaf_host::cpus::{Cpu, CpuSet, Topology};
use std::collections::BTreeMap;

/// Processors out of `free`; nothing if there are too few.
pub fn choose(topology: &Topology, free: &CpuSet, wanted: Wanted) -> Option<Own> {
    let count = usize::try_from(wanted.count()).ok()?;
    let mut by_cell: BTreeMap<u32, Vec<Cpu>> = BTreeMap::new();
    for cpu in topology.cpus.iter().filter(|cpu| free.contains(cpu.id)) {
        by_cell.entry(cpu.cell).or_default().push(*cpu);
    }
    let mut cells: Vec<(u32, Vec<Cpu>)> = by_cell.into_iter().collect();
    let fitting = cells.iter().filter(|(_, cpus)| cpus.len() >= count);
    let smallest = fitting.min_by_key(|(cell, cpus)| (cpus.len(), *cell)).cloned();
    match smallest {
        Some(smallest) => cells = vec![smallest],
        None => cells.sort_by_key(|(cell, cpus)| (std::cmp::Reverse(cpus.len()), *cell)),
    }
    let mut chosen = Vec::new();
    for (_, cpus) in &cells {
        chosen.extend(of_cell(topology, cpus, count.saturating_sub(chosen.len())));
    }
    if chosen.len() < count || count == 0 {
        return None;
    }
    // The last one is of the core that is shared, if one is.
    let emulator = if wanted.emulator { chosen.pop() } else { None };
    let cells = if wanted.numa { guest_cells(topology, &chosen) } else { Vec::new() };
    Some(Own { vcpus: chosen, emulator, cells })
}

/// Up to `count` of the free processors `cpus` of one cell.
fn of_cell(topology: &Topology, cpus: &[Cpu], count: usize) -> Vec<u32> {
    let mut cores: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for cpu in cpus {
        cores.entry(cpu.core).or_default().push(cpu.id);
    }
    let threads = |core: u32| topology.cpus.iter().filter(|cpu| cpu.core == core).count();
    let mut chosen = Vec::new();
    let full: Vec<u32> =
        cores.iter().filter(|(core, free)| free.len() == threads(**core)).map(|(core, _)| *core).collect();
    for core in &full {
        let fits = cores.get(core).is_some_and(|free| chosen.len() + free.len() <= count);
        if fits && let Some(free) = cores.remove(core) {
            chosen.extend(free);
        }
    }
    let mut rest: Vec<(u32, Vec<u32>)> = cores.into_iter().collect();
    rest.sort_by_key(|(core, free)| (full.contains(core), free.len(), *core));
    let rest = rest.into_iter().flat_map(|(_, free)| free);
    let missing = count.saturating_sub(chosen.len());
    chosen.extend(rest.take(missing));
    chosen
}

/// The cells of the node that the processors of virtual CPUs are in, in their order.
fn guest_cells(topology: &Topology, vcpus: &[u32]) -> Vec<Cell> {
    let mut cells: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (vcpu, cpu) in (0..).zip(vcpus) {
        cells.entry(topology.cell_of(*cpu)).or_default().push(vcpu);
    }
    cells.into_iter().map(|(host, vcpus)| Cell { host, vcpus: vcpus.into_iter().collect() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sheaf_host::cpus::CpuReport as _;
    use sheaf_host::fakes::FakeCpus;

    /// 2 cells of 4 cores with 2 threads each: 0-3 and 8-11 are of cell 0, 4-7 and 12-15 of cell 1.
    fn topology() -> Topology {
        FakeCpus::of(2, 4, 2).topology().unwrap()
    }

    fn set(text: &str) -> CpuSet {
        CpuSet::parse(text).unwrap()
    }

    fn wanted(vcpus: u32, emulator: bool) -> Wanted {
        Wanted { vcpus, emulator, numa: true }
    }

    fn of(free: &str, vcpus: u32) -> Option<Vec<u32>> {
        choose(&topology(), &set(free), wanted(vcpus, false)).map(|own| own.vcpus)
    }

    #[test]
    fn threads_of_one_core_are_neighbours_and_cores_are_full() {
        assert_eq!(of("0-15", 4), Some(vec![0, 8, 1, 9]));
        // Core 0 is half in use: it is the last resort of a VM that needs whole cores.
        assert_eq!(of("1-3,8-11", 4), Some(vec![1, 9, 2, 10]));
    }

    #[test]
    fn an_odd_processor_is_of_a_core_that_is_in_use_already() {
        assert_eq!(of("0-3,9-11", 1), Some(vec![0]));
        assert_eq!(of("0-3,9-11", 3), Some(vec![1, 9, 0]));
        assert_eq!(of("1-3,9-11", 1), Some(vec![1]), "one is split where there is none");
    }

    #[test]
    fn a_vm_is_in_one_cell_if_it_fits_and_in_the_fullest_of_them() {
        assert_eq!(of("0-3,6-7,8-11,14-15", 4), Some(vec![6, 14, 7, 15]));
        assert_eq!(of("2-3,4-7,10-11,12-15", 6), Some(vec![4, 12, 5, 13, 6, 14]));
    }

    #[test]
    fn a_vm_that_fits_in_no_cell_has_the_cells_of_its_processors() {
        let own = choose(&topology(), &set("0-15"), wanted(10, false)).unwrap();
        assert_eq!(own.vcpus, [0, 8, 1, 9, 2, 10, 3, 11, 4, 12]);
        let cells = [Cell { host: 0, vcpus: set("0-7") }, Cell { host: 1, vcpus: set("8-9") }];
        assert_eq!(own.cells, cells);
    }

    #[test]
    fn qemus_other_threads_have_a_processor_that_no_virtual_cpu_has() {
        let own = choose(&topology(), &set("0-15"), wanted(4, true)).unwrap();
        assert_eq!((own.vcpus, own.emulator), (vec![0, 8, 1, 9], Some(2)));
        assert_eq!(own.cells.len(), 1);
    }

    #[test]
    fn too_few_processors_are_none() {
        assert_eq!(of("0-3", 5), None);
        assert_eq!(of("", 1), None);
        assert_eq!(of("0-15", 0), None);
        assert_eq!(choose(&topology(), &set("0-3"), wanted(4, true)), None);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_free_and_as_many_as_wanted_and_none_twice(
            free in proptest::collection::btree_set(0..16_u32, 0..16), vcpus in 0..20_u32, emulator in any::<bool>(),
        ) {
            let free: CpuSet = free.into_iter().collect();
            let wanted = wanted(vcpus, emulator);
            let enough = usize::try_from(wanted.count()).unwrap() <= free.len() && wanted.count() > 0;
            match choose(&topology(), &free, wanted) {
                None => prop_assert!(!enough),
                Some(own) => {
                    prop_assert!(own.all().is_within(&free));
                    prop_assert_eq!(own.all().len(), usize::try_from(wanted.count()).unwrap());
                    prop_assert_eq!(own.vcpus.len(), usize::try_from(vcpus).unwrap());
                    let in_cells: usize = own.cells.iter().map(|cell| cell.vcpus.len()).sum();
                    prop_assert_eq!(in_cells, own.vcpus.len());
                }
            }
        }
    }
}
