//! Page: what will be done, and the file that says so.

use super::note;
use crate::tui::file::{self, Secrets};
use crate::tui::form::Row;
use crate::tui::state::{Command, State};

pub(super) const HELP: &str = "\
The plan is what will be done, in this order. node.toml is the node's configuration; the token is not shown.

Save: writes node.toml, with its token, to a drive labelled SHEAF-CONF (FAT). The same file installs this machine again \
without a question, and `sheaf config check` checks it on your computer.

Install: writes to the disk named in the plan, and to no other. The release is checked first; until then nothing is \
written.

Up, Down, Page Up and Page Down scroll the text; Tab moves from button to button.";

pub(super) fn rows(state: &State) -> Vec<Row> {
    let (Some(ready), Some(machine)) = (&state.ready, state.machine()) else {
        return vec![note("There is no plan; go back and check the earlier pages.")];
    };
    let shown = file::text(&state.answers, machine, state.page, Secrets::Masked);
    vec![
        Row::Heading("The plan".into()),
        Row::Verbatim(ready.plan.to_string()),
        Row::Gap,
        Row::Heading("node.toml".into()),
        Row::Verbatim(shown),
        Row::Button(Command::Install, "Install"),
        Row::Button(Command::SaveConfig, "Save node.toml to the drive SHEAF-CONF"),
    ]
}
