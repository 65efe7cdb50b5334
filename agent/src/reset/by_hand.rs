//! `sheaf-agent reset`: what an administrator asks for at a shell of the node, or a unit of an image.
//!
//! Why not through the agent: a node is reset when its agent does not work, too. A node that is still in its cluster is refused, since
//! its Node, volumes and VMs would stay there as those of a dead one. Route in: [`Ask`]. Route out: the mark, and what to print; the
//! caller restarts the machine.

use super::observe::{Pool, pools};
use super::{asked, place};
use crate::cluster::identity::{CLIENT, Store};
use crate::cluster::leave;
use crate::human;
use crate::paths::Paths;
use anyhow::{Context as _, bail, ensure};
use sheaf_config::load::parse_node_config;
use sheaf_host::disk::RawDisk;
use sheaf_host::lvm::LvmReport;
use sheaf_release::records::reset::{self, Mark};
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Name of the node, which confirms what is lost; none: only show it.
    pub node: Option<String>,
    /// Erase its pools, too.
    pub pools: bool,
    /// Erase node.toml, too.
    pub forget_config: bool,
    /// Take this file as node.toml: with a new token the node joins again.
    pub config: Option<PathBuf>,
    /// Also a node that is in its cluster.
    pub force: bool,
    /// Withdraw an earlier request.
    pub cancel: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// For the terminal.
    pub text: String,
    /// The node is marked: the machine restarts.
    pub restarts: bool,
}

/// Shows, asks for or withdraws the reset of the node `name`, whose files are `paths`.
pub fn ask(paths: &Paths, lvm: &dyn LvmReport, name: &str, ask: &Ask) -> anyhow::Result<Said> {
    let (install, partition) = place(paths)?;
    let disk = RawDisk::open(&partition)?;
    if ask.cancel {
        ensure!(asked(paths)?.is_some(), "no reset of this node is asked for");
        reset::clear(&disk)?;
        return Ok(Said { text: format!("withdrawn: node {name} keeps what it has\n"), restarts: false });
    }
    let found = match lvm.groups() {
        Ok(groups) => pools(&groups, name),
        Err(error) if ask.pools => return Err(error).context("the pools of this node cannot be found"),
        Err(_) => Vec::new(),
    };
    let mut text = lost(paths, name, ask, &found);
    let Some(node) = &ask.node else {
        if let Some(mark) = asked(paths)? {
            let pools = if mark.pools { " with its pools" } else { "" };
            writeln!(
                text,
                "It is asked for already{pools}, and done at the next start; --cancel withdraws it."
            )?;
        }
        writeln!(text, "Nothing is done yet: repeat it with --node {name}")?;
        return Ok(Said { text, restarts: false });
    };
    ensure!(
        node == name,
        "this is node {name}, not {node}; confirm with the name of this node: --node {name}"
    );
    if let Some(why) = in_cluster(paths, name).filter(|_| !ask.force) {
        bail!(why);
    }
    let config = match &ask.config {
        Some(file) => Some(checked(file)?),
        None => config(paths, ask.forget_config)?,
    };
    reset::write(&disk, &Mark { install, node: name.to_owned(), pools: ask.pools, config })?;
    writeln!(text, "The machine restarts, and is reset before it starts the node again.")?;
    Ok(Said { text, restarts: true })
}

/// The mark of a node that leaves its cluster and erases itself: nothing of it is kept.
pub fn mark_leaving(paths: &Paths, name: &str, pools: bool) -> anyhow::Result<()> {
    let (install, partition) = place(paths)?;
    let mark = Mark { install, node: name.to_owned(), pools, config: None };
    Ok(reset::write(&RawDisk::open(&partition)?, &mark)?)
}

/// The node config in `file`, which must hold.
fn checked(file: &Path) -> anyhow::Result<String> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("{}: cannot be read", file.display()))?;
    parse_node_config(&file.display().to_string(), &text)?;
    Ok(text)
}

/// node.toml as it is kept; none if it is to be forgotten, or there is none.
fn config(paths: &Paths, forget: bool) -> anyhow::Result<Option<String>> {
    if forget {
        return Ok(None);
    }
    // Written by the initrd when this boot runs on memory.
    ensure!(
        !paths.run.join("state-degraded").exists(),
        "the state partition is not mounted, so node.toml cannot be kept; repeat it with --forget-config"
    );
    match std::fs::read_to_string(&paths.node_toml) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| {
            format!(
                "{}: cannot be read; to erase it, too, repeat this with --forget-config",
                paths.node_toml.display()
            )
        }),
    }
}

/// Why a node that is in its cluster is not reset; none for one that left, or never joined.
fn in_cluster(paths: &Paths, name: &str) -> Option<String> {
    if leave::has_left(paths) {
        return None;
    }
    if paths.kubernetes.join("pki/ca.key").exists() {
        return Some(format!(
            "node {name} has the control plane: take its member out of etcd (`sheaf-agent etcd remove {name}` on another \
             control-plane node), then remove it by a NodeRemoval. With --force it is reset all the same: its member of etcd is lost, \
             and with the only one the whole cluster"
        ));
    }
    Store::of(paths).has(CLIENT).then(|| {
        format!(
            "node {name} is in its cluster: remove it by a NodeRemoval, whose spec.wipe resets it. With --force it is reset all the \
             same: its Node, volumes and VMs stay in the cluster until a NodeRemoval with spec.poweredOff removes them"
        )
    })
}

/// What is lost and what stays, a line each.
fn lost(paths: &Paths, name: &str, ask: &Ask, pools: &[Pool]) -> String {
    let mut erased = vec![
        "/state: keys and certificates of the node, logs, records of updates".to_owned(),
        "/data: images, disks and files of VMs, UEFI variables and TPMs, snapshots of etcd".to_owned(),
    ];
    if paths.kubernetes.join("pki/ca.key").exists() {
        erased.push("etcd of this node, and the keys of the cluster".into());
    }
    let mut kept = Vec::new();
    let named = |pool: &Pool| {
        let devices: Vec<_> = pool.devices.iter().map(|device| device.display().to_string()).collect();
        format!("pool {} ({} on {})", pool.name, human::decimal(pool.size), devices.join(", "))
    };
    match ask.pools {
        true => erased.extend(pools.iter().map(named)),
        false => kept.extend(pools.iter().map(named)),
    }
    match (ask.forget_config, &ask.config) {
        (true, _) => erased.push("node.toml: the node then has no cluster, and an address by DHCP".into()),
        (false, Some(file)) => erased.push(format!("node.toml: {} takes its place", file.display())),
        (false, None) => kept.push("node.toml".into()),
    }
    kept.push("both slots, and what starts them".into());
    let mut text = format!("Reset of node {name} at its next start\n");
    for (word, lines) in [("erased", erased), ("kept", kept)] {
        for line in lines {
            text += &format!("  {word:<7} {line}\n");
        }
    }
    text
}
