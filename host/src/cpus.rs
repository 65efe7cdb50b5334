//! Logical processors of the machine: which are online, and how they share cores, sockets and NUMA cells.
//!
//! Why here: sysfs is the machine's. VMs with processors of their own are placed by it. Route in: `/sys/devices/system`
//! (Documentation/admin-guide/cputopology.rst, Documentation/ABI/stable/sysfs-devices-node of Linux). Route out: a
//! [`Topology`], read again at each call; [`CpuSet`]s in the kernel's list format.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Highest number of a processor that is believed: the most that a kernel for x86 can have (`NR_CPUS`).
const MOST: u32 = 8192;

/// Numbers of logical processors. As text it is the kernel's list, `0-3,8` (`cpuset(7)`, List format).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CpuSet(BTreeSet<u32>);

/// A text that is not a list of processors.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a list of processors such as 0-3,8")]
pub struct NotCpus(String);

impl CpuSet {
    /// Reads a list; an empty text has none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| {
                let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<u32>().ok().filter(|number| is_number && *number < MOST)
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(Self(cpus))
    }

    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `cpu` is one of them.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Whether all of them are in `other`.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// Those and the ones of `other`.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).copied().collect())
    }

    /// Those that are in both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// One flag for each processor from 0 to the last: libvirt-dbus' form of a set.
    pub fn flags(&self) -> Vec<bool> {
        let last = self.0.last().map_or(0, |last| *last);
        (0..=last).map(|cpu| self.contains(cpu)).collect()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for cpu in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        let range = |(first, last): &(u32, u32)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        f.write_str(&ranges.iter().map(range).collect::<Vec<_>>().join(","))
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> Self {
        set.to_string()
    }
}

impl TryFrom<String> for CpuSet {
    type Error = NotCpus;

    fn try_from(text: String) -> Result<Self, NotCpus> {
        Self::parse(&text).ok_or(NotCpus(text))
    }
}

/// One logical processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub id: u32,
    /// Its core: the lowest number of the processors that share it.
    pub core: u32,
    /// Its socket.
    pub socket: u32,
    /// Its NUMA cell.
    pub cell: u32,
}

/// All processors that are online, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The processors.
    pub cpus: Vec<Cpu>,
}

impl Topology {
    /// Their numbers.
    pub fn all(&self) -> CpuSet {
        self.cpus.iter().map(|cpu| cpu.id).collect()
    }

    /// The NUMA cell of a processor; 0 for one that is not online.
    pub fn cell_of(&self, cpu: u32) -> u32 {
        self.cpus.iter().find(|one| one.id == cpu).map_or(0, |one| one.cell)
    }
}

/// The processors cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// A file of sysfs cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// It says something that is not a list of processors.
    #[error("{}: {text:?} is not a list of processors", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
    },
}

/// A machine that has processors: [`Sysfs`], or [`crate::fakes::FakeCpus`] in tests.
pub trait CpuReport: Send + Sync {
    /// Those that are online now.
    fn topology(&self) -> Result<Topology, CpuError>;
}

/// The running kernel.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::at("/sys")
    }
}

impl Sysfs {
    /// sysfs that is mounted at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl CpuReport for Sysfs {
    fn topology(&self) -> Result<Topology, CpuError> {
        let system = self.root.join("devices/system");
        let online = list(&system.join("cpu/online"))?;
        let cells = cells(&system.join("node"))?;
        let cpu = |id: u32| {
            let folder = system.join(format!("cpu/cpu{id}/topology"));
            // A kernel in a guest may tell none of it: then each processor is a core.
            let core = optional(&folder.join("thread_siblings_list"))?.and_then(|set| set.iter().next());
            let socket = std::fs::read_to_string(folder.join("physical_package_id"));
            Ok(Cpu {
                id,
                core: core.unwrap_or(id),
                // -1 where the firmware does not tell it.
                socket: socket.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0),
                cell: cells.iter().find(|(_, cpus)| cpus.contains(id)).map_or(0, |(cell, _)| *cell),
            })
        };
        Ok(Topology { cpus: online.iter().map(cpu).collect::<Result<_, CpuError>>()? })
    }
}

/// NUMA cells with their processors; none on a kernel without NUMA.
fn cells(folder: &Path) -> Result<Vec<(u32, CpuSet)>, CpuError> {
    let Some(online) = optional(&folder.join("online"))? else { return Ok(Vec::new()) };
    online.iter().map(|cell| Ok((cell, list(&folder.join(format!("node{cell}/cpulist")))?))).collect()
}

fn list(path: &Path) -> Result<CpuSet, CpuError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| CpuError::Read { path: path.to_owned(), source })?;
    CpuSet::parse(&text).ok_or_else(|| CpuError::List { path: path.to_owned(), text: text.trim().to_owned() })
}

/// The list in a file that need not be there.
fn optional(path: &Path) -> Result<Option<CpuSet>, CpuError> {
    match list(path) {
        Err(CpuError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        list => list.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sysfs of `files`, by their path.
    fn sysfs(name: &str, files: &[(&str, &str)]) -> (Sysfs, PathBuf) {
        let root = std::env::temp_dir().join(format!("sheaf-cpus-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for (path, text) in files {
            let path = root.join("devices/system").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        (Sysfs::at(&root), root)
    }

    #[test]
    fn a_list_is_read_and_written_as_the_kernel_does() {
        for text in ["0-3,8,10-11", "0", "", "5,7"] {
            assert_eq!(CpuSet::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(CpuSet::parse("1,0,2-3\n").unwrap().to_string(), "0-3");
        for text in ["a", "3-1", "1-", "-1", "1,,2", "+1", "8192", "0-99999999"] {
            assert_eq!(CpuSet::parse(text), None, "{text}");
        }
        assert_eq!(CpuSet::parse("1,3").unwrap().flags(), [false, true, false, true]);
    }

    #[test]
    fn processors_are_known_with_core_socket_and_cell() {
        let (sysfs, root) = sysfs(
            "numa",
            &[
                ("cpu/online", "0-3\n"),
                ("cpu/cpu0/topology/thread_siblings_list", "0,2\n"),
                ("cpu/cpu0/topology/physical_package_id", "0\n"),
                ("cpu/cpu2/topology/thread_siblings_list", "0,2\n"),
                ("cpu/cpu1/topology/thread_siblings_list", "1,3\n"),
                ("cpu/cpu1/topology/physical_package_id", "1\n"),
                ("cpu/cpu3/topology/thread_siblings_list", "1,3\n"),
                ("cpu/cpu3/topology/physical_package_id", "1\n"),
                ("node/online", "0-1\n"),
                ("node/node0/cpulist", "0,2\n"),
                ("node/node1/cpulist", "1,3\n"),
            ],
        );
        let topology = sysfs.topology().unwrap();
        let of = |id: usize| (topology.cpus[id].core, topology.cpus[id].socket, topology.cpus[id].cell);
        assert_eq!([of(0), of(1), of(2), of(3)], [(0, 0, 0), (1, 1, 1), (0, 0, 0), (1, 1, 1)]);
        assert_eq!(topology.all().to_string(), "0-3");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn without_topology_and_numa_each_processor_is_a_core_of_one_cell() {
        let (sysfs, root) = sysfs("flat", &[("cpu/online", "0-1")]);
        let cpu = |id| Cpu { id, core: id, socket: 0, cell: 0 };
        assert_eq!(sysfs.topology().unwrap().cpus, [cpu(0), cpu(1)]);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_file_that_is_missing_or_is_no_list_is_named() {
        let (empty, root) = sysfs("missing", &[("cpu/present", "0")]);
        let path = root.join("devices/system/cpu/online");
        assert_eq!(empty.topology().unwrap_err().to_string(), format!("{}: cannot be read", path.display()));
        std::fs::write(&path, "some\n").unwrap();
        let message = format!("{}: \"some\" is not a list of processors", path.display());
        assert_eq!(empty.topology().unwrap_err().to_string(), message);
        std::fs::remove_dir_all(root).unwrap();
    }
}
