//! The status page as lines of text. Pure; compared with golden pages in tests/page.
//!
//! Route in: a [`View`], width and height. Route out: lines no longer than the width and no more than the height:
//! what is wrong comes first, lists are cut with a count of what is left out. Plain ASCII: a serial line shows it.

use crate::human::binary;
use crate::status::{
    ClusterSection, ConsoleSection, EtcdSection, ImageSection, LinkSection, Phase, Status, VmSection,
};
use std::time::Duration;

/// Columns of the smallest terminal that is served.
pub const WIDTH: usize = 80;
/// Its lines.
pub const HEIGHT: usize = 24;
/// Where values begin: behind the longest heading, and far enough left for a CA hash (71 characters) to stay whole.
const INDENT: usize = 8;
/// Lines of one problem; the rest is in the journal.
const PROBLEM_LINES: usize = 4;

/// Lines of a refused node config: all of its mistakes, where they fit.
const CONFIG_LINES: usize = 10;

/// Lines of what the node config asks for and the node does not do.
const NOTE_LINES: usize = 5;

/// What is known of the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The agent's document, if there is one that can be read.
    pub status: Option<Status>,
    /// The agent does not run, and spoke last so long ago.
    pub silent_for: Option<Duration>,
    /// The code by which the cluster can be claimed, if this node shows it. Not in the status, which everybody on the node reads.
    pub code: Option<String>,
}

/// The page of `view` in `width` columns and `height` lines.
pub fn page(view: &View, width: usize, height: usize) -> Vec<String> {
    let status = view.status.clone().unwrap_or_default();
    let mut head = header(&status, width);
    if let Some(age) = view.silent_for {
        let last =
            if view.status.is_some() { format!("; last report {} ago", human(age)) } else { String::new() };
        head.extend(entry(
            "AGENT",
            &format!("The agent is not running{last}. VMs keep running. systemd restarts it."),
            width,
        ));
    }
    if status.power.shutting_down {
        head.extend(entry("POWER", &format!("The machine is going down: {}", status.power.message), width));
    }
    for problem in status.node.problem.iter() {
        let mut lines = Vec::new();
        for line in problem.lines() {
            lines.extend(entry(if lines.is_empty() { "PROBLEM" } else { "" }, line, width));
        }
        head.extend(cut(lines, CONFIG_LINES, ""));
    }
    let notes = status.node.notes.iter().enumerate();
    let notes: Vec<_> =
        notes.flat_map(|(index, note)| entry(if index == 0 { "NOT SET" } else { "" }, note, width)).collect();
    if !notes.is_empty() {
        head.extend(cut(notes, NOTE_LINES, ""));
    }
    head.extend(network(&status, width));
    head.extend(cluster(&status.cluster, width));
    head.extend(etcd(&status.etcd, width));
    head.extend(administration(&status.console, view.code.as_deref(), width));
    let next = match next_step(view, &status) {
        // Less indented than values: a CA hash in it stays whole.
        Some(text) => [vec![String::new(), "Next".to_owned()], wrap(&text, 2, width)].concat(),
        None => Vec::new(),
    };
    let vms: Vec<_> = status.vms.iter().flat_map(|vm| entry("", &vm_line(vm), width)).collect();
    let images: Vec<_> =
        status.images.iter().flat_map(|image| entry("", &image_line(image), width)).collect();
    // The lists share what is left; each keeps at least its heading.
    let room = height.saturating_sub(head.len() + next.len());
    let for_images = images.len().min((room / 2).max(room.saturating_sub(vms.len().max(1))));
    let mut lines = head;
    lines.extend(headed(
        "VMs",
        if vms.is_empty() { "none" } else { "" },
        vms,
        room.saturating_sub(for_images),
    ));
    lines.extend(headed("Images", "", images, for_images));
    lines.truncate(height.saturating_sub(next.len()));
    lines.extend(next);
    lines.truncate(height);
    lines
}

fn header(status: &Status, width: usize) -> Vec<String> {
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let left = format!("Sheaf {}", or(&status.node.version, "(version unknown)"));
    let right = match status.boot.slot.as_str() {
        "" => or(&status.node.name, "(starting)"),
        slot => format!("{}  slot {slot}", or(&status.node.name, "(starting)")),
    };
    let gap = width.saturating_sub(left.len() + right.len()).max(1);
    vec![shorten(format!("{left}{}{right}", " ".repeat(gap)), width), "-".repeat(width)]
}

fn network(status: &Status, width: usize) -> Vec<String> {
    let network = &status.network;
    let mut lines = Vec::new();
    // What has an address, or should, comes first; what only carries it is left out where everything works.
    let (addressed, carrying): (Vec<_>, Vec<_>) =
        network.links.iter().partition(|link| link.is_addressed || !link.addresses.is_empty());
    let carrying = carrying.into_iter().filter(|link| link.kind == "bond" || link.state != "up");
    for link in addressed.into_iter().chain(carrying) {
        lines.extend(entry(if lines.is_empty() { "Network" } else { "" }, &link_line(link), width));
    }
    if let Some(problem) = &network.problem {
        lines.extend(cut(entry("", &format!("! {problem}"), width), PROBLEM_LINES, ""));
    }
    if !network.links.is_empty() && !network.time_synchronised {
        lines.extend(entry("", "clock not yet set by a time server", width));
    }
    lines
}

/// The administration console: its address, and by what the cluster is claimed while nobody administers it.
fn administration(console: &ConsoleSection, code: Option<&str>, width: usize) -> Vec<String> {
    let Some(url) = &console.url else { return Vec::new() };
    let mut lines = entry("Console", url, width);
    let (Some(claim), fingerprint) = (&console.claim, &console.fingerprint) else { return lines };
    if let Some(fingerprint) = fingerprint {
        lines.extend(entry("", "certificate, SHA-256:", width));
        // Sixteen bytes in a line, as they are compared.
        let (first, second) = fingerprint.split_at(fingerprint.len() / 2 + 1);
        lines.extend(entry("", first.trim_end_matches(':'), width));
        lines.extend(entry("", second, width));
    }
    let code = code.map_or("code: ".to_owned(), |code| format!("code: {code}  "));
    lines.extend(entry("", &format!("{code}{claim}"), width));
    lines
}

/// etcd and its snapshots, on a node that has them.
fn etcd(etcd: &EtcdSection, width: usize) -> Vec<String> {
    if !etcd.is_here {
        return Vec::new();
    }
    let size = match etcd.quota {
        0 => "not asked yet".to_owned(),
        quota => format!("{} of {}", binary(etcd.bytes), binary(quota)),
    };
    let newest = etcd.snapshots.last().map_or("no snapshot yet".to_owned(), |newest| {
        format!("snapshots: {}, newest {}", etcd.snapshots.len(), newest.taken)
    });
    let mut lines = entry("etcd", &format!("{size}; {newest}"), width);
    for problem in &etcd.problems {
        lines.extend(cut(entry("", &format!("! {problem}"), width), PROBLEM_LINES, ""));
    }
    lines
}

fn cluster(cluster: &ClusterSection, width: usize) -> Vec<String> {
    let state = match cluster.phase {
        Phase::None => "none",
        Phase::Creating => "being made",
        Phase::Joining => "joining",
        Phase::NotReady => "member, not ready",
        Phase::Ready => "ready",
        Phase::Failed => "FAILED",
    };
    let server = cluster.server.as_ref().map(|server| format!(" at {server}")).unwrap_or_default();
    let step = match cluster.step.as_str() {
        "" => String::new(),
        step => format!(": {step}"),
    };
    let mut lines = entry("Cluster", &format!("{state}{server}{step}"), width);
    for (mark, text) in [("! ", &cluster.problem), ("> ", &cluster.remedy)] {
        if let Some(text) = text {
            lines.extend(cut(entry("", &format!("{mark}{text}"), width), PROBLEM_LINES, ""));
        }
    }
    if let Some(plane) = &cluster.control_plane {
        lines.extend(entry("", &format!("control plane: {}", plane.step), width));
        for (mark, text) in [("! ", &plane.problem), ("> ", &plane.remedy)] {
            if let Some(text) = text {
                lines.extend(cut(entry("", &format!("{mark}{text}"), width), PROBLEM_LINES, ""));
            }
        }
    }
    // 71 characters that must be copied without a break.
    if let Some(hash) = &cluster.ca_hash {
        lines.extend(entry("CA hash", "", width));
        lines.extend(wrap(hash, 2, width));
    }
    if let Some(join) = &cluster.join {
        lines.extend(entry("Join", "", width));
        lines.extend(wrap(join, 2, width));
    }
    lines
}

/// One link in a line: name, state, what it is, addresses, what it stands on.
pub(crate) fn link_line(link: &LinkSection) -> String {
    let addresses: Vec<_> = link.addresses.iter().map(ToString::to_string).collect();
    let addresses = match addresses.is_empty() {
        true if link.is_addressed => ": no address".to_owned(),
        // It carries others, or VMs.
        true => String::new(),
        false => format!(": {}", addresses.join(", ")),
    };
    let what = match (&link.mode, link.vlan, &link.kernel_name) {
        (Some(mode), _, _) => format!(" ({mode})"),
        (None, Some(id), _) => format!(" (VLAN {id})"),
        (None, None, Some(name)) => format!(" ({name})"),
        (None, None, None) => String::new(),
    };
    let ports: Vec<_> = link
        .ports
        .iter()
        .map(|port| match link.active_port.as_ref() == Some(port) {
            true => format!("{port} (in use)"),
            false => port.clone(),
        })
        .collect();
    let over = if ports.is_empty() { String::new() } else { format!(" over {}", ports.join(", ")) };
    format!("{} {}{what}{addresses}{over}", link.name, link.state)
}

fn vm_line(vm: &VmSection) -> String {
    let problem = vm.problem.as_ref().map(|problem| format!("  ! {problem}")).unwrap_or_default();
    format!("{:<38} {}{problem}", vm.name, vm.phase)
}

fn image_line(image: &ImageSection) -> String {
    let size = match image.total {
        Some(total) if total > 0 => {
            format!("{}% of {}", image.bytes.saturating_mul(100) / total, bytes(total))
        }
        _ if image.bytes > 0 => bytes(image.bytes),
        _ => String::new(),
    };
    let problem = image.problem.as_ref().map(|problem| format!("! {problem}")).unwrap_or_default();
    format!("{:<38} {:<9} {size} {problem}", image.name, image.phase).trim_end().to_owned()
}

/// What an operator does next, if there is anything.
fn next_step(view: &View, status: &Status) -> Option<String> {
    let cluster = &status.cluster;
    if view.status.is_none() {
        return Some("wait: the agent has not reported since this boot".into());
    }
    if status.node.problem.is_some() {
        return Some("correct node.toml (see PROBLEM) and install the node again with it".into());
    }
    if let (Phase::Ready | Phase::NotReady, Some(url), Some(_)) =
        (cluster.phase, &status.console.url, &view.code)
    {
        return Some(format!("open {url} in a browser, compare the certificate, and enter the code"));
    }
    match (cluster.phase, &cluster.server, &cluster.ca_hash) {
        (Phase::None, _, _) => {
            Some("this node belongs to no cluster: write [cluster] into its node.toml".into())
        }
        (Phase::Ready, Some(server), Some(hash)) if cluster.join.is_some() => Some(format!(
            "on your machine: sheaf admin kubeconfig --server {server} --key admin.key --ca-hash {hash}"
        )),
        (Phase::Ready, _, _) => Some("kubectl get nodes; kubectl apply -f your VirtualMachine".into()),
        _ => None,
    }
}

/// A list under its heading in at most `room` lines.
fn headed(heading: &str, empty: &str, list: Vec<String>, room: usize) -> Vec<String> {
    if list.is_empty() {
        return if empty.is_empty() { Vec::new() } else { entry(heading, empty, usize::MAX) };
    }
    let mut lines = cut(list, room.max(1), heading);
    lines[0].replace_range(..heading.len(), heading);
    lines
}

/// The first `room` of `lines`; the last of them says how many are missing.
fn cut(mut lines: Vec<String>, room: usize, what: &str) -> Vec<String> {
    let room = room.max(1);
    if lines.len() > room {
        let missing = lines.len() - room + 1;
        lines.truncate(room - 1);
        let what = if what.is_empty() { "lines" } else { what };
        lines.push(format!("{}... and {missing} more {what}", " ".repeat(INDENT)));
    }
    lines
}

/// `text` behind `heading`, wrapped.
fn entry(heading: &str, text: &str, width: usize) -> Vec<String> {
    let mut lines = wrap(text, INDENT, width);
    if lines.is_empty() {
        lines.push(" ".repeat(INDENT));
    }
    lines[0].replace_range(..heading.len(), heading);
    let length = lines[0].trim_end().len();
    lines[0].truncate(length);
    lines
}

/// `text` in lines of at most `width` that begin with `indent` blanks; words that are longer are broken.
fn wrap(text: &str, indent: usize, width: usize) -> Vec<String> {
    let room = width.saturating_sub(indent).max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    // Blanks inside stay: they make columns. Control characters go: they may come from a guest's or server's words.
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    for word in clean.split_inclusive(' ') {
        let mut word = word.to_owned();
        if line.chars().count() + word.trim_end().chars().count() > room && !line.trim().is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        while word.trim_end().chars().count() > room {
            let at = word.char_indices().nth(room).map_or(word.len(), |(at, _)| at);
            lines.push(word.drain(..at).collect());
        }
        line += &word;
    }
    if !line.trim().is_empty() {
        lines.push(line);
    }
    lines.iter().map(|line| format!("{}{}", " ".repeat(indent), line.trim_end())).collect()
}

fn shorten(text: String, width: usize) -> String {
    text.chars().take(width).collect()
}

fn human(age: Duration) -> String {
    match age.as_secs() {
        seconds if seconds < 60 => "less than a minute".into(),
        seconds if seconds < 7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn bytes(number: u64) -> String {
    match number {
        small if small < 1 << 20 => format!("{small} bytes"),
        middle if middle < 10 << 30 => format!("{} MiB", middle >> 20),
        large => format!("{} GiB", large >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::PlaneSection;

    #[test]
    fn a_control_plane_that_cannot_start_is_shown_with_its_remedy_beside_a_node_that_is_ready() {
        let plane = PlaneSection {
            step: "becoming a member of etcd".into(),
            problem: Some("no member of etcd answers".into()),
            remedy: Some("start another".into()),
        };
        let section =
            ClusterSection { phase: Phase::Ready, control_plane: Some(plane), ..ClusterSection::default() };
        assert_eq!(
            cluster(&section, 80),
            [
                "Cluster ready",
                "        control plane: becoming a member of etcd",
                "        ! no member of etcd answers",
                "        > start another",
            ]
        );
    }
}
