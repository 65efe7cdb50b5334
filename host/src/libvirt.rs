//! Virtual machines of this host: libvirt's QEMU driver, asked over D-Bus (libvirt-dbus).
//!
//! Why here: the agent plans in domains and never meets a bus. Route in: domain XML, a domain's UUID.
//! Route out: [`Domain`]s with the tags they were started with, [`Event`]s as they happen. Domains are transient:
//! they outlive the agent and libvirtd, and are gone after a reboot.

mod proxy;
mod xml;

use futures::future::try_join_all;
use futures::stream::{BoxStream, StreamExt};
use proxy::{ConnectProxy, DomainProxy};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use zbus::OwnedObjectPath;

/// XML namespace of the element, in a domain's metadata, whose attributes are its [`Domain::tags`].
pub const TAG_NAMESPACE: &str = "https://sheaf.dev/xmlns/domain/1";

/// Where libvirt keeps the log of each QEMU, `<domain name>.log`.
pub const QEMU_LOGS: &str = "/var/log/libvirt/qemu";

/// Longest answer of libvirt: the first start of a domain probes QEMU, 10 s here and far more on a busy host.
const ANSWER_TIME: Duration = Duration::from_secs(120);

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
    /// The guest's agent has opened its port.
    pub agent: bool,
}

/// Who is asked for the addresses of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The node's own ARP table: guests that talked to the node.
    Arp,
    /// The guest's agent: whatever the guest says.
    Agent,
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
    /// Nobody knows: saved, migrated, or no record.
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
    /// The bus, or libvirt-dbus on it, can not be reached.
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
    /// It answered with something that makes no sense.
    #[error("the description of a domain can not be read")]
    Description(#[source] roxmltree::Error),
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
    /// Starts a transient domain and returns its UUID.
    fn start(&self, xml: &str) -> impl Future<Output = Result<String, VmError>> + Send;
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
    /// Ends QEMU now. That the domain is gone already is no error.
    fn destroy(&self, uuid: &str) -> impl Future<Output = Result<(), VmError>> + Send;
    /// The guest's interfaces with the addresses that `source` knows.
    fn interfaces(
        &self,
        uuid: &str,
        source: Source,
    ) -> impl Future<Output = Result<Vec<Interface>, VmError>> + Send;
    /// Events from now on; the stream ends when the bus does.
    fn events(&self) -> impl Future<Output = Result<BoxStream<'static, Event>, VmError>> + Send;
    /// Why the domain that was last started under `name` ended, from QEMU's log: for ends that nobody saw.
    fn recorded_stop(&self, name: &str) -> Stop;
}

/// Name, UUID and tags in a domain's XML; it counts as running.
pub fn read_domain(xml: &str) -> Result<Domain, VmError> {
    let described = xml::read(xml).map_err(VmError::Description)?;
    let xml::Described { name, uuid, tags, devices, agent } = described;
    Ok(Domain { uuid, name, state: State::Running, tags, devices, agent })
}

/// libvirt on the system bus.
pub struct Libvirt {
    connection: zbus::Connection,
    logs: PathBuf,
}

impl Libvirt {
    /// Connects to the system bus (`DBUS_SYSTEM_BUS_ADDRESS`, or the usual socket). libvirt itself may be down.
    pub async fn connect(logs: PathBuf) -> Result<Self, VmError> {
        let build = zbus::connection::Builder::system().method_timeout(ANSWER_TIME).build();
        Ok(Self { connection: build.await.map_err(VmError::Bus)?, logs })
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

    async fn start(&self, xml: &str) -> Result<String, VmError> {
        let named = read_domain(xml)?.name;
        let path = self.connect_object().await?.domain_create_xml(xml, 0).await;
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

    async fn destroy(&self, uuid: &str) -> Result<(), VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        match object.destroy(0).await {
            Ok(()) => Ok(()),
            Err(_) if !self.knows(uuid).await? => Ok(()),
            Err(source) => Err(VmError::Refused { doing: "destroy", domain: uuid.to_owned(), source }),
        }
    }

    async fn interfaces(&self, uuid: &str, source: Source) -> Result<Vec<Interface>, VmError> {
        let object = self.domain(proxy::path_of(uuid)?).await?;
        let source = match source {
            Source::Arp => proxy::ADDRESSES_FROM_ARP,
            Source::Agent => proxy::ADDRESSES_FROM_AGENT,
        };
        let interfaces = object.interface_addresses(source, 0).await;
        let interfaces = interfaces.map_err(|source| VmError::Refused {
            doing: "list addresses of",
            domain: uuid.to_owned(),
            source,
        })?;
        let interface = |(_name, mac, addresses): proxy::Interface| Interface {
            mac: mac.to_ascii_lowercase(),
            addresses: addresses
                .into_iter()
                .filter_map(|(_family, address, _prefix)| address.parse().ok())
                .collect(),
        };
        Ok(interfaces.into_iter().map(interface).collect())
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

    fn recorded_stop(&self, name: &str) -> Stop {
        let log = std::fs::read(self.logs.join(format!("{name}.log"))).unwrap_or_default();
        proxy::stop_in_log(&String::from_utf8_lossy(&log))
    }
}
