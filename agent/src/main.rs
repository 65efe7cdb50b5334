//! `sheaf-agent`: reads arguments, starts the matching part of the library, prints its error.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use sheaf_agent::administrators::by_hand as administrators_by_hand;
use sheaf_agent::certificates::by_hand::certificates;
use sheaf_agent::claim::by_hand as claim_by_hand;
use sheaf_agent::cluster::planes::invite;
use sheaf_agent::cluster::{Hosts, token};
use sheaf_agent::encryption::by_hand as encryption_by_hand;
use sheaf_agent::etcd::by_hand as snapshots;
use sheaf_agent::etcd::restore::{Request, restore};
use sheaf_agent::network::by_hand as network;
use sheaf_agent::paths::Paths;
use sheaf_agent::power;
use sheaf_agent::reset;
use sheaf_agent::service_accounts::by_hand as service_accounts_by_hand;
use sheaf_agent::update::Place;
use sheaf_agent::update::by_hand::{self, Ask};
use sheaf_agent::volumes::upload::send::{Upload, send};
use sheaf_agent::without_lease::by_force;
use sheaf_agent::{config, console, runtime};
use sheaf_api::node_update::Action;
use sheaf_host::disk::RawDisk;
use sheaf_host::hostname::{Kernel, SetHostname};
use sheaf_host::libvirt::{self, Libvirt, QEMU_LOGS};
use sheaf_host::lvm::Lvm2;
use sheaf_host::run::{Output, Run, RunError, System};
use sheaf_host::systemd::{Systemd, Units as _};
use sheaf_host::transient::SystemdRun;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::signal::unix::{SignalKind, signal};

/// The daemon of a Sheaf node.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory to use as `/`.
    #[arg(long, default_value = "/", global = true)]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the daemon.
    Run,
    /// Renders this node's files from its node config, once.
    Configure,
    /// Shows the status page on a terminal, forever.
    Console {
        /// The terminal; default: the one that this was started on.
        #[arg(long)]
        tty: Option<PathBuf>,
    },
    /// Bootstrap tokens, on a control-plane node.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Names of nodes, on a control-plane node.
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Snapshots of etcd, on a control-plane node: the data of the whole cluster.
    Snapshot {
        #[command(subcommand)]
        command: SnapshotCommand,
    },
    /// Shows how etcd of this node is: size against quota, free pages, alarms.
    Etcd {
        #[command(subcommand)]
        command: Option<EtcdCommand>,
    },
    /// Shows every certificate and key of this node: who signed it, when it ends, who renews it. Fails if somebody must do
    /// something.
    Certificates {
        /// How it is printed.
        #[arg(long, short, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// The keys by which Secrets are encrypted in etcd, on a control-plane node.
    Encryption {
        #[command(subcommand)]
        command: Option<EncryptionCommand>,
    },
    /// The keys that sign tokens of service accounts, on a control-plane node.
    ServiceAccounts {
        #[command(subcommand)]
        command: Option<ServiceAccountsCommand>,
    },
    /// Who administers the cluster, on a control-plane node.
    Administrators {
        #[command(subcommand)]
        command: Option<AdministratorCommand>,
    },
    /// The one-time code by which the cluster is claimed in the console, on a control-plane node.
    Claim {
        #[command(subcommand)]
        command: ClaimCommand,
    },
    /// Shows every link of node.toml and of policies: state, MTU, addresses, the links below it; and the result of each
    /// policy.
    #[command(args_conflicts_with_subcommands = true)]
    Network {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Prints it again whenever something changes.
        #[arg(long)]
        watch: bool,
        #[command(subcommand)]
        command: Option<NetworkCommand>,
    },
    /// Shows every volume of this node: size, phase, source, problems.
    #[command(args_conflicts_with_subcommands = true)]
    Volumes {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Prints it again at every change.
        #[arg(long)]
        watch: bool,
        #[command(subcommand)]
        command: Option<VolumesCommand>,
    },
    /// Shows every disk of this node: identity, size, health, role, what uses it, problems.
    Disks {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Prints it again at every change.
        #[arg(long)]
        watch: bool,
    },
    /// Shows every pool of this node: size, usage, devices, last step, problems.
    Pools {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Prints it again at every change.
        #[arg(long)]
        watch: bool,
    },
    /// Shows which release runs, what is in the other slot, and how far the update of this node is.
    #[command(args_conflicts_with_subcommands = true)]
    Update {
        #[command(flatten)]
        shown: Shown,
        #[command(subcommand)]
        command: Option<UpdateCommand>,
    },
    /// Resets this node at its next start: state and data are erased, and with --wipe-pools its pools. Shows what is lost;
    /// --node confirms it, and restarts the machine.
    Reset {
        /// Name of this node: confirms it.
        #[arg(long)]
        node: Option<String>,
        /// Erases its pools, too, with all volumes of VMs.
        #[arg(long)]
        wipe_pools: bool,
        /// Erases node.toml, too: the node then has no cluster, and an address by DHCP.
        #[arg(long)]
        forget_config: bool,
        /// Takes this file as node.toml; one with a new token lets the node join again.
        #[arg(long, value_name = "FILE", conflicts_with = "forget_config")]
        config: Option<PathBuf>,
        /// Also a node that is in its cluster.
        #[arg(long)]
        force: bool,
        /// Withdraws an earlier request.
        #[arg(long, exclusive = true)]
        cancel: bool,
    },
    /// Resets the node that its initrd found marked.
    #[command(hide = true)]
    ResetAtBoot {
        /// UUID of the installation that was started.
        #[arg(long)]
        install: String,
    },
    /// The machine's way down, for its own units.
    #[command(hide = true)]
    Power {
        #[command(subcommand)]
        command: PowerCommand,
    },
    /// Shows the status page once.
    Status {
        /// Print the whole document as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// How a status is shown.
#[derive(clap::Args)]
struct Shown {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Prints it again at every change.
    #[arg(long)]
    watch: bool,
}

#[derive(Subcommand)]
enum UpdateCommand {
    /// Shows which release runs, what is in the other slot, and how far the update of this node is.
    Status {
        #[command(flatten)]
        shown: Shown,
    },
    /// Judges a release; no slot is written.
    Check {
        /// Its version, as in 0.2.0.
        version: String,
        #[command(flatten)]
        from: SourceArguments,
    },
    /// Writes a release to the other slot; the machine does not restart.
    Stage {
        /// Its version, as in 0.2.0.
        version: String,
        #[command(flatten)]
        from: SourceArguments,
    },
    /// Stages a release, stops the VMs, restarts the machine into it, and keeps it if the node is as healthy as before.
    Apply {
        /// Its version, as in 0.2.0.
        version: String,
        #[command(flatten)]
        from: SourceArguments,
        /// Seconds in which it must pass the health gate.
        #[arg(long, default_value_t = by_hand::HEALTH_TIMEOUT)]
        health_timeout: u32,
        /// On a control-plane node: takes no snapshot of etcd before the restart. For a control plane that does not work.
        #[arg(long)]
        without_snapshot: bool,
    },
    /// Stops the VMs and restarts the machine into the release in the other slot, which ran well before.
    Rollback,
    /// Withdraws what was asked for here; the NodeUpdate of this node counts again.
    Cancel,
}

/// Where a release is taken from. One that is in the other slot needs none of these.
#[derive(clap::Args)]
#[group(multiple = false)]
struct SourceArguments {
    /// URL of its folder.
    #[arg(long)]
    url: Option<String>,
    /// An artifact in a registry, registry.example.org/sheaf:0.2.0.
    #[arg(long)]
    oci: Option<String>,
    /// A drive at this node, by the label of its file system.
    #[arg(long, value_name = "LABEL", num_args = 0..=1, require_equals = true, default_missing_value = by_hand::DRIVE)]
    drive: Option<String>,
}

impl SourceArguments {
    fn place(self) -> Option<Place> {
        let url = self.url.map(Place::Url);
        url.or_else(|| self.oci.map(Place::Oci)).or_else(|| self.drive.map(Place::Drive))
    }
}

#[derive(Subcommand)]
enum VolumesCommand {
    /// Sends an image into a volume of this node that waits for one: of a DataVolume with source upload. Raw or qcow2,
    /// plain or compressed by xz, zstd or gzip.
    Upload {
        /// The DataVolume or claim, namespace/name; or the volume's own name.
        into: String,
        /// The image; - is standard input.
        file: PathBuf,
        /// Length of standard input in bytes. This or --sha256 is required for standard input, to detect a truncated file.
        #[arg(long)]
        bytes: Option<u64>,
        /// SHA-256 of the file, 64 hexadecimal digits.
        #[arg(long)]
        sha256: Option<String>,
    },
}

#[derive(Subcommand)]
enum NetworkCommand {
    /// Tries the links of a NodeNetworkPolicy (or of its `network` alone) on this node. They are rolled back if a probe
    /// that passed before fails, or if they are not confirmed in time.
    Apply {
        /// YAML or JSON; a file without links removes what was applied by hand before.
        file: PathBuf,
        /// Keeps them if all probes pass, instead of waiting for `confirm`.
        #[arg(long)]
        confirm: bool,
        /// Seconds to wait for `confirm`.
        #[arg(long, default_value_t = 60, conflicts_with = "confirm")]
        within: u64,
    },
    /// Keeps the change that is on trial.
    Confirm,
    /// Rolls back the change that is on trial.
    Revert {
        /// Only the trial with this id.
        #[arg(long, hide = true)]
        trial: Option<String>,
    },
}

#[derive(Subcommand)]
enum PowerCommand {
    /// Asks every VM of this node to power off, and ends those that do not in time. sheaf-guests.service runs it when the
    /// machine goes down.
    StopGuests,
    /// Ends every VM that may start on another node, if the lease of this node was not renewed in time; if it cannot, resets the machine.
    /// A timer of systemd runs it.
    #[command(hide = true)]
    StopWithoutLease,
}

#[derive(Subcommand)]
enum SnapshotCommand {
    /// Takes one and keeps it on this node.
    Create,
    /// Shows those on this node.
    #[command(alias = "ls")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Writes one to one file, to be kept elsewhere. It holds every Secret of the cluster.
    Save {
        /// The file; "-" is standard output.
        path: String,
        /// A snapshot on this node; without it one is taken now.
        #[arg(long)]
        name: Option<String>,
    },
    /// Writes the keys of the cluster (CAs, service accounts) to a file: needed to restore on another machine. Who has them is
    /// an administrator of the cluster.
    SaveKeys {
        /// The file; "-" is standard output.
        path: String,
    },
    /// Makes a snapshot the data of this node's etcd. The control plane is stopped meanwhile, VMs keep running, and the former data
    /// is kept.
    Restore {
        /// A file that `save` wrote, or the name of a snapshot on this node.
        file: String,
        /// A file that `save-keys` wrote: this machine takes the place of the one that the snapshot is from.
        #[arg(long)]
        keys: Option<PathBuf>,
        /// Also a snapshot of another or an unknown cluster, and on one of several members of etcd.
        #[arg(long)]
        force: bool,
        /// Only print what would be done.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Subcommand)]
enum EtcdCommand {
    /// Gives free pages of its database back to the file system now. The API server waits meanwhile, for seconds.
    Defragment,
    /// Lists the members of etcd: one on each control-plane node.
    Members,
    /// Takes a member out of etcd, one that is dead above all. Refused if the others could then not decide.
    Remove {
        /// Name of its node, or the member's number.
        name: String,
    },
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Subcommand)]
enum EncryptionCommand {
    /// Encrypts every Secret with a new key and takes the former one out of use. One that was interrupted is completed. The
    /// API server is restarted three times meanwhile.
    Rotate,
}

#[derive(Subcommand)]
enum ServiceAccountsCommand {
    /// Has a new key sign, on every control-plane node; the former one verifies until the last of its tokens has ended. A change
    /// that was interrupted is completed. Each API server is restarted twice meanwhile, one after the other.
    Rotate,
}

#[derive(Subcommand)]
enum AdministratorCommand {
    /// Makes the owner of a key an administrator.
    Add {
        /// A name for the list.
        name: String,
        /// The public key, as `sheaf admin new` wrote it; - is standard input.
        file: PathBuf,
    },
    /// Ends an administrator's rights, at once.
    Revoke {
        /// The user name, sheaf-admin-…, as the list shows it.
        user: String,
    },
    /// Gives the rights back to one that was revoked.
    Allow {
        /// The user name, sheaf-admin-….
        user: String,
    },
}

#[derive(Subcommand)]
enum ClaimCommand {
    /// Makes a new code and prints it with the console's address; it makes one administrator. A former code ends.
    New,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Makes a token for one node and prints the `[cluster]` table of that node's node.toml.
    Create {
        /// Hours for which it is valid, at most 24.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=24))]
        hours: u32,
        /// The only node (its system.hostname) that may use it.
        #[arg(long)]
        node: Option<String>,
        /// For one more control-plane node: the token brings the keys of the cluster. Valid for 1 hour at most.
        #[arg(long)]
        control_plane: bool,
    },
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Releases a node's name for the next machine that joins under it with a token. For a machine that was
    /// replaced or reinstalled. The former machine's certificate stays valid until it expires: keep that machine off.
    Release {
        /// Name of the node.
        name: String,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("SHEAF_LOG")
        // A failed request is reported by its caller, with what to do; the client would log it three times a second.
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube_client=off"));
    // The journal adds the time itself.
    tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr).init();
    let paths = Paths::under(&arguments.root);
    match arguments.command {
        Command::Run => {
            let effective = config::effective(&paths, &arguments.root);
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let ended = tokio.block_on(runtime::run(paths, effective));
            // What still blocks a thread (LVM waits for a disk) does not hold up the end.
            tokio.shutdown_background();
            ended
        }
        Command::Configure => configure(&paths, &arguments.root),
        Command::Console { tty } => console::run(&paths, tty),
        Command::Node { command: NodeCommand::Release { name } } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            println!("{}", runtime.block_on(sheaf_agent::cluster::release::release(&paths, &name))?);
            Ok(())
        }
        Command::Snapshot { command } => snapshot(&paths, &arguments.root, command),
        Command::Etcd { command } => {
            snapshots::is_of_the_control_plane(&config::effective(&paths, &arguments.root).config)?;
            print!(
                "{}",
                match command {
                    None => snapshots::status(&paths, &System)?,
                    Some(EtcdCommand::Defragment) => snapshots::defragment(&paths, &System)?,
                    Some(EtcdCommand::Members) => invite::list(&paths, &System)?,
                    Some(EtcdCommand::Remove { name }) =>
                        tokio::runtime::Builder::new_current_thread()
                            .enable_all()
                            .build()?
                            .block_on(invite::remove(&paths, &System, &name))?
                            + "\n",
                }
            );
            Ok(())
        }
        Command::Certificates { output } => {
            let config = config::effective(&paths, &arguments.root).config;
            let (text, problems) = certificates(&paths, &config, output == Format::Json, SystemTime::now())?;
            print!("{text}");
            anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n"));
            Ok(())
        }
        Command::Encryption { command } => encryption(&paths, &arguments.root, command),
        Command::ServiceAccounts { command } => service_accounts(&paths, &arguments.root, command),
        Command::Administrators { command } => administrators(&paths, &arguments.root, command),
        Command::Claim { command: ClaimCommand::New } => {
            let config = config::effective(&paths, &arguments.root).config;
            snapshots::is_of_the_control_plane(&config)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            print!("{}", runtime.block_on(claim_by_hand::new(&paths, &config))?);
            Ok(())
        }
        Command::Token { command: TokenCommand::Create { hours, node, control_plane } } => {
            let lifetime = std::time::Duration::from_secs(u64::from(hours) * 3600);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let text = match control_plane {
                true => runtime.block_on(invite::create(&paths, &System, lifetime, node.as_deref()))?,
                false => runtime.block_on(token::create(&paths, lifetime, node.as_deref()))?,
            };
            print!("{text}");
            Ok(())
        }
        Command::Network { json, watch, command: None } => {
            console::show(watch, || console::network(&paths, json))
        }
        Command::Network { command: Some(command), .. } => network_by_hand(paths, &arguments.root, command),
        Command::Volumes { json, watch, command: None } => {
            console::show(watch, || console::volumes(&paths, json))
        }
        Command::Volumes { command: Some(VolumesCommand::Upload { into, file, bytes, sha256 }), .. } => {
            let upload = Upload { into, file, bytes, sha256 };
            println!("{}", send(&paths.uploads(), &upload, |line| eprintln!("{line}"))?);
            Ok(())
        }
        Command::Disks { json, watch } => console::show(watch, || console::disks(&paths, json)),
        Command::Pools { json, watch } => console::show(watch, || console::pools(&paths, json)),
        Command::Power { command: PowerCommand::StopGuests } => stop_guests(&paths),
        Command::Reset { node, wipe_pools, forget_config, config, force, cancel } => {
            let ask = reset::by_hand::Ask { node, pools: wipe_pools, forget_config, config, force, cancel };
            let name = sheaf_agent::config::effective(&paths, &arguments.root).config.system.hostname;
            let said = reset::by_hand::ask(&paths, &lvm(), &name, &ask)?;
            print!("{}", said.text);
            match said.restarts {
                true => restart(),
                false => Ok(()),
            }
        }
        Command::ResetAtBoot { install } => {
            let hosts = reset::Hosts {
                run: Arc::new(System),
                lvm: Arc::new(lvm()),
                open: Arc::new(|path| Ok(Box::new(RawDisk::open(path)?))),
                devices: "/dev/disk/by-partuuid".into(),
                scratch: paths.run.join("reset"),
            };
            reset::at_boot(&hosts, &install, &|line| println!("sheaf: reset: {line}"))
        }
        Command::Power { command: PowerCommand::StopWithoutLease } => stop_without_lease(&paths),
        Command::Update { shown, command } => update(&paths, shown, command),
        Command::Status { json } => {
            print!("{}", console::status(&paths, json)?);
            Ok(())
        }
    }
}

/// LVM of this machine.
fn lvm() -> Lvm2 {
    Lvm2::new(Arc::new(System), Arc::new(SystemdRun(Arc::new(System))))
}

/// Restarts the machine; its VMs are asked to power off first.
fn restart() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let restarted =
        runtime.block_on(async { Systemd::connect().await?.reboot().await.map_err(anyhow::Error::from) });
    restarted.context("the machine does not restart; restart it yourself")
}

/// Snapshots of etcd.
fn snapshot(paths: &Paths, root: &Path, command: SnapshotCommand) -> anyhow::Result<()> {
    let config = config::effective(paths, root).config;
    snapshots::is_of_the_control_plane(&config)?;
    let node = &config.system.hostname;
    match command {
        SnapshotCommand::Create => print!("{}", snapshots::take_one(paths, &System, node)?),
        SnapshotCommand::List { json } => print!("{}", snapshots::list(paths, json)?),
        // Standard output may be the file.
        SnapshotCommand::Save { path, name } => {
            eprintln!("{}", snapshots::save(paths, &System, node, name.as_deref(), &path)?);
        }
        SnapshotCommand::SaveKeys { path } => eprintln!("{}", snapshots::save_keys(paths, &path)?),
        SnapshotCommand::Restore { file, keys, force, dry_run } => {
            let request = Request { file, keys, force, dry_run };
            let said =
                tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                    // A connection that is lost must not leave the node without its agent.
                    let _held =
                        [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()].map(signal);
                    let units = Systemd::connect().await.context("the system bus cannot be reached")?;
                    let hosts = Hosts { run: Arc::new(System), units: Arc::new(units) };
                    // The terminal may be gone.
                    let say = |line: &str| drop(writeln!(io::stderr(), "{line}"));
                    restore(paths, &hosts, node, &request, &say).await
                })?;
            println!("{said}");
        }
    }
    Ok(())
}

/// The keys of Secrets in etcd.
fn encryption(paths: &Paths, root: &Path, command: Option<EncryptionCommand>) -> anyhow::Result<()> {
    snapshots::is_of_the_control_plane(&config::effective(paths, root).config)?;
    let said = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let units = Systemd::connect().await.context("the system bus cannot be reached")?;
        let hosts = Hosts { run: Arc::new(System), units: Arc::new(units) };
        match command {
            None => encryption_by_hand::status(paths, &hosts).await,
            Some(EncryptionCommand::Rotate) => {
                // The terminal may be gone.
                let say = |line: &str| drop(writeln!(io::stderr(), "{line}"));
                encryption_by_hand::rotate(paths, &hosts, SystemTime::now(), &say).await
            }
        }
    })?;
    print!("{said}");
    Ok(())
}

/// The keys of service accounts.
fn service_accounts(
    paths: &Paths,
    root: &Path,
    command: Option<ServiceAccountsCommand>,
) -> anyhow::Result<()> {
    snapshots::is_of_the_control_plane(&config::effective(paths, root).config)?;
    let said = match command {
        None => service_accounts_by_hand::status(paths)?,
        Some(ServiceAccountsCommand::Rotate) => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                let units = Systemd::connect().await.context("the system bus cannot be reached")?;
                let hosts = Hosts { run: Arc::new(System), units: Arc::new(units) };
                // The terminal may be gone.
                let say = |line: &str| drop(writeln!(io::stderr(), "{line}"));
                service_accounts_by_hand::rotate(paths, &hosts, SystemTime::now(), &say).await
            })?
        }
    };
    print!("{said}");
    Ok(())
}

/// Who administers the cluster.
fn administrators(paths: &Paths, root: &Path, command: Option<AdministratorCommand>) -> anyhow::Result<()> {
    let config = config::effective(paths, root).config;
    snapshots::is_of_the_control_plane(&config)?;
    let ask = match command {
        None => administrators_by_hand::Ask::List,
        Some(AdministratorCommand::Add { name, file }) => {
            let key = match file == Path::new("-") {
                true => io::read_to_string(io::stdin()),
                false => std::fs::read_to_string(&file),
            };
            let key = key.with_context(|| format!("{}: cannot be read", file.display()))?;
            administrators_by_hand::Ask::Add { name, key }
        }
        Some(AdministratorCommand::Revoke { user }) => administrators_by_hand::Ask::Revoke { user },
        Some(AdministratorCommand::Allow { user }) => administrators_by_hand::Ask::Allow { user },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    print!("{}", runtime.block_on(administrators_by_hand::ask(paths, &config, &ask))?);
    Ok(())
}

/// Stops the VMs of this machine; what is waited for is on the console and in the journal.
fn stop_guests(paths: &Paths) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let socket = paths.run_root.join(libvirt::SOCKET);
        let vms = Libvirt::connect(QEMU_LOGS.into(), socket)
            .await
            .context("the system bus cannot be reached; VMs are not asked to power off")?;
        power::guests::stop(paths, &vms, &|line| println!("sheaf: {line}")).await
    })
}

fn stop_without_lease(paths: &Paths) -> anyhow::Result<()> {
    let machine = by_force::Machine {
        uptime: &|| Ok(sheaf_host::uptime::uptime()?),
        reset: &|| eprintln!("sheaf: the machine cannot be reset: {}", sheaf_host::reset::now()),
        say: &|line| println!("sheaf: {line}"),
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let socket = paths.run_root.join(libvirt::SOCKET);
        let connect =
            async || Libvirt::connect(QEMU_LOGS.into(), socket.clone()).await.map(std::sync::Arc::new);
        let ended = by_force::stop(paths, connect, &machine).await?;
        // systemd starts this again.
        anyhow::ensure!(ended != by_force::Ended::Reset, "the machine was not reset");
        Ok(())
    })
}

/// Shows how far the update is, or asks the agent for one.
fn update(paths: &Paths, shown: Shown, command: Option<UpdateCommand>) -> anyhow::Result<()> {
    let update = |version, from: SourceArguments, action, timeout, without_snapshot| Ask::Update {
        version,
        source: from.place(),
        action,
        timeout,
        without_snapshot,
    };
    let ask = match command {
        None => return console::show(shown.watch, || console::update(paths, shown.json)),
        Some(UpdateCommand::Status { shown }) => {
            return console::show(shown.watch, || console::update(paths, shown.json));
        }
        Some(UpdateCommand::Check { version, from }) => {
            update(version, from, Action::Check, by_hand::HEALTH_TIMEOUT, false)
        }
        Some(UpdateCommand::Stage { version, from }) => {
            update(version, from, Action::Stage, by_hand::HEALTH_TIMEOUT, false)
        }
        Some(UpdateCommand::Apply { version, from, health_timeout, without_snapshot }) => {
            update(version, from, Action::Apply, health_timeout, without_snapshot)
        }
        Some(UpdateCommand::Rollback) => Ask::Rollback,
        Some(UpdateCommand::Cancel) => Ask::Cancel,
    };
    println!("{}", by_hand::ask(&paths.update_socket(), &ask)?);
    Ok(())
}

/// Changes links of this machine, or ends their trial.
fn network_by_hand(paths: Paths, root: &Path, command: NetworkCommand) -> anyhow::Result<()> {
    let said = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let trials = runtime::trials(std::sync::Arc::new(paths)).await?;
        match command {
            NetworkCommand::Apply { file, confirm, within } => {
                let node = config::effective(&trials.paths, root).config.network.links;
                let links = network::read(&file)?;
                let confirm = match confirm {
                    true => network::Confirm::Itself,
                    false => network::Confirm::Within(std::time::Duration::from_secs(within)),
                };
                network::apply(&trials, &node, links, confirm).await
            }
            NetworkCommand::Confirm => network::confirm(&trials).await,
            NetworkCommand::Revert { trial } => network::revert(&trials, trial.as_deref()).await,
        }
    })?;
    print!("{said}");
    Ok(())
}

/// Renders the files of the machine whose root is `root`, and says what it did: this is on the boot's screen.
fn configure(paths: &Paths, root: &Path) -> anyhow::Result<()> {
    let is_this_machine = root == Path::new("/");
    let hostname: &dyn SetHostname = if is_this_machine { &Kernel } else { &Elsewhere };
    let run: &dyn Run = if is_this_machine { &System } else { &Elsewhere };
    let (effective, plan) = config::configure(paths, root, hostname, run)?;
    if let Some(problem) = &effective.problem {
        println!("{problem}\nThis node comes up by DHCP and without a cluster until that is fixed.");
    }
    for note in &plan.notes {
        println!("not done: {note}");
    }
    println!("configured as {}", effective.config.system.hostname);
    Ok(())
}

/// A tree that is not the running machine's: its files carry the name, no kernel does.
struct Elsewhere;

impl SetHostname for Elsewhere {
    fn set(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

impl Run for Elsewhere {
    fn run(&self, _: &sheaf_host::run::Command) -> Result<Output, RunError> {
        Ok(Output::default())
    }
}
