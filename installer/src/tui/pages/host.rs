//! Page: the node's name.

use super::{note, text};
use crate::tui::answers::Ask;
use crate::tui::form::Row;
use crate::tui::state::{Command, State};

pub(super) const HELP: &str = "\
The name of the host and of the Node in Kubernetes: lowercase letters, digits and hyphens, at most 63, no domain. It must be unique in the cluster.

{serial}, {uuid} and {mac} are replaced by the machine's own values, {mac:6} by the last six digits: node-{mac:6}. This is for a node.toml of several machines.";

pub(super) fn rows(_: &State) -> Vec<Row> {
    vec![
        note("The host name of this node, and its name in Kubernetes."),
        Row::Gap,
        text(Ask::Hostname, "Host name", "node-1"),
        Row::Gap,
        Row::Button(Command::Continue, "Continue"),
    ]
}
