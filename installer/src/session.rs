//! One run of the installer on one machine: what it found, and everything it does there, for both front ends.
//!
//! Why here: an unattended installation and the screens do the same things in the same order. Each run begins clean: what
//! an earlier one mounted is unmounted, so that a retry finds the machine as the first try did.
//! Route in: [`Host`]. Route out: [`Session`], asked for config, inventory, plan, network and installation in turn.

use crate::claim::{self, ClaimError, Claimed};
use crate::execute::{self, Env, Failure, Open, Timing};
use crate::inventory::{self, Inventory, Reserved};
use crate::network::{self, Attempt, Outcome};
use crate::plan::{self, InstallPlan, PlanErrors, ReleaseContents};
use crate::progress::Progress;
use crate::sources::arguments::{self, Arguments, ConfigArgument};
use crate::sources::config::{self, ConfigError, Found, Places};
use crate::sources::medium::{self, Medium};
use crate::sources::remote::{self, Remote};
use crate::sources::settled;
use crate::webhook::{self, Document};
use anyhow::Context as _;
use sheaf_config::manifest::Manifest;
use sheaf_config::node::{Event, Identity, NodeConfig};
use sheaf_config::time::rfc3339;
use sheaf_host::block::Device;
use sheaf_host::call::Call;
use sheaf_host::disk::{Disk, DiskError, RawDisk};
use sheaf_host::efi::Variables;
use sheaf_host::fetch::Fetch;
use sheaf_host::mount::Mount;
use sheaf_host::net::Net;
use sheaf_host::run::Run;
use sheaf_host::wait;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// Everything of the installer's while it runs; a tmpfs.
pub const SCRATCH: &str = "/run/sheaf/installer";
/// Until the boot's own network has an address: a switch that looks for loops, and three tries of DHCP.
const BOOT_NETWORK: Duration = Duration::from_secs(60);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(300);

/// The machine, as far as the installer touches it.
#[derive(Clone, Copy)]
pub struct Host<'h> {
    /// Runs programs.
    pub run: &'h dyn Run,
    /// Mounts.
    pub mount: &'h dyn Mount,
    /// Asks servers.
    pub call: &'h dyn Call,
    /// Fetches releases.
    pub fetch: &'h dyn Fetch,
    /// The network.
    pub net: &'h dyn Net,
    /// What the firmware boots.
    pub firmware: &'h dyn Variables,
    /// Opens disks.
    pub open: &'h Open<'h>,
    /// The machine's tree.
    pub root: &'h Path,
    /// [`SCRATCH`].
    pub scratch: &'h Path,
}

/// Opens the disk at `path`: for [`Host::open`].
pub fn open_disk(path: &Path) -> Result<Box<dyn Disk>, DiskError> {
    Ok(Box::new(RawDisk::open(path)?))
}

/// Where the release is.
#[derive(Clone, Debug)]
pub enum Release {
    /// On a medium.
    Medium(Medium),
    /// On a server.
    Remote {
        /// URL of the folder.
        url: String,
        /// Its manifest, verified.
        manifest: Manifest,
    },
}

impl Release {
    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        match self {
            Self::Medium(medium) => &medium.manifest,
            Self::Remote { manifest, .. } => manifest,
        }
    }

    /// Length in bytes of each disk image beside it, by its path.
    pub fn images(&self) -> &BTreeMap<String, u64> {
        static NONE: BTreeMap<String, u64> = BTreeMap::new();
        match self {
            Self::Medium(medium) => &medium.images,
            Self::Remote { .. } => &NONE,
        }
    }

    /// The medium, when it is on one.
    pub fn medium(&self) -> Option<&Medium> {
        match self {
            Self::Medium(medium) => Some(medium),
            Self::Remote { .. } => None,
        }
    }

    /// Where it is, in words.
    pub fn origin(&self) -> String {
        match self {
            Self::Medium(medium) => medium.device.display().to_string(),
            Self::Remote { url, .. } => url.clone(),
        }
    }
}

/// What webhooks are told.
#[derive(Clone, Copy, Debug)]
pub struct News<'a> {
    /// What happened.
    pub event: Event,
    /// What is or was to be done, if it came to a plan.
    pub plan: Option<&'a InstallPlan>,
    /// Why it failed, with what to do and what became of the disk.
    pub reason: Option<&'a str>,
    /// Seconds that it took.
    pub seconds: Option<f64>,
}

/// What was found on a machine.
pub struct Session<'h> {
    host: Host<'h>,
    /// What the kernel's command line says.
    pub arguments: Arguments,
    /// Its block devices.
    pub devices: Vec<Device>,
    /// What it says of itself.
    pub machine: Identity,
    /// The release that is installed.
    pub release: Release,
}

impl<'h> Session<'h> {
    /// Looks for the release that `key` signed; `tell` hears how that goes.
    pub fn open(host: Host<'h>, key: &Path, tell: &dyn Fn(&str)) -> anyhow::Result<Self> {
        Self::open_with(host, command_line(host.root)?, key, tell)
    }

    /// The same, as `arguments` say in place of the kernel's command line.
    pub fn open_with(
        host: Host<'h>,
        arguments: Arguments,
        key: &Path,
        tell: &dyn Fn(&str),
    ) -> anyhow::Result<Self> {
        clean(&host);
        let machine = identity(&host)?;
        let by_url = matches!(arguments.config, Some(ConfigArgument::Url(_)));
        if by_url || arguments.payload.is_some() {
            boot_network(&host, tell)?;
        }
        let (devices, release) = match &arguments.payload {
            Some(url) => {
                tell(&format!("Looking for the release at {url}"));
                let remote = Remote::new(url, host.fetch);
                let manifest = remote::manifest(&remote, key)?;
                let devices = settled(host.run, |_| true)?;
                (devices, Release::Remote { url: remote.url().to_owned(), manifest })
            }
            None => {
                tell("Looking for the install medium");
                let devices = settled(host.run, |devices| !medium::candidates(devices).is_empty())?;
                let medium = medium::find(&devices, host.mount, &host.scratch.join("mounts"), key)?;
                (devices, Release::Medium(medium))
            }
        };
        let manifest = release.manifest();
        tell(&format!("Release {} {} on {}", manifest.name, manifest.version, release.origin()));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        expired(manifest, now.as_secs()).iter().for_each(|warning| tell(warning));
        Ok(Self { host, arguments, devices, machine, release })
    }

    /// The node config of this machine.
    pub fn config(&self, tell: &dyn Fn(&str)) -> Result<Found, ConfigError> {
        let boot = std::fs::read_to_string(self.host.root.join("proc/sys/kernel/random/boot_id"));
        let boot = boot.unwrap_or_default();
        config::find(&Places {
            argument: self.arguments.config.as_ref(),
            devices: &self.devices,
            medium: self.release.medium(),
            mount: self.host.mount,
            mounts: &self.host.scratch.join("mounts"),
            call: self.host.call,
            timeouts: config::Timeouts::default(),
            machine: &self.machine,
            boot: boot.trim(),
            tell,
        })
    }

    /// The machine, with the drive `config` marked as the one that node.toml came from.
    pub fn inventory(&self, config: Option<&Path>) -> anyhow::Result<Inventory> {
        inventory::probe(self.host.run, self.host.root, self.reserved(config))
    }

    /// What `config` means on this machine. `id` is random, one for each installation.
    pub fn plan(
        &self,
        config: &NodeConfig,
        inventory: &Inventory,
        id: Uuid,
    ) -> Result<InstallPlan, PlanErrors> {
        let contents = ReleaseContents { manifest: self.release.manifest(), images: self.release.images() };
        plan::plan(config, inventory, contents, id)
    }

    /// Opens and holds the disks of `plan`, which was made from `planned`; `config` is the drive that node.toml came
    /// from. They stay the same until [`Session::install`] has ended.
    pub fn claim(
        &self,
        plan: &InstallPlan,
        planned: &Inventory,
        config: Option<&Path>,
    ) -> Result<Claimed, ClaimError> {
        let Host { open, run, root, .. } = self.host;
        claim::claim(plan, planned, &claim::Machine { open, run, root, reserved: self.reserved(config) })
    }

    /// Devices that the installer itself reads from.
    fn reserved<'a>(&'a self, config: Option<&'a Path>) -> Reserved<'a> {
        Reserved { medium: self.release.medium().map(|medium| medium.device.as_path()), config }
    }

    /// Tries the network as `config` asks for it; the network of the boot comes back when the release needs it.
    pub fn try_network(
        &self,
        config: &NodeConfig,
        inventory: &Inventory,
        tell: &mut dyn FnMut(&Outcome),
    ) -> Vec<Outcome> {
        let probes = network::plan(config, inventory);
        let timeouts = network::Timeouts::for_probes(&probes);
        let attempt = Attempt { config, inventory, net: self.host.net, call: self.host.call, timeouts };
        let outcomes = network::run(&attempt, &probes, tell);
        if self.arguments.payload.is_some() {
            // Without it the release is not reached, and the installation says so.
            let _ = boot_network(&self.host, &|_| ());
        }
        outcomes
    }

    /// Carries `plan` out on the disks that were claimed for it; `node_toml` is written to the disk.
    pub fn install(
        &self,
        plan: &InstallPlan,
        disks: &Claimed,
        node_toml: &str,
        progress: &Progress,
    ) -> Result<Timing, Failure> {
        let remote = match &self.release {
            Release::Medium(_) => None,
            Release::Remote { url, .. } => Some(Remote::new(url, self.host.fetch)),
        };
        let kept = self.host.scratch.join("release");
        let env = Env {
            run: self.host.run,
            mount: self.host.mount,
            firmware: self.host.firmware,
            disk: disks.target.as_ref(),
            data_disks: &disks.data,
            medium: self.release.medium().map_or(&kept, |medium| &medium.folder),
            remote: remote.as_ref(),
            scratch: self.host.scratch,
            node_toml,
            progress,
        };
        execute::install(plan, &env)
    }

    /// Tells the webhooks of `config`, if it has any; the network is up as far as it can be.
    pub fn tell(&self, config: &NodeConfig, news: News<'_>, progress: &Progress) {
        let Some(install) = &config.install else { return };
        let manifest = self.release.manifest();
        let document = Document {
            event: news.event,
            installer: env!("CARGO_PKG_VERSION"),
            release: &format!("{} {}", manifest.name, manifest.version),
            hostname: &config.system.hostname,
            machine: &self.machine,
            disk: news.plan.map(|plan| {
                let serial = plan.disk.serial.as_deref().unwrap_or("none");
                format!("{}, serial {serial}", plan.disk.path.display())
            }),
            seconds: news.seconds,
            reason: news.reason,
        };
        let said = |said: Result<&str, &str>| match said {
            Ok(text) => progress.say(text),
            Err(text) => progress.warn(text),
        };
        let timeouts = webhook::Timeouts::default();
        webhook::tell(&install.webhooks, &config.network, &document, self.host.call, timeouts, &said);
    }

    /// The machine leaves: the medium may be taken out.
    pub fn close(&self) {
        if let Some(medium) = self.release.medium() {
            // A medium that cannot be unmounted does no harm; the shutdown unmounts it too.
            let _ = self.host.mount.unmount(&medium.mounted);
        }
    }
}

/// What the kernel's command line of the machine at `root` says to the installer.
pub fn command_line(root: &Path) -> anyhow::Result<Arguments> {
    let line = std::fs::read_to_string(root.join("proc/cmdline")).context("kernel command line")?;
    Ok(arguments::parse(&line)?)
}

fn identity(host: &Host<'_>) -> anyhow::Result<Identity> {
    let nics = sheaf_host::nic::wired(host.root).context("NICs")?;
    Ok(inventory::identity(host.root, nics.iter().filter_map(|nic| nic.permanent_mac.clone())))
}

/// Brings up the network that the boot asks for: kernel arguments such as `ip=`, else DHCP on every NIC.
fn boot_network(host: &Host<'_>, tell: &dyn Fn(&str)) -> anyhow::Result<()> {
    tell("Bringing up the network");
    host.net.configure(&network::boot())?;
    let found = wait::until(BOOT_NETWORK, LOOK, || {
        let links = host.net.links().ok()?;
        let addresses: Vec<_> = links
            .iter()
            .filter(|link| link.name != "lo")
            .flat_map(|link| link.addresses.iter().map(move |address| (link.name.clone(), *address)))
            .filter(|(_, address)| match address {
                std::net::IpAddr::V4(v4) => !v4.is_link_local(),
                std::net::IpAddr::V6(v6) => !v6.is_unicast_link_local(),
            })
            .map(|(name, address)| format!("{address} on {name}"))
            .collect();
        (!addresses.is_empty()).then_some(addresses)
    });
    match found {
        Some(addresses) => tell(&format!("Network: {}", addresses.join(", "))),
        // Anyone who needs it says what it could not reach.
        None => tell(&format!(
            "Network: no address in {} s; check the cable and the DHCP server, or give the kernel argument ip=",
            BOOT_NETWORK.as_secs()
        )),
    }
    Ok(())
}

/// A warning, and no more: a medium may be older than its release is good for, the clock of a machine without a system may be
/// wrong, and a node that is installed can be updated.
fn expired(manifest: &Manifest, now: u64) -> Option<String> {
    let expires = manifest.terms.expires.filter(|expires| *expires <= now)?;
    let (version, expires) = (&manifest.version, rfc3339(expires));
    Some(format!(
        "Warning: release {version} expired at {expires}; install from a newer medium, or update the node afterwards"
    ))
}

/// Ends every mount below the scratch folder and empties it.
fn clean(host: &Host<'_>) {
    let mounts = std::fs::read_to_string(host.root.join("proc/self/mounts")).unwrap_or_default();
    let below = mounts.lines().filter_map(|line| line.split_ascii_whitespace().nth(1)).map(PathBuf::from);
    let mut below: Vec<_> = below.filter(|target| target.starts_with(host.scratch)).collect();
    below.reverse();
    let all = below.iter().all(|target| host.mount.unmount(target).is_ok());
    if all {
        // What cannot be removed is overwritten.
        let _ = std::fs::remove_dir_all(host.scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_config::manifest::{Bios, Compressed, FORMAT, Plain, Section, Terms, Uki};

    fn manifest(expires: Option<u64>) -> Manifest {
        let plain = || Plain { file: String::new(), size: 0, sha256: String::new() };
        let image = || Compressed {
            file: String::new(),
            size: 0,
            raw_size: 0,
            raw_sha256: String::new(),
            frames: Vec::new(),
        };
        let section = Section { offset: 0, size: 0 };
        let uki = || Uki {
            file: String::new(),
            size: 0,
            sha256: String::new(),
            linux: section,
            initrd: section,
            command_line: String::new(),
        };
        Manifest {
            format: FORMAT,
            name: "sheaf".into(),
            version: "0.1.0".into(),
            kernel: "6.12".into(),
            arch: "amd64".into(),
            created: 1,
            terms: Terms { expires, ..Terms::default() },
            root: image(),
            verity: image(),
            root_hash: String::new(),
            root_uuid: String::new(),
            verity_uuid: String::new(),
            node_uki: uki(),
            boot_loader: plain(),
            bios: Bios { boot: plain(), core: plain(), menu: plain() },
            installer_uki: uki(),
            documents: Vec::new(),
        }
    }

    #[test]
    fn a_medium_that_is_older_than_its_release_is_good_for_installs_with_a_warning() {
        assert_eq!(
            expired(&manifest(Some(1_600_000_000)), 1_600_000_000).as_deref(),
            Some(
                "Warning: release 0.1.0 expired at 2020-09-13T12:26:40Z; install from a newer medium, or update the node \
                 afterwards"
            )
        );
        assert_eq!(expired(&manifest(Some(1_600_000_000)), 1_599_999_999), None);
        assert_eq!(expired(&manifest(None), u64::MAX), None);
    }
}
