//! Processors of the node in a domain's XML: where its threads run, and the NUMA cells that follow from it.
//!
//! Why here: as KubeVirt does it (`pkg/virt-launcher/virtwrap/converter/vcpu`): a processor for each virtual CPU, one for QEMU's other
//! threads and its I/O threads if they are isolated; memory of a guest cell from the cell of its processors, and from no other.
//! Route in: the [`Placement`] of a [`Guest`]. Route out: lines of XML.

use crate::vms::cpus::{Cell, Own, Placement};
use crate::vms::guest::Guest;
use sheaf_host::cpus::CpuSet;
use std::fmt::{Result, Write};

/// Processors of every thread that has none of its own, if it is not all of the node.
pub(super) fn of_domain(guest: &Guest) -> Option<CpuSet> {
    match &guest.placement {
        Placement::Anywhere => None,
        Placement::Shared(cpus) => Some(cpus.clone()),
        Placement::Own(own) => Some(own.all()),
    }
}

fn own(guest: &Guest) -> Option<&Own> {
    match &guest.placement {
        Placement::Own(own) => Some(own),
        Placement::Anywhere | Placement::Shared(_) => None,
    }
}

/// Elements `cputune` and `numatune` of a VM with processors of its own.
pub(super) fn write_tuning(xml: &mut String, guest: &Guest) -> Result {
    let Some(own) = own(guest) else { return Ok(()) };
    writeln!(xml, "  <cputune>")?;
    for (vcpu, cpu) in own.vcpus.iter().enumerate() {
        writeln!(xml, "    <vcpupin vcpu='{vcpu}' cpuset='{cpu}'/>")?;
    }
    if let Some(cpu) = own.emulator {
        writeln!(xml, "    <emulatorpin cpuset='{cpu}'/>")?;
        for thread in 1..=guest.hardware.io_threads {
            writeln!(xml, "    <iothreadpin iothread='{thread}' cpuset='{cpu}'/>")?;
        }
    }
    writeln!(xml, "  </cputune>")?;
    if own.cells.is_empty() {
        return Ok(());
    }
    let hosts: CpuSet = own.cells.iter().map(|cell| cell.host).collect();
    writeln!(xml, "  <numatune>\n    <memory mode='strict' nodeset='{hosts}'/>")?;
    for (id, Cell { host, .. }) in own.cells.iter().enumerate() {
        writeln!(xml, "    <memnode cellid='{id}' mode='strict' nodeset='{host}'/>")?;
    }
    writeln!(xml, "  </numatune>")
}

/// Whether the guest has the NUMA cells of its processors.
pub(super) fn has_cells(guest: &Guest) -> bool {
    own(guest).is_some_and(|own| !own.cells.is_empty())
}

/// Element `numa` of the CPU: each cell has the same memory in whole huge pages, the first ones a page more where it is not
/// divisible.
pub(super) fn write_cells(xml: &mut String, guest: &Guest) -> Result {
    let cells = own(guest).map(|own| own.cells.as_slice()).unwrap_or_default();
    let page = guest.hardware.page_size.map_or(1, |page| page.bytes());
    let (pages, count) = (guest.memory / page, u64::try_from(cells.len()).unwrap_or(1).max(1));
    writeln!(xml, "    <numa>")?;
    for (id, Cell { vcpus, .. }) in (0_u64..).zip(cells) {
        let memory = (pages / count + u64::from(id < pages % count)) * page;
        writeln!(xml, "      <cell id='{id}' cpus='{vcpus}' memory='{memory}' unit='b'/>")?;
    }
    writeln!(xml, "    </numa>")
}
