//! Puts an instancetype into a template, or says which of the template's fields are in its way.
//!
//! Why here: KubeVirt's rules (`pkg/instancetype/apply`), pure. Route in: an instancetype, a preference for the topology, a
//! template. Route out: the template, or the paths of fields that conflict.

use sheaf_api::{
    instancetype::{
        VirtualMachineInstancetypeSpec, VirtualMachinePreferenceSpec,
        preference::{Across, Topology},
    },
    vm::TemplateMetadata,
    vmi::VirtualMachineInstanceSpec,
};

/// Root of the paths.
const ROOT: &str = "spec.template.spec";
/// Cores per socket when nobody says: KubeVirt's default of the spread.
const SPREAD: u32 = 2;

/// Puts `of` into `spec`; the fields in its way, if any. Then `spec` is half changed and of no use.
pub fn apply(
    of: &VirtualMachineInstancetypeSpec,
    preference: Option<&VirtualMachinePreferenceSpec>,
    spec: &mut VirtualMachineInstanceSpec,
    metadata: &mut TemplateMetadata,
) -> Vec<String> {
    let mut conflicts = Vec::new();
    let mut conflict = |holds: bool, field: &str| {
        if holds {
            conflicts.push(format!("{ROOT}.{field}"));
        }
    };
    for (key, value) in &of.node_selector {
        conflict(spec.node_selector.contains_key(key), &format!("nodeSelector.{key}"));
        spec.node_selector.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let resources = spec.domain.resources.clone().unwrap_or_default();
    conflict(resources.requests.contains_key("cpu"), "domain.resources.requests.cpu");
    conflict(resources.limits.contains_key("cpu"), "domain.resources.limits.cpu");
    let cpu = spec.domain.cpu.get_or_insert_default();
    conflict(cpu.sockets.is_some(), "domain.cpu.sockets");
    conflict(cpu.cores.is_some(), "domain.cpu.cores");
    conflict(cpu.threads.is_some(), "domain.cpu.threads");
    conflict(cpu.model.is_some() && of.cpu.model.is_some(), "domain.cpu.model");
    (cpu.sockets, cpu.cores, cpu.threads) = topology(of.cpu.guest, preference);
    cpu.model = cpu.model.take().or_else(|| of.cpu.model.clone());
    cpu.max_sockets = of.cpu.max_sockets.or(cpu.max_sockets);

    let memory = spec.domain.memory.get_or_insert_default();
    let both = |theirs: bool, ours: bool| theirs && ours;
    conflict(memory.guest.is_some(), "domain.memory.guest");
    conflict(both(memory.hugepages.is_some(), of.memory.hugepages.is_some()), "domain.memory.hugepages");
    conflict(both(memory.max_guest.is_some(), of.memory.max_guest.is_some()), "domain.memory.maxGuest");
    conflict(resources.requests.contains_key("memory"), "domain.resources.requests.memory");
    conflict(resources.limits.contains_key("memory"), "domain.resources.limits.memory");
    memory.guest = Some(of.memory.guest.clone());
    memory.hugepages = memory.hugepages.take().or_else(|| of.memory.hugepages.clone());
    memory.max_guest = memory.max_guest.take().or_else(|| of.memory.max_guest.clone());

    conflict(
        both(spec.domain.io_threads_policy.is_some(), of.io_threads_policy.is_some()),
        "domain.ioThreadsPolicy",
    );
    spec.domain.io_threads_policy = spec.domain.io_threads_policy.or(of.io_threads_policy);
    for (key, value) in &of.annotations {
        let theirs = metadata.annotations.get(key);
        if theirs.is_some_and(|theirs| theirs != value) {
            conflicts.push(format!("spec.template.metadata.annotations.{key}"));
        }
        metadata.annotations.insert(key.clone(), value.clone());
    }
    conflicts
}

/// Sockets, cores and threads of so many CPUs.
fn topology(
    cpus: u32,
    preference: Option<&VirtualMachinePreferenceSpec>,
) -> (Option<u32>, Option<u32>, Option<u32>) {
    let wishes = preference.and_then(|preference| preference.cpu.as_ref());
    let wished = wishes.and_then(|wishes| wishes.preferred_cpu_topology).unwrap_or(Topology::Sockets);
    let (sockets, cores, threads) = match wished {
        _ if cpus == 1 => (1, 1, 1),
        Topology::Cores | Topology::PreferCores => (1, cpus, 1),
        Topology::Threads | Topology::PreferThreads => (1, 1, cpus),
        Topology::Sockets | Topology::PreferSockets | Topology::Any | Topology::PreferAny => (cpus, 1, 1),
        Topology::Spread | Topology::PreferSpread => {
            let options = wishes.and_then(|wishes| wishes.spread_options.as_ref());
            let deprecated = preference.and_then(|preference| preference.prefer_spread_socket_to_core_ratio);
            let ratio = options.and_then(|options| options.ratio).or(deprecated).unwrap_or(SPREAD).max(1);
            match options.and_then(|options| options.across).unwrap_or_default() {
                Across::SocketsCores => (cpus / ratio, ratio, 1),
                Across::CoresThreads => (1, cpus / ratio, ratio),
                Across::SocketsCoresThreads => (cpus / 2 / ratio, ratio, 2),
            }
        }
    };
    (Some(sockets), Some(cores), Some(threads))
}
