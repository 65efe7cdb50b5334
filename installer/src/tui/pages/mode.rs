//! Page: what the machine becomes.

use super::note;
use crate::tui::answers::{Ask, Mode};
use crate::tui::form::{Pick, Row};
use crate::tui::state::{Command, State};

/// What can be chosen, and what it env.
pub(super) const MODES: [(Mode, &str, &str); 3] = [
    (Mode::Create, "Create a cluster", "The first machine: it runs the control plane, and VMs."),
    (Mode::Join, "Join a cluster", "Every further machine. The first machine's screen shows the answers."),
    (Mode::Install, "Install only", "No cluster yet: the node waits until its node.toml names one."),
];

pub(super) const HELP: &str = "\
Create a cluster: once, on the first machine. Its control plane starts by itself after the installation, and its screen \
then shows the server, the token and the CA hash that the other machines join with.

Join a cluster: on every further machine. It can become one more of the control plane; that is asked later.

Install only: the system is installed and configured, but belongs to no cluster. Edit its node.toml, or install again.

An unattended installation reads a node.toml instead: from a drive labelled SHEAF-CONF, from the medium, or by a \
kernel argument. The last page here can write one.";

pub(super) fn rows(state: &State) -> Vec<Row> {
    let mut rows = vec![
        note(
            "Answer some questions; nothing is written to any disk before the last page. Your answers are kept when you go back.",
        ),
        Row::Gap,
    ];
    for (value, (mode, text, more)) in MODES.into_iter().enumerate() {
        rows.push(Row::Pick(Pick::one(Ask::Mode, value, state.answers.mode == mode, text).more(more)));
    }
    if let Some(Err(why)) = &state.machine {
        rows.extend([
            Row::Gap,
            Row::Heading("The hardware of this machine could not be scanned".into()),
            note(why),
        ]);
        rows.extend([Row::Gap, Row::Button(Command::LookAgain, "Scan again")]);
        rows.push(Row::Button(Command::PowerOff, "Power off"));
        return rows;
    }
    rows.extend([
        Row::Gap,
        Row::Button(Command::Continue, "Continue"),
        Row::Button(Command::PowerOff, "Power off"),
    ]);
    rows
}
