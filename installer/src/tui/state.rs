//! The screens' state machine: an [`Event`] changes the [`State`] and asks for [`Action`]s. No effects.
//!
//! Why so: whole installations are driven in tests without a terminal or a machine. What the pages consist of is theirs
//! ([`super::pages`]); moving, typing and choosing is the same on all of them and stands here.
//! Route in: the runner's events. Route out: actions for the runner, a state for [`super::view`].

mod outcome;

use super::answers::{Answers, Ask, Mode};
use super::event::{Action, Check, CheckState, Event};
use super::file::{self, Problem, Ready};
use super::form::{Pick, Row};
use super::key::Key;
use super::machine::Machine;
use super::pages::{self, Page};
pub use outcome::{Outcome, Work};
use sheaf_config::node::Then;
use std::collections::BTreeMap;

/// What a button does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Command {
    Continue,
    LookAgain,
    ReadAdminKey,
    TryAgain,
    SaveConfig,
    Install,
    SaveLog,
    StartOver,
    Restart,
    PowerOff,
}

/// Everything that is shown.
#[derive(Clone)]
pub struct State {
    /// Where it is.
    pub page: Page,
    /// What was said so far.
    pub answers: Answers,
    /// The machine, once it was looked at; or why that failed.
    pub machine: Option<Result<Machine, String>>,
    /// What is wrong with this page.
    pub problems: Vec<Problem>,
    /// An answer to the last thing that was asked for.
    pub notice: Option<String>,
    /// The help of this page lies over it.
    pub help: bool,
    /// First line that is shown of a text that does not fit.
    pub scroll: usize,
    /// What was tried of the network.
    pub checks: Vec<Check>,
    /// No more checks will come.
    pub checks_done: bool,
    /// Number of the present run of checks: results of an older one are not taken.
    pub run: u32,
    /// What will be installed, from the review on.
    pub ready: Option<Box<Ready>>,
    /// How far the installation is.
    pub work: Work,
    /// How it ended.
    pub outcome: Option<Outcome>,
    focus: BTreeMap<Page, usize>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            page: Page::Mode,
            answers: Answers::default(),
            machine: None,
            problems: Vec::new(),
            notice: None,
            help: false,
            scroll: 0,
            checks: Vec::new(),
            checks_done: false,
            run: 0,
            ready: None,
            work: Work::default(),
            outcome: None,
            focus: BTreeMap::new(),
        }
    }
}

impl State {
    /// The first screen, and what to do first.
    pub fn start() -> (Self, Vec<Action>) {
        (Self::default(), vec![Action::Look])
    }

    /// The machine, if it could be looked at.
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()?.as_ref().ok()
    }

    /// The rows of the page.
    pub fn rows(&self) -> Vec<Row> {
        pages::rows(self)
    }

    /// Index of the row that has the focus, in [`State::rows`].
    pub fn focused(&self, rows: &[Row]) -> Option<usize> {
        let reachable: Vec<_> = (0..rows.len()).filter(|row| rows[*row].is_reachable()).collect();
        let wanted = self.focus.get(&self.page).copied().unwrap_or(0);
        reachable.get(wanted.min(reachable.len().saturating_sub(1))).copied()
    }

    /// What is wrong with the answer to `ask`.
    pub fn problems_of(&self, ask: Ask) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(move |problem| problem.ask == Some(ask))
    }

    /// Takes `event` in.
    pub fn update(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Key(key) => return self.key(key),
            Event::Looked(machine) => self.looked(machine.map(|machine| *machine)),
            Event::Checks { run, checks, done } if run == self.run => {
                (self.checks, self.checks_done) = (checks, done);
                if done && self.page == Page::Checks {
                    self.focus_command(pages::checks::proposal(self));
                }
            }
            Event::Checks { .. } => {}
            Event::AdminKey(Ok(key)) => {
                self.answers.set(Ask::AdminKey, key.trim());
                self.notice = Some("Read admin.pub.".into());
                self.problems.clear();
            }
            Event::Saved(Ok(place)) => self.notice = Some(format!("Saved as {place}.")),
            Event::AdminKey(Err(why)) | Event::Saved(Err(why)) | Event::StillHere(why) => {
                self.notice = Some(why);
            }
            Event::Told(told) => self.work.take(told),
            Event::Ended(result) => {
                self.outcome = Some(Outcome::of(result, self));
                self.go(Page::End);
            }
        }
        Vec::new()
    }

    fn looked(&mut self, machine: Result<Machine, String>) {
        if let Ok(machine) = &machine {
            // Answers that no longer fit the machine are asked for again.
            if self.answers.disk.as_ref().is_some_and(|disk| machine.disk(disk).is_none()) {
                self.answers.disk = None;
            }
            self.answers.nics.retain(|name| machine.nic(name).is_some());
            if let ([nic], true) = (&machine.inventory.nics[..], self.answers.nics.is_empty()) {
                self.answers.nics.push(nic.name.clone());
            }
        }
        self.machine = Some(machine);
        self.notice = None;
    }

    fn key(&mut self, key: Key) -> Vec<Action> {
        if self.help {
            self.help = false;
            return Vec::new();
        }
        if matches!(key, Key::Function(1) | Key::Char('?')) {
            self.help = true;
            return Vec::new();
        }
        let rows = self.rows();
        let focused = self.focused(&rows);
        self.notice = None;
        let row = focused.map(|index| rows[index].clone());
        match (key, row) {
            (Key::Escape, _) => self.back(),
            (Key::Tab, _) => self.cycle_focus(&rows, 1),
            (Key::BackTab, _) => self.cycle_focus(&rows, -1),
            (Key::PageDown, _) => self.scroll_by(&rows, 10),
            (Key::PageUp, _) => self.scroll_by(&rows, -10),
            (Key::Down, _) if self.page.is_read() => self.scroll_by(&rows, 1),
            (Key::Up, _) if self.page.is_read() => self.scroll_by(&rows, -1),
            (Key::Enter, Some(Row::Area { ask, .. })) => {
                self.answers.field_mut(ask).insert('\n');
                self.problems.retain(|problem| problem.ask != Some(ask));
            }
            (key, Some(Row::Text { ask, .. } | Row::Area { ask, .. })) if self.edit(ask, key) => {}
            (Key::Down | Key::Right | Key::Enter, Some(Row::Text { .. })) => self.move_focus(&rows, 1),
            (Key::Enter, Some(Row::Button(command, _))) => return self.command(command),
            (Key::Char(' ') | Key::Enter, Some(Row::Pick(pick))) => {
                let chosen = self.pick(&pick);
                if chosen && key == Key::Enter && !pick.several {
                    self.leave_picks(pick.ask);
                }
            }
            (Key::Down | Key::Right, _) => self.move_focus(&rows, 1),
            (Key::Up | Key::Left, _) => self.move_focus(&rows, -1),
            _ => {}
        }
        Vec::new()
    }

    fn edit(&mut self, ask: Ask, key: Key) -> bool {
        let edited = self.answers.field_mut(ask).edit(key);
        if edited {
            self.problems.retain(|problem| problem.ask != Some(ask));
        }
        edited
    }

    /// Chooses; says whether it was possible.
    fn pick(&mut self, pick: &Pick) -> bool {
        if pick.refused.is_some() {
            self.notice = Some("This one cannot be chosen; the reason is shown below it.".into());
            return false;
        }
        pages::pick(self, pick);
        self.problems.clear();
        true
    }

    /// The focus goes behind the last choice of `ask`: anyone who chose with Enter continues.
    fn leave_picks(&mut self, ask: Ask) {
        let rows = self.rows();
        let reachable: Vec<_> = rows.iter().filter(|row| row.is_reachable()).collect();
        if let Some(last) = reachable.iter().rposition(|row| row.ask() == Some(ask)) {
            self.focus.insert(self.page, (last + 1).min(reachable.len() - 1));
        }
    }

    fn move_focus(&mut self, rows: &[Row], by: isize) {
        let count = rows.iter().filter(|row| row.is_reachable()).count();
        let focus = self.focus.entry(self.page).or_default();
        *focus = focus.saturating_add_signed(by).min(count.saturating_sub(1));
    }

    /// Like [`Self::move_focus`]; after the last comes the first.
    fn cycle_focus(&mut self, rows: &[Row], by: isize) {
        let count = rows.iter().filter(|row| row.is_reachable()).count().max(1);
        let focus = self.focus.entry(self.page).or_default();
        *focus = (*focus).min(count - 1).wrapping_add_signed(by + count.cast_signed()) % count;
    }

    fn focus_command(&mut self, command: Command) {
        let rows = self.rows();
        let mut reachable = rows.iter().filter(|row| row.is_reachable());
        if let Some(at) = reachable.position(|row| matches!(row, Row::Button(own, _) if *own == command)) {
            self.focus.insert(self.page, at);
        }
    }

    fn focus_ask(&mut self, ask: Ask) {
        let rows = self.rows();
        let mut reachable = rows.iter().filter(|row| row.is_reachable());
        if let Some(at) = reachable.position(|row| row.ask() == Some(ask)) {
            self.focus.insert(self.page, at);
        }
    }

    /// A text that does not fit is moved; its last lines stay in sight.
    fn scroll_by(&mut self, rows: &[Row], by: isize) {
        let lines: usize = rows
            .iter()
            .map(|row| match row {
                Row::Note(text) | Row::Verbatim(text) => text.lines().map(|l| l.len() / 76 + 1).sum(),
                _ => 1,
            })
            .sum();
        self.scroll = self.scroll.saturating_add_signed(by).min(lines.saturating_sub(5));
    }

    fn go(&mut self, page: Page) {
        self.page = page;
        self.scroll = 0;
        self.problems.clear();
    }

    fn back(&mut self) {
        if let Some(page) = self.page.before(self.answers.mode) {
            self.notice = None;
            self.go(page);
        }
    }

    fn command(&mut self, command: Command) -> Vec<Action> {
        match command {
            Command::Continue => return self.next(),
            Command::LookAgain => {
                self.machine = None;
                return vec![Action::Look];
            }
            Command::ReadAdminKey => return vec![Action::ReadAdminKey],
            Command::TryAgain => return self.try_network(),
            Command::SaveConfig => {
                if let Some(ready) = &self.ready {
                    return vec![Action::Save { name: "node.toml", text: ready.text.clone() }];
                }
            }
            Command::Install => {
                if let Some(ready) = self.ready.clone() {
                    self.work = Work::default();
                    self.go(Page::Progress);
                    return vec![Action::Install(ready)];
                }
            }
            Command::SaveLog => {
                let text = self.work.log.join("\n") + "\n";
                return vec![Action::Save { name: "sheaf-install.log", text }];
            }
            Command::StartOver => return self.start_over(),
            Command::Restart => return vec![Action::Leave(Then::Reboot)],
            Command::PowerOff => return vec![Action::Leave(Then::PowerOff)],
        }
        Vec::new()
    }

    /// To the next page, if this one is right; else to the first thing that is wrong with it.
    fn next(&mut self) -> Vec<Action> {
        let Some(machine) = self.machine() else {
            self.notice = Some("This machine has not been scanned yet: wait, or scan again.".into());
            return Vec::new();
        };
        match file::check(&self.answers, machine, self.page) {
            Err(problems) => {
                if let Some(ask) = problems.iter().find_map(|problem| problem.ask) {
                    self.focus_ask(ask);
                }
                self.problems = problems;
                Vec::new()
            }
            Ok(ready) => {
                let Some(page) = self.page.after(self.answers.mode) else { return Vec::new() };
                self.go(page);
                match page {
                    Page::Checks => return self.try_network(),
                    Page::Review => {
                        self.ready = ready.map(Box::new);
                        self.focus_command(Command::Install);
                    }
                    _ => {}
                }
                Vec::new()
            }
        }
    }

    fn try_network(&mut self) -> Vec<Action> {
        let Some(machine) = self.machine() else { return Vec::new() };
        match file::check(&self.answers, machine, Page::Checks) {
            Ok(Some(ready)) => {
                self.run += 1;
                (self.checks, self.checks_done) = (Vec::new(), false);
                vec![Action::TryNetwork { run: self.run, config: Box::new(ready.config) }]
            }
            Ok(None) => Vec::new(),
            Err(problems) => {
                self.problems = problems;
                Vec::new()
            }
        }
    }

    /// After a failure: answers stay, but what was found and what was typed about the disk's contents do not.
    fn start_over(&mut self) -> Vec<Action> {
        self.answers.set(Ask::Wipe, "");
        (self.machine, self.ready, self.outcome) = (None, None, None);
        (self.work, self.checks, self.checks_done) = (Work::default(), Vec::new(), false);
        self.run += 1;
        self.focus.clear();
        self.go(Page::Disk);
        vec![Action::Look]
    }

    /// Whether a check that the node cannot do without failed.
    pub fn network_failed(&self) -> bool {
        self.checks.iter().any(|check| check.required && check.state == CheckState::Failed)
    }

    /// Whether the machine joins a cluster.
    pub fn joins(&self) -> bool {
        self.answers.mode == Mode::Join
    }
}
