//! Page: the node is there, or why it is not.

use super::note;
use super::progress::warnings;
use crate::tui::form::Row;
use crate::tui::state::{Command, Outcome, State};
use sheaf_config::node::Then;

pub(super) const HELP: &str = "\
After a success: take the medium out and restart. The node's screen shows its addresses, its state in the cluster and what to do next.

After a failure the disk has no partition table, or was not touched; this page says which. Start over scans the machine and asks again from the disk on, with your answers filled in. Save writes all messages to a drive labelled \
SHEAF-CONF (FAT).";

pub(super) fn rows(state: &State) -> Vec<Row> {
    match &state.outcome {
        None => Vec::new(),
        Some(Outcome::Installed { release, disk, address }) => {
            let (first, second) = match state.answers.then {
                Then::Reboot => ((Command::Restart, "Restart"), (Command::PowerOff, "Power off")),
                Then::PowerOff => ((Command::PowerOff, "Power off"), (Command::Restart, "Restart")),
            };
            let mut rows = vec![
                Row::Heading("The node is installed".into()),
                Row::Gap,
                note(format!("{release} is on {disk}, checked and complete.")),
                note(format!("Node's address: {address}.")),
                Row::Gap,
                note("Take the medium out and restart. The node's screen then shows what to do next."),
            ];
            rows.extend(warnings(state));
            rows.extend([Row::Gap, Row::Button(first.0, first.1), Row::Button(second.0, second.1)]);
            rows
        }
        Some(Outcome::Failed(failed)) => {
            let mut rows = vec![
                Row::Heading("INSTALLATION FAILED".into()),
                Row::Gap,
                note(&failed.reason),
                Row::Gap,
                note(&failed.disk),
            ];
            if let Some(remedy) = &failed.remedy {
                rows.push(note(format!("What to do: {remedy}.")));
            }
            rows.extend(warnings(state));
            rows.extend([Row::Gap, Row::Heading("Log".into())]);
            rows.push(Row::Verbatim(state.work.log.join("\n")));
            rows.extend([
                Row::Button(Command::StartOver, "Start over"),
                Row::Button(Command::SaveLog, "Save this to the drive SHEAF-CONF"),
                Row::Button(Command::Restart, "Restart"),
                Row::Button(Command::PowerOff, "Power off"),
            ]);
            rows
        }
    }
}
