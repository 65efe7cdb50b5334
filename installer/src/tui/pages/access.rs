//! Page: who administers the cluster.

use super::note;
use crate::tui::answers::Ask;
use crate::tui::form::Row;
use crate::tui::state::{Command, State};

/// A public key in PEM, and room for its ends.
const KEY_LINES: usize = 6;

pub(super) const HELP: &str = "\
A node has no shell, no SSH server and no password: it is administered through the console and the cluster's API.

Without a key, the node's screen shows the address of the console and a code of eight letters once the cluster is up. Who \
enters the code in a browser, or runs `sheaf admin claim`, is the first administrator. The code is valid once.

With a key nobody needs the screen. `sheaf admin new DIR` on your own computer makes one. Its public half, DIR/admin.pub, \
belongs here: paste it, or put the file on a drive labelled SHEAF-CONF and have it read. Once the node is up, `sheaf admin \
kubeconfig` fetches your certificate.

Enter makes a new line here; Tab moves to the next field.";

pub(super) fn rows(_: &State) -> Vec<Row> {
    vec![
        note(
            "Leave this empty: the node's screen then shows an address for your browser, and a code that makes you the \
             administrator. Or use a key: paste admin.pub, or have it read from a drive labelled SHEAF-CONF.",
        ),
        Row::Gap,
        Row::Area { ask: Ask::AdminKey, label: "Public key (optional)", height: KEY_LINES },
        Row::Gap,
        Row::Button(Command::Continue, "Continue"),
        Row::Button(Command::ReadAdminKey, "Read admin.pub from the drive"),
    ]
}
