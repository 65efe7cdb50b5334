//! A state as a screen. Pure: the same state and size give the same cells.
//!
//! What has the focus is marked by `>` besides reverse video, and what is chosen by a letter: no colour is needed to
//! read it. Route in: [`State`]. Route out: cells of ratatui's buffer, on whichever terminal.

mod lines;
mod words;

use super::form::Row;
use super::pages::Page;
use super::state::State;
use lines::{Drawn, draw_rows};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use words::{ascii, wrap};

/// Smallest screen that everything fits on.
pub const MIN: (u16, u16) = (80, 24);
/// Text is wrapped at this width at most: longer lines are hard to read.
const WIDEST: u16 = 110;

const KEYS: &str = "\
Up, Down, Tab     from one thing to the next
Space, Enter      choose; Enter on [ Continue ] shows the next page
Esc               back to the previous page; your answers are kept
Ctrl-L            redraws the screen";

/// Draws `state`.
pub fn view(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < MIN.0 || area.height < MIN.1 {
        return too_small(frame, area);
    }
    let reverse = Style::new().add_modifier(Modifier::REVERSED);
    let line = |row| Rect { x: 0, y: row, width: area.width, height: 1 };
    put(frame, line(0), &title(state, area.width), reverse);
    put(frame, line(area.height - 1), &footer(state, area.width), reverse);
    let body = Rect { x: 0, y: 2, width: area.width.min(WIDEST), height: area.height - 4 };
    if state.help {
        return help(state, frame, body);
    }
    if let Some(notice) = &state.notice {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        put(frame, line(area.height - 2), &format!("  {}", ascii(notice)), bold);
    }
    let rows = state.rows();
    let focus = state.focused(&rows);
    let buttons = rows.iter().rposition(|row| !matches!(row, Row::Button(..))).map_or(0, |last| last + 1);
    match state.page.is_read() {
        true => {
            // Buttons stay in sight, the text above them moves.
            let pinned = draw_rows(state, &rows[buttons..], focus.map(|f| f - buttons), body.width, true);
            let height = body.height - pinned.lines.len() as u16 - 1;
            let text = draw_rows(state, &rows[..buttons], None, body.width, false);
            part(frame, Rect { height, ..body }, text, Some(state.scroll));
            let y = body.y + height + 1;
            part(frame, Rect { y, height: body.height - height - 1, ..body }, pinned, None);
        }
        false => part(frame, body, draw_rows(state, &rows, focus, body.width, true), None),
    }
}

/// Draws as much of `drawn` as fits: from `scroll` on, or around what has the focus.
fn part(frame: &mut Frame<'_>, area: Rect, drawn: Drawn, scroll: Option<usize>) {
    let (count, height) = (drawn.lines.len(), usize::from(area.height));
    let last = count.saturating_sub(height);
    let first = scroll.unwrap_or_else(|| match drawn.focus {
        // A screenful is a third of context above what has the focus, and the rest below it.
        Some(line) => line.saturating_sub(height * 2 / 3),
        None => 0,
    });
    let first = first.min(last);
    for (row, line) in drawn.lines.into_iter().skip(first).take(height).enumerate() {
        let y = area.y + row as u16;
        frame.buffer_mut().set_line(area.x, y, &line, area.width);
    }
    let more = |frame: &mut Frame<'_>, y, text: &str| {
        let x = area.x + area.width - text.len() as u16 - 1;
        frame.buffer_mut().set_string(x, y, text, Style::new().add_modifier(Modifier::BOLD));
    };
    if first > 0 {
        more(frame, area.y.saturating_sub(1), "-- more above --");
    }
    if first < last {
        more(frame, area.y + area.height, "-- more below --");
    }
    let visible = drawn.cursor.filter(|(line, _)| (first..first + height).contains(line));
    if let Some((line, column)) = visible {
        frame.set_cursor_position(Position { x: area.x + column, y: area.y + (line - first) as u16 });
    }
}

fn title(state: &State, width: u16) -> String {
    let release = state.machine().map_or_else(|| "Sheaf".into(), |machine| format!("{} ", machine.release()));
    let left = format!(" {} installer", ascii(release.trim()));
    let help = if state.help { "Help: " } else { "" };
    let number = state.page.number(state.answers.mode).map(|n| format!(" ({n})")).unwrap_or_default();
    let right = format!("{help}{}{number} ", state.page.title());
    let gap = usize::from(width).saturating_sub(left.len() + right.len());
    format!("{left}{}{right}", " ".repeat(gap))
}

fn footer(state: &State, width: u16) -> String {
    let keys = match state.page {
        _ if state.help => " Any key closes this help",
        Page::Progress => " F1 or ? Help   Ctrl-L Redraw",
        Page::End => " Up/Down Text   Tab Buttons   Enter Select   F1 or ? Help   Ctrl-L Redraw",
        page if page.is_read() => " Up/Down Text   Tab Buttons   Enter Select   Esc Back   F1 or ? Help",
        Page::Mode => " Up/Down/Tab Move   Space/Enter Select   F1 or ? Help   Ctrl-L Redraw",
        _ => " Up/Down/Tab Move   Space/Enter Select   Esc Back   F1 or ? Help",
    };
    format!("{keys:<0$}", usize::from(width))
}

fn help(state: &State, frame: &mut Frame<'_>, body: Rect) {
    let mut lines: Vec<Line<'static>> = Vec::new();
    for text in state.page.help().split('\n').chain([""]).chain(KEYS.lines()) {
        let width = usize::from(body.width) - 4;
        lines.extend(wrap(text, width).into_iter().map(|line| Line::raw(format!("  {line}"))));
    }
    part(frame, body, Drawn { lines, ..Drawn::default() }, Some(0));
}

fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let text = format!(
        "This screen is {} x {}. The installer needs {} x {}: make the window larger, or continue on another console. Nothing is lost.",
        area.width, area.height, MIN.0, MIN.1
    );
    for (y, line) in wrap(&text, usize::from(area.width)).iter().take(area.height.into()).enumerate() {
        frame.buffer_mut().set_string(0, y as u16, line, Style::new());
    }
}

fn put(frame: &mut Frame<'_>, area: Rect, text: &str, style: Style) {
    frame.buffer_mut().set_stringn(area.x, area.y, text, area.width.into(), style);
}
