//! Page: the node's name.

use super::{note, text};
use crate::tui::answers::Ask;
use crate::tui::form::Row;
use crate::tui::state::{Command, State};

pub(super) const HELP: &str = "\
The name of the host and of the Node in Kubernetes: small letters, digits and hyphens, at most 63, no domain. No other \
node of the cluster may have it.

{serial}, {uuid} and {mac} stand for what the machine says of itself, {mac:6} for the last six digits: node-{mac:6}. That \
is for a node.toml that serves several machines.";

pub(super) fn rows(_: &State) -> Vec<Row> {
    vec![
        note("What is this node called, here and in Kubernetes?"),
        Row::Gap,
        text(Ask::Hostname, "Host name", "node-1"),
        Row::Gap,
        Row::Button(Command::Continue, "Continue"),
    ]
}
