//! Rows as lines of a given width.

use super::words::{ascii, wrap};
use crate::tui::answers::Ask;
use crate::tui::field::Field;
use crate::tui::file::Problem;
use crate::tui::form::{Pick, Row};
use crate::tui::state::State;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Columns before every text, where the focus is marked.
const MARGIN: usize = 2;
/// Columns of a label.
const LABEL: usize = 15;
/// Columns of a text that is typed: a URL, an IPv6 address with its prefix.
const BOX: usize = 34;
/// Columns of a key that is pasted: lines of PEM have 64.
const AREA: usize = 64;

/// Lines, and what of them has the focus.
#[derive(Debug, Default)]
pub struct Drawn {
    /// All of them.
    pub lines: Vec<Line<'static>>,
    /// Line of the row that has the focus.
    pub focus: Option<usize>,
    /// Line and column of the cursor.
    pub cursor: Option<(usize, u16)>,
}

impl Drawn {
    fn plain(&mut self, text: &str, indent: usize, width: usize, style: Style) {
        let pad = " ".repeat(indent);
        for line in wrap(text, width.saturating_sub(indent + 1)) {
            self.lines.push(Line::styled(format!("{pad}{line}"), style));
        }
    }

    fn problem(&mut self, problem: &Problem, indent: usize, width: usize) {
        let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        let text = ascii(&problem.text).replace('\n', " ");
        for (number, line) in wrap(&text, width.saturating_sub(indent + 3)).into_iter().enumerate() {
            let mark = if number == 0 { "! " } else { "  " };
            self.lines.push(Line::styled(format!("{}{mark}{line}", " ".repeat(indent)), red));
        }
    }
}

/// Draws `rows`; `focus` is an index among them. With `problems`, also those of the page that belong to no row.
pub fn draw_rows(state: &State, rows: &[Row], focus: Option<usize>, width: u16, problems: bool) -> Drawn {
    let width = usize::from(width);
    let mut drawn = Drawn::default();
    let mut shown_problems = !problems;
    let mut index = 0;
    while let Some(row) = rows.get(index) {
        let focused = focus == Some(index);
        if focused {
            drawn.focus = Some(drawn.lines.len());
        }
        match row {
            Row::Gap => drawn.lines.push(Line::default()),
            Row::Note(text) => drawn.plain(&ascii(text).replace('\n', " "), MARGIN, width, Style::new()),
            Row::Verbatim(text) => {
                ascii(text).lines().for_each(|line| drawn.plain(line, MARGIN, width, Style::new()))
            }
            Row::Heading(text) => {
                drawn.plain(&ascii(text), MARGIN, width, Style::new().add_modifier(Modifier::BOLD));
            }
            Row::Text { ask, label, hint } => {
                text(&mut drawn, state, *ask, label, hint, focused);
                own_problems(&mut drawn, state, *ask, MARGIN + LABEL, width);
            }
            Row::Area { ask, label, height } => {
                area(&mut drawn, &state.answers.field(*ask), label, *height, focused);
                own_problems(&mut drawn, state, *ask, MARGIN, width);
            }
            Row::Pick(pick) => {
                choice(&mut drawn, pick, focused, width);
                let is_last = rows.get(index + 1).is_none_or(|next| next.ask() != Some(pick.ask));
                if is_last {
                    own_problems(&mut drawn, state, pick.ask, MARGIN + 4, width);
                }
            }
            Row::Button(..) => {
                if !std::mem::replace(&mut shown_problems, true) {
                    orphans(&mut drawn, state, width);
                }
                let count = rows[index..].iter().take_while(|row| matches!(row, Row::Button(..))).count();
                let inside = focus.and_then(|focus| focus.checked_sub(index)).filter(|at| *at < count);
                if inside.is_some() {
                    drawn.focus = Some(drawn.lines.len());
                }
                buttons(&mut drawn, &rows[index..index + count], inside, width);
                index += count;
                continue;
            }
        }
        index += 1;
    }
    drawn
}

/// Problems of this page that no row of it shows.
fn orphans(drawn: &mut Drawn, state: &State, width: usize) {
    let rows = state.rows();
    let has_row =
        |problem: &&Problem| problem.ask.is_some() && rows.iter().any(|row| row.ask() == problem.ask);
    let orphans: Vec<_> = state.problems.iter().filter(|problem| !has_row(problem)).collect();
    for problem in &orphans {
        drawn.problem(problem, MARGIN, width);
    }
    if !orphans.is_empty() {
        drawn.lines.push(Line::default());
    }
}

fn own_problems(drawn: &mut Drawn, state: &State, ask: Ask, indent: usize, width: usize) {
    for problem in state.problems_of(ask) {
        drawn.problem(problem, indent, width);
    }
}

/// `> ` before what has the focus.
fn mark(focused: bool) -> &'static str {
    if focused { "> " } else { "  " }
}

fn style(focused: bool) -> Style {
    if focused { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() }
}

fn text(drawn: &mut Drawn, state: &State, ask: Ask, label: &str, hint: &str, focused: bool) {
    let field = state.answers.field(ask);
    // The part of a long text that holds the cursor.
    let first = (field.cursor() + 1).saturating_sub(BOX);
    let shown: String = ascii(&field.text().chars().skip(first).take(BOX).collect::<String>());
    if focused {
        let column = MARGIN + LABEL + 1 + field.cursor() - first;
        drawn.cursor = Some((drawn.lines.len(), column as u16));
    }
    drawn.lines.push(Line::from(vec![
        Span::raw(format!("{}{label:<LABEL$}[", mark(focused))),
        Span::styled(format!("{shown:_<BOX$}"), style(focused)),
        Span::raw("]"),
        Span::raw(format!("  {}", ascii(hint))),
    ]));
}

fn area(drawn: &mut Drawn, field: &Field, label: &str, height: usize, focused: bool) {
    drawn.lines.push(Line::raw(format!("{}{label}", mark(focused))));
    let text = field.text();
    let before: String = text.chars().take(field.cursor()).collect();
    let (line, column) =
        (before.matches('\n').count(), before.chars().rev().take_while(|c| *c != '\n').count());
    let first = (line + 1).saturating_sub(height);
    if focused {
        let at = (drawn.lines.len() + line - first, MARGIN + 1 + column.min(AREA - 1));
        drawn.cursor = Some((at.0, at.1 as u16));
    }
    let mut lines = text.split('\n').skip(first);
    for _ in 0..height {
        let shown: String = ascii(lines.next().unwrap_or_default()).chars().take(AREA).collect();
        drawn.lines.push(Line::from(vec![
            Span::raw("  ["),
            Span::styled(format!("{shown:_<AREA$}"), style(focused)),
            Span::raw("]"),
        ]));
    }
}

fn choice(drawn: &mut Drawn, pick: &Pick, focused: bool, width: usize) {
    let box_ = match (pick.several, pick.chosen, pick.refused.is_some()) {
        (_, _, true) => " - ",
        (false, true, _) => "(x)",
        (false, false, _) => "( )",
        (true, true, _) => "[x]",
        (true, false, _) => "[ ]",
    };
    let room = width.saturating_sub(MARGIN + 5);
    let text: String = ascii(&pick.text).chars().take(room).collect();
    drawn.lines.push(Line::from(vec![
        Span::raw(mark(focused)),
        Span::styled(format!("{box_} {text}"), style(focused)),
    ]));
    for more in &pick.more {
        drawn.plain(&ascii(more), MARGIN + 4, width, Style::new());
    }
    if let Some(why) = &pick.refused {
        drawn.plain(
            &format!("cannot be chosen: {}", ascii(why)),
            MARGIN + 4,
            width,
            Style::new().fg(Color::Yellow),
        );
    }
}

/// Side by side, as many as fit a line.
fn buttons(drawn: &mut Drawn, rows: &[Row], focus: Option<usize>, width: usize) {
    let mut spans = Vec::new();
    let mut used = 0;
    for (index, row) in rows.iter().enumerate() {
        let Row::Button(_, text) = row else { continue };
        if used > 0 && used + text.len() + 6 > width {
            drawn.lines.push(Line::from(std::mem::take(&mut spans)));
            used = 0;
        }
        let focused = focus == Some(index);
        if focused {
            drawn.focus = Some(drawn.lines.len());
        }
        spans.push(Span::raw(mark(focused)));
        spans.push(Span::styled(format!("[ {text} ]"), style(focused)));
        used += text.len() + 6;
    }
    drawn.lines.push(Line::from(spans));
}
