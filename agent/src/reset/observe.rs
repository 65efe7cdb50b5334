//! What a reset starts from: the mark, and the devices that the node's pools have.
//!
//! Route in: the partition of records, LVM's report. Route out: [`Observed`], or nothing for a node that is not marked. Changes
//! nothing.

use super::Hosts;
use crate::disks::contents::{GROUP, is_ours};
use anyhow::Context as _;
use sheaf_host::lvm::Groups;
use sheaf_release::records::{self, reset::Mark};
use std::path::PathBuf;

/// A pool of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its devices.
    pub devices: Vec<PathBuf>,
    /// How many others it has, that are not attached.
    pub missing: usize,
    /// Bytes of all of them.
    pub size: u64,
}

/// A node that is to be reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What is asked for.
    pub mark: Mark,
    /// The partition of records.
    pub records: PathBuf,
    /// The state partition.
    pub state: PathBuf,
    /// The data partition.
    pub data: PathBuf,
    /// Pools of the node; not looked for where they stay.
    pub pools: Vec<Pool>,
}

/// Observes; none for a node that is not marked, or whose mark is of another installation.
pub fn observe(hosts: &Hosts, install: &str) -> anyhow::Result<Option<Observed>> {
    let partition = |number| {
        records::partition(&hosts.devices, install, number)
            .with_context(|| format!("\"{install}\" is not the UUID of an installation"))
    };
    let records = partition(records::PARTITION)?;
    let mark = records::reset::read(&*(hosts.open)(&records)?)?;
    let Some(mark) = mark.filter(|mark| mark.install.eq_ignore_ascii_case(install)) else { return Ok(None) };
    let pools = match mark.pools {
        true => pools(
            &hosts.lvm.groups().context("the pools of the node cannot be found; nothing is erased")?,
            &mark.node,
        ),
        false => Vec::new(),
    };
    Ok(Some(Observed {
        mark,
        records,
        state: partition(records::STATE)?,
        data: partition(records::DATA)?,
        pools,
    }))
}

/// The pools that the node `node` made.
pub fn pools(groups: &Groups, node: &str) -> Vec<Pool> {
    let ours = groups.groups.iter().filter(|group| is_ours(&group.tags, node));
    ours.map(|group| Pool {
        name: group.name.strip_prefix(GROUP).unwrap_or(&group.name).to_owned(),
        devices: group.members.iter().filter_map(|member| member.device.clone()).collect(),
        missing: group.members.iter().filter(|member| member.device.is_none()).count(),
        size: group.size,
    })
    .collect()
}
