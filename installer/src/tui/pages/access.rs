//! Page: who administers the cluster.

use super::note;
use crate::tui::answers::Ask;
use crate::tui::form::Row;
use crate::tui::state::{Command, State};

/// A public key in PEM, and room for its ends.
const KEY_LINES: usize = 6;

pub(super) const HELP: &str = "\
A node has no shell, no SSH server and no password: it is administered through the cluster's API.

On your own computer, `sheaf admin new DIR` makes a key. Its public half, DIR/admin.pub, belongs here: paste it, or put \
the file on a drive labelled SHEAF-CONF and have it read. The private half stays with you. Once the node is up, `sheaf \
admin kubeconfig` fetches your certificate with it.

Without a key the cluster is created as well, but it cannot be administered until a key is added to its node.toml.

Enter makes a new line here; Tab moves to the next field.";

pub(super) fn rows(_: &State) -> Vec<Row> {
    vec![
        note(
            "Whose key administers the cluster? Paste the text of admin.pub, which `sheaf admin new DIR` made, or \
             have it read from a drive labelled SHEAF-CONF. There is no other access: no shell, no SSH, no password.",
        ),
        Row::Gap,
        Row::Area { ask: Ask::AdminKey, label: "Public key", height: KEY_LINES },
        Row::Gap,
        Row::Button(Command::Continue, "Continue"),
        Row::Button(Command::ReadAdminKey, "Read admin.pub from the drive"),
    ]
}
