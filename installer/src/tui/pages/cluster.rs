//! Page: the cluster that is made or joined.

use super::{note, text};
use crate::tui::answers::Ask;
use crate::tui::form::{Pick, Row};
use crate::tui::state::{Command, State};

pub(super) const HELP: &str = "\
Joining: the first node's screen shows the server, a token and the CA hash, as `kubeadm token create \
--print-join-command` does on any other cluster. The hash makes sure that it is this cluster that the token is given to. \
The token is used once and never kept.

A worker runs VMs. A node of the control plane runs the cluster as well; have one or three of them.

Creating: all of it may stay empty. The token is then drawn by the node and shown on its screen. Further names are those \
under which the API server will be reached besides the node's own name and address. Services: a network that nothing else \
uses, from /12 to /28; 10.96.0.0/16 when empty.";

pub(super) fn rows(state: &State) -> Vec<Row> {
    let mut rows = Vec::new();
    if state.joins() {
        rows.extend([
            note("The first node's screen shows these three."),
            Row::Gap,
            text(Ask::Server, "Server", "https://192.0.2.10:6443"),
            text(Ask::Token, "Token", "6 . 16 letters or digits"),
            text(Ask::CaHash, "CA hash", "sha256: and 64 digits"),
            Row::Gap,
        ]);
        let roles = ["Worker: runs VMs", "Control plane: runs VMs and the cluster"];
        for (value, text) in roles.into_iter().enumerate() {
            let chosen = state.answers.control_plane == (value == 1);
            rows.push(Row::Pick(Pick::one(Ask::Role, value, chosen, text)));
        }
    } else {
        rows.extend([
            note("The cluster that this node makes. All of it may stay empty."),
            Row::Gap,
            text(Ask::Token, "Token", "empty: the node makes one"),
            text(Ask::Sans, "Further names", "cluster.example.org"),
            text(Ask::ServiceCidr, "Services", "empty: 10.96.0.0/16"),
        ]);
    }
    rows.extend([Row::Gap, Row::Button(Command::Continue, "Continue")]);
    rows
}
