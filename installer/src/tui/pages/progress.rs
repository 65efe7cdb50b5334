//! Page: how far the installation is.

use super::note;
use crate::tui::form::Row;
use crate::tui::state::{State, Work};
use sheaf_host::human::{decimal, time};
use std::time::Duration;

/// Cells of the bar.
const BAR: u64 = 50;
/// Last lines of the log that are shown.
const LOG: usize = 5;

pub(super) const HELP: &str = "\
The release is checked, the old partition table erased, the system written and read back; the new table comes last, so an interrupted installation leaves a disk that does not boot.

It cannot be stopped from here. If you switch the machine off, no other disk is harmed; boot the medium again then.";

pub(super) fn rows(state: &State) -> Vec<Row> {
    let work = &state.work;
    let mut rows = Vec::new();
    for (what, took) in &work.over {
        rows.push(Row::Verbatim(format!("  done  {what} ({})", time(*took))));
    }
    if work.number == 0 {
        rows.push(note("Preparing..."));
        rows.extend(warnings(state));
        return rows;
    }
    rows.push(Row::Verbatim(format!("  now   {}", work.what)));
    rows.extend([Row::Gap, Row::Verbatim(bar(work)), Row::Gap]);
    // Phases stand above, warnings below.
    let elsewhere = |line: &&String| line.starts_with('[') || line.starts_with("Warning: ");
    let said = work.log.iter().filter(|line| !elsewhere(line)).collect::<Vec<_>>();
    rows.extend(said.iter().rev().take(LOG).rev().map(|line| Row::Verbatim(format!("  {line}"))));
    rows.extend(warnings(state));
    rows
}

/// What is not as it should be, for as long as the installation and its result are shown.
pub(super) fn warnings(state: &State) -> Vec<Row> {
    let warnings: Vec<_> = state.work.warnings.iter().map(|text| note(format!("Warning: {text}."))).collect();
    if warnings.is_empty() { warnings } else { [vec![Row::Gap], warnings].concat() }
}

fn bar(work: &Work) -> String {
    let label = format!("  step {} of {}", work.number, work.of);
    if work.total == 0 {
        return label;
    }
    let done = work.done.min(work.total);
    let full = (done as u128 * u128::from(BAR) / u128::from(work.total)) as usize;
    let rate = done as f64 / work.elapsed.as_secs_f64().max(0.001);
    let left = Duration::from_secs_f64((work.total - done) as f64 / rate.max(1.0));
    format!(
        "{label}  [{}{}] {:3} %\n  {} of {}, {} a second, {} left",
        "#".repeat(full),
        ".".repeat(BAR as usize - full),
        done * 100 / work.total,
        decimal(done),
        decimal(work.total),
        decimal(rate as u64),
        time(left)
    )
}
