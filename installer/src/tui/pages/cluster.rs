//! Page: the cluster that is made or joined.

use super::{note, text};
use crate::tui::answers::Ask;
use crate::tui::form::{Pick, Row};
use crate::tui::state::{Command, State};

pub(super) const HELP: &str = "\
Joining: the first node's screen shows the server, a token and the CA hash, as `kubeadm token create \
--print-join-command` does on any other cluster. The hash makes sure that the token is sent to this cluster and to no other. The token is used once, then it is removed from node.toml.

A worker runs VMs. A node of the control plane runs the cluster as well; use one or three of them. Its token and the certificate key are printed by `sheaf-agent token create --control-plane` on a node of the control plane; both \
are used once, then removed from node.toml.

Creating: all fields are optional. Without a token the node generates one and shows it on its screen. Further names are names and addresses of the API server in addition to the node's own. Services: a network that nothing else \
uses, from /12 to /28; 10.96.0.0/16 when empty.";

pub(super) fn rows(state: &State) -> Vec<Row> {
    let mut rows = Vec::new();
    if state.joins() {
        rows.extend([
            note(match state.answers.control_plane {
                false => "The first node's screen shows these three.",
                true => "`sheaf-agent token create --control-plane` prints these four.",
            }),
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
        if state.answers.control_plane {
            rows.extend([Row::Gap, text(Ask::CertificateKey, "Key", "certificate-key")]);
        }
    } else {
        rows.extend([
            note("The cluster that this node creates. All fields are optional."),
            Row::Gap,
            text(Ask::Token, "Token", "empty: the node generates one"),
            text(Ask::Sans, "Further names", "cluster.example.org"),
            text(Ask::ServiceCidr, "Services", "empty: 10.96.0.0/16"),
        ]);
    }
    rows.extend([Row::Gap, Row::Button(Command::Continue, "Continue")]);
    rows
}
