//! Virtual machines of this host: libvirt's QEMU driver, asked over D-Bus (libvirt-dbus).
//!
//! Why here: the agent plans in domains and never meets a bus. Route in: domain XML, a domain's UUID.
//! Route out: [`Domain`]s with the tags they were started with, [`Event`]s as they happen. Domains are transient:
//! they outlive the agent and libvirtd, and are gone after a reboot.

pub mod guest_info;
mod pins;
mod proxy;
pub mod rpc;
pub mod stats;
mod xml;

pub use guest_info::GuestInfo;
pub use pins::Pins;
pub use stats::DomainStats;

use crate::cpus::CpuSet;
use futures::future::try_join_all;
use futures::stream::{BoxStream, StreamExt};
use proxy::{ConnectProxy, DomainProxy};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{self, Read, Seek};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zbus::OwnedObjectPath;

/// XML namespace of the element, in a domain's metadata, whose attributes are its [`Domain::tags`].
pub const TAG_NAMESPACE: &str = "https://sheaf.dev/xmlns/domain/1";

/// Where libvirt keeps the log of each QEMU, `<domain name>.log`.
pub const QEMU_LOGS: &str = "/var/log/libvirt/qemu";
/// Where the TPMs of VMs write their logs.
const TPM_LOGS: &str = "/var/log/swtpm/libvirt/qemu";

/// Where libvirtd listens, `libvirt/libvirt-sock` under `/run`.
pub const SOCKET: &str = "libvirt/libvirt-sock";

/// Longest answer of libvirt: the first start of a domain probes QEMU, 10 s here and far more on a busy host.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes read from the end of QEMU's log: the last lines of a run, and libvirt's line about its end. The file itself
/// grows as fast as a guest can make QEMU complain.
const LOG_TAIL: u64 = 64 << 10;

/// Most logs that virtlogd keeps of one QEMU beside the one it writes: `max_backups` of virtlogd.conf, and room above.
const ROTATED_LOGS: u32 = 10;

/// One domain that libvirt knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its UUID, in lower case with dashes.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Attributes of our metadata element; empty when the domain is not ours.
    pub tags: BTreeMap<String, String>,
    /// Block devices of the host that are its disks, by the name that libvirt knows the disk by: `vda`.
    pub devices: BTreeMap<String, PathBuf>,
    /// Disks that the guest cannot write, by the name that libvirt knows them by: CD-ROM drives, and what else is read-only.
    pub readonly: BTreeSet<String>,
    /// Block devices of the host that its disks only read, below overlays.
    pub bases: Vec<PathBuf>,
    /// Aliases that its disks were given, without libvirt's `ua-`, each with the name that libvirt knows the disk by.
    pub aliases: BTreeMap<String, String>,
    /// Its NICs.
    pub nics: Vec<DomainNic>,
    /// The guest's agent has opened its port.
    pub agent: bool,
    /// Its virtual CPUs.
    pub cpus: Cpus,
    /// Memory that is plugged while it runs, if it has a device for that.
    pub memory: Option<PluggedMemory>,
    /// Processors of the host that its threads may run on.
    pub pins: Pins,
}

/// A NIC of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainNic {
    /// The alias that it was given, without libvirt's `ua-`.
    pub alias: Option<String>,
    /// Its tap on the host.
    pub tap: String,
    /// Its hardware address, lower case.
    pub mac: String,
    /// Its link is down.
    pub down: bool,
}

/// Virtual CPUs of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpus {
    /// Those that the guest has.
    pub current: u32,
    /// Those that it may get while it runs, these included.
    pub most: u32,
}

/// Memory of a virtio-mem device, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluggedMemory {
    /// The most that it can have.
    pub size: u64,
    /// What the guest is offered.
    pub requested: u64,
    /// What the guest has taken up.
    pub current: u64,
}

/// Who is asked for the addresses of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The node's own ARP table: guests that talked to the node.
    Arp,
    /// The guest's agent: whatever the guest reports.
    Agent,
}

impl Source {
    /// `virDomainInterfaceAddressesSource`
    fn number(self) -> u32 {
        match self {
            Self::Agent => 1,
            Self::Arp => 2,
        }
    }
}

/// An interface of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its hardware address, lower case.
    pub mac: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Name of the port that the guest's agent opens.
pub const AGENT_PORT: &str = "org.qemu.guest_agent.0";

/// What a domain is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// QEMU runs its processors.
    Running,
    /// QEMU is up, the processors stand still: paused by somebody.
    Paused,
    /// The same, because a disk has no space left or fails: what it was to write waits.
    PausedByDisk,
    /// QEMU is on its way out, or is gone while libvirt still knows the domain.
    Stopped(Stop),
}

/// Why a domain's QEMU ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest powered itself off.
    Shutdown,
    /// It was destroyed from outside.
    Destroyed,
    /// QEMU died, or the guest panicked.
    Crashed,
    /// Not known: saved, migrated, or no record.
    Unknown,
}

/// Something that happened to a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The domain's UUID.
    pub uuid: String,
    /// The reason, when it ended.
    pub stopped: Option<Stop>,
}

/// libvirt did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The bus, or libvirt-dbus on it, cannot be reached.
    #[error("libvirt does not answer over D-Bus; look at `systemctl status libvirtd dbus`")]
    Bus(#[source] zbus::Error),
    /// It answered with an error.
    #[error("libvirt could not {doing} {domain}")]
    Refused {
        /// What it was asked, `start`.
        doing: &'static str,
        /// Name or UUID of the domain.
        domain: String,
        /// Its answer.
        source: zbus::Error,
    },
    /// The domain has no device for it: it was started without.
    #[error("libvirt could not {doing} {domain}: it was started without a device for that; restart the VM")]
    NoDevice {
        /// What it was asked, `plug memory into`.
        doing: &'static str,
        /// UUID of the domain.
        domain: String,
    },
    /// A guest's addresses are not to be had.
    #[error("addresses of {domain} from {source_name}")]
    Addresses {
        /// UUID of the domain.
        domain: String,
        /// Who was asked.
        source_name: &'static str,
        /// What happened.
        source: rpc::QueryError,
    },
    /// The guest's agent did not do what it was asked.
    #[error("the guest agent of {domain} could not {doing}")]
    Agent {
        /// What it was asked, `freeze its file systems`.
        doing: &'static str,
        /// UUID of the domain.
        domain: String,
        /// What happened.
        source: rpc::QueryError,
    },
    /// It answered with something that makes no sense.
    #[error("the description of a domain cannot be read")]
    Description(#[source] roxmltree::Error),
    /// QEMU's log cannot be removed.
    #[error("QEMU's log cannot be removed")]
    Log(#[source] io::Error),
    /// The fake was told to fail.
    #[error("{0}")]
    Told(String),
}

/// A host's virtual machines: [`Libvirt`], or [`crate::fakes::FakeVms`] in tests.
pub trait VmHost: Send + Sync + 'static {
    /// Version of the hypervisor's manager, `11.3.0`: also the question whether it answers.
    fn version(&self) -> impl Future<Output = Result<String, VmError>> + Send;
    /// All domains.
    fn domains(&self) -> impl Future<Output = Result<Vec<Domain>, VmError>> + Send;
    /// Starts a transient domain and returns its UUID; with `paused` its processors wait until it is resumed.
    fn start(&self, xml: &str, paused: bool) -> impl Future<Output = Result<String, VmError>> + Send;
    /// Presses the power button. That the domain is gone already is no error.
    fn press_power_button(&self, uuid: &str) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Lets the processors run again. That the domain is gone already is no error.
    fn resume(&self, uuid: &str) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Tells the guest that its disk `disk` (`vda`) has `bytes` now. That the domain is gone already is no error.
    fn resize_disk(
        &self,
        uuid: &str,
        disk: &str,
        bytes: u64,
    ) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Adds the disk that `xml` describes to a domain that runs.
    fn attach_disk(&self, uuid: &str, xml: &str) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Asks the guest to release the disk that `xml` describes; it is gone once the domain does not have it any more. That the
    /// domain is gone already is no error.
    fn detach_disk(&self, uuid: &str, xml: &str) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Adds the NIC that `xml` describes to a domain that runs.
    fn attach_nic(&self, uuid: &str, xml: &str) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Asks the guest to release the NIC that has this tap; it is gone once the domain does not have it any more. That it, or the
    /// domain, is gone already is no error.
    fn detach_nic(&self, uuid: &str, tap: &str) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Sets the link of the NIC that has this tap up or down, as if a cable were plugged. That it, or the domain, is gone already is
    /// no error.
    fn set_link(&self, uuid: &str, tap: &str, down: bool)
    -> impl Future<Output = Result<(), VmError>> + Send;
    /// Changes the medium of the CD-ROM drive that `xml` describes: without a source, it is ejected. A guest that has locked the
    /// tray is asked to open it, and it is an error if it does not within 5 s; `force` opens the tray all the same. That the
    /// domain is gone already is no error.
    fn change_medium(
        &self,
        uuid: &str,
        xml: &str,
        force: bool,
    ) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Offers the guest so many bytes of its virtio-mem device; it takes them up, or gives them back, as it can.
    fn offer_memory(&self, uuid: &str, bytes: u64) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Gives the guest so many virtual CPUs, up to the most that it may have.
    fn set_cpus(&self, uuid: &str, count: u32) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Lets every thread of QEMU run on `cpus` of the host and nowhere else. That the domain is gone already is no error.
    fn pin(&self, uuid: &str, cpus: &CpuSet) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Ends QEMU now. That the domain is gone already is no error.
    fn destroy(&self, uuid: &str) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Limits what QEMU of the domain may take of the node's memory, in KiB: beyond it the kernel kills that QEMU and
    /// nothing else. That the domain is gone already is no error.
    fn limit_memory(&self, uuid: &str, kib: u64) -> impl Future<Output = Result<(), VmError>> + Send;
    /// The guest's interfaces with the addresses that `source` knows, at most [`rpc::MOST_ADDRESSES`] of each. Ends
    /// within 15 s whatever the guest does, and takes nothing that other requests need.
    fn interfaces(
        &self,
        uuid: &str,
        source: Source,
    ) -> impl Future<Output = Result<Vec<Interface>, VmError>> + Send;
    /// Stops the processors; QEMU stays, with all that the guest has in memory.
    fn pause(&self, uuid: &str) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Presses the reset button: the guest is not asked.
    fn reset(&self, uuid: &str) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Asks the guest to restart: by its agent where there is one, else by ACPI.
    fn reboot(&self, uuid: &str) -> impl Future<Output = Result<(), VmError>> + Send;
    /// A connection to the domain's VNC server, without a password: who may have it is the caller's business.
    fn open_graphics(&self, uuid: &str) -> impl Future<Output = Result<UnixStream, VmError>> + Send;
    /// Has the guest's agent flush and hold all writes; the number of file systems. Ends within 45 s whatever the guest does.
    fn freeze(&self, uuid: &str) -> impl Future<Output = Result<u32, VmError>> + Send;
    /// Lets the writes go on; the number of file systems that were held. Ends within 45 s whatever the guest does.
    fn thaw(&self, uuid: &str) -> impl Future<Output = Result<u32, VmError>> + Send;
    /// Has the guest's agent replace the authorized SSH keys of `user`. Ends within 15 s whatever the guest does.
    fn set_authorized_keys(
        &self,
        uuid: &str,
        user: &str,
        keys: &[String],
    ) -> impl Future<Output = Result<(), VmError>> + Send;
    /// Has the guest's agent set the password of `user`. Ends within 15 s whatever the guest does.
    fn set_password(
        &self,
        uuid: &str,
        user: &str,
        password: &str,
    ) -> impl Future<Output = Result<(), VmError>> + Send;
    /// What the guest's agent reports of its system. Ends within 15 s whatever the guest does.
    fn guest_info(&self, uuid: &str) -> impl Future<Output = Result<GuestInfo, VmError>> + Send;
    /// Counters of all domains that run; one whose QEMU hangs comes with fewer.
    fn stats(&self) -> impl Future<Output = Result<Vec<DomainStats>, VmError>> + Send;
    /// Events from now on; the stream ends when the bus does.
    fn events(&self) -> impl Future<Output = Result<BoxStream<'static, Event>, VmError>> + Send;
    /// Why the domain that was last started under `name` ended, from the end of QEMU's log: for ends without an event.
    fn recorded_stop(&self, name: &str) -> impl Future<Output = Stop> + Send;
    /// Removes the log of the QEMU that ran under `name`, with those that were rotated away. That there is none is no
    /// error.
    fn remove_log(&self, name: &str) -> impl Future<Output = Result<(), VmError>> + Send;
}

/// Name, UUID and tags in a domain's XML; it counts as running.
pub fn read_domain(xml: &str) -> Result<Domain, VmError> {
    let described = xml::read(xml).map_err(VmError::Description)?;
    let xml::Described {
        name,
        uuid,
        tags,
        devices,
        readonly,
        bases,
        aliases,
        nics,
        agent,
        cpus,
        memory,
        pins,
    } = described;
    let state = State::Running;
    Ok(Domain { uuid, name, state, tags, devices, readonly, bases, aliases, nics, agent, cpus, memory, pins })
}

/// The element of the NIC of the domain `xml` that has this tap, as it is in there; nothing if the domain has none such. By it
/// libvirt finds the NIC, whatever it added itself.
pub fn nic_of(xml: &str, tap: &str) -> Result<Option<String>, VmError> {
    xml::nic_of(xml, tap).map_err(VmError::Description)
}

/// The same, with its link down or up.
pub fn nic_with_link(xml: &str, tap: &str, down: bool) -> Result<Option<String>, VmError> {
    xml::nic_with_link(xml, tap, down).map_err(VmError::Description)
}

/// The element of the virtio-mem device of the domain `xml`, as it is in there but that it offers so many bytes: libvirt finds the
/// device by its address. Nothing if the domain has none.
pub fn offering(xml: &str, bytes: u64) -> Result<Option<String>, VmError> {
    xml::offering(xml, bytes).map_err(VmError::Description)
}

/// Alias, target and device of a `<disk>`, for [`crate::fakes::FakeVms`].
pub(crate) fn read_disk(xml: &str) -> Result<(String, String, Option<PathBuf>), VmError> {
    let disk = xml::read_disk(xml).map_err(VmError::Description)?;
    disk.ok_or_else(|| VmError::Told(format!("a disk without an alias or a target: {xml}")))
}

/// The NIC that `xml`, an `<interface>`, describes, for [`crate::fakes::FakeVms`].
pub(crate) fn read_nic(xml: &str) -> Result<DomainNic, VmError> {
    let nic = xml::read_nic(xml).map_err(VmError::Description)?;
    nic.ok_or_else(|| VmError::Told(format!("a NIC without a tap or a hardware address: {xml}")))
}

/// libvirt on the system bus.
pub struct Libvirt {
    connection: zbus::Connection,
    logs: PathBuf,
    socket: PathBuf,
}

impl Libvirt {
    /// Connects to the system bus (`DBUS_SYSTEM_BUS_ADDRESS`, or the usual socket). libvirt itself may be down.
    /// `logs` are QEMU's, `socket` is libvirtd's own, which guests' addresses are asked for at.
    pub async fn connect(logs: PathBuf, socket: PathBuf) -> Result<Self, VmError> {
        let build = zbus::connection::Builder::system().method_timeout(ANSWER_TIMEOUT).build();
        Ok(Self { connection: build.await.map_err(VmError::Bus)?, logs, socket })
    }

    async fn connect_object(&self) -> Result<ConnectProxy<'static>, VmError> {
        ConnectProxy::new(&self.connection).await.map_err(VmError::Bus)
    }

    async fn domain(&self, path: OwnedObjectPath) -> Result<DomainProxy<'static>, VmError> {
        DomainProxy::builder(&self.connection).path(path).build().await.map_err(VmError::Bus)
    }

    async fn describe(&self, path: OwnedObjectPath) -> Result<Domain, VmError> {
        let uuid = proxy::uuid_of(&path);
        let refused = |source| VmError::Refused { doing: "describe", domain: uuid.clone(), source };
        let object = self.domain(path).await?;
        let xml = object.get_xml_desc(0).await.map_err(refused)?;
        let (state, reason) = object.get_state(0).await.map_err(refused)?;
        Ok(Domain { uuid, state: proxy::state(state, reason), ..read_domain(&xml)? })
    }

    async fn paths(&self) -> Result<Vec<OwnedObjectPath>, VmError> {
        self.connect_object().await?.list_domains(0).await.map_err(VmError::Bus)
    }

    /// Whether libvirt still knows the domain: tells a request that came too late from one that failed.
    async fn knows(&self, uuid: &str) -> Result<bool, VmError> {
        Ok(self.paths().await?.iter().any(|path| proxy::uuid_of(path) == uuid))
    }
}

impl VmHost for Libvirt {
    async fn version(&self) -> Result<String, VmError> {
        let number = self.connect_object().await?.lib_version().await.map_err(VmError::Bus)?;
        Ok(format!("{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000))
    }

    async fn domains(&self) -> Result<Vec<Domain>, VmError> {
        let described = self.paths().await?.into_iter().map(|path| async move {
            let uuid = proxy::uuid_of(&path);
            match self.describe(path).await {
                Ok(domain) => Ok(Some(domain)),
                // It may have ended since it was listed.
                Err(error) => {
                    if self.knows(&uuid).await? {
                        Err(error)
                    } else {
                        Ok(None)
                    }
                }
            }
        });
        Ok(try_join_all(described).await?.into_iter().flatten().collect())
    }

    async fn start(&self, xml: &str, paused: bool) -> Result<String, VmError> {
        let named = read_domain(xml)?.name;
        let flags = if paused { proxy::START_PAUSED } else { 0 };
        let path = self.connect_object().await?.domain_create_xml(xml, flags).await;
        let path = path.map_err(|source| VmError::Refused { doing: "start", domain: named, source })?;
        Ok(proxy::uuid_of(&path))
    }

    async fn press_power_button(&self, uuid: &str) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        match object.shutdown(proxy::SHUTDOWN_ACPI_POWER_BUTTON).await {
            Ok(()) => Ok(()),
            Err(_) if !self.knows(uuid).await? => Ok(()),
            Err(source) => Err(VmError::Refused { doing: "shut down", domain: uuid.to_owned(), source }),
        }
    }

    async fn resume(&self, uuid: &str) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        match object.resume().await {
            Ok(()) => Ok(()),
            Err(_) if !self.knows(uuid).await? => Ok(()),
            Err(source) => Err(VmError::Refused { doing: "resume", domain: uuid.to_owned(), source }),
        }
    }

    async fn resize_disk(&self, uuid: &str, disk: &str, bytes: u64) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        match object.block_resize(disk, bytes, proxy::BLOCK_RESIZE_BYTES).await {
            Ok(()) => Ok(()),
            Err(_) if !self.knows(uuid).await? => Ok(()),
            Err(source) => {
                Err(VmError::Refused { doing: "resize a disk of", domain: uuid.to_owned(), source })
            }
        }
    }

    async fn attach_disk(&self, uuid: &str, xml: &str) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let refused = |source| VmError::Refused { doing: "add a disk to", domain: uuid.to_owned(), source };
        object.attach_device(xml, proxy::AFFECT_LIVE).await.map_err(refused)
    }

    async fn detach_disk(&self, uuid: &str, xml: &str) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        match object.detach_device(xml, proxy::AFFECT_LIVE).await {
            Ok(()) => Ok(()),
            Err(_) if !self.knows(uuid).await? => Ok(()),
            Err(source) => {
                Err(VmError::Refused { doing: "remove a disk from", domain: uuid.to_owned(), source })
            }
        }
    }

    async fn attach_nic(&self, uuid: &str, xml: &str) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let refused = |source| VmError::Refused { doing: "add a NIC to", domain: uuid.to_owned(), source };
        object.attach_device(xml, proxy::AFFECT_LIVE).await.map_err(refused)
    }

    async fn detach_nic(&self, uuid: &str, tap: &str) -> Result<(), VmError> {
        let refused =
            |source| VmError::Refused { doing: "remove a NIC from", domain: uuid.to_owned(), source };
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let detached = async {
            let xml = object.get_xml_desc(0).await.map_err(refused)?;
            let Some(nic) = nic_of(&xml, tap)? else { return Ok(()) };
            object.detach_device(&nic, proxy::AFFECT_LIVE).await.map_err(refused)
        };
        match detached.await {
            Err(error) if self.knows(uuid).await? => Err(error),
            _ => Ok(()),
        }
    }

    async fn set_link(&self, uuid: &str, tap: &str, down: bool) -> Result<(), VmError> {
        let refused =
            |source| VmError::Refused { doing: "change a link of", domain: uuid.to_owned(), source };
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let changed = async {
            let xml = object.get_xml_desc(0).await.map_err(refused)?;
            let Some(nic) = nic_with_link(&xml, tap, down)? else { return Ok(()) };
            object.update_device(&nic, proxy::AFFECT_LIVE).await.map_err(refused)
        };
        match changed.await {
            Err(error) if self.knows(uuid).await? => Err(error),
            _ => Ok(()),
        }
    }

    async fn change_medium(&self, uuid: &str, xml: &str, force: bool) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let flags = proxy::AFFECT_LIVE | if force { proxy::MODIFY_FORCE } else { 0 };
        match object.update_device(xml, flags).await {
            Ok(()) => Ok(()),
            Err(_) if !self.knows(uuid).await? => Ok(()),
            Err(source) => {
                Err(VmError::Refused { doing: "change a medium of", domain: uuid.to_owned(), source })
            }
        }
    }

    async fn offer_memory(&self, uuid: &str, bytes: u64) -> Result<(), VmError> {
        const DOING: &str = "plug memory into";
        let refused = |source| VmError::Refused { doing: DOING, domain: uuid.to_owned(), source };
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let xml = object.get_xml_desc(0).await.map_err(refused)?;
        // libvirt finds the device by its address, which it chose itself.
        let device = offering(&xml, bytes)?;
        let device = device.ok_or_else(|| VmError::NoDevice { doing: DOING, domain: uuid.to_owned() })?;
        object.update_device(&device, proxy::AFFECT_LIVE).await.map_err(refused)
    }

    async fn set_cpus(&self, uuid: &str, count: u32) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let refused =
            |source| VmError::Refused { doing: "plug processors into", domain: uuid.to_owned(), source };
        object.set_vcpus(count, proxy::AFFECT_LIVE).await.map_err(refused)
    }

    async fn pin(&self, uuid: &str, cpus: &CpuSet) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let refused =
            |source| VmError::Refused { doing: "change the processors of", domain: uuid.to_owned(), source };
        let pinned = async {
            let domain = read_domain(&object.get_xml_desc(0).await.map_err(refused)?)?;
            let flags = cpus.flags();
            object.pin_emulator(&flags, proxy::AFFECT_LIVE).await.map_err(refused)?;
            for thread in 1..=domain.pins.io_thread_count {
                object.pin_io_thread(thread, &flags, proxy::AFFECT_LIVE).await.map_err(refused)?;
            }
            for vcpu in 0..domain.cpus.most {
                object.pin_vcpu(vcpu, &flags, proxy::AFFECT_LIVE).await.map_err(refused)?;
            }
            Ok::<(), VmError>(())
        };
        match pinned.await {
            Ok(()) => Ok(()),
            Err(_) if !self.knows(uuid).await? => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn destroy(&self, uuid: &str) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        match object.destroy(0).await {
            Ok(()) => Ok(()),
            Err(_) if !self.knows(uuid).await? => Ok(()),
            Err(source) => Err(VmError::Refused { doing: "destroy", domain: uuid.to_owned(), source }),
        }
    }

    async fn limit_memory(&self, uuid: &str, kib: u64) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        match object.set_memory_parameters([("hard_limit", kib.into())].into(), proxy::AFFECT_LIVE).await {
            Ok(()) => Ok(()),
            Err(_) if !self.knows(uuid).await? => Ok(()),
            Err(source) => {
                Err(VmError::Refused { doing: "limit the memory of", domain: uuid.to_owned(), source })
            }
        }
    }

    async fn interfaces(&self, uuid: &str, source: Source) -> Result<Vec<Interface>, VmError> {
        let source_name = match source {
            Source::Arp => "the ARP table",
            Source::Agent => "the guest's agent",
        };
        rpc::interfaces(&self.socket, uuid, source).await.map_err(|source| VmError::Addresses {
            domain: uuid.to_owned(),
            source_name,
            source,
        })
    }

    async fn pause(&self, uuid: &str) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let refused = |source| VmError::Refused { doing: "pause", domain: uuid.to_owned(), source };
        object.suspend().await.map_err(refused)
    }

    async fn reset(&self, uuid: &str) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let refused = |source| VmError::Refused { doing: "reset", domain: uuid.to_owned(), source };
        object.reset(0).await.map_err(refused)
    }

    async fn reboot(&self, uuid: &str) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let refused = |source| VmError::Refused { doing: "reboot", domain: uuid.to_owned(), source };
        // 0: libvirt asks the agent first and falls back to ACPI.
        object.reboot(0).await.map_err(refused)
    }

    async fn open_graphics(&self, uuid: &str) -> Result<UnixStream, VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let refused =
            |source| VmError::Refused { doing: "open the display of", domain: uuid.to_owned(), source };
        let socket = object.open_graphics_fd(0, proxy::OPEN_GRAPHICS_SKIPAUTH).await.map_err(refused)?;
        Ok(UnixStream::from(OwnedFd::from(socket)))
    }

    async fn freeze(&self, uuid: &str) -> Result<u32, VmError> {
        let failed =
            |source| VmError::Agent { doing: "freeze its file systems", domain: uuid.to_owned(), source };
        rpc::freeze(&self.socket, uuid).await.map_err(failed)
    }

    async fn thaw(&self, uuid: &str) -> Result<u32, VmError> {
        let failed =
            |source| VmError::Agent { doing: "thaw its file systems", domain: uuid.to_owned(), source };
        rpc::thaw(&self.socket, uuid).await.map_err(failed)
    }

    async fn set_authorized_keys(&self, uuid: &str, user: &str, keys: &[String]) -> Result<(), VmError> {
        let failed = |source| VmError::Agent { doing: "set SSH keys", domain: uuid.to_owned(), source };
        rpc::set_authorized_keys(&self.socket, uuid, user, keys).await.map_err(failed)
    }

    async fn set_password(&self, uuid: &str, user: &str, password: &str) -> Result<(), VmError> {
        let failed = |source| VmError::Agent { doing: "set a password", domain: uuid.to_owned(), source };
        rpc::set_password(&self.socket, uuid, user, password).await.map_err(failed)
    }

    async fn guest_info(&self, uuid: &str) -> Result<GuestInfo, VmError> {
        let failed =
            |source| VmError::Agent { doing: "describe its system", domain: uuid.to_owned(), source };
        rpc::guest_info(&self.socket, uuid).await.map(GuestInfo::of).map_err(failed)
    }

    async fn stats(&self) -> Result<Vec<DomainStats>, VmError> {
        let connect = self.connect_object().await?;
        let records =
            connect.get_all_domain_stats(stats::GROUPS, stats::NO_WAIT).await.map_err(VmError::Bus)?;
        Ok(records.into_iter().map(|(name, values)| stats::read(name, values)).collect())
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>, VmError> {
        let signals = self.connect_object().await?.receive_domain_event().await.map_err(VmError::Bus)?;
        let events = signals.filter_map(|signal| async move {
            let args = signal.args().ok()?;
            let stopped = proxy::stop_of_event(args.event, args.detail);
            Some(Event { uuid: proxy::uuid_of(&args.domain), stopped })
        });
        Ok(events.boxed())
    }

    async fn recorded_stop(&self, name: &str) -> Stop {
        let log = self.logs.join(format!("{name}.log"));
        let tail = tokio::task::spawn_blocking(move || tail(&log, LOG_TAIL)).await;
        // No log says as little as one that cannot be read.
        let tail = tail.ok().and_then(Result::ok).unwrap_or_default();
        proxy::stop_in_log(&String::from_utf8_lossy(&tail))
    }

    async fn remove_log(&self, name: &str) -> Result<(), VmError> {
        let (logs, name) = (self.logs.clone(), name.to_owned());
        let remove = tokio::task::spawn_blocking(move || remove_logs(&logs, &name)).await;
        remove.map_err(io::Error::other).flatten().map_err(VmError::Log)
    }
}

/// The last `most` bytes of the file `path`.
fn tail(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(length.saturating_sub(most)))?;
    let mut tail = Vec::new();
    file.take(most).read_to_end(&mut tail)?;
    Ok(tail)
}

/// virtlogd names what it rotates away `<name>.log.0`, `.1`, …; a TPM has a log of its own.
fn remove_logs(logs: &Path, name: &str) -> io::Result<()> {
    let rotated = (0..ROTATED_LOGS).map(|number| logs.join(format!("{name}.log.{number}")));
    let own = [logs.join(format!("{name}.log")), Path::new(TPM_LOGS).join(format!("{name}-swtpm.log"))];
    for log in own.into_iter().chain(rotated) {
        match std::fs::remove_file(log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_log_of_any_size_only_the_end_is_read() {
        let dir = std::env::temp_dir().join(format!("sheaf-qemu-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let log = dir.join("a.log");
        // Sparse: what stands before the end would be 1 GiB of zeros in memory.
        let file = std::fs::File::create(&log).unwrap();
        file.set_len(1 << 30).unwrap();
        let end = b"\nstarting up libvirt version: 11.3.0\nx: shutting down, reason=crashed\n";
        std::os::unix::fs::FileExt::write_at(&file, end, 1 << 30).unwrap();
        let tail = tail(&log, LOG_TAIL).unwrap();
        assert_eq!(tail.len() as u64, LOG_TAIL);
        assert_eq!(proxy::stop_in_log(&String::from_utf8_lossy(&tail)), Stop::Crashed);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_logs_of_a_vm_are_removed_and_those_of_others_stay() {
        let dir = std::env::temp_dir().join(format!("sheaf-qemu-logs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for name in ["a.log", "a.log.0", "ab.log"] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        remove_logs(&dir, "a").unwrap();
        remove_logs(&dir, "a").unwrap();
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["ab.log"]);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
